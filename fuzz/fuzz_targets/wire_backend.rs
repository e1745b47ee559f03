//! What an origin sends, read as the proxy does, and written again where the proxy writes such messages itself.
#![no_main]

use integratedb_wire::{Authentication, Backend, frame, write};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some(message)) = frame::whole(rest, LIMIT) {
        let total = message.total();
        assert!(total <= rest.len());
        let (bytes, after) = rest.split_at(total);
        rest = after;
        let mut again = Vec::new();
        match Backend::read(message) {
            Ok(Backend::DataRow(row)) => {
                assert_eq!(row.iter().count(), row.len());
                assert_eq!(row.is_empty(), row.iter().next().is_none());
            }
            Ok(Backend::Error(fields) | Backend::Notice(fields)) => {
                assert!(fields.iter().count() <= message.body.len());
                for (field, _) in fields.iter() {
                    assert!(fields.get(field).is_some());
                }
            }
            Ok(Backend::ParameterDescription(types)) => {
                assert_eq!(types.iter().count() * 4, types.bytes().len());
            }
            Ok(Backend::Authentication(Authentication::Sasl(mechanisms))) => {
                assert!(mechanisms.iter().all(|name| !name.is_empty()));
            }
            Ok(Backend::ParameterStatus(name, value)) => {
                write::backend::parameter_status(&mut again, name, value).expect("it was read");
                assert_eq!(again, bytes);
            }
            Ok(Backend::BackendKeyData { process, key }) => {
                write::backend::backend_key_data(&mut again, process, key).expect("it was read");
                assert_eq!(again, bytes);
            }
            Ok(Backend::Ready(status)) => {
                write::backend::ready(&mut again, status);
                assert_eq!(again, bytes);
            }
            _ => {}
        }
    }
});
