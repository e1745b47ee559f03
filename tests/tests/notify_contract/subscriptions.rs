//! What the sidecar is told that notifications are about, and when to ask again.

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::{World, document, put_spec, stakeholder};

#[tokio::test]
async fn there_is_one_for_each_table_told() -> Result<()> {
    let world = World::new().await?;
    assert_eq!(world.subscriptions().await?, json!([]));
    let document = json!({
        "match": [
            {"path": "public.orders", "fields": ["price", "id"], "events": ["*"], "channels": ["*"]},
            {"path": "public.customers", "events": ["DELETE", "INSERT"], "channels": ["billing", "SOCKET"]},
        ],
        "channels": [{"type": "WEBHOOK", "name": "billing", "url": "https://a.example"}],
    });
    world.put_document(&document).await.expect("put");
    let oid = async |table: &str| -> Result<u32> {
        world.one(&format!("SELECT '{table}'::regclass::oid")).await
    };
    assert_eq!(
        world.subscriptions().await?,
        json!([
            {"stakeholder_id": 1, "stakeholder": "reporting", "item": 0, "schema": "public", "table": "orders",
             "relation": oid("orders").await?, "columns": ["price", "id"],
             "events": ["INSERT", "UPDATE", "DELETE", "TRUNCATE"], "channels": ["*"]},
            {"stakeholder_id": 1, "stakeholder": "reporting", "item": 1, "schema": "public", "table": "customers",
             "relation": oid("customers").await?, "columns": [],
             "events": ["INSERT", "DELETE"], "channels": ["billing", "SOCKET"]},
        ])
    );
    Ok(())
}

#[tokio::test]
async fn a_partitioned_table_is_told_by_its_leaves_under_its_own_name() -> Result<()> {
    let world = World::new().await?;
    world
        .put(json!([
            {"path": "public.events", "fields": ["id"]}, {"path": "public.events_2", "fields": ["at"]},
        ]))
        .await
        .expect("put");
    let expected = [
        "0 public.events events_1 id",
        "0 public.events events_2a id",
        "1 public.events_2 events_2a at",
    ];
    assert_eq!(world.subscribed().await?, expected);
    world.client.batch_execute("ALTER TABLE events DETACH PARTITION events_1").await?;
    assert_eq!(world.subscribed().await?, expected[1..]);
    // One leaf that can't be told does not silence the others.
    world.client.batch_execute("ALTER TABLE events_2a REPLICA IDENTITY NOTHING").await?;
    assert_eq!(world.unmet().await?.len(), 2);
    assert_eq!(world.subscribed().await?, expected[1..]);
    Ok(())
}

#[tokio::test]
async fn it_is_about_what_is_there_now() -> Result<()> {
    let world = World::new().await?;
    world
        .put(json!([
            {"path": "public.orders", "optional": true, "fields": [
                {"alternatives": ["amount", "price"]}, {"name": "note", "optional": true}, "id"]},
        ]))
        .await
        .expect("put");
    for (migration, expected) in [
        ("SELECT 1", "0 public.orders orders price,note,id"),
        (
            "ALTER TABLE orders ADD amount numeric(10, 2) NOT NULL",
            "0 public.orders orders amount,note,id",
        ),
        ("ALTER TABLE orders DROP note", "0 public.orders orders amount,id"),
        ("ALTER TABLE orders DROP amount", "0 public.orders orders price,id"),
        // Against the spec, but optional.
        ("ALTER TABLE orders ALTER price DROP NOT NULL", "0 public.orders orders price,id"),
        ("ALTER TABLE orders DROP price", "0 public.orders orders id"),
    ] {
        world.client.batch_execute(migration).await?;
        assert_eq!(world.subscribed().await?, [expected], "{migration}");
    }
    world.client.batch_execute("ALTER TABLE orders RENAME TO old_orders").await?;
    assert_eq!(world.subscribed().await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn it_is_told_when_the_answer_may_be_another() -> Result<()> {
    let world = World::new().await?;
    let id = stakeholder(&world.client, "second").await?;
    let orders = json!({"path": "public.orders", "fields": ["id"]});
    let sql = async |sql: &str| -> Result<bool> {
        world.client.batch_execute(sql).await?;
        world.is_told().await
    };
    let put = async |wanted: Value| -> Result<bool> {
        put_spec(&world.client, id, "NOTIFICATIONS", &wanted).await.expect("put");
        world.is_told().await
    };
    assert!(!put(document(json!([]))).await?, "nobody reads yet: there is no publication");
    assert!(put(document(orders.clone())).await?);
    assert!(!put(document(orders.clone())).await?, "the same again");
    assert!(!sql("SELECT integratedb_sync()").await?, "nothing changed");
    assert!(!sql("SELECT integratedb_validate_migration()").await?);
    let mut fewer = document(orders.clone());
    fewer["match"][0]["events"] = json!(["INSERT"]);
    assert!(put(fewer.clone()).await?, "fewer events");
    fewer["channels"] = json!([{"type": "REDIS", "url": "redis://a"}]);
    assert!(put(fewer).await?, "another channel");

    assert!(!sql("CREATE TABLE other (id int); SELECT integratedb_sync()").await?);
    let claims = json!({"match": {"path": "public.other"}});
    put_spec(&world.client, id, "CLAIMS", &claims).await.expect("put");
    assert!(!world.is_told().await?, "claims tell nobody anything");
    let both = json!([{"path": "public.customers"}, {"path": "public.orders"}]);
    put_spec(&world.client, world.id, "CLAIMS", &json!({"match": both})).await.expect("put");
    world.put(both).await.expect("put");
    assert!(world.is_told().await?);
    assert!(
        !sql("SELECT integratedb_sync()").await?,
        "what is claimed already was not changed by that"
    );
    world.one::<bool>("SELECT integratedb.delete_spec(1, 'NOTIFICATIONS')").await?;
    assert!(world.is_told().await?);
    assert!(!sql("ALTER TABLE other ADD b int; SELECT integratedb_sync()").await?);
    assert!(sql("ALTER TABLE orders ADD b int; SELECT integratedb_sync()").await?);
    assert!(
        !sql("BEGIN; ALTER TABLE orders ADD c int; SELECT integratedb_sync(); ROLLBACK").await?
    );

    let verifier = "SCRAM-SHA-256$4096:jZ0oAN5wNK4vGDs8DJgx4g==$h0GoE3K9tNLcmmGYv8A8NHKO1ERk0FaOHPfgTZHmnDk=\
        :u1tGHgSiUvY4YsXdBKKhCeE0c4PVPrs7dKzPPIOhEdc=";
    assert!(
        !sql(&format!("SELECT integratedb.rename_stakeholder(1, 'first', '{verifier}')")).await?
    );
    assert!(
        sql(&format!("SELECT integratedb.rename_stakeholder({id}, 'last', '{verifier}')")).await?
    );
    assert_eq!(world.subscriptions().await?[0]["stakeholder"], "last");
    assert!(!sql(&format!("SELECT integratedb.delete_spec({id}, 'CLAIMS')")).await?);
    assert!(sql(&format!("SELECT integratedb.delete_spec({id}, 'NOTIFICATIONS')")).await?);
    assert!(!sql(&format!("SELECT integratedb.delete_spec({id}, 'NOTIFICATIONS')")).await?);
    assert!(put(document(orders)).await?);
    assert!(sql(&format!("SELECT integratedb.drop_stakeholder({id})")).await?);
    assert_eq!(world.subscriptions().await?, json!([]));
    assert!(!sql("SELECT integratedb.drop_stakeholder(1)").await?);
    Ok(())
}
