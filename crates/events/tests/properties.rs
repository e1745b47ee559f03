//! Values of made-up types, written by the rules of the manual, come out as the JSON they were made for; and any bytes end
//! in JSON or an error.

use integratedb_events::json::{Types, write_string};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// A type. An array of arrays is one of a domain over arrays, as in Postgres.
#[derive(Clone, Debug)]
enum Type {
    Text,
    Number,
    Array(Box<Type>),
    Record(Vec<Type>),
}

/// A value of a type: its text, and its JSON. None is NULL.
#[derive(Clone, Debug)]
enum Value {
    Null,
    Text(String),
    Number(i64),
    /// The length of each dimension, and all elements.
    Array(Vec<usize>, Vec<Value>),
    Record(Vec<Value>),
}

fn types() -> impl Strategy<Value = Type> {
    prop_oneof![Just(Type::Text), Just(Type::Number)].prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|of| Type::Array(Box::new(of))),
            prop::collection::vec(inner, 0..4).prop_map(Type::Record),
        ]
    })
}

fn texts() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        4 => "[\"\\\\{}(),; \t\n\r\u{b}\u{c}]",
        4 => "[a-zA-Z0-9]",
        1 => Just("NULL".to_owned()),
        1 => "\\PC",
        1 => "[\u{1}-\u{1f}\u{7f}é😀]",
    ];
    prop::collection::vec(parts, 0..6).prop_map(|parts| parts.concat())
}

fn values(of: &Type) -> BoxedStrategy<Value> {
    let value = match of {
        Type::Text => texts().prop_map(Value::Text).boxed(),
        Type::Number => any::<i64>().prop_map(Value::Number).boxed(),
        Type::Array(of) => {
            let of = of.clone();
            prop::collection::vec(1..3_usize, 0..4)
                .prop_flat_map(move |sizes| {
                    let count = if sizes.is_empty() { 0 } else { sizes.iter().product() };
                    (Just(sizes), prop::collection::vec(values(&of), count))
                })
                .prop_map(|(sizes, elements)| Value::Array(sizes, elements))
                .boxed()
        }
        Type::Record(attributes) => {
            let attributes: Vec<_> = attributes.iter().map(values).collect();
            attributes.prop_map(Value::Record).boxed()
        }
    };
    prop_oneof![1 => Just(Value::Null), 6 => value].boxed()
}

/// Adds what the catalog says of a type and of all in it; gives its OID.
fn describe(of: &Type, rows: &mut Vec<Vec<Option<String>>>) -> u32 {
    let row = |oid: u32, kind: &str, part: u32, label: &str| -> Vec<Option<String>> {
        [&oid.to_string(), kind, &part.to_string(), label].map(|f| Some(f.to_owned())).to_vec()
    };
    let next = |rows: &[_]| 20000 + u32::try_from(rows.len()).expect("a type has few parts");
    match of {
        Type::Text => 25,
        Type::Number => 20,
        Type::Array(of) => {
            let element = describe(of, rows);
            let oid = next(rows);
            rows.push(row(oid, "array", element, ";"));
            oid
        }
        Type::Record(attributes) => {
            let parts: Vec<_> = attributes.iter().map(|part| describe(part, rows)).collect();
            let oid = next(rows);
            rows.push(row(oid, "composite", 0, ""));
            for (at, part) in parts.into_iter().enumerate() {
                rows.push(row(oid, "attribute", part, &name(at)));
            }
            oid
        }
    }
}

/// What the attribute at a position is called.
fn name(at: usize) -> String {
    format!("{at} \"é\"\n")
}

fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Text(text) => json!(text),
        Value::Number(number) => json!(number),
        Value::Array(sizes, elements) => match sizes.split_first() {
            None => json!([]),
            Some((_, [])) => elements.iter().map(json).collect(),
            Some((size, sizes)) => elements
                .chunks(elements.len() / size)
                .map(|part| json(&Value::Array(sizes.to_vec(), part.to_vec())))
                .collect(),
        },
        Value::Record(values) => {
            values.iter().enumerate().map(|(at, value)| (name(at), json(value))).collect()
        }
    }
}

/// The text of a value that is not NULL.
fn text(value: &Value) -> String {
    match value {
        Value::Null => unreachable!("a NULL has no text"),
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(sizes, elements) => array_text(sizes, elements),
        Value::Record(values) => {
            let values: Vec<_> = values.iter().map(attribute_text).collect();
            format!("({})", values.join(","))
        }
    }
}

fn array_text(sizes: &[usize], elements: &[Value]) -> String {
    let parts: Vec<_> = match sizes.split_first() {
        None => Vec::new(),
        Some((_, [])) => elements.iter().map(element_text).collect(),
        Some((size, sizes)) => {
            elements.chunks(elements.len() / size).map(|part| array_text(sizes, part)).collect()
        }
    };
    format!("{{{}}}", parts.join(";"))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

fn element_text(value: &Value) -> String {
    if matches!(value, Value::Null) {
        return "NULL".to_owned();
    }
    let text = text(value);
    let special = |c: char| "\"\\{};".contains(c) || is_space(c);
    if text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text
    }
}

fn attribute_text(value: &Value) -> String {
    if matches!(value, Value::Null) {
        return String::new();
    }
    let text = text(value);
    let special = |c: char| "\"\\(),".contains(c) || is_space(c);
    if text.is_empty() || text.contains(special) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\"\""))
    } else {
        text
    }
}

/// Types as learned, and the OID of the one.
fn learned(of: &Type) -> (Types, u32) {
    let mut rows = Vec::new();
    let oid = describe(of, &mut rows);
    let mut types = Types::new();
    types.learn(&rows).expect("rows as the query gives them");
    (types, oid)
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Json>(bytes).is_ok()
}

proptest! {
    #[test]
    fn a_value_comes_out_as_it_was_made(
        (of, value) in types().prop_flat_map(|of| (Just(of.clone()), values(&of)))
    ) {
        prop_assume!(!matches!(value, Value::Null));
        let (types, oid) = learned(&of);
        let mut out = Vec::new();
        let text = text(&value);
        let written = types.get(oid).expect("learned").write(text.as_bytes(), &mut out);
        prop_assert_eq!(written, Ok(()), "{}", text);
        let out = String::from_utf8(out).expect("text in, text out");
        prop_assert_eq!(serde_json::from_str::<Json>(&out).ok(), Some(json(&value)), "{}", out);
    }

    #[test]
    fn any_text_ends_in_json_or_an_error(of in types(), text in "[\\[\\]{}(),:=;\"\\\\ 0-9a-zé\n-]{0,24}") {
        let (types, oid) = learned(&of);
        for oid in [oid, 16, 23, 25, 1082, 1114, 1184, 1007, 1009, 1185, 22, 30, 1006] {
            let mut out = b" ".to_vec();
            match types.get(oid).expect("known").write(text.as_bytes(), &mut out) {
                Ok(()) => prop_assert!(is_json(&out), "{:?}", String::from_utf8_lossy(&out)),
                Err(_) => prop_assert_eq!(&out, b" "),
            }
        }
    }

    #[test]
    fn a_string_is_read_as_it_was(text in texts()) {
        let mut out = Vec::new();
        write_string(text.as_bytes(), &mut out);
        prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(text));
    }
}
