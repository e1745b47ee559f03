//! Has all of a target pushed again, by the engine.
//!
//! What is known of the target is forgotten first, for every model, and only then is anything made due. Else a child would be
//! pushed while its parent still counts as present, and a parent deleted while its children count as absent. "Forgotten" is a
//! state with presence 'unknown' and no entry that was pushed; that it has one again says that a push has gone well since.

use std::collections::HashSet;

use deadpool_postgres::Object;
use tokio_postgres::Client;

use super::lease::{Held, Step, Stop};
use super::scope::{Scope, Wanted};

/// How many models are marked, and how many states made due, at once. Their rows are locked for as long as that takes.
const PAGE: i64 = 200;

/// Marks the next models. False if one is being fetched or pushed right now, and has to be waited for.
pub(super) async fn mark(
    client: &mut Object,
    scope: &Scope,
    held: &mut Held,
) -> Result<bool, Stop> {
    let mut next = held.clone();
    let page = scope.page(client, held.last_model, PAGE).await?;
    let transaction = client.transaction().await?;
    let mut is_busy = false;
    if let Some(last) = page.last() {
        let free = lock_updates(transaction.client(), &page).await?;
        // What was read before the locks may be of before the latest entry.
        let wanted = scope.wanted(transaction.client(), &page).await?;
        let ids: Vec<i64> = wanted.iter().map(|wanted| wanted.id.0).collect();
        let busy = busy(transaction.client(), scope, &ids).await?;
        let first_busy = ids.iter().copied().find(|id| !free.contains(id) || busy.contains(id));
        let until = first_busy.unwrap_or(last + 1);
        let marked: Vec<Wanted> =
            wanted.into_iter().take_while(|wanted| wanted.id.0 < until).collect();
        forget(transaction.client(), scope, &marked).await?;
        let gone = i64::try_from(marked.iter().filter(|wanted| wanted.is_gone).count());
        let all = i64::try_from(marked.len()).unwrap_or_default();
        next.counts.delete += gone.unwrap_or_default();
        next.counts.push += all - gone.unwrap_or_default();
        next.counts.left = next.counts.push + next.counts.delete;
        next.last_model = until - 1;
        is_busy = first_busy.is_some();
    } else {
        (next.step, next.last_model) = (Step::Push, 0);
    }
    next.save(transaction.client()).await?;
    transaction.commit().await?;
    *held = next;
    Ok(!is_busy)
}

/// Keeps these models from getting a new entry until the transaction ends; gives those that are kept. Whoever settles a fetch
/// of one of the others has it, and is not waited for: it may want a state that we have.
async fn lock_updates(client: &Client, models: &[i64]) -> Result<HashSet<i64>, Stop> {
    let sql = "SELECT model_id FROM integratedb.sync_update WHERE model_id = ANY ($1)
               FOR NO KEY UPDATE SKIP LOCKED";
    Ok(client.query(sql, &[&models]).await?.iter().map(|row| row.get(0)).collect())
}

/// Locks the states of these models; gives those that are being pushed, or that somebody else has locked.
async fn busy(client: &Client, scope: &Scope, models: &[i64]) -> Result<HashSet<i64>, Stop> {
    let sql = "SELECT model_id FROM integratedb.sync_state
               WHERE integration_id = $1 AND model_id = ANY ($2) AND (lease IS NULL OR due_at <= now())
               FOR NO KEY UPDATE SKIP LOCKED";
    let free = client.query(sql, &[&scope.integration.0, &models]).await?;
    let free: HashSet<i64> = free.iter().map(|row| row.get(0)).collect();
    let sql = "SELECT model_id FROM integratedb.sync_state WHERE integration_id = $1 AND model_id = ANY ($2)";
    let all = client.query(sql, &[&scope.integration.0, &models]).await?;
    Ok(all.iter().map(|row| row.get(0)).filter(|id| !free.contains(id)).collect())
}

/// Forgets what is known of these models at the target. States that are missing are made. A lease that has ended is forgotten
/// too, lest a late answer count as one of after.
async fn forget(client: &Client, scope: &Scope, models: &[Wanted]) -> Result<(), Stop> {
    let ids: Vec<i64> = models.iter().map(|wanted| wanted.id.0).collect();
    let entries: Vec<i64> = models.iter().map(|wanted| wanted.entry.0).collect();
    let gone: Vec<bool> = models.iter().map(|wanted| wanted.is_gone).collect();
    let sql = "
        INSERT INTO integratedb.sync_state AS s (integration_id, model_id, wanted, is_gone, presence)
        SELECT $1, w.model_id, w.entry_id, w.is_gone, 'unknown'
        FROM unnest($2::bigint[], $3::bigint[], $4::boolean[]) w (model_id, entry_id, is_gone)
        ON CONFLICT (integration_id, model_id) DO UPDATE
        SET presence = 'unknown', entry_id = NULL, lease = NULL, wanted = greatest(s.wanted, excluded.wanted),
            is_gone = CASE WHEN excluded.wanted > s.wanted THEN excluded.is_gone ELSE s.is_gone END";
    client.execute(sql, &[&scope.integration.0, &ids, &entries, &gone]).await?;
    Ok(())
}

/// Makes the next states due that were marked and not pushed since. Who has one locked is making it due or pushing it.
///
/// Each is looked up by itself. That there are many of them now Postgres learns only when it next analyzes the table; until
/// then it would read all that were marked for each page.
pub(super) async fn make_due(client: &mut Object, held: &mut Held) -> Result<(), Stop> {
    let sql = "
        WITH page AS (
            SELECT model_id FROM integratedb.sync_state
            WHERE integration_id = $1 AND entry_id IS NULL AND model_id > $2 ORDER BY model_id LIMIT $3
        ),
        free AS (
            SELECT one.model_id FROM page CROSS JOIN LATERAL (
                SELECT s.model_id FROM integratedb.sync_state s
                WHERE s.integration_id = $1 AND s.model_id = page.model_id AND s.entry_id IS NULL
                  AND (s.due_at IS NULL OR s.due_at > now() AND s.lease IS NULL)
                FOR NO KEY UPDATE SKIP LOCKED) one
        ),
        due AS (
            UPDATE integratedb.sync_state s SET due_at = now()
            WHERE s.integration_id = $1 AND s.model_id = ANY (ARRAY(SELECT model_id FROM free))
        )
        SELECT max(model_id) FROM page";
    let mut next = held.clone();
    let transaction = client.transaction().await?;
    let row = transaction.query_one(sql, &[&held.integration.0, &held.last_model, &PAGE]).await?;
    match row.get(0) {
        Some(last) => next.last_model = last,
        None => next.step = Step::Wait,
    }
    next.save(transaction.client()).await?;
    transaction.commit().await?;
    *held = next;
    Ok(())
}

/// Counts what has yet to arrive.
pub(super) async fn count_left(client: &Client, held: &mut Held) -> Result<(), Stop> {
    let sql = "SELECT count(*), count(*) FILTER (WHERE NOT success) FROM integratedb.sync_state
               WHERE integration_id = $1 AND entry_id IS NULL AND model_id <= $2
                 AND (due_at IS NOT NULL OR waits_for IS NOT NULL)";
    let row = client.query_one(sql, &[&held.integration.0, &held.last_model]).await?;
    (held.counts.left, held.counts.failing) = (row.get(0), row.get(1));
    held.save(client).await
}
