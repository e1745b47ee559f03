//! Changes are stored once, in order, before the database may forget them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use integratedb_events::Op;
use support::{
    Cells, Cluster, Database, Logged, Process, logged, replayed, subscribe_to_all, until,
};
use tempfile::TempDir;
use tokio_postgres::Client;

/// A database with tables that are subscribed to, and what a sidecar process is started with.
struct Setup {
    cluster: Cluster,
    database: Database,
    folder: TempDir,
}

const SCHEMA: &str = "
    CREATE EXTENSION IF NOT EXISTS integratedb;
    CREATE TABLE items (id int PRIMARY KEY, name text, price int);
    CREATE TABLE orders (id bigint PRIMARY KEY, item int, amount numeric);
    ALTER TABLE orders REPLICA IDENTITY FULL;
    CREATE TABLE other (id int PRIMARY KEY)";

/// Whether a sidecar reads.
const FOLLOWED: &str = "SELECT count(*) FROM pg_replication_slots
    WHERE active AND slot_name LIKE 'integratedb_notify%' AND database = current_database()";

/// Nothing is left to be read: each commit so far is confirmed.
const CONFIRMED: &str =
    "SELECT bool_and(confirmed_flush_lsn >= $1::text::pg_lsn) FROM pg_replication_slots";

impl Setup {
    async fn new(server: &[(&str, &str)], section: &str) -> Result<Self> {
        let cluster = Cluster::start_with(server).await?;
        let database = cluster.database("shop").await?;
        let folder = TempDir::new()?;
        std::fs::write(folder.path().join("config.toml"), format!("[notifications]\n{section}"))?;
        let client = database.connect().await?;
        client.batch_execute(SCHEMA).await?;
        subscribe_to_all(&client, &["public.items", "public.orders"]).await?;
        Ok(Self { cluster, database, folder })
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    async fn process(&self) -> Result<Process> {
        Process::start(&self.config(), &self.database.url(), None).await
    }

    /// A sidecar that reads.
    async fn reading(&self) -> Result<Process> {
        let process = self.process().await?;
        self.followed(1).await?;
        Ok(process)
    }

    async fn followed(&self, count: i64) -> Result<()> {
        let client = self.database.connect().await?;
        until("the slot is followed", async || {
            Ok(client.query_one(FOLLOWED, &[]).await?.get::<_, i64>(0) == count)
        })
        .await
    }

    /// Waits until all that is committed is confirmed, and gives the log.
    async fn log(&self, client: &Client) -> Result<Vec<Logged>> {
        let end: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?.get(0);
        until("all is confirmed", async || {
            Ok(client.query_one(CONFIRMED, &[&end]).await?.get::<_, Option<bool>>(0) == Some(true))
        })
        .await?;
        logged(client).await
    }
}

/// A table as Postgres itself has it.
async fn rows(client: &Client, table: &str) -> Result<BTreeMap<i64, Cells>> {
    let sql = format!("SELECT id::bigint, to_jsonb(t) FROM {table} t");
    let rows = client.query(&sql, &[]).await?.into_iter().map(|row| {
        let cells: serde_json::Value = row.get(1);
        let cells = cells.as_object().context("no object")?.clone();
        Ok((row.get(0), cells.into_iter().collect()))
    });
    rows.collect()
}

async fn is_the_same(setup: &Setup, client: &Client) -> Result<Vec<Logged>> {
    let log = setup.log(client).await?;
    for table in ["items", "orders"] {
        let (ours, theirs) = (replayed(&log, table)?, rows(client, table).await?);
        ensure!(ours == theirs, "{table}: {} rows instead of {}", ours.len(), theirs.len());
    }
    Ok(log)
}

#[tokio::test]
async fn what_is_committed_is_stored_with_all_that_the_log_tells() -> Result<()> {
    let setup = Setup::new(&[], "").await?;
    let _sidecar = setup.reading().await?;
    let client = setup.database.connect().await?;
    for sql in [
        "INSERT INTO items SELECT n, 'item ' || n, n FROM generate_series(1, 10000) n",
        "BEGIN; UPDATE items SET price = 0 WHERE id = 7; UPDATE items SET id = -8 WHERE id = 8;
         DELETE FROM items WHERE id = 9; COMMIT",
        "INSERT INTO other VALUES (1)",
        "INSERT INTO orders VALUES (1, 7, 'NaN')",
        "UPDATE orders SET amount = 1.50",
        "TRUNCATE items",
    ] {
        client.batch_execute(sql).await?;
    }
    let log = is_the_same(&setup, &client).await?;
    ensure!(log.len() == 10006, "{}", log.len());
    let (update, moved, gone) = (&log[10000], &log[10001], &log[10002]);
    ensure!(update.op == Op::Update && update.old.is_none(), "{update:?}");
    ensure!(moved.old.as_ref().is_some_and(|old| old.len() == 1 && old["id"] == 8), "{moved:?}");
    ensure!(gone.op == Op::Delete && gone.new.is_none(), "{gone:?}");
    ensure!(gone.id.lsn == update.id.lsn && (update.id.index, gone.id.index) == (0, 2));
    let full = log[10004].old.as_ref().context("no old row")?;
    ensure!(full.len() == 3 && full["amount"] == "NaN", "{full:?}");
    ensure!(log[10005].op == Op::Truncate, "{:?}", log[10005]);
    Ok(())
}

#[tokio::test]
async fn nothing_is_lost_or_stored_twice_when_the_sidecar_or_the_server_is_killed() -> Result<()> {
    let mut setup = Setup::new(&[], "").await?;
    for round in 0..8 {
        let sidecar = setup.reading().await?;
        let client = setup.database.connect().await?;
        let writer = setup.database.connect().await?;
        let writing = tokio::spawn(async move {
            for at in 0..60 {
                let key = round * 1000 + at * 10;
                let sql = format!(
                    "BEGIN; INSERT INTO items SELECT n, 'x', {at} FROM generate_series({key}, {key} + 9) n;
                     INSERT INTO orders VALUES ({key}, {at}, 1); COMMIT;
                     UPDATE items SET price = price + 1 WHERE id % 7 = {}; DELETE FROM items WHERE id = {key} + 3", at % 7
                );
                // The server may be killed.
                if writer.batch_execute(&sql).await.is_err() {
                    return;
                }
            }
        });
        // At another moment each time: when something is stored.
        let wanted = i64::from(round) * 100;
        until("some is stored", async || {
            let sql = "SELECT coalesce(sum(changes), 0) FROM integratedb.event_log";
            let stored: i64 = client.query_one(sql, &[]).await?.get(0);
            Ok(stored > wanted || writing.is_finished())
        })
        .await?;
        if round % 3 == 2 {
            setup.cluster.stop_immediately();
            setup.cluster.restart().await?;
        }
        sidecar.kill()?;
        writing.await?;
    }
    let _sidecar = setup.reading().await?;
    let client = setup.database.connect().await?;
    let log = is_the_same(&setup, &client).await?;
    ensure!(log.iter().all(|change| change.op != Op::Gap), "nothing was lost");
    Ok(())
}

#[tokio::test]
async fn another_sidecar_takes_over() -> Result<()> {
    let setup = Setup::new(&[], "").await?;
    let first = setup.reading().await?;
    let second = setup.process().await?;
    let client = setup.database.connect().await?;
    client.batch_execute("INSERT INTO items SELECT n FROM generate_series(1, 500) n").await?;
    is_the_same(&setup, &client).await?;
    ensure!(client.query_one(FOLLOWED, &[]).await?.get::<_, i64>(0) == 1);
    first.kill()?;
    client.batch_execute("UPDATE items SET price = 1; DELETE FROM items WHERE id > 400").await?;
    is_the_same(&setup, &client).await?;
    second.stop()?;
    client.batch_execute("DELETE FROM items").await?;
    let _third = setup.reading().await?;
    is_the_same(&setup, &client).await?;
    Ok(())
}

#[tokio::test]
async fn a_slot_that_is_lost_is_told_as_a_gap() -> Result<()> {
    let setup = Setup::new(&[], "").await?;
    let client = setup.database.connect().await?;
    for round in 0..2 {
        let sidecar = setup.reading().await?;
        client
            .batch_execute("INSERT INTO items SELECT coalesce(max(id), 0) + 1 FROM items")
            .await?;
        setup.log(&client).await?;
        // Once while nobody follows it, once while somebody does.
        let stopped = if round == 0 { Some(sidecar.stop()?) } else { None };
        until("the slot is dropped", async || {
            let ours =
                "FROM pg_replication_slots WHERE slot_name LIKE 'integratedb_notify%' || $1::text";
            let end = format!("SELECT pg_terminate_backend(active_pid, 5000) {ours} AND active");
            client.execute(&end, &[&format!("_{}", round + 1)]).await?;
            let drop = format!("SELECT pg_drop_replication_slot(slot_name) {ours}");
            let dropped = client.execute(&drop, &[&format!("_{}", round + 1)]).await;
            Ok(dropped.is_ok_and(|count| count == 1))
        })
        .await?;
        if stopped.is_none() {
            until("it is noticed", async || {
                let sql = "SELECT epoch FROM integratedb.event_log_state";
                Ok(client.query_one(sql, &[]).await?.get::<_, i32>(0) == 3)
            })
            .await?;
        }
    }
    let _sidecar = setup.process().await?;
    setup.followed(1).await?;
    client.batch_execute("INSERT INTO items SELECT max(id) + 1 FROM items").await?;
    let log = setup.log(&client).await?;
    let ops: Vec<(u32, Op)> = log.iter().map(|change| (change.id.epoch, change.op)).collect();
    let expected = [(1, Op::Insert), (2, Op::Gap), (2, Op::Insert), (3, Op::Gap), (3, Op::Insert)];
    ensure!(ops == expected, "{ops:?}");
    ensure!(log[1].reason.contains("gone"), "{}", log[1].reason);
    Ok(())
}

/// As a leader leaves it that is killed after a gap, and before it has noted which slot it made.
#[tokio::test]
async fn a_slot_that_nobody_knows_of_is_not_left() -> Result<()> {
    let setup = Setup::new(&[], "").await?;
    let client = setup.database.connect().await?;
    let make = "SELECT pg_create_logical_replication_slot('integratedb_notify_' || oid || suffix, 'pgoutput')
                FROM pg_database, unnest(ARRAY['_7', '_mine']) suffix WHERE datname = current_database()";
    client.execute(make, &[]).await?;
    let _sidecar = setup.reading().await?;
    let rows =
        client.query("SELECT slot_name, active FROM pg_replication_slots ORDER BY 1", &[]).await?;
    let slots: Vec<(&str, bool)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let ends = |slot: &(&str, bool), end: &str| slot.0.ends_with(end);
    ensure!(slots.len() == 2 && ends(&slots[0], "_1") && ends(&slots[1], "_mine"), "{slots:?}");
    ensure!(slots[0].1, "{slots:?}");
    Ok(())
}

#[tokio::test]
async fn a_table_that_left_the_publication_joins_again() -> Result<()> {
    let setup = Setup::new(&[], "").await?;
    let client = setup.database.connect().await?;
    let members = "SELECT count(*) FROM pg_publication_rel";
    let all: i64 = client.query_one(members, &[]).await?.get(0);
    client.batch_execute("SELECT integratedb.unpublish(ARRAY['items'::regclass::oid])").await?;
    ensure!(client.query_one(members, &[]).await?.get::<_, i64>(0) == all - 1);
    let _sidecar = setup.reading().await?;
    until("it is a member again", async || {
        Ok(client.query_one(members, &[]).await?.get::<_, i64>(0) == all)
    })
    .await?;
    client.batch_execute("INSERT INTO items VALUES (1)").await?;
    is_the_same(&setup, &client).await?;
    Ok(())
}

#[tokio::test]
async fn an_idle_table_holds_no_wal() -> Result<()> {
    let setup = Setup::new(&[], "").await?;
    let _sidecar = setup.reading().await?;
    let client = setup.database.connect().await?;
    client.batch_execute("CREATE TABLE busy (n int)").await?;
    for _ in 0..3 {
        client.batch_execute("INSERT INTO busy SELECT generate_series(1, 10000)").await?;
        ensure!(setup.log(&client).await?.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn without_subscriptions_there_is_no_slot() -> Result<()> {
    let setup = Setup::new(&[], "").await?;
    let _sidecar = setup.reading().await?;
    let client = setup.database.connect().await?;
    let id = "(SELECT id FROM integratedb.stakeholder WHERE name = 'reporting')";
    client.batch_execute(&format!("SELECT integratedb.delete_spec({id}, 'NOTIFICATIONS')")).await?;
    until("there is no slot", async || {
        let sql = "SELECT count(*) FROM pg_replication_slots";
        Ok(client.query_one(sql, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await?;
    client.batch_execute("INSERT INTO items VALUES (1)").await?;
    subscribe_to_all(&client, &["public.items"]).await?;
    setup.followed(1).await?;
    client.batch_execute("INSERT INTO items VALUES (2)").await?;
    let log = setup.log(&client).await?;
    ensure!(log.len() == 1 && log[0].op == Op::Insert, "{log:?}");
    Ok(())
}

#[tokio::test]
async fn the_log_is_pruned_to_its_bounds() -> Result<()> {
    let setup = Setup::new(&[], "max_log_bytes = 20000\nmemory_bytes = 1000").await?;
    let sidecar = setup.reading().await?;
    let client = setup.database.connect().await?;
    let fill = "INSERT INTO orders SELECT n, n, random() FROM generate_series(1, 20000) n; DELETE FROM orders";
    client.batch_execute(fill).await?;
    setup.log(&client).await?;
    // It is looked at when a sidecar begins to read, and once a minute.
    sidecar.stop()?;
    let _sidecar = setup.reading().await?;
    until("it is pruned", async || {
        // The oldest segment is kept as a whole.
        let sql = "SELECT coalesce(max(total) - min(total), 0) FROM integratedb.event_log";
        Ok(client.query_one(sql, &[]).await?.get::<_, i64>(0) <= 20000)
    })
    .await?;
    let log = logged(&client).await?;
    let sql = "SELECT pruned_lsn FROM integratedb.event_log_state";
    let pruned: tokio_postgres::types::PgLsn = client.query_one(sql, &[]).await?.get(0);
    ensure!(u64::from(pruned) > 0 && log.iter().all(|change| change.id.lsn.0 >= u64::from(pruned)));
    Ok(())
}

#[tokio::test]
async fn a_transaction_of_a_million_rows_passes_in_bounded_memory() -> Result<()> {
    let setup = Setup::new(&[], "").await?;
    let sidecar = setup.reading().await?;
    let client = setup.database.connect().await?;
    let before = sidecar.peak_memory()?;
    client
        .batch_execute(
            "INSERT INTO items SELECT n, 'item ' || n, n FROM generate_series(1, 1000000) n",
        )
        .await?;
    let stored = "SELECT coalesce(sum(changes), 0) FROM integratedb.event_log";
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(180);
    // Longer than other waits: it is a million rows, and a test is not optimised.
    while client.query_one(stored, &[]).await?.get::<_, i64>(0) < 1_000_000 {
        ensure!(std::time::Instant::now() < deadline, "it takes too long");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let grown = sidecar.peak_memory()? - before;
    // Of which 64 MiB is the end of the log, in memory.
    ensure!(grown < 200 << 20, "{} MiB", grown >> 20);
    Ok(())
}
