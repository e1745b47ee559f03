//! Those who write while a backfill reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{Database, connect};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// A key of two columns, and a value so large that it is stored aside, and not told when it stays.
pub(crate) const ITEMS: &str = "
CREATE TABLE items (a int, note text, large text, b text, PRIMARY KEY (b, a));
ALTER TABLE items ALTER large SET STORAGE EXTERNAL;
";

/// The columns of the key, in the order of the table.
pub(crate) const KEY: [&str; 2] = ["a", "b"];

const ROWS: i32 = 20_000;

/// Fills the table.
pub(crate) async fn fill(client: &Client) -> Result<()> {
    let sql = format!(
        "INSERT INTO items SELECT n, 'first', repeat(md5(n::text), CASE n % 3 WHEN 0 THEN 1 ELSE 80 END), 'b' || n % 7
         FROM generate_series(1, {ROWS}) n"
    );
    client.batch_execute(&sql).await?;
    Ok(())
}

/// Writers at work until they are told to stop.
pub(crate) struct Workload {
    tasks: Vec<JoinHandle<Result<()>>>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Workload {
    pub(crate) fn new() -> Self {
        Self { tasks: Vec::new(), stop: Arc::default(), done: Arc::default() }
    }

    /// Another session that runs such transactions one after the other. `held`: milliseconds each stays open at most.
    pub(crate) fn add(
        &mut self,
        database: &Database,
        seed: u64,
        settings: &'static str,
        held: u64,
    ) {
        let (url, stop, done) = (database.url(), Arc::clone(&self.stop), Arc::clone(&self.done));
        self.tasks.push(tokio::spawn(async move {
            let client = connect(&url).await?;
            client.batch_execute(settings).await?;
            let mut random = StdRng::seed_from_u64(seed);
            while !stop.load(Ordering::Relaxed) {
                if transaction(&client, &mut random, held).await? {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        }));
    }

    /// Ends them; there were some transactions.
    pub(crate) async fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await??;
        }
        let done = self.done.load(Ordering::Relaxed);
        ensure!(done > 50, "only {done} transactions");
        Ok(done)
    }
}

/// Runs a transaction; whether it has committed. Two may want each other's rows, or one key.
async fn transaction(client: &Client, random: &mut StdRng, held: u64) -> Result<bool> {
    client.batch_execute("BEGIN").await?;
    for _ in 0..random.random_range(1..6) {
        if let Err(error) = client.batch_execute(&statement(random)).await {
            ensure!(error.as_db_error().is_some(), "{error}");
            client.batch_execute("ROLLBACK").await?;
            return Ok(false);
        }
    }
    if held > 0 {
        let wait = random.random_range(0..held);
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    let is_kept = random.random_bool(0.9);
    client.batch_execute(if is_kept { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(is_kept)
}

fn statement(random: &mut StdRng) -> String {
    let a = random.random_range(1..ROWS + 500);
    let row = format!("a = {a} AND b = 'b{}'", a % 7);
    let text = random.random_range(0..u32::MAX);
    match random.random_range(0..10) {
        0 | 1 => format!(
            "INSERT INTO items VALUES ({a}, 'new {text}', repeat(md5('{text}'), 80), 'b{}') ON CONFLICT DO NOTHING",
            a % 7
        ),
        2 => format!("DELETE FROM items WHERE {row}"),
        // To another key, before or behind, with its large value as it was.
        3 => format!("UPDATE items SET b = 'b{}' WHERE a = {a}", random.random_range(0..7)),
        4 => format!("UPDATE items SET large = repeat(md5('{text}'), 80) WHERE {row}"),
        5 => format!("UPDATE items SET note = 'many {text}' WHERE a BETWEEN {a} AND {a} + 40"),
        _ => format!("UPDATE items SET note = 'note {text}' WHERE {row}"),
    }
}
