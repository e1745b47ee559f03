//! Waits until others see what the log tells.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use integratedb_cache::{Snapshot, widen};
use tokio_postgres::Client;

use crate::notify::Log;
use crate::sync::error::SyncError;

/// The pauses between looks.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// After how long it is said for what it is waited.
const LONG: Duration = Duration::from_secs(10);

/// Ends when a new snapshot sees all these transactions, known by the lower 32 bits of their ids: then every fetch that
/// begins from now on does. Ends too when the log begins another epoch than this one: then they may never have been on
/// the server that is asked, and the gap has everything gone through anew.
pub(super) async fn wait(
    client: &Client,
    xids: &BTreeSet<u32>,
    log: &Log,
    epoch: u32,
) -> Result<(), SyncError> {
    let (mut pause, began, mut is_told) = (PAUSE.0, Instant::now(), false);
    while !xids.is_empty() && log.head().epoch == epoch {
        let row = client.query_one("SELECT pg_catalog.pg_current_snapshot()::text", &[]).await?;
        let snapshot: Snapshot = row.get::<_, &str>(0).parse().map_err(|error| {
            SyncError::Unexpected(format!("pg_current_snapshot() can't be read: {error}"))
        })?;
        if xids.iter().all(|xid| snapshot.sees(widen(*xid, snapshot.xmax))) {
            break;
        }
        if !is_told && began.elapsed() > LONG {
            tracing::warn!(
                "changes of synced tables are committed, but not visible yet: is a synchronous standby gone?"
            );
            is_told = true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
    Ok(())
}
