//! What was missed while nobody looked is found all the same.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use support::until;

use crate::world::{Fetcher, Following, World};

const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, name text);
    INSERT INTO items SELECT n, 'name ' || n FROM generate_series(1, 6000) n";

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_goes_on_where_it_was_and_misses_nothing_meanwhile() -> Result<()> {
    let world = World::new(ITEMS, &["public.items"]).await?;
    world.declare("item", json!({"table": "public.items"})).await?;
    let mut stops = 0;
    for further in [1, 1500, 3000] {
        let following = Following::start(&world).await?;
        until("it gets on", async || {
            let (scan, scanned, _) = world.class("item").await?;
            Ok(scan.is_none() || scanned >= further)
        })
        .await?;
        following.stop().await?;
        stops += i32::from(world.class("item").await?.0.is_some());
        // Behind where the scan is, and before it.
        let sql = "UPDATE items SET name = name || '.' WHERE id % 500 = 7; DELETE FROM items WHERE id % 900 = 1;
            UPDATE items SET id = -id WHERE id % 700 = 3";
        world.client.batch_execute(sql).await?;
    }
    let _following = Following::start(&world).await?;
    let scanned = world.scanned("item").await?;
    ensure!(stops >= 2 && (5_500..6_500).contains(&scanned), "{stops} {scanned}");
    let mut fetcher = Fetcher::new(&world, "item").await?;
    fetcher.converge(&world.client, "items").await
}

const FEW: &str = "CREATE TABLE items (id int PRIMARY KEY, name text);
    INSERT INTO items SELECT n, 'name ' || n FROM generate_series(1, 800) n";

/// What is changed while the log has a gap: rows that come, change and go.
const UNSEEN: &str = "INSERT INTO items SELECT n, 'unseen' FROM generate_series(5000, 5600) n;
    UPDATE items SET name = 'changed' WHERE id % 5 = 0; DELETE FROM items WHERE id % 4 = 0";

#[tokio::test(flavor = "multi_thread")]
async fn after_a_gap_all_is_gone_through() -> Result<()> {
    let world = World::new(FEW, &["public.items"]).await?;
    let following = Following::start(&world).await?;
    world.declare("item", json!({"table": "public.items"})).await?;
    let mut fetcher = Fetcher::new(&world, "item").await?;
    fetcher.converge(&world.client, "items").await?;
    following.stop().await?;

    // The slot is lost.
    world.client.batch_execute(UNSEEN).await?;
    let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE slot_name LIKE 'integratedb_notify%'";
    until("the slot is free", async || Ok(world.client.batch_execute(drop).await.is_ok())).await?;
    let following = Following::start(&world).await?;
    fetcher.converge(&world.client, "items").await.context("the slot was lost")?;
    following.stop().await?;

    // The log is pruned before it is followed.
    world.client.batch_execute("DELETE FROM items WHERE id % 11 = 0").await?;
    let prune = "WITH gone AS (DELETE FROM integratedb.event_log)
        UPDATE integratedb.event_log_state SET pruned_epoch = epoch, pruned_lsn = pg_current_wal_insert_lsn()";
    world.client.batch_execute(prune).await?;
    world.client.batch_execute("UPDATE items SET name = 'later' WHERE id = 5001").await?;
    let _following = Following::start(&world).await?;
    fetcher.converge(&world.client, "items").await.context("the log was pruned")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_not_told_for_a_time_is_gone_through_anew() -> Result<()> {
    let world = World::new(FEW, &["public.items"]).await?;
    let following = Following::start(&world).await?;
    world.declare("item", json!({"table": "public.items"})).await?;
    let mut fetcher = Fetcher::new(&world, "item").await?;
    fetcher.converge(&world.client, "items").await?;

    world.subscribe(&[]).await?;
    until("it is said", async || {
        let error = world.class("item").await?.2.unwrap_or_default();
        Ok(error.contains("add the table to its notifications spec again"))
    })
    .await?;
    world.client.batch_execute(UNSEEN).await?;
    world.subscribe(&[("public.items", &["*"])]).await?;
    fetcher.converge(&world.client, "items").await.context("it was not told")?;
    until("all is well", async || Ok(world.class("item").await?.2.is_none())).await?;
    following.stop().await?;

    // Nobody has noticed that it was away.
    world.subscribe(&[]).await?;
    world.client.batch_execute("DELETE FROM items WHERE id % 3 = 0").await?;
    world.subscribe(&[("public.items", &["*"])]).await?;
    let _following = Following::start(&world).await?;
    fetcher.converge(&world.client, "items").await.context("nobody has noticed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_from_before_the_declaration_is_not_missed() -> Result<()> {
    let world = World::new(FEW, &["public.items"]).await?;
    // It writes before the table is told of, and commits after it was gone through, had nobody waited.
    let writer = world.database.connect().await?;
    world.subscribe(&[]).await?;
    writer.batch_execute("BEGIN; UPDATE items SET name = 'early' WHERE id = 7").await?;
    world.client.batch_execute("SET lock_timeout = 0").await?;
    world.subscribe(&[("public.items", &["*"])]).await?;
    let _following = Following::start(&world).await?;
    world.declare("item", json!({"table": "public.items"})).await?;
    until("it waits", async || {
        let error = world.class("item").await?.2.unwrap_or_default();
        Ok(error.contains("waits for transactions"))
    })
    .await?;
    writer.batch_execute("COMMIT").await?;
    world.scanned("item").await?;
    Fetcher::new(&world, "item").await?.converge(&world.client, "items").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_renamed_has_the_class_declared_anew() -> Result<()> {
    let world = World::new(FEW, &["public.items"]).await?;
    let _following = Following::start(&world).await?;
    world.declare("item", json!({"table": "public.items"})).await?;
    let mut fetcher = Fetcher::new(&world, "item").await?;
    fetcher.converge(&world.client, "items").await?;
    world.claim(&[]).await?;
    world
        .client
        .batch_execute("ALTER TABLE items RENAME id TO number; DELETE FROM items WHERE number < 9")
        .await?;
    until("it is said", async || {
        Ok(world.class("item").await?.2.is_some_and(|why| why.contains("eclare the class anew")))
    })
    .await?;
    world.client.batch_execute("DELETE FROM items WHERE number < 20").await?;
    world.claim(&[("public.items", &["*"])]).await?;
    world.declare("item", json!({"table": "public.items"})).await?;
    world.scanned("item").await?;
    let mut fetcher = Fetcher::new(&world, "item").await?;
    fetcher.turn(&world.client).await?;
    fetcher.turn(&world.client).await?;
    let gone = fetcher.models.values().filter(|data| data.is_null()).count();
    ensure!(gone == 19 && fetcher.models["20"]["number"] == 20, "{gone}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stakeholder_that_is_gone_takes_its_classes_with_it() -> Result<()> {
    let world = World::new(FEW, &["public.items"]).await?;
    let _following = Following::start(&world).await?;
    world.declare("item", json!({"table": "public.items"})).await?;
    world.scanned("item").await?;
    let path = format!("/api/v1/stakeholders/{}", world.stakeholder);
    let gone = world.sidecar.delete(&path).await?;
    ensure!(gone.status.is_success(), "{}", gone.text);
    let sql = "SELECT (SELECT count(*) FROM integratedb.sync_tenant) + (SELECT count(*) FROM integratedb.sync_record)";
    until("nothing is left", async || {
        Ok(world.client.query_one(sql, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await
}
