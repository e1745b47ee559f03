//! How large a cache may become, and how old what it serves.

use std::time::Duration;

use crate::Faults;

/// The bounds of a [`crate::Store`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// All that entries take, with their places in tables.
    pub max_bytes: usize,
    /// Answers leave memory as soon as they may and do not come back: for tests of what is on disk.
    #[doc(hidden)]
    pub disk_only: bool,
    /// What one entry may take.
    pub max_entry_bytes: usize,
    /// The longest time since all that the origin had committed was known to be applied (I5).
    pub max_age: Duration,
    /// Locks among which entries are spread; rounded up to a power of two.
    pub shards: usize,
    /// How many transactions of a table are remembered for fills that are under way.
    pub journal_per_table: usize,
    /// What is remembered of all tables together, beside `max_bytes`.
    pub journal_bytes: usize,
    /// Keys the digests of values. Random; the same for who restores entries.
    pub secret: u128,
    /// What is broken on purpose.
    #[doc(hidden)]
    pub faults: Faults,
}

impl Settings {
    /// The usual ones, with a random secret and a bound in bytes.
    pub fn new(secret: u128, max_bytes: usize) -> Self {
        Self {
            max_bytes,
            disk_only: false,
            max_entry_bytes: max_bytes / 64,
            max_age: Duration::from_secs(5),
            shards: 64,
            journal_per_table: 1024,
            journal_bytes: 16 << 20,
            secret,
            faults: Faults::default(),
        }
    }
}
