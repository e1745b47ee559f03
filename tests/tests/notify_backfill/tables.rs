//! Tables of all kinds, and those that change while they are read.

use anyhow::{Result, ensure};
use integratedb_events::Op;
use support::until;

use crate::replay::{difference, present, replay};
use crate::world::World;

const ODD: &str = r#"
CREATE TABLE "Odd ""ones""" (b text, a numeric, "c'c" date, large text, PRIMARY KEY ("c'c", a, b));
INSERT INTO "Odd ""ones""" SELECT 'it''s \ ' || n, n / 7.0, date '2020-01-01' + n % 50, repeat('ü', 20000)
FROM generate_series(1, 700) n;
CREATE TABLE parted (a int, b text, PRIMARY KEY (a)) PARTITION BY RANGE (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (1000) TO (2500);
CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM (2500) TO (9999);
INSERT INTO parted SELECT n, 'part ' || n FROM generate_series(1, 3000) n;
CREATE TABLE whole (a int PRIMARY KEY, b text);
ALTER TABLE whole REPLICA IDENTITY FULL;
INSERT INTO whole SELECT n, NULL FROM generate_series(1, 500) n;
CREATE TABLE parents (a int PRIMARY KEY, b text);
CREATE TABLE children () INHERITS (parents);
INSERT INTO parents VALUES (1, 'its own');
INSERT INTO children VALUES (2, 'of another');
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_table_is_read_along_its_key() -> Result<()> {
    let tables = ["\"Odd \"\"ones\"\"\"", "parted", "whole", "parents"];
    let world = World::new(ODD, &tables, |_| {}).await?;
    world.followed().await?;
    world.client.batch_execute("ANALYZE; SELECT pg_stat_force_next_flush()").await?;
    world.client.batch_execute("SELECT pg_stat_reset()").await?;
    for name in ["Odd \"ones\"", "parted", "whole", "parents"] {
        let id = world.backfill(&format!("public.{name}"), 90).await?;
        world.is(id, "done").await?;
    }
    let events = world.log().await?;
    // The same text as the stream has, whatever the sidecar's JSON makes of it.
    let odd = replay(&events, "Odd \"ones\"", false)?;
    ensure!(odd.len() == 700, "{}", odd.len());
    let large = odd.values().all(|row| {
        row["large"]
            .as_ref()
            .is_some_and(|v| v.as_str().map(|text| text.chars().count()) == Some(20_000))
    });
    ensure!(large, "large values");
    for (table, rows) in [("parted_1", 999), ("parted_2", 1500), ("parted_3", 501), ("parents", 1)]
    {
        let told = replay(&events, table, false)?;
        ensure!(told.len() == rows, "{table}: {}", told.len());
        let wanted = present(&world.client, &format!("ONLY {table}"), &["a"]).await?;
        ensure!(difference(&told, &wanted).is_none(), "{table}: {:?}", difference(&told, &wanted));
    }
    let wanted = present(&world.client, "whole", &["a"]).await?;
    ensure!(difference(&replay(&events, "whole", false)?, &wanted).is_none(), "whole");
    let told = events.iter().filter(|event| event.op == Op::Snapshot).count();
    ensure!(told == 700 + 3000 + 500 + 1, "{told}");
    // By an index: 700 rows in chunks of 90, each time from where the last one ended.
    until("statistics are there", async || {
        let sql = "SELECT coalesce(sum(idx_scan), 0)::bigint, coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_user_tables
                   WHERE relname LIKE 'Odd%'";
        let row = world.client.query_one(sql, &[]).await?;
        let (by_index, by_table): (i64, i64) = (row.get(0), row.get(1));
        ensure!(by_table == 0, "{by_table} scans of the whole table");
        Ok(by_index >= 8)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_locked_or_changes_its_shape_is_read_all_the_same() -> Result<()> {
    let schema = "CREATE TABLE items (a int PRIMARY KEY, b text);
        INSERT INTO items SELECT n, 'item' FROM generate_series(1, 3000) n";
    let slowly = |config: &mut integratedb_sidecar::Config| {
        config.notifications.backfill_rows_per_sec = 3000;
    };
    let world = World::new(schema, &["items"], slowly).await?;
    world.followed().await?;
    let other = world.database.connect().await?;
    let id = world.backfill("public.items", 200).await?;
    let more_than = async |rows: i64| {
        until("some rows are told", async || {
            Ok(world.show(id).await?["rows_done"].as_i64() > Some(rows))
        })
        .await
    };
    more_than(300).await?;
    other.batch_execute("BEGIN; LOCK TABLE items").await?;
    // Its statements are given up twice, as by statement_timeout.
    let sql = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
               WHERE query LIKE 'LOCK TABLE ONLY%' AND wait_event_type = 'Lock'";
    for _ in 0..2 {
        until("it waits for the table", async || {
            Ok(!world.client.query(sql, &[]).await?.is_empty())
        })
        .await?;
    }
    // A rewrite: to a snapshot of before, the table is empty.
    other.batch_execute("ALTER TABLE items ALTER a TYPE bigint; COMMIT").await?;
    more_than(1500).await?;
    other
        .batch_execute("ALTER TABLE items ADD c int DEFAULT 7; ALTER TABLE items RENAME b TO bb")
        .await?;
    let done = world.is(id, "done").await?;
    ensure!(done["rows_done"] == 3000, "{done}");
    let told = replay(&world.log().await?, "items", false)?;
    let wanted = present(&world.client, "items", &["a"]).await?;
    ensure!(
        told.len() == 3000 && told.get("[3000]") == wanted.get("[3000]"),
        "{:?}",
        told.get("[3000]")
    );

    // A transaction from before that has written holds it up; one that has not does not.
    let idle = world.database.connect().await?;
    idle.batch_execute("BEGIN; SELECT pg_current_xact_id()").await?;
    let id = world.backfill("public.items", 5000).await?;
    world.is(id, "done").await?;
    other.batch_execute("BEGIN; UPDATE items SET bb = 'late' WHERE a = 5").await?;
    let id = world.backfill("public.items", 5000).await?;
    until("it tells what it waits for", async || {
        let shown = world.show(id).await?;
        Ok(shown["error"].as_str().is_some_and(|text| text.contains("waits for 1 transaction")))
    })
    .await?;
    other.batch_execute("COMMIT").await?;
    world.is(id, "done").await?;
    let told = replay(&world.log().await?, "items", false)?;
    let wanted = present(&world.client, "items", &["a"]).await?;
    ensure!(difference(&told, &wanted).is_none(), "{:?}", difference(&told, &wanted));
    Ok(())
}
