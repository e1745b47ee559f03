//! Ways to break the cache on purpose, for tests of the tests.

/// Each breaks one invariant at one place. A checker that does not notice is no checker.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Takes a fill for newer than every transaction applied before it began, visible to it or not.
    pub compare_lsn_only: bool,
    /// Raises no fence.
    pub forget_fence: bool,
    /// Stores fills without asking what happened meanwhile.
    pub skip_journal: bool,
    /// Serves a session older than what it has seen.
    pub ignore_seen: bool,
    /// Serves what was read from disk without asking whether it still counts.
    pub judge_before_read: bool,
}
