//! What is counted.

use crate::observer::Removal;
use crate::{Refusal, Store};

/// Counts since the cache was made, and what it holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Lookups that were served.
    pub hits: u64,
    /// Of them, from what was read from disk.
    pub disk_hits: u64,
    /// Lookups that found nothing.
    pub misses: u64,
    /// Lookups that a write's fence stopped.
    pub fenced: u64,
    /// Lookups of sessions that have seen more than is applied.
    pub behind: u64,
    /// Lookups of what replication must see while it doesn't, or is late.
    pub off: u64,
    /// Fills that were stored.
    pub stored: u64,
    /// Fills that were not, by the number of their [`Refusal`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Entries dropped by a change of a row they are pinned to.
    pub invalidated_by_row: u64,
    /// Entries dropped by a change of a table they depend on.
    pub invalidated_by_table: u64,
    /// Entries dropped by a change of the schema or of nobody knows what.
    pub invalidated_by_schema: u64,
    /// Entries dropped to make room.
    pub evicted: u64,
    /// Entries whose bytes went to disk to make room.
    pub spilled: u64,
    /// Entries whose bytes came back from disk.
    pub promoted: u64,
    /// Entries dropped because their bytes could not be read from disk.
    pub lost: u64,
    /// Entries dropped because somebody asked for it.
    pub purged: u64,
    /// Fences that stand.
    pub fences: usize,
    /// Entries held.
    pub entries: usize,
    /// Of them, those whose bytes are on disk only, and how many bytes that are.
    pub on_disk: usize,
    /// See `on_disk`.
    pub disk_bytes: usize,
    /// What all take in memory, with their places in tables.
    pub bytes: usize,
    /// The part of that which is sent.
    pub answer_bytes: usize,
    /// What the memory of recent transactions takes.
    pub journal_bytes: usize,
}

impl Figures {
    /// The fills that were refused for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize]
    }
}

impl<L: Send + Sync> Store<L> {
    /// What was counted so far. Takes each lock once.
    pub fn figures(&self) -> Figures {
        let ledger = self.ledger();
        let removed = |why: Removal| ledger.removed[why as usize];
        let mut figures = Figures {
            stored: ledger.stored,
            refused: ledger.refused,
            invalidated_by_row: removed(Removal::Row),
            invalidated_by_table: removed(Removal::Table),
            invalidated_by_schema: removed(Removal::Schema),
            evicted: removed(Removal::Evicted),
            spilled: ledger.spilled,
            promoted: ledger.promoted,
            lost: removed(Removal::Lost),
            purged: removed(Removal::Purged),
            fences: self.fences.count(),
            entries: ledger.entries,
            on_disk: ledger.on_disk,
            disk_bytes: ledger.disk_bytes,
            bytes: ledger.bytes(),
            answer_bytes: ledger.answer_bytes,
            journal_bytes: ledger.journal.bytes,
            ..Figures::default()
        };
        drop(ledger);
        for shard in &self.shards {
            let counts = self.lock(shard).counts;
            figures.hits += counts.hits;
            figures.disk_hits += counts.disk_hits;
            figures.misses += counts.misses;
            figures.fenced += counts.fenced;
            figures.behind += counts.behind;
            figures.off += counts.off;
        }
        figures
    }
}
