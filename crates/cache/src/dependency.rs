//! What an entry depends on, what a transaction touched, and whether the two meet.
//!
//! Values are kept as digests only: a keyed hash with the value's kind in its low bits. So no constant of a
//! query stays in memory, and all pins are of one small size. Two values with one digest (2^-62 by chance) drop
//! an entry too many, never one too few.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{ColumnId, Lsn, TableId, Value, Xid};

/// Something whose change makes an entry stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The table.
    pub table: TableId,
    /// The rows with this value in this column; all rows if none. An IN list is one dependency a value.
    pub pins: Option<(ColumnId, Value)>,
}

/// One old or new row of a change: those of its columns that are known, each with its value. A column that is
/// null is not among them.
pub type Row = Vec<(ColumnId, Value)>;

/// Which rows of a table a transaction touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Unknown which, or all: TRUNCATE, or more than is worth to tell.
    All,
    /// The old and the new version of each.
    Some(Vec<Row>),
}

/// What a transaction touched of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedTable {
    /// The table.
    pub table: TableId,
    /// Its rows.
    pub rows: Rows,
}

/// What a committed transaction touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The top-level transaction.
    pub xid: Xid,
    /// Where its commit is in the log.
    pub commit: Lsn,
    /// The tables; one may come several times.
    pub tables: Vec<TouchedTable>,
    /// Whether it changed the schema, privileges, policies or roles.
    pub schema: bool,
    /// Whether it may have touched anything at all.
    pub everything: bool,
}

/// A value's keyed hash, with its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub u64);

impl Digest {
    pub(crate) const KINDS: usize = 4;

    /// Which of the kinds of [`Value`] it is.
    pub(crate) fn kind(self) -> usize {
        (self.0 & 3) as usize
    }
}

/// A dependency as an entry keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin {
    /// The table.
    pub table: TableId,
    /// The pinned column; all rows if none.
    pub column: Option<ColumnId>,
    /// The value's digest; zero if no column is pinned.
    pub digest: Digest,
}

/// A row with digests for values.
pub(crate) type DigestRow = Box<[(ColumnId, Digest)]>;

/// Whether a row that a transaction touched, or may touch, is among those of a pin. It is not only if the row
/// is known to have another value in the pinned column. Values of two kinds can't be compared, so they meet.
pub(crate) fn meets(row: &[(ColumnId, Digest)], pin: &Pin) -> bool {
    let Some(pinned) = pin.column else { return true };
    row.iter()
        .find(|(column, _)| *column == pinned)
        .is_none_or(|(_, digest)| *digest == pin.digest || digest.kind() != pin.digest.kind())
}

/// Makes digests, with a secret so that nobody can choose values that have one digest.
#[derive(Clone, Copy)]
pub(crate) struct Digester {
    pub(crate) secret: u128,
}

impl Digester {
    pub(crate) fn digest(self, value: &Value) -> Digest {
        // SipHash-1-3. Its key is constant here, so the secret goes in front.
        let mut hasher = DefaultHasher::new();
        self.secret.hash(&mut hasher);
        let kind = match value {
            Value::Int(number) => {
                number.hash(&mut hasher);
                0
            }
            Value::Bool(truth) => {
                truth.hash(&mut hasher);
                1
            }
            Value::Uuid(bytes) => {
                bytes.hash(&mut hasher);
                2
            }
            Value::Text(bytes) => {
                bytes.hash(&mut hasher);
                3
            }
        };
        Digest(hasher.finish() & !3 | kind)
    }

    pub(crate) fn row(self, row: &[(ColumnId, Value)]) -> DigestRow {
        row.iter().map(|(column, value)| (*column, self.digest(value))).collect()
    }

    /// Sorted by table, without what another one covers.
    pub(crate) fn pins(self, dependencies: &[Dependency]) -> Box<[Pin]> {
        let pins = dependencies.iter().map(|dependency| match &dependency.pins {
            Some((column, value)) => {
                Pin { table: dependency.table, column: Some(*column), digest: self.digest(value) }
            }
            None => Pin { table: dependency.table, column: None, digest: Digest(0) },
        });
        normal(pins.collect())
    }
}

/// Sorts pins by table and leaves out what a whole table covers.
pub(crate) fn normal(mut pins: Vec<Pin>) -> Box<[Pin]> {
    pins.sort_unstable();
    // The pin of a whole table is the first of its table.
    pins.dedup_by(|next, kept| next == kept || next.table == kept.table && kept.column.is_none());
    pins.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_meets_a_pin_unless_it_is_known_to_differ() {
        let digester = Digester { secret: 5 };
        let pin = |column, value| {
            digester
                .pins(&[Dependency { table: TableId(1), pins: Some((ColumnId(column), value)) }])[0]
        };
        let row = digester.row(&[(ColumnId(1), Value::Int(7))]);
        assert!(meets(&row, &pin(1, Value::Int(7))));
        assert!(!meets(&row, &pin(1, Value::Int(8))));
        assert!(meets(&row, &pin(2, Value::Int(8))), "column not known");
        assert!(meets(&row, &pin(1, Value::Bool(true))), "values of two kinds");
    }

    #[test]
    fn a_whole_table_covers_its_pins() {
        let pinned = |table, value| Dependency {
            table: TableId(table),
            pins: Some((ColumnId(1), Value::Int(value))),
        };
        let whole = Dependency { table: TableId(1), pins: None };
        let pins = Digester { secret: 5 }.pins(&[pinned(2, 1), pinned(1, 1), whole, pinned(2, 1)]);
        let told: Vec<_> = pins.iter().map(|pin| (pin.table.0, pin.column.is_some())).collect();
        assert_eq!(told, [(1, false), (2, true)]);
    }
}
