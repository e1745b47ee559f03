//! Models that are rows of the database itself, and go to an API and to a second Postgres.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use support::{Cluster, Faults, Judge, Knows, Model, SyncPeers};
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::killed::Killed;
use crate::setup::Setup;
use crate::world::{self, CLASSES};
use crate::{duration, environment, rows, seed};

/// Failures of a hundred requests at the API.
const FAILURES: u64 = 30;

/// How many write at once.
const WRITERS: u64 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_targets_end_with_what_the_tables_have() -> Result<()> {
    let (seed, time) = (seed()?, duration()?);
    let mut setup = Setup::new(rows::SCHEMA).await?;
    rows::fill(&setup.client, environment("MODELS")?.unwrap_or(2000) / 2).await?;
    let elsewhere = Cluster::start().await?;
    let second = elsewhere.database("elsewhere").await?;
    let copy = second.connect().await?;
    // With its foreign keys: what comes in another order is refused.
    copy.batch_execute(rows::SCHEMA).await?;
    let judge = Judge::new(Knows::KeysAreNew);
    let faults = Faults::new(seed, FAILURES);
    let peers = SyncPeers::start(judge, faults, |_| None, world::target).await?;
    let killed = setup.sidecars(seed).await?;
    declare(&setup, &killed, &peers, &second.url()).await?;
    setup.is_followed().await?;
    let patience = Duration::from_secs(60) + time * 3;
    let first = rows::all(&setup.client).await?;
    setup.converges(&peers, patience, async || differences(&peers, &first, &copy).await).await?;

    let (stop, stopped) = watch::channel(false);
    let rage = tokio::spawn(killed.rage(stopped));
    let is_over = Arc::new(AtomicBool::new(false));
    let cuts = tokio::spawn(cut(second.connect().await?, Arc::clone(&is_over)));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = setup.database.connect().await?;
        writers.push(tokio::spawn(rows::write(client, seed ^ writer, Arc::clone(&is_over))));
    }
    tokio::time::sleep(time).await;
    is_over.store(true, Ordering::Relaxed);
    let mut committed = 0;
    for writer in writers {
        committed += writer.await??;
    }
    let cuts = cuts.await??;
    stop.send_replace(true);
    let killed = rage.await??;

    let source = rows::all(&setup.client).await?;
    setup.converges(&peers, patience, async || differences(&peers, &source, &copy).await).await?;
    let counts = peers.judge().counts();
    eprintln!(
        "{committed} transactions, {} rows in the end, {} kills, {} blind, {cuts} cuts, {counts:?}",
        source.len(),
        killed.kills,
        killed.blinds
    );
    ensure!(killed.kills > 0 && cuts > 0 && counts.deletes > 0, "too little has happened");
    Ok(())
}

/// Where the targets have anything else than the source.
async fn differences(
    peers: &SyncPeers,
    source: &BTreeMap<Model, Value>,
    copy: &Client,
) -> Result<Vec<String>> {
    let mut differ = peers.judge().compare(source.clone());
    let copied = rows::all(copy).await?;
    let lost = source.iter().filter(|(model, n)| copied.get(model) != Some(n));
    differ.extend(lost.map(|(model, n)| format!("{model}: not {n} in the second Postgres")));
    let more = copied.keys().filter(|model| !source.contains_key(model));
    differ.extend(more.map(|model| format!("{model}: still in the second Postgres")));
    Ok(differ)
}

/// Makes the tables sources, and has their rows go to both targets.
async fn declare(setup: &Setup, killed: &Killed, peers: &SyncPeers, second: &str) -> Result<()> {
    let body = json!({"stakeholder": {"name": "reporting"}});
    let made = setup.call(killed, "POST", "/api/v1/stakeholders", body).await?;
    let path = format!("/api/v1/stakeholders/{}", made["data"]["id"].as_i64().context("no id")?);
    let claims: Vec<Value> = rows::TABLES
        .iter()
        .map(|table| json!({"path": format!("public.{table}"), "fields": ["*"]}))
        .collect();
    let body = json!({"data": {"match": claims}});
    setup.call(killed, "PUT", &format!("{path}/claims"), body).await?;
    let told: Vec<Value> = rows::TABLES
        .iter()
        .map(|table| json!({"path": format!("public.{table}"), "events": ["*"], "fields": ["*"], "channels": ["*"]}))
        .collect();
    let body = json!({"data": {"match": told}});
    setup.call(killed, "PUT", &format!("{path}/notifications"), body).await?;
    for (class, table) in CLASSES.iter().zip(rows::TABLES) {
        let mut source = json!({"table": format!("public.{table}")});
        let above = CLASSES.iter().take_while(|above| *above != class).last();
        if let Some(above) = above {
            source["parent"] = json!({"class": above, "columns": ["parent_id"]});
        }
        let body = json!({ "source": source });
        setup.call(killed, "PUT", &format!("{path}/sources/{class}"), body).await?;
    }
    let integrations = format!("{path}/integrations");
    setup.call(killed, "POST", &integrations, world::integration("api", peers)).await?;
    let table = |(class, table): (&&str, &str)| {
        ((*class).to_owned(), json!({"table": format!("public.{table}")}))
    };
    let tables: Map<String, Value> = CLASSES.iter().zip(rows::TABLES).map(table).collect();
    let settings = json!({"url": second, "tables": tables});
    let body = json!({"integration": {"name": "copy", "kind": "postgres", "settings": settings}});
    setup.call(killed, "POST", &integrations, body).await?;
    Ok(())
}

/// Ends what is connected to the second Postgres now and then; gives how many connections it ended.
async fn cut(client: Client, is_over: Arc<AtomicBool>) -> Result<i64> {
    let mut cuts = 0;
    while !is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name LIKE 'integratedb%'";
        cuts += client.query_one(sql, &[]).await?.get::<_, i64>(0);
    }
    Ok(cuts)
}
