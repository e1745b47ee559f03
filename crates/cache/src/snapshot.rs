//! Which transactions a query saw.

use std::cmp::Reverse;
use std::str::FromStr;

use crate::{Error, Xid};

/// What `pg_current_snapshot()` gives (PostgreSQL manual, "Transaction ID and Snapshot Information Functions").
///
/// It speaks of top-level transactions. Of one origin, a snapshot taken later sees all that an earlier one sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// All before this one had ended.
    pub xmin: Xid,
    /// This one and all after it had not begun.
    pub xmax: Xid,
    /// Those between that had not ended, ascending.
    pub in_progress: Box<[Xid]>,
}

impl Snapshot {
    /// A snapshot from its parts, if they fit together.
    pub fn new(xmin: Xid, xmax: Xid, in_progress: Vec<Xid>) -> Result<Self, Error> {
        let ordered = in_progress.is_sorted_by(|a, b| a < b);
        let within = in_progress.iter().all(|xid| (xmin..xmax).contains(xid));
        if xmin > xmax || xmin == Xid(0) || !ordered || !within {
            return Err(Error::Snapshot);
        }
        Ok(Self { xmin, xmax, in_progress: in_progress.into() })
    }

    /// Whether what this transaction did is visible, provided that it has committed.
    pub fn sees(&self, xid: Xid) -> bool {
        xid < self.xmin || xid < self.xmax && self.in_progress.binary_search(&xid).is_err()
    }

    /// The binary form, as `pg_snapshot_send` writes it.
    pub fn from_binary(bytes: &[u8]) -> Result<Self, Error> {
        let (count, rest) = bytes.split_first_chunk::<4>().ok_or(Error::Snapshot)?;
        let (numbers, left) = rest.as_chunks::<8>();
        let numbers: Vec<Xid> = numbers.iter().map(|xid| Xid(u64::from_be_bytes(*xid))).collect();
        let (Ok(count), [xmin, xmax, in_progress @ ..], []) =
            (usize::try_from(i32::from_be_bytes(*count)), &numbers[..], left)
        else {
            return Err(Error::Snapshot);
        };
        if in_progress.len() != count {
            return Err(Error::Snapshot);
        }
        Self::new(*xmin, *xmax, in_progress.to_vec())
    }

    /// Orders snapshots of one origin by when they were taken.
    pub(crate) fn age(&self) -> (Xid, Xid, Reverse<usize>) {
        (self.xmax, self.xmin, Reverse(self.in_progress.len()))
    }
}

/// The text form, `xmin:xmax:a,b`.
impl FromStr for Snapshot {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let xid = |digits: &str| {
            let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse().ok().filter(|_| plain).map(Xid).ok_or(Error::Snapshot)
        };
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::Snapshot);
        };
        let in_progress = list.split(',').filter(|_| !list.is_empty()).map(xid);
        Self::new(xid(xmin)?, xid(xmax)?, in_progress.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary_say_the_same() {
        let text: Snapshot = "10:20:10,14".parse().expect("a snapshot");
        let mut binary = 2_i32.to_be_bytes().to_vec();
        for xid in [10_u64, 20, 10, 14] {
            binary.extend(xid.to_be_bytes());
        }
        assert_eq!(Snapshot::from_binary(&binary).as_ref(), Ok(&text));
        let seen: Vec<u64> = (8..23).filter(|xid| text.sees(Xid(*xid))).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 15, 16, 17, 18, 19]);
        assert!("10:10:".parse::<Snapshot>().is_ok());
        for cut in 0..binary.len() {
            assert_eq!(Snapshot::from_binary(&binary[..cut]), Err(Error::Snapshot));
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for wrong in ["", "1:2", "2:1:", "10:20:9", "10:20:20", "10:20:12,11", "10:20:1 1", "0:1:"]
        {
            assert_eq!(wrong.parse::<Snapshot>(), Err(Error::Snapshot), "{wrong}");
        }
    }
}
