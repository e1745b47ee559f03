//! Database errors, sorted by what the caller can do about them.

use tokio_postgres::error::SqlState;

/// What went wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database refused, for a reason that concerns whoever asked.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// Somebody else holds a lock for longer than we wait, or two have met and the other went on.
    #[error("another transaction is in the way, such as a migration")]
    Busy,
    /// The URL itself.
    #[error("the database URL can't be used: {0}")]
    Unreadable(String),
    /// No connection, or one that broke.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
    /// A statement ran into `statement_timeout`, or somebody cancelled it.
    #[error("the database was stopped: {0}")]
    TooSlow(String),
    /// A fault of ours.
    #[error("unexpected database error: {0}")]
    Unexpected(String),
}

/// A refusal by the database.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The SQLSTATE.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// DETAIL, for `IDB02` and `IDB03` a JSON text.
    pub detail: Option<String>,
    /// HINT.
    pub hint: Option<String>,
}

/// SQLSTATEs that the extension raises for a request's own mistakes.
const REFUSALS: &[&str] =
    &["22023", "42710", "42P06", "2BP01", "42939", "P0002", "IDB01", "IDB02", "IDB03", "P0001"];

/// Whether waiting a little and asking again can help.
fn is_passing(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|e| {
        [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
        ]
        .contains(e.code())
            // GRANT meets a concurrent change of the same catalog row.
            || (*e.code() == SqlState::INTERNAL_ERROR && e.message().starts_with("tuple concurrently"))
    })
}

impl From<tokio_postgres::Error> for DbError {
    fn from(error: tokio_postgres::Error) -> Self {
        if is_passing(&error) {
            return Self::Busy;
        }
        let Some(inner) = error.as_db_error() else {
            return Self::Unavailable(chain(&error));
        };
        let code = inner.code().code();
        if *inner.code() == SqlState::QUERY_CANCELED {
            return Self::TooSlow(inner.message().to_owned());
        }
        // Class 08 connection, 57P operator intervention, 53 out of resources; 25P03 to 25P05 are timeouts
        // that end the session; 25006 is a standby or a primary that was demoted.
        let is_gone = ["08", "57P", "53", "25P03", "25P04", "25P05", "25006"];
        if is_gone.iter().any(|prefix| code.starts_with(prefix)) {
            return Self::Unavailable(inner.message().to_owned());
        }
        if REFUSALS.contains(&code) {
            return Self::Refused(Refusal {
                code: code.to_owned(),
                message: inner.message().to_owned(),
                detail: inner.detail().map(str::to_owned),
                hint: inner.hint().map(str::to_owned),
            });
        }
        Self::Unexpected(format!("{} ({code})", inner.message()))
    }
}

impl From<deadpool_postgres::PoolError> for DbError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        match error {
            deadpool_postgres::PoolError::Backend(error) => {
                // Whatever keeps a connection from being made, the request itself is not to blame.
                Self::Unavailable(chain(&error))
            }
            other => Self::Unavailable(chain(&other)),
        }
    }
}

/// An error with its causes. tokio-postgres puts no parameter and no password into either.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
