//! What a migration may not take away from notifications.

use anyhow::Result;
use serde_json::json;

use crate::world::{Refused, World, put_spec};

#[tokio::test]
async fn a_migration_that_ends_the_telling_is_refused() -> Result<()> {
    let world = World::new().await?;
    world
        .put(json!([
            {"path": "public.orders", "fields": ["id", "price"]},
            {"path": "public.customers"}, {"path": "public.events", "fields": ["*"]},
        ]))
        .await
        .expect("put");
    let members = world.members().await?;
    for (migration, wanted) in [
        (
            "ALTER TABLE orders DROP CONSTRAINT orders_pkey",
            "expected a replica identity, found none",
        ),
        (
            "ALTER TABLE orders REPLICA IDENTITY NOTHING",
            "expected a replica identity, found NOTHING",
        ),
        (
            "ALTER TABLE customers REPLICA IDENTITY USING INDEX customers_user_id_key; \
             ALTER TABLE customers DROP CONSTRAINT customers_user_id_key",
            "expected a replica identity, found an index that is gone or not valid",
        ),
        (
            "ALTER TABLE customers RENAME TO c; CREATE VIEW customers AS SELECT * FROM c",
            "expected a permanent table, found a view",
        ),
        ("ALTER TABLE orders DROP COLUMN price", "reporting needs public.orders.price"),
        ("ALTER TABLE orders ALTER price DROP NOT NULL", "is_nullable false, found true"),
        ("DROP TABLE customers", "reporting needs public.customers"),
        (
            "ALTER TABLE events_1 REPLICA IDENTITY NOTHING",
            "found NOTHING (the partition public.events_1)",
        ),
        ("ALTER TABLE events DROP CONSTRAINT events_pkey", "found none"),
        (
            "CREATE TABLE late (LIKE events); ALTER TABLE late REPLICA IDENTITY NOTHING; \
             ALTER TABLE events_2 ATTACH PARTITION late FOR VALUES FROM ('2027-07-01') TO ('2028-01-01')",
            "(the partition public.late)",
        ),
    ] {
        let refused = world.migrate(migration).await.expect_err(migration);
        assert_eq!(refused.code, "IDB01", "{migration}");
        assert!(refused.message.contains(wanted), "{migration}: {}", refused.message);
        assert_eq!(
            world.members().await?,
            members,
            "the rollback brings the member back: {migration}"
        );
        assert_eq!(world.unmet().await?, [""; 0], "{migration}");
    }
    for harmless in [
        "ALTER TABLE orders REPLICA IDENTITY FULL",
        "ALTER TABLE orders DROP CONSTRAINT orders_pkey; ALTER TABLE orders REPLICA IDENTITY DEFAULT; \
         ALTER TABLE orders ADD PRIMARY KEY (id)",
        "ALTER TABLE orders ADD extra int",
        "ALTER TABLE events DETACH PARTITION events_1",
        "REINDEX TABLE customers",
    ] {
        let done = world.migrate(harmless).await;
        assert!(done.is_ok(), "{harmless}: {}", done.err().map_or_else(String::new, |e| e.message));
    }
    assert!(world.members().await?.contains(&"orders".to_owned()), "it left and came back");
    Ok(())
}

#[tokio::test]
async fn strict_enforcement_refuses_at_commit() -> Result<()> {
    let world = World::strict().await?;
    world
        .put(json!([{"path": "public.orders", "fields": ["id"]}, {"path": "public.customers"}]))
        .await
        .expect("put");
    world
        .client
        .batch_execute("ALTER TABLE customers REPLICA IDENTITY USING INDEX customers_user_id_key")
        .await?;
    world
        .client
        .batch_execute(
            "CREATE UNIQUE INDEX by_id ON orders (id); ALTER TABLE orders REPLICA IDENTITY USING INDEX by_id",
        )
        .await?;
    for migration in [
        "ALTER TABLE customers DROP CONSTRAINT customers_user_id_key",
        "ALTER TABLE orders REPLICA IDENTITY NOTHING",
        "DROP INDEX by_id",
        "DROP TABLE orders",
    ] {
        let error = world.client.batch_execute(migration).await.expect_err(migration);
        let refused = Refused::new(&error);
        assert_eq!(refused.code, "IDB01", "{migration}: {}", refused.message);
        assert_eq!(world.members().await?, ["customers", "orders"], "{migration}");
    }
    world.client.batch_execute("UPDATE orders SET price = 1; DELETE FROM customers").await?;
    Ok(())
}

#[tokio::test]
async fn what_can_not_be_undone_is_warned_of_and_breaks_no_write() -> Result<()> {
    let world = World::strict().await?;
    world
        .client
        .batch_execute(
            "CREATE UNIQUE INDEX by_id ON orders (id); ALTER TABLE orders REPLICA IDENTITY USING INDEX by_id",
        )
        .await?;
    world.put(json!({"path": "public.orders", "fields": ["id"]})).await.expect("put");
    let (_, told, succeeded) = world.database.psql("/* tidy */ drop index Concurrently by_id")?;
    assert!(succeeded && told.contains("WARNING:  IntegrateDB.InvalidMigration"), "{told}");
    assert_eq!(world.unmet().await?.len(), 1);
    assert_eq!(world.members().await?, [""; 0]);
    world.client.batch_execute("UPDATE orders SET price = 1; DELETE FROM orders").await?;
    Ok(())
}

#[tokio::test]
async fn what_is_no_longer_told_is_unmet_until_it_is_again() -> Result<()> {
    let world = World::new().await?;
    world.put(json!({"path": "public.orders", "fields": ["*"]})).await.expect("put");
    world.client.batch_execute("ALTER TABLE orders REPLICA IDENTITY NOTHING").await?;
    assert_eq!(world.unmet().await?, ["public.orders replica_identity NOTHING"]);
    assert_eq!(world.members().await?, [""; 0]);
    world.client.batch_execute("SELECT integratedb_sync()").await?;
    assert_eq!(world.unmet().await?, ["public.orders replica_identity NOTHING"]);
    assert_eq!(world.subscribed().await?, [""; 0]);
    world.migrate("ALTER TABLE orders REPLICA IDENTITY DEFAULT").await.expect("mended");
    assert_eq!(world.members().await?, ["orders"]);
    assert_eq!(world.subscribed().await?, ["0 public.orders orders id,price,note"]);
    Ok(())
}

#[tokio::test]
async fn one_alternative_that_is_told_is_enough() -> Result<()> {
    let world = World::new().await?;
    world.client.batch_execute("CREATE TABLE new_orders (id int)").await?;
    world
        .put(json!({"alternatives": [
            {"path": "public.new_orders", "fields": ["id"]},
            {"path": "public.orders", "fields": [{"alternatives": ["ref", "id"]}]},
            {"path": "public.never", "fields": ["id"]},
        ]}))
        .await
        .expect("the second is met");
    assert_eq!(world.members().await?, ["orders"]);
    assert_eq!(world.subscribed().await?, ["0 public.orders orders id"]);
    world.migrate("DROP TABLE orders").await.expect_err("the first has no key");
    world.migrate("ALTER TABLE new_orders ADD PRIMARY KEY (id)").await.expect("harmless");
    assert_eq!(world.members().await?, ["new_orders", "orders"], "all that can be told");
    assert_eq!(world.subscribed().await?, ["0 public.new_orders new_orders id"]);
    world.migrate("DROP TABLE orders").await.expect("the first one is met");
    Ok(())
}

#[tokio::test]
async fn claims_alone_ask_for_no_identity() -> Result<()> {
    let world = World::new().await?;
    let claims = json!({"match": {"path": "public.orders", "fields": ["price"]}});
    put_spec(&world.client, world.id, "CLAIMS", &claims).await.expect("put");
    world.migrate("ALTER TABLE orders DROP CONSTRAINT orders_pkey").await.expect("harmless");
    world.migrate("ALTER TABLE orders SET UNLOGGED").await.expect("harmless");
    assert_eq!(world.members().await?, [""; 0]);
    Ok(())
}
