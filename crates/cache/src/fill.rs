//! What a fill brings, and what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Answer, Dependency, Lsn, Snapshot};

/// Remembers when a fill began. Take it before the fill's snapshot is asked for.
#[derive(Clone, Copy, Debug)]
pub struct FillTicket {
    pub(crate) sequence: u64,
    pub(crate) flushes: u64,
    /// Of no use but to [`crate::Faults`].
    pub(crate) applied: Lsn,
}

/// What a fill brings.
#[derive(Clone, Debug)]
pub struct FillResult<L> {
    /// The bytes.
    pub answer: Answer,
    /// All whose change can change the answer.
    pub dependencies: Vec<Dependency>,
    /// Taken at the origin after the ticket, and no newer than the query's own.
    pub snapshot: Snapshot,
    /// Taken at the origin no later than what the dependencies were told from.
    pub understood: Snapshot,
    /// The end of the origin's log, read after the answer.
    pub position: Lsn,
    /// How long the origin took.
    pub cost: Duration,
    /// What the caller counts hits by.
    pub label: Arc<L>,
    /// When it stops to count in any case.
    pub until: Option<Instant>,
    /// Whether replication sees every change of every dependency. If it does not, there must be an `until`.
    pub seen_by_replication: bool,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It is in the cache.
    Stored,
    /// It is not.
    Refused(Refusal),
}

/// Why a fill is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// A transaction that it may not have seen changed what it depends on.
    Changed,
    /// So many transactions changed its tables that it is no longer known whether it saw them all.
    Forgotten,
    /// The schema changed since the query was described.
    Schema,
    /// Replication does not see one of its tables, or not yet.
    NotCovered,
    /// The cache, or a part of it, was purged while it was under way.
    Purged,
    /// The cache was flushed while it was under way.
    Flushed,
    /// A write that replication does not see went through the proxy while it was under way.
    Disturbed,
    /// Replication does not see its dependencies, and it has no limit in time.
    Unlimited,
    /// It is larger than an entry may be.
    TooLarge,
    /// What is in the cache is worth more.
    NotWorthIt,
    /// Restored entries come while the cache is suspended and before any transaction is applied.
    TooLate,
}

impl Refusal {
    /// All of them, each at its own number.
    pub const ALL: [Self; 11] = [
        Self::Changed,
        Self::Forgotten,
        Self::Schema,
        Self::NotCovered,
        Self::Purged,
        Self::Flushed,
        Self::Disturbed,
        Self::Unlimited,
        Self::TooLarge,
        Self::NotWorthIt,
        Self::TooLate,
    ];

    /// A word for figures.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Forgotten => "too_many_writes",
            Self::Schema => "schema_changed",
            Self::NotCovered => "not_covered",
            Self::Purged => "purged",
            Self::Flushed => "flushed",
            Self::Disturbed => "disturbed",
            Self::Unlimited => "unlimited",
            Self::TooLarge => "too_large",
            Self::NotWorthIt => "not_worth_it",
            Self::TooLate => "too_late",
        }
    }
}
