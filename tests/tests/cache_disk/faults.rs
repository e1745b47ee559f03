//! What may be wrong with a file, a folder, a key or a disk.

use std::fs;

use anyhow::{Result, ensure};
use support::{Process, until};

use crate::{World, first};

const SEVENTH: &str = "SELECT name FROM items WHERE id = 7";
const MARK: &str = "nobody else may read this";

fn holds_mark(world: &World) -> Result<bool> {
    let bytes = fs::read(world.file())?;
    Ok(bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes()))
}

async fn marked(key: bool) -> Result<World> {
    let mut world = World::new().await?;
    if key {
        let key_file = world.files.path().join("key");
        fs::write(&key_file, "5a".repeat(32))?;
        world.further = format!("key_file = '{}'\n", key_file.display());
    }
    world.admin(&format!("UPDATE items SET name = '{MARK}' WHERE id = 7")).await?;
    world.start().await?;
    world.keep(&[SEVENTH]).await?;
    world.stop()?;
    Ok(world)
}

#[tokio::test]
async fn an_encrypted_file_shows_no_row() -> Result<()> {
    let mut world = marked(true).await?;
    ensure!(!holds_mark(&world)? && !fs::read(world.file())?.is_empty());
    // It is of use, to who has the key.
    world.start().await?;
    world.serves().await?;
    ensure!(world.metric("disk_restored").await? >= 1.0);
    world.answers(SEVENTH, MARK).await?;
    world.stop()?;
    // To nobody else: the cache begins empty, and what it writes now can be read by the new key only.
    fs::write(world.files.path().join("key"), "5b".repeat(32))?;
    world.start().await?;
    ensure!(world.metric("disk_restored").await? == 0.0 && world.metric("disk_off").await? == 0.0);
    world.answers(SEVENTH, MARK).await?;
    world.keep(&[SEVENTH]).await?;
    world.stop()?;
    ensure!(!holds_mark(&world)?);
    ensure!(holds_mark(&marked(false).await?)?, "without a key it would be seen");
    Ok(())
}

#[tokio::test]
async fn a_damaged_file_is_begun_anew() -> Result<()> {
    let mut world = marked(false).await?;
    for round in 0..6_usize {
        let mut bytes = fs::read(world.file())?;
        let length = bytes.len();
        let name = bytes.windows(MARK.len()).position(|part| part == MARK.as_bytes());
        match (round, name) {
            // In what would be told.
            (0, Some(at)) => bytes[at] ^= 1,
            (1, _) => bytes.truncate(length / 2),
            (2, _) => bytes.fill(0xff),
            (3, _) => bytes.iter_mut().step_by(64).for_each(|byte| *byte = !*byte),
            (4, _) => bytes[4096..].fill(0),
            _ => bytes = b"something else".to_vec(),
        }
        fs::write(world.file(), bytes)?;
        world.start().await?;
        ensure!(world.metric("disk_restored").await? == 0.0, "round {round}");
        world.answers(SEVENTH, MARK).await?;
        ensure!(world.metric("disk_off").await? == 0.0, "round {round}");
        world.keep(&[SEVENTH]).await?;
        world.stop()?;
    }
    Ok(())
}

async fn confirmed(world: &World) -> Result<i64> {
    let sql =
        "SELECT (pg_current_wal_lsn() - confirmed_flush_lsn)::bigint FROM pg_replication_slots
               WHERE slot_name = 'kept'";
    Ok(world.database.connect().await?.query_one(sql, &[]).await?.get(0))
}

/// Memory goes on, there is an alarm, and the log is not held back.
async fn goes_on(world: &World) -> Result<()> {
    until("it is told", async || Ok(world.metric("disk_off").await? == 1.0)).await?;
    world.admin("UPDATE items SET price = price + 1").await?;
    until("the slot moves on", async || Ok(confirmed(world).await? < 1 << 10)).await?;
    world.serves().await
}

#[tokio::test]
async fn a_full_disk_ends_the_file_and_nothing_else() -> Result<()> {
    let mut world = World::warm(&[SEVENTH]).await?;
    world.stop()?;
    let size = fs::metadata(world.file())?.len() / 1024;
    world.largest.set(Some(size + 64));
    world.start().await?;
    world.answers(SEVENTH, "item 7").await?;
    let client = world.connect().await?;
    for id in 1..=60 {
        let wide = format!("SELECT repeat(name, 30000) FROM items WHERE id = {id}");
        for _ in 0..3 {
            first(&client, &wide).await?;
        }
    }
    goes_on(&world).await?;
    ensure!(!world.file().exists(), "what it holds is out of date soon");
    world.answers(SEVENTH, "item 7").await?;
    world.stop()?;
    world.admin("UPDATE items SET name = 'other' WHERE id = 7").await?;
    world.largest.set(None);
    world.start().await?;
    world.answers(SEVENTH, "other").await
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_done_without() -> Result<()> {
    let mut world = World::new().await?;
    fs::write(world.folder(), "a file, where a folder should be")?;
    world.start().await?;
    goes_on(&world).await?;
    world.stop()?;
    ensure!(fs::read(world.folder())?.starts_with(b"a file"), "it was not ours");
    Ok(())
}

#[tokio::test]
async fn two_processes_do_not_share_a_file() -> Result<()> {
    let mut world = World::warm(&[SEVENTH]).await?;
    let second = world.config("second.toml", "second")?;
    let second = Process::start(&second, &world.database.url(), None).await?;
    ensure!(second.metric("integratedb_cache_disk_off").await? == 1.0);
    ensure!(world.metric("disk_off").await? == 0.0);
    let first_process = world.process.replace(second);
    world.admin("UPDATE items SET name = 'other' WHERE id = 7").await?;
    world.answers(SEVENTH, "other").await?;
    drop(world.process.take());
    world.process = first_process;
    world.answers(SEVENTH, "other").await?;
    world.keep(&[SEVENTH]).await
}
