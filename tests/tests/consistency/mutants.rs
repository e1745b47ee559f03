//! Caches that are broken on purpose: the checker has to notice each.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integratedb_cache::Faults;

use crate::nemesis::Nemesis::{Bulk, SlowStandby, Stall};
use crate::run::{Workload, run};
use crate::world::World;
use crate::{environment, summary, with};

/// How long is looked for a wrong answer.
const PATIENCE: Duration = Duration::from_secs(40);

async fn is_caught(faults: Faults, load: Workload) -> Result<()> {
    let world = World::new(None, |caching| caching.faults = faults).await?;
    let began = Instant::now();
    let mut seed = environment("SEED", 1);
    let mut last = String::new();
    while began.elapsed() < PATIENCE {
        let outcome = run(&world, &load, seed, Duration::from_secs(2)).await?;
        last = summary(&outcome);
        if outcome.is_wrong() {
            eprintln!(
                "SEED={seed}, {last}, after {:?}: {}",
                began.elapsed(),
                outcome.verdict.violations[0].account
            );
            return Ok(());
        }
        seed += 1;
    }
    ensure!(false, "{faults:?} was not noticed: {last}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_catches_a_cache_that_compares_positions_only() -> Result<()> {
    is_caught(Faults { compare_lsn_only: true, ..Faults::default() }, with(&[SlowStandby])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_catches_a_cache_without_fences() -> Result<()> {
    is_caught(Faults { forget_fence: true, ..Faults::default() }, with(&[Stall])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_catches_a_cache_without_a_journal() -> Result<()> {
    let load = Workload { slow: 15, rest: 5, ..with(&[Bulk]) };
    is_caught(Faults { skip_journal: true, ..Faults::default() }, load).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_checker_catches_a_cache_that_lets_sessions_go_back() -> Result<()> {
    is_caught(Faults { ignore_seen: true, ..Faults::default() }, with(&[Stall, Bulk])).await
}
