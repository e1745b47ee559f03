//! Promises that hold for any catalog and any spec written against it.

use integratedb_claims::catalog::UNLIMITED;
use integratedb_claims::{
    Catalog, Claim, Column, ColumnType, Identifier, Relation, RelationName, Spec, compare,
    contract, expand, review,
};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

fn identifier(name: &str) -> Identifier {
    Identifier::new(name).expect("a name of the test")
}

/// Types with their information_schema name, bare name, and whether they have a length.
const TYPES: &[(&str, &str, &str, bool)] = &[
    ("integer", "integer", "int4", false),
    ("bigint", "bigint", "int8", false),
    ("character varying", "character varying", "varchar", true),
    ("numeric", "numeric", "numeric", true),
    ("text[]", "ARRAY", "_text", false),
    ("public.mood", "USER-DEFINED", "mood", false),
];

fn column() -> impl Strategy<Value = (usize, Option<i32>, bool)> {
    (0..TYPES.len(), prop_oneof![Just(UNLIMITED), 1..200_i32], any::<bool>())
        .prop_map(|(kind, length, nullable)| (kind, TYPES[kind].3.then_some(length), nullable))
}

fn make_column(name: &str, (kind, max_length, is_nullable): (usize, Option<i32>, bool)) -> Column {
    let (formatted, data_type, bare, _) = TYPES[kind];
    Column {
        name: identifier(name),
        column_type: ColumnType {
            formatted: formatted.to_owned(),
            data_type: data_type.to_owned(),
            bare: bare.to_owned(),
        },
        max_length,
        is_nullable,
    }
}

/// One schema with one to four tables of one to six columns, some with names that need quotes.
fn catalog() -> impl Strategy<Value = Catalog> {
    prop::collection::vec(prop::collection::vec(column(), 1..6), 1..4).prop_map(|tables| {
        let schema = identifier("app");
        let relations = tables
            .into_iter()
            .enumerate()
            .map(|(table, columns)| {
                let name = identifier(&format!("Table {table}"));
                let columns = columns
                    .into_iter()
                    .enumerate()
                    .map(|(number, column)| make_column(&format!("c\"{number}"), column))
                    .collect();
                (
                    RelationName { schema: schema.clone(), table: name },
                    Relation { columns, log: None },
                )
            })
            .collect();
        Catalog { schemas: [schema].into(), relations }
    })
}

/// A catalog and a spec of plain, starred and fully specified matches on it, none of them optional.
fn catalog_and_spec() -> impl Strategy<Value = (Catalog, Value)> {
    (catalog(), prop::collection::vec(0..4_u8, 4)).prop_map(|(catalog, kinds)| {
        let matches: Vec<Value> = catalog
            .relations
            .iter()
            .zip(kinds)
            .map(|((name, relation), kind)| {
                let fields: Vec<Value> = match kind {
                    0 => vec![json!("*")],
                    1 => relation.columns.iter().map(|c| json!(c.name.to_string())).collect(),
                    2 => relation.columns.iter().map(specified).collect(),
                    _ => relation
                        .columns
                        .iter()
                        .map(|c| json!({"alternatives": [c.name.to_string(), "yet_to_come"]}))
                        .take(1)
                        .collect(),
                };
                json!({"path": name.to_string(), "fields": fields})
            })
            .collect();
        (catalog, json!({ "match": matches }))
    })
}

fn specified(column: &Column) -> Value {
    let mut field = json!({
        "name": column.name.to_string(),
        "type": column.column_type.formatted,
        "is_nullable": column.is_nullable,
    });
    if let Some(length) = column.max_length.filter(|length| *length != UNLIMITED) {
        field["min_length"] = json!(length);
    }
    field
}

fn claims(catalog: &Catalog, document: &Value) -> Vec<Claim> {
    let spec = Spec::parse(document).expect("a valid document");
    let claims = expand(&spec, catalog, &[]);
    review(&spec, &claims, catalog).expect("the catalog provides it");
    claims
}

fn is_met(claims: &[Claim], catalog: &Catalog) -> bool {
    claims.iter().all(|claim| compare(claim, catalog).is_empty())
}

/// A column that some claim names, with its table; `None` if the spec claims none.
fn pick_claimed(claims: &[Claim], pick: Index) -> Option<(RelationName, Identifier)> {
    let all: Vec<_> = claims
        .iter()
        .flat_map(|claim| &claim.alternatives)
        .flat_map(|alternative| {
            alternative
                .columns
                .iter()
                .map(move |c| (&alternative.relation, &c.alternatives[0].name))
        })
        .collect();
    (!all.is_empty()).then(|| {
        let (relation, column) = all[pick.index(all.len())];
        (relation.clone(), column.clone())
    })
}

/// The ways in which a column can become less than it was; `None` where it can't that way.
fn damage(column: &mut Column, how: u8) -> Option<()> {
    match how {
        0 => column.name = identifier("renamed"),
        1 => {
            let other = if column.column_type.formatted == "integer" { 1 } else { 0 };
            column.column_type = make_column("x", (other, None, true)).column_type;
        }
        2 => column.max_length = Some(column.max_length.filter(|length| *length > 1)? - 1),
        _ => column.is_nullable = (!column.is_nullable).then_some(true)?,
    }
    Some(())
}

proptest! {
    #[test]
    fn expansion_is_met_by_its_own_catalog((catalog, document) in catalog_and_spec()) {
        let claims = claims(&catalog, &document);
        prop_assert!(is_met(&claims, &catalog));
        // Expanding again, knowing the first, changes nothing.
        let spec = Spec::parse(&document).expect("valid");
        prop_assert_eq!(expand(&spec, &catalog, &claims), claims);
    }

    #[test]
    fn any_destructive_change_to_a_claimed_column_is_reported(
        (catalog, document) in catalog_and_spec(), pick in any::<Index>(), how in 0..4_u8,
    ) {
        let claims = claims(&catalog, &document);
        let Some((table, name)) = pick_claimed(&claims, pick) else { return Ok(()) };
        let mut changed = catalog.clone();
        let relation = changed.relations.get_mut(&table).expect("claimed");
        let column = relation.columns.iter_mut().find(|c| c.name == name).expect("claimed");
        let Some(()) = damage(column, how) else { return Ok(()) };
        let reported: Vec<_> = claims.iter().flat_map(|c| compare(c, &changed)).collect();
        prop_assert!(reported.iter().any(|unmet| {
            unmet.path == table.to_string() && unmet.field.as_deref() == Some(&name.to_string())
        }), "not reported: {reported:?}");
    }

    #[test]
    fn a_dropped_table_is_reported((catalog, document) in catalog_and_spec(), pick in any::<Index>()) {
        let claims = claims(&catalog, &document);
        let names: Vec<_> = catalog.relations.keys().cloned().collect();
        let gone = &names[pick.index(names.len())];
        let mut changed = catalog.clone();
        changed.relations.remove(gone);
        let reported: Vec<_> = claims.iter().flat_map(|c| compare(c, &changed)).collect();
        prop_assert!(reported.iter().any(|u| u.path == gone.to_string() && u.property == "path"));
    }

    #[test]
    fn an_added_column_is_never_reported(
        (catalog, document) in catalog_and_spec(), pick in any::<Index>(), added in column(),
    ) {
        let claims = claims(&catalog, &document);
        let mut changed = catalog.clone();
        let names: Vec<_> = catalog.relations.keys().cloned().collect();
        let table = &names[pick.index(names.len())];
        let relation = changed.relations.get_mut(table).expect("present");
        relation.columns.push(make_column("added", added));
        prop_assert!(is_met(&claims, &changed));
    }

    #[test]
    fn an_optional_claim_is_never_reported((catalog, mut document) in catalog_and_spec()) {
        for item in document["match"].as_array_mut().expect("a list") {
            item["optional"] = json!(true);
        }
        let claims = claims(&catalog, &document);
        prop_assert!(is_met(&claims, &Catalog::default()));
    }

    #[test]
    fn a_contracted_spec_reads_back_the_same((_, document) in catalog_and_spec()) {
        let spec = Spec::parse(&document).expect("valid");
        let short = contract(&spec);
        prop_assert_eq!(Spec::parse(&short).expect("still valid"), spec);
    }

    #[test]
    fn no_text_is_too_strange_for_an_identifier(name in "\\PC{1,20}") {
        if let Ok(name) = Identifier::new(name) {
            prop_assert_eq!(Identifier::parse(&name.to_string()), Ok(name));
        }
    }
}

#[test]
fn a_column_that_went_is_remembered_until_it_returns() {
    // Given a claim on a column of length 40
    let name = RelationName { schema: identifier("app"), table: identifier("t") };
    let with = |columns: Vec<Column>| Catalog {
        schemas: [name.schema.clone()].into(),
        relations: [(name.clone(), Relation { columns, log: None })].into(),
    };
    let spec = Spec::parse(&json!({"match": {"path": "app.t", "fields": ["c"]}})).expect("valid");
    let before = expand(&spec, &with(vec![make_column("c", (2, Some(40), true))]), &[]);
    // when it is dropped and the spec is synced
    let without = expand(&spec, &with(vec![]), &before);
    assert_eq!(compare(&without[0], &with(vec![]))[0].property, "name");
    // then its shorter return is still told.
    let back = with(vec![make_column("c", (2, Some(30), true))]);
    assert_eq!(compare(&without[0], &back)[0].property, "min_length");
}

#[test]
fn one_met_alternative_is_enough_and_the_nearest_is_told() {
    let spec = Spec::parse(&json!({"match": {"alternatives": [
        {"path": "app.new", "fields": ["id", "uuid"]},
        {"path": "app.old", "fields": [{"alternatives": ["id", "uuid"]}]},
    ]}}))
    .expect("valid");
    let old = RelationName { schema: identifier("app"), table: identifier("old") };
    let with = |column: &str| Catalog {
        schemas: [old.schema.clone()].into(),
        relations: [(
            old.clone(),
            Relation { columns: vec![make_column(column, (0, None, true))], log: None },
        )]
        .into(),
    };
    let claims = expand(&spec, &with("id"), &[]);
    assert_eq!(review(&spec, &claims, &with("id")), Ok(()));
    assert_eq!(compare(&claims[0], &with("uuid")), []);
    let unmet = compare(&claims[0], &with("other"));
    assert_eq!((unmet.len(), unmet[0].path.as_str()), (1, "app.old"));
}
