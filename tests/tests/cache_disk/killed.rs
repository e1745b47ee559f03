//! A sidecar that is killed at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::{World, first};

const IDS: u32 = 20;

fn query(id: u32) -> String {
    format!("SELECT n FROM counts WHERE id = {id}")
}

/// A number below `bound`, by chance. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003.
pub(crate) fn random(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) % bound
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_stale_after_it_was_killed() -> Result<()> {
    let number = |name, otherwise| -> Result<u64> {
        std::env::var(name).map_or(Ok(otherwise), |value| value.parse().context("a number"))
    };
    let seed = number("SEED", 11)?;
    let rounds = number("CASES", 6)?;
    let mut state = seed.max(1);
    let mut world = World::new().await?;
    let mut warm = 0;
    for round in 0..rounds {
        world.start().await?;
        world.serves().await?;
        let restored = world.metric("disk_restored").await?;
        // Nothing is written now, so there is one right answer, and it is what the origin says.
        let (client, origin) = (world.connect().await?, world.database.connect().await?);
        for pass in 0..3 {
            let stored = world.metric("stored_total").await?;
            for id in 1..=IDS {
                let (told, right) =
                    (first(&client, &query(id)).await?, first(&origin, &query(id)).await?);
                ensure!(
                    told == right,
                    "id {id}: {told} and not {right}; SEED={seed}, round {round}"
                );
            }
            let fetched = world.metric("stored_total").await? - stored;
            warm += u32::from(pass == 0 && restored > 0.0 && fetched < f64::from(IDS) / 2.0);
            // By then the cache serves, and what was restored is given.
            world.serves().await?;
        }
        let (end, writer) = (Arc::new(AtomicBool::new(false)), world.database.connect().await?);
        let (told, mut dice) = (Arc::clone(&end), state);
        let writes = tokio::spawn(async move {
            while !told.load(Ordering::Relaxed) {
                // Few of many, so that most entries outlive a round.
                let id = random(&mut dice, 4) + 1;
                let update = format!("UPDATE counts SET n = n + 1 WHERE id = {id}");
                writer.batch_execute(&update).await?;
                tokio::time::sleep(Duration::from_millis(random(&mut dice, 30))).await;
            }
            anyhow::Ok(())
        });
        let reads = tokio::spawn(async move {
            // Until it is killed.
            for id in (1..=IDS).cycle() {
                if first(&client, &query(id)).await.is_err() {
                    break;
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(random(&mut state, 3000))).await;
        world.process.take().context("it runs")?.kill()?;
        reads.await?;
        tokio::time::sleep(Duration::from_millis(random(&mut state, 200))).await;
        end.store(true, Ordering::Relaxed);
        writes.await??;
    }
    ensure!(warm > 0, "nothing ever came back, so nothing is proven; SEED={seed}");
    Ok(())
}
