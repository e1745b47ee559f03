//! While others write, whatever happens to commits and processes: who begins with a backfill ends with the table.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integratedb_events::Op;
use support::{Process, until};
use tempfile::TempDir;

use crate::replay::{difference, present, replay};
use crate::workload::{ITEMS, KEY, Workload, fill};
use crate::world::World;

impl World {
    /// Whoever has had all, and whoever begins with the backfill after `start` changes, ends with the table as it is; no
    /// row of the backfill differs from what was true where it stands.
    async fn check(&self, start: usize, backfill: i64) -> Result<usize> {
        let events = self.log().await?;
        let wanted = present(&self.client, "items", &KEY).await?;
        let all = replay(&events, "items", true)?;
        ensure!(difference(&all, &wanted).is_none(), "all: {:?}", difference(&all, &wanted));
        let later = replay(&events[start..], "items", false)?;
        ensure!(difference(&later, &wanted).is_none(), "later: {:?}", difference(&later, &wanted));
        let told = events.iter().filter(|event| event.op == Op::Snapshot);
        let targets = told.clone().map(|event| event.target.map(|t| (t.stakeholder, t.backfill)));
        ensure!(targets.clone().all(|target| target == Some((1, backfill))), "not its own");
        Ok(told.count())
    }

    async fn nothing_is_left(&self) -> Result<()> {
        let left = "SELECT count(*) FROM integratedb.backfill_left";
        until("nothing is left", async || {
            Ok(self.client.query_one(left, &[]).await?.get::<_, i64>(0) == 0)
        })
        .await
    }

    async fn rows_done(&self, id: i64) -> Result<i64> {
        self.show(id).await?["rows_done"].as_i64().context("no rows_done")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_misses_a_row_or_sees_it_go_back() -> Result<()> {
    let world = World::new(ITEMS, &["items"], |_| {}).await?;
    // A commit that waits for the standby is in the stream before anybody sees it.
    let standby = world.cluster.standby().await?;
    let replica = support::connect(&standby.url("shop")).await?;
    let settings = "ALTER SYSTEM SET synchronous_standby_names = 'walreceiver'";
    world.client.batch_execute(settings).await?;
    world.client.batch_execute("SELECT pg_reload_conf()").await?;
    until("the standby is waited for", async || {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        Ok(world.client.query_one(sql, &[]).await?.get::<_, i64>(0) == 1)
    })
    .await?;
    world.followed().await?;
    fill(&world.client).await?;
    let start = world.log().await?.len();

    let mut workload = Workload::new();
    workload.add(&world.database, 1, "", 0);
    workload.add(&world.database, 2, "", 0);
    workload.add(&world.database, 3, "", 400);
    workload.add(&world.database, 4, "SET synchronous_commit = remote_apply", 0);
    workload.add(&world.database, 5, "SET synchronous_commit = remote_apply", 0);
    let id = world.backfill("public.items", 1000).await?;
    while world.show(id).await?["state"] != "done" {
        replica.batch_execute("SELECT pg_wal_replay_pause()").await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        replica.batch_execute("SELECT pg_wal_replay_resume()").await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let transactions = workload.stop().await?;
    let told = world.check(start, id).await?;
    eprintln!("{told} rows told beside {transactions} transactions");
    ensure!(told > 10_000, "{told}");
    // What moved after the last chunk was told already, and is forgotten when the end is noticed.
    world.nothing_is_left().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_goes_on_where_it_was() -> Result<()> {
    let world =
        World::new(ITEMS, &["items"], |config| config.notifications.enabled = false).await?;
    let files = TempDir::new()?;
    let config = files.path().join("config.toml");
    std::fs::write(&config, "[notifications]\nbackfill_rows_per_sec = 6000\n")?;
    let start = async || Process::start(&config, &world.database.url(), None).await;
    let mut process = start().await?;
    world.followed().await?;
    fill(&world.client).await?;
    let events = world.log().await?.len();

    let mut workload = Workload::new();
    workload.add(&world.database, 1, "", 0);
    workload.add(&world.database, 2, "", 100);
    let id = world.backfill("public.items", 500).await?;
    let mut kills = 0;
    for further in [1, 700, 2500, 900, 3000] {
        let before = world.rows_done(id).await?;
        until("it gets on", async || {
            let shown = world.show(id).await?;
            Ok(shown["state"] == "done" || shown["rows_done"].as_i64() >= Some(before + further))
        })
        .await?;
        process.kill()?;
        kills += i32::from(world.show(id).await?["state"] == "running");
        process = start().await?;
    }
    // The rest is of a table that was emptied and filled again.
    let sql = "BEGIN; TRUNCATE items; INSERT INTO items SELECT n, 'second', repeat('x', 3000), 'b' || n % 7
               FROM generate_series(1, 6000) n; COMMIT";
    world.client.batch_execute(sql).await?;
    world.is(id, "done").await?;
    workload.stop().await?;
    let told = world.check(events, id).await?;
    ensure!(kills >= 3 && told > 6000, "{kills} {told}");
    // A row that a process which is gone has left is of no use to anybody.
    process.kill()?;
    let left =
        "INSERT INTO integratedb.backfill_left (backfill_id, relation, key) VALUES ($1, 1, '{1}')";
    world.client.execute(left, &[&id]).await?;
    let process = start().await?;
    world.nothing_is_left().await?;
    drop(process);
    Ok(())
}
