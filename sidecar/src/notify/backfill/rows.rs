//! Rows as they were read, and the table they are of.

use std::sync::Arc;

use super::window::Key;
use crate::replication::{Relation, Value};

/// A table whose rows are read, as it was then.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// As the stream would tell it.
    pub(super) relation: Arc<Relation>,
    /// The columns of its key, in the order of its index.
    pub(super) key: Vec<String>,
    /// Their attribute numbers.
    pub(super) numbers: Vec<i16>,
    /// About how many rows it has.
    pub(super) estimated: i64,
}

/// Rows, in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Rows {
    bytes: Vec<u8>,
    rows: Vec<(usize, Key)>,
}

impl Rows {
    /// Appends a row: a text for each column, or `None` for NULL. `key` has the places of the key's columns; a row
    /// that has NULL there is none.
    pub(super) fn push(&mut self, texts: &[Option<&str>], key: &[usize]) {
        let start = self.bytes.len();
        for text in texts {
            // No text is that long.
            let length = text.map_or(u32::MAX, |text| text.len() as u32);
            self.bytes.extend_from_slice(&length.to_ne_bytes());
            self.bytes.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        let values = key.iter().map(|place| texts.get(*place).copied().flatten());
        match Key::of(values.map(|text| text.map(str::as_bytes))) {
            Some(key) => self.rows.push((start, key)),
            None => self.bytes.truncate(start),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// What they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Their keys.
    pub(super) fn keys(&self) -> impl DoubleEndedIterator<Item = &Key> {
        self.rows.iter().map(|(_, key)| key)
    }

    /// The values of a row.
    pub(super) fn row(&self, place: usize) -> impl Iterator<Item = Value<'_>> {
        let start = self.rows.get(place).map_or(self.bytes.len(), |(start, _)| *start);
        let end = self.rows.get(place + 1).map_or(self.bytes.len(), |(start, _)| *start);
        let mut rest = &self.bytes[start..end];
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = u32::from_ne_bytes(*length);
            if length == u32::MAX {
                rest = after;
                return Some(Value::Null);
            }
            let (text, after) = after.split_at_checked(length as usize)?;
            rest = after;
            Some(Value::Text(text))
        })
    }
}

/// Rows that were read between a low and a high mark.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Whom they are for.
    pub(super) stakeholder: i64,
    /// The table.
    pub(super) table: Table,
    /// The rows.
    pub(super) rows: Rows,
    /// What of `integratedb.backfill_left` was asked for; without any, the rows follow on the last key.
    pub(super) asked: Vec<(i64, Key)>,
    /// There is no row after these.
    pub(super) at_end: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_as_they_were_written() {
        let mut rows = Rows::default();
        rows.push(&[Some("1"), None, Some("")], &[0]);
        rows.push(&[None, Some("no key"), None], &[0]);
        rows.push(&[Some("2"), Some("b"), None], &[0]);
        let row = |place| rows.row(place).collect::<Vec<_>>();
        assert_eq!(row(0), [Value::Text(b"1"), Value::Null, Value::Text(b"")]);
        assert_eq!(row(1), [Value::Text(b"2"), Value::Text(b"b"), Value::Null]);
        assert_eq!(row(2), []);
        assert_eq!(rows.keys().map(Key::texts).collect::<Vec<_>>(), [["1"], ["2"]]);
    }
}
