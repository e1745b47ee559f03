//! Storing, reading and removing a notifications spec.

use anyhow::Result;
use serde_json::json;

use crate::world::{World, document, put_spec};

#[tokio::test]
async fn what_is_put_is_read_back() -> Result<()> {
    let world = World::new().await?;
    assert_eq!(
        world.one::<serde_json::Value>("SELECT integratedb.get_spec(1, 'NOTIFICATIONS')").await?,
        json!({"type": "NOTIFICATIONS", "match": [], "channels": []})
    );
    let document = json!({
        "match": [
            {"path": "public.orders", "events": ["*"], "fields": ["*"], "channels": ["*"]},
            {"path": "public.customers", "events": ["INSERT", "UPDATE", "DELETE"],
             "fields": ["id", "user_id"], "channels": ["SOCKET", "billing", "REDIS"]},
        ],
        "channels": [
            {"type": "WEBHOOK", "name": "billing", "url": "https://a.example", "batch": {"max_events": 7}},
            {"type": "REDIS", "url": "redis://b.example"},
        ],
    });
    let stored = world.put_document(&document).await.map_err(|e| anyhow::anyhow!(e.message))?;
    assert_eq!(stored, document);
    let mut answer = document.clone();
    answer["type"] = json!("NOTIFICATIONS");
    let read: serde_json::Value =
        world.one("SELECT integratedb.get_spec(1, 'NOTIFICATIONS')").await?;
    assert_eq!(read, answer);
    assert!(world.put_document(&read).await.is_ok(), "what was read can be put again");
    Ok(())
}

#[tokio::test]
async fn mistakes_are_told_with_their_pointers() -> Result<()> {
    let world = World::new().await?;
    let refused = world
        .put_document(
            &json!({"match": [{"path": "public.orders", "events": ["CHANGE"], "channels": ["x"]}]}),
        )
        .await
        .expect_err("mistakes");
    assert_eq!(refused.code, "IDB03");
    let pointers: Vec<_> =
        refused.detail.as_array().expect("a list").iter().map(|one| one[1].clone()).collect();
    assert_eq!(pointers, ["#/match/0/events/0", "#/match/0/channels/0"]);
    for (id, kind, code) in [(1, "SYNC", "22023"), (9, "NOTIFICATIONS", "P0002")] {
        let refused = put_spec(&world.client, id, kind, &json!({"match": []})).await.err();
        assert_eq!(refused.map(|refused| refused.code).as_deref(), Some(code));
    }
    Ok(())
}

#[tokio::test]
async fn only_a_table_whose_changes_are_told_will_do() -> Result<()> {
    let world = World::new().await?;
    world
        .client
        .batch_execute(
            "CREATE VIEW a_view AS SELECT 1 AS id;
             CREATE MATERIALIZED VIEW a_matview AS SELECT 1 AS id;
             CREATE UNLOGGED TABLE an_unlogged (id int PRIMARY KEY);
             CREATE TABLE a_keyless (id int);
             CREATE TABLE a_deferred (id int PRIMARY KEY DEFERRABLE);
             CREATE TABLE a_nothing (id int PRIMARY KEY); ALTER TABLE a_nothing REPLICA IDENTITY NOTHING;
             CREATE TABLE a_full (id int); ALTER TABLE a_full REPLICA IDENTITY FULL;
             CREATE TABLE an_indexed (id int NOT NULL UNIQUE);
             ALTER TABLE an_indexed REPLICA IDENTITY USING INDEX an_indexed_id_key;
             CREATE TABLE parted (id int) PARTITION BY LIST (id);
             CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
             ALTER TABLE parted_1 REPLICA IDENTITY FULL;
             CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2)",
        )
        .await?;
    for (table, property, actual, hint) in [
        ("a_view", "kind", "a view", "name those that public.a_view reads"),
        ("a_matview", "kind", "a materialized view", "name those that"),
        ("an_unlogged", "kind", "an unlogged table", "SET LOGGED"),
        ("a_keyless", "replica_identity", "no primary key", "primary key"),
        ("a_deferred", "replica_identity", "deferrable", "not deferrable"),
        ("a_nothing", "replica_identity", "NOTHING", "REPLICA IDENTITY DEFAULT"),
        ("parted", "replica_identity", "(the partition public.parted_2)", "Give public.parted_2"),
    ] {
        let wanted = json!({"path": format!("public.{table}"), "fields": ["id"]});
        let refused = world.put(wanted.clone()).await.expect_err(table);
        assert_eq!(refused.code, "IDB02", "{table}");
        let unmet = &refused.detail["unmet"][0];
        assert_eq!(refused.detail["total"], 1, "{table}: {}", refused.detail);
        assert_eq!(unmet["pointer"], "#/match/0/path", "{table}");
        assert_eq!(unmet["property"], property, "{table}");
        assert!(unmet["actual"].as_str().is_some_and(|text| text.contains(actual)), "{unmet}");
        assert!(refused.hint.contains(hint), "{table}: {}", refused.hint);
        // Claims may still be on it, and an optional notification waits until it can be told.
        assert!(
            put_spec(&world.client, world.id, "CLAIMS", &json!({"match": wanted})).await.is_ok()
        );
        let optional = json!({"path": format!("public.{table}"), "optional": true});
        assert!(world.put(optional).await.is_ok(), "{table}");
        if table != "parted" {
            assert_eq!(world.subscribed().await?, [""; 0], "{table}");
        }
    }
    for table in ["a_full", "an_indexed", "parted_1"] {
        let wanted = json!({"path": format!("public.{table}"), "fields": ["id"]});
        assert!(world.put(wanted).await.is_ok(), "{table}");
    }
    let refused = world.put(json!([
        {"alternatives": [{"path": "public.a_view"}, {"path": "public.a_keyless", "fields": ["no"]}]},
    ]));
    let refused = refused.await.expect_err("neither");
    let pointers: Vec<_> = refused.detail["unmet"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["pointer"].clone())
        .collect();
    assert_eq!(
        pointers,
        [
            "#/match/0/alternatives/0/path",
            "#/match/0/alternatives/1/path",
            "#/match/0/alternatives/1/fields/0"
        ]
    );
    Ok(())
}

#[tokio::test]
async fn no_privilege_follows_from_notifications() -> Result<()> {
    let world = World::new().await?;
    let granted = "SELECT count(*) FROM pg_attribute a, aclexplode(a.attacl) x \
                   WHERE a.attrelid = 'orders'::regclass AND x.grantee = 'reporting'::regrole";
    world.put(json!({"path": "public.orders", "fields": ["*"]})).await.expect("put");
    world.client.batch_execute("SELECT integratedb_sync()").await?;
    assert_eq!(world.one::<i64>(granted).await?, 0);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM integratedb.granted_schema").await?, 0);

    let claims = json!({"match": {"path": "public.orders", "fields": ["id", "price"]}});
    put_spec(&world.client, world.id, "CLAIMS", &claims).await.expect("put");
    assert_eq!(world.one::<i64>(granted).await?, 2);
    // Deleting notifications takes no grant back, deleting claims does.
    assert!(world.one::<bool>("SELECT integratedb.delete_spec(1, 'NOTIFICATIONS')").await?);
    assert_eq!(world.one::<i64>(granted).await?, 2);
    assert!(world.one::<bool>("SELECT integratedb.delete_spec(1, 'CLAIMS')").await?);
    assert_eq!(world.one::<i64>(granted).await?, 0);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM integratedb.claim").await?, 0);
    assert_eq!(world.one::<i64>("SELECT count(*) FROM integratedb.relation").await?, 0);
    Ok(())
}

#[tokio::test]
async fn deleting_says_whether_there_was_one() -> Result<()> {
    let world = World::new().await?;
    let delete = "SELECT integratedb.delete_spec(1, 'NOTIFICATIONS')";
    assert!(!world.one::<bool>(delete).await?);
    world.put(json!({"path": "public.orders", "fields": ["*"]})).await.expect("put");
    assert!(world.one::<bool>(delete).await?);
    assert!(!world.one::<bool>(delete).await?);
    assert_eq!(world.subscriptions().await?, json!([]));
    world.migrate("DROP TABLE orders").await.expect("nobody needs it any more");
    for (sql, code) in [
        ("SELECT integratedb.delete_spec(9, 'CLAIMS')", "P0002"),
        ("SELECT integratedb.delete_spec(1, 'SYNC')", "22023"),
    ] {
        let error = world.client.query_one(sql, &[]).await.expect_err(sql);
        assert_eq!(error.code().map(|code| code.code()), Some(code));
    }
    Ok(())
}

#[tokio::test]
async fn the_sidecar_may_and_others_may_not() -> Result<()> {
    let world = World::new().await?;
    world
        .client
        .batch_execute(
            "CREATE ROLE sidecar LOGIN PASSWORD 'sidecar'; SELECT integratedb.grant_sidecar('sidecar');
             CREATE ROLE migrator LOGIN PASSWORD 'migrator'; SELECT integratedb.grant_migrator('migrator')",
        )
        .await?;
    let sidecar = world.database.connect_as("sidecar", "sidecar").await?;
    let wanted = document(json!({"path": "public.orders", "fields": ["*"]}));
    assert!(put_spec(&sidecar, world.id, "NOTIFICATIONS", &wanted).await.is_ok());
    sidecar
        .batch_execute(
            "SELECT integratedb.subscriptions(); SELECT integratedb.delete_spec(1, 'NOTIFICATIONS')",
        )
        .await?;
    let other = world.database.connect_as("migrator", "migrator").await?;
    for sql in [
        "SELECT integratedb.subscriptions()",
        "SELECT integratedb.delete_spec(1, 'CLAIMS')",
        "SELECT integratedb.contract_subscriptions()",
        "SELECT integratedb.tell_subscriptions()",
    ] {
        let error = other.batch_execute(sql).await.expect_err(sql);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{sql}");
    }
    Ok(())
}
