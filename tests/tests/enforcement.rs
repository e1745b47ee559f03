//! `integratedb.enforcement`: validation at COMMIT, without the migration's own discipline.

use anyhow::Result;
use support::{Cluster, Database};
use tokio_postgres::Client;

const SETUP: &str = "
    CREATE TABLE t (a int, b int);
    SELECT integratedb.create_stakeholder('reader', 'SCRAM-SHA-256$4096:jZ0oAN5wNK4vGDs8DJgx4g==$h0GoE3K9tNLcmmGYv8A8NHKO1ERk0FaOHPfgTZHmnDk=:u1tGHgSiUvY4YsXdBKKhCeE0c4PVPrs7dKzPPIOhEdc=');
    SELECT integratedb.put_spec(1, 'CLAIMS', '{\"match\": {\"path\": \"public.t\", \"fields\": [\"*\"]}}')";

async fn world(enforcement: &str) -> Result<(Cluster, Database, Client)> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let client = database.connect().await?;
    client.batch_execute(SETUP).await?;
    client
        .batch_execute(&format!("ALTER DATABASE shop SET integratedb.enforcement = {enforcement}"))
        .await?;
    let client = database.connect().await?;
    Ok((cluster, database, client))
}

fn code(error: &tokio_postgres::Error) -> String {
    error.code().map(|code| code.code().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn strict_refuses_a_commit_that_would_break_a_claim() -> Result<()> {
    let (_cluster, _, client) = world("strict").await?;
    for migration in [
        "ALTER TABLE t DROP a",
        "DROP TABLE t",
        "ALTER TABLE t RENAME a TO z",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE t SET SCHEMA reader",
    ] {
        let error = client.batch_execute(migration).await.expect_err(migration);
        assert_eq!(code(&error), "IDB01", "{migration}: {error}");
    }
    client.batch_execute("ALTER TABLE t ADD c int").await?;
    let row =
        client.query_one("SELECT has_column_privilege('reader', 't', 'c', 'SELECT')", &[]).await?;
    assert!(row.get::<_, bool>(0), "a valid migration is synced as well");
    Ok(())
}

#[tokio::test]
async fn strict_allows_broken_states_in_between() -> Result<()> {
    let (_cluster, _, client) = world("strict").await?;
    client.batch_execute("BEGIN; ALTER TABLE t DROP a; ALTER TABLE t ADD a int; COMMIT").await?;
    client.batch_execute("BEGIN; ALTER TABLE t DROP a; ROLLBACK").await?;
    client
        .batch_execute(
            "BEGIN; SAVEPOINT s; DROP TABLE t; ROLLBACK TO s; ALTER TABLE t ADD d int; COMMIT",
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn strict_is_not_fooled_by_immediate_constraints_or_early_validation() -> Result<()> {
    let (_cluster, _, client) = world("strict").await?;
    for migration in [
        "BEGIN; ALTER TABLE t ADD x int; SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE t DROP a; COMMIT",
        "BEGIN; ALTER TABLE t ADD x int; SELECT integratedb_validate_migration(); \
         ALTER TABLE t DROP a; COMMIT",
        "BEGIN; ALTER TABLE t DROP a; PREPARE TRANSACTION 'p'",
    ] {
        let error = client.batch_execute(migration).await.expect_err(migration);
        assert_eq!(code(&error), "IDB01", "{migration}: {error}");
        client.batch_execute("ROLLBACK").await?;
    }
    Ok(())
}

#[tokio::test]
async fn warn_tells_and_commits() -> Result<()> {
    let (_cluster, database, client) = world("warn").await?;
    let (_, told, succeeded) = database.psql("ALTER TABLE t DROP a")?;
    assert!(succeeded && told.contains("WARNING:  IntegrateDB.InvalidMigration"), "{told}");
    let row = client.query_one("SELECT count(*) FROM integratedb_unmet_claims()", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 1);
    Ok(())
}

#[tokio::test]
async fn off_says_nothing() -> Result<()> {
    let (_cluster, database, _client) = world("off").await?;
    let (_, told, succeeded) = database.psql("ALTER TABLE t DROP a")?;
    assert!(succeeded && told.is_empty(), "{told}");
    Ok(())
}

#[tokio::test]
async fn temporary_tables_and_plain_statements_cost_no_validation() -> Result<()> {
    let (_cluster, _, client) = world("strict").await?;
    client
        .batch_execute("BEGIN; CREATE TEMP TABLE x (a int); DROP TABLE x; INSERT INTO t VALUES (1)")
        .await?;
    let row = client.query_one("SELECT count(*) FROM integratedb.pending_validation", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 0);
    client.batch_execute("COMMIT; BEGIN; ALTER TABLE t ADD y int").await?;
    let row = client.query_one("SELECT count(*) FROM integratedb.pending_validation", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 1);
    client.batch_execute("COMMIT").await?;
    let row = client.query_one("SELECT count(*) FROM integratedb.pending_validation", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 0);
    Ok(())
}

#[tokio::test]
async fn it_holds_for_roles_that_know_nothing_of_the_extension() -> Result<()> {
    let (_cluster, database, client) = world("strict").await?;
    client
        .batch_execute("CREATE ROLE app LOGIN PASSWORD 'app'; ALTER TABLE t OWNER TO app")
        .await?;
    let app = database.connect_as("app", "app").await?;
    assert_eq!(
        code(&app.batch_execute("ALTER TABLE t DROP a").await.expect_err("claimed")),
        "IDB01"
    );
    app.batch_execute("ALTER TABLE t ALTER a SET NOT NULL").await?;
    let error =
        app.batch_execute("SET integratedb.enforcement = off").await.expect_err("superusers only");
    assert_eq!(code(&error), "42501");
    Ok(())
}

#[tokio::test]
async fn the_extension_can_be_dropped_and_made_again() -> Result<()> {
    let (_cluster, _, client) = world("strict").await?;
    client.batch_execute("DROP EXTENSION integratedb CASCADE").await?;
    client
        .batch_execute("ALTER TABLE t DROP a; CREATE EXTENSION integratedb; DROP TABLE t")
        .await?;
    Ok(())
}
