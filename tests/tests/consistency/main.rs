//! Is every answer that the cache gives the true one at a moment that the client may be shown?
//!
//! Clients read and write through the proxy while others write around it, the schema changes, and the reader of the
//! log is held up, killed and cut off. The checker then holds each answer against the commits in the log. So that it
//! is known to notice, it is also run on caches that are broken on purpose.
//!
//! `SEED` sets which choices are made, `SECONDS` how long they are made for.

mod check;
mod check_tests;
mod client;
mod history;
mod jobs;
mod log;
mod model;
mod mutants;
mod nemesis;
mod perform;
mod query;
mod random;
mod report;
mod run;
mod world;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::cache::{CachingSettings, Consistency, DiskSettings, SlotKind};
use integratedb_sidecar::proxy::PoolMode;

use nemesis::Nemesis::{self, Break, Bulk, KillSql, KillWalsender, Schema, SlowStandby, Stall};
use run::{Outcome, Workload, run};
use tempfile::TempDir;
use world::World;

/// A number of the environment.
fn environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn calm() -> Workload {
    Workload { pairs: 3, writes: 8, writers: 2, rest: 20, slow: 3, trouble: Vec::new() }
}

fn with(trouble: &[Nemesis]) -> Workload {
    Workload { trouble: trouble.to_vec(), ..calm() }
}

/// Commits come late, or before they are visible; but the cache goes on.
const LATE: [Nemesis; 3] = [Stall, SlowStandby, Bulk];

/// The schema changes, and the cache has to begin anew at times.
const BROKEN: [Nemesis; 6] = [Stall, SlowStandby, Schema, KillWalsender, KillSql, Break];

/// Rounds of three seconds each, with these kinds of trouble by turns. Gives how many answers came from disk.
async fn rounds(
    mode: Option<PoolMode>,
    adjust: impl FnOnce(&mut CachingSettings),
    troubles: &[&[Nemesis]],
) -> Result<u64> {
    const ROUND: u64 = 3;
    let world = World::new(mode, adjust).await?;
    let first = environment("SEED", 1);
    let seconds = environment("SECONDS", ROUND * troubles.len() as u64);
    let (mut hits, mut disk_hits, mut answers) = (0, 0, 0);
    for round in 0..seconds.div_ceil(ROUND) as usize {
        let seed = first + round as u64;
        let trouble = troubles[round % troubles.len()];
        let outcome = run(&world, &with(trouble), seed, Duration::from_secs(ROUND)).await;
        let outcome = outcome.with_context(|| format!("SEED={seed}, {trouble:?}"))?;
        let summary = summary(&outcome);
        outcome.judge().with_context(|| format!("SEED={seed}, {trouble:?}: {summary}"))?;
        eprintln!("SEED={seed}, {trouble:?}: {summary}");
        hits += outcome.hits;
        disk_hits += outcome.disk_hits;
        answers += outcome.verdict.reads as u64;
    }
    // Most trouble has the cache pass queries on for a while, and every change of the schema empties it.
    // On a busy machine a round is mostly waiting.
    ensure!(hits * 25 > answers, "{hits} hits among {answers} answers prove little");
    Ok(disk_hits)
}

fn summary(outcome: &Outcome) -> String {
    let verdict = &outcome.verdict;
    format!(
        "{} answers, {} commits, {} hits ({} from disk), {} misses, {} contested, {} undecided",
        verdict.reads,
        verdict.commits,
        outcome.hits,
        outcome.disk_hits,
        outcome.misses,
        verdict.contested,
        verdict.undecided
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_true_at_some_snapshot() -> Result<()> {
    rounds(None, |_| {}, &[&[], &LATE, &BROKEN]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_true_where_connections_are_shared() -> Result<()> {
    let adjust = |caching: &mut CachingSettings| caching.slot = SlotKind::Permanent;
    rounds(Some(PoolMode::Transaction), adjust, &[&LATE, &BROKEN]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revalidated_answer_is_as_fresh_as_the_origins() -> Result<()> {
    let adjust = |caching: &mut CachingSettings| caching.consistency = Consistency::Revalidate;
    rounds(None, adjust, &[&LATE]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_bounded_age_is_no_older() -> Result<()> {
    let adjust = |caching: &mut CachingSettings| caching.consistency = Consistency::Bounded(100);
    rounds(None, adjust, &[&LATE]).await.map(drop)
}

/// Has each answer leave memory as soon as it is on disk, and come back from there each time it is given.
fn on_disk(folder: &TempDir) -> impl FnOnce(&mut CachingSettings) + use<> {
    let disk = DiskSettings {
        only: true,
        // On a busy machine, a disk that is slow is no reason to prove nothing.
        wait_ms: 2000,
        ..DiskSettings::new(folder.path().join("disk"))
    };
    |caching| {
        caching.slot = SlotKind::Permanent;
        caching.disk = Some(disk);
    }
}

async fn rounds_on_disk(
    mode: Option<PoolMode>,
    consistency: Consistency,
    troubles: &[&[Nemesis]],
) -> Result<()> {
    let folder = TempDir::new()?;
    let adjust = |caching: &mut CachingSettings| {
        on_disk(&folder)(caching);
        caching.consistency = consistency;
    };
    let disk_hits = rounds(mode, adjust, troubles).await?;
    ensure!(disk_hits > 50, "{disk_hits} answers from disk prove little");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_from_disk_is_true_at_some_snapshot() -> Result<()> {
    rounds_on_disk(None, Consistency::ReadYourWrites, &[&[], &LATE, &BROKEN]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_from_disk_is_true_where_connections_are_shared() -> Result<()> {
    let mode = Some(PoolMode::Transaction);
    rounds_on_disk(mode, Consistency::ReadYourWrites, &[&LATE, &BROKEN]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_from_disk_is_revalidated() -> Result<()> {
    rounds_on_disk(None, Consistency::Revalidate, &[&LATE]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_from_disk_is_of_bounded_age() -> Result<()> {
    rounds_on_disk(None, Consistency::Bounded(100), &[&LATE]).await
}
