//! A sidecar that was stopped and comes back.

use anyhow::{Result, ensure};

use crate::{World, first};

const SEVENTH: &str = "SELECT price FROM items WHERE id = 7";
const EIGHTH: &str = "SELECT price FROM items WHERE id = 8";
const ALL: &str = "SELECT sum(price) FROM items";
const COUNTED: &str = "SELECT n FROM counts WHERE id = 3";

#[tokio::test]
async fn a_restart_finds_what_was_kept() -> Result<()> {
    let mut world = World::warm(&[SEVENTH, EIGHTH, ALL]).await?;
    for _ in 0..2 {
        world.stop()?;
        world.start().await?;
        let client = world.connect().await?;
        world.serves().await?;
        ensure!(world.metric("disk_restored").await? >= 3.0);
        let stored = world.metric("stored_total").await?;
        // What the statement is has to be asked; its answer has not.
        for (query, right) in [(SEVENTH, "70"), (EIGHTH, "80"), (ALL, "50500")] {
            world.serves_with(&client, query, right).await?;
            ensure!(world.metric("stored_total").await? == stored, "fetched: {query}");
        }
        ensure!(world.metric("disk_off").await? == 0.0);
    }
    // And they are followed as before.
    world.admin("UPDATE items SET price = 71 WHERE id = 7").await?;
    let client = world.connect().await?;
    support::until("the write arrives", async || Ok(first(&client, SEVENTH).await? == "71"))
        .await?;
    world.answers(ALL, "50501").await
}

#[tokio::test]
async fn what_changed_meanwhile_is_not_found() -> Result<()> {
    let mut world = World::warm(&[SEVENTH, EIGHTH, ALL, COUNTED]).await?;
    let changes: [(&str, &[(&str, &str)]); 5] = [
        (
            "UPDATE items SET price = 1 WHERE id = 7",
            &[(SEVENTH, "1"), (EIGHTH, "80"), (ALL, "50431"), (COUNTED, "0")],
        ),
        (
            "BEGIN; INSERT INTO items VALUES (101, 'new', 9); SAVEPOINT a; DELETE FROM items WHERE id = 7;
             ROLLBACK TO a; UPDATE counts SET n = 5; COMMIT",
            &[(SEVENTH, "1"), (ALL, "50440"), (COUNTED, "5")],
        ),
        ("TRUNCATE counts", &[(COUNTED, "none"), (SEVENTH, "1")]),
        (
            "ALTER TABLE items ALTER price TYPE text USING 'no ' || price;
             CREATE AGGREGATE sum(text) (sfunc = textcat, stype = text, initcond = '')",
            &[(SEVENTH, "no 1")],
        ),
        ("DROP TABLE counts; CREATE TABLE counts (id int PRIMARY KEY, n int);
          INSERT INTO counts VALUES (3, 8); GRANT ALL ON counts TO app", &[(COUNTED, "8")]),
    ];
    for (change, queries) in changes {
        world.stop()?;
        world.admin(change).await?;
        world.start().await?;
        for (query, right) in queries {
            world.answers(query, right).await?;
        }
        let kept: Vec<&str> = queries.iter().map(|(query, _)| *query).collect();
        world.keep(&kept).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_change_of_a_row_drops_no_other_row() -> Result<()> {
    let mut world = World::warm(&[SEVENTH, EIGHTH]).await?;
    world.stop()?;
    world.admin("UPDATE items SET price = 1 WHERE id = 7").await?;
    world.start().await?;
    // One session: another would first have to be asked who it is.
    let client = world.connect().await?;
    world.serves_with(&client, "SELECT 1 FROM items WHERE id = 99", "1").await?;
    let stored = world.metric("stored_total").await?;
    world.serves_with(&client, EIGHTH, "80").await?;
    let dropped = world.metric("invalidated_total").await?;
    let now = world.metric("stored_total").await?;
    ensure!(
        now == stored,
        "the columns were known: {stored} stored, then {now}; {dropped} dropped"
    );
    world.answers(SEVENTH, "1").await?;
    ensure!(world.metric("stored_total").await? > stored);
    Ok(())
}

#[tokio::test]
async fn roles_that_changed_meanwhile_drop_all() -> Result<()> {
    let mut world = World::warm(&[SEVENTH]).await?;
    world.stop()?;
    // No message in the log tells of it, if the session has not loaded the library.
    world.admin("GRANT staff TO app").await?;
    world.start().await?;
    world.serves().await?;
    ensure!(world.metric("disk_restored").await? == 1.0, "it was there");
    let stored = world.metric("stored_total").await?;
    world.answers(SEVENTH, "70").await?;
    ensure!(world.metric("stored_total").await? > stored, "it was dropped");
    Ok(())
}

#[tokio::test]
async fn a_slot_that_did_not_go_on_drops_all() -> Result<()> {
    let mut world = World::warm(&[SEVENTH]).await?;
    let again = "SELECT pg_create_logical_replication_slot('kept', 'pgoutput')";
    let changes = [
        "SELECT pg_drop_replication_slot('kept')".to_owned(),
        format!("SELECT pg_drop_replication_slot('kept'); {again}"),
        "SELECT pg_replication_slot_advance('kept', pg_current_wal_lsn())".to_owned(),
        "DROP PUBLICATION integratedb".to_owned(),
        "ALTER PUBLICATION integratedb DROP TABLE items".to_owned(),
    ];
    for (round, change) in changes.iter().enumerate() {
        world.stop()?;
        support::until("the slot is free", async || {
            let sql = "SELECT count(*) FROM pg_replication_slots WHERE active";
            Ok(world.database.connect().await?.query_one(sql, &[]).await?.get::<_, i64>(0) == 0)
        })
        .await?;
        let price = format!("UPDATE items SET price = {round} WHERE id = 7");
        // On either side of it.
        for sql in [&price, change, &price] {
            world.admin(sql).await?;
        }
        world.start().await?;
        world.answers(SEVENTH, &round.to_string()).await?;
        world.keep(&[SEVENTH]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn other_settings_find_what_was_kept() -> Result<()> {
    let mut world = World::warm(&[SEVENTH]).await?;
    // The reader is another, and begins where the one before has ended.
    world.further = "max_bytes = 100000000\n".to_owned();
    world.config("config.toml", "kept")?;
    world.process()?.reload()?;
    support::until("it is back", async || Ok(world.metric("disk_restored").await? >= 1.0)).await?;
    world.serves().await?;
    world.answers(SEVENTH, "70").await?;
    ensure!(world.metric("disk_off").await? == 0.0);
    world.admin("UPDATE items SET price = 71 WHERE id = 7").await?;
    let client = world.connect().await?;
    support::until("the write arrives", async || Ok(first(&client, SEVENTH).await? == "71")).await
}
