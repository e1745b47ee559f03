//! What can be wrong with what comes from outside.

/// Why a text or bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a snapshot as `pg_current_snapshot()` gives it, as text or in binary.
    #[error("invalid snapshot")]
    Snapshot,
}
