//! The names of things: transactions, tables, columns and keys.

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
}
