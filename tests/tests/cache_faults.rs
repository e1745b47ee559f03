//! Readers, slots, networks and origins that fail under a cache: answers stay right, nothing is served from what can't
//! be trusted, and serving comes back by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::cache::{CachingSettings, SlotKind};
use support::{CACHES, Cached, connect, until};
use tokio::task::JoinSet;

/// How long ago what is served may have been right, where it was written around the proxy.
const LAG: Duration = Duration::from_millis(1500);

fn bounded(caching: &mut CachingSettings) {
    caching.max_lag_ms = 1500;
}

/// The same, and the log is followed by such a slot.
fn by(slot: SlotKind) -> impl Fn(&mut CachingSettings) {
    move |caching| {
        bounded(caching);
        caching.slot = slot;
    }
}

/// Clients that write and read all the time, and check each answer.
struct Audit {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<u64>>,
}

impl Audit {
    /// Of each cache, a writer and a reader; and a writer around the proxy.
    fn start(setup: &Cached) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for (cache, id) in CACHES.into_iter().zip([7, 8]) {
            let url = setup.database.url_through(setup.sidecar.proxy(), "app", "secret");
            let url = format!("{url}&application_name={cache}");
            // What was acknowledged through the proxy is seen at once.
            let acknowledged = Arc::new(AtomicI64::new(0));
            tasks.spawn(write(url.clone(), id, Arc::clone(&acknowledged), Arc::clone(&stop)));
            tasks.spawn(read(url.clone(), id, Duration::ZERO, acknowledged, Arc::clone(&stop)));
            // What was written around it is seen within the bound.
            let written = Arc::new(AtomicI64::new(0));
            let around = setup.database.url_as("app", "secret");
            tasks.spawn(write(around, id + 10, Arc::clone(&written), Arc::clone(&stop)));
            tasks.spawn(read(url, id + 10, LAG, written, Arc::clone(&stop)));
        }
        Self { stop, tasks }
    }

    /// Errors if an answer was wrong.
    async fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ensure!(ended?? > 0, "a client did nothing");
        }
        Ok(())
    }
}

/// Counts a row up; what is acknowledged is told.
async fn write(url: String, id: i32, told: Arc<AtomicI64>, stop: Arc<AtomicBool>) -> Result<u64> {
    let mut done = 0;
    while !stop.load(Ordering::SeqCst) {
        let Ok(client) = connect(&url).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let sql = "UPDATE items SET price = price + 1 WHERE id = $1 RETURNING price";
        while !stop.load(Ordering::SeqCst) {
            let Ok(row) = client.query_one(sql, &[&id]).await else { break };
            told.fetch_max(i64::from(row.get::<_, i32>(0)), Ordering::SeqCst);
            done += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(done)
}

/// Reads the row; an answer older than what was told `late` before is an error, and so is one older than the last.
async fn read(
    url: String,
    id: i32,
    late: Duration,
    told: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
) -> Result<u64> {
    let mut done = 0;
    let mut known = std::collections::VecDeque::new();
    while !stop.load(Ordering::SeqCst) {
        let Ok(client) = connect(&url).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let mut last = 0;
        while !stop.load(Ordering::SeqCst) {
            let now = Instant::now();
            known.push_back((now, told.load(Ordering::SeqCst)));
            while known.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= late) {
                known.pop_front();
            }
            let least = known
                .front()
                .filter(|(at, _)| now.duration_since(*at) >= late)
                .map_or(0, |(_, value)| *value);
            let sql = "SELECT price FROM items WHERE id = $1";
            let Ok(row) = client.query_one(sql, &[&id]).await else { break };
            let price = i64::from(row.get::<_, i32>(0));
            ensure!(price >= least, "row {id}: {price} is given, though {least} was written");
            ensure!(price >= last, "row {id}: {price} after {last}");
            last = price;
            done += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(done)
}

/// Waits until a cache answers from what it keeps again.
async fn answers_again(setup: &Cached) -> Result<()> {
    setup.serves().await?;
    for cache in CACHES {
        let client = setup.connect(cache, "app").await?;
        setup.warm(cache, &client, "SELECT name FROM items WHERE id = 30").await?;
    }
    Ok(())
}

async fn reconnects(setup: &Cached) -> Result<u64> {
    let caching = setup.caching("pass").await?;
    caching["reader"]["reconnects"].as_u64().context("no reader")
}

#[tokio::test]
async fn answers_stay_right_while_the_readers_connections_are_killed() -> Result<()> {
    for slot in [SlotKind::Temporary, SlotKind::Permanent] {
        let setup = Cached::with(&[], by(slot)).await?;
        let audit = Audit::start(&setup);
        for _ in 0..3 {
            answers_again(&setup).await?;
            let before = reconnects(&setup).await?;
            // It may just be getting a new one.
            until("one is killed", async || Ok(setup.cluster.kill_walsenders().await? > 0)).await?;
            until("it has a new connection", async || Ok(reconnects(&setup).await? > before))
                .await?;
            // Those that it asks questions on.
            let sql =
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'
                       AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
            setup.admin(sql).await?;
        }
        answers_again(&setup).await?;
        audit.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn answers_stay_right_while_the_origin_crashes_and_returns() -> Result<()> {
    for slot in [SlotKind::Temporary, SlotKind::Permanent] {
        let mut setup = Cached::apart(by(slot)).await?;
        let audit = Audit::start(&setup);
        for is_fast in [false, true] {
            answers_again(&setup).await?;
            match is_fast {
                true => setup.cluster.stop().await?,
                false => setup.cluster.stop_immediately(),
            }
            until("it is told", async || {
                let caching = setup.caching("pass").await?;
                Ok(caching["serving"] == false && caching["why"].is_string())
            })
            .await?;
            setup.cluster.restart().await?;
        }
        answers_again(&setup).await?;
        audit.end().await?;
    }
    Ok(())
}

#[tokio::test]
async fn answers_stay_right_while_the_readers_network_breaks_and_stalls() -> Result<()> {
    for slot in [SlotKind::Temporary, SlotKind::Permanent] {
        let setup = Cached::with(&[], by(slot)).await?;
        let audit = Audit::start(&setup);
        for is_stall in [true, false] {
            answers_again(&setup).await?;
            match is_stall {
                true => setup.network.stall(),
                false => setup.network.break_after(1000),
            }
            for cache in CACHES {
                until("it is told, and why", async || {
                    let caching = setup.caching(cache).await?;
                    Ok(caching["serving"] == false && caching["why"].is_string())
                })
                .await?;
                // What is written now is not missed, by nobody and in no moment.
                let client = setup.connect(cache, "app").await?;
                setup.admin("UPDATE items SET name = 'late' WHERE id = 30").await?;
                let query = "SELECT name FROM items WHERE id = 30";
                ensure!(
                    setup.ask(cache, &client, query).await? == (vec!["late".to_owned()], false)
                );
            }
            setup.network.heal();
        }
        answers_again(&setup).await?;
        audit.end().await?;
    }
    Ok(())
}

/// Takes the slots of both caches away while their readers can't reach the origin.
async fn slots_are_lost(setup: &Cached, how: impl AsyncFn() -> Result<()>) -> Result<()> {
    let query = "SELECT name FROM items WHERE id = 31";
    let mut lost = Vec::new();
    for cache in CACHES {
        let client = setup.connect(cache, "app").await?;
        ensure!(setup.warm(cache, &client, query).await? == ["item 31"]);
        lost.push(setup.caching(cache).await?["reader"]["lost"].as_u64());
    }
    setup.network.break_after(0);
    setup.cluster.kill_walsenders().await?;
    until("no slot is in use", async || {
        let sql = "SELECT count(*) FROM pg_replication_slots WHERE active";
        Ok(setup.database.connect().await?.query_one(sql, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await?;
    setup.admin("UPDATE items SET name = 'missed' WHERE id = 31").await?;
    how().await?;
    setup.network.heal();
    for (cache, before) in CACHES.into_iter().zip(lost) {
        until("it is told", async || {
            Ok(setup.caching(cache).await?["reader"]["lost"].as_u64() > before)
        })
        .await?;
        let client = setup.connect(cache, "app").await?;
        ensure!(setup.ask(cache, &client, query).await? == (vec!["missed".to_owned()], false));
    }
    answers_again(setup).await
}

#[tokio::test]
async fn nothing_is_left_of_what_was_kept_when_a_slot_is_dropped() -> Result<()> {
    let setup = Cached::with(&[], by(SlotKind::Permanent)).await?;
    slots_are_lost(&setup, async || {
        setup.admin("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots").await
    })
    .await
}

#[tokio::test]
async fn nothing_is_left_of_what_was_kept_when_a_slot_is_invalidated() -> Result<()> {
    let setup = Cached::with(&[("max_slot_wal_keep_size", "1MB")], by(SlotKind::Permanent)).await?;
    slots_are_lost(&setup, async || {
        until("the slots are lost", async || {
            let client = setup.database.connect().await?;
            client
                .batch_execute(
                    "CREATE TABLE IF NOT EXISTS filler (n int); INSERT INTO filler VALUES (1)",
                )
                .await?;
            client.batch_execute("SELECT pg_switch_wal()").await?;
            client.batch_execute("CHECKPOINT").await?;
            let sql = "SELECT bool_and(wal_status = 'lost') FROM pg_replication_slots";
            Ok(client.query_one(sql, &[]).await?.get(0))
        })
        .await
    })
    .await
}
