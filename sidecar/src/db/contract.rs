//! Calls of the extension that take the contract's lock.
//!
//! A migration may hold that lock, or a table's, for as long as it runs. The sidecar must never be the one
//! that makes it wait or deadlock: it gives up each attempt before Postgres's deadlock check (1 s by default)
//! would pick a victim, and tries again.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, Transaction};

use super::error::DbError;

const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '750ms'";
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the second attempt; doubled each time, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(400);

/// Tries something that takes the contract's lock again while locks are in the way.
///
/// Errors with [`DbError::Busy`] after ten seconds of that.
pub(crate) async fn patiently<T, F: Future<Output = Result<T, DbError>>>(
    attempt: impl Fn() -> F,
) -> Result<T, DbError> {
    let mut patience = Patience::new();
    loop {
        match attempt().await {
            Err(DbError::Busy) if patience.again().await => {}
            other => return other,
        }
    }
}

/// Holds a stakeholder and its specs until the end of the transaction: what is read of them is what a change then finds.
/// To be taken before any lock of the contract.
pub(crate) async fn hold_stakeholder(
    transaction: &Transaction<'_>,
    stakeholder: i64,
) -> Result<(), DbError> {
    // The sidecar's role may not lock rows of the contract.
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('integratedb.stakeholder/' || $1::bigint, 0))";
    transaction.execute(sql, &[&stakeholder]).await?;
    Ok(())
}

/// How often something that takes the contract's lock is tried.
pub(crate) struct Patience {
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    /// Ten seconds of it.
    pub(crate) fn new() -> Self {
        Self { deadline: Instant::now() + PATIENCE, pause: FIRST_PAUSE }
    }

    /// Waits a little; false if it was waited long enough.
    pub(crate) async fn again(&mut self) -> bool {
        if Instant::now() + self.pause >= self.deadline {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = LAST_PAUSE.min(self.pause * 2);
        true
    }
}

/// Begins a transaction that takes the contract's lock, and gives it up soon if it can't: see [`Patience`].
pub(crate) async fn begin(client: &mut Client) -> Result<Transaction<'_>, DbError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(LOCK_TIMEOUT).await?;
    Ok(transaction)
}
