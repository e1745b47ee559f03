//! Ten times as many answers as memory holds: the rest are given from disk, and are as true as any.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::until;
use tokio_postgres::Client;

use crate::{World, first};

const ROWS: i64 = 400;

/// Of each answer, in bytes. With them all, the file is larger than what redb keeps of it in memory.
const LENGTH: i64 = 32_000;

/// A tenth of all answers.
const MEMORY: f64 = (ROWS * LENGTH / 10) as f64;

const SCHEMA: &str = "
    CREATE TABLE wide (id int PRIMARY KEY, n int);
    INSERT INTO wide SELECT n, 0 FROM generate_series(1, 400) n;
    GRANT ALL ON wide TO app";

fn query(id: i64) -> String {
    format!(
        "SELECT id || ':' || n || ':' || repeat(md5(id::text), {LENGTH} / 32) FROM wide WHERE id = {id}"
    )
}

/// The number in an answer, which has to be one to the query of this row.
fn number(id: i64, answer: &str) -> Result<i64> {
    let mut parts = answer.split(':');
    let (of, n, text) = (parts.next(), parts.next(), parts.next().context("three parts")?);
    ensure!(of == Some(id.to_string().as_str()), "{of:?} was told of {id}");
    ensure!(text.len() as i64 == LENGTH, "{} bytes of {id}", text.len());
    ensure!(text.as_bytes().chunks(32).all(|part| part == &text.as_bytes()[..32]));
    Ok(n.context("a number")?.parse()?)
}

async fn ask(client: &Client, id: i64) -> Result<i64> {
    number(id, &first(client, &query(id)).await?)
}

async fn world(further: &str) -> Result<World> {
    let mut world = World::new().await?;
    world.admin(SCHEMA).await?;
    world.memory = format!("max_bytes = {MEMORY}\neager = true\n");
    // Who waits too long for the disk fetches, which is not what these count.
    world.further = format!("wait_ms = 2000\n{further}");
    Ok(world)
}

/// Asks for all until nearly all are kept, and memory has room for few. Each answer has to be this number.
async fn fill(world: &World, n: i64) -> Result<()> {
    let client = world.connect().await?;
    until("nearly all is kept", async || {
        let (stored, hits) =
            (world.metric("stored_total").await?, world.metric("hits_total").await?);
        for id in 1..=ROWS {
            let told = ask(&client, id).await?;
            ensure!(told == n, "{id}: {told}");
        }
        ensure!(world.metric("bytes").await? <= MEMORY);
        let fetched = world.metric("stored_total").await? - stored;
        let given = world.metric("hits_total").await? - hits;
        Ok(fetched < ROWS as f64 / 20.0 && given > ROWS as f64 * 0.9)
    })
    .await
}

/// Readers and writers for a while. No answer lacks what was acknowledged through the proxy before it was asked for,
/// nor what the same session was told before.
async fn readers_and_writers(world: &World, time: Duration) -> Result<()> {
    let floors: Arc<Vec<AtomicI64>> = Arc::new((0..=ROWS).map(|_| AtomicI64::new(0)).collect());
    let end = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for seed in 1..=5_u64 {
        let (floors, end) = (Arc::clone(&floors), Arc::clone(&end));
        let (client, around) = (world.connect().await?, world.database.connect().await?);
        tasks.push(tokio::spawn(async move {
            let mut dice = seed * 7919;
            let mut last = HashMap::new();
            while !end.load(Ordering::SeqCst) {
                let id = crate::killed::random(&mut dice, ROWS as u64) as i64 + 1;
                if seed == 1 {
                    // One row in a few, so that most entries live.
                    let id = id % 20 + 1;
                    let update = format!("UPDATE wide SET n = n + 1 WHERE id = {id} RETURNING n");
                    let n = first(&client, &update).await?.parse()?;
                    floors[id as usize].fetch_max(n, Ordering::SeqCst);
                    let other = id + 20;
                    let update = format!("UPDATE wide SET n = n + 1 WHERE id = {other}");
                    around.batch_execute(&update).await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
                // Half of the questions are about what is written.
                let id = if dice % 2 == 0 { id % 40 + 1 } else { id };
                let floor = floors[id as usize].load(Ordering::SeqCst);
                let n = ask(&client, id).await?;
                let before = last.insert(id, n).unwrap_or(0).max(floor);
                ensure!(n >= before, "{id}: {n} after {before}");
            }
            anyhow::Ok(())
        }));
    }
    tokio::time::sleep(time).await;
    end.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// What the cache gives in the end is what the origin has.
async fn all_agree(world: &World) -> Result<()> {
    let (client, origin) = (world.connect().await?, world.database.connect().await?);
    for id in 1..=ROWS {
        let right = ask(&origin, id).await?;
        until(&format!("{id} is as at the origin"), async || Ok(ask(&client, id).await? == right))
            .await?;
    }
    Ok(())
}

async fn overflow(mut world: World) -> Result<World> {
    world.start().await?;
    fill(&world, 0).await?;
    let (hits, misses) =
        (world.metric("disk_hits_total").await?, world.metric("misses_total").await?);
    let client = world.connect().await?;
    for id in 1..=ROWS {
        ensure!(ask(&client, id).await? == 0);
    }
    let hits = world.metric("disk_hits_total").await? - hits;
    let misses = world.metric("misses_total").await? - misses;
    ensure!(hits > ROWS as f64 * 0.7, "{hits} from disk");
    ensure!(misses < ROWS as f64 * 0.1, "{misses} from the origin");
    ensure!(world.metric("disk_only").await? > ROWS as f64 * 0.7);
    ensure!(world.metric("disk_read_seconds_count").await? >= hits);
    let hits = world.metric("disk_hits_total").await?;
    readers_and_writers(&world, Duration::from_secs(4)).await?;
    let hits = world.metric("disk_hits_total").await? - hits;
    ensure!(hits > 100.0, "{hits} from disk prove little");
    all_agree(&world).await?;
    ensure!(world.metric("bytes").await? <= MEMORY && world.metric("disk_off").await? == 0.0);
    ensure!(world.metric("disk_lost_total").await? == 0.0, "what was read was what was written");
    Ok(world)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_memory_has_no_room_for_come_from_disk() -> Result<()> {
    let mut world = overflow(world("").await?).await?;
    // A restart finds them where they were, but for what changed meanwhile.
    world.stop()?;
    world.admin("UPDATE wide SET n = 1000000 WHERE id = 30").await?;
    world.start().await?;
    world.serves().await?;
    ensure!(world.metric("disk_restored").await? > ROWS as f64 * 0.8);
    ensure!(world.metric("disk_only").await? > ROWS as f64 * 0.7);
    let stored = world.metric("stored_total").await?;
    all_agree(&world).await?;
    let stored = world.metric("stored_total").await? - stored;
    ensure!(stored < ROWS as f64 * 0.3, "{stored} fetched");
    ensure!(world.metric("disk_hits_total").await? > ROWS as f64 * 0.5);
    ensure!(world.metric("disk_promoted_total").await? > 5.0, "memory had room for some");
    let client = world.connect().await?;
    ensure!(ask(&client, 30).await? == 1_000_000);
    ensure!(world.metric("bytes").await? <= MEMORY);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_do_so_encrypted_too() -> Result<()> {
    let world = world("").await?;
    let key_file = world.files.path().join("key");
    fs::write(&key_file, "5a".repeat(32))?;
    let world = World {
        further: format!("wait_ms = 2000\nkey_file = '{}'\n", key_file.display()),
        ..world
    };
    let mut world = overflow(world).await?;
    world.stop()?;
    ensure!(!fs::read(world.file())?.windows(32).any(|part| part == MARK.as_bytes()));
    Ok(())
}

/// The MD5 of `7`.
const MARK: &str = "8f14e45fceea167a5a36dedd4bea2543";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_damaged_is_fetched_anew() -> Result<()> {
    let mut world = world("").await?;
    world.start().await?;
    fill(&world, 0).await?;
    // Under its feet: one byte of each answer.
    let bytes = fs::read(world.file())?;
    let file = fs::OpenOptions::new().write(true).open(world.file())?;
    let mut damaged = 0;
    for (at, part) in bytes.windows(80).enumerate() {
        if part.starts_with(b":0:") && part[3..35] == part[35..67] {
            file.write_at(b"x", (at + 1000) as u64)?;
            damaged += 1;
        }
    }
    ensure!(damaged > ROWS * 9 / 10, "{damaged} found");
    let client = world.connect().await?;
    for _ in 0..2 {
        for id in 1..=ROWS {
            ensure!(ask(&client, id).await? == 0);
        }
    }
    let lost = world.metric("disk_lost_total").await?;
    ensure!(lost > ROWS as f64 / 10.0, "{lost} lost");
    // Those that are fetched anew go to the disk anew.
    fill(&world, 0).await?;
    readers_and_writers(&world, Duration::from_secs(1)).await?;
    all_agree(&world).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_does_not_outgrow_its_bound() -> Result<()> {
    let most = 12 << 20;
    let mut world = world(&format!("max_bytes = {most}\n")).await?;
    world.start().await?;
    world.serves().await?;
    let client = world.connect().await?;
    until("the disk has to choose", async || {
        for id in 1..=ROWS {
            ensure!(ask(&client, id).await? == 0);
            let size = fs::metadata(world.file())?.len();
            ensure!(size <= most, "the file has {size} bytes");
        }
        let shed = world.metric("evicted_total").await?;
        Ok(world.metric("disk_hits_total").await? > 50.0 && shed > ROWS as f64)
    })
    .await?;
    ensure!(world.metric("bytes").await? <= MEMORY && world.metric("disk_off").await? == 0.0);
    // What is asked for again and again stays, in memory or on disk, while others come and go.
    let hot = 60;
    for round in 0..12 {
        for id in 1..=hot {
            ask(&client, id).await?;
        }
        for id in 0..20 {
            ask(&client, hot + 1 + (round * 20 + id) % (ROWS - hot)).await?;
        }
    }
    let misses = world.metric("misses_total").await?;
    for id in 1..=hot {
        ensure!(ask(&client, id).await? == 0);
    }
    let misses = world.metric("misses_total").await? - misses;
    ensure!(misses < hot as f64 / 3.0, "{misses} of {hot} hot ones were gone");
    readers_and_writers(&world, Duration::from_secs(2)).await?;
    all_agree(&world).await?;
    ensure!(fs::metadata(world.file())?.len() <= most);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_takes_with_it_what_was_there_only() -> Result<()> {
    let mut world = world("").await?;
    world.largest.set(Some(6 << 10));
    world.start().await?;
    world.serves().await?;
    let client = world.connect().await?;
    until("the disk is full", async || {
        for id in 1..=ROWS {
            ensure!(ask(&client, id).await? == 0);
        }
        Ok(world.metric("disk_off").await? == 1.0)
    })
    .await?;
    ensure!(world.metric("disk_only").await? == 0.0);
    ensure!(world.metric("disk_lost_total").await? > 0.0, "some were there only");
    let evicted = world.metric("evicted_total").await?;
    readers_and_writers(&world, Duration::from_secs(1)).await?;
    all_agree(&world).await?;
    ensure!(world.metric("evicted_total").await? > evicted, "memory goes on alone");
    ensure!(world.metric("disk_only").await? == 0.0 && world.metric("bytes").await? <= MEMORY);
    Ok(())
}
