//! What is old of sync is removed, but nothing that still counts.

use std::time::Duration;

use anyhow::{Result, ensure};
use integratedb_sidecar::sync::prune::{Pruned, Pruner};
use integratedb_sidecar::sync::{Named, Notified, accept};
use support::{Synced, until};

const DAY: f64 = 24.0 * 3600.0;

fn pruner(synced: &Synced) -> Pruner {
    Pruner::new(synced.pool.clone(), Duration::from_secs_f64(7.0 * DAY))
}

const ENTRIES: &str = "SELECT id FROM integratedb.sync_entry ORDER BY id";
const MODELS: &str = "SELECT id FROM integratedb.sync_model ORDER BY id";

#[tokio::test]
async fn old_entries_go_except_those_that_count() -> Result<()> {
    let synced = Synced::start().await?;
    let to = synced.integration("to").await?;
    let mut kept = Vec::new();
    // The latest stays, however old.
    let plain = synced.model("item", "plain", None).await?;
    synced.entry(plain, Some("{}"), 9.0 * DAY).await?;
    kept.push(synced.entry(plain, Some("{}"), 8.0 * DAY).await?);
    // What is not old stays.
    let young = synced.model("item", "young", None).await?;
    synced.entry(young, Some("{}"), 8.0 * DAY).await?;
    kept.push(synced.entry(young, Some("{}"), 6.0 * DAY).await?);
    kept.push(synced.entry(young, Some("{}"), 5.0 * DAY).await?);
    // What a state names stays.
    let behind = synced.model("item", "behind", None).await?;
    let pushed = synced.entry(behind, Some("{}"), 10.0 * DAY).await?;
    synced.entry(behind, Some("{}"), 9.0 * DAY).await?;
    let wanted = synced.entry(behind, Some("{}"), 8.0 * DAY).await?;
    synced.state(to, behind, "present", Some(pushed)).await?;
    kept.extend([pushed, wanted, synced.entry(behind, Some("{}"), 7.5 * DAY).await?]);
    // The last data of one that is gone, and that a target may have, stay.
    let gone = synced.model("item", "gone", None).await?;
    synced.entry(gone, Some("{}"), 10.0 * DAY).await?;
    let last_data = synced.entry(gone, Some("{}"), 9.0 * DAY).await?;
    synced.entry(gone, None, 8.5 * DAY).await?;
    let says_gone = synced.entry(gone, None, 8.0 * DAY).await?;
    synced.state(to, gone, "unknown", None).await?;
    kept.extend([last_data, says_gone]);
    // Where nobody has it, they don't; it is not gone for so long that it goes as a whole.
    let absent = synced.model("item", "absent", None).await?;
    synced.entry(absent, Some("{}"), 9.0 * DAY).await?;
    let says_gone = synced.entry(absent, None, 2.0 * DAY).await?;
    synced.state(to, absent, "absent", Some(says_gone)).await?;
    kept.push(says_gone);
    kept.sort_unstable();

    let pruned = pruner(&synced).prune().await?;

    ensure!(synced.numbers(ENTRIES).await? == kept, "{:?}", synced.numbers(ENTRIES).await?);
    ensure!(pruned == Pruned { entries: 6, ..Pruned::default() }, "{pruned:?}");
    Ok(())
}

#[tokio::test]
async fn an_entry_goes_when_a_later_one_comes_or_when_it_becomes_old() -> Result<()> {
    let synced = Synced::start().await?;
    let model = synced.model("item", "1", None).await?;
    let first = synced.entry(model, Some("{}"), 8.0 * DAY).await?;
    let mut pruner = pruner(&synced);
    ensure!(pruner.prune().await? == Pruned::default());
    let second = synced.entry(model, Some("{}"), 6.0 * DAY).await?;
    pruner.prune().await?;
    ensure!(synced.numbers(ENTRIES).await? == [second], "{first} is old and no longer the latest");
    let third = synced.entry(model, Some("{}"), 5.0 * DAY).await?;
    pruner.prune().await?;
    ensure!(synced.numbers(ENTRIES).await? == [second, third], "the second is not old");
    let older = "UPDATE integratedb.sync_entry SET inserted_at = inserted_at - interval '1.5 days'";
    synced.client.batch_execute(older).await?;
    pruner.prune().await?;
    ensure!(synced.numbers(ENTRIES).await? == [third]);
    Ok(())
}

#[tokio::test]
async fn a_model_goes_only_when_nobody_needs_it() -> Result<()> {
    let synced = Synced::start().await?;
    let to = synced.integration("to").await?;
    let gone = async |key: &str, parent, days: f64| -> Result<i64> {
        let model = synced.model("item", key, parent).await?;
        synced.entry(model, Some("{}"), (days + 1.0) * DAY).await?;
        synced.entry(model, None, days * DAY).await?;
        Ok(model)
    };
    let mut kept = Vec::new();
    kept.push(gone("not old", None, 6.0).await?);
    let there = gone("a target may have it", None, 8.0).await?;
    synced.state(to, there, "unknown", None).await?;
    let due = gone("to be fetched", None, 8.0).await?;
    let sql = "UPDATE integratedb.sync_update SET due_at = now() WHERE model_id = $1";
    synced.client.execute(sql, &[&due]).await?;
    let pushed = gone("to be pushed", None, 8.0).await?;
    synced.state(to, pushed, "absent", None).await?;
    let sql = "UPDATE integratedb.sync_state SET due_at = now() WHERE model_id = $1";
    synced.client.execute(sql, &[&pushed]).await?;
    let scope = gone("an integration is for it", None, 8.0).await?;
    let derived = synced.integration("derived").await?;
    let sql = "UPDATE integratedb.sync_integration SET model_id = $1 WHERE id = $2";
    synced.client.execute(sql, &[&scope, &derived]).await?;
    let parent = gone("has a child", None, 8.0).await?;
    let child = synced.model("item", "child", Some(parent)).await?;
    synced.entry(child, Some("{}"), 9.0 * DAY).await?;
    kept.extend([there, due, pushed, scope, parent, child]);
    let deleted = gone("deleted everywhere", None, 8.0).await?;
    synced.state(to, deleted, "absent", None).await?;
    let nowhere = gone("was nowhere", None, 8.0).await?;
    let sql = "INSERT INTO integratedb.sync_notification (tenant_id, model_id, data) VALUES (-1, $1, '{}')";
    synced.client.execute(sql, &[&nowhere]).await?;

    let pruned = pruner(&synced).prune().await?;

    ensure!(synced.numbers(MODELS).await? == kept, "{:?}", synced.numbers(MODELS).await?);
    ensure!(pruned.models == 2, "{pruned:?}");
    let records = "SELECT count(*) FROM integratedb.sync_record";
    ensure!(synced.numbers(records).await? == [i64::try_from(kept.len())?]);
    // With the child goes the parent, in the next pass.
    synced.entry(child, None, 8.0 * DAY).await?;
    pruner(&synced).prune().await?;
    pruner(&synced).prune().await?;
    let left = synced.numbers(MODELS).await?;
    ensure!(!left.contains(&child) && !left.contains(&parent), "{left:?}");
    Ok(())
}

#[tokio::test]
async fn old_notifications_and_replays_go() -> Result<()> {
    let synced = Synced::start().await?;
    let to = synced.integration("to").await?;
    let model = synced.model("item", "1", None).await?;
    let insert = format!(
        "INSERT INTO integratedb.sync_notification (tenant_id, model_id, data, inserted_at)
         SELECT -1, {model}, '{{}}', now() - make_interval(days => 10 - n / 200) FROM generate_series(1, 1400) n;
         INSERT INTO integratedb.sync_replay (integration_id, is_dry_run, step, state, finished_at)
         VALUES ({to}, true, 'compare', 'done', now() - interval '8 days'),
                ({to}, true, 'compare', 'done', now() - interval '6 days'), ({to}, true, 'compare', 'running', NULL);
         INSERT INTO integratedb.sync_difference (replay_id, model_id, action)
         SELECT id, {model}, 'create' FROM integratedb.sync_replay"
    );
    synced.client.batch_execute(&insert).await?;
    let pruned = pruner(&synced).prune().await?;
    // 10 - n / 200 is above 7 up to 599; those of exactly 7 days are a moment older by now.
    ensure!(pruned == Pruned { notifications: 799, replays: 1, ..Pruned::default() }, "{pruned:?}");
    let sql = "SELECT count(*) FROM integratedb.sync_difference";
    ensure!(synced.numbers(sql).await? == [2]);
    Ok(())
}

#[tokio::test]
async fn a_notification_that_comes_while_a_model_is_removed_is_not_lost() -> Result<()> {
    let synced = Synced::start().await?;
    let model = synced.model("item", "1", None).await?;
    synced.entry(model, None, 8.0 * DAY).await?;
    // A notification that is not committed: it holds the update.
    let mut other = synced.database.connect().await?;
    let notified = other.transaction().await?;
    let sql = "UPDATE integratedb.sync_update SET notified = notified + 1, due_at = now() WHERE model_id = $1";
    notified.execute(sql, &[&model]).await?;
    ensure!(pruner(&synced).prune().await?.models == 0, "it is not waited for");
    notified.commit().await?;
    ensure!(pruner(&synced).prune().await?.models == 0, "it is due");
    let sql = "UPDATE integratedb.sync_update SET due_at = NULL WHERE model_id = $1";
    synced.client.execute(sql, &[&model]).await?;
    // One that makes the record of a child: it has the table, so that the parent it has found stays.
    let notified = other.transaction().await?;
    let sql =
        "INSERT INTO integratedb.sync_record (tenant_id, class, key) VALUES (-1, 'item', 'child')";
    notified.execute(sql, &[]).await?;
    let mut meanwhile = pruner(&synced);
    let pruning = tokio::spawn(async move { meanwhile.prune().await });
    let sql = "UPDATE integratedb.sync_record SET parent_id = (SELECT record_id FROM integratedb.sync_model WHERE id = $1)
               WHERE key = 'child'";
    until("a removal was tried", async || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'ROLLBACK'";
        Ok(synced.numbers(sql).await? >= vec![1] || pruning.is_finished())
    })
    .await?;
    ensure!(notified.execute(sql, &[&model]).await? == 1);
    notified.commit().await?;
    pruning.await??;
    ensure!(synced.numbers(MODELS).await? == [model], "it has a child");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_notified_of_while_models_are_removed_is_there_and_due_afterwards() -> Result<()>
{
    const COUNT: i64 = 300;
    let synced = Synced::start().await?;
    for number in 0..COUNT {
        let model = synced.model("item", &number.to_string(), None).await?;
        synced.entry(model, None, 8.0 * DAY).await?;
    }
    let pool = synced.pool.clone();
    let pruning = tokio::spawn(async move {
        let mut removed = 0;
        for _ in 0..20 {
            // It looks at an entry once; here it is to try again and again.
            let mut pruner = Pruner::new(pool.clone(), Duration::from_secs_f64(7.0 * DAY));
            removed += pruner.prune().await?.models;
        }
        anyhow::Ok(removed)
    });
    let named = |class: &str, key: i64| Named { class: class.to_owned(), key: key.to_string() };
    for number in (0..COUNT).rev() {
        let item = named("item", number);
        // Of itself, or of a child of it, which is new.
        let (model, parent) =
            if number % 2 == 0 { (item, None) } else { (named("child", number), Some(item)) };
        let notified = Notified { tenant: Synced::TENANT, model, parent, data: None };
        let mut client = synced.pool.get().await?;
        let transaction = client.transaction().await?;
        accept(&transaction, &[notified]).await?;
        transaction.commit().await?;
    }
    let removed = pruning.await??;
    let due = "SELECT r.key::bigint FROM integratedb.sync_update u JOIN integratedb.sync_model m ON m.id = u.model_id
               JOIN integratedb.sync_record r ON r.id = m.record_id
               WHERE u.due_at IS NOT NULL AND u.notified > u.taken AND (r.class = 'item' OR r.parent_id IS NOT NULL)
               ORDER BY 1";
    let due = synced.numbers(due).await?;
    ensure!(due == (0..COUNT).collect::<Vec<_>>(), "{} of {COUNT}, {removed} removed", due.len());
    Ok(())
}

#[tokio::test]
async fn one_prunes_at_a_time() -> Result<()> {
    let synced = Synced::start().await?;
    let model = synced.model("item", "1", None).await?;
    synced.entry(model, None, 8.0 * DAY).await?;
    let sql = "SELECT pg_advisory_lock(x'69646270'::bigint)";
    synced.client.execute(sql, &[]).await?;
    ensure!(pruner(&synced).prune().await? == Pruned::default());
    synced.client.execute("SELECT pg_advisory_unlock_all()", &[]).await?;
    ensure!(pruner(&synced).prune().await?.models == 1);
    Ok(())
}
