//! Dates and timestamps: in JSON as in ISO 8601, whatever DateStyle says. Written in DateStyle ISO they lack only the T,
//! and the minutes of a time zone of whole hours.

use super::{ValueError, write_string};

pub(super) fn write_date(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    if !is_infinite(text) {
        let mut scan = Scan(text);
        (scan.date() && scan.end()).then_some(()).ok_or(ValueError::Date)?;
    }
    write_string(text, out);
    Ok(())
}

/// Appends a timestamp, with a time zone if the type has one.
pub(super) fn write_timestamp(
    text: &[u8],
    has_zone: bool,
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if is_infinite(text) {
        write_string(text, out);
        return Ok(());
    }
    let is_right = |yes: bool| yes.then_some(()).ok_or(ValueError::Timestamp);
    let mut scan = Scan(text);
    is_right(scan.date())?;
    let date = &text[..text.len() - scan.0.len()];
    is_right(scan.literal(b" "))?;
    let time = scan.0;
    is_right(scan.time())?;
    let has_minutes = if has_zone { scan.zone().ok_or(ValueError::Timestamp)? } else { true };
    let (time, era) = time.split_at(time.len() - scan.0.len());
    is_right(scan.end())?;

    out.push(b'"');
    out.extend_from_slice(date);
    out.push(b'T');
    out.extend_from_slice(time);
    if !has_minutes {
        out.extend_from_slice(b":00");
    }
    out.extend_from_slice(era);
    out.push(b'"');
    Ok(())
}

fn is_infinite(text: &[u8]) -> bool {
    matches!(text, b"infinity" | b"-infinity")
}

/// What is left of a text.
struct Scan<'a>(&'a [u8]);

impl Scan<'_> {
    fn literal(&mut self, literal: &[u8]) -> bool {
        self.0.strip_prefix(literal).map(|rest| self.0 = rest).is_some()
    }

    /// Digits, this many.
    fn digits(&mut self, least: usize, most: usize) -> bool {
        let count = self.0.iter().take(most + 1).take_while(|byte| byte.is_ascii_digit()).count();
        let fits = (least..=most).contains(&count);
        if fits {
            self.0 = &self.0[count..];
        }
        fits
    }

    /// The last year of a date is 5874897.
    fn date(&mut self) -> bool {
        self.digits(4, 7)
            && self.literal(b"-")
            && self.digits(2, 2)
            && self.literal(b"-")
            && self.digits(2, 2)
    }

    fn time(&mut self) -> bool {
        self.digits(2, 2)
            && self.literal(b":")
            && self.digits(2, 2)
            && self.literal(b":")
            && self.digits(2, 2)
            && (!self.literal(b".") || self.digits(1, 6))
    }

    /// Whether the offset of a time zone tells minutes; None if there is no offset.
    fn zone(&mut self) -> Option<bool> {
        ((self.literal(b"+") || self.literal(b"-")) && self.digits(2, 2)).then_some(())?;
        if !self.literal(b":") {
            return Some(false);
        }
        (self.digits(2, 2) && (!self.literal(b":") || self.digits(2, 2))).then_some(true)
    }

    /// The era, which is told of years before the first only, and nothing after it.
    fn end(&mut self) -> bool {
        matches!(self.0, b"" | b" BC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> [Option<String>; 3] {
        let written = |write: &dyn Fn(&mut Vec<u8>) -> Result<(), ValueError>| {
            let mut out = Vec::new();
            write(&mut out).ok()?;
            Some(String::from_utf8(out).expect("text in, text out").replace('"', ""))
        };
        [
            written(&|out| write_date(text.as_bytes(), out)),
            written(&|out| write_timestamp(text.as_bytes(), false, out)),
            written(&|out| write_timestamp(text.as_bytes(), true, out)),
        ]
    }

    #[test]
    fn dates_and_times_are_written_as_iso_8601() {
        let of = |text: &str, at: usize| all(text)[at].clone().unwrap_or_default();
        for date in ["2026-11-21", "0001-01-01", "5874897-12-31", "4714-11-24 BC"] {
            assert_eq!(all(date), [Some(date.to_owned()), None, None]);
        }
        for infinite in ["infinity", "-infinity"] {
            assert_eq!(all(infinite), [0; 3].map(|_| Some(infinite.to_owned())));
        }
        assert_eq!(of("2026-11-21 14:00:00", 1), "2026-11-21T14:00:00");
        assert_eq!(of("294276-12-31 23:59:59.999999", 1), "294276-12-31T23:59:59.999999");
        assert_eq!(of("0044-03-15 12:00:00 BC", 1), "0044-03-15T12:00:00 BC");
        assert_eq!(of("2026-11-21 14:00:00.5+00", 2), "2026-11-21T14:00:00.5+00:00");
        assert_eq!(of("0044-03-15 12:00:00+00 BC", 2), "0044-03-15T12:00:00+00:00 BC");
        assert_eq!(of("2026-11-21 14:00:00-03:30", 2), "2026-11-21T14:00:00-03:30");
        assert_eq!(of("1890-01-01 00:00:00+00:53:28", 2), "1890-01-01T00:00:00+00:53:28");
    }

    #[test]
    fn other_styles_are_refused() {
        for text in [
            "",
            "21/11/2026",
            "11-21-2026",
            "926-11-21",
            "2026-11-21 AD",
            "2026-11-2",
            "12026-11-21x",
            "2026-11-21T14:00:00",
            "2026-11-21 14:00",
            "2026-11-21 14:00:00.",
            "2026-11-21 14:00:00 UTC",
            "2026-11-21 14:00:00.1234567",
            "2026-11-21 14:00:00+0",
            "2026-11-21 14:00:00+00:",
            "2026-11-21 14:00:00+00:00:00:00",
            "Sat Nov 21 14:00:00 2026",
            "Infinity",
            "12345678-01-01",
        ] {
            assert_eq!(all(text), [None, None, None], "{text}");
        }
        assert_eq!(all("2026-11-21 14:00:00")[2], None, "the zone is missing");
        assert_eq!(all("2026-11-21 14:00:00+00")[1], None, "a zone that the type does not have");
    }
}
