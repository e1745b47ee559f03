//! The origin's verifiers, asked for by `auth_query`.

use std::time::Duration;

use super::random;
use super::scram::Verifier;
use crate::db::{self, RecyclingMethod};
use crate::secret::Secret;

/// Who can be asked for verifiers.
pub(crate) struct Verifiers {
    pool: db::Pool,
    query: String,
    /// What verifiers of users that are not there are made of.
    secret: [u8; 32],
}

/// The origin can't be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct VerifierError(String);

impl Verifiers {
    pub(crate) fn new(url: &Secret<String>, query: &str) -> Result<Self, String> {
        let pool = db::open_pool(url, 4, Duration::from_secs(10), RecyclingMethod::Verified)
            .map_err(|error| format!("auth_url: {error}"))?;
        Ok(Self { pool, query: query.to_owned(), secret: random::bytes() })
    }

    /// The verifier of a user; of one who is not there, one that no password fits.
    pub(crate) async fn of(&self, user: &str) -> Result<Verifier, VerifierError> {
        let unavailable = |error: &dyn std::fmt::Display| VerifierError(error.to_string());
        let client =
            self.pool.get().await.map_err(|error| unavailable(&db::DbError::from(error)))?;
        let statement = client
            .prepare_cached(&self.query)
            .await
            .map_err(|e| unavailable(&db::DbError::from(e)))?;
        let row = client
            .query_opt(&statement, &[&user])
            .await
            .map_err(|e| unavailable(&db::DbError::from(e)))?;
        let text: Option<String> = match &row {
            None => None,
            Some(row) => row.try_get(1).map_err(|error| unavailable(&error))?,
        };
        match text {
            None => Ok(Verifier::mock(&self.secret, user.as_bytes())),
            Some(text) => Ok(Verifier::read(&text).unwrap_or_else(|| {
                tracing::warn!(
                    user,
                    "the password is not stored as a SCRAM-SHA-256 verifier, so nobody gets in"
                );
                Verifier::mock(&self.secret, user.as_bytes())
            })),
        }
    }
}
