//! Why something can't be done about channels.

use crate::db::DbError;
use crate::notify::LogError;

/// Why something can't be done about channels.
#[derive(Debug, thiserror::Error)]
pub enum ChannelsError {
    /// The sidecar's database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The stakeholder has no channel of this name, or none of this kind.
    #[error("there is no such channel {0}")]
    NoChannel(String),
    /// The channel has a secret, and there is no key to keep it with.
    #[error(
        "the channel {0} has a secret, which is only kept encrypted: set notifications.key_file to a file with a key \
         of 64 hexadecimal digits"
    )]
    NoKey(String),
    /// The key file can't be used.
    #[error("{0}")]
    Key(String),
    /// What was sealed can't be opened.
    #[error(
        "the secrets of the channel {0} can't be decrypted: notifications.key_file has another key than they were \
         written with"
    )]
    Sealed(String),
    /// What is stored is not what this version writes.
    #[error("the channel {0} is stored in a way that can't be read: {1}")]
    Stored(String, String),
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// It can't be delivered to, whatever is tried.
    #[error("{0}")]
    Unusable(String),
    /// Another sidecar delivers by now.
    #[error("another one has begun to deliver")]
    Overtaken,
}

impl From<tokio_postgres::Error> for ChannelsError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<deadpool_postgres::PoolError> for ChannelsError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Database(error.into())
    }
}
