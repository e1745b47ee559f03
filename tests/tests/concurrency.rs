//! Sessions at the same time: what is valid alone and not together must not both commit.

use std::time::{Duration, Instant};

use anyhow::Result;
use support::{Cluster, Database};
use tokio_postgres::Client;

const SETUP: &str = "
    CREATE TABLE one (a int); CREATE TABLE two (a int);
    SELECT integratedb.create_stakeholder('reader', 'SCRAM-SHA-256$4096:jZ0oAN5wNK4vGDs8DJgx4g==$h0GoE3K9tNLcmmGYv8A8NHKO1ERk0FaOHPfgTZHmnDk=:u1tGHgSiUvY4YsXdBKKhCeE0c4PVPrs7dKzPPIOhEdc=');
    SELECT integratedb.put_spec(1, 'CLAIMS', '{\"match\": {\"alternatives\": [
        {\"path\": \"public.one\", \"fields\": [\"a\"]}, {\"path\": \"public.two\", \"fields\": [\"a\"]}]}}')";

async fn world() -> Result<(Cluster, Database)> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    database.connect().await?.batch_execute(SETUP).await?;
    Ok((cluster, database))
}

/// Waits until a session waits for a lock.
async fn until_blocked(observer: &Client) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let row = observer
            .query_one("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", &[])
            .await?;
        if row.get::<_, i64>(0) > 0 {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "nobody waits for a lock");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn code(error: &tokio_postgres::Error) -> String {
    error.code().map(|code| code.code().to_owned()).unwrap_or_default()
}

/// A drops one alternative, B the other; B's last step waits for A, then `outcome` of it.
async fn second_of_two(isolation: &str, strict: bool) -> Result<Result<(), tokio_postgres::Error>> {
    let (_cluster, database) = world().await?;
    let (a, b, observer) =
        (database.connect().await?, database.connect().await?, database.connect().await?);
    let enforcement = if strict { "strict" } else { "off" };
    for session in [&a, &b] {
        session.batch_execute(&format!("SET integratedb.enforcement = {enforcement}")).await?;
        session.batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}")).await?;
        // Fixes the snapshot of a transaction that keeps one.
        session.batch_execute("SELECT * FROM integratedb.claim").await?;
    }
    a.batch_execute("ALTER TABLE one DROP a").await?;
    b.batch_execute("ALTER TABLE two DROP a").await?;
    a.batch_execute("SELECT integratedb_validate_migration()").await?;
    let last = if strict { "COMMIT" } else { "SELECT integratedb_validate_migration(); COMMIT" };
    let second = tokio::spawn(async move { b.batch_execute(last).await });
    until_blocked(&observer).await?;
    a.batch_execute("COMMIT").await?;
    let outcome = second.await?;
    let row = observer.query_one("SELECT count(*) FROM integratedb_unmet_claims()", &[]).await?;
    assert_eq!(row.get::<_, i64>(0), 0, "the contract still holds");
    Ok(outcome)
}

#[tokio::test]
async fn two_migrations_that_are_valid_only_alone_do_not_both_commit() -> Result<()> {
    let error = second_of_two("READ COMMITTED", false).await?.expect_err("refused");
    assert_eq!(code(&error), "IDB01");
    Ok(())
}

#[tokio::test]
async fn a_repeatable_read_migration_is_judged_by_the_present() -> Result<()> {
    let error = second_of_two("REPEATABLE READ", false).await?.expect_err("refused");
    assert_eq!(code(&error), "IDB01");
    Ok(())
}

#[tokio::test]
async fn a_serializable_migration_is_judged_by_the_present() -> Result<()> {
    let error = second_of_two("SERIALIZABLE", false).await?.expect_err("refused");
    assert!(["IDB01", "40001"].contains(&code(&error).as_str()), "{error}");
    Ok(())
}

#[tokio::test]
async fn strict_enforcement_serialises_at_commit() -> Result<()> {
    let error = second_of_two("REPEATABLE READ", true).await?.expect_err("refused");
    assert_eq!(code(&error), "IDB01");
    Ok(())
}

#[tokio::test]
async fn a_repeatable_read_migration_sees_a_claim_made_after_it_began() -> Result<()> {
    let (_cluster, database) = world().await?;
    let (migrator, admin) = (database.connect().await?, database.connect().await?);
    migrator.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await?;
    admin
        .batch_execute(
            "SELECT integratedb.put_spec(1, 'CLAIMS', \
             '{\"match\": {\"path\": \"public.one\", \"fields\": [\"a\"]}}')",
        )
        .await?;
    migrator.batch_execute("ALTER TABLE one DROP a").await?;
    let error = migrator.batch_execute("SELECT integratedb_validate_migration()").await;
    assert_eq!(code(&error.expect_err("claimed meanwhile")), "IDB01");
    Ok(())
}

#[tokio::test]
async fn a_repeatable_read_migration_can_sync_over_rows_it_cannot_see() -> Result<()> {
    let (_cluster, database) = world().await?;
    let (migrator, admin) = (database.connect().await?, database.connect().await?);
    migrator.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await?;
    admin
        .batch_execute(
            "SELECT integratedb.put_spec(1, 'CLAIMS', \
             '{\"match\": {\"path\": \"public.*\", \"fields\": [\"*\"]}}')",
        )
        .await?;
    migrator
        .batch_execute("ALTER TABLE one ADD b int; SELECT integratedb_validate_migration(); COMMIT")
        .await?;
    let row = admin
        .query_one("SELECT has_column_privilege('reader', 'public.one', 'b', 'SELECT')", &[])
        .await?;
    assert!(row.get::<_, bool>(0), "the claim followed the new column");
    Ok(())
}

#[tokio::test]
async fn a_claim_made_during_a_migration_waits_for_its_outcome() -> Result<()> {
    let (_cluster, database) = world().await?;
    let (migrator, admin, observer) =
        (database.connect().await?, database.connect().await?, database.connect().await?);
    migrator
        .batch_execute("BEGIN; ALTER TABLE one DROP a; SELECT integratedb_validate_migration()")
        .await?;
    let claim = tokio::spawn(async move {
        admin
            .batch_execute(
                "SELECT integratedb.put_spec(1, 'CLAIMS', \
                 '{\"match\": {\"path\": \"public.one\", \"fields\": [\"a\"]}}')",
            )
            .await
    });
    until_blocked(&observer).await?;
    migrator.batch_execute("COMMIT").await?;
    assert_eq!(code(&claim.await?.expect_err("it is gone")), "IDB02");
    Ok(())
}

#[tokio::test]
async fn readers_are_never_in_the_way_of_a_migration() -> Result<()> {
    let (_cluster, database) = world().await?;
    let (reader, migrator) = (database.connect().await?, database.connect().await?);
    reader.batch_execute("BEGIN; SELECT * FROM integratedb_unmet_claims(); SELECT * FROM integratedb.claimed_columns").await?;
    migrator
        .batch_execute(
            "SET lock_timeout = '5s'; BEGIN; ALTER TABLE one ADD z int; \
             SELECT integratedb_validate_migration(); COMMIT",
        )
        .await?;
    reader.batch_execute("COMMIT").await?;
    Ok(())
}
