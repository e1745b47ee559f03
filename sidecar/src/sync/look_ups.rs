//! Has Postgres plan for look-ups by key.
//!
//! What sync does with its tables is to look up some rows of them by key. Plans are kept, and the tables may have been empty
//! when they were made: one that reads whole tables then would be used when they have millions of rows, until Postgres has
//! statistics.

use std::fmt::Write as _;
use std::time::Duration;

use deadpool_postgres::Transaction;
use futures_util::future::try_join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::error::SyncError;
use crate::config::Config;
use crate::db::{self, DbError, Pool, RecyclingMethod};

/// What would read whole tables.
const OFF: [&str; 3] = ["enable_seqscan", "enable_hashjoin", "enable_mergejoin"];

/// Until the end of the transaction.
const LOCAL: &str = "SELECT set_config(name, 'off', true) FROM unnest($1::text[]) name";

/// Makes the pool that sync works with; no connection is opened yet.
pub fn open_pool(config: &Config) -> Result<Pool, DbError> {
    let timeout = Duration::from_secs(config.statement_timeout_secs);
    let mut options = String::new();
    for name in OFF {
        // Nothing can fail in writing to a String.
        let _ = write!(options, " -c {name}=off");
    }
    // What fails because a connection is gone is tried again anyway.
    let (most, recycling) = (config.sync.connections.max(4), RecyclingMethod::Fast);
    db::open_pool(&config.database_url, most, timeout, recycling, &options)
}

/// Queries as the first of a transaction on any connection, so that it and what follows is looked up. It is one round trip.
pub(super) async fn query(
    transaction: &Transaction<'_>,
    statement: &Statement,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, SyncError> {
    let local = transaction.prepare_cached(LOCAL).await?;
    let off: [&(dyn ToSql + Sync); 1] = [&OFF.as_slice()];
    let (_, rows) =
        try_join(transaction.execute(&local, &off), transaction.query(statement, parameters))
            .await?;
    Ok(rows)
}
