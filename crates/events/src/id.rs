//! The name of a change.

use std::fmt;
use std::str::FromStr;

use integratedb_wire::Lsn;

/// Where a change stands among all changes: the same each time the WAL is decoded, and in the order of commits.
///
/// As text `EPOCH-LSN-INDEX`, the position in 16 hexadecimal digits: `1-00000000016B3748-3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Raised when positions of before and after can't be compared: another server, or a slot that was lost.
    pub epoch: u32,
    /// Where the transaction's commit is.
    pub lsn: Lsn,
    /// Which change of the transaction it is, from 0.
    pub index: u32,
}

impl EventId {
    /// The first index of rows that a backfill has read: above those of a transaction's own changes.
    pub const SNAPSHOT: u32 = 1_000_000_000;

    /// After all of a transaction's changes, and rows of backfills that belong there.
    pub const fn end_of(epoch: u32, lsn: Lsn) -> Self {
        Self { epoch, lsn, index: u32::MAX }
    }
}

/// A text that names no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of an event is EPOCH-LSN-INDEX, such as 1-00000000016B3748-3")]
pub struct EventIdError;

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016X}-{}", self.epoch, self.lsn.0, self.index)
    }
}

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, EventIdError> {
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut parts = text.split('-');
        let (Some(epoch), Some(lsn), Some(index), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(EventIdError);
        };
        if lsn.len() != 16 || !(plain(epoch) && plain(lsn) && plain(index)) {
            return Err(EventIdError);
        }
        Ok(Self {
            epoch: epoch.parse().map_err(|_| EventIdError)?,
            lsn: Lsn(u64::from_str_radix(lsn, 16).map_err(|_| EventIdError)?),
            index: index.parse().map_err(|_| EventIdError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_as_it_is_written() {
        let id = EventId { epoch: 1, lsn: Lsn(0x016B_3748), index: 3 };
        assert_eq!(id.to_string(), "1-00000000016B3748-3");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            "1-2-3",
            "1-00000000016B3748",
            "1-00000000016B3748-3-4",
            "-1-00000000016B3748-3",
            "1-00000000016B3748-+3",
        ] {
            assert_eq!(text.parse::<EventId>(), Err(EventIdError), "{text}");
        }
    }

    #[test]
    fn ids_are_ordered_by_epoch_then_commit_then_index() {
        let id = |epoch, lsn, index| EventId { epoch, lsn: Lsn(lsn), index };
        let mut ids =
            [id(2, 1, 0), id(1, 20, 0), id(1, 3, 7), id(1, 3, 1), EventId::end_of(1, Lsn(3))];
        ids.sort();
        assert_eq!(
            ids,
            [id(1, 3, 1), id(1, 3, 7), EventId::end_of(1, Lsn(3)), id(1, 20, 0), id(2, 1, 0)]
        );
    }
}
