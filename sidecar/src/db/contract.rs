//! Calls of the extension that take the contract's lock.
//!
//! A migration may hold that lock, or a table's, for as long as it runs. The sidecar must never be the one
//! that makes it wait or deadlock: it gives up each attempt before Postgres's deadlock check (1 s by default)
//! would pick a victim, and tries again.

use std::time::{Duration, Instant};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::{DbError, is_passing};
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
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt(pool, statement, parameters).await? {
            Ok(rows) => return Ok(rows),
            Err(error) if is_passing(&error) && Instant::now() + pause < deadline => {
                tokio::time::sleep(pause).await;
                pause = LAST_PAUSE.min(pause * 2);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The outer error is a missing connection, the inner one the database's answer.
async fn attempt(
    pool: &Pool,
    statement: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Result<Vec<Row>, tokio_postgres::Error>, DbError> {
    let mut client = pool.get().await?;
    let work = async {
        let transaction = client.transaction().await?;
        transaction.batch_execute(LOCK_TIMEOUT).await?;
        let rows = transaction.query(statement, parameters).await?;
        transaction.commit().await?;
        Ok(rows)
    };
    Ok(work.await)
}
