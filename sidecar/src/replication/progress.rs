//! How far a reader is, for whoever has to know at each read.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use integratedb_wire::Lsn;

/// How far a reader is. Positions never go back while a connection lasts.
#[derive(Debug, Default)]
pub struct Progress {
    applied: AtomicU64,
    confirmed: AtomicU64,
    streaming: AtomicBool,
    fresh: Mutex<Option<Instant>>,
}

impl Progress {
    /// All that committed before this position is delivered.
    pub fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// What the origin was told it may forget.
    pub fn confirmed(&self) -> Lsn {
        Lsn(self.confirmed.load(Ordering::Acquire))
    }

    /// Whether a connection stands.
    pub fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Acquire)
    }

    /// A time at which all that was committed then is delivered now; of the present connection, if there is one.
    pub fn fresh_as_of(&self) -> Option<Instant> {
        *self.fresh.lock().expect("nobody panics while holding it")
    }

    pub(super) fn start(&self, applied: Lsn) {
        self.set_fresh(None);
        self.applied.store(applied.0, Ordering::Release);
        self.confirmed.store(0, Ordering::Release);
        self.streaming.store(true, Ordering::Release);
    }

    pub(super) fn stop(&self) {
        self.streaming.store(false, Ordering::Release);
    }

    pub(super) fn set_applied(&self, position: Lsn) {
        self.applied.store(position.0, Ordering::Release);
    }

    pub(super) fn set_confirmed(&self, position: Lsn) {
        self.confirmed.store(position.0, Ordering::Release);
    }

    pub(super) fn set_fresh(&self, as_of: Option<Instant>) {
        *self.fresh.lock().expect("nobody panics while holding it") = as_of;
    }
}
