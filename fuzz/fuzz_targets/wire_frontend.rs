//! What a client sends, read as the proxy does: first packets, then messages. One that comes in pieces is none until
//! it is whole, and nothing reads beyond what is there.
#![no_main]

use integratedb_wire::{Error, Frontend, Startup, bind_names, frame};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    // Requests for encryption are answered and another packet follows.
    while let Ok(Some((packet, length))) = Startup::read(rest) {
        assert!(length <= rest.len());
        assert_eq!(Startup::read(&rest[..length]), Ok(Some((packet, length))));
        assert_eq!(Startup::read(&rest[..length - 1]), Ok(None));
        rest = &rest[length..];
        if let Startup::Session { parameters, .. } = packet {
            for (name, _) in parameters.iter() {
                assert!(!name.is_empty());
                if let Ok(name) = std::str::from_utf8(name) {
                    assert!(parameters.get(name).is_some());
                }
            }
            break;
        }
    }
    // Also where the first packet was none, so that both parts are reached soon.
    while let Ok(Some(message)) = frame::whole(rest, LIMIT) {
        let total = message.total();
        assert!(message.body.len() <= LIMIT && total <= rest.len());
        assert_eq!(frame::whole(&rest[..total - 1], LIMIT), Ok(None));
        let names = bind_names(message.body);
        match Frontend::read(message) {
            Ok(Frontend::Bind(bind)) => {
                assert_eq!(bind.values.iter().count(), bind.values.len());
                assert_eq!(bind.values.is_empty(), bind.values.iter().next().is_none());
                assert_eq!(bind.result_formats.len() % 2, 0);
                let taken = message.body.len() - bind.rest.len();
                assert_eq!(names, Some((bind.portal, bind.statement, taken)));
            }
            Ok(Frontend::Parse { types, .. }) => {
                assert_eq!(types.iter().count() * 4, types.bytes().len());
            }
            Err(Error::TooLong(_) | Error::Length) => panic!("lengths are for the frame to judge"),
            _ => {}
        }
        rest = &rest[total..];
    }
});
