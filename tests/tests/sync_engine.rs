//! The engine of sync, with sources and targets that are in the test: what is fetched and pushed when, and in which order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::future::BoxFuture;
use integratedb_sidecar::secret::Secret;
use integratedb_sidecar::sync::source::{FetchError, Fetched, Source};
use integratedb_sidecar::sync::target::{Comparison, PushError, Target};
use integratedb_sidecar::sync::{
    Engine, Fetch, IntegrationId, Named, Notified, OpenError, Outside, Push, SyncHandle,
    SyncSettings, TenantId, accept, open_pool,
};
use integratedb_sidecar::{Config, db};
use serde_json::json;
use support::{Cluster, Database, Sidecar, until};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A tenant whose entries are stored as they are.
const TENANT: TenantId = TenantId(-1);

/// How many wait for another model.
const WAITING: &str = "SELECT count(*) FROM integratedb.sync_state WHERE waits_for IS NOT NULL";

/// What both ends have, and what was seen of them.
#[derive(Default)]
struct Ends {
    source: BTreeMap<Named, String>,
    target: BTreeMap<Named, String>,
    /// Each push that went well, and each fetch, in their order.
    said: Vec<String>,
    /// Models at work, at either end.
    at_work: HashSet<(char, Named)>,
    newest: HashMap<Named, i64>,
    /// What was wrong.
    faults: Vec<String>,
    /// Fetches and pushes to fail, by the text in `said`.
    failing: HashSet<String>,
    /// How long a fetch takes that has begun, and a push before it takes effect.
    slowness: Duration,
    push_slowness: Duration,
    /// Pushes that wait, by the text in `said`, for a permit.
    held: HashMap<String, Arc<Semaphore>>,
}

/// Both ends, in memory.
#[derive(Clone, Default)]
struct World(Arc<Mutex<Ends>>);

impl World {
    fn with<T>(&self, what: impl FnOnce(&mut Ends) -> T) -> T {
        what(&mut self.0.lock().expect("no test panics while it holds it"))
    }

    fn set(&self, class: &str, key: &str, value: &str) {
        self.with(|ends| ends.source.insert(named(class, key), value.to_owned()));
    }

    fn remove(&self, class: &str, key: &str) {
        self.with(|ends| ends.source.remove(&named(class, key)));
    }

    fn begin(&self, end: char, model: &Named) {
        self.with(|ends| {
            if !ends.at_work.insert((end, model.clone())) {
                ends.faults.push(format!("{model:?} is at work twice at {end}"));
            }
        });
    }

    fn end(&self, end: char, model: &Named) {
        self.with(|ends| ends.at_work.remove(&(end, model.clone())));
    }

    async fn is_in_step(&self) -> Result<()> {
        until("the target is as the source", || async {
            Ok(self.with(|ends| ends.source == ends.target))
        })
        .await?;
        let faults = self.with(|ends| ends.faults.clone());
        ensure!(faults.is_empty(), "{faults:?}");
        Ok(())
    }
}

impl Source for World {
    fn fetch<'a>(&'a self, fetch: &'a Fetch) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        Box::pin(async move {
            assert!(fetch.model.class != "bad", "it is broken on purpose");
            self.begin('s', &fetch.model);
            let data = self.with(|ends| ends.source.get(&fetch.model).cloned());
            let (slowness, text) =
                self.with(|ends| (ends.slowness, format!("fetch {}", fetch.model.key)));
            tokio::time::sleep(slowness).await;
            self.end('s', &fetch.model);
            let fails = self.with(|ends| {
                ends.said.push(text.clone());
                ends.failing.contains(&text)
            });
            if fails {
                return Err(FetchError { message: "no answer".to_owned(), retry_after: None });
            }
            let data = data.map(|value| {
                serde_json::value::to_raw_value(&json!({ "value": value }))
                    .expect("an object")
                    .into()
            });
            Ok(Fetched { data, parent: None, notified: Vec::new(), integration: None })
        })
    }
}

impl Target for World {
    fn push<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<(), PushError>> {
        Box::pin(async move {
            self.begin('t', &push.model);
            let verb = if push.data.is_some() { "push" } else { "delete" };
            let text = format!("{verb} {}", push.model.key);
            let (slowness, held) =
                self.with(|ends| (ends.push_slowness, ends.held.get(&text).cloned()));
            tokio::time::sleep(slowness).await;
            if let Some(held) = held {
                held.acquire().await.expect("nobody closes it").forget();
            }
            self.end('t', &push.model);
            self.with(|ends| {
                if ends.failing.contains(&text) {
                    let message = match push.model.class.as_str() {
                        "unspeakable" => "the target says \0",
                        _ => "the target is full",
                    };
                    return Err(PushError { message: message.to_owned(), retry_after: None });
                }
                let newest = ends.newest.entry(push.model.clone()).or_default();
                if *newest > push.entry.0 {
                    ends.faults.push(format!("entry {} after {newest}", push.entry));
                }
                *newest = push.entry.0;
                match &push.data {
                    Some(data) => {
                        let data: serde_json::Value =
                            serde_json::from_str(data.get()).expect("it is JSON");
                        let value = data["value"].as_str().unwrap_or_default().to_owned();
                        ends.target.insert(push.model.clone(), value);
                    }
                    None => {
                        ends.target.remove(&push.model);
                    }
                }
                ends.said.push(text);
                Ok(())
            })
        })
    }

    fn compare<'a>(&'a self, _: &'a Push) -> BoxFuture<'a, Result<Comparison, PushError>> {
        Box::pin(async { Ok(Comparison::Same) })
    }
}

impl Outside for World {
    fn source<'a>(
        &'a self,
        _: TenantId,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Source>, OpenError>> {
        let this: Arc<dyn Source> = Arc::new(self.clone());
        Box::pin(async move { Ok(this) })
    }

    fn target(&self, _: IntegrationId) -> BoxFuture<'_, Result<Arc<dyn Target>, OpenError>> {
        let this: Arc<dyn Target> = Arc::new(self.clone());
        Box::pin(async move { Ok(this) })
    }
}

fn named(class: &str, key: &str) -> Named {
    Named { class: class.to_owned(), key: key.to_owned() }
}

fn note(class: &str, key: &str, parent: Option<Named>) -> Notified {
    Notified { tenant: TENANT, model: named(class, key), parent, data: None }
}

/// A database with a tenant and an integration for all its models.
struct Bench {
    _cluster: Cluster,
    sidecar: Sidecar,
    database: Database,
    world: World,
    pool: db::Pool,
    /// What requests use.
    requests: db::Pool,
    stop: CancellationToken,
    engines: TaskTracker,
}

impl Bench {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            config.sync.enabled = false;
            // For examples (RFC 5737): nobody is there.
            config.sync.allow_networks = "203.0.113.0/24".parse().into_iter().collect();
            // It would find that there is no such stakeholder.
            config.notifications.enabled = false;
        })
        .await?;
        let config = Config { database_url: Secret::new(database.url()), ..Config::default() };
        let pool = open_pool(&config)?;
        let client = database.connect().await?;
        until("the tables are there", || async {
            let there = "SELECT to_regclass('integratedb.sync_replay') IS NOT NULL";
            Ok(client.query_one(there, &[]).await?.get(0))
        })
        .await?;
        client
            .batch_execute(
                "INSERT INTO integratedb.sync_tenant (id, stakeholder_id) VALUES (-1, 1);
                 INSERT INTO integratedb.sync_integration (tenant_id, name, kind, settings, concurrency)
                 VALUES (-1, 'all', 'http', '{}', 16)",
            )
            .await?;
        Ok(Self {
            _cluster: cluster,
            sidecar,
            database,
            world: World::default(),
            pool,
            requests: db::open(&config)?,
            stop: CancellationToken::new(),
            engines: TaskTracker::new(),
        })
    }

    /// Has another engine work.
    fn work(&self) -> Result<()> {
        self.work_for(2)
    }

    /// One whose requests may take so many seconds.
    fn work_for(&self, timeout_secs: u64) -> Result<()> {
        let settings = SyncSettings {
            poll_millis: 50,
            timeout_secs,
            max_retry_secs: 2,
            ..SyncSettings::default()
        };
        let engine =
            Engine::new(self.pool.clone(), SyncHandle::new(settings), Arc::new(self.world.clone()));
        let engine = engine.map_err(anyhow::Error::msg)?;
        self.engines.spawn(engine.run(self.stop.clone()));
        Ok(())
    }

    async fn notify(&self, notified: &[Notified]) -> Result<()> {
        let mut client = self.requests.get().await?;
        let transaction = client.transaction().await?;
        let models = accept(&transaction, notified).await?;
        ensure!(models.len() == notified.len());
        transaction.commit().await?;
        Ok(())
    }

    /// The child "a", whose parent can't be fetched.
    async fn notify_a_child_whose_parent_fails(&self) -> Result<()> {
        self.world.with(|ends| ends.failing.insert("fetch p".to_owned()));
        self.world.set("client", "a", "1");
        let parent = named("service", "p");
        self.notify(&[note("service", "p", None), note("client", "a", Some(parent))]).await
    }

    async fn number(&self, sql: &str) -> Result<i64> {
        Ok(self.database.connect().await?.query_one(sql, &[]).await?.get(0))
    }

    async fn end(self) {
        self.stop.cancel();
        self.engines.close();
        self.engines.wait().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_notified_is_fetched_and_pushed_until_both_are_alike() -> Result<()> {
    let bench = Bench::start().await?;
    bench.work()?;
    let all: Vec<Notified> = (0..200).map(|key| note("item", &key.to_string(), None)).collect();
    for key in 0..200 {
        bench.world.set("item", &key.to_string(), "first");
    }
    bench.notify(&all).await?;
    bench.world.is_in_step().await?;
    for key in 0..100 {
        bench.world.remove("item", &key.to_string());
        bench.world.set("item", &(key + 100).to_string(), "second");
    }
    bench.notify(&all).await?;
    bench.world.is_in_step().await?;
    let due = "SELECT (SELECT count(*) FROM integratedb.sync_update WHERE due_at IS NOT NULL)
                    + (SELECT count(*) FROM integratedb.sync_state WHERE due_at IS NOT NULL)";
    until("nothing is due any more", || async { Ok(bench.number(due).await? == 0) }).await?;
    let absent =
        "SELECT count(*) FROM integratedb.sync_state WHERE presence = 'absent' AND success";
    ensure!(bench.number(absent).await? == 100);
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_notified_during_its_update_is_fetched_again_and_often_at_once_counts_once()
-> Result<()> {
    let bench = Bench::start().await?;
    bench.world.with(|ends| ends.slowness = Duration::from_millis(700));
    bench.world.set("item", "1", "before");
    bench.work()?;
    bench.notify(&[note("item", "1", None)]).await?;
    until("it is fetched", || async { Ok(bench.world.with(|ends| !ends.at_work.is_empty())) })
        .await?;
    // The fetch has read the value of before.
    bench.world.set("item", "1", "after");
    let mut client = bench.pool.get().await?;
    let transaction = client.transaction().await?;
    for _ in 0..50 {
        accept(&transaction, &[note("item", "1", None)]).await?;
    }
    transaction.commit().await?;
    bench.world.is_in_step().await?;
    let due = "SELECT count(*) FROM integratedb.sync_update WHERE due_at IS NOT NULL";
    until("nothing is due any more", || async { Ok(bench.number(due).await? == 0) }).await?;
    let fetches =
        bench.world.with(|ends| ends.said.iter().filter(|said| said.starts_with("fetch")).count());
    ensure!(fetches == 2, "{fetches} fetches");
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parents_come_first_and_go_last() -> Result<()> {
    let bench = Bench::start().await?;
    let parent = || Some(named("service", "p"));
    bench.world.set("service", "p", "1");
    bench.world.with(|ends| ends.failing.insert("fetch p".to_owned()));
    let mut children = Vec::new();
    for key in ["a", "b", "c"] {
        bench.world.set("client", key, "1");
        children.push(note("client", key, parent()));
    }
    bench.notify(&children).await?;
    bench.notify(&[note("service", "p", None)]).await?;
    // Not before all are known: a parent that nobody was told of is waited for by nobody.
    bench.work()?;
    bench.work()?;
    until("the parent has failed", || async {
        let failed = "SELECT count(*) FROM integratedb.sync_update WHERE NOT success";
        Ok(bench.number(failed).await? == 1)
    })
    .await?;
    until("its children wait", || async { Ok(bench.number(WAITING).await? == 3) }).await?;
    ensure!(bench.world.with(|ends| ends.target.is_empty()));
    bench.world.with(|ends| ends.failing.clear());
    bench.world.is_in_step().await?;
    // All are gone, and only of the parent somebody is told.
    bench.world.with(|ends| {
        ends.source.clear();
        ends.said.clear();
        ends.failing.insert("delete b".to_owned());
    });
    bench.notify(&[note("service", "p", None)]).await?;
    until("two children are deleted", || async {
        Ok(bench.world.with(|ends| ends.target.len() == 2))
    })
    .await?;
    until("the parent waits", || async { Ok(bench.number(WAITING).await? == 1) }).await?;
    bench.world.with(|ends| ends.failing.clear());
    bench.world.is_in_step().await?;
    let said = bench.world.with(|ends| ends.said.clone());
    let deleted: Vec<&String> = said.iter().filter(|said| said.starts_with("delete")).collect();
    ensure!(
        deleted.last().is_some_and(|last| *last == "delete p") && deleted.len() == 4,
        "{said:?}"
    );
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_put_off_while_what_it_waits_for_arrives_is_called_all_the_same() -> Result<()> {
    let bench = Bench::start().await?;
    let gate = || Arc::new(Semaphore::new(0));
    let (parent, other) = (gate(), gate());
    for (key, gate) in [("p", &parent), ("other", &other)] {
        bench.world.set("service", key, "1");
        bench.world.with(|ends| ends.held.insert(format!("push {key}"), Arc::clone(gate)));
    }
    // Longer than anybody is held here.
    bench.work_for(120)?;
    bench.notify(&[note("service", "p", None), note("service", "other", None)]).await?;
    let at_target = |ends: &mut Ends| ends.at_work.iter().filter(|(end, _)| *end == 't').count();
    until("both are at the target", || async { Ok(bench.world.with(at_target) == 2) }).await?;
    // Whoever puts one off does not get to its end: it has read that the parent is not there yet.
    let client = bench.database.connect().await?;
    client
        .batch_execute(
            "CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN new; END';
             CREATE TRIGGER hold_up BEFORE UPDATE ON integratedb.sync_state
                 FOR EACH ROW WHEN (new.waits_for IS NOT NULL) EXECUTE FUNCTION hold_up();
             SELECT pg_advisory_lock(7)",
        )
        .await?;
    bench.world.set("client", "a", "1");
    bench.notify(&[note("client", "a", Some(named("service", "p")))]).await?;
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    until("the child is put off", || async { Ok(bench.number(waiting).await? == 1) }).await?;
    // Pushes are noted one after the other: when the second is, whoever waits for the first was called.
    let noted = "SELECT count(*) FROM integratedb.sync_state WHERE success";
    parent.add_permits(1);
    until("the parent is noted", || async { Ok(bench.number(noted).await? == 1) }).await?;
    other.add_permits(1);
    until("the other is noted", || async { Ok(bench.number(noted).await? == 2) }).await?;
    ensure!(bench.number(waiting).await? == 1, "it waits no more");
    client.batch_execute("SELECT pg_advisory_unlock(7)").await?;
    bench.world.is_in_step().await?;
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_is_not_at_its_source_holds_nobody_up() -> Result<()> {
    let bench = Bench::start().await?;
    bench.notify_a_child_whose_parent_fails().await?;
    bench.work()?;
    until("the child waits", || async { Ok(bench.number(WAITING).await? == 1) }).await?;
    bench.world.with(|ends| ends.failing.clear());
    bench.world.is_in_step().await?;
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_that_an_integration_is_for_waits_for_no_parent() -> Result<()> {
    let bench = Bench::start().await?;
    bench.notify_a_child_whose_parent_fails().await?;
    let client = bench.database.connect().await?;
    client
        .batch_execute(
            "INSERT INTO integratedb.sync_integration (tenant_id, name, kind, settings, concurrency, model_id)
             SELECT -1, 'of one', 'http', '{}', 16, m.id
             FROM integratedb.sync_model m JOIN integratedb.sync_record r ON r.id = m.record_id WHERE r.key = 'a'",
        )
        .await?;
    bench.work()?;
    let there = "SELECT count(*) FROM integratedb.sync_state WHERE integration_id = 2 AND success";
    until("it is pushed there", || async { Ok(bench.number(there).await? == 1) }).await?;
    until("it waits elsewhere", || async { Ok(bench.number(WAITING).await? == 1) }).await?;
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_integration_is_being_changed_holds_up_no_other_tenant() -> Result<()> {
    let bench = Bench::start().await?;
    let client = bench.database.connect().await?;
    client
        .batch_execute(
            "INSERT INTO integratedb.sync_tenant (id, endpoint, sealed) VALUES (16, 'https://203.0.113.7', '');
             INSERT INTO integratedb.sync_integration (tenant_id, name, kind, settings, concurrency)
             VALUES (16, 'theirs', 'http', '{}', 16)",
        )
        .await?;
    let lock = "BEGIN; SELECT FROM integratedb.sync_integration WHERE name = 'theirs' FOR UPDATE";
    client.batch_execute(lock).await?;
    let request = |method: &str| json!({"method": method, "url": "https://203.0.113.7/{{ key }}"});
    let settings = json!({"upsert": request("PUT"), "delete": request("DELETE")});
    let body = json!({"integration": {"name": "theirs", "kind": "http", "settings": settings}});
    let change = async {
        let changed = bench.sidecar.put("/api/v1/sync/tenants/16/integrations/2", body).await?;
        ensure!(changed.status == 200, "{}", changed.text);
        Ok(())
    };
    let meanwhile = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("the change waits", || async { Ok(bench.number(waiting).await? == 1) }).await?;
        bench.work()?;
        bench.world.set("item", "1", "x");
        bench.notify(&[note("item", "1", None)]).await?;
        bench.world.is_in_step().await?;
        ensure!(bench.number(waiting).await? == 1, "it waits no more");
        client.batch_execute("COMMIT").await?;
        Ok(())
    };
    tokio::try_join!(change, meanwhile)?;
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_until_it_goes_well_and_says_why() -> Result<()> {
    let bench = Bench::start().await?;
    bench.world.set("item", "1", "x");
    bench.world.with(|ends| ends.failing.insert("push 1".to_owned()));
    bench.work()?;
    bench.notify(&[note("item", "1", None)]).await?;
    let tried = "SELECT coalesce(max(attempts), 0)::bigint FROM integratedb.sync_state
                 WHERE error = 'the target is full' AND NOT success AND presence = 'unknown'";
    until("it was tried twice", || async { Ok(bench.number(tried).await? >= 2) }).await?;
    // A later entry does not wait for the next attempt of the one before.
    bench.world.set("item", "1", "y");
    bench.world.with(|ends| ends.failing.clear());
    bench.notify(&[note("item", "1", None)]).await?;
    bench.world.is_in_step().await?;
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_whose_holder_is_gone_ends() -> Result<()> {
    let bench = Bench::start().await?;
    bench.world.set("item", "1", "x");
    bench.notify(&[note("item", "1", None)]).await?;
    let client = bench.database.connect().await?;
    let taken = "UPDATE integratedb.sync_update SET lease = 7, taken = notified, due_at = now() + interval '1 s'";
    client.execute(taken, &[]).await?;
    bench.work()?;
    bench.world.is_in_step().await?;
    let waited = "SELECT (started_at < (SELECT inserted_at + interval '1 s' FROM integratedb.sync_model))::int::bigint
                  FROM integratedb.sync_update";
    ensure!(bench.number(waited).await? == 0, "the lock was taken from its holder");
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_its_lock_notes_nothing() -> Result<()> {
    let bench = Bench::start().await?;
    bench.world.with(|ends| ends.slowness = Duration::from_millis(700));
    bench.world.set("item", "1", "x");
    let client = bench.database.connect().await?;
    bench.work()?;
    bench.notify(&[note("item", "1", None)]).await?;
    // As if the lock had ended, and another sidecar had it now.
    let take = "UPDATE integratedb.sync_update SET lease = 7, due_at = now() + interval '3 s' WHERE lease IS NOT NULL";
    until("it is being fetched", || async { Ok(client.execute(take, &[]).await? == 1) }).await?;
    let fetched = || {
        bench.world.with(|ends| ends.said.iter().filter(|said| said.starts_with("fetch")).count())
    };
    bench.world.is_in_step().await?;
    ensure!(fetched() == 2, "{} fetches", fetched());
    let entries = bench.number("SELECT count(*) FROM integratedb.sync_entry").await?;
    ensure!(entries == 1, "{entries} entries");
    // The same of a push.
    bench.world.with(|ends| {
        ends.slowness = Duration::ZERO;
        ends.push_slowness = Duration::from_millis(700);
    });
    bench.world.set("item", "1", "y");
    bench.notify(&[note("item", "1", None)]).await?;
    let take = "UPDATE integratedb.sync_state SET lease = 7, due_at = now() + interval '3 s' WHERE lease IS NOT NULL";
    until("it is being pushed", || async { Ok(client.execute(take, &[]).await? == 1) }).await?;
    // One that was noted under another's lock would not be pushed again.
    let pushes =
        || bench.world.with(|ends| ends.said.iter().filter(|said| *said == "push 1").count());
    until("it is pushed again, under a lock of its own", || async { Ok(pushes() == 3) }).await?;
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_where_an_integration_went_before_is_done_again() -> Result<()> {
    let bench = Bench::start().await?;
    bench.world.with(|ends| ends.push_slowness = Duration::from_secs(1));
    bench.world.set("item", "1", "x");
    let client = bench.database.connect().await?;
    bench.work()?;
    bench.notify(&[note("item", "1", None)]).await?;
    let moved = "UPDATE integratedb.sync_integration SET version = version + 1
                 WHERE EXISTS (SELECT FROM integratedb.sync_state WHERE lease IS NOT NULL)";
    until("it is being pushed", || async { Ok(client.execute(moved, &[]).await? == 1) }).await?;
    let pushes =
        || bench.world.with(|ends| ends.said.iter().filter(|said| *said == "push 1").count());
    until("it is pushed twice", || async { Ok(pushes() == 2) }).await?;
    let done = "SELECT count(*) FROM integratedb.sync_state WHERE due_at IS NULL AND entry_id = wanted AND presence = 'present'";
    until("the second one counts", || async { Ok(bench.number(done).await? == 1) }).await?;
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_into_a_scope_through_its_parent_goes_there() -> Result<()> {
    let bench = Bench::start().await?;
    bench.work()?;
    for (class, key) in [("customer", "a"), ("order", "b"), ("line", "c")] {
        bench.world.set(class, key, "x");
    }
    let line = note("line", "c", Some(named("order", "b")));
    bench.notify(&[note("customer", "a", None), note("order", "b", None), line]).await?;
    bench.world.is_in_step().await?;
    let scoped = "INSERT INTO integratedb.sync_integration (tenant_id, name, kind, settings, concurrency, model_id)
                  SELECT -1, 'of a', 'http', '{}', 4, m.id FROM integratedb.sync_model m
                  JOIN integratedb.sync_record r ON r.id = m.record_id WHERE r.key = 'a'";
    bench.database.connect().await?.execute(scoped, &[]).await?;
    bench.notify(&[note("order", "b", Some(named("customer", "a")))]).await?;
    let there = "SELECT count(*) FROM integratedb.sync_state s
                 JOIN integratedb.sync_integration i ON i.id = s.integration_id AND i.name = 'of a'
                 JOIN integratedb.sync_model m ON m.id = s.model_id
                 JOIN integratedb.sync_record r ON r.id = m.record_id AND r.key IN ('b', 'c')
                 WHERE s.presence = 'present'";
    until("order and line are there", || async { Ok(bench.number(there).await? == 2) }).await?;
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_ours_holds_up_nothing_else() -> Result<()> {
    let bench = Bench::start().await?;
    let mut all: Vec<Notified> = (0..100).map(|key| note("item", &key.to_string(), None)).collect();
    for key in 0..100 {
        bench.world.set("item", &key.to_string(), "x");
    }
    all.extend((0..60).map(|key| note("bad", &format!("bad {key}"), None)));
    bench.work()?;
    bench.notify(&all).await?;
    bench.world.is_in_step().await?;
    let said =
        "SELECT count(*) FROM integratedb.sync_update WHERE error LIKE 'the sidecar has a fault%'";
    until("it is said", || async { Ok(bench.number(said).await? == 60) }).await?;
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_the_database_can_t_note_holds_up_no_other() -> Result<()> {
    let bench = Bench::start().await?;
    // All end at the same time, so they are noted together.
    bench.world.with(|ends| {
        ends.push_slowness = Duration::from_millis(300);
        ends.failing.insert("push bad".to_owned());
    });
    let mut all = vec![note("unspeakable", "bad", None)];
    bench.world.set("unspeakable", "bad", "x");
    for key in 0..10 {
        bench.world.set("item", &key.to_string(), "x");
        all.push(note("item", &key.to_string(), None));
    }
    bench.notify(&all).await?;
    bench.work()?;
    let noted = "SELECT count(*) FROM integratedb.sync_state
                 WHERE success OR error LIKE 'how the push went can''t be stored: %'";
    until("all are noted", || async { Ok(bench.number(noted).await? == 11) }).await?;
    let pushes =
        bench.world.with(|ends| ends.said.iter().filter(|said| said.starts_with("push")).count());
    ensure!(pushes == 10, "{pushes} pushes went well of 10 models");
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn work_costs_the_same_however_many_models_there_are() -> Result<()> {
    let bench = Bench::start().await?;
    let client = bench.database.connect().await?;
    for table in ["record", "model", "entry", "update", "state"] {
        let off = format!("ALTER TABLE integratedb.sync_{table} SET (autovacuum_enabled = off)");
        client.batch_execute(&off).await?;
    }
    // Plans are made, and kept, while there is next to nothing.
    bench.work()?;
    for round in 0..30 {
        bench.world.set("item", "0", &round.to_string());
        bench.notify(&[note("item", "0", None)]).await?;
        bench.world.is_in_step().await?;
    }
    client
        .batch_execute(
            "INSERT INTO integratedb.sync_record (tenant_id, class, key)
             SELECT -1, 'item', g::text FROM generate_series(1, 20000) g;
             INSERT INTO integratedb.sync_model (tenant_id, record_id)
             SELECT -1, id FROM integratedb.sync_record WHERE key <> '0' ORDER BY id;
             INSERT INTO integratedb.sync_entry (tenant_id, model_id, is_gone, data)
             SELECT -1, m.id, false, '{\"value\": \"x\"}' FROM integratedb.sync_model m
             JOIN integratedb.sync_record r ON r.id = m.record_id WHERE r.key <> '0' ORDER BY m.id;
             INSERT INTO integratedb.sync_update (model_id, tenant_id, entry_id)
             SELECT model_id, -1, id FROM integratedb.sync_entry ON CONFLICT DO NOTHING;
             INSERT INTO integratedb.sync_state (integration_id, model_id, wanted, is_gone, presence)
             SELECT i.id, e.model_id, e.id, false, 'present'
             FROM integratedb.sync_entry e, integratedb.sync_integration i ON CONFLICT DO NOTHING;
             SELECT pg_stat_reset()",
        )
        .await?;
    for key in 1..=500 {
        bench.world.set("item", &key.to_string(), "y");
        bench.notify(&[note("item", &key.to_string(), None)]).await?;
    }
    bench.world.is_in_step().await?;
    bench.requests.close();
    // Each update and each state is made due, taken and ended.
    let updates = "SELECT min(n_tup_upd) FROM pg_stat_user_tables WHERE relname IN ('sync_update', 'sync_state')";
    until("Postgres has counted", || async { Ok(bench.number(updates).await? >= 1500) }).await?;
    let read = "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname LIKE 'sync_%')::bigint
                     + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname LIKE 'sync_%')::bigint";
    // Some ten for each, even if some are done twice, and what they were made with; all states for each push are 10,000,000.
    let read = bench.number(read).await?;
    ensure!(read < 1_000_000, "{read} rows were read for 500 models");
    bench.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_models_can_be_notified_by_many_at_once() -> Result<()> {
    let bench = Arc::new(Bench::start().await?);
    let tasks: Vec<_> = (0..16)
        .map(|task: usize| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move {
                for round in 0..5 {
                    let keys = (0..10).map(|key| (key + task) % 10);
                    let all: Vec<Notified> = keys
                        .flat_map(|key| {
                            let parent = named("service", &format!("{round}-{key}"));
                            let child =
                                note("client", &format!("{round}-{key}"), Some(parent.clone()));
                            [child, note("service", &parent.key, None)]
                        })
                        .collect();
                    bench
                        .notify(&all)
                        .await
                        .with_context(|| format!("task {task} round {round}"))?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let models = bench.number("SELECT count(*) FROM integratedb.sync_model").await?;
    let parents = bench
        .number("SELECT count(*) FROM integratedb.sync_record WHERE parent_id IS NOT NULL")
        .await?;
    let counted = bench.number("SELECT min(notified) FROM integratedb.sync_update").await?;
    if (models, parents, counted) != (100, 50, 16) {
        bail!("{models} models, {parents} with parents, notified {counted} times");
    }
    Ok(())
}
