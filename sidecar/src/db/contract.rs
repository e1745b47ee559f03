//! Calls of the extension that take the contract's lock.
//!
//! A migration may hold that lock, or a table's, for as long as it runs. The sidecar must never be the one
//! that makes it wait or deadlock: it gives up each attempt before Postgres's deadlock check (1 s by default)
//! would pick a victim, and tries again.

use std::time::{Duration, Instant};

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Transaction};

use super::error::DbError;
use super::pool::Pool;

const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '750ms'";
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the second attempt; doubled each time, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(400);

/// Runs one statement in a transaction of its own, again while locks are in the way.
///
/// Errors with [`DbError::Busy`] after ten seconds of that.
pub async fn call_contract(
    pool: &Pool,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, DbError> {
    let mut patience = Patience::new();
    loop {
        match attempt(pool, statement, parameters).await {
            Err(DbError::Busy) if patience.again().await => {}
            other => return other,
        }
    }
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

async fn attempt(
    pool: &Pool,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, DbError> {
    let mut client = pool.get().await?;
    let transaction = begin(&mut client).await?;
    let rows = transaction.query(statement, parameters).await?;
    transaction.commit().await?;
    Ok(rows)
}
