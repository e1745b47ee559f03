//! Random transactions, receivers of every kind that fail, hang and come back, and a sidecar that is killed: every
//! receiver ends with what the database has, in the order of each row, and an event that comes twice has one id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use support::{Answer, Delivered, Receiver, RedisServer, Socket, logged, until};
use tokio::sync::watch;
use tokio_postgres::Client;

/// Rows that the writers fight for, in each table.
const ROWS: i64 = 60;

/// How often the sidecar is killed.
const KILLS: usize = 4;

/// Transactions between two kills.
const TRANSACTIONS: i64 = 150;

const TABLES: [&str; 2] = ["items", "other"];

/// The tables as they are, or as events tell them: `n` by table and key.
type State = BTreeMap<(String, i64), i64>;

/// Writes random transactions until it is told to stop.
async fn write(
    client: Client,
    seed: u64,
    next: Arc<AtomicI64>,
    done: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    while !stop.load(Ordering::Relaxed) {
        let mut sql = String::from("BEGIN;");
        for _ in 0..random.random_range(1..6) {
            let table = TABLES[random.random_range(0..TABLES.len())];
            let (id, other) = (random.random_range(0..ROWS), random.random_range(0..ROWS));
            let n = next.fetch_add(1, Ordering::Relaxed);
            sql += &match random.random_range(0..20) {
                0..8 => format!(
                    "INSERT INTO {table} VALUES ({id}, {n}) ON CONFLICT (id) DO UPDATE SET n = excluded.n;"
                ),
                8..13 => format!("UPDATE {table} SET n = {n} WHERE id = {id};"),
                13..16 => format!("DELETE FROM {table} WHERE id = {id};"),
                16..18 => format!(
                    "UPDATE {table} SET id = {other}, n = {n} WHERE id = {id}
                     AND NOT EXISTS (SELECT FROM {table} WHERE id = {other});"
                ),
                18 => format!("SAVEPOINT s; DELETE FROM {table}; ROLLBACK TO s;"),
                _ if random.random_range(0..10) == 0 => format!("TRUNCATE {table};"),
                _ => String::new(),
            };
        }
        sql += if random.random_range(0..10) == 0 { "ROLLBACK" } else { "COMMIT" };
        // Two that wait for each other, or insert the same: one of them is undone.
        if client.batch_execute(&sql).await.is_err() {
            client.batch_execute("ROLLBACK").await?;
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// What a receiver that counts each id once is left with. Errors if an id stands for two events, or the events of a row
/// come in another order than they were committed in.
fn state_of(events: &[Value]) -> Result<State> {
    let mut state = State::new();
    let mut seen: BTreeMap<String, &Value> = BTreeMap::new();
    let mut last: BTreeMap<(String, Option<i64>), String> = BTreeMap::new();
    for event in events {
        let id = event["id"].as_str().context("no id")?.to_owned();
        if let Some(former) = seen.insert(id.clone(), event) {
            ensure!(former == event, "{former} and {event}");
            continue;
        }
        ensure!(event["event"] != "GAP", "nothing was lost: {event}");
        let table = event["table"].as_str().context("no table")?.to_owned();
        let (new, old) = (event["record"]["id"].as_i64(), event["old"]["id"].as_i64());
        // Numbers in ids are not as long as one another.
        let (commit, index) = id.rsplit_once('-').context("no index")?;
        let at = format!("{commit}-{:0>10}", index);
        let keys: Vec<Option<i64>> = match event["event"].as_str() {
            Some("TRUNCATE") => (0..ROWS).map(Some).collect(),
            _ => [new, old].into_iter().filter(Option::is_some).collect(),
        };
        for key in keys {
            let before = last.insert((table.clone(), key), at.clone());
            ensure!(before.as_ref().is_none_or(|before| *before < at), "{event} after {before:?}");
        }
        if event["event"] == "TRUNCATE" {
            state.retain(|(of, _), _| *of != table);
        }
        if let Some(old) = old {
            state.remove(&(table.clone(), old));
        }
        if let Some(new) = new {
            state.insert((table, new), event["record"]["n"].as_i64().context("no n")?);
        }
    }
    Ok(state)
}

async fn state_in(client: &Client) -> Result<State> {
    let sql = "SELECT 'items', id, n FROM items UNION ALL SELECT 'other', id, n FROM other";
    let rows = client.query(sql, &[]).await?;
    let row = |row: &tokio_postgres::Row| {
        (
            (row.get::<_, &str>(0).to_owned(), row.get::<_, i32>(1).into()),
            row.get::<_, i32>(2).into(),
        )
    };
    Ok(rows.iter().map(row).collect())
}

/// Listens on a socket, and opens it again where it broke, or by itself now and then; until it is told to stop, and
/// the event with that id has come.
async fn listen(
    mut address: watch::Receiver<std::net::SocketAddr>,
    path: String,
    token: String,
    mut after: String,
    heard: watch::Sender<Vec<Value>>,
) -> Result<()> {
    let mut random = StdRng::seed_from_u64(7);
    loop {
        let at = *address.borrow_and_update();
        let opened = Socket::open(at, &format!("{path}?after={after}"), Some(&token)).await;
        let Ok(mut socket) = opened else {
            // Nobody listens there, or not yet.
            tokio::select! {
                changed = address.changed() => changed?,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            continue;
        };
        for _ in 0..random.random_range(1..400) {
            let event = tokio::select! {
                event = socket.event() => event,
                changed = address.changed() => { changed?; break }
            };
            let Ok(event) = event else { break };
            after = event["id"].as_str().context("no id")?.to_owned();
            heard.send_modify(|heard| heard.push(event));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_receiver_ends_with_what_the_database_has() -> Result<()> {
    let seed = rand::rng().random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let setup = Delivered::without_sidecar().await?;
    let redis = RedisServer::start().await?;
    let mut receiver = Receiver::start().await?;
    receiver.answer(|post| {
        // By what came, so that the same event fails now and is taken later.
        match (post.id.len() + post.at.elapsed().subsec_nanos() as usize) % 10 {
            0 | 1 => 500.into(),
            2 => 503.into(),
            3 => Answer { after: Duration::from_millis(400), ..204.into() },
            _ => 204.into(),
        }
    });
    let mut process = setup.process().await?;
    setup.is_followed().await?;
    let retry = json!({"schedule_secs": vec![1; 30]});
    setup
        .channels(json!([
            {"type": "WEBHOOK", "url": receiver.url(), "timeout_ms": 250, "concurrency": 8, "retry": retry,
             "batch": {"max_events": 20, "max_wait_ms": 5}},
            {"type": "REDIS", "url": redis.url()}]))
        .await?;

    let user = json!({"user": {"username": "root", "password": "correct horse"}});
    let made = process.post("/api/v1/users", user, None).await?;
    let token = made["data"]["token"].as_str().context("no token")?.to_owned();
    let path = format!("/api/v1/stakeholders/{}/events", setup.stakeholder);
    let first = Socket::open(process.api(), &path, Some(&token)).await?.after;
    let (moved, address) = watch::channel(process.api());
    let (heard, hears) = watch::channel(Vec::new());
    let listener = tokio::spawn(listen(address, path, token, first, heard));

    let (next, done, stop) =
        (Arc::default(), Arc::<AtomicI64>::default(), Arc::<AtomicBool>::default());
    let mut writers = Vec::new();
    for writer in 0..3 {
        let client = setup.database.connect().await?;
        let (next, done, stop) = (Arc::clone(&next), Arc::clone(&done), Arc::clone(&stop));
        writers.push(tokio::spawn(write(client, seed ^ writer, next, done, stop)));
    }
    for kill in 0..KILLS {
        let wanted =
            (i64::try_from(kill)? + 1) * TRANSACTIONS + random.random_range(0..TRANSACTIONS / 2);
        until("enough is written", async || Ok(done.load(Ordering::Relaxed) >= wanted)).await?;
        match kill % 2 {
            0 => receiver.stop(),
            _ => receiver.restart().await?,
        }
        process.kill()?;
        process = setup.process().await?;
        moved.send_replace(process.api());
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    receiver.restart().await?;
    receiver.answer(|_| 204.into());
    // All that was written comes before this.
    setup.run("INSERT INTO items VALUES (1000000, 0)").await?;
    let is_last = |events: &[Value]| events.iter().any(|event| event["record"]["id"] == 1_000_000);
    let streams = async || -> Result<Vec<Value>> {
        let mut events = Vec::new();
        for table in TABLES {
            let entries = redis.stream(&format!("integratedb:reporting:public.{table}")).await?;
            events.extend(entries.into_iter().map(|(_, event)| event));
        }
        Ok(events)
    };
    until("the socket has it all", async || Ok(is_last(&hears.borrow()))).await?;
    until("Redis has it all", async || Ok(is_last(&streams().await?))).await?;
    until("the webhook has it all", async || Ok(is_last(&receiver.taken()))).await?;
    setup.is_through("WEBHOOK").await?;
    listener.abort();

    let truth = state_in(&setup.client).await?;
    let stored: Vec<String> =
        logged(&setup.client).await?.iter().map(|change| change.id.to_string()).collect();
    ensure!(!truth.is_empty(), "there is nothing to compare");
    for (name, events) in [
        ("socket", hears.borrow().clone()),
        ("Redis", streams().await?),
        ("webhook", receiver.taken()),
    ] {
        let state = state_of(&events).with_context(|| format!("{name}, seed {seed}"))?;
        ensure!(
            state == truth,
            "{name}, seed {seed}: {} rows instead of {}",
            state.len(),
            truth.len()
        );
        let ids: BTreeSet<&str> = events.iter().filter_map(|event| event["id"].as_str()).collect();
        eprintln!("{name}: {} events, {} of them twice", ids.len(), events.len() - ids.len());
        ensure!(name != "Redis" || ids.len() == events.len(), "a stream has an event twice");
        let missing: Vec<_> = stored.iter().filter(|id| !ids.contains(id.as_str())).collect();
        ensure!(
            missing.is_empty(),
            "{name}, seed {seed}: {missing:?} of {} are missing",
            stored.len()
        );
    }
    Ok(())
}
