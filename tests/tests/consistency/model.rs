//! The tables in memory, and what commits did to them.
//!
//! All columns are integers; the last one is the row's version, and no two writes give the same. So an answer says
//! which versions it has seen.

use std::collections::BTreeMap;

/// The tables, named as in the database. Those not here are for the cache to follow, not for the checker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    Items,
    Orders,
    /// Written by a trigger of `items` only.
    Audit,
    /// Its replica identity is FULL, and queries pin it by `owner`.
    Owned,
    /// Partitioned by region.
    Parts,
    /// A column comes and goes.
    Wide,
    /// The right to read it comes and goes.
    Secrets,
    /// Its key is a text: `n1`, `n2`, …; here the number stands for it.
    Names,
    /// What the schema is: written in the transaction that changes it.
    Switches,
}

impl Table {
    pub(crate) const ALL: [Self; 9] = [
        Self::Items,
        Self::Orders,
        Self::Audit,
        Self::Owned,
        Self::Parts,
        Self::Wide,
        Self::Secrets,
        Self::Names,
        Self::Switches,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Items => "items",
            Self::Orders => "orders",
            Self::Audit => "audit",
            Self::Owned => "owned",
            Self::Parts => "parts",
            Self::Wide => "wide",
            Self::Secrets => "secrets",
            Self::Names => "names",
            Self::Switches => "switches",
        }
    }

    /// The columns that are modelled; the key first, the version last.
    pub(crate) const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Items => &["id", "grp", "v"],
            Self::Orders => &["id", "item", "v"],
            Self::Audit => &["item", "v"],
            Self::Owned => &["id", "owner", "v"],
            Self::Parts => &["id", "region", "v"],
            Self::Wide | Self::Secrets => &["id", "v"],
            Self::Names => &["name", "v"],
            Self::Switches => &["id", "setting", "v"],
        }
    }

    /// How many of the columns are the key.
    pub(crate) const fn key_columns(self) -> usize {
        match self {
            Self::Parts => 2,
            _ => 1,
        }
    }

    /// The key of a row, or of its first columns.
    pub(crate) fn key(self, row: &[i64]) -> Key {
        Key(self, row[0], if self.key_columns() == 2 { row[1] } else { 0 })
    }
}

/// Names a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) Table, i64, i64);

/// A row; its version is the last column.
pub(crate) type Row = Vec<i64>;

/// The version of a row.
pub(crate) fn version(row: &[i64]) -> i64 {
    row.last().copied().unwrap_or_default()
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A row is as this from now on; it had another key before, if one is given.
    Put {
        old: Option<Key>,
        row: Row,
        table: Table,
    },
    Remove(Key),
    /// All rows are gone, or those of one region.
    Clear(Table, Option<i64>),
}

/// A committed transaction, as the log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) xid: u32,
    /// Where it ends in the log.
    pub(crate) position: u64,
    pub(crate) changes: Vec<Change>,
}

/// All rows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    rows: BTreeMap<Key, Row>,
}

impl State {
    /// The rows of a table.
    pub(crate) fn rows(&self, table: Table) -> impl Iterator<Item = &Row> {
        let bounds = Key(table, i64::MIN, i64::MIN)..=Key(table, i64::MAX, i64::MAX);
        self.rows.range(bounds).map(|(_, row)| row)
    }

    pub(crate) fn row(&self, key: Key) -> Option<&Row> {
        self.rows.get(&key)
    }

    pub(crate) fn put(&mut self, table: Table, row: Row) {
        self.rows.insert(table.key(&row), row);
    }

    /// The rows that are wanted.
    pub(crate) fn only(&self, is_wanted: impl Fn(Table, &[i64]) -> bool) -> Self {
        let wanted = self.rows.iter().filter(|(key, row)| is_wanted(key.0, row));
        Self { rows: wanted.map(|(key, row)| (*key, row.clone())).collect() }
    }

    /// What a setting of the schema is.
    pub(crate) fn switch(&self, id: i64) -> i64 {
        self.row(Table::Switches.key(&[id, 0])).map_or(0, |row| row[1])
    }

    /// Makes a change; gives the rows that are gone.
    pub(crate) fn apply(&mut self, change: &Change) -> Vec<(Table, Row)> {
        match change {
            Change::Put { old, row, table } => {
                let key = table.key(row);
                let moved = old.filter(|old| *old != key).and_then(|old| self.rows.remove(&old));
                let before = self.rows.insert(key, row.clone());
                moved.into_iter().chain(before).map(|row| (*table, row)).collect()
            }
            Change::Remove(key) => {
                self.rows.remove(key).map(|row| (key.0, row)).into_iter().collect()
            }
            Change::Clear(table, region) => {
                let is_meant = |key: &Key| key.0 == *table && region.is_none_or(|r| key.2 == r);
                let gone: Vec<Key> =
                    self.rows.keys().filter(|key| is_meant(key)).copied().collect();
                gone.iter().filter_map(|key| Some((*table, self.rows.remove(key)?))).collect()
            }
        }
    }
}
