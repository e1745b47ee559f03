//! What a text says: any bytes have a template, which is short and is its own template; what is text is parsed too.
#![no_main]

use integratedb_template::{MAX_TEMPLATE, Shape, analyze};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let shape = Shape::of(bytes);
    assert!(shape.template.len() <= MAX_TEMPLATE);
    let again = Shape::of(shape.template.as_bytes());
    assert_eq!(again.template, shape.template);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = analyze(text);
    }
});
