//! No stale read, whatever happens in whatever order; and the proof that this test would notice.
//!
//! `CASES=20000 cargo test -p integratedb-cache --release --test consistency` looks longer.

mod support;

use integratedb_cache::Faults;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestError, TestRunner};
use support::{Step, run};

fn step() -> impl Strategy<Value = Step> {
    let session = 0..3_usize;
    let number = 0..60_usize;
    prop_oneof![
        4 => prop::option::weighted(0.4, session.clone()).prop_map(|session| Step::Begin { session }),
        8 => (number.clone(), 0..3_u32, 0..3_i64, 0..2_i64)
            .prop_map(|(open, table, id, group)| Step::Write { open, table, id, group }),
        1 => (number.clone(), 0..3_u32).prop_map(|(open, view)| Step::Show { open, view }),
        6 => number.clone().prop_map(|open| Step::Commit { open }),
        6 => number.clone().prop_map(|open| Step::End { open }),
        6 => (1..4_usize).prop_map(|count| Step::Apply { count }),
        2 => number.clone().prop_map(|fence| Step::Settle { fence }),
        1 => Just(Step::Probe),
        20 => (session.clone(), number.clone()).prop_map(|(session, query)| Step::Fill { session, query }),
        14 => (session.clone(), number).prop_map(|(session, query)| Step::Lookup { session, query }),
        4 => any::<bool>().prop_map(|spills| Step::Save { spills }),
        6 => session.prop_map(|session| Step::Read { session }),
        1 => (0..3_u32, any::<u8>()).prop_map(|(table, kind)| match kind {
            0..100 => Step::Publish { table },
            100..140 => Step::Unpublish { table },
            140..180 => Step::Purge { table },
            180..205 => Step::Restart,
            205..215 => Step::Shed,
            215..220 => Step::Spills { spills: false },
            220..230 => Step::Spills { spills: true },
            _ => Step::Lose,
        }),
    ]
}

/// Steps, with the numbers of queries drawn from a few, so that they meet.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let few = prop::collection::vec(0..60_usize, 1..4);
    (prop::collection::vec(step(), 20..160), few).prop_map(|(mut steps, few)| {
        for step in &mut steps {
            if let Step::Fill { query, .. } | Step::Lookup { query, .. } = step {
                *query = few[*query % few.len()];
            }
        }
        steps
    })
}

fn cases(usual: u32) -> u32 {
    std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        rng_algorithm: RngAlgorithm::XorShift,
        rng_seed: RngSeed::Fixed(42),
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Config::default()
    })
}

/// Enough for a few entries only.
const FEW: usize = 4_500;

/// Enough for all entries, and for a few only.
fn bound() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1_usize << 20), Just(FEW)]
}

#[test]
fn no_stale_read_exists() {
    let (mut hits, mut disk_hits) = (0, 0);
    for part in 0..4 {
        let (count, of_disk) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let result = TestRunner::new(Config {
            rng_seed: RngSeed::Fixed(part),
            ..runner(cases(2000) / 4).config().clone()
        })
        .run(&(steps(), bound()), |(steps, bound)| {
            match run(&steps, Faults::default(), bound) {
                Ok((hits, disk_hits)) => {
                    count.set(count.get() + hits);
                    of_disk.set(of_disk.get() + disk_hits);
                }
                Err(wrong) => return Err(TestCaseError::fail(wrong.0)),
            }
            Ok(())
        });
        if let Err(error) = result {
            panic!("{error}");
        }
        hits += count.get();
        disk_hits += of_disk.get();
    }
    assert!(hits > 1000, "only {hits} hits: the test tests nothing");
    assert!(disk_hits > 300, "only {disk_hits} hits from disk: the test tests nothing");
}

/// Runs with a fault until a stale read is found.
fn is_caught(faults: Faults) {
    let config = Config { max_shrink_iters: 0, ..runner(cases(20_000)).config().clone() };
    let result = TestRunner::new(config).run(&steps(), |steps| {
        run(&steps, faults, 1 << 20).map(drop).map_err(|wrong| TestCaseError::fail(wrong.0))
    });
    assert!(matches!(result, Err(TestError::Fail(..))), "{faults:?} was not noticed");
}

#[test]
fn comparing_positions_only_is_caught() {
    is_caught(Faults { compare_lsn_only: true, ..Faults::default() });
}

#[test]
fn a_forgotten_fence_is_caught() {
    is_caught(Faults { forget_fence: true, ..Faults::default() });
}

#[test]
fn a_skipped_journal_is_caught() {
    is_caught(Faults { skip_journal: true, ..Faults::default() });
}

#[test]
fn ignoring_what_a_session_has_seen_is_caught() {
    is_caught(Faults { ignore_seen: true, ..Faults::default() });
}

#[test]
fn judging_before_the_read_is_caught() {
    is_caught(Faults { judge_before_read: true, ..Faults::default() });
}
