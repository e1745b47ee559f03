//! Messages of pgoutput as a server writes them, and bytes that no server writes.

use integratedb_wire::pgoutput::{Change, Message, Old, Truncate, Value};
use integratedb_wire::replication::Stream;
use integratedb_wire::{Error, Lsn};
use proptest::prelude::*;

/// A message of these parts.
fn of(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

const ONE: [u8; 4] = [0, 0, 0, 1];

#[test]
fn a_transaction_is_read() {
    let begin = of(&[b"B", &[0, 0, 0, 0, 0, 0, 1, 0], &[0; 8], &ONE]);
    let Ok(Message::Begin(begin)) = Message::read(&begin) else { panic!("a begin") };
    assert_eq!((begin.final_lsn, begin.xid), (Lsn(256), 1));
    let commit = of(&[b"C\0", &[0, 0, 0, 0, 0, 0, 1, 0], &[0, 0, 0, 0, 0, 0, 1, 8], &[0; 8]]);
    let Ok(Message::Commit(commit)) = Message::read(&commit) else { panic!("a commit") };
    assert_eq!((commit.commit_lsn, commit.end_lsn), (Lsn(256), Lsn(264)));
}

#[test]
fn a_relation_is_read() {
    let text = of(&[
        b"R",
        &ONE,
        b"public\0t\0d\0\x02",
        b"\x01id\0",
        &ONE,
        &[255; 4],
        b"\0x\0",
        &ONE,
        &ONE,
    ]);
    let Ok(Message::Relation(relation)) = Message::read(&text) else { panic!("a relation") };
    assert_eq!((relation.oid, relation.schema, relation.name), (1, &b"public"[..], &b"t"[..]));
    let columns: Vec<_> = relation.columns.iter().map(|c| (c.name, c.is_key, c.modifier)).collect();
    assert_eq!(columns, [(&b"id"[..], true, -1), (&b"x"[..], false, 1)]);
}

#[test]
fn changes_are_read_with_what_was_before() {
    let row = b"\0\x03n\x75t\0\0\0\x02ab";
    let read = |parts: &[&[u8]]| match Message::read(&of(parts)) {
        Ok(Message::Change(1, change)) => format!("{change:?}"),
        other => panic!("{other:?}"),
    };
    let insert = of(&[b"I", &ONE, b"N", row]);
    let Ok(Message::Change(1, Change::Insert { new })) = Message::read(&insert) else {
        panic!("an insert")
    };
    let values: Vec<_> = new.iter().collect();
    assert_eq!(values, [Value::Null, Value::Unchanged, Value::Text(b"ab")]);
    let plain = read(&[b"U", &ONE, b"N", row]);
    assert!(plain.contains("old: None"), "{plain}");
    assert!(read(&[b"U", &ONE, b"K", row, b"N", row]).contains("old: Some(Key("));
    assert!(read(&[b"U", &ONE, b"O", row, b"N", row]).contains("old: Some(Row("));
    let delete = of(&[b"D", &ONE, b"K", row]);
    let Ok(Message::Change(1, Change::Delete { old: Old::Key(key) })) = Message::read(&delete)
    else {
        panic!("a delete")
    };
    assert_eq!(key.len(), 3);
}

#[test]
fn truncates_and_messages_are_read() {
    let truncate = of(&[b"T", &[0, 0, 0, 2], &[3], &ONE, &[0, 0, 0, 9]]);
    let Ok(Message::Truncate(oids, options)) = Message::read(&truncate) else { panic!("one") };
    assert_eq!(oids.iter().collect::<Vec<_>>(), [1, 9]);
    assert_eq!(options, Truncate { cascade: true, restart_identity: true });
    let message = of(&[b"M\x01", &[0, 0, 0, 0, 0, 0, 0, 5], b"p\0", &[0, 0, 0, 2], b"hi"]);
    let Ok(Message::Logical(message)) = Message::read(&message) else { panic!("a message") };
    assert!(message.transactional && message.lsn == Lsn(5));
    assert_eq!((message.prefix, message.content), (&b"p"[..], &b"hi"[..]));
}

#[test]
fn what_is_no_message_is_an_error() {
    for (bytes, error) in [
        (&b""[..], Error::Truncated),
        (b"S", Error::Tag(b'S')),
        (b"I\0\0\0\x01K\0\0", Error::Value),
        (b"I\0\0\0\x01N\0\x01x", Error::Value),
        (b"I\0\0\0\x01N\xff\xff", Error::Value),
        (b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff", Error::Value),
        (b"I\0\0\0\x01N\0\0n", Error::Trailing),
        (b"D\0\0\0\x01N\0\0", Error::Value),
        (b"T\x7f\xff\xff\xff\0", Error::Truncated),
        (b"T\xff\xff\xff\xff\0", Error::Value),
    ] {
        assert_eq!(Message::read(bytes), Err(error), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(tag in prop::sample::select(&b"BCORYIUDTMxkw"[..]), rest: Vec<u8>) {
        let bytes = of(&[&[tag], &rest]);
        let _ = Stream::read(&bytes);
        match Message::read(&bytes) {
            Ok(Message::Change(_, Change::Insert { new } | Change::Update { new, .. })) => {
                prop_assert_eq!(new.iter().count(), new.len());
            }
            Ok(Message::Relation(relation)) => {
                prop_assert!(relation.columns.iter().count() <= bytes.len());
            }
            _ => {}
        }
    }

    #[test]
    fn a_row_is_read_as_it_was_written(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..20)), 0..20),
        cut in 0..200_usize,
    ) {
        let mut bytes = of(&[b"I", &ONE, b"N", &(values.len() as u16).to_be_bytes()]);
        for value in &values {
            match value {
                None => bytes.push(b'n'),
                Some(text) => {
                    bytes.push(b't');
                    bytes.extend((text.len() as u32).to_be_bytes());
                    bytes.extend(text);
                }
            }
        }
        let Ok(Message::Change(1, Change::Insert { new })) = Message::read(&bytes) else {
            return Err(TestCaseError::fail("an insert"));
        };
        let read: Vec<_> = new.iter().collect();
        let written: Vec<_> =
            values.iter().map(|v| v.as_deref().map_or(Value::Null, Value::Text)).collect();
        prop_assert_eq!(read, written);
        // Whatever is missing at the end is noticed.
        if cut < bytes.len() {
            prop_assert!(Message::read(&bytes[..cut]).is_err());
        }
    }
}
