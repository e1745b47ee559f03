//! An entry, as it is written.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use integratedb_cache::{Answer, ColumnId, Digest, Entry, Lsn, Pin, Snapshot, TableId, Xid};

use crate::cache::engine::Label;

/// Two clocks read at once: entries end by the one that does not go on while the process is away.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) instant: Instant,
    pub(super) system: SystemTime,
}

impl Now {
    pub(super) fn read() -> Self {
        Self { instant: Instant::now(), system: SystemTime::now() }
    }

    fn micros(self) -> u64 {
        let since = self.system.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

/// What to write of an entry.
pub(super) fn write(entry: &Entry<Label>, now: Now) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.answer.all().len() + 256);
    let mut number = |number: u64| out.extend_from_slice(&number.to_le_bytes());
    number(entry.position.0);
    number(u64::try_from(entry.cost.as_micros()).unwrap_or(u64::MAX));
    // A clock that is set back must not make an entry live longer: what is left counts, from when on it did.
    number(now.micros());
    let left = entry.until.map(|until| until.saturating_duration_since(now.instant).as_micros());
    number(left.map_or(u64::MAX, |left| u64::try_from(left).unwrap_or(u64::MAX - 1)));
    let Snapshot { xmin, xmax, in_progress } = &entry.read_at;
    number(xmin.0);
    number(xmax.0);
    number(in_progress.len() as u64);
    in_progress.iter().for_each(|xid| number(xid.0));
    number(entry.pins.len() as u64);
    for pin in &entry.pins {
        number(u64::from(pin.table.0));
        // Beyond any column's number: none.
        number(pin.column.map_or(u64::MAX, |column| u64::from(column.0.cast_unsigned())));
        number(pin.digest.0);
    }
    for bytes in
        [entry.label.template.text.as_bytes(), entry.answer.description(), entry.answer.rows()]
    {
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    out
}

/// What was read of an entry.
pub(super) enum Read {
    /// It counts.
    Entry(Box<Entry<Label>>),
    /// Its time is over, or nobody can tell.
    Expired,
}

/// Reads an entry; `None` if nobody wrote this.
pub(super) fn read(bytes: &[u8], now: Now, label: impl FnOnce(&str) -> Arc<Label>) -> Option<Read> {
    let mut rest = Rest(bytes);
    let position = Lsn(rest.number()?);
    let cost = Duration::from_micros(rest.number()?);
    let (written, left) = (rest.number()?, rest.number()?);
    let (xmin, xmax) = (Xid(rest.number()?), Xid(rest.number()?));
    let in_progress = rest.many(|rest| rest.number().map(Xid))?;
    let pins = rest.many(|rest| {
        let table = TableId(rest.number()?.try_into().ok()?);
        let column = match rest.number()? {
            u64::MAX => None,
            number => Some(ColumnId(u16::try_from(number).ok()?.cast_signed())),
        };
        Some(Pin { table, column, digest: Digest(rest.number()?) })
    })?;
    let template = std::str::from_utf8(rest.bytes()?).ok()?;
    let answer = Answer::new(rest.bytes()?, rest.bytes()?);
    if !rest.0.is_empty() {
        return None;
    }
    let until = match left {
        u64::MAX => None,
        left => {
            let left = now.micros().checked_sub(written).and_then(|away| left.checked_sub(away));
            match left {
                Some(left) => Some(now.instant + Duration::from_micros(left)),
                None => return Some(Read::Expired),
            }
        }
    };
    let entry = Entry {
        answer,
        read_at: Snapshot::new(xmin, xmax, in_progress).ok()?,
        position,
        pins: pins.into(),
        label: label(template),
        cost,
        until,
        seen_by_replication: true,
    };
    Some(Read::Entry(Box::new(entry)))
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        (0..count).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::observe::Queries;

    const TEXT: &str = "SELECT ?";

    fn label(text: &str) -> Arc<Label> {
        Arc::new(Label { template: Queries::new(1, [0; 16]).recall(text) })
    }

    fn entry(until: Option<Instant>) -> Entry<Label> {
        Entry {
            answer: Answer::new(b"description", b"rows"),
            read_at: "10:20:10,14".parse().expect("a snapshot"),
            position: Lsn(77),
            pins: [
                Pin { table: TableId(5), column: None, digest: Digest(0) },
                Pin { table: TableId(6), column: Some(ColumnId(-3)), digest: Digest(u64::MAX) },
            ]
            .into(),
            label: label(TEXT),
            cost: Duration::from_millis(3),
            until,
            seen_by_replication: true,
        }
    }

    fn back(bytes: &[u8], now: Now) -> Option<Read> {
        read(bytes, now, |text| {
            assert_eq!(text, TEXT);
            label(text)
        })
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let (now, written) = (Now::read(), entry(None));
        let bytes = write(&written, now);
        let Some(Read::Entry(read)) = back(&bytes, now) else { panic!("it was written") };
        assert_eq!((&read.answer, &read.read_at), (&written.answer, &written.read_at));
        assert_eq!((read.position, &read.pins), (written.position, &written.pins));
        assert_eq!((read.cost, read.until), (written.cost, None));
        for cut in 0..bytes.len() {
            assert!(back(&bytes[..cut], now).is_none(), "cut at {cut}");
        }
        assert!(back(&[&bytes[..], b"x"].concat(), now).is_none());
    }

    #[test]
    fn time_goes_on_while_the_process_is_away() {
        let now = Now::read();
        let bytes = write(&entry(Some(now.instant + Duration::from_secs(60))), now);
        let at = |seconds: i64| {
            let distance = Duration::from_secs(seconds.unsigned_abs());
            let system = if seconds < 0 { now.system - distance } else { now.system + distance };
            match back(&bytes, Now { system, ..now }) {
                Some(Read::Entry(entry)) => entry.until.map(|until| until - now.instant),
                Some(Read::Expired) => None,
                None => panic!("it was written"),
            }
        };
        assert_eq!(at(20), Some(Duration::from_secs(40)));
        assert_eq!(at(61), None);
        assert_eq!(at(-1), None, "the clock was set back");
    }
}
