//! What a text says: any bytes have a template, which is short and is its own template; what is text is parsed too. Of two
//! texts, the frame of one holds the other only if both have one template.
#![no_main]

use integratedb_template::{Frame, MAX_TEMPLATE, Shape, analyze};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let shape = Shape::of(bytes);
    assert!(shape.template.len() <= MAX_TEMPLATE);
    let again = Shape::of(shape.template.as_bytes());
    assert_eq!(again.template, shape.template);
    if let Some(middle) = bytes.iter().position(|byte| *byte == 0) {
        let (one, two) = (&bytes[..middle], &bytes[middle + 1..]);
        if Frame::of(one).is_some_and(|frame| frame.holds(two)) {
            let (one, two) = (Shape::of(one), Shape::of(two));
            assert_eq!(one.template, two.template);
            assert!(one == two || one.depends_on_values());
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = analyze(text);
    }
});
