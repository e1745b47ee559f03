//! Reading ends with a message or an error whatever comes in, and what is written reads back.

use integratedb_wire::{
    Backend, Bind, Error, Frontend, ProtocolVersion, Startup, Target, bind_names, frame, write,
};
use proptest::prelude::*;

const LIMIT: usize = 1 << 16;

/// Reads everything that can be read from bytes, as both sides would, to its last field.
fn read_all(mut bytes: &[u8]) {
    if let Ok(Some((Startup::Session { parameters, .. }, length))) = Startup::read(bytes) {
        assert!(length <= bytes.len());
        assert!(parameters.iter().count() <= bytes.len());
    }
    let _ = bind_names(bytes);
    while let Ok(Some(message)) = frame::whole(bytes, LIMIT) {
        assert!(message.body.len() <= LIMIT && message.total() <= bytes.len());
        read_frontend(message);
        read_backend(message);
        bytes = &bytes[message.total()..];
    }
}

fn read_frontend(message: frame::Frame<'_>) {
    match Frontend::read(message) {
        Ok(Frontend::Bind(bind)) => {
            assert_eq!(bind.values.iter().count(), bind.values.len());
            assert_eq!(bind_names(message.body).map(|n| n.1), Some(bind.statement));
        }
        Ok(Frontend::Parse { types, .. }) => {
            assert_eq!(types.iter().count() * 4, types.bytes().len())
        }
        _ => {}
    }
}

fn read_backend(message: frame::Frame<'_>) {
    match Backend::read(message) {
        Ok(Backend::DataRow(row)) => assert_eq!(row.iter().count(), row.len()),
        Ok(Backend::Error(fields) | Backend::Notice(fields)) => {
            assert!(fields.iter().count() <= message.body.len());
        }
        _ => {}
    }
}

/// A message that is well formed, for mutation.
fn some_message() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::collection::vec(1..=255_u8, 0..20);
    let text = prop::collection::vec(1..=255_u8, 0..200);
    let values =
        prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 0..9);
    (0..14_u8, name, text, values, any::<i32>()).prop_map(|(kind, name, text, values, number)| {
        let mut buffer = Vec::new();
        let values: Vec<_> = values.iter().map(Option::as_deref).collect();
        let b = &mut buffer;
        let written = match kind {
            0 => write::frontend::query(b, &text),
            1 => write::frontend::parse(b, &name, &text, &number.to_be_bytes()),
            2 => write::frontend::bind_text(b, &name, &text, &values),
            3 => write::frontend::describe(b, Target::Portal, &name),
            4 => write::frontend::execute(b, &name, number),
            5 => write::frontend::close(b, Target::Statement, &name),
            6 => write::frontend::sasl_initial(b, "SCRAM-SHA-256", &text),
            7 => write::backend::parameter_status(b, &name, &text),
            8 => write::backend::authentication_sasl(b, [&name[..], &text[..]]),
            9 => write::backend::negotiate_version(b, 0, &[&name, &text]),
            10 => write::backend::command_complete(b, "SELECT 1"),
            11 => write::backend::error(b, [(integratedb_wire::ErrorField::MESSAGE, "no")]),
            12 => write::frontend::startup(
                b,
                ProtocolVersion { major: 3, minor: 2 },
                [(&b"user"[..], &name[..]), (b"database", &text[..])],
            ),
            _ => write::frontend::cancel_request(b, 7, &number.to_be_bytes()),
        };
        written.expect("names have no zero byte and nothing is long");
        buffer
    })
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
    }

    #[test]
    fn damaged_messages_never_panic(
        messages in prop::collection::vec(some_message(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = messages.concat();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        read_all(&bytes);
    }

    #[test]
    fn a_message_in_pieces_is_none_until_it_is_whole(message in some_message(), cut in any::<prop::sample::Index>()) {
        // A startup packet has no type, so only those that have one are cut here.
        if let Ok(Some(header)) = frame::header(&message) && header.total() == message.len() {
            let part = &message[..cut.index(message.len())];
            prop_assert_eq!(frame::whole(part, LIMIT), Ok(None));
            prop_assert!(matches!(frame::whole(&message, LIMIT), Ok(Some(_))));
        }
    }

    #[test]
    fn a_bind_reads_back(
        portal in prop::collection::vec(1..=255_u8, 0..20),
        statement in prop::collection::vec(1..=255_u8, 0..20),
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 0..9),
    ) {
        let values: Vec<_> = values.iter().map(Option::as_deref).collect();
        let mut buffer = Vec::new();
        write::frontend::bind_text(&mut buffer, &portal, &statement, &values).expect("writable");
        let message = frame::whole(&buffer, LIMIT).expect("well formed").expect("whole");
        let Ok(Frontend::Bind(bind)) = Frontend::read(message) else { panic!("not a Bind") };
        let Bind { portal: p, statement: s, rest, value_formats, values: v, result_formats } = bind;
        prop_assert_eq!((p, s, result_formats), (&portal[..], &statement[..], &[][..]));
        prop_assert!(value_formats.is_empty() && !bind.is_binary(0));
        prop_assert_eq!(v.iter().collect::<Vec<_>>(), values);

        // The same, renamed as a pool does.
        let mut renamed = Vec::new();
        write::frontend::bind_head(&mut renamed, &portal, b"other", rest.len()).expect("short");
        renamed.extend(rest);
        let message = frame::whole(&renamed, LIMIT).expect("well formed").expect("whole");
        let Ok(Frontend::Bind(again)) = Frontend::read(message) else { panic!("not a Bind") };
        prop_assert_eq!(again, Bind { statement: b"other", ..bind });
    }

    #[test]
    fn a_zero_byte_in_a_string_is_refused_and_leaves_the_buffer(text in ".*") {
        let mut buffer = b"before".to_vec();
        let text = format!("{text}\0");
        prop_assert_eq!(write::frontend::query(&mut buffer, text.as_bytes()), Err(Error::Nul));
        prop_assert_eq!(&buffer[..], b"before");
    }
}

#[test]
fn a_length_is_not_believed_beyond_the_limit() {
    let huge = [b'Q', 0x7f, 0xff, 0xff, 0xff];
    assert!(matches!(frame::whole(&huge, LIMIT), Err(Error::TooLong(_))));
    assert!(matches!(frame::header(&huge), Ok(Some(header)) if header.body == 0x7fff_fffb));
    assert_eq!(frame::header(&[b'Q', 0, 0, 0, 3]), Err(Error::Length));
    assert_eq!(frame::header(&[b'Q', 0xff, 0xff, 0xff, 0xff]), Err(Error::Length));
    assert!(matches!(Startup::read(&[0x7f, 0, 0, 0]), Err(Error::TooLong(_))));
}

#[test]
fn first_packets_read_back() {
    let mut buffer = Vec::new();
    write::frontend::ssl_request(&mut buffer);
    assert_eq!(Startup::read(&buffer), Ok(Some((Startup::Ssl, 8))));
    buffer.clear();
    write::frontend::cancel_request(&mut buffer, 7, &[1, 2, 3, 4]).expect("short");
    let cancel = Startup::Cancel { process: 7, key: &[1, 2, 3, 4] };
    assert_eq!(Startup::read(&buffer), Ok(Some((cancel, 16))));
    buffer.clear();
    let version = ProtocolVersion { major: 3, minor: 0 };
    let pairs = [(&b"user"[..], &b"a"[..]), (b"user", b"b")];
    write::frontend::startup(&mut buffer, version, pairs).expect("short");
    let Ok(Some((Startup::Session { parameters, .. }, _))) = Startup::read(&buffer) else {
        panic!("not a session")
    };
    assert_eq!(parameters.get("user"), Some(&b"b"[..]));
    assert_eq!(parameters.iter().count(), 2);
}
