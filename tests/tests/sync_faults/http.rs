//! Models of an API, of which sidecars are told by notifications.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use support::{Faults, Judge, Knows, SyncPeers};
use tokio::sync::watch;

use crate::notifier::Notifier;
use crate::setup::{Setup, TOKEN};
use crate::world::{self, CLASSES, TENANT, World};
use crate::{duration, environment, seed};

/// Failures of a hundred requests.
const FAILURES: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_ends_with_what_the_api_has() -> Result<()> {
    let (seed, time) = (seed()?, duration()?);
    let world = World::new(environment("MODELS")?.unwrap_or(2000));
    let mut setup = Setup::new("").await?;
    let judge = Judge::new(Knows::All);
    let faults = Faults::new(seed, 0);
    let peers = SyncPeers::start(judge, faults, world::source, world::target).await?;
    let killed = setup.sidecars(seed).await?;
    let tenant =
        json!({"tenant": {"id": TENANT, "endpoint": peers.source.url(), "access_token": "x"}});
    setup.call(&killed, "PUT", "/tenant", tenant).await?;
    let path = format!("/api/v1/sync/tenants/{TENANT}");
    for (number, class) in CLASSES.iter().enumerate() {
        let body = json!({"class": world::definition(number)});
        setup.call(&killed, "PUT", &format!("{path}/classes/{class}"), body).await?;
    }
    let integration = world::integration("all", &peers);
    setup.call(&killed, "POST", &format!("{path}/integrations"), integration).await?;

    peers.faults.set(FAILURES);
    let notifier = Notifier::new(TOKEN, killed.api())?;
    let mut random = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    world.make(&peers, &notifier).await?;
    eprintln!("all models are made after {:?}", began.elapsed());
    let (stop, stopped) = watch::channel(false);
    let rage = tokio::spawn(killed.rage(stopped));
    let changes = world.change(&peers, &notifier, &mut random, time).await?;
    stop.send_replace(true);
    let killed = rage.await??;
    notifier.finish(|model| world.said(model)).await?;
    let patience = Duration::from_secs(60) + time * 3;
    setup.converges(&peers, patience, async || Ok(peers.judge().differences())).await?;

    let counts = peers.judge().counts();
    eprintln!("{changes} changes, {} kills, {} blind, {counts:?}", killed.kills, killed.blinds);
    ensure!(killed.kills > 0 && counts.deletes > 0, "too little has happened");
    ensure!(counts.upserts * 10 > changes * 3, "much was never pushed, and nothing missed it");
    Ok(())
}
