//! What is learned from the catalog, and how it is written.

use integratedb_events::json::{JsonType, Types, TypesError, ValueError};

type Row = [Option<&'static str>; 4];

fn rows(rows: &[Row]) -> Vec<Vec<Option<String>>> {
    rows.iter().map(|row| row.iter().map(|field| field.map(str::to_owned)).collect()).collect()
}

fn learned(said: &[Row]) -> Result<Types, TypesError> {
    let mut types = Types::new();
    types.learn(&rows(said))?;
    Ok(types)
}

fn json(types: &Types, oid: u32, text: &str) -> Result<String, ValueError> {
    let mut out = b"before".to_vec();
    let result = types.get(oid).expect("a known type").write(text.as_bytes(), &mut out);
    let written = String::from_utf8(out).expect("text in, text out");
    let written = written.strip_prefix("before").expect("it only appends").to_owned();
    assert!(result.is_ok() || written.is_empty(), "{written}");
    result.map(|()| written)
}

const PAIR: [Row; 3] = [
    [Some("20001"), Some("composite"), Some("0"), None],
    [Some("20001"), Some("attribute"), Some("23"), Some("a")],
    [Some("20001"), Some("attribute"), Some("20002"), Some("b c")],
];
const DOMAIN: Row = [Some("20002"), Some("domain"), Some("1184"), None];
const PAIRS: Row = [Some("20000"), Some("array"), Some("20001"), Some(",")];

#[test]
fn what_every_server_has_is_known() {
    let types = Types::new();
    assert_eq!(types.missing([25, 20000, 23, 1007, 83, 20000].into_iter()), [83, 20000]);
    assert!(types.get(20000).is_none());
    for (oid, text, expected) in [
        (16, "t", "true"),
        (26, "7", r#""7""#),
        (3802, r#"{"a": [1]}"#, r#"{"a": [1]}"#),
        (17, r"\x00ff", r#""\\x00ff""#),
        (1184, "2026-11-21 14:00:00+00", r#""2026-11-21T14:00:00+00:00""#),
        (1020, "{(3,4),(1,2);(1,1),(0,0)}", r#"["(3,4),(1,2)","(1,1),(0,0)"]"#),
        (1006, r#"{"1 2",""}"#, "[[1,2],[]]"),
        (30, "1 2", r#"["1","2"]"#),
    ] {
        assert_eq!(json(&types, oid, text).as_deref(), Ok(expected), "{oid}");
    }
}

#[test]
fn types_are_put_together_of_others() -> Result<(), TypesError> {
    let types = learned(&[&[PAIRS][..], &PAIR, &[DOMAIN]].concat())?;
    let text = r#"{"(1,\"2026-11-21 14:00:00+00\")",NULL,"(,)"}"#;
    let expected = r#"[{"a":1,"b c":"2026-11-21T14:00:00+00:00"},null,{"a":null,"b c":null}]"#;
    assert_eq!(json(&types, 20000, text).as_deref(), Ok(expected));
    assert_eq!(json(&types, 20002, "infinity").as_deref(), Ok(r#""infinity""#));
    Ok(())
}

#[test]
fn a_value_of_another_shape_leaves_nothing_behind() -> Result<(), TypesError> {
    let types = learned(&[&[PAIRS][..], &PAIR, &[DOMAIN]].concat())?;
    assert_eq!(json(&types, 20000, "{(1,)}"), Err(ValueError::Record), "a comma ends an element");
    let count = ValueError::Attributes { expected: 2 };
    assert_eq!(json(&types, 20000, r#"{"(1,,)"}"#), Err(count));
    assert_eq!(json(&types, 20001, "(1,yesterday)"), Err(ValueError::Timestamp));
    let mut out = Vec::new();
    assert!(JsonType::TEXT.write(b"(1,yesterday)", &mut out).is_ok());
    assert_eq!(out, br#""(1,yesterday)""#);
    Ok(())
}

#[test]
fn what_is_learned_can_be_forgotten_and_learned_in_steps() -> Result<(), TypesError> {
    let mut types = learned(&[DOMAIN])?;
    types.learn(&rows(&PAIR))?;
    types.learn(&rows(&[PAIRS]))?;
    assert!(types.missing(20000..20003).is_empty());
    types.forget();
    assert_eq!(types.missing(19..20003).last(), Some(&20002));
    assert!(types.get(20000).is_none() && types.get(23).is_some());
    assert_eq!(types.learn(&rows(&PAIR)), Err(TypesError::Unknown(20002)));
    assert!(types.get(20001).is_none(), "all or nothing");
    Ok(())
}

#[test]
fn a_cast_of_its_own_makes_a_type_approximate() -> Result<(), TypesError> {
    let types = learned(&[
        [Some("20001"), Some("composite"), Some("0"), None],
        [Some("20001"), Some("attribute"), Some("20002"), Some("a")],
        [Some("20002"), Some("cast"), Some("0"), None],
        [Some("20003"), Some("array"), Some("20001"), Some(",")],
        [Some("20004"), Some("hstore"), Some("0"), None],
    ])?;
    let approximate = |oid| types.get(oid).is_some_and(|json| json.is_approximate());
    assert!(approximate(20001) && approximate(20002) && approximate(20003));
    assert!(!approximate(20004) && !approximate(25) && !approximate(1009));
    assert_eq!(json(&types, 20001, "(x)").as_deref(), Ok(r#"{"a":"x"}"#));
    assert_eq!(json(&types, 20004, r#""a"=>NULL"#).as_deref(), Ok(r#"{"a": null}"#));
    Ok(())
}

#[test]
fn what_the_system_has_is_not_replaced() -> Result<(), TypesError> {
    let types = learned(&[[Some("23"), Some("text"), Some("0"), None]])?;
    assert_eq!(json(&types, 23, "1").as_deref(), Ok("1"));
    Ok(())
}

#[test]
fn rows_of_another_shape_and_endless_types_are_refused() {
    let composite: Row = [Some("20001"), Some("composite"), Some("0"), None];
    let of_itself: Row = [Some("20001"), Some("attribute"), Some("20001"), Some("a")];
    assert_eq!(learned(&[composite, of_itself]).err(), Some(TypesError::Depth(20001)));
    let row = |row: Row| learned(&[composite, row]).err();
    for wrong in [
        composite,
        [None, Some("text"), None, None],
        [Some("x"), Some("text"), None, None],
        [Some("20002"), None, None, None],
        [Some("20002"), Some("range"), None, None],
        [Some("20002"), Some("domain"), None, None],
        [Some("20002"), Some("array"), Some("23"), None],
        [Some("20002"), Some("array"), Some("23"), Some("")],
        [Some("20002"), Some("attribute"), Some("23"), Some("a")],
        [Some("20001"), Some("attribute"), Some("23"), None],
    ] {
        assert_eq!(row(wrong), Some(TypesError::Row(1)), "{wrong:?}");
    }
    let short = vec![vec![Some("20002".to_owned()), Some("text".to_owned())]];
    assert_eq!(Types::new().learn(&short), Err(TypesError::Row(0)));
}

/// A type inside of a type inside of a type…
#[test]
fn depth_is_limited_however_it_is_learned() -> Result<(), TypesError> {
    let mut types = Types::new();
    let row = |oid: u32, of: u32| {
        [oid.to_string(), "array".to_owned(), of.to_string(), ",".to_owned()].map(Some).to_vec()
    };
    let mut last = Ok(());
    for oid in 20000..20100 {
        last = types.learn(&[row(oid, if oid == 20000 { 23 } else { oid - 1 })]);
        if last.is_err() {
            break;
        }
    }
    assert_eq!(last, Err(TypesError::Depth(20064)));
    assert_eq!(json(&types, 20063, "{}").as_deref(), Ok("[]"));
    Ok(())
}

#[test]
fn a_query_names_its_types() {
    assert!(Types::query(&[16400, 25]).contains("'{16400,25}'"));
    assert!(Types::query(&[]).contains("'{}'"));
}
