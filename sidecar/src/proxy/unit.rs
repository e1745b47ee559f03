//! What a client sends to have one statement run by itself: a Query, or the messages of the extended protocol from
//! Parse or Bind up to Sync. Only such a unit can be answered without the origin.

use integratedb_wire::frame::{self, HEADER};
use integratedb_wire::tag::frontend as tag;
use integratedb_wire::{Frontend, Target, bind_names};

/// A whole unit at the start of a client's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit<'a> {
    /// Query
    Simple { text: &'a [u8], length: usize },
    /// \[Parse\] Bind \[Describe\] Execute \[Close\] Sync, all of one portal and without a limit on rows.
    Extended(Extended<'a>),
    /// Parse, Describe and Close of statements, and Sync: nothing is run, and no data read.
    Preparation { length: usize },
}

/// A unit of the extended protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extended<'a> {
    pub(crate) parse: Option<Parse<'a>>,
    /// The name of the statement that is bound.
    pub(crate) statement: &'a [u8],
    /// The body of the Bind.
    pub(crate) bind: &'a [u8],
    /// What of that follows the names: parameters, and the formats of the results.
    pub(crate) parameters: &'a [u8],
    /// The portal is described before it is run.
    pub(crate) describes: bool,
    /// The portal is closed after it was run.
    pub(crate) closes: bool,
    /// Bytes of all messages.
    pub(crate) length: usize,
}

/// The Parse of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parse<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) text: &'a [u8],
    /// OIDs of four bytes each.
    pub(crate) types: &'a [u8],
    /// The whole message.
    pub(crate) message: &'a [u8],
}

impl Unit<'_> {
    pub(crate) const fn length(&self) -> usize {
        match self {
            Self::Simple { length, .. }
            | Self::Extended(Extended { length, .. })
            | Self::Preparation { length } => *length,
        }
    }
}

/// Takes the message at the start of `bytes`, if it is all there and of this type.
fn message<'a>(bytes: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    let header = frame::header(bytes).ok().flatten().filter(|header| header.tag == wanted)?;
    let (message, rest) = bytes.split_at_checked(header.total())?;
    *bytes = rest;
    Some(&message[HEADER..])
}

/// The unit that `bytes` begin with; `None` when they begin with anything else, or it is not there to its end.
pub(crate) fn read(bytes: &[u8]) -> Option<Unit<'_>> {
    match *bytes.first()? {
        tag::QUERY => {
            let mut rest = bytes;
            let text = message(&mut rest, tag::QUERY)?.strip_suffix(&[0])?;
            Some(Unit::Simple { text, length: bytes.len() - rest.len() })
        }
        tag::PARSE | tag::BIND => {
            extended(bytes).map(Unit::Extended).or_else(|| preparation(bytes))
        }
        tag::DESCRIBE | tag::CLOSE => preparation(bytes),
        _ => None,
    }
}

fn preparation(bytes: &[u8]) -> Option<Unit<'_>> {
    let mut rest = bytes;
    loop {
        let header = frame::header(rest).ok().flatten()?;
        let body = rest.get(HEADER..header.total())?;
        rest = &rest[header.total()..];
        match (header.tag, body) {
            (tag::PARSE, _) => {}
            (tag::DESCRIBE | tag::CLOSE, [kind, ..]) if *kind == Target::Statement.byte() => {}
            (tag::SYNC, []) => {
                return Some(Unit::Preparation { length: bytes.len() - rest.len() });
            }
            _ => return None,
        }
    }
}

fn extended(bytes: &[u8]) -> Option<Extended<'_>> {
    let mut rest = bytes;
    let parse = match message(&mut rest, tag::PARSE) {
        None => None,
        Some(body) => {
            let message = &bytes[..bytes.len() - rest.len()];
            match Frontend::read(frame::Frame { tag: tag::PARSE, body }) {
                Ok(Frontend::Parse { name, text, types }) => {
                    Some(Parse { name, text, types: types.bytes(), message })
                }
                _ => return None,
            }
        }
    };
    let bind = message(&mut rest, tag::BIND)?;
    let (portal, statement, taken) = bind_names(bind)?;
    // One with a name may be run again.
    if !portal.is_empty() || parse.is_some_and(|parse| parse.name != statement) {
        return None;
    }
    let describes = match message(&mut rest, tag::DESCRIBE) {
        None => false,
        Some([kind, 0]) if *kind == Target::Portal.byte() => true,
        Some(_) => return None,
    };
    // The name, and no limit on rows.
    if message(&mut rest, tag::EXECUTE)? != [0; 5] {
        return None;
    }
    let closes = match message(&mut rest, tag::CLOSE) {
        None => false,
        Some([kind, 0]) if *kind == Target::Portal.byte() => true,
        Some(_) => return None,
    };
    if !message(&mut rest, tag::SYNC)?.is_empty() {
        return None;
    }
    Some(Extended {
        parse,
        statement,
        bind,
        parameters: &bind[taken..],
        describes,
        closes,
        length: bytes.len() - rest.len(),
    })
}

#[cfg(test)]
mod tests {
    use integratedb_wire::write::frontend as write;

    use super::*;

    type Step<'a> = &'a dyn Fn(&mut Vec<u8>);

    fn batch(steps: &[Step<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        steps.iter().for_each(|step| step(&mut bytes));
        bytes
    }

    fn parse(bytes: &mut Vec<u8>) {
        write::parse(bytes, b"s", b"SELECT $1", &[0, 0, 0, 23]).expect("short");
    }
    fn bind(bytes: &mut Vec<u8>) {
        write::bind_text(bytes, b"", b"s", &[Some(b"5")]).expect("short");
    }
    fn describe(bytes: &mut Vec<u8>) {
        write::describe(bytes, Target::Portal, b"").expect("short");
    }
    fn execute(bytes: &mut Vec<u8>) {
        write::execute(bytes, b"", 0).expect("short");
    }

    #[test]
    fn a_query_is_a_unit() {
        let mut bytes = Vec::new();
        write::query(&mut bytes, b"SELECT 1").expect("short");
        let length = bytes.len();
        bytes.extend(b"Q\0");
        assert_eq!(read(&bytes), Some(Unit::Simple { text: b"SELECT 1", length }));
        assert_eq!(read(&bytes[..length - 1]), None);
    }

    #[test]
    fn the_extended_protocol_has_units_up_to_sync() {
        let whole = batch(&[&parse, &bind, &describe, &execute, &write::sync, &bind]);
        let Some(Unit::Extended(unit)) = read(&whole) else { panic!("no unit") };
        assert_eq!(unit.parse.map(|parse| parse.text), Some(&b"SELECT $1"[..]));
        assert!(unit.describes && !unit.closes);
        assert_eq!(&whole[unit.length - 5..unit.length], b"S\0\0\0\x04");
        assert_eq!(unit.statement, b"s");
        let short = batch(&[&bind, &execute, &write::sync]);
        let Some(Unit::Extended(short)) = read(&short) else { panic!("no unit") };
        assert_eq!(short.parameters, unit.parameters);
    }

    #[test]
    fn what_only_prepares_is_a_unit() {
        let described = |bytes: &mut Vec<u8>| {
            write::describe(bytes, Target::Statement, b"s").expect("short");
        };
        let whole = batch(&[&parse, &described, &write::sync]);
        assert_eq!(read(&whole), Some(Unit::Preparation { length: whole.len() }));
        assert_eq!(read(&whole[..whole.len() - 1]), None);
        assert_eq!(read(&batch(&[&parse, &describe, &write::sync])), None);
    }

    #[test]
    fn anything_else_is_none() {
        let limited = |bytes: &mut Vec<u8>| write::execute(bytes, b"", 5).expect("short");
        let named = |bytes: &mut Vec<u8>| {
            write::bind_text(bytes, b"p", b"s", &[]).expect("short");
        };
        for steps in [
            batch(&[&bind, &execute]),
            batch(&[&bind, &limited, &write::sync]),
            batch(&[&named, &execute, &write::sync]),
            batch(&[&bind, &execute, &bind, &execute, &write::sync]),
            batch(&[&write::sync]),
            Vec::new(),
        ] {
            assert_eq!(read(&steps), None, "{steps:?}");
        }
    }
}
