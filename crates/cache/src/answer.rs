//! The bytes of an answer.

use std::sync::Arc;

/// What the origin answered, as messages ready to be sent again. Cloning copies a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    bytes: Arc<[u8]>,
    /// Where the description ends.
    split: usize,
}

impl Answer {
    /// `description`: the RowDescription or NoData message, empty if none was asked for. `rows`: all from the
    /// first DataRow to CommandComplete.
    pub fn new(description: &[u8], rows: &[u8]) -> Self {
        let bytes = [description, rows].concat();
        Self { bytes: bytes.into(), split: description.len() }
    }

    /// The description, empty if none was asked for.
    pub fn description(&self) -> &[u8] {
        &self.bytes[..self.split]
    }

    /// The rows and what completes them.
    pub fn rows(&self) -> &[u8] {
        &self.bytes[self.split..]
    }

    /// The description and the rows, as they follow each other.
    pub fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// What the bytes take in memory.
    pub(crate) fn footprint(&self) -> usize {
        crate::entry::ARC_HEADER + self.bytes.len()
    }
}
