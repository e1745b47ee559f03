//! Which tables join the publication, and when.

use anyhow::Result;
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn the_tables_of_a_spec_join_with_it() -> Result<()> {
    let world = World::new().await?;
    world
        .put(json!([
            {"path": "public.orders", "fields": ["*"]},
            {"path": "public.events", "fields": ["id"]},
            {"path": "public.later", "fields": ["id"], "optional": true},
        ]))
        .await
        .expect("put");
    assert_eq!(world.members().await?, ["events_1", "events_2a", "orders"]);
    // Those that come later join when they are validated.
    world
        .client
        .batch_execute(
            "CREATE TABLE later (id int PRIMARY KEY);
             CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2028-01-01') TO ('2029-01-01');
             SELECT integratedb_sync()",
        )
        .await?;
    assert_eq!(world.members().await?, ["events_1", "events_2a", "events_3", "later", "orders"]);
    Ok(())
}

#[tokio::test]
async fn a_refused_spec_publishes_nothing() -> Result<()> {
    let world = World::new().await?;
    let wanted =
        json!([{"path": "public.orders", "fields": ["*"]}, {"path": "public.no", "fields": ["*"]}]);
    assert_eq!(world.put(wanted).await.err().map(|refused| refused.code).as_deref(), Some("IDB02"));
    assert_eq!(world.one::<i64>("SELECT count(*) FROM pg_publication").await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_schema_is_its_tables_and_those_that_come() -> Result<()> {
    let world = World::strict().await?;
    world.client.batch_execute("CREATE VIEW a_view AS SELECT 1 AS id").await?;
    let wanted = json!({"path": "public.*", "fields": ["*"]});
    world.client.batch_execute("CREATE TABLE keyless (id int)").await?;
    let refused = world.put(wanted.clone()).await.expect_err("one can't be told");
    assert_eq!(refused.detail["unmet"][0]["path"], "public.keyless");
    assert_eq!(refused.detail["unmet"][0]["pointer"], "#/match/0/path");
    world.client.batch_execute("DROP TABLE keyless").await?;
    world.put(wanted).await.expect("all can be told, and views are none");
    assert_eq!(
        world.subscribed().await?,
        [
            "0 public.customers customers id,user_id",
            "0 public.events events_1 id,at",
            "0 public.events events_2a id,at",
            "0 public.orders orders id,price,note",
        ]
    );
    world
        .client
        .batch_execute("CREATE TABLE fresh (id int PRIMARY KEY); CREATE TABLE loose (id int)")
        .await?;
    let fresh = "0 public.fresh fresh id".to_owned();
    assert!(world.subscribed().await?.contains(&fresh));
    assert!(world.members().await?.contains(&"fresh".to_owned()));
    assert_eq!(world.unmet().await?, [""; 0], "who made a table without a key broke no promise");
    // From then on it is claimed.
    assert!(
        world.client.batch_execute("ALTER TABLE fresh DROP CONSTRAINT fresh_pkey").await.is_err()
    );
    world.client.batch_execute("ALTER TABLE loose ADD PRIMARY KEY (id)").await?;
    assert!(world.members().await?.contains(&"loose".to_owned()));
    assert!(world.client.batch_execute("DROP TABLE loose").await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_locked_is_waited_for_before_the_contract_is() -> Result<()> {
    let world = World::new().await?;
    let migration = world.database.connect().await?;
    migration.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await?;
    world.client.batch_execute("SET lock_timeout = '300ms'").await?;
    let wanted = json!({"path": "public.orders", "fields": ["*"]});
    let refused = world.put(wanted.clone()).await.expect_err("locked");
    assert_eq!(refused.code, "55P03", "{}", refused.message);

    // While a spec waits for the table, the migration can be judged: neither waits for ever.
    world.client.batch_execute("SET lock_timeout = 0").await?;
    let (stored, judged) = tokio::join!(world.put(wanted), async {
        support::until("the spec waits", async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            Ok(migration.query_one(sql, &[]).await?.get::<_, i64>(0) == 1)
        })
        .await?;
        migration.batch_execute("SELECT integratedb_validate_migration(); COMMIT").await?;
        anyhow::Ok(())
    });
    judged?;
    assert!(stored.is_ok());
    assert_eq!(world.members().await?, ["orders"]);
    Ok(())
}

#[tokio::test]
async fn a_sync_that_can_not_publish_says_so_and_the_next_one_does() -> Result<()> {
    let world = World::new().await?;
    let wanted = json!({"path": "public.later", "fields": ["id"], "optional": true});
    world.put(wanted).await.expect("put");
    world
        .client
        .batch_execute(
            "SET integratedb.enforcement = off; CREATE TABLE later (id int PRIMARY KEY); \
             RESET integratedb.enforcement",
        )
        .await?;
    let holder = world.database.connect().await?;
    holder.batch_execute("BEGIN; LOCK TABLE later IN SHARE UPDATE EXCLUSIVE MODE").await?;
    let (_, told, succeeded) = world.database.psql("SELECT integratedb_validate_migration()")?;
    assert!(succeeded, "{told}");
    assert!(
        told.contains("WARNING:  changes of the table public.later are not told yet"),
        "{told}"
    );
    assert_eq!(world.members().await?, [""; 0]);
    holder.batch_execute("COMMIT").await?;
    world.client.batch_execute("SELECT integratedb_sync()").await?;
    assert_eq!(world.members().await?, ["later"]);
    Ok(())
}
