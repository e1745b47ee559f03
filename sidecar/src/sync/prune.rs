//! Forgets what is old and does not count any more.
//!
//! Old are notifications, replays that are over, and entries other than: a model's latest; its latest with data, if the model
//! is gone and a target may still have it; and those that a state names. A model that is gone, which no target has and
//! nothing is below, goes as a whole when its last entry is old.
//!
//! An entry can go from when it is old and a later one is there. So a model is looked at when an entry of it becomes old, and
//! when it gets a new one: two places in the log, each of which goes through it once. What something was in the way of then is
//! met by beginning anew once a day, and after a start.
//!
//! Nothing waits for this for longer than a small statement takes, and this waits for nobody.

use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::error::SyncError;
use crate::db::Pool;

/// How often is looked.
const EVERY: Duration = Duration::from_secs(60);

/// After how long the log is gone through anew.
const ANEW: Duration = Duration::from_secs(24 * 3600);

/// The most rows of a transaction.
const BATCH: i64 = 500;

/// An entry that is not older than this may have one before it that is not committed yet.
const SETTLED_SECS: f64 = 60.0;

/// How often models are tried to be removed when somebody makes records, and the wait between.
const ATTEMPTS: (u32, Duration) = (50, Duration::from_millis(20));

/// The advisory lock of the one that prunes: "idbp" as a number.
const LOCK: i64 = 0x6964_6270;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Notifications.
    pub notifications: u64,
    /// Entries of models that stay.
    pub entries: u64,
    /// Models, each with all that belongs to it.
    pub models: u64,
    /// Replays.
    pub replays: u64,
}

/// Forgets what is older than the retention.
pub struct Pruner {
    pool: Pool,
    retention: f64,
    /// The last entry that was looked at because it is old.
    old: i64,
    /// The last entry that was looked at because it is new.
    new: i64,
    begun: Instant,
}

impl Pruner {
    /// Forgets what is older than `retention`.
    pub fn new(pool: Pool, retention: Duration) -> Self {
        Self { pool, retention: retention.as_secs_f64(), old: 0, new: 0, begun: Instant::now() }
    }

    /// Prunes every minute, until it is cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let pruned = tokio::select! {
                () = cancel.cancelled() => return,
                pruned = self.prune() => pruned,
            };
            match pruned {
                Ok(pruned) if pruned == Pruned::default() => {}
                Ok(pruned) => tracing::info!(
                    notifications = pruned.notifications,
                    entries = pruned.entries,
                    models = pruned.models,
                    replays = pruned.replays,
                    "what is old of sync was removed"
                ),
                Err(error) => tracing::warn!(%error, "what is old of sync can't be removed"),
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Removes all that is old now; less if another sidecar is at it.
    pub async fn prune(&mut self) -> Result<Pruned, SyncError> {
        if self.begun.elapsed() > ANEW {
            (self.old, self.new, self.begun) = (0, 0, Instant::now());
        }
        let mut pruned = Pruned::default();
        let done = async {
            self.notifications(&mut pruned).await?;
            self.replays(&mut pruned).await?;
            self.log(&mut pruned).await
        };
        match done.await {
            Ok(()) | Err(Stop::Elsewhere) => Ok(pruned),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    async fn notifications(&self, pruned: &mut Pruned) -> Result<(), Stop> {
        let sql = "
            WITH oldest AS (SELECT id, inserted_at FROM integratedb.sync_notification ORDER BY id LIMIT $2)
            DELETE FROM integratedb.sync_notification n USING oldest
            WHERE n.id = oldest.id AND oldest.inserted_at < now() - make_interval(secs => $1)";
        pruned.notifications += self.repeat(sql).await?;
        Ok(())
    }

    async fn replays(&self, pruned: &mut Pruned) -> Result<(), Stop> {
        let sql = "
            DELETE FROM integratedb.sync_difference d USING (
                SELECT d.replay_id, d.model_id
                FROM integratedb.sync_replay r JOIN integratedb.sync_difference d ON d.replay_id = r.id
                WHERE r.finished_at < now() - make_interval(secs => $1) LIMIT $2) old
            WHERE d.replay_id = old.replay_id AND d.model_id = old.model_id";
        self.repeat(sql).await?;
        let sql = "
            DELETE FROM integratedb.sync_replay WHERE id IN (
                SELECT r.id FROM integratedb.sync_replay r
                WHERE r.finished_at < now() - make_interval(secs => $1)
                  AND NOT EXISTS (SELECT FROM integratedb.sync_difference d WHERE d.replay_id = r.id)
                LIMIT $2)";
        pruned.replays += self.repeat(sql).await?;
        Ok(())
    }

    /// Does this, which takes a time and a number of rows, until it takes fewer rows.
    async fn repeat(&self, sql: &str) -> Result<u64, Stop> {
        let mut all = 0;
        loop {
            let mut client = self.pool.get().await?;
            let transaction = begin(&mut client).await?;
            let count = transaction.execute(sql, &[&self.retention, &BATCH]).await?;
            transaction.commit().await?;
            all += count;
            if i64::try_from(count).is_ok_and(|count| count < BATCH) {
                return Ok(all);
            }
        }
    }

    /// Goes on in the log: as far as entries are old, and as far as none is missing.
    async fn log(&mut self, pruned: &mut Pruned) -> Result<(), Stop> {
        while let Some(models) = self.next(self.old, self.retention).await? {
            self.models(&models.ids, pruned).await?;
            self.old = models.last;
        }
        while let Some(models) = self.next(self.new, SETTLED_SECS.min(self.retention)).await? {
            self.models(&models.ids, pruned).await?;
            self.new = models.last;
        }
        Ok(())
    }

    /// The models of the next entries that are older than so many seconds.
    async fn next(&self, after: i64, secs: f64) -> Result<Option<Next>, Stop> {
        let sql = "SELECT id, model_id, inserted_at < now() - make_interval(secs => $2)
                   FROM integratedb.sync_entry WHERE id > $1 ORDER BY id LIMIT $3";
        let client = self.pool.get().await?;
        let rows = client.query(sql, &[&after, &secs, &BATCH]).await?;
        let rows = rows.iter().take_while(|row| row.get(2));
        let mut next = Next { last: after, ids: Vec::new() };
        for row in rows {
            next.last = row.get(0);
            next.ids.push(row.get(1));
        }
        next.ids.sort_unstable();
        next.ids.dedup();
        Ok((next.last > after).then_some(next))
    }

    async fn models(&self, models: &[i64], pruned: &mut Pruned) -> Result<(), Stop> {
        let mut client = self.pool.get().await?;
        let transaction = begin(&mut client).await?;
        pruned.entries += entries(&transaction, models, self.retention).await?;
        let over = over(&transaction, models, self.retention).await?;
        transaction.commit().await?;
        for _ in 0..ATTEMPTS.0 {
            if over.is_empty() {
                break;
            }
            let transaction = begin(&mut client).await?;
            match remove(&transaction, &over, self.retention).await {
                Ok(removed) => {
                    transaction.commit().await?;
                    pruned.models += removed;
                    break;
                }
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                    transaction.rollback().await?;
                    tokio::time::sleep(ATTEMPTS.1).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Models, and the last entry that they are of.
struct Next {
    last: i64,
    ids: Vec<i64>,
}

/// Why pruning stops.
enum Stop {
    /// Somebody else prunes.
    Elsewhere,
    Error(SyncError),
}

impl<E: Into<SyncError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// A transaction in which nobody else prunes.
async fn begin(client: &mut Object) -> Result<Transaction<'_>, Stop> {
    let transaction = client.transaction().await?;
    let row = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK]).await?;
    if row.get(0) { Ok(transaction) } else { Err(Stop::Elsewhere) }
}

/// Deletes those entries of these models that are old and do not count any more.
async fn entries(
    transaction: &Transaction<'_>,
    models: &[i64],
    retention: f64,
) -> Result<u64, tokio_postgres::Error> {
    // While a model that is gone is locked, no replay takes up its deletion, for which the last data are kept.
    let sql = "SELECT model_id FROM integratedb.sync_update WHERE model_id = ANY ($1) AND is_gone
               FOR NO KEY UPDATE SKIP LOCKED";
    let gone: Vec<i64> =
        transaction.query(sql, &[&models]).await?.iter().map(|row| row.get(0)).collect();
    // An array that the planner does not know keeps it to the indexes, where it would join with all there are.
    let sql = "
        DELETE FROM integratedb.sync_entry e USING integratedb.sync_update u
        WHERE u.model_id = ANY (ARRAY(SELECT unnest($1::bigint[]))) AND (NOT u.is_gone OR u.model_id = ANY ($2))
          AND e.model_id = u.model_id AND e.id < u.entry_id AND e.inserted_at < now() - make_interval(secs => $3)
          AND NOT EXISTS (SELECT FROM integratedb.sync_state s
                          WHERE s.model_id = u.model_id AND (s.wanted = e.id OR s.entry_id = e.id))
          AND NOT (u.is_gone
                   AND e.id = (SELECT max(d.id) FROM integratedb.sync_entry d WHERE d.model_id = u.model_id AND NOT d.is_gone)
                   AND EXISTS (SELECT FROM integratedb.sync_state s
                               WHERE s.model_id = u.model_id AND s.presence <> 'absent'))";
    transaction.execute(sql, &[&models, &gone, &retention]).await
}

/// Whether nobody needs a model any more: `u` is its update, `m` the model. What is below it is asked by record.
const OVER: &str = "
    u.is_gone AND u.due_at IS NULL AND u.lease IS NULL
    AND EXISTS (SELECT FROM integratedb.sync_entry e
                WHERE e.id = u.entry_id AND e.inserted_at < now() - make_interval(secs => $2))
    AND NOT EXISTS (SELECT FROM integratedb.sync_state s
                    WHERE s.model_id = m.id AND (s.presence <> 'absent' OR s.due_at IS NOT NULL OR s.lease IS NOT NULL))
    AND NOT EXISTS (SELECT FROM integratedb.sync_integration i WHERE i.model_id = m.id)
    AND NOT EXISTS (SELECT FROM integratedb.sync_record c WHERE c.parent_id = m.record_id AND c.id <> m.record_id)";

/// Those of these models that nobody needs any more.
async fn over(
    transaction: &Transaction<'_>,
    models: &[i64],
    retention: f64,
) -> Result<Vec<i64>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT m.id FROM integratedb.sync_model m JOIN integratedb.sync_update u ON u.model_id = m.id
         WHERE m.id = ANY (ARRAY(SELECT unnest($1::bigint[]))) AND {OVER}"
    );
    Ok(transaction
        .query(&sql, &[&models, &retention])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect())
}

/// Removes those of these models that nobody needs any more, and records above them that were only there for them.
///
/// A notification that comes meanwhile is not lost. One that makes records (of a child of this model too) holds the table,
/// and this gives up; or it waits here, and then finds the model missing and makes it anew. One of a model that is known
/// waits for its update's row, and then finds it missing.
async fn remove(
    transaction: &Transaction<'_>,
    models: &[i64],
    retention: f64,
) -> Result<u64, tokio_postgres::Error> {
    transaction
        .batch_execute("LOCK TABLE integratedb.sync_record IN SHARE ROW EXCLUSIVE MODE NOWAIT")
        .await?;
    let sql = "SELECT m.id FROM integratedb.sync_update u JOIN integratedb.sync_model m ON m.id = u.model_id
               WHERE m.id = ANY (ARRAY(SELECT unnest($1::bigint[]))) FOR UPDATE SKIP LOCKED";
    let locked: Vec<i64> =
        transaction.query(sql, &[&models]).await?.iter().map(|row| row.get(0)).collect();
    // Judged by what is there now that nobody can change it.
    let sql = format!(
        "DELETE FROM integratedb.sync_record r
         USING integratedb.sync_model m JOIN integratedb.sync_update u ON u.model_id = m.id
         WHERE r.id = m.record_id AND m.id = ANY (ARRAY(SELECT unnest($1::bigint[]))) AND {OVER}
         RETURNING r.parent_id"
    );
    let rows = transaction.query(&sql, &[&locked, &retention]).await?;
    let parents: Vec<i64> = rows.iter().filter_map(|row| row.get(0)).collect();
    let sql = "
        DELETE FROM integratedb.sync_record r WHERE r.id = ANY ($1)
          AND NOT EXISTS (SELECT FROM integratedb.sync_model m WHERE m.record_id = r.id)
          AND NOT EXISTS (SELECT FROM integratedb.sync_record c WHERE c.parent_id = r.id AND c.id <> r.id)";
    transaction.execute(sql, &[&parents]).await?;
    Ok(rows.len() as u64)
}
