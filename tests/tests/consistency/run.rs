//! A run: clients, writers and trouble at the same time, and then the checker.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::MissedTickBehavior;

use crate::check::{Verdict, check};
use crate::history::Course;
use crate::jobs::{IDS, Jobs};
use crate::log;
use crate::model::Table;
use crate::nemesis::{Nemesis, pause};
use crate::perform::Actor;
use crate::query::Query;
use crate::random::Random;
use crate::report;
use crate::world::{Figures, Path, Span, World};

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// Pairs of sessions through the proxy, each pair in step.
    pub(crate) pairs: usize,
    /// Of a hundred things that these do, how many write.
    pub(crate) writes: u64,
    /// Sessions around the proxy; they only write.
    pub(crate) writers: usize,
    /// The most milliseconds between two of their transactions.
    pub(crate) rest: u64,
    /// Of a hundred queries, how many are slow.
    pub(crate) slow: u64,
    pub(crate) trouble: Vec<Nemesis>,
}

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) faults: Vec<String>,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) disk_hits: u64,
}

impl Outcome {
    /// Errors with an account of what is wrong.
    pub(crate) fn judge(&self) -> Result<()> {
        let faults = self.faults.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n");
        ensure!(
            self.faults.is_empty(),
            "{} answers are none of Postgres\n{faults}",
            self.faults.len()
        );
        ensure!(self.verdict.violations.is_empty(), "{}", report::violations(&self.verdict));
        let Verdict { undecided, reads, .. } = self.verdict;
        ensure!(undecided * 50 <= reads, "{undecided} of {reads} answers could not be decided");
        Ok(())
    }

    /// Whether anything is wrong.
    pub(crate) fn is_wrong(&self) -> bool {
        !self.verdict.violations.is_empty()
    }
}

/// Runs for a time.
pub(crate) async fn run(
    world: &World,
    load: &Workload,
    seed: u64,
    time: Duration,
) -> Result<Outcome> {
    let initial = log::state(&world.admin).await?;
    log::take(&world.admin).await?;
    world.is_serving().await?;
    let before = world.figures().await?;
    let mut random = Random::new(seed);
    let span = world.span(time);
    let pairs = (0..load.pairs).map(|_| pair(world, load, random.split(), span));
    let pairs = all(pairs.collect());
    let writers = (0..load.writers).map(|_| writer(world, load, random.split(), span));
    let writers = all(writers.collect());
    let trouble = load.trouble.iter().map(|nemesis| nemesis.act(world, random.split(), span));
    let trouble = all(trouble.collect());
    tokio::try_join!(pairs, writers, trouble, sampler(world, span))?;
    outcome(world, initial, before).await
}

async fn outcome(world: &World, initial: crate::model::State, before: Figures) -> Result<Outcome> {
    let commits = log::take(&world.admin).await?;
    let last = log::state(&world.admin).await?;
    let after = world.figures().await?;
    let history = world.take_history();
    let (course, mut faults) = Course::follow(initial, commits, &history.writes);
    ensure!(course.last() == last, "the model does not follow the log");
    faults.extend(history.faults.iter().cloned());
    let verdict = check(&course, &history, world.promise);
    let (hits, misses) = (after.hits - before.hits, after.misses - before.misses);
    let disk_hits = after.disk_hits - before.disk_hits;
    Ok(Outcome { verdict, faults, hits, misses, disk_hits })
}

/// Runs all at the same time; errors with the first that does.
async fn all<F: Future<Output = Result<()>>>(futures: Vec<F>) -> Result<()> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(move |cx| {
        let mut is_ready = true;
        for slot in &mut futures {
            let Some(future) = slot else { continue };
            match future.as_mut().poll(cx) {
                std::task::Poll::Ready(Ok(())) => *slot = None,
                std::task::Poll::Ready(Err(error)) => return std::task::Poll::Ready(Err(error)),
                std::task::Poll::Pending => is_ready = false,
            }
        }
        if is_ready { std::task::Poll::Ready(Ok(())) } else { std::task::Poll::Pending }
    })
    .await
}

/// Asks the reader how far it is.
async fn sampler(world: &World, span: Span) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !world.is_over(span) {
        ticks.tick().await;
        world.sample().await?;
    }
    Ok(())
}

/// Writes around the proxy.
async fn writer(world: &World, load: &Workload, random: Random, span: Span) -> Result<()> {
    let mut actor = Actor::new(world, Path::Around, "app", random).await?;
    while !world.is_over(span) {
        let job = Jobs { random: &mut actor.random, version: &|| world.version() }.any();
        actor.write(&job).await.with_context(|| format!("{job:?}"))?;
        pause(&mut actor.random, 0, load.rest).await;
    }
    Ok(())
}

/// Two sessions through the proxy. What one does may be about what the other has just done.
async fn pair(world: &World, load: &Workload, mut random: Random, span: Span) -> Result<()> {
    let mut actors = [
        Actor::new(world, Path::Through, "app", random.split()).await?,
        Actor::new(world, Path::Through, "app", random.split()).await?,
    ];
    while !world.is_over(span) {
        let at = random.below(2) as usize;
        let queries: Vec<Query> = (0..3).map(|_| query(&mut random, load)).collect();
        if random.percent(load.writes) {
            let job = Jobs { random: &mut random, version: &|| world.version() }.any();
            actors[at].write(&job).await.with_context(|| format!("{job:?}"))?;
            // Both look at what may have been written.
            for actor in &mut actors {
                actor.read(&Query::Item(random.upto(4))).await?;
            }
            continue;
        }
        let actor = &mut actors[at];
        match random.below(100) {
            0..70 => drop(actor.read(&queries[0]).await?),
            70..82 => actor.read_in_block(&queries).await?,
            82..92 => actor.pipeline(None, &queries).await?,
            92..95 => {
                let job = Jobs { random: &mut random, version: &|| world.version() }.change();
                actor.pipeline(Some(&job), &queries).await?;
            }
            _ => {
                // What one transaction has written to several tables.
                let id = random.upto(4);
                for query in [Query::Item(id), Query::Name(id), Query::Audit(id), Query::Wide(id)] {
                    actor.read(&query).await?;
                }
            }
        }
    }
    Ok(())
}

fn query(random: &mut Random, load: &Workload) -> Query {
    if random.percent(load.slow) {
        return Query::Slow;
    }
    let most = if random.percent(70) { 4 } else { IDS };
    let id = random.upto(most);
    match random.below(26) {
        0..5 => Query::Item(id),
        5..7 => {
            let first = random.upto(4);
            Query::ItemsIn([first, first + 1, first + 5])
        }
        7..9 => Query::Join(id),
        9..11 => Query::Totals(*random.one_of(&[
            Table::Items,
            Table::Orders,
            Table::Parts,
            Table::Owned,
            Table::Names,
        ])),
        11..13 => Query::Audit(id),
        13..16 => Query::Owner(random.upto(6)),
        16 => Query::Chosen,
        17..19 => Query::Part(id, random.upto(3)),
        19 => Query::Region(random.upto(3)),
        20..22 => Query::Wide(id),
        22..24 => Query::Secret(id),
        _ => Query::Name(id),
    }
}
