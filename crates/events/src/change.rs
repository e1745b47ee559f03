//! A change of a row, with all its columns.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use crate::EventId;
use crate::code::{Damaged, Reader, put_number};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// A new row.
    Insert,
    /// A row was changed.
    Update,
    /// A row is gone.
    Delete,
    /// A table was emptied.
    Truncate,
    /// A row as a backfill has read it.
    Snapshot,
    /// Changes may be missing from here on: of which tables is not known.
    Gap,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Insert, Self::Update, Self::Delete, Self::Truncate, Self::Snapshot, Self::Gap];

    /// Its name in events and specs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::Snapshot => "SNAPSHOT",
            Self::Gap => "GAP",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.as_str() == name)
    }
}

/// A table as it was when it was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    /// pg_class.oid, of a leaf if it is partitioned.
    pub relation: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Its columns, in the order of a row's cells.
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Whether it tells rows from one another.
    pub is_key: bool,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// A large value that an UPDATE left as it was, and that the WAL does not hold.
    Unchanged,
    /// Not told: in an old key, whatever is not part of the key.
    Absent,
    /// The value as JSON.
    Json(&'a [u8]),
}

impl Cell<'_> {
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Null => put_number(out, 0),
            Self::Unchanged => put_number(out, 1),
            Self::Absent => put_number(out, 2),
            Self::Json(json) => {
                put_number(out, json.len() as u64 + 3);
                out.extend_from_slice(json);
            }
        }
    }
}

/// A row: a cell for each column of its shape, which was checked when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Row<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>, count: usize) -> Result<Self, Damaged> {
        let start = reader.0;
        for _ in 0..count {
            cell(reader)?;
        }
        Ok(Self { count, bytes: &start[..start.len() - reader.0.len()] })
    }

    /// The cells in the order of the columns.
    pub fn iter(self) -> impl Iterator<Item = Cell<'a>> + Clone {
        let mut reader = Reader(self.bytes);
        (0..self.count).map_while(move |_| cell(&mut reader).ok())
    }
}

fn cell<'a>(reader: &mut Reader<'a>) -> Result<Cell<'a>, Damaged> {
    Ok(match reader.number()? {
        0 => Cell::Null,
        1 => Cell::Unchanged,
        2 => Cell::Absent,
        length => {
            let length = usize::try_from(length - 3).map_err(|_| Damaged)?;
            let (json, rest) = reader.0.split_at_checked(length).ok_or(Damaged)?;
            reader.0 = rest;
            Cell::Json(json)
        }
    })
}

/// What is known of a row as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old<'a> {
    /// Only the columns of the replica identity.
    Key(Row<'a>),
    /// All of it.
    Full(Row<'a>),
}

impl<'a> Old<'a> {
    /// The cells.
    pub const fn row(self) -> Row<'a> {
        match self {
            Self::Key(row) | Self::Full(row) => row,
        }
    }
}

/// For whom alone a change is: the rows of a backfill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The stakeholder's id.
    pub stakeholder: i64,
    /// The backfill's id.
    pub backfill: i64,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Which it is.
    pub id: EventId,
    /// What happened.
    pub op: Op,
    /// When it was committed, in microseconds since 1970.
    pub commit_micros: i64,
    /// The lower 32 bits of the transaction's id.
    pub xid: u32,
    /// The table; that of a gap has no name.
    pub shape: Arc<Shape>,
    /// The row as it is now.
    pub new: Option<Row<'a>>,
    /// The row as it was.
    pub old: Option<Old<'a>>,
    /// For whom alone it is.
    pub target: Option<Target>,
    /// Of a gap: why changes may be missing.
    pub reason: &'a str,
}

/// Whose order a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// All rows of the table with this OID: it was emptied, or its rows can't be told from one another.
    Table(u32),
    /// A row of the table; hashes that are the same in every process.
    Row(u32, u64),
    /// A row that was given another key.
    Rows(u32, u64, u64),
    /// Everything.
    All,
}

impl<'a> Change<'a> {
    /// Whose order it belongs to.
    pub fn keys(&self) -> Keys {
        if self.op == Op::Gap {
            return Keys::All;
        }
        let relation = self.shape.relation;
        let hash = |row: Row<'_>| self.key_of(row);
        let new = self.new.and_then(hash);
        let old = self.old.and_then(|old| hash(old.row()));
        match (new, old) {
            (Some(new), Some(old)) if new != old => Keys::Rows(relation, new, old),
            (Some(key), _) | (None, Some(key)) => Keys::Row(relation, key),
            (None, None) => Keys::Table(relation),
        }
    }

    /// The hash of a row's key; `None` if it has none.
    fn key_of(&self, row: Row<'_>) -> Option<u64> {
        let mut hasher = foldhash::quality::FixedState::with_seed(0x6964_6273).build_hasher();
        let mut has_key = false;
        for (column, cell) in self.shape.columns.iter().zip(row.iter()) {
            if column.is_key {
                let Cell::Json(json) = cell else { return None };
                json.hash(&mut hasher);
                has_key = true;
            }
        }
        has_key.then(|| hasher.finish())
    }

    pub(crate) fn read(
        reader: &mut Reader<'a>,
        epoch: u32,
        shapes: &[Arc<Shape>],
    ) -> Result<Self, Damaged> {
        let (op, rest) = reader.0.split_first().ok_or(Damaged)?;
        reader.0 = rest;
        let op = *Op::ALL.get(usize::from(*op)).ok_or(Damaged)?;
        let lsn = integratedb_wire::Lsn(reader.number()?);
        let id = EventId { epoch, lsn, index: reader.small()? };
        let commit_micros = reader.number()? as i64;
        let xid = reader.small()?;
        let shape = shapes.get(reader.small::<usize>()?).ok_or(Damaged)?;
        let (flags, rest) = reader.0.split_first().ok_or(Damaged)?;
        reader.0 = rest;
        let target = match flags & 8 {
            0 => None,
            _ => Some(Target {
                stakeholder: reader.number()? as i64,
                backfill: reader.number()? as i64,
            }),
        };
        let count = shape.columns.len();
        let new = match flags & 1 {
            0 => None,
            _ => Some(Row::read(reader, count)?),
        };
        let old = match flags >> 1 & 3 {
            0 => None,
            1 => Some(Old::Key(Row::read(reader, count)?)),
            2 => Some(Old::Full(Row::read(reader, count)?)),
            _ => return Err(Damaged),
        };
        let reason = if op == Op::Gap { reader.text()? } else { "" };
        let shape = Arc::clone(shape);
        Ok(Self { id, op, commit_micros, xid, shape, new, old, target, reason })
    }
}
