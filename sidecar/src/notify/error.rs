//! Why notifications can't go on.

use super::log::LogError;
use crate::db::DbError;
use crate::replication::ReplicationError;

/// Why nobody reads or stores. It is tried again after each of these.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The sidecar's database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The reader's settings.
    #[error(transparent)]
    Reader(#[from] ReplicationError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Something is not as it was made.
    #[error("{0}")]
    Unexpected(String),
}

impl From<tokio_postgres::Error> for NotifyError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}
