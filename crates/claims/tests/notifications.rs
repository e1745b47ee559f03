//! What notifications ask for beside claims: their mistakes, their short form, and the tables they are about.

use integratedb_claims::{
    Catalog, Claim, Column, ColumnType, EventKind, Identifier, Log, NOTIFICATIONS_SCHEMA, Obstacle,
    Relation, RelationName, SPEC_SCHEMA, Spec, compare, contract, expand, present, review,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn mistakes(document: Value) -> Vec<(String, String)> {
    let found = Spec::parse_notifications(&document).expect_err("has mistakes");
    found.into_iter().map(|problem| (problem.pointer, problem.message)).collect()
}

fn pointers(document: Value) -> Vec<String> {
    mistakes(document).into_iter().map(|(pointer, _)| pointer).collect()
}

#[test]
fn the_guides_example_is_a_spec() {
    let spec = Spec::parse_notifications(&json!({
        "match": [
            {"path": "public.orders", "events": ["*"], "fields": ["*"], "channels": ["*"]},
            {"path": "public.customers", "events": ["INSERT", "UPDATE", "DELETE"],
             "fields": ["id", "user_id"], "channels": ["SOCKET", "WEBHOOK", "REDIS"]},
        ],
        "channels": [{"type": "WEBHOOK", "url": "https://a.example"}, {"type": "REDIS", "url": "redis://b"}],
    }))
    .expect("valid");
    let notifications = spec.notifications.expect("of notifications");
    assert_eq!(notifications.items[0].events.len(), 4);
    assert!(!notifications.items[1].events.contains(&EventKind::Truncate));
    assert_eq!(notifications.channels[1].name, "REDIS");
    assert_eq!(notifications.channels[0].configuration["url"], json!("https://a.example"));
}

#[test]
fn every_mistake_of_a_match_has_its_pointer() {
    let document = json!({"match": [
        {"path": "a.b"},
        {"path": "a.b", "events": [], "channels": []},
        {"path": "a.b", "events": "*", "channels": null},
        {"path": "a.b", "events": ["insert", 1, "UPDATE", "UPDATE"], "channels": ["WEBHOOK", "SOCKET", "SOCKET"]},
        {"alternatives": [{"path": "a.b", "events": ["*"]}, {"path": "a"}], "events": ["*"], "channels": ["*"]},
        7,
    ]});
    assert_eq!(
        pointers(document),
        [
            "#/match/0",
            "#/match/0",
            "#/match/1/events",
            "#/match/1/channels",
            "#/match/2/events",
            "#/match/2/channels",
            "#/match/3/events/0",
            "#/match/3/events/1",
            "#/match/3/events/3",
            "#/match/3/channels/0",
            "#/match/3/channels/2",
            "#/match/4/alternatives/0/events",
            "#/match/4/alternatives/1/path",
            "#/match/5",
        ]
    );
}

#[test]
fn every_mistake_of_a_channel_has_its_pointer() {
    let url = "https://a.example";
    let document = json!({"match": [], "channels": [
        {"type": "MAIL"},
        {"name": "x"},
        7,
        {"type": "WEBHOOK"},
        {"type": "REDIS", "url": 5, "name": "r"},
        {"type": "REDIS", "url": "", "name": "s"},
        {"type": "WEBHOOK", "url": url, "name": "9lives"},
        {"type": "WEBHOOK", "url": url, "name": "x".repeat(64)},
        {"type": "WEBHOOK", "url": url, "name": "REDIS"},
        {"type": "WEBHOOK", "url": url, "name": "billing"},
        {"type": "WEBHOOK", "url": url, "name": "billing"},
        {"type": "WEBHOOK", "url": url, "name": "Billing"},
        {"type": "WEBHOOK", "url": url},
    ]});
    assert_eq!(
        pointers(document),
        [
            "#/channels/0/type",
            "#/channels/1",
            "#/channels/2",
            "#/channels/3",
            "#/channels/4/url",
            "#/channels/5/url",
            "#/channels/6/name",
            "#/channels/7/name",
            "#/channels/8/name",
            "#/channels/10/name",
            // Without a name, its name is that of the type, as of the fourth.
            "#/channels/12",
        ]
    );
    assert_eq!(
        pointers(json!({"match": [], "channels": {}, "extra": 1})),
        ["#/extra", "#/channels"]
    );
}

#[test]
fn a_match_names_a_channel_by_name_or_type() {
    let with = |name: &str| {
        json!({
            "match": {"path": "a.b", "events": ["*"], "channels": [name]},
            "channels": [{"type": "WEBHOOK", "name": "billing", "url": "https://a.example"}],
        })
    };
    for name in ["billing", "WEBHOOK", "SOCKET", "*"] {
        assert!(Spec::parse_notifications(&with(name)).is_ok(), "{name}");
    }
    assert_eq!(
        mistakes(with("REDIS")),
        [(
            "#/match/channels/0".to_owned(),
            "There is no channel with the name or type `REDIS`; add one to #/channels first."
                .to_owned()
        )]
    );
    assert_eq!(pointers(with("Billing")), ["#/match/channels/0"]);
}

#[test]
fn claims_have_neither_events_nor_channels() {
    let document =
        json!({"match": [{"path": "a.b", "events": ["*"], "channels": ["*"]}], "channels": []});
    let found = Spec::parse(&document).expect_err("not claims");
    let found: Vec<_> = found.into_iter().map(|problem| problem.pointer).collect();
    assert_eq!(found, ["#/channels", "#/match/0/channels", "#/match/0/events"]);
}

#[test]
fn both_schemas_mean_the_same_by_the_same_words() {
    let definitions = |text: &str| {
        let schema: Value = serde_json::from_str(text).expect("JSON");
        schema["definitions"].as_object().expect("definitions").clone()
    };
    let notifications = definitions(NOTIFICATIONS_SCHEMA);
    for (name, definition) in definitions(SPEC_SCHEMA) {
        if name != "match" {
            assert_eq!(notifications.get(&name), Some(&definition), "{name}");
        }
    }
}

fn channel() -> impl Strategy<Value = Value> {
    ("[A-Za-z][A-Za-z0-9_-]{0,9}", 0..3_usize, any::<bool>()).prop_map(|(name, kind, named)| {
        let kind = ["SOCKET", "WEBHOOK", "REDIS"][kind];
        let mut channel = json!({"type": kind, "url": "x://y", "deep": {"name": [1, null]}});
        if named {
            channel["name"] = json!(name);
        }
        channel
    })
}

fn item() -> impl Strategy<Value = Value> {
    let events =
        prop::sample::subsequence(vec!["INSERT", "UPDATE", "DELETE", "TRUNCATE", "*"], 1..=5);
    let channels = prop::sample::subsequence(vec!["SOCKET", "*"], 1..=2).prop_shuffle();
    (events, channels, any::<[bool; 2]>()).prop_map(|(events, channels, [several, optional])| {
        let mut item = json!({"events": events, "channels": channels, "optional": optional});
        if several {
            item["alternatives"] = json!([{"path": "a.b", "fields": ["*"]}, {"path": "a.c"}]);
        } else {
            item["path"] = json!("a.*");
            item["fields"] = json!(["*"]);
        }
        item
    })
}

proptest! {
    #[test]
    fn contracted_notifications_read_back_the_same(
        items in prop::collection::vec(item(), 0..4), channels in prop::collection::vec(channel(), 0..4),
    ) {
        let document = json!({"match": items, "channels": channels});
        // Names may clash.
        let Ok(spec) = Spec::parse_notifications(&document) else { return Ok(()) };
        let short = contract(&spec);
        prop_assert_eq!(Spec::parse_notifications(&short).expect("still valid"), spec);
        prop_assert_eq!(short["match"].as_array().map(Vec::len), Some(items.len()));
    }
}

fn name(table: &str) -> RelationName {
    let identifier = |text: &str| Identifier::new(text).expect("a name of the test");
    RelationName { schema: identifier("app"), table: identifier(table) }
}

fn column(name: &str) -> Column {
    Column {
        name: Identifier::new(name).expect("a name of the test"),
        column_type: ColumnType {
            formatted: "integer".to_owned(),
            data_type: "integer".to_owned(),
            bare: "int4".to_owned(),
        },
        max_length: Some(32),
        is_nullable: false,
    }
}

fn obstacle(kind: char, persistence: char, identity: char) -> Option<Obstacle> {
    Some(Obstacle { leaf: None, kind, persistence, identity })
}

/// A schema `app` of tables with the columns a and b.
fn catalog(tables: Vec<(&str, Option<Obstacle>)>) -> Catalog {
    let relations = tables
        .into_iter()
        .map(|(table, obstacle)| {
            let log = Some(Log { leaves: vec![1], obstacle, is_partition: false });
            (name(table), Relation { columns: vec![column("a"), column("b")], log })
        })
        .collect();
    Catalog { schemas: [name("x").schema].into(), relations }
}

fn spec(mut item: Value) -> Spec {
    item["events"] = json!(["*"]);
    item["channels"] = json!(["*"]);
    Spec::parse_notifications(&json!({ "match": item })).expect("valid")
}

fn paths(claims: &[Claim]) -> Vec<String> {
    claims.iter().map(|claim| claim.alternatives[0].relation.to_string()).collect()
}

#[test]
fn a_table_that_can_not_be_told_is_refused_and_unmet_and_says_why() {
    for (found, property, actual) in [
        (obstacle('r', 'p', 'n'), "replica_identity", "NOTHING"),
        (obstacle('r', 'p', 'd'), "replica_identity", "no primary key"),
        (obstacle('r', 'u', 'd'), "kind", "an unlogged table"),
        (obstacle('v', 'p', 'n'), "kind", "a view"),
        (
            Some(Obstacle { leaf: Some(name("t_1")), kind: 'r', persistence: 'p', identity: 'n' }),
            "replica_identity",
            "NOTHING (the partition app.t_1)",
        ),
    ] {
        let catalog = catalog(vec![("t", found)]);
        let wanted = spec(json!({"path": "app.t", "fields": ["a"]}));
        let claims = expand(&wanted, &catalog, &[]);
        let refused = review(&wanted, &claims, &catalog).expect_err("can't be told");
        assert_eq!((refused.total, refused.unmet[0].pointer.as_str()), (1, "#/match/0/path"));
        assert_eq!(refused.unmet[0].property, property);
        let unmet = compare(&claims[0], &catalog);
        assert_eq!((unmet.len(), unmet[0].property), (1, property));
        assert!(unmet[0].actual.contains(actual), "{unmet:?}");

        let lenient = spec(json!({"path": "app.t", "optional": true}));
        let claims = expand(&lenient, &catalog, &[]);
        assert_eq!(review(&lenient, &claims, &catalog), Ok(()));
        let told_in_part = actual.contains("partition");
        assert_eq!(present(&claims[0], &catalog).is_some(), told_in_part);
        // To claims alone it is all the same.
        let plain = Spec::parse(&json!({"match": {"path": "app.t"}})).expect("valid");
        assert_eq!(review(&plain, &expand(&plain, &catalog, &[]), &catalog), Ok(()));
    }
}

#[test]
fn a_whole_schema_is_its_tables_that_can_be_told() {
    let wanted = spec(json!({"path": "app.*", "fields": ["*"]}));
    let mut all = catalog(vec![("keyless", None), ("t", None), ("view", obstacle('v', 'p', 'n'))]);
    let part = all.relations[&name("t")].clone();
    let part = Relation { log: part.log.map(|log| Log { is_partition: true, ..log }), ..part };
    all.relations.insert(name("t_1"), part);
    let first = expand(&wanted, &all, &[]);
    assert_eq!(paths(&first), ["app.keyless", "app.t"]);
    assert_eq!(review(&wanted, &first, &all), Ok(()));

    // A table that loses its key stays claimed, one that never had one is not.
    let without = catalog(vec![("keyless", obstacle('r', 'p', 'd')), ("t", None)]);
    let synced = expand(&wanted, &without, &first);
    assert_eq!(paths(&synced), ["app.keyless", "app.t"]);
    assert_eq!(compare(&synced[0], &without)[0].property, "replica_identity");
    let new = expand(&wanted, &without, &[]);
    assert_eq!(paths(&new), ["app.t"]);
    // Who asks for it now is told that not all can be had.
    let refused = review(&wanted, &new, &without).expect_err("not all can be told");
    assert_eq!(refused.unmet[0].path, "app.keyless");
    assert_eq!(refused.unmet[0].pointer, "#/match/0/path");
}

#[test]
fn the_first_alternative_that_is_met_is_the_one_that_is_told() {
    let wanted = spec(json!({"alternatives": [
        {"path": "app.new", "fields": ["a"]},
        {"path": "app.old", "fields": [{"alternatives": ["c", "b"]}, {"name": "d", "optional": true}, "*"]},
    ]}));
    let told = |catalog: &Catalog| {
        let claims = expand(&wanted, &catalog.clone(), &[]);
        present(&claims[0], catalog).map(|found| {
            let columns = found.columns.iter().map(ToString::to_string).collect::<Vec<_>>();
            format!("{} {}", found.relation, columns.join(","))
        })
    };
    let told = |tables| told(&catalog(tables));
    assert_eq!(told(vec![("new", None), ("old", None)]).as_deref(), Some("app.new a"));
    let keyless = ("new", obstacle('r', 'p', 'd'));
    assert_eq!(told(vec![keyless, ("old", None)]).as_deref(), Some("app.old b,a"));
    assert_eq!(told(vec![]), None);
}

#[test]
fn a_claim_that_is_broken_is_told_as_far_as_it_is_there() {
    let wanted = spec(json!({"path": "app.t", "fields": ["a", "b"]}));
    let claims = expand(&wanted, &catalog(vec![("t", None)]), &[]);
    let mut now = catalog(vec![("t", None)]);
    let relation = now.relations.get_mut(&name("t")).expect("there");
    relation.columns.remove(1);
    relation.columns[0].is_nullable = true;
    assert_eq!(compare(&claims[0], &now).len(), 2);
    let found = present(&claims[0], &now).expect("there");
    assert_eq!(found.columns, [&Identifier::new("a").expect("a name")]);
}
