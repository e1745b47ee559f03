//! The position that sessions wait for, and how long that usually takes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use integratedb_cache::Lsn;
use tokio::sync::Notify;

/// One in so many waits against expectation, to notice when it takes less time than it did.
const ANYWAY: u64 = 16;

/// See the module.
#[derive(Default)]
pub(crate) struct Awaited {
    position: AtomicU64,
    expected: Notify,
    /// Microseconds, of the last waits more than of those before.
    usual: AtomicU64,
    asked: AtomicU64,
}

impl Awaited {
    /// Somebody waits for this position.
    pub(super) fn expect(&self, position: Lsn) {
        self.position.fetch_max(position.0, SeqCst);
        self.expected.notify_one();
    }

    /// The furthest that was waited for, once somebody waits.
    pub(super) async fn next(&self) -> Lsn {
        self.expected.notified().await;
        Lsn(self.position.load(SeqCst))
    }

    /// Positions of another origin are nothing to wait for.
    pub(super) fn forget(&self) {
        self.position.store(0, SeqCst);
    }

    /// A wait is over.
    pub(crate) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(1_000_000);
        // Two that write at once lose one of the two, which matters little.
        let usual = self.usual.load(Relaxed);
        self.usual.store((usual * 7 + took) / 8, Relaxed);
    }

    /// How long a wait is expected to take; now and then nothing, so that it is tried.
    pub(super) fn usually(&self) -> Duration {
        match self.asked.fetch_add(1, Relaxed) % ANYWAY {
            0 => Duration::ZERO,
            _ => Duration::from_micros(self.usual.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_usually_takes_long_is_tried_now_and_then() {
        let awaited = Awaited::default();
        (0..100).for_each(|_| awaited.note(Duration::from_millis(4)));
        let tried = (0..160).filter(|_| awaited.usually() < Duration::from_millis(1)).count();
        assert_eq!(tried, 10);
        (0..100).for_each(|_| awaited.note(Duration::from_micros(100)));
        assert_eq!((0..160).filter(|_| awaited.usually() < Duration::from_millis(1)).count(), 160);
    }
}
