//! What goes wrong in sync, other than at a source or a target.

use crate::db::DbError;

/// Why something about sync could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// Nothing can be sealed or opened.
    #[error("{0}")]
    Key(String),
    /// What was asked for can't be: the sentence says why.
    #[error("{0}")]
    Refused(String),
    /// A fault of ours.
    #[error("{0}")]
    Unexpected(String),
}

impl From<tokio_postgres::Error> for SyncError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<deadpool_postgres::PoolError> for SyncError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Database(error.into())
    }
}
