//! What recent transactions touched, for the fills that were under way (I2).
//!
//! A fill may be stored if every processed transaction that touches its dependencies is visible in its
//! snapshot. The journal keeps, for each table, the last transactions precisely. For those it has forgotten it
//! keeps two bounds, and a fill must be beyond both:
//!
//! - `horizon`, the highest of the forgotten transactions that no received snapshot was known to see. A
//!   snapshot whose `xmin` is above it sees them all: they have committed, and all below `xmin` have ended.
//! - `forgot_at`, a sequence number. Let x be forgotten, L the first received snapshot known to see it, and s the
//!   sequence when L came in. A fill that began at s or later read its own snapshot after L was taken. Of one
//!   origin a later snapshot sees all that an earlier one saw, so it sees x. `forgot_at` is the highest such s.
//!
//! A fill that began before `forgot_at` may have seen x too; it is refused all the same.

use std::collections::{HashMap, VecDeque};

use crate::dependency::{DigestRow, meets};
use crate::fill::{FillTicket, Refusal};
use crate::{Faults, Lsn, Pin, Snapshot, TableId, Xid};

/// Received snapshots kept to date what is forgotten.
const MILESTONES: usize = 32;
/// A transaction that touched more rows of a table than this counts as one that touched them all.
const MAX_ROWS: usize = 64;

/// Rows of one table, with digests.
pub(crate) enum DigestRows {
    All,
    Some(Box<[DigestRow]>),
}

/// What a transaction touched, with digests.
pub(crate) struct Change {
    pub(crate) xid: Xid,
    pub(crate) commit: Lsn,
    pub(crate) schema: bool,
    pub(crate) rows: DigestRows,
}

impl Change {
    fn footprint(&self) -> usize {
        let rows = match &self.rows {
            DigestRows::All => 0,
            DigestRows::Some(rows) => rows.iter().map(|row| 16 + size_of_val::<[_]>(row)).sum(),
        };
        size_of::<Self>() + rows
    }

    fn meets(&self, pins: &[Pin]) -> bool {
        match &self.rows {
            DigestRows::All => true,
            DigestRows::Some(rows) => rows.iter().any(|row| pins.iter().any(|pin| meets(row, pin))),
        }
    }
}

/// The recent past of one table.
#[derive(Default)]
struct Past {
    recent: VecDeque<Change>,
    bytes: usize,
    forgot_at: u64,
    horizon: Xid,
}

/// The recent past of a database.
pub(crate) struct Journal {
    tables: HashMap<TableId, Past>,
    /// Schema changes, and transactions that may have touched anything.
    all: Past,
    /// The highest forgotten schema change.
    schema_horizon: Xid,
    /// Counts what happens; see `forgot_at`.
    pub(crate) sequence: u64,
    newest: Option<(u64, Snapshot)>,
    milestones: VecDeque<(u64, Snapshot)>,
    /// Of a table.
    capacity: usize,
    max_bytes: usize,
    pub(crate) bytes: usize,
}

impl Journal {
    pub(crate) fn new(capacity: usize, max_bytes: usize) -> Self {
        Self {
            tables: HashMap::new(),
            all: Past::default(),
            schema_horizon: Xid(0),
            sequence: 0,
            newest: None,
            milestones: VecDeque::new(),
            capacity: capacity.max(1),
            max_bytes,
            bytes: 0,
        }
    }

    /// Forgets all, for an origin whose numbers may begin again. Fills that began before must be refused by
    /// other means.
    pub(crate) fn clear(&mut self) {
        let sequence = self.sequence + 1;
        *self = Self { sequence, ..Self::new(self.capacity, self.max_bytes) };
    }

    /// Notes a snapshot that came in.
    pub(crate) fn receive(&mut self, snapshot: &Snapshot) {
        if self.newest.as_ref().is_some_and(|(_, newest)| newest.age() >= snapshot.age()) {
            return;
        }
        // Who begins from now on has a higher number than who may have begun before it came in.
        self.sequence += 1;
        let spacing = (self.capacity / 16).max(1) as u64;
        if self.milestones.back().is_none_or(|(last, _)| last + spacing <= self.sequence) {
            self.milestones.push_back((self.sequence, snapshot.clone()));
            if self.milestones.len() > MILESTONES {
                self.milestones.pop_front();
            }
        }
        self.newest = Some((self.sequence, snapshot.clone()));
    }

    /// Notes what a transaction touched of a table.
    pub(crate) fn record(&mut self, table: TableId, mut change: Change) {
        if matches!(&change.rows, DigestRows::Some(rows) if rows.len() > MAX_ROWS) {
            change.rows = DigestRows::All;
        }
        self.sequence += 1;
        let past = self.tables.entry(table).or_default();
        let bytes = change.footprint();
        past.bytes += bytes;
        self.bytes += bytes;
        past.recent.push_back(change);
        if past.recent.len() > self.capacity {
            self.forget(table, 1);
        }
        while self.bytes > self.max_bytes {
            // Halving what is largest, it is looked for a few times only while the journal fills up again.
            let largest = self.tables.iter().max_by_key(|(_, past)| past.bytes);
            if let Some((table, past)) = largest.map(|(table, past)| (*table, past.recent.len())) {
                self.forget(table, past.div_ceil(2));
            }
        }
    }

    /// Notes a schema change, or a transaction that may have touched anything.
    pub(crate) fn record_all(&mut self, change: Change) {
        self.sequence += 1;
        self.all.recent.push_back(change);
        if self.all.recent.len() > self.capacity
            && let Some(old) = self.all.recent.pop_front()
        {
            if old.schema {
                self.schema_horizon = self.schema_horizon.max(old.xid);
            }
            let since = self.visible_since(old.xid);
            self.all.put_behind(old.xid, since);
        }
    }

    fn forget(&mut self, table: TableId, count: usize) {
        for _ in 0..count {
            let Some(past) = self.tables.get_mut(&table) else { return };
            let Some(old) = past.recent.pop_front() else { return };
            let bytes = old.footprint();
            past.bytes -= bytes;
            self.bytes -= bytes;
            let since = self.visible_since(old.xid);
            if let Some(past) = self.tables.get_mut(&table) {
                past.put_behind(old.xid, since);
            }
        }
    }

    /// Since when every snapshot has seen this transaction, as far as is known.
    fn visible_since(&self, xid: Xid) -> Option<u64> {
        let mut received = self.milestones.iter().chain(&self.newest);
        received.find(|(_, snapshot)| snapshot.sees(xid)).map(|(sequence, _)| *sequence)
    }

    /// Whether a snapshot sees all schema changes processed so far.
    pub(crate) fn understands(&self, snapshot: &Snapshot) -> bool {
        snapshot.xmin > self.schema_horizon
            && self.all.recent.iter().all(|change| !change.schema || snapshot.sees(change.xid))
    }

    /// I2: whether a fill may be stored.
    pub(crate) fn admits(
        &self,
        ticket: &FillTicket,
        pins: &[Pin],
        snapshot: &Snapshot,
        understood: &Snapshot,
        faults: Faults,
    ) -> Result<(), Refusal> {
        if !self.understands(understood) {
            return Err(Refusal::Schema);
        }
        if faults.skip_journal {
            return Ok(());
        }
        let is_visible = |change: &Change| {
            if faults.compare_lsn_only {
                change.commit <= ticket.applied
            } else {
                snapshot.sees(change.xid)
            }
        };
        self.all.is_behind(ticket, snapshot)?;
        if let Some(change) = self.all.recent.iter().find(|change| !is_visible(change)) {
            return Err(if change.schema { Refusal::Schema } else { Refusal::Changed });
        }
        for pins in pins.chunk_by(|a, b| a.table == b.table) {
            let Some(past) = self.tables.get(&pins[0].table) else { continue };
            past.is_behind(ticket, snapshot)?;
            if past.recent.iter().any(|change| !is_visible(change) && change.meets(pins)) {
                return Err(Refusal::Changed);
            }
        }
        Ok(())
    }
}

impl Past {
    fn put_behind(&mut self, xid: Xid, visible_since: Option<u64>) {
        match visible_since {
            Some(sequence) => self.forgot_at = self.forgot_at.max(sequence),
            None => self.horizon = self.horizon.max(xid),
        }
    }

    fn is_behind(&self, ticket: &FillTicket, snapshot: &Snapshot) -> Result<(), Refusal> {
        if ticket.sequence < self.forgot_at || snapshot.xmin <= self.horizon {
            return Err(Refusal::Forgotten);
        }
        Ok(())
    }
}
