//! One stored result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{Answer, Lsn, Pin, Snapshot};

/// The two counts in front of what an `Arc` holds.
pub(crate) const ARC_HEADER: usize = 2 * size_of::<usize>();

/// Where the bytes of an entry are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Here.
    Memory(Answer),
    /// In a file only.
    Disk {
        /// How long the answer is.
        bytes: usize,
        /// Whether it has a description.
        is_described: bool,
    },
}

// An entry takes no more than if all were in memory.
const _: () = assert!(size_of::<Body>() == size_of::<Answer>());

/// Whether a file holds an entry's bytes for good: its observer says so, once it does.
#[derive(Debug, Default)]
pub struct Durable(AtomicBool);

impl Durable {
    /// Of what was read from the file.
    pub const fn yes() -> Self {
        Self(AtomicBool::new(true))
    }

    /// The file has it from now on.
    pub fn note(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_noted(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// One stored result: its bytes, the snapshot it was read at and what it depends on. It never changes: one whose bytes
/// go to disk, or come from there, is another with all else the same.
#[derive(Debug)]
pub struct Entry<L> {
    /// What is sent, or where it is.
    pub body: Body,
    /// Whether a file has its bytes.
    pub durable: Durable,
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
            + self.answer().map_or(0, Answer::footprint)
            + size_of_val::<[Pin]>(&self.pins)
            + size_of_val(&*self.read_at.in_progress)
    }

    /// What is sent, if it is in memory.
    pub const fn answer(&self) -> Option<&Answer> {
        match &self.body {
            Body::Memory(answer) => Some(answer),
            Body::Disk { .. } => None,
        }
    }

    /// Whether the answer has a description.
    pub fn is_described(&self) -> bool {
        match &self.body {
            Body::Memory(answer) => !answer.description().is_empty(),
            Body::Disk { is_described, .. } => *is_described,
        }
    }

    /// Bytes of it that are on disk only.
    pub(crate) const fn bytes_on_disk(&self) -> Option<usize> {
        match &self.body {
            Body::Memory(_) => None,
            Body::Disk { bytes, .. } => Some(*bytes),
        }
    }

    /// The same, without the bytes: for who has them on disk.
    pub fn without_answer(&self) -> Self {
        let bytes = self.answer().map(|answer| answer.all().len());
        let bytes = bytes.or(self.bytes_on_disk()).unwrap_or_default();
        self.with(Body::Disk { bytes, is_described: self.is_described() })
    }

    /// The same, with what was read from the disk.
    pub(crate) fn with_answer(&self, answer: Answer) -> Self {
        self.with(Body::Memory(answer))
    }

    fn with(&self, body: Body) -> Self {
        Self {
            body,
            durable: Durable::yes(),
            read_at: self.read_at.clone(),
            position: self.position,
            pins: self.pins.clone(),
            label: Arc::clone(&self.label),
            cost: self.cost,
            until: self.until,
            seen_by_replication: self.seen_by_replication,
        }
    }

    /// Whether its time is over.
    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}
