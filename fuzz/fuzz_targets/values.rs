//! Values of rows: whatever bytes a type is said to have written, they end in JSON or in an error that leaves nothing
//! behind. The first byte chooses the type.
#![no_main]

use std::sync::OnceLock;

use integratedb_events::json::{JsonType, Types};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

/// Types that are made of others: OID, kind, what of, and delimiter or name.
const LEARNED: [[&str; 4]; 12] = [
    ["20000", "composite", "0", ""],
    ["20000", "attribute", "23", "a"],
    ["20000", "attribute", "1009", "b \"c\""],
    ["20000", "attribute", "1184", "d"],
    ["20001", "array", "20000", ","],
    ["20002", "composite", "0", ""],
    ["20002", "attribute", "20001", "rows"],
    ["20002", "attribute", "20000", "row"],
    ["20003", "hstore", "0", ""],
    ["20004", "array", "20003", ","],
    ["20005", "domain", "1007", ""],
    ["20006", "array", "20005", ","],
];

/// Not json and jsonb, which are embedded as they are.
const OIDS: [u32; 21] = [
    16, 20, 22, 25, 30, 701, 1000, 1006, 1007, 1009, 1020, 1082, 1114, 1184, 1185, 1231, 20000,
    20001, 20002, 20004, 20006,
];

fn types() -> &'static [JsonType] {
    static TYPES: OnceLock<Vec<JsonType>> = OnceLock::new();
    TYPES.get_or_init(|| {
        let rows = LEARNED.map(|row| row.map(|field| Some(field.to_owned())).to_vec());
        let mut types = Types::new();
        types.learn(&rows).expect("the rows are right");
        OIDS.map(|oid| types.get(oid).expect("it is built in or learned")).to_vec()
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, text)) = bytes.split_first() else { return };
    let json = &types()[usize::from(*choice) % types().len()];
    let mut out = b" ".to_vec();
    match json.write(text, &mut out) {
        Ok(()) => {
            assert!(serde_json::from_slice::<IgnoredAny>(&out).is_ok(), "{out:?}");
            // Text of a database is UTF-8, and so is what becomes of it.
            assert!(std::str::from_utf8(text).is_err() || std::str::from_utf8(&out).is_ok());
        }
        Err(_) => assert_eq!(out, b" "),
    }
});
