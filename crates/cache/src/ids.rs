//! The names of things: positions, transactions, tables, columns and keys.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A position in the write-ahead log (PostgreSQL manual, "`pg_lsn` Type").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

impl FromStr for Lsn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let half = |digits: &str| {
            let plain = matches!(digits.len(), 1..=8)
                && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok().filter(|_| plain).ok_or(Error::Lsn)
        };
        let (high, low) = text.split_once('/').ok_or(Error::Lsn)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

/// A transaction, by its 64-bit number that never comes back (PostgreSQL manual, "`xid8`").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u64);

/// The transaction that the log calls `short`, given a transaction of about the same time.
///
/// pgoutput has 32 bits of the number only. PostgreSQL never lets two transactions that are both still of
/// interest lie 2^31 apart (PostgreSQL manual, "Preventing Transaction ID Wraparound Failures"), so the nearest
/// number with those low bits is the one.
pub fn widen(short: u32, near: Xid) -> Xid {
    // The low half of `near` is meant, and the distance is signed.
    let distance = short.wrapping_sub(near.0 as u32) as i32;
    Xid(near.0.checked_add_signed(i64::from(distance)).unwrap_or(u64::from(short)))
}

/// A table, by `pg_class.oid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// A column of a table, by `pg_attribute.attnum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub i16);

/// What was asked, by whom and with which settings: the caller's 128-bit keyed hash of all that can change the
/// answer. Two questions with one key get one answer.
// Packed to 8 bytes: as many of them as entries lie in tables, beside 8-byte things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C, packed(8))]
pub struct Key(pub u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_xid_is_widened_to_the_nearest() {
        let epoch = 1_u64 << 32;
        assert_eq!(widen(7, Xid(5)), Xid(7));
        assert_eq!(widen(3, Xid(5)), Xid(3));
        assert_eq!(widen(1, Xid(epoch - 1)), Xid(epoch + 1));
        assert_eq!(widen(u32::MAX, Xid(epoch + 1)), Xid(epoch - 1));
        assert_eq!(widen(9, Xid(7 * epoch + 3)), Xid(7 * epoch + 9));
        assert_eq!(widen(u32::MAX, Xid(3)), Xid(epoch - 1));
    }

    #[test]
    fn a_position_reads_as_it_is_written() {
        let position: Lsn = "16/B374D848".parse().expect("the manual's example");
        assert_eq!(position, Lsn(0x16_B374_D848));
        assert_eq!(position.to_string(), "16/B374D848");
        for wrong in ["", "/", "1", "1/", "/1", "1/ 2", "+1/2", "123456789/1", "1/G"] {
            assert_eq!(wrong.parse::<Lsn>(), Err(Error::Lsn), "{wrong}");
        }
    }
}
