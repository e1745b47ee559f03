//! A position in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A position in the WAL of one timeline (PostgreSQL manual, "pg_lsn Type"). 0 is no position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// A text that is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a WAL position is two hexadecimal numbers with a slash between them")]
pub struct LsnError;

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = LsnError;

    fn from_str(text: &str) -> Result<Self, LsnError> {
        let half = |digits: &str| {
            let plain = matches!(digits.len(), 1..=8)
                && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok().filter(|_| plain).ok_or(LsnError)
        };
        let (high, low) = text.split_once('/').ok_or(LsnError)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_as_it_is_written() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().map(|lsn| lsn.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("1/2".parse(), Ok(Lsn(0x1_0000_0002)));
        for text in ["", "/", "1", "1/", "/1", "1/ 2", "+1/2", "x/1", "1/G", "1/123456789"] {
            assert_eq!(text.parse::<Lsn>(), Err(LsnError), "{text}");
        }
    }
}
