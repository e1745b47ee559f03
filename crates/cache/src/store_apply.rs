//! What drops entries: transactions, fences of what replication does not see, purges and losses.

use std::sync::Arc;

use crate::fence::DigestScope;
use crate::index::{Index, Indexed};
use crate::journal::{Change, DigestRows};
use crate::ledger::Ledger;
use crate::observer::Removal;
use crate::shard::Slot;
use crate::{Entry, FenceId, Key, Lsn, Rows, Scope, Snapshot, Store, TableId, Touched, Xid};

impl<L: Send + Sync> Store<L> {
    /// Applies a transaction, in the order of commits; `advance` follows. Gives how many entries it dropped.
    /// Applying one again does no harm.
    pub fn apply(&self, touched: &Touched) -> usize {
        let Touched { xid, commit, schema, .. } = *touched;
        let mut ledger = self.ledger();
        ledger.has_applied = true;
        if schema || touched.everything {
            ledger.journal.record_all(Change { xid, commit, schema, rows: DigestRows::All });
        }
        if schema {
            // Whatever they saw: what they were described as may no longer be so.
            let dropped = self.clear(&mut ledger, Removal::Schema);
            drop(ledger);
            return dropped.iter().map(Vec::len).sum();
        }
        if touched.everything {
            let keys = self.find(|entry| !entry.read_at.sees(xid));
            return self.remove_all(&mut ledger, keys, Removal::Schema);
        }
        let mut dropped = 0;
        for table in &touched.tables {
            let rows = match &table.rows {
                Rows::All => DigestRows::All,
                Rows::Some(rows) => {
                    DigestRows::Some(rows.iter().map(|row| self.digester.row(row)).collect())
                }
            };
            dropped += self.invalidate(&mut ledger, xid, table.table, &rows);
            ledger.journal.record(table.table, Change { xid, commit, schema, rows });
        }
        dropped
    }

    /// I1
    fn invalidate(
        &self,
        ledger: &mut Ledger,
        xid: Xid,
        table: TableId,
        rows: &DigestRows,
    ) -> usize {
        let (whole, pinned) = match rows {
            DigestRows::All => (ledger.index.of_table(table), Vec::new()),
            DigestRows::Some(rows) => ledger.index.of_rows(table, rows),
        };
        let mut dropped = 0;
        for (mut keys, why) in [(whole, Removal::Table), (pinned, Removal::Row)] {
            keys.retain(|key| self.entry(*key).is_some_and(|entry| !entry.read_at.sees(xid)));
            dropped += self.remove_all(ledger, keys, why);
        }
        dropped
    }

    /// Before the acknowledgement of a write that has committed goes to its client.
    pub fn fence(&self, scopes: &[Scope]) -> FenceId {
        if self.settings.faults.forget_fence {
            return self.fences.mark();
        }
        self.fences.raise(scopes, self.digester)
    }

    /// The fences raised from now on are not before this one.
    pub fn fence_mark(&self) -> FenceId {
        self.fences.mark()
    }

    /// The write of this fence is at or before this position: the end of the log, read after it committed.
    pub fn settle(&self, fence: FenceId, position: Lsn) {
        self.settle_those(|id| id == fence, position);
    }

    /// The same for all raised before a mark, which was taken before the position was read: for fences whose
    /// session ended before it could settle them.
    pub fn settle_before(&self, mark: FenceId, position: Lsn) {
        self.settle_those(|id| id < mark, position);
    }

    fn settle_those(&self, meant: impl Fn(FenceId) -> bool, position: Lsn) {
        let mut ledger = self.ledger();
        // Fills that begin from now on see the write; those before may not.
        ledger.journal.sequence += 1;
        self.fences.settle(
            meant,
            position,
            || self.position.applied(),
            |fence| {
                for scope in &fence.scopes {
                    self.disturb(&mut ledger, scope);
                }
            },
        );
    }

    /// Drops what replication will not: entries it does not see.
    fn disturb(&self, ledger: &mut Ledger, scope: &DigestScope) {
        let table = match scope {
            DigestScope::Everything => None,
            DigestScope::Table(table) | DigestScope::Row(table, _) => Some(*table),
        };
        ledger.disturb(table);
        if ledger.unseen == 0 {
            return;
        }
        let is_meant = |entry: &Entry<L>| !entry.seen_by_replication && scope.blocks(&entry.pins);
        let keys = match table {
            None => self.find(is_meant),
            Some(table) => {
                let mut keys = ledger.index.of_table(table);
                keys.retain(|key| self.entry(*key).is_some_and(|entry| is_meant(&entry)));
                keys
            }
        };
        self.remove_all(ledger, keys, Removal::Write);
    }

    /// Replication sees these tables, for fills whose snapshot's `xmin` is not below the `xmax` of one taken
    /// after the publication's change had committed: what was written before the change is not decoded, and this
    /// waits for who was writing then. When the reader begins, on an old slot or a new one, take a new snapshot
    /// after that for every table: what was applied before is in no journal, and may not be visible yet.
    pub fn publish(&self, tables: &[TableId], covered_from: &Snapshot) {
        let mut ledger = self.ledger();
        for table in tables {
            let from = ledger.covered.entry(*table).or_insert(covered_from.xmax);
            *from = covered_from.xmax.max(*from);
        }
    }

    /// Replication is about to see these tables no more. Entries that rely on it are dropped.
    pub fn unpublish(&self, tables: &[TableId]) {
        let mut ledger = self.ledger();
        for table in tables {
            ledger.covered.remove(table);
            let mut keys = ledger.index.of_table(*table);
            keys.retain(|key| self.entry(*key).is_some_and(|entry| entry.seen_by_replication));
            self.remove_all(&mut ledger, keys, Removal::Flushed);
        }
    }

    /// Replication was lost, or the origin is another one: drops everything, also what is known of transactions
    /// and tables, refuses the fills under way, and suspends. Positions begin again; those that sessions have
    /// seen are void if they are the former origin's.
    pub fn flush(&self, why: &'static str) -> usize {
        let mut ledger = self.ledger();
        self.suspend(why);
        let dropped = self.clear(&mut ledger, Removal::Flushed);
        ledger.journal.clear();
        ledger.covered.clear();
        ledger.has_applied = false;
        self.position.flush();
        // Their writes are visible to every fill that begins from now on.
        self.fences.fall(Lsn(u64::MAX));
        drop(ledger);
        dropped.iter().map(Vec::len).sum()
    }

    /// Drops all entries. Fills under way, here and below, are refused.
    pub fn purge_all(&self) -> usize {
        let mut ledger = self.ledger();
        ledger.purge_fills();
        let dropped = self.clear(&mut ledger, Removal::Purged);
        drop(ledger);
        dropped.iter().map(Vec::len).sum()
    }

    /// Drops the entries that depend on a table.
    pub fn purge_table(&self, table: TableId) -> usize {
        let mut ledger = self.ledger();
        ledger.purge_fills();
        let keys = ledger.index.of_table(table);
        self.remove_all(&mut ledger, keys, Removal::Purged)
    }

    /// Drops the entries whose label is meant.
    pub fn purge_where(&self, is_meant: impl Fn(&L) -> bool) -> usize {
        let mut ledger = self.ledger();
        ledger.purge_fills();
        let keys = self.find(|entry| is_meant(&entry.label));
        self.remove_all(&mut ledger, keys, Removal::Purged)
    }

    /// Drops the entries with this very label.
    pub fn drop_label(&self, label: &Arc<L>) -> usize {
        let mut ledger = self.ledger();
        ledger.purge_fills();
        let keys = self.find(|entry| Arc::ptr_eq(&entry.label, label));
        self.remove_all(&mut ledger, keys, Removal::Purged)
    }

    /// Drops one entry.
    pub fn purge_key(&self, key: Key) -> bool {
        let mut ledger = self.ledger();
        ledger.purge_fills();
        self.remove(&mut ledger, key, Removal::Purged)
    }

    fn entry(&self, key: Key) -> Option<Arc<Entry<L>>> {
        let shard = self.lock(self.shard(key));
        shard.place(key).map(|place| Arc::clone(&shard.slots[place].entry))
    }

    pub(crate) fn find(&self, is_meant: impl Fn(&Entry<L>) -> bool) -> Vec<Key> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            let shard = self.lock(shard);
            let meant = shard.slots.iter().filter(|slot| is_meant(&slot.entry));
            keys.extend(meant.map(|slot| slot.key));
        }
        keys
    }

    pub(crate) fn remove_all(&self, ledger: &mut Ledger, keys: Vec<Key>, why: Removal) -> usize {
        keys.into_iter().filter(|key| self.remove(ledger, *key, why)).count()
    }

    /// Takes out everything. The caller drops what it gets without the lock, as that takes a while.
    fn clear(&self, ledger: &mut Ledger, why: Removal) -> Vec<Vec<Slot<L>>> {
        let mut dropped = Vec::new();
        for shard in &self.shards {
            let mut shard = self.lock(shard);
            ledger.shard_bytes -= shard.bytes();
            dropped.push(shard.drain());
            ledger.shard_bytes += shard.bytes();
        }
        ledger.index = Index::default();
        ledger.removed[why as usize] += ledger.entries as u64;
        (ledger.entries, ledger.unseen) = (0, 0);
        (ledger.on_disk, ledger.disk_bytes) = (0, 0);
        (ledger.entry_bytes, ledger.answer_bytes) = (0, 0);
        for slot in dropped.iter().flatten() {
            self.observer.removed(slot.key, &slot.entry, why);
        }
        dropped
    }

    /// Whether the books are exact: for tests.
    #[doc(hidden)]
    pub fn audit(&self) -> Result<(), String> {
        let ledger = self.ledger();
        let (mut indexed, index_bytes) = ledger.index.audit();
        let (mut stored, mut bytes, mut entries, mut shard_bytes) = (Vec::new(), 0, 0, 0);
        let mut on_disk = (0, 0);
        for shard in &self.shards {
            shard_bytes += size_of_val(shard);
            let shard = self.lock(shard);
            shard_bytes += shard.bytes();
            for (place, slot) in shard.slots.iter().enumerate() {
                if shard.place(slot.key) != Some(place) {
                    return Err("an entry is not where its key leads".to_owned());
                }
                entries += 1;
                bytes += slot.entry.footprint();
                if let Some(bytes) = slot.entry.bytes_on_disk() {
                    on_disk = (on_disk.0 + 1, on_disk.1 + bytes);
                }
                let pins = slot.entry.pins.iter();
                stored.extend(pins.map(|pin| (slot.key, pin.table, pin.column, pin.digest)));
            }
        }
        let by_key = |(key, table, column, digest): &Indexed| ({ key.0 }, *table, *column, *digest);
        indexed.sort_unstable_by_key(by_key);
        stored.sort_unstable_by_key(by_key);
        let counted = (entries, bytes, index_bytes, shard_bytes, on_disk);
        let Ledger { entry_bytes, shard_bytes, disk_bytes, .. } = *ledger;
        let on_disk = (ledger.on_disk, disk_bytes);
        let known = (ledger.entries, entry_bytes, ledger.index.bytes, shard_bytes, on_disk);
        if indexed != stored {
            return Err(format!("{} pins indexed, {} stored", indexed.len(), stored.len()));
        }
        if counted != known {
            return Err(format!("counted {counted:?}, known {known:?}"));
        }
        Ok(())
    }
}

impl Ledger {
    /// Fills under way are refused.
    fn purge_fills(&mut self) {
        self.journal.sequence += 1;
        self.purged_at = self.journal.sequence;
    }
}
