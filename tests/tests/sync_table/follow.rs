//! Changes of tables become fetches, each begun after the change can be seen.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use support::until;

use crate::world::{Fetcher, Following, World};

const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, name text);
    INSERT INTO items SELECT n, 'name ' || n FROM generate_series(1, 1200) n";

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_there_and_every_change_are_fetched() -> Result<()> {
    let world = World::new(ITEMS, &["public.items"]).await?;
    let _following = Following::start(&world).await?;
    world.declare("item", json!({"table": "public.items"})).await?;
    ensure!(world.scanned("item").await? == 1200, "{:?}", world.class("item").await?);
    let mut fetcher = Fetcher::new(&world, "item").await?;
    fetcher.converge(&world.client, "items").await?;
    for sql in [
        "INSERT INTO items VALUES (2000, 'new')",
        "UPDATE items SET name = 'other' WHERE id % 7 = 0",
        "UPDATE items SET id = id + 10000 WHERE id < 50",
        "DELETE FROM items WHERE id % 3 = 0",
        "BEGIN; DELETE FROM items WHERE id = 1000; INSERT INTO items VALUES (1000, 'again'); COMMIT",
        "TRUNCATE items",
        "BEGIN; INSERT INTO items SELECT n, 'second' FROM generate_series(1, 700) n; COMMIT",
        "BEGIN; TRUNCATE items; INSERT INTO items VALUES (3, 'third'); COMMIT",
    ] {
        world.client.batch_execute(sql).await?;
        fetcher.converge(&world.client, "items").await.with_context(|| sql.to_owned())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_fetched_only_once_it_can_be_seen() -> Result<()> {
    let world = World::new(ITEMS, &["public.items"]).await?;
    let _following = Following::start(&world).await?;
    world.declare("item", json!({"table": "public.items"})).await?;
    world.scanned("item").await?;
    let mut fetcher = Fetcher::new(&world, "item").await?;
    fetcher.converge(&world.client, "items").await?;
    // A commit that waits for the standby is in the log before anybody sees it.
    let standby = world.cluster.standby().await?;
    let replica = support::connect(&standby.url("store")).await?;
    let settings = "ALTER SYSTEM SET synchronous_standby_names = 'walreceiver'";
    world.client.batch_execute(settings).await?;
    world.client.batch_execute("SELECT pg_reload_conf()").await?;
    until("the standby is waited for", async || {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        Ok(world.client.query_one(sql, &[]).await?.get::<_, i64>(0) == 1)
    })
    .await?;
    replica.batch_execute("SELECT pg_wal_replay_pause()").await?;
    let changes = "SELECT coalesce(sum(changes), 0)::bigint FROM integratedb.event_log";
    let count = async || anyhow::Ok(world.client.query_one(changes, &[]).await?.get::<_, i64>(0));
    let before = count().await?;
    let writer = world.database.connect().await?;
    let writing = tokio::spawn(async move {
        writer
            .batch_execute("SET synchronous_commit = remote_apply; UPDATE items SET name = 'late' WHERE id = 7")
            .await
    });
    until("the change is in the log", async || Ok(count().await? > before)).await?;
    // Whoever is told too early fetches what was, and is not told again.
    for _ in 0..50 {
        fetcher.turn(&world.client).await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ensure!(!writing.is_finished(), "nothing was held back");
    ensure!(fetcher.models["7"]["name"] == "name 7", "it was not to be seen");
    replica.batch_execute("SELECT pg_wal_replay_resume()").await?;
    writing.await??;
    fetcher.converge(&world.client, "items").await
}

const PARTED: &str = "
CREATE TABLE items (id int, name text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (1000);
CREATE TABLE items_2 PARTITION OF items FOR VALUES FROM (1000) TO (2000);
CREATE TABLE later (id int NOT NULL, name text, PRIMARY KEY (id));
INSERT INTO items SELECT n, 'name ' || n FROM generate_series(900, 1100) n;
INSERT INTO later SELECT n, 'later ' || n FROM generate_series(3000, 3100) n";

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_come_and_go_are_followed() -> Result<()> {
    let world = World::new(PARTED, &["public.items"]).await?;
    let _following = Following::start(&world).await?;
    world.declare("item", json!({"table": "public.items"})).await?;
    let mut fetcher = Fetcher::new(&world, "item").await?;
    fetcher.converge(&world.client, "items").await?;
    for sql in [
        "UPDATE items SET id = id + 500 WHERE id < 950",
        "TRUNCATE items_2",
        "ALTER TABLE items ATTACH PARTITION later FOR VALUES FROM (3000) TO (4000)",
        "DELETE FROM items WHERE id = 3000",
        "ALTER TABLE items DETACH PARTITION items_1",
    ] {
        world.client.batch_execute(sql).await?;
        fetcher.converge(&world.client, "items").await.with_context(|| sql.to_owned())?;
    }
    Ok(())
}
