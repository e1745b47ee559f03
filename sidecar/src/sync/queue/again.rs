//! Trying again what has met another transaction.

use crate::db::DbError;
use crate::sync::error::SyncError;

/// How often a transaction is tried that meets another.
const ATTEMPTS: usize = 5;

/// Tries something again whose transaction has met another one, and that went on.
pub(in crate::sync) async fn again<T, F: Future<Output = Result<T, SyncError>>>(
    attempt: impl Fn() -> F,
) -> Result<T, SyncError> {
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(SyncError::Database(DbError::Busy)) => {}
            result => return result,
        }
    }
    attempt().await
}
