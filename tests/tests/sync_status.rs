//! What is told of how sync is.

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::sync::status::{self, ModelState, ModelsFilter};
use integratedb_sidecar::sync::{IntegrationId, ModelId, TenantId};
use support::Synced;

/// How many rows a page may read: some of each model that it looks at, and those are 1000 at most.
const MOST_ROWS: i64 = 9000;

async fn ids(synced: &Synced, filter: &ModelsFilter) -> Result<Vec<i64>> {
    let page = status::models(&synced.client, Synced::TENANT, filter, None, 100).await?;
    ensure!(page.next.is_none(), "{page:?}");
    Ok(page.models.iter().map(|model| model.id).collect())
}

async fn set(synced: &Synced, table: &str, model: i64, what: &str) -> Result<()> {
    let sql = format!("UPDATE integratedb.{table} SET {what} WHERE model_id = {model}");
    Ok(synced.client.batch_execute(&sql).await?)
}

const FAILED: &str = "success = false, attempts = 3, error = 'no answer', finished_at = now(), due_at = now() + interval '1 minute'";

#[tokio::test]
async fn models_are_listed_by_how_they_are() -> Result<()> {
    let synced = Synced::start().await?;
    let (one, two) = (synced.integration("one").await?, synced.integration("two").await?);
    let fetched = async |class: &str, key: &str, data| -> Result<i64> {
        let model = synced.model(class, key, None).await?;
        let entry = synced.entry(model, data, 60.0).await?;
        synced.state(one, model, "present", Some(entry)).await?;
        Ok(model)
    };
    let done = fetched("item", "done", Some("{}")).await?;
    let gone = fetched("item", "gone", None).await?;
    let unfetchable = fetched("item", "unfetchable", Some("{}")).await?;
    set(&synced, "sync_update", unfetchable, FAILED).await?;
    let unpushable = fetched("order", "unpushable", Some("{}")).await?;
    synced.state(two, unpushable, "unknown", None).await?;
    let failed = format!("UPDATE integratedb.sync_state SET {FAILED} WHERE integration_id = {two}");
    synced.client.batch_execute(&failed).await?;
    let new = synced.model("order", "new", None).await?;
    set(&synced, "sync_update", new, "due_at = now(), fetched = 0, taken = 0").await?;
    let waits = fetched("order", "waits", Some("{}")).await?;
    set(
        &synced,
        "sync_state",
        waits,
        &format!("waits_for = {new}, due_at = now() + interval '5 s'"),
    )
    .await?;

    let state = |state| ModelsFilter { state: Some(state), ..ModelsFilter::default() };
    let found = ids(&synced, &ModelsFilter::default()).await?;
    ensure!(found == [done, gone, unfetchable, unpushable, new, waits], "{found:?}");
    ensure!(ids(&synced, &state(ModelState::Done)).await? == [done]);
    ensure!(ids(&synced, &state(ModelState::Gone)).await? == [gone]);
    ensure!(ids(&synced, &state(ModelState::Failing)).await? == [unfetchable, unpushable]);
    ensure!(ids(&synced, &state(ModelState::Waiting)).await? == [new, waits]);
    let class = ModelsFilter { class: Some("order".to_owned()), ..ModelsFilter::default() };
    ensure!(ids(&synced, &class).await? == [unpushable, new, waits]);
    // At one integration, what is wrong at the other does not count; nor does who is not there.
    let at = |integration, state| ModelsFilter {
        state,
        integration: Some(IntegrationId(integration)),
        class: None,
    };
    ensure!(ids(&synced, &at(one, None)).await? == [done, gone, unfetchable, unpushable, waits]);
    ensure!(ids(&synced, &at(one, Some(ModelState::Failing))).await? == [unfetchable]);
    ensure!(ids(&synced, &at(two, Some(ModelState::Failing))).await? == [unpushable]);
    ensure!(ids(&synced, &at(one, Some(ModelState::Done))).await? == [done, unpushable]);
    // Another tenant's are not told.
    let other = status::models(&synced.client, TenantId(16), &at(one, None), None, 100).await?;
    ensure!(other.models.is_empty());
    // Of one that is disabled nothing is to be done.
    synced
        .client
        .batch_execute(
            "UPDATE integratedb.sync_integration SET state = 'disabled' WHERE name = 'two'",
        )
        .await?;
    let queue = status::queue(&synced.client).await?;
    ensure!(
        (queue.updates.due, queue.updates.later, queue.updates.failing) == (1, 1, 1),
        "{queue:?}"
    );
    ensure!(
        (queue.pushes.later, queue.pushes.failing, queue.pushes.waiting) == (1, 0, 1),
        "{queue:?}"
    );
    ensure!(queue.updates.oldest_due_seconds.is_some_and(|secs| secs < 60.0), "{queue:?}");
    let tenant = status::tenant(&synced.client, Synced::TENANT).await?.context("a tenant")?;
    ensure!((tenant.models, tenant.integrations) == (6, 2), "{tenant:?}");
    ensure!((tenant.updates.failing, tenant.pushes.waiting) == (1, 1), "{tenant:?}");
    let found = status::tenants(&synced.client, None, 10).await?;
    ensure!(found.len() == 1 && found[0].stakeholder_id == Some(1), "{found:?}");
    ensure!(status::tenants(&synced.client, Some(-1), 10).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_page_with_a_filter_says_where_the_next_begins() -> Result<()> {
    let synced = Synced::start().await?;
    let sql = "
        WITH records AS (
            INSERT INTO integratedb.sync_record (tenant_id, class, key)
            SELECT -1, CASE WHEN n % 3000 = 0 THEN 'rare' ELSE 'item' END, n::text FROM generate_series(1, 9000) n
            RETURNING id)
        INSERT INTO integratedb.sync_model (tenant_id, record_id) SELECT -1, id FROM records";
    synced.client.batch_execute(sql).await?;
    let rare = ModelsFilter { class: Some("rare".to_owned()), ..ModelsFilter::default() };
    let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = status::models(&synced.client, Synced::TENANT, &rare, after, 2).await?;
        found.extend(page.models.into_iter().map(|model| model.key));
        pages += 1;
        ensure!(page.next.is_none_or(|next| after.is_none_or(|after| next > after)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    ensure!(found == ["3000", "6000", "9000"], "{found:?}");
    ensure!((9..=12).contains(&pages), "{pages} pages");
    let all = ModelsFilter::default();
    let page = status::models(&synced.client, Synced::TENANT, &all, Some(8998), 2).await?;
    ensure!(page.models.len() == 2, "{page:?}");
    let page = status::models(&synced.client, Synced::TENANT, &all, page.next, 2).await?;
    ensure!(page.models.is_empty() && page.next.is_none(), "{page:?}");
    Ok(())
}

#[tokio::test]
async fn a_model_is_told_with_its_source_and_each_target() -> Result<()> {
    let synced = Synced::start().await?;
    let (one, two) = (synced.integration("one").await?, synced.integration("two").await?);
    let parent = synced.model("service", "5", None).await?;
    let model = synced.model("item", "1", Some(parent)).await?;
    let first = synced.entry(model, Some(r#"{"a":  1}"#), 120.0).await?;
    let second = synced.entry(model, Some("{}"), 60.0).await?;
    synced.state(one, model, "present", Some(first)).await?;
    synced.state(two, model, "absent", None).await?;
    set(&synced, "sync_state", model, FAILED).await?;
    let sql = "UPDATE integratedb.sync_state SET success = NULL, error = NULL, attempts = 0, waits_for = $1 WHERE integration_id = $2";
    synced.client.execute(sql, &[&parent, &two]).await?;

    let found =
        status::model(&synced.client, Synced::TENANT, ModelId(model)).await?.context("a model")?;
    let above = found.parent.as_ref().context("a parent")?;
    ensure!((above.model_id, above.key.as_str()) == (Some(parent), "5"));
    ensure!((found.class.as_str(), found.update.entry_id) == ("item", Some(second)));
    ensure!(found.update.succeeded_at.as_deref().is_some_and(|at| at.ends_with('Z')), "{found:?}");
    ensure!(found.update.next_attempt_at.is_none() && !found.update.is_running);
    let [at_one, at_two] = &found.integrations[..] else { anyhow::bail!("{found:?}") };
    ensure!((at_one.wanted, at_one.entry_id, at_one.attempts) == (second, Some(first), 3));
    ensure!(at_one.error.as_deref() == Some("no answer") && at_one.next_attempt_at.is_some());
    ensure!((at_two.waits_for, at_two.presence.as_str()) == (Some(parent), "absent"));
    ensure!(status::model(&synced.client, TenantId(16), ModelId(model)).await?.is_none());

    let entries = status::entries(&synced.client, Synced::TENANT, ModelId(model), None, 10).await?;
    let entries = entries.context("the model")?;
    ensure!(entries.iter().map(|entry| entry.id).eq([second, first]));
    ensure!(
        entries[1].data.as_ref().is_some_and(|data| data.get() == r#"{"a":  1}"#),
        "as it was written"
    );
    let older =
        status::entries(&synced.client, Synced::TENANT, ModelId(model), Some(second), 10).await?;
    ensure!(older.is_some_and(|older| older.len() == 1));
    let sql = "UPDATE integratedb.sync_entry SET data = NULL, sealed = 'secret' WHERE id = $1";
    synced.client.execute(sql, &[&second]).await?;
    let entries = status::entries(&synced.client, Synced::TENANT, ModelId(model), None, 1).await?;
    let entries = entries.context("the model")?;
    ensure!(entries[0].is_sealed && entries[0].data.is_none());
    ensure!(!serde_json::to_string(&entries)?.contains("secret"));
    ensure!(
        status::entries(&synced.client, TenantId(16), ModelId(model), None, 1).await?.is_none()
    );

    let at_one = status::integration(&synced.client, IntegrationId(one)).await?.context("one")?;
    ensure!((at_one.models, at_one.present, at_one.pushes.failing) == (1, 1, 1), "{at_one:?}");
    ensure!(at_one.error.as_deref() == Some("no answer") && at_one.next_attempt_at.is_some());
    ensure!(status::integration(&synced.client, IntegrationId(0)).await?.is_none());
    Ok(())
}

/// 100,000 models at two integrations: some failing, some due.
const MANY: &str = "
    INSERT INTO integratedb.sync_record (tenant_id, class, key)
    SELECT -1, CASE WHEN n % 1000 = 0 THEN 'rare' ELSE 'item' END, n::text FROM generate_series(1, 100000) n;
    INSERT INTO integratedb.sync_model (tenant_id, record_id) SELECT -1, id FROM integratedb.sync_record ORDER BY id;
    INSERT INTO integratedb.sync_entry (tenant_id, model_id, is_gone, data)
    SELECT -1, id, false, '{\"a\": 1}' FROM integratedb.sync_model ORDER BY id;
    INSERT INTO integratedb.sync_update (model_id, tenant_id, entry_id, success, due_at)
    SELECT model_id, -1, id, model_id % 5000 <> 7, CASE WHEN model_id % 5000 = 7 THEN now() + interval '1 h' END
    FROM integratedb.sync_entry;
    INSERT INTO integratedb.sync_integration (tenant_id, name, kind, settings, concurrency)
    VALUES (-1, 'one', 'test', '{}', 4), (-1, 'two', 'test', '{}', 4);
    INSERT INTO integratedb.sync_state (integration_id, model_id, wanted, is_gone, entry_id, presence, success, due_at)
    SELECT i.id, e.model_id, e.id, false, e.id, 'present', e.model_id % 10000 <> 9,
           CASE WHEN e.model_id % 10000 = 9 THEN now() END
    FROM integratedb.sync_entry e, integratedb.sync_integration i;
    ANALYZE";

/// Rows that were read of sync's tables on this connection and are not reported yet, which none is in a transaction.
const READ: &str = "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint
    FROM pg_stat_xact_user_tables WHERE relname LIKE 'sync_%'";

#[tokio::test]
async fn no_page_costs_more_with_more_models() -> Result<()> {
    let synced = Synced::start().await?;
    synced.client.batch_execute(MANY).await?;
    let rare = Some("rare".to_owned());
    let one = Some(IntegrationId(1));
    let states = [ModelState::Failing, ModelState::Waiting, ModelState::Done, ModelState::Gone];
    for state in states.map(Some).into_iter().chain([None]) {
        for (integration, class) in
            [(None, None), (one, None), (None, rare.clone()), (one, rare.clone())]
        {
            let filter = ModelsFilter { class, state, integration };
            for after in [0, 50_000] {
                synced.client.batch_execute("BEGIN").await?;
                let before = synced.numbers(READ).await?[0];
                status::models(&synced.client, Synced::TENANT, &filter, Some(after), 100).await?;
                let read = synced.numbers(READ).await?[0] - before;
                synced.client.batch_execute("COMMIT").await?;
                ensure!(read < MOST_ROWS, "{filter:?} after {after}: {read} rows");
            }
        }
    }
    let failing = ModelsFilter { state: Some(ModelState::Failing), ..ModelsFilter::default() };
    ensure!(ids(&synced, &failing).await?.len() == 30);
    synced.client.batch_execute("BEGIN").await?;
    let before = synced.numbers(READ).await?[0];
    let queue = status::queue(&synced.client).await?;
    let read = synced.numbers(READ).await?[0] - before;
    ensure!((queue.updates.later, queue.pushes.due) == (20, 20), "{queue:?}");
    ensure!(read < 100, "the queue: {read} rows");
    Ok(())
}
