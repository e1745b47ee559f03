//! What comes in a replication stream.
#![no_main]

use integratedb_wire::pgoutput::{Change, Message, Old, Row};
use integratedb_wire::replication::Stream;
use libfuzzer_sys::fuzz_target;

fn is_whole(row: Row<'_>) {
    assert_eq!(row.iter().count(), row.len());
    assert_eq!(row.is_empty(), row.len() == 0);
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Stream::Data { data, .. }) = Stream::read(bytes) {
        assert!(data.len() < bytes.len());
    }
    let Ok(message) = Message::read(bytes) else { return };
    match message {
        Message::Change(_, Change::Insert { new }) => is_whole(new),
        Message::Change(_, Change::Update { old, new }) => {
            is_whole(new);
            if let Some(Old::Key(old) | Old::Row(old)) = old {
                is_whole(old);
            }
        }
        Message::Change(_, Change::Delete { old: Old::Key(old) | Old::Row(old) }) => is_whole(old),
        Message::Relation(relation) => {
            assert!(relation.columns.iter().count() < bytes.len());
        }
        Message::Truncate(relations, _) => assert!(relations.iter().count() * 4 < bytes.len()),
        Message::Logical(message) => {
            assert!(message.prefix.len() + message.content.len() < bytes.len());
        }
        _ => {}
    }
});
