//! Which entries a change meets.
//!
//! For each table: the entries that depend on all of it, and for each pinned column the entries by the digest
//! of the value. It names exactly the entries that are stored.

use std::collections::HashMap;

use hashbrown::HashTable;

use crate::dependency::{Digest, DigestRow};
use crate::{ColumnId, Key, Pin, TableId};

/// Keys are hashes already; this guards against a caller who kept fewer random bits in one half.
pub(crate) fn mix(key: Key) -> u64 {
    let key = key.0;
    ((key as u64) ^ ((key >> 64) as u64).rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// A few keys without a table, many with one.
enum Keys {
    One(Key),
    Many(Box<HashTable<Key>>),
}

struct PinSlot {
    digest: Digest,
    keys: Keys,
}

#[derive(Default)]
struct ColumnIndex {
    pins: HashTable<PinSlot>,
    /// Keys by the kind of their value.
    kinds: [usize; Digest::KINDS],
}

#[derive(Default)]
struct TableIndex {
    whole: HashTable<Key>,
    columns: Vec<(ColumnId, ColumnIndex)>,
}

/// The entries by what they depend on.
#[derive(Default)]
pub(crate) struct Index {
    tables: HashMap<TableId, TableIndex>,
    /// What its tables take, apart from a few words for each table and column of the database.
    pub(crate) bytes: usize,
}

/// An entry under one of its pins.
pub(crate) type Indexed = (Key, TableId, Option<ColumnId>, Digest);

/// A digest is a hash, but the kind in its low bits is not.
fn digest_hash(digest: Digest) -> u64 {
    digest.0 >> 2 ^ digest.0 << 62
}

fn add(keys: &mut HashTable<Key>, key: Key, bytes: &mut usize) {
    let before = keys.allocation_size();
    if let hashbrown::hash_table::Entry::Vacant(slot) =
        keys.entry(mix(key), |other| *other == key, |key| mix(*key))
    {
        slot.insert(key);
    }
    *bytes = *bytes + keys.allocation_size() - before;
}

fn take(keys: &mut HashTable<Key>, key: Key, bytes: &mut usize) {
    let before = keys.allocation_size();
    if let Ok(slot) = keys.find_entry(mix(key), |other| *other == key) {
        slot.remove();
    }
    shrink(keys, |key| mix(*key));
    *bytes = *bytes + keys.allocation_size() - before;
}

/// Gives memory back when three quarters stand empty.
pub(crate) fn shrink<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    if table.capacity() > 16 && table.len() < table.capacity() / 4 {
        table.shrink_to(table.len() * 2, hash);
    }
}

impl ColumnIndex {
    fn add(&mut self, digest: Digest, key: Key, bytes: &mut usize) {
        let before = self.pins.allocation_size();
        let slot = self.pins.entry(
            digest_hash(digest),
            |slot| slot.digest == digest,
            |slot| digest_hash(slot.digest),
        );
        match slot {
            hashbrown::hash_table::Entry::Vacant(slot) => {
                slot.insert(PinSlot { digest, keys: Keys::One(key) });
            }
            hashbrown::hash_table::Entry::Occupied(mut slot) => {
                let keys = &mut slot.get_mut().keys;
                if let Keys::One(first) = *keys {
                    let mut many = Box::default();
                    *bytes += size_of_val(&*many);
                    add(&mut many, first, bytes);
                    *keys = Keys::Many(many);
                }
                if let Keys::Many(many) = keys {
                    add(many, key, bytes);
                }
            }
        }
        *bytes = *bytes + self.pins.allocation_size() - before;
        self.kinds[digest.kind()] += 1;
    }

    fn take(&mut self, digest: Digest, key: Key, bytes: &mut usize) {
        let before = self.pins.allocation_size();
        if let Ok(mut slot) =
            self.pins.find_entry(digest_hash(digest), |slot| slot.digest == digest)
        {
            let is_empty = match &mut slot.get_mut().keys {
                Keys::One(_) => true,
                Keys::Many(many) => {
                    take(many, key, bytes);
                    many.is_empty()
                }
            };
            if is_empty {
                let (slot, _) = slot.remove();
                if let Keys::Many(many) = slot.keys {
                    *bytes -= size_of_val(&*many) + many.allocation_size();
                }
            }
            self.kinds[digest.kind()] -= 1;
        }
        shrink(&mut self.pins, |slot| digest_hash(slot.digest));
        *bytes = *bytes + self.pins.allocation_size() - before;
    }

    fn all(&self, found: &mut Vec<Key>) {
        self.pins.iter().for_each(|slot| slot.keys.list(found));
    }

    fn meeting(&self, row: &DigestRow, column: ColumnId, found: &mut Vec<Key>) {
        let known = row.iter().find(|(known, _)| *known == column).map(|(_, digest)| *digest);
        let Some(digest) = known else { return self.all(found) };
        // Values of two kinds can't be compared, so they meet.
        if (0..Digest::KINDS).any(|kind| kind != digest.kind() && self.kinds[kind] > 0) {
            return self.all(found);
        }
        if let Some(slot) = self.pins.find(digest_hash(digest), |slot| slot.digest == digest) {
            slot.keys.list(found);
        }
    }
}

impl Keys {
    fn list(&self, found: &mut Vec<Key>) {
        match self {
            Self::One(key) => found.push(*key),
            Self::Many(keys) => found.extend(keys.iter()),
        }
    }
}

impl Index {
    /// Adds an entry that is not in it.
    pub(crate) fn add(&mut self, key: Key, pins: &[Pin]) {
        let Self { tables, bytes } = self;
        for pin in pins {
            let table = tables.entry(pin.table).or_default();
            let Some(column) = pin.column else {
                add(&mut table.whole, key, bytes);
                continue;
            };
            if !table.columns.iter().any(|(known, _)| *known == column) {
                table.columns.push((column, ColumnIndex::default()));
            }
            if let Some((_, index)) = table.columns.iter_mut().find(|(known, _)| *known == column) {
                index.add(pin.digest, key, bytes);
            }
        }
    }

    /// Takes out an entry that is in it.
    pub(crate) fn take(&mut self, key: Key, pins: &[Pin]) {
        let Self { tables, bytes } = self;
        for pin in pins {
            let Some(table) = tables.get_mut(&pin.table) else { continue };
            let Some(column) = pin.column else {
                take(&mut table.whole, key, bytes);
                continue;
            };
            if let Some((_, index)) = table.columns.iter_mut().find(|(known, _)| *known == column) {
                index.take(pin.digest, key, bytes);
            }
        }
    }

    /// The entries that depend on this table at all; some may come twice.
    pub(crate) fn of_table(&self, table: TableId) -> Vec<Key> {
        let mut found = Vec::new();
        if let Some(table) = self.tables.get(&table) {
            found.extend(table.whole.iter());
            table.columns.iter().for_each(|(_, column)| column.all(&mut found));
        }
        found
    }

    /// The entries that depend on all of the table, and those pinned to one of the rows; some may come twice.
    pub(crate) fn of_rows(&self, table: TableId, rows: &[DigestRow]) -> (Vec<Key>, Vec<Key>) {
        let (mut whole, mut pinned) = (Vec::new(), Vec::new());
        if let Some(table) = self.tables.get(&table).filter(|_| !rows.is_empty()) {
            whole.extend(table.whole.iter());
            for (column, index) in &table.columns {
                for row in rows {
                    index.meeting(row, *column, &mut pinned);
                }
            }
        }
        (whole, pinned)
    }

    /// Every pin with its entry, and the bytes of its tables counted anew: for tests of exactness.
    pub(crate) fn audit(&self) -> (Vec<Indexed>, usize) {
        let (mut pins, mut bytes) = (Vec::new(), 0);
        for (id, table) in &self.tables {
            bytes += table.whole.allocation_size();
            pins.extend(table.whole.iter().map(|key| (*key, *id, None, Digest(0))));
            for (column, index) in &table.columns {
                bytes += index.pins.allocation_size();
                for slot in &index.pins {
                    if let Keys::Many(many) = &slot.keys {
                        bytes += size_of_val(&**many) + many.allocation_size();
                    }
                    let mut keys = Vec::new();
                    slot.keys.list(&mut keys);
                    pins.extend(keys.iter().map(|key| (*key, *id, Some(*column), slot.digest)));
                }
            }
        }
        (pins, bytes)
    }
}
