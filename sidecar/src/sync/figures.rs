//! Counts what the engine does.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What the engine of one sidecar has done.
#[derive(Debug, Default)]
pub struct SyncFigures {
    pub(super) fetching: AtomicI64,
    pub(super) pushing: AtomicI64,
    /// Fetches that got data, those that found the model gone, and those that failed.
    pub(super) fetched: [AtomicU64; 3],
    /// Pushes of data, deletions, and those that failed.
    pub(super) pushed: [AtomicU64; 3],
}

/// Something that is under way, until it is dropped.
pub(super) struct Running<'a>(&'a AtomicI64);

impl<'a> Running<'a> {
    fn new(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SyncFigures {
    /// How many fetches and pushes are under way.
    pub(crate) fn under_way(&self) -> (i64, i64) {
        (self.fetching.load(Ordering::Relaxed), self.pushing.load(Ordering::Relaxed))
    }

    pub(super) fn fetching(&self) -> Running<'_> {
        Running::new(&self.fetching)
    }

    pub(super) fn pushing(&self) -> Running<'_> {
        Running::new(&self.pushing)
    }

    /// A fetch has ended: whether the model is there; nothing if it failed.
    pub(super) fn fetched(&self, is_there: Option<bool>) {
        let which = match is_there {
            Some(true) => 0,
            Some(false) => 1,
            None => 2,
        };
        self.fetched[which].fetch_add(1, Ordering::Relaxed);
    }

    /// A push of data, or a deletion, has ended.
    pub(super) fn pushed(&self, is_data: bool, went_well: bool) {
        let which = if !went_well { 2 } else { usize::from(!is_data) };
        self.pushed[which].fetch_add(1, Ordering::Relaxed);
    }
}
