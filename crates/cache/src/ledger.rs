//! The books of the cache, under one lock: who changes what is stored holds it.

use std::collections::HashMap;

use crate::index::Index;
use crate::journal::Journal;
use crate::observer::Removal;
use crate::{Entry, Pin, Refusal, Settings, TableId, Xid};

pub(crate) struct Ledger {
    pub(crate) journal: Journal,
    pub(crate) index: Index,
    /// Published tables. A fill's `xmin` must not be below the number.
    pub(crate) covered: HashMap<TableId, Xid>,
    /// Fills that began before this were purged while under way.
    pub(crate) purged_at: u64,
    /// Fills that began before this may not have seen a write that replication does not see.
    disturbed_at: HashMap<TableId, u64>,
    all_disturbed_at: u64,
    /// Whether a transaction was applied since the last flush.
    pub(crate) has_applied: bool,
    pub(crate) entries: usize,
    /// Of them, those that replication does not see.
    pub(crate) unseen: usize,
    pub(crate) entry_bytes: usize,
    /// Of them, what is sent.
    pub(crate) answer_bytes: usize,
    pub(crate) shard_bytes: usize,
    /// Entries whose bytes are on disk only, and those bytes.
    pub(crate) on_disk: usize,
    pub(crate) disk_bytes: usize,
    /// Whether the bytes of entries may go to disk.
    pub(crate) spills: bool,
    /// How often they went there, and came back.
    pub(crate) spilled: u64,
    pub(crate) promoted: u64,
    pub(crate) stored: u64,
    pub(crate) refused: [u64; Refusal::ALL.len()],
    pub(crate) removed: [u64; Removal::COUNT],
    random: u64,
}

impl Ledger {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            journal: Journal::new(settings.journal_per_table, settings.journal_bytes),
            index: Index::default(),
            covered: HashMap::new(),
            purged_at: 0,
            disturbed_at: HashMap::new(),
            all_disturbed_at: 0,
            has_applied: false,
            entries: 0,
            unseen: 0,
            entry_bytes: 0,
            answer_bytes: 0,
            shard_bytes: 0,
            on_disk: 0,
            disk_bytes: 0,
            spills: false,
            spilled: 0,
            promoted: 0,
            stored: 0,
            refused: [0; Refusal::ALL.len()],
            removed: [0; Removal::COUNT],
            random: settings.secret as u64 | 1,
        }
    }

    /// An entry is in.
    pub(crate) fn add<L>(&mut self, entry: &Entry<L>) {
        self.entries += 1;
        self.unseen += usize::from(!entry.seen_by_replication);
        self.entry_bytes += entry.footprint();
        self.answer_bytes += entry.answer().map_or(0, |answer| answer.all().len());
        self.on_disk += usize::from(entry.bytes_on_disk().is_some());
        self.disk_bytes += entry.bytes_on_disk().unwrap_or(0);
    }

    /// An entry is out.
    pub(crate) fn take<L>(&mut self, entry: &Entry<L>) {
        self.entries -= 1;
        self.unseen -= usize::from(!entry.seen_by_replication);
        self.entry_bytes -= entry.footprint();
        self.answer_bytes -= entry.answer().map_or(0, |answer| answer.all().len());
        self.on_disk -= usize::from(entry.bytes_on_disk().is_some());
        self.disk_bytes -= entry.bytes_on_disk().unwrap_or(0);
    }

    /// All that the bound counts.
    pub(crate) fn bytes(&self) -> usize {
        self.entry_bytes + self.shard_bytes + self.index.bytes
    }

    pub(crate) fn disturb(&mut self, table: Option<TableId>) {
        let now = self.journal.sequence;
        match table {
            Some(table) => drop(self.disturbed_at.insert(table, now)),
            None => self.all_disturbed_at = now,
        }
    }

    pub(crate) fn is_disturbed(&self, pins: &[Pin], began: u64) -> bool {
        let last = pins.iter().filter_map(|pin| self.disturbed_at.get(&pin.table)).max();
        last.copied().unwrap_or(0).max(self.all_disturbed_at) > began
    }

    /// A number below `bound`, by chance. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003.
    pub(crate) fn random(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        // The high bits are the better ones; what remains of the bias does not matter for a sample.
        (self.random >> 16) as usize % bound.max(1)
    }
}
