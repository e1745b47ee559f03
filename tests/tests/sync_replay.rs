//! Replay: a target is compared with the log and brought to it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use futures_util::future::BoxFuture;
use integratedb_sidecar::sync::replay::{self, Counts, Replay, Worker};
use integratedb_sidecar::sync::source::Source;
use integratedb_sidecar::sync::target::{Comparison, PushError, Target};
use integratedb_sidecar::sync::{
    Engine, IntegrationId, OpenError, Outside, Push, SyncError, SyncHandle, SyncSettings, TenantId,
};
use serde_json::{Value, json};
use support::{Synced, until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a target has, by class and key; a child only under a parent that is there, and a parent with children stays.
#[derive(Default)]
struct Rows {
    rows: BTreeMap<String, Value>,
    parents: HashMap<String, String>,
    newest: HashMap<String, i64>,
    faults: Vec<String>,
    /// Pushes and comparisons so far.
    pushes: usize,
    compared: Vec<String>,
    /// Comparisons of these fail, or never end.
    failing: Vec<String>,
    hanging: Vec<String>,
}

#[derive(Clone, Default)]
struct World(Arc<Mutex<Rows>>);

impl World {
    fn with<T>(&self, what: impl FnOnce(&mut Rows) -> T) -> T {
        what(&mut self.0.lock().expect("no test panics while it holds it"))
    }

    fn rows(&self) -> BTreeMap<String, Value> {
        self.with(|world| world.rows.clone())
    }
}

fn data(push: &Push) -> Option<Value> {
    push.data.as_ref().map(|data| serde_json::from_str(data.get()).expect("it is JSON"))
}

impl Target for World {
    fn push<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<(), PushError>> {
        let key = push.model.key.clone();
        let refused =
            |message: &str| Err(PushError { message: message.to_owned(), retry_after: None });
        let outcome = self.with(|world| {
            world.pushes += 1;
            let newest = world.newest.entry(key.clone()).or_default();
            if *newest > push.entry.0 {
                world.faults.push(format!("{key}: entry {} after {newest}", push.entry));
            }
            *newest = push.entry.0;
            match (data(push), &push.parent) {
                (Some(_), Some(parent)) if !world.rows.contains_key(&parent.key) => {
                    world.faults.push(format!("{key} before its parent"));
                    refused("no parent")
                }
                (Some(data), parent) => {
                    if let Some(parent) = parent {
                        world.parents.insert(key.clone(), parent.key.clone());
                    }
                    world.rows.insert(key, data);
                    Ok(())
                }
                (None, _) => {
                    let rows = &world.rows;
                    let has_children =
                        |(child, of): (&String, &String)| *of == key && rows.contains_key(child);
                    if world.parents.iter().any(has_children) {
                        world.faults.push(format!("{key} goes before its children"));
                        return refused("it has children");
                    }
                    world.rows.remove(&key);
                    Ok(())
                }
            }
        });
        Box::pin(async move { outcome })
    }

    fn compare<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<Comparison, PushError>> {
        let key = &push.model.key;
        let (there, fails, hangs) = self.with(|world| {
            world.compared.push(key.clone());
            (world.rows.get(key).cloned(), world.failing.contains(key), world.hanging.contains(key))
        });
        let wanted = data(push);
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            if fails {
                return Err(PushError { message: "no answer".to_owned(), retry_after: None });
            }
            Ok(match (there, wanted) {
                (None, None) => Comparison::Same,
                (Some(there), Some(wanted)) if there == wanted => Comparison::Same,
                (None, Some(_)) => Comparison::Create,
                (Some(_), Some(_)) => Comparison::Update(vec!["value".to_owned()]),
                (Some(_), None) => Comparison::Delete,
            })
        })
    }
}

impl Outside for World {
    fn source<'a>(
        &'a self,
        _: TenantId,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Source>, OpenError>> {
        Box::pin(async { Err(OpenError::Unusable("nothing is fetched here".to_owned())) })
    }

    fn target(&self, _: IntegrationId) -> BoxFuture<'_, Result<Arc<dyn Target>, OpenError>> {
        let this: Arc<dyn Target> = Arc::new(self.clone());
        Box::pin(async move { Ok(this) })
    }
}

/// A log with an integration, a target that has what the log says, and what works on them.
struct Bench {
    synced: Synced,
    world: World,
    to: IntegrationId,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Bench {
    async fn start() -> Result<Self> {
        let synced = Synced::start().await?;
        let to = IntegrationId(synced.integration("to").await?);
        let world = World::default();
        Ok(Self { synced, world, to, stop: CancellationToken::new(), tasks: TaskTracker::new() })
    }

    /// A model that was fetched and pushed.
    async fn present(&self, key: &str, parent: Option<i64>) -> Result<i64> {
        let model = self.synced.model("item", key, parent).await?;
        let entry = self.synced.entry(model, Some(r#"{"value": 1}"#), 60.0).await?;
        self.synced.state(self.to.0, model, "present", Some(entry)).await?;
        let sql = "SELECT p.key FROM integratedb.sync_model m JOIN integratedb.sync_record r ON r.id = m.record_id
                   JOIN integratedb.sync_record p ON p.id = r.parent_id WHERE m.id = $1";
        let above = self.synced.client.query_opt(sql, &[&model]).await?.map(|row| row.get(0));
        self.world.with(|world| {
            world.rows.insert(key.to_owned(), json!({ "value": 1 }));
            above.map(|above| world.parents.insert(key.to_owned(), above));
        });
        Ok(model)
    }

    /// One that was pushed, is gone and was deleted.
    async fn deleted(&self, key: &str, parent: Option<i64>) -> Result<i64> {
        let model = self.present(key, parent).await?;
        let entry = self.synced.entry(model, None, 30.0).await?;
        let sql = "UPDATE integratedb.sync_state SET wanted = $2, entry_id = $2, is_gone = true, presence = 'absent'
                   WHERE model_id = $1";
        self.synced.client.execute(sql, &[&model, &entry]).await?;
        self.world.with(|world| world.rows.remove(key));
        Ok(model)
    }

    fn sync(timeout_secs: u64) -> Arc<SyncHandle> {
        let settings = SyncSettings { poll_millis: 50, timeout_secs, ..SyncSettings::default() };
        SyncHandle::new(settings)
    }

    fn engine(&self) -> Result<()> {
        let pool = self.synced.pool.clone();
        let engine = Engine::new(pool, Self::sync(5), Arc::new(self.world.clone()));
        self.tasks.spawn(engine.map_err(anyhow::Error::msg)?.run(self.stop.clone()));
        Ok(())
    }

    /// A worker, and what ends it.
    fn worker(&self) -> Result<CancellationToken> {
        let pool = self.synced.pool.clone();
        let worker = Worker::new(pool, Self::sync(1), Arc::new(self.world.clone()));
        let stop = self.stop.child_token();
        self.tasks.spawn(worker.map_err(anyhow::Error::msg)?.run(stop.clone()));
        Ok(stop)
    }

    async fn create(&self, is_dry_run: bool) -> Result<i64> {
        let made = replay::create(&self.synced.client, self.to, is_dry_run).await?;
        Ok(made.context("there is such an integration")?.id)
    }

    async fn show(&self, id: i64) -> Result<Replay> {
        replay::show(&self.synced.client, self.to, id).await?.context("there is such a replay")
    }

    async fn over(&self, id: i64) -> Result<Replay> {
        until("the replay is over", async || Ok(self.show(id).await?.finished_at.is_some()))
            .await?;
        self.show(id).await
    }

    async fn differences(&self, id: i64, action: Option<&str>) -> Result<Vec<(String, String)>> {
        let found =
            replay::differences(&self.synced.client, self.to, id, action, None, 1000).await?;
        let found = found.context("there is such a replay")?;
        Ok(found.into_iter().map(|found| (found.key, found.action)).collect())
    }

    /// All that sync has stored, other than of replays.
    async fn stored(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for table in ["record", "model", "update", "entry", "integration", "state", "notification"]
        {
            let sql = format!("SELECT t::text FROM integratedb.sync_{table} t ORDER BY 1");
            for row in self.synced.client.query(&sql, &[]).await? {
                all.push(row.get(0));
            }
        }
        Ok(all)
    }

    async fn end(self) -> Result<()> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let faults = self.world.with(|world| world.faults.clone());
        ensure!(faults.is_empty(), "{faults:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_done_and_changes_nothing() -> Result<()> {
    let bench = Bench::start().await?;
    for key in ["same", "missing", "other", "unanswered", "slow"] {
        bench.present(key, None).await?;
    }
    bench.deleted("back again", None).await?;
    bench.deleted("stays away", None).await?;
    let never = bench.synced.model("item", "never there", None).await?;
    bench.synced.entry(never, None, 10.0).await?;
    bench.synced.model("item", "never fetched", None).await?;
    bench.world.with(|world| {
        world.rows.remove("missing");
        world.rows.insert("other".to_owned(), json!({ "value": 2 }));
        world.rows.insert("back again".to_owned(), json!({}));
        world.rows.insert("somebody else's".to_owned(), json!({}));
        world.failing.push("unanswered".to_owned());
        world.hanging.push("slow".to_owned());
    });
    let (stored, there) = (bench.stored().await?, bench.world.rows());
    bench.engine()?;
    let id = bench.create(true).await?;
    let refused = replay::create(&bench.synced.client, bench.to, false).await;
    ensure!(matches!(refused, Err(SyncError::Refused(_))), "one at a time: {refused:?}");
    bench.worker()?;
    let replay = bench.over(id).await?;
    let counts =
        Counts { same: 2, create: 1, update: 1, delete: 1, unknown: 2, ..Counts::default() };
    ensure!((replay.state.as_str(), replay.counts) == ("done", counts), "{replay:?}");
    let found = bench.differences(id, None).await?;
    let expected = [
        ("missing", "create"),
        ("other", "update"),
        ("unanswered", "unknown"),
        ("slow", "unknown"),
        ("back again", "delete"),
    ];
    let expected = expected.map(|(key, action)| (key.to_owned(), action.to_owned()));
    ensure!(found == expected, "{found:?}");
    ensure!(bench.differences(id, Some("delete")).await?.len() == 1);
    let all =
        replay::differences(&bench.synced.client, bench.to, id, Some("update"), None, 10).await?;
    ensure!(all.context("a replay")?[0].detail == Some(json!(["value"])));
    let all =
        replay::differences(&bench.synced.client, bench.to, id, Some("unknown"), None, 10).await?;
    let reasons: Vec<Value> =
        all.context("a replay")?.into_iter().filter_map(|found| found.detail).collect();
    ensure!(reasons == [json!("no answer"), json!("the target has not answered within 1 s")]);
    ensure!(bench.stored().await? == stored, "tables were changed");
    ensure!(bench.world.rows() == there && bench.world.with(|world| world.pushes) == 0);
    bench.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_was_emptied_is_filled_again_parents_first() -> Result<()> {
    let bench = Bench::start().await?;
    // Children with smaller ids than their parents too.
    let mut children = Vec::new();
    for number in 0..150 {
        children.push(bench.present(&format!("child {number}"), None).await?);
    }
    let parent = bench.present("parent", None).await?;
    for number in 150..300 {
        children.push(bench.present(&format!("child {number}"), Some(parent)).await?);
    }
    let sql = "UPDATE integratedb.sync_record SET parent_id = (SELECT record_id FROM integratedb.sync_model WHERE id = $1)
               WHERE key LIKE 'child%'";
    bench.synced.client.execute(sql, &[&parent]).await?;
    // One that was never made known to the integration.
    let new = bench.synced.model("item", "new", Some(parent)).await?;
    bench.synced.entry(new, Some(r#"{"value": 1}"#), 10.0).await?;
    let mut full = bench.world.rows();
    full.insert("new".to_owned(), json!({ "value": 1 }));
    bench.world.with(|world| world.rows.clear());
    bench.engine()?;
    bench.worker()?;
    bench.worker()?;
    let id = bench.create(false).await?;
    let replay = bench.over(id).await?;
    ensure!(bench.world.rows() == full, "not all is there");
    let counts = Counts { push: 302, ..Counts::default() };
    ensure!((replay.state.as_str(), replay.counts) == ("done", counts), "{replay:?}");
    ensure!(bench.world.with(|world| world.pushes) == 302, "each was pushed once");
    ensure!(replay::create(&bench.synced.client, bench.to, true).await?.is_some(), "it is over");
    bench.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_created_before_and_is_gone_is_removed_and_nothing_else() -> Result<()> {
    let bench = Bench::start().await?;
    let parent = bench.deleted("parent", None).await?;
    for number in 0..20 {
        bench.deleted(&format!("child {number}"), Some(parent)).await?;
    }
    bench.present("there", None).await?;
    let never = bench.synced.model("item", "never ours", None).await?;
    bench.synced.entry(never, None, 10.0).await?;
    // The target comes back from a backup.
    bench.world.with(|world| {
        for number in 0..20 {
            world.rows.insert(format!("child {number}"), json!({}));
        }
        for key in ["parent", "never ours", "somebody else's"] {
            world.rows.insert(key.to_owned(), json!({}));
        }
        world.rows.insert("there".to_owned(), json!({ "value": 0 }));
    });
    bench.engine()?;
    bench.worker()?;
    let replay = bench.over(bench.create(false).await?).await?;
    let counts = Counts { push: 1, delete: 21, ..Counts::default() };
    ensure!(replay.counts == counts, "{replay:?}");
    let left: Vec<String> = bench.world.rows().into_keys().collect();
    ensure!(left == ["never ours", "somebody else's", "there"], "{left:?}");
    ensure!(bench.world.rows()["there"] == json!({ "value": 1 }));
    bench.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_goes_on_where_one_has_died() -> Result<()> {
    let bench = Bench::start().await?;
    for number in 0..250 {
        bench.present(&format!("{number:03}"), None).await?;
    }
    // The first page of 100 is noted; the second is not, since its comparisons do not end while the worker lives.
    bench.world.with(|world| world.hanging.extend((100..200).map(|number| number.to_string())));
    let id = bench.create(true).await?;
    let stop = bench.worker()?;
    until("the second page is asked for", async || {
        let asked = |world: &mut Rows| world.compared.contains(&"100".to_owned());
        Ok(bench.show(id).await?.counts.same == 100 && bench.world.with(asked))
    })
    .await?;
    stop.cancel();
    until("the worker is gone", async || Ok(bench.tasks.is_empty())).await?;
    ensure!(bench.show(id).await?.counts.same == 100);
    bench.world.with(|world| {
        world.hanging.clear();
        world.compared.clear();
    });
    // Its lease ends.
    let sql = "UPDATE integratedb.sync_replay SET due_at = now() WHERE id = $1";
    bench.synced.client.execute(sql, &[&id]).await?;
    bench.worker()?;
    let replay = bench.over(id).await?;
    let counts = Counts { same: 250, ..Counts::default() };
    ensure!(replay.counts == counts, "each is counted once: {replay:?}");
    let compared = bench.world.with(|world| world.compared.clone());
    ensure!(!compared.contains(&"050".to_owned()), "what was noted is not done again");
    bench.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_being_pushed_is_waited_for_and_pushed_again() -> Result<()> {
    let bench = Bench::start().await?;
    bench.present("1", None).await?;
    let model = bench.present("2", None).await?;
    // Somebody pushes it, to the target as it was before it was emptied.
    let sql = "UPDATE integratedb.sync_state SET lease = 7, due_at = now() + interval '1 minute' WHERE model_id = $1";
    bench.synced.client.execute(sql, &[&model]).await?;
    bench.world.with(|world| world.rows.clear());
    bench.worker()?;
    let id = bench.create(false).await?;
    let marked = "SELECT count(*) FROM integratedb.sync_state WHERE presence = 'unknown'";
    until("the first is marked", async || Ok(bench.synced.numbers(marked).await? >= vec![1]))
        .await?;
    let held = "SELECT lease FROM integratedb.sync_state WHERE presence = 'present'";
    ensure!(bench.synced.numbers(held).await? == [7], "the other is not touched");
    // That push ends, as the engine notes it.
    let sql = "UPDATE integratedb.sync_state SET lease = NULL, due_at = NULL, success = true, entry_id = wanted WHERE lease = 7";
    bench.synced.client.execute(sql, &[]).await?;
    bench.engine()?;
    bench.over(id).await?;
    ensure!(bench.world.rows().len() == 2, "{:?}", bench.world.rows());
    bench.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_meanwhile_wins() -> Result<()> {
    let bench = Bench::start().await?;
    let mut models = Vec::new();
    for number in 0..100 {
        models.push(bench.present(&format!("{number:02}"), None).await?);
    }
    bench.engine()?;
    bench.worker()?;
    // Entries are appended as the engine appends them: in one statement with the states that want them.
    let settle = "
        WITH entry AS (
            INSERT INTO integratedb.sync_entry (tenant_id, model_id, is_gone, data) VALUES (-1, $1, false, $2::text::json)
            RETURNING id, model_id
        ), updated AS (
            UPDATE integratedb.sync_update u SET entry_id = e.id, is_gone = false FROM entry e WHERE u.model_id = e.model_id
        )
        INSERT INTO integratedb.sync_state AS s (integration_id, model_id, wanted, is_gone, due_at)
        SELECT $3, model_id, id, false, clock_timestamp() FROM entry
        ON CONFLICT (integration_id, model_id) DO UPDATE
        SET wanted = EXCLUDED.wanted, is_gone = false, waits_for = NULL,
            due_at = CASE WHEN s.lease IS NULL THEN EXCLUDED.due_at ELSE s.due_at END";
    for round in 2..6 {
        bench.world.with(|world| world.rows.clear());
        let id = bench.create(false).await?;
        let value = json!({ "value": round }).to_string();
        for model in &models {
            bench.synced.client.execute(settle, &[model, &value, &bench.to.0]).await?;
        }
        let replay = bench.over(id).await?;
        ensure!(replay.state == "done", "{replay:?}");
        until("the latest is everywhere", async || {
            let rows = bench.world.rows();
            Ok(rows.len() == 100 && rows.values().all(|row| *row == json!({ "value": round })))
        })
        .await?;
    }
    // One that is being noted while its state is to be marked is waited for.
    let mut other = bench.synced.database.connect().await?;
    let transaction = other.transaction().await?;
    let value = json!({ "value": 6 }).to_string();
    transaction.execute(settle, &[&models[50], &value, &bench.to.0]).await?;
    let id = bench.create(false).await?;
    let reached = "SELECT (SELECT count(*) FROM integratedb.sync_replay WHERE last_model > 0 AND state = 'running')
                        + (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock')";
    until("it is reached", async || Ok(bench.synced.numbers(reached).await? >= vec![1])).await?;
    transaction.commit().await?;
    bench.over(id).await?;
    let wanted = "SELECT count(*) FROM integratedb.sync_state s JOIN integratedb.sync_update u USING (model_id)
                  WHERE s.wanted = u.entry_id AND s.entry_id = u.entry_id";
    until("all is pushed", async || Ok(bench.synced.numbers(wanted).await? == [100])).await?;
    ensure!(bench.world.rows()["50"] == json!({ "value": 6 }));
    bench.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_cancelled_leaves_nobody_waiting() -> Result<()> {
    let bench = Bench::start().await?;
    let parent = bench.present("parent", None).await?;
    bench.present("child", Some(parent)).await?;
    // It stops at the last one, which is being pushed; what was before it is marked.
    let busy = bench.present("busy", None).await?;
    let sql = "UPDATE integratedb.sync_state SET lease = 7, due_at = now() + interval '1 minute' WHERE model_id = $1";
    bench.synced.client.execute(sql, &[&busy]).await?;
    bench.world.with(|world| world.rows.clear());
    bench.engine()?;
    let stop = bench.worker()?;
    let id = bench.create(false).await?;
    let marked =
        "SELECT count(*) FROM integratedb.sync_state WHERE presence = 'unknown' AND due_at IS NULL";
    until("two are marked", async || Ok(bench.synced.numbers(marked).await? == [2])).await?;
    let cancelled =
        replay::cancel(&bench.synced.client, bench.to, id).await?.context("a replay")?;
    ensure!(cancelled.state == "cancelled");
    let again = replay::cancel(&bench.synced.client, bench.to, id).await;
    ensure!(matches!(again, Err(SyncError::Refused(_))), "{again:?}");
    let replay = bench.over(id).await?;
    ensure!(replay.state == "cancelled", "{replay:?}");
    until("what was marked is pushed", async || Ok(bench.world.rows().len() == 2)).await?;
    stop.cancel();
    let none = replay::cancel(&bench.synced.client, bench.to, 0).await?;
    ensure!(
        none.is_none()
            && replay::create(&bench.synced.client, IntegrationId(0), true).await?.is_none()
    );
    bench.end().await
}
