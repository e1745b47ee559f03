//! What the cache has made of a template.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use integratedb_cache::{ChangeRate, Key};
use siphasher::sip128::SipHasher13;

use super::description::Plan;

/// The share of its time that an answer may be expected to be stale at a time to live that is recommended.
const STALE: f64 = 0.01;

/// How many entries dropped tell whether more are worth it.
const LATELY: u64 = 1024;

/// One answer in so many has to be given again: about what it costs to keep one, in answers to cheap queries.
const GIVEN_AGAIN: u64 = 3;

/// What the origin takes for a query beside which the cost of keeping its answer does not show.
const DEAR: Duration = Duration::from_millis(1);

/// One in so many is kept though it was not worth it of late.
const ANYWAY: u64 = 16;

/// Times to live that are recommended.
const TTL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// Counts of one template, and what is known of it.
#[derive(Debug, Default)]
pub(crate) struct CacheFigures {
    pub(crate) hits: AtomicU64,
    /// Fetched to be kept.
    pub(crate) misses: AtomicU64,
    pub(crate) stored: AtomicU64,
    /// Microseconds that the origin did not work.
    pub(crate) saved_micros: AtomicU64,
    /// Of late: entries dropped by a change or for want of room, and answers given.
    lately: [AtomicU64; 2],
    /// Answers that were not fetched to be kept because it was not worth it.
    passed: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What was last said of a statement of this template.
    plan: Option<Arc<Plan>>,
    /// Why the last answer was not kept that was to be.
    refusal: Option<&'static str>,
    /// How often answers to the same question are others.
    changes: Option<Box<ChangeRate>>,
}

impl CacheFigures {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer is fetched to be kept.
    pub(crate) fn miss(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    /// An entry was dropped by a change or for want of room.
    pub(crate) fn loss(&self) {
        let [dropped, given] = &self.lately;
        if dropped.fetch_add(1, Relaxed) >= LATELY {
            dropped.fetch_sub(LATELY / 2, Relaxed);
            given.store(given.load(Relaxed) / 2, Relaxed);
        }
    }

    /// Whether an answer is worth what it costs to fetch it so that it can be kept: some of those that were dropped had
    /// been given again before, or the origin takes so long that this cost does not show. Now and then, to see whether
    /// it is by now.
    pub(crate) fn is_worth_keeping(&self, mean_cost: Duration) -> bool {
        let [dropped, given] = [&self.lately[0], &self.lately[1]].map(|count| count.load(Relaxed));
        dropped < LATELY / 4
            || given * GIVEN_AGAIN >= dropped
            || mean_cost >= DEAR
            || self.passed.fetch_add(1, Relaxed).is_multiple_of(ANYWAY)
    }

    pub(crate) fn hit(&self, saved: Duration) {
        self.hits.fetch_add(1, Relaxed);
        self.lately[1].fetch_add(1, Relaxed);
        let micros = u64::try_from(saved.as_micros()).unwrap_or(u64::MAX);
        self.saved_micros.fetch_add(micros, Relaxed);
    }

    pub(crate) fn set_plan(&self, plan: &Arc<Plan>) {
        self.known().plan = Some(Arc::clone(plan));
    }

    pub(crate) fn plan(&self) -> Option<Arc<Plan>> {
        self.known().plan.clone()
    }

    pub(crate) fn set_refusal(&self, why: Option<&'static str>) {
        self.known().refusal = why;
    }

    /// Notes an answer that the origin gave, for how often it changes.
    pub(crate) fn watch(&self, key: Key, rows: &[u8], now: Instant) {
        let hash = SipHasher13::new().hash(rows).h1;
        self.known().changes.get_or_insert_default().observe(key, hash, now);
    }

    /// The longest time to live that leaves an answer stale for at most [`STALE`] of its time, if anything is known.
    pub(crate) fn recommended_ttl(&self) -> Option<Duration> {
        let known = self.known();
        let changes = known.changes.as_ref().filter(|changes| changes.intervals() > 0)?;
        Some(changes.recommended(STALE, TTL))
    }

    pub(crate) fn refusal(&self) -> Option<&'static str> {
        self.known().refusal
    }
}
