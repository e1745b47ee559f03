//! What is older than it has to be kept is removed.

use std::convert::Infallible;
use std::time::Duration;

use crate::db::{DbError, Pool};

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(3600);

/// How many go at once: each statement is short, and nobody who writes events waits for it.
const BATCH: u64 = 1000;

/// More days than this are for ever, and no date in Postgres lies so far back.
const EVER: u32 = 365_000;

// Several sidecars may do this at once: each takes rows that no other has.
const PRUNE: &str = "DELETE FROM integratedb.audit_event WHERE id IN (
    SELECT id FROM integratedb.audit_event WHERE at < now() - make_interval(days => $1)
    ORDER BY at LIMIT 1000 FOR UPDATE SKIP LOCKED)";

/// Removes events that are older than so many days, for as long as it runs; 0 keeps all.
pub(crate) async fn prune(pool: Pool, days: u32) -> Infallible {
    let Some(days) = (1..EVER).contains(&days).then_some(days).and_then(|d| i32::try_from(d).ok())
    else {
        return std::future::pending().await;
    };
    loop {
        match old(&pool, days).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(gone, "events of the audit log were old and are removed"),
            Err(error) => {
                tracing::warn!(%error, "old events of the audit log can't be removed now")
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn old(pool: &Pool, days: i32) -> Result<u64, DbError> {
    let client = pool.get().await?;
    let mut gone = 0;
    loop {
        let batch = client.execute(PRUNE, &[&days]).await?;
        gone += batch;
        if batch < BATCH {
            return Ok(gone);
        }
    }
}
