//! What a reader delivers: every committed transaction, once, whole and in order, with what the WAL has of it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::replication::{ReplicaIdentity, Slot, State};
use support::{Cluster, Database, Follower, Heard, until};
use tokio_postgres::Client;

struct Setup {
    cluster: Cluster,
    database: Database,
    client: Client,
    follower: Follower,
}

impl Setup {
    /// A reader of these tables.
    async fn new(tables: &str) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let client = database.connect().await?;
        client.batch_execute(tables).await?;
        client.batch_execute("CREATE PUBLICATION integratedb FOR ALL TABLES").await?;
        let follower = Follower::start(&database.url(), Slot::Temporary("cache".to_owned()))?;
        follower.connections(1).await?;
        Ok(Self { cluster, database, client, follower })
    }

    /// Runs SQL and waits until it is delivered.
    async fn run(&self, sql: &str) -> Result<Heard> {
        self.client.batch_execute(sql).await.with_context(|| sql.to_owned())?;
        self.follower.catch_up().await
    }

    /// The changes that a statement makes.
    async fn changes(&self, sql: &str) -> Result<Vec<String>> {
        let before = self.follower.heard().changes().len();
        Ok(self.run(sql).await?.changes().split_off(before))
    }
}

#[tokio::test]
async fn rows_come_with_what_the_replica_identity_carries() -> Result<()> {
    let setup = Setup::new(
        "CREATE TABLE d (id int PRIMARY KEY, x text);
         CREATE TABLE f (id int, x text); ALTER TABLE f REPLICA IDENTITY FULL;
         CREATE TABLE i (id int, x text NOT NULL UNIQUE);
         ALTER TABLE i REPLICA IDENTITY USING INDEX i_x_key;",
    )
    .await?;
    for table in ["d", "f", "i"] {
        let changes =
            setup.changes(&format!("INSERT INTO {table} VALUES (1, 'a'), (2, 'b')")).await?;
        assert_eq!(changes, [format!("+ {table} 1,a"), format!("+ {table} 2,b")]);
    }
    let update = |table: &str, set: &str| format!("UPDATE {table} SET {set} WHERE id = 1");
    assert_eq!(setup.changes(&update("d", "x = NULL")).await?, ["~ d 1,"]);
    assert_eq!(setup.changes(&update("d", "id = 9")).await?, ["~ d <1,> 9,"]);
    assert_eq!(setup.changes("DELETE FROM d").await?, ["- d <2,>", "- d <9,>"]);
    assert_eq!(setup.changes(&update("f", "x = 'c'")).await?, ["~ f (1,a) 1,c"]);
    assert_eq!(setup.changes("DELETE FROM f WHERE id = 1").await?, ["- f (1,c)"]);
    assert_eq!(setup.changes(&update("i", "x = 'c'")).await?, ["~ i <,a> 1,c"]);
    let heard = setup.run("DELETE FROM i WHERE id = 1").await?;
    assert_eq!(heard.changes().last().map(String::as_str), Some("- i <,c>"));
    let relation = heard.relation.context("it was told")?;
    assert_eq!((relation.schema.as_str(), relation.identity), ("public", ReplicaIdentity::Index));
    let keys: Vec<_> = relation.columns.iter().map(|c| (c.name.as_str(), c.is_key)).collect();
    assert_eq!(keys, [("id", false), ("x", true)]);
    assert_eq!(relation.columns[0].type_oid, 23);
    Ok(())
}

#[tokio::test]
async fn shapes_are_those_of_their_time() -> Result<()> {
    let setup = Setup::new("CREATE TABLE t (id int PRIMARY KEY, a text, b text)").await?;
    let mut changes = setup
        .changes(
            "INSERT INTO t VALUES (1, 'a', 'b');
             ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN c int DEFAULT 7;
             UPDATE t SET b = 'x';
             ALTER TABLE t RENAME COLUMN b TO d; ALTER TABLE t RENAME TO u; UPDATE u SET c = 8",
        )
        .await?;
    // The extension tells of the change of the schema, too.
    changes.retain(|change| !change.starts_with("! integratedb {"));
    assert_eq!(changes, ["+ t 1,a,b", "~ t 1,x,7", "~ u 1,x,8"]);
    let relation = setup.follower.heard().relation.context("it was told")?;
    let names: Vec<_> = relation.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["id", "d", "c"]);
    Ok(())
}

#[tokio::test]
async fn an_unchanged_large_value_is_not_there() -> Result<()> {
    let setup = Setup::new(
        "CREATE TABLE t (id int PRIMARY KEY, n int, x text);
         ALTER TABLE t ALTER COLUMN x SET STORAGE EXTERNAL;
         INSERT INTO t VALUES (1, 1, repeat('x', 100000))",
    )
    .await?;
    assert_eq!(setup.changes("UPDATE t SET n = 2").await?, ["~ t 1,2,…"]);
    let changes = setup.changes("UPDATE t SET x = repeat('y', 3000000)").await?;
    assert_eq!(changes, [format!("~ t 1,2,{}", "y".repeat(3_000_000))]);
    Ok(())
}

#[tokio::test]
async fn values_are_written_in_one_way_whatever_is_set() -> Result<()> {
    let setup = Setup::new(
        "CREATE TABLE t (a timestamptz, b interval, c bytea, d float8);
         ALTER DATABASE shop SET datestyle = 'German'; ALTER DATABASE shop SET timezone = 'Asia/Tokyo';
         ALTER DATABASE shop SET bytea_output = 'escape'; ALTER DATABASE shop SET intervalstyle = 'iso_8601'",
    )
    .await?;
    let changes = setup
        .changes("INSERT INTO t VALUES ('2024-02-03 04:05:06Z', '1 day 2 hours', '\\x00ff', 0.1)")
        .await?;
    assert_eq!(changes, ["+ t 2024-02-03 04:05:06+00,1 day 02:00:00,\\x00ff,0.1"]);
    Ok(())
}

#[tokio::test]
async fn only_what_is_committed_comes_and_under_the_top_transaction() -> Result<()> {
    let setup = Setup::new("CREATE TABLE t (id int PRIMARY KEY)").await?;
    let before = setup.follower.catch_up().await?.transactions.len();
    let heard = setup
        .run(
            "BEGIN; INSERT INTO t VALUES (1); ROLLBACK;
             BEGIN; INSERT INTO t VALUES (2); SAVEPOINT a; INSERT INTO t VALUES (3); ROLLBACK TO a;
             SAVEPOINT b; INSERT INTO t VALUES (4); RELEASE b; COMMIT;
             BEGIN; INSERT INTO t VALUES (5); PREPARE TRANSACTION 'p';
             BEGIN; INSERT INTO t VALUES (6); COMMIT;
             BEGIN; INSERT INTO t VALUES (7); PREPARE TRANSACTION 'q';",
        )
        .await?;
    let changes = |heard: &Heard| -> Vec<Vec<String>> {
        let told = heard.transactions[before..].iter().map(|t| t.changes.clone());
        told.filter(|changes| !changes.is_empty()).collect()
    };
    assert_eq!(changes(&heard), [vec!["+ t 2", "+ t 4"], vec!["+ t 6"]]);
    let xid: i64 =
        setup.client.query_one("SELECT xmin::text::bigint FROM t WHERE id = 2", &[]).await?.get(0);
    assert_eq!(i64::from(heard.transactions[before].xid), xid);
    setup.run("ROLLBACK PREPARED 'q'").await?;
    let heard = setup.run("COMMIT PREPARED 'p'").await?;
    assert_eq!(changes(&heard).last(), Some(&vec!["+ t 5".to_owned()]));
    assert_eq!(changes(&heard).len(), 3);
    Ok(())
}

#[tokio::test]
async fn truncate_names_every_table() -> Result<()> {
    let setup = Setup::new(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int REFERENCES a); CREATE TABLE c (id int)",
    )
    .await?;
    assert_eq!(setup.changes("TRUNCATE a, c CASCADE").await?, ["0 a b c"]);
    assert_eq!(setup.changes("TRUNCATE c RESTART IDENTITY").await?, ["0 c"]);
    Ok(())
}

#[tokio::test]
async fn messages_come_with_their_transaction_or_at_once() -> Result<()> {
    let setup = Setup::new("CREATE TABLE t (id int)").await?;
    let changes = setup
        .changes(
            "BEGIN; INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'integratedb', 'DDL');
             INSERT INTO t VALUES (2); COMMIT;
             BEGIN; SELECT pg_logical_emit_message(true, 'p', 'never'); ROLLBACK;
             BEGIN; SELECT pg_logical_emit_message(false, 'p', 'at once'); ROLLBACK;",
        )
        .await?;
    assert_eq!(changes, ["+ t 1", "! integratedb DDL", "+ t 2"]);
    assert_eq!(setup.follower.heard().messages, ["! p at once"]);
    Ok(())
}

#[tokio::test]
async fn many_small_transactions_come_in_order() -> Result<()> {
    let setup = Setup::new("CREATE TABLE t (session int, n int)").await?;
    let writers: Vec<_> = (0..4)
        .map(|session| {
            let url = setup.database.url();
            tokio::spawn(async move {
                let client = support::connect(&url).await?;
                for n in 0..250 {
                    let insert = format!("INSERT INTO t VALUES ({session}, {n})");
                    client.batch_execute(&insert).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    let heard = setup.follower.catch_up().await?;
    let mut next = [0; 4];
    for change in heard.changes().iter().filter(|c| c.starts_with("+ t")) {
        let (session, n) = change[4..].split_once(',').context("two numbers")?;
        let session: usize = session.parse()?;
        assert_eq!(n.parse::<i32>()?, next[session], "{change}");
        next[session] += 1;
    }
    assert_eq!(next, [250; 4]);
    let positions: Vec<_> = heard.transactions.iter().map(|t| t.end).collect();
    assert!(positions.is_sorted());
    Ok(())
}

/// Bytes of memory that this process holds.
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? << 10)
}

#[tokio::test]
async fn a_large_transaction_passes_in_bounded_memory() -> Result<()> {
    let rows: u64 = std::env::var("ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let setup = Setup::new("CREATE TABLE t (id int, x text)").await?;
    setup.follower.switches().counting.store(true, Ordering::SeqCst);
    setup.follower.catch_up().await?;
    let before = resident()?;
    let started = Instant::now();
    let insert =
        format!("INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, {rows}) n");
    setup.client.batch_execute(&insert).await?;
    let mut most = 0;
    while setup.follower.heard().count.1 < rows {
        most = most.max(resident()?);
        tokio::time::sleep(Duration::from_millis(20)).await;
        ensure!(started.elapsed() < Duration::from_secs(100), "{:?}", setup.follower.heard());
    }
    let grown = most.saturating_sub(before);
    ensure!(grown < 16 << 20, "memory grew by {grown} bytes");
    Ok(())
}

#[tokio::test]
async fn a_quiet_origin_is_known_to_be_quiet() -> Result<()> {
    let setup = Setup::new("CREATE TABLE t (id int)").await?;
    // Changes of other databases, a checkpoint and a rolled back transaction move the position too.
    let other = support::connect(&setup.cluster.url("postgres")).await?;
    other.batch_execute("CREATE TABLE x (); CHECKPOINT").await?;
    setup.run("BEGIN; INSERT INTO t VALUES (1); ROLLBACK").await?;
    let started = Instant::now();
    setup.follower.catch_up().await?;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let probe = setup.follower.reader.sql().probe().await?;
    setup.follower.catch_up().await?;
    let progress = setup.follower.reader.progress();
    assert!(progress.applied() >= probe.insert);
    setup.follower.status("all is confirmed", |s| s.confirmed >= probe.insert).await?;
    assert_eq!(setup.follower.reader.status().state, State::Streaming);
    Ok(())
}

#[tokio::test]
async fn an_asynchronous_commit_is_waited_for_and_then_flushed() -> Result<()> {
    let cluster =
        Cluster::start_with(&[("wal_writer_delay", "10s"), ("bgwriter_delay", "10s")]).await?;
    let database = cluster.database("shop").await?;
    let client = database.connect().await?;
    client
        .batch_execute("CREATE TABLE t (id int); CREATE PUBLICATION integratedb FOR ALL TABLES")
        .await?;
    let follower = Follower::start(&database.url(), Slot::Temporary("cache".to_owned()))?;
    follower.catch_up().await?;
    client.batch_execute("SET synchronous_commit = off; INSERT INTO t VALUES (1)").await?;
    let started = Instant::now();
    let heard = follower.catch_up().await?;
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(heard.changes().contains(&"+ t 1".to_owned()));
    Ok(())
}

#[tokio::test]
async fn queries_go_beside_the_stream() -> Result<()> {
    let setup = Setup::new("CREATE TABLE t (id int)").await?;
    let sql = setup.follower.reader.sql();
    let rows = sql.query("SELECT 1, NULL; SELECT 'b'").await?;
    assert_eq!(rows, [vec![Some("1".to_owned()), None], vec![Some("b".to_owned())]]);
    let error = sql.query("SELECT nothing").await.expect_err("no such column");
    assert!(error.to_string().contains("42703"), "{error}");
    assert!(sql.snapshot().await?.contains(':'));
    assert_eq!(setup.follower.heard().connected.len(), 1);
    // One that takes too long fails alone.
    let error = sql.query("SELECT pg_sleep(100)").await.expect_err("it takes too long");
    assert!(error.to_string().contains("57014"), "{error}");
    assert!(setup.follower.heard().disconnected.is_empty());
    setup.follower.stop().await;
    assert!(sql.query("SELECT 1").await.is_err());
    Ok(())
}

#[tokio::test]
async fn changes_of_roles_are_told_where_the_extension_can_tell() -> Result<()> {
    let setup = Setup::new(
        "CREATE OR REPLACE FUNCTION integratedb.roles_fingerprint() RETURNS text LANGUAGE sql AS
         $$ SELECT string_agg(rolname, ',') FROM pg_roles $$",
    )
    .await?;
    setup.follower.catch_up().await?;
    assert_eq!(setup.follower.heard().roles, 0);
    setup.client.batch_execute("CREATE ROLE somebody").await?;
    until("it is told", async || Ok(setup.follower.heard().roles == 1)).await
}
