//! A run of changes, in memory as it is in the log.

use std::collections::HashMap;
use std::sync::Arc;

use crate::EventId;
use crate::change::{Cell, Change, Column, Op, Shape, Target};
use crate::code::{Damaged, Reader, put_bytes, put_number};

/// The first byte of a segment's bytes: which way they are to be read.
const VERSION: u8 = 1;

/// Changes in the order of their ids.
#[derive(Debug)]
pub struct Segment {
    shapes: Vec<Arc<Shape>>,
    /// What the changes are written in, one after the other.
    body: Vec<u8>,
    /// Where each begins, and which it is.
    index: Vec<(EventId, u32)>,
}

/// Bytes that are no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// A later version has written it.
    #[error("it was written by a later version")]
    Version,
    /// It is not what was written.
    #[error("it is damaged")]
    Damaged,
}

impl From<Damaged> for SegmentError {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

impl Segment {
    /// One that says no more than that changes may be missing at this id, and why. The time is in microseconds since
    /// 1970.
    pub fn gap(id: EventId, commit_micros: i64, reason: &str) -> Self {
        let mut builder = SegmentBuilder::new(id.epoch);
        builder.push_gap(Head { id, op: Op::Gap, commit_micros, xid: 0, target: None }, reason);
        builder.finish()
    }

    /// How many changes it has.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// About what it takes in memory, in bytes.
    pub fn size(&self) -> usize {
        self.body.len() + self.index.len() * size_of::<(EventId, u32)>()
    }

    /// The id of its first change.
    pub fn first(&self) -> Option<EventId> {
        self.index.first().map(|(id, _)| *id)
    }

    /// The id of its last change.
    pub fn last(&self) -> Option<EventId> {
        self.index.last().map(|(id, _)| *id)
    }

    /// The changes after this one.
    pub fn after(&self, id: EventId) -> impl Iterator<Item = Change<'_>> {
        let from = self.index.partition_point(|(at, _)| *at <= id);
        self.index[from..].iter().map_while(|(id, start)| {
            let mut reader = Reader(self.body.get(*start as usize..)?);
            // It was read to its end when the segment was made.
            Change::read(&mut reader, id.epoch, &self.shapes).ok()
        })
    }

    /// All its changes.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.after(EventId::default())
    }

    /// Its bytes, as [`Segment::decode`] reads them.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 256);
        out.push(VERSION);
        put_number(&mut out, self.first().map_or(0, |id| u64::from(id.epoch)));
        put_number(&mut out, self.shapes.len() as u64);
        for shape in &self.shapes {
            put_number(&mut out, u64::from(shape.relation));
            put_bytes(&mut out, shape.schema.as_bytes());
            put_bytes(&mut out, shape.table.as_bytes());
            put_number(&mut out, shape.columns.len() as u64);
            for column in &shape.columns {
                out.push(u8::from(column.is_key));
                put_bytes(&mut out, column.name.as_bytes());
            }
        }
        out.extend_from_slice(&self.body);
        out
    }

    /// Reads what [`Segment::encode`] has written. Whatever the bytes are, it ends with a segment or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let mut reader = Reader(bytes);
        match reader.0.split_first() {
            Some((&VERSION, rest)) => reader.0 = rest,
            Some(_) => return Err(SegmentError::Version),
            None => return Err(SegmentError::Damaged),
        }
        let epoch = reader.small()?;
        let mut shapes = Vec::new();
        for _ in 0..reader.number()? {
            let (relation, schema, table) =
                (reader.small()?, reader.text()?.to_owned(), reader.text()?.to_owned());
            let mut columns = Vec::new();
            for _ in 0..reader.number()? {
                let (is_key, rest) = reader.0.split_first().ok_or(Damaged)?;
                reader.0 = rest;
                columns.push(Column { is_key: *is_key == 1, name: reader.text()?.to_owned() });
            }
            shapes.push(Arc::new(Shape { relation, schema, table, columns }));
        }
        let body = reader.0.to_vec();
        let mut index: Vec<(EventId, u32)> = Vec::new();
        let mut reader = Reader(&body);
        while !reader.0.is_empty() {
            let start = u32::try_from(body.len() - reader.0.len()).map_err(|_| Damaged)?;
            let id = Change::read(&mut reader, epoch, &shapes)?.id;
            if index.last().is_some_and(|(last, _)| *last >= id) {
                return Err(SegmentError::Damaged);
            }
            index.push((id, start));
        }
        Ok(Self { shapes, body, index })
    }
}

/// Makes a segment, change by change.
#[derive(Debug, Default)]
pub struct SegmentBuilder {
    epoch: u32,
    shapes: Vec<Arc<Shape>>,
    /// By where they are in memory: they are held in `shapes`.
    numbers: HashMap<usize, usize>,
    body: Vec<u8>,
    index: Vec<(EventId, u32)>,
}

/// What a change has besides its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which it is. Above that of the change before, and of the builder's epoch.
    pub id: EventId,
    /// What happened.
    pub op: Op,
    /// When it was committed, in microseconds since 1970.
    pub commit_micros: i64,
    /// The lower 32 bits of the transaction's id.
    pub xid: u32,
    /// For whom alone it is.
    pub target: Option<Target>,
}

impl SegmentBuilder {
    /// One whose changes are of this epoch.
    pub fn new(epoch: u32) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.body.len() + self.index.len() * size_of::<(EventId, u32)>()
    }

    /// Changes so far.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none so far.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Appends a change; its rows have a cell for every column of the shape.
    pub fn push(
        &mut self,
        head: Head,
        shape: &Arc<Shape>,
        new: Option<&RowBuffer>,
        old: Option<OldBuffer<'_>>,
    ) {
        debug_assert_eq!(head.id.epoch, self.epoch);
        let (full, old) = match old {
            None => (0, None),
            Some(OldBuffer::Key(row)) => (1, Some(row)),
            Some(OldBuffer::Full(row)) => (2, Some(row)),
        };
        self.head(head, shape, u8::from(new.is_some()) | full << 1);
        for row in new.into_iter().chain(old) {
            debug_assert_eq!(row.count, shape.columns.len());
            self.body.extend_from_slice(&row.bytes);
        }
    }

    /// Appends that changes may be missing here, and why.
    pub fn push_gap(&mut self, head: Head, reason: &str) {
        self.head(Head { op: Op::Gap, ..head }, &Arc::default(), 0);
        put_bytes(&mut self.body, reason.as_bytes());
    }

    fn head(&mut self, head: Head, shape: &Arc<Shape>, rows: u8) {
        let shape = *self.numbers.entry(Arc::as_ptr(shape).addr()).or_insert_with(|| {
            self.shapes.push(Arc::clone(shape));
            self.shapes.len() - 1
        });
        // Whoever builds one ends it long before it has 4 GiB.
        self.index.push((head.id, self.body.len() as u32));
        let out = &mut self.body;
        out.push(head.op as u8);
        put_number(out, head.id.lsn.0);
        put_number(out, u64::from(head.id.index));
        // Of signed numbers the bits are meant.
        put_number(out, head.commit_micros as u64);
        put_number(out, u64::from(head.xid));
        put_number(out, shape as u64);
        out.push(rows | u8::from(head.target.is_some()) << 3);
        if let Some(target) = head.target {
            put_number(out, target.stakeholder as u64);
            put_number(out, target.backfill as u64);
        }
    }

    /// The segment; the builder is empty again.
    pub fn finish(&mut self) -> Segment {
        self.numbers.clear();
        Segment {
            shapes: std::mem::take(&mut self.shapes),
            body: std::mem::take(&mut self.body),
            index: std::mem::take(&mut self.index),
        }
    }
}

/// A row that is being written, used again for the next.
#[derive(Debug, Default)]
pub struct RowBuffer {
    bytes: Vec<u8>,
    count: usize,
    scratch: Vec<u8>,
}

impl RowBuffer {
    /// Begins the next row.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// Appends a cell.
    pub fn put(&mut self, cell: Cell<'_>) {
        cell.write(&mut self.bytes);
        self.count += 1;
    }

    /// Appends a cell whose JSON `write` appends to what it is given.
    pub fn json<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let written = write(&mut scratch);
        if written.is_ok() {
            self.put(Cell::Json(&scratch));
        }
        self.scratch = scratch;
        written
    }
}

/// What is known of a row as it was before.
#[derive(Clone, Copy, Debug)]
pub enum OldBuffer<'a> {
    /// Only the columns of the replica identity; the others are [`Cell::Absent`].
    Key(&'a RowBuffer),
    /// All of it.
    Full(&'a RowBuffer),
}

#[cfg(test)]
mod tests {
    use integratedb_wire::Lsn;

    use super::*;
    use crate::{Keys, Old};

    fn shape() -> Arc<Shape> {
        let column = |name: &str, is_key| Column { name: name.to_owned(), is_key };
        Arc::new(Shape {
            relation: 7,
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            columns: vec![column("id", true), column("note", false)],
        })
    }

    fn row(cells: &[Cell<'_>]) -> RowBuffer {
        let mut row = RowBuffer::default();
        cells.iter().for_each(|cell| row.put(*cell));
        row
    }

    fn head(index: u32, op: Op) -> Head {
        let id = EventId { epoch: 3, lsn: Lsn(99), index };
        Head { id, op, commit_micros: -5, xid: 8, target: None }
    }

    fn built() -> Segment {
        let (shape, mut builder) = (shape(), SegmentBuilder::new(3));
        let one = row(&[Cell::Json(b"1"), Cell::Json(b"\"a\"")]);
        let two = row(&[Cell::Json(b"2"), Cell::Unchanged]);
        let key = row(&[Cell::Json(b"1"), Cell::Absent]);
        builder.push(head(0, Op::Insert), &shape, Some(&one), None);
        builder.push(head(1, Op::Update), &shape, Some(&two), Some(OldBuffer::Key(&key)));
        builder.push(head(4, Op::Delete), &shape, None, Some(OldBuffer::Full(&two)));
        let target = Some(Target { stakeholder: 4, backfill: -1 });
        let rows = Head { target, ..head(EventId::SNAPSHOT, Op::Snapshot) };
        builder.push(rows, &shape, Some(&one), None);
        builder.push_gap(head(u32::MAX, Op::Gap), "the slot was lost");
        builder.finish()
    }

    #[test]
    fn a_segment_reads_as_it_was_built() {
        let segment = built();
        let again = Segment::decode(&segment.encode()).expect("it was just written");
        let (changes, others): (Vec<_>, Vec<_>) =
            (segment.changes().collect(), again.changes().collect());
        assert_eq!(changes, others);
        assert_eq!(changes.len(), 5);
        assert_eq!(
            changes[0].new.map(|row| row.iter().collect()),
            Some(vec![Cell::Json(b"1"), Cell::Json(b"\"a\"")])
        );
        assert_eq!(changes[1].old.map(|old| matches!(old, Old::Key(_))), Some(true));
        assert_eq!(changes[3].target, Some(Target { stakeholder: 4, backfill: -1 }));
        assert_eq!((changes[4].reason, changes[4].commit_micros), ("the slot was lost", -5));
        assert_eq!(segment.after(changes[1].id).count(), 3);
    }

    #[test]
    fn a_change_belongs_to_the_order_of_its_rows() {
        let segment = built();
        let keys: Vec<Keys> = segment.changes().map(|change| change.keys()).collect();
        let (Keys::Row(7, one), Keys::Rows(7, two, old)) = (keys[0], keys[1]) else {
            panic!("{keys:?}")
        };
        assert!(one == old && one != two);
        assert_eq!(keys[2..], [Keys::Row(7, two), Keys::Row(7, one), Keys::All]);
    }

    #[test]
    fn damaged_bytes_are_an_error_and_no_panic() {
        let bytes = built().encode();
        for at in 0..bytes.len() {
            let _ = Segment::decode(&bytes[..at]);
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                let _ = Segment::decode(&other).map(|segment| segment.changes().count());
            }
        }
        assert_eq!(Segment::decode(&[2]).err(), Some(SegmentError::Version));
    }
}
