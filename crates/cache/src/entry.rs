//! One stored result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Answer, Lsn, Pin, Snapshot};

/// The two counts in front of what an `Arc` holds.
pub(crate) const ARC_HEADER: usize = 2 * size_of::<usize>();

/// One stored result: its bytes, the snapshot it was read at and what it depends on. It never changes.
#[derive(Debug)]
pub struct Entry<L> {
    /// What is sent.
    pub answer: Answer,
    /// No newer than the snapshot the answer was read at.
    pub read_at: Snapshot,
    /// The log's end after it was read, so no older than anything it shows.
    pub position: Lsn,
    /// What it depends on.
    pub pins: Box<[Pin]>,
    /// What the caller counts hits by.
    pub label: Arc<L>,
    /// What the query cost the origin.
    pub cost: Duration,
    /// When it stops to count, whatever replication says.
    pub until: Option<Instant>,
    /// Whether it counts only as long as replication sees all that could make it stale.
    pub seen_by_replication: bool,
}

impl<L> Entry<L> {
    /// What it takes in memory, apart from its places in tables.
    pub fn footprint(&self) -> usize {
        ARC_HEADER
            + size_of::<Self>()
            + self.answer.footprint()
            + size_of_val::<[Pin]>(&self.pins)
            + size_of_val(&*self.read_at.in_progress)
    }

    /// Whether its time is over.
    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}
