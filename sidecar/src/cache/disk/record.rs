//! An entry, as it is written.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use integratedb_cache::{
    Answer, Body, ColumnId, Digest, Durable, Entry, Lsn, Pin, Snapshot, TableId, Xid,
};

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

/// What to write of an entry, which has its bytes.
pub(super) fn write(entry: &Entry<Label>, answer: &Answer, now: Now) -> Vec<u8> {
    let mut out = Vec::with_capacity(length(entry));
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
    for bytes in [entry.label.template.text.as_bytes(), answer.description(), answer.rows()] {
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

/// About how long the record of an entry is, sealed.
pub(super) fn length(entry: &Entry<Label>) -> usize {
    let numbers = 8 + entry.read_at.in_progress.len() + 3 * entry.pins.len() + 3;
    let answer = entry.answer().map_or(0, |answer| answer.all().len());
    8 * numbers + entry.label.template.text.len() + answer + 64
}

/// What a record says.
struct Parts<'a> {
    position: Lsn,
    cost: Duration,
    /// When it was written, and how long it counted from then on.
    written: u64,
    left: u64,
    read_at: Snapshot,
    pins: Box<[Pin]>,
    template: &'a str,
    description: &'a [u8],
    rows: &'a [u8],
}

fn parts(bytes: &[u8]) -> Option<Parts<'_>> {
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
    let (description, rows) = (rest.bytes()?, rest.bytes()?);
    let read_at = Snapshot::new(xmin, xmax, in_progress).ok()?;
    let pins = pins.into();
    rest.0.is_empty().then_some(Parts {
        position,
        cost,
        written,
        left,
        read_at,
        pins,
        template,
        description,
        rows,
    })
}

/// Reads an entry, without its bytes if they are to stay where they are; `None` if nobody wrote this.
pub(super) fn read(
    bytes: &[u8],
    now: Now,
    without_answer: bool,
    label: impl FnOnce(&str) -> Arc<Label>,
) -> Option<Read> {
    let Parts { position, cost, written, left, read_at, pins, template, description, rows } =
        parts(bytes)?;
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
    let body = match without_answer {
        true => Body::Disk {
            bytes: description.len() + rows.len(),
            is_described: !description.is_empty(),
        },
        false => Body::Memory(Answer::new(description, rows)),
    };
    let entry = Entry {
        body,
        durable: Durable::yes(),
        read_at,
        position,
        pins,
        label: label(template),
        cost,
        until,
        seen_by_replication: true,
    };
    Some(Read::Entry(Box::new(entry)))
}

/// The bytes of an entry, if this is what was written of it. A record of the same question at another time is not: what
/// decides whether it counts has to be the record's own.
pub(super) fn read_answer(bytes: &[u8], entry: &Entry<Label>) -> Option<Answer> {
    let parts = parts(bytes)?;
    let is_it = parts.read_at == entry.read_at
        && parts.position == entry.position
        && parts.pins == entry.pins;
    is_it.then(|| Answer::new(parts.description, parts.rows))
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

    fn answer() -> Answer {
        Answer::new(b"description", b"rows")
    }

    fn entry(until: Option<Instant>) -> Entry<Label> {
        Entry {
            body: Body::Memory(answer()),
            durable: Durable::default(),
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
        read(bytes, now, false, |text| {
            assert_eq!(text, TEXT);
            label(text)
        })
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let (now, written) = (Now::read(), entry(None));
        let bytes = write(&written, &answer(), now);
        assert!(bytes.len() <= length(&written) && length(&written) <= bytes.len() + 64);
        let Some(Read::Entry(read)) = back(&bytes, now) else { panic!("it was written") };
        assert_eq!((&read.body, &read.read_at), (&written.body, &written.read_at));
        assert_eq!((read.position, &read.pins), (written.position, &written.pins));
        assert_eq!((read.cost, read.until), (written.cost, None));
        for cut in 0..bytes.len() {
            assert!(back(&bytes[..cut], now).is_none(), "cut at {cut}");
        }
        assert!(back(&[&bytes[..], b"x"].concat(), now).is_none());
    }

    #[test]
    fn what_is_not_of_the_entry_is_not_its_answer() {
        let (now, left) = (Now::read(), entry(None).without_answer());
        let bytes = write(&entry(None), &answer(), now);
        assert_eq!(read_answer(&bytes, &left), Some(answer()));
        let Some(Read::Entry(stub)) = read(&bytes, now, true, label) else {
            panic!("it was written")
        };
        assert_eq!(stub.body, left.body);
        assert_eq!(stub.body, Body::Disk { bytes: 15, is_described: true });
        assert_eq!(read_answer(&bytes, &stub), Some(answer()));
        let others = [
            Entry { position: Lsn(78), ..entry(None) },
            Entry { read_at: "10:20:10".parse().expect("a snapshot"), ..entry(None) },
            Entry { pins: [].into(), ..entry(None) },
        ];
        for other in others {
            assert_eq!(read_answer(&write(&other, &answer(), now), &left), None);
        }
        assert_eq!(read_answer(&bytes[1..], &left), None);
    }

    #[test]
    fn time_goes_on_while_the_process_is_away() {
        let now = Now::read();
        let until = Some(now.instant + Duration::from_secs(60));
        let bytes = write(&entry(until), &answer(), now);
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
