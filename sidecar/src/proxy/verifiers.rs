//! The origin's verifiers, asked for by `auth_query`.

use std::time::Duration;

use super::random;
use super::scram::Verifier;
use crate::db::{self, DbError, RecyclingMethod};
use crate::reach::Reach;
use crate::secret::Secret;

/// Connections to one origin.
const MOST: usize = 4;

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(10);

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

impl From<DbError> for VerifierError {
    fn from(error: DbError) -> Self {
        Self(error.to_string())
    }
}

impl Verifiers {
    /// With `reach`, only at an address that may be reached.
    pub(crate) fn new(
        url: &Secret<String>,
        reach: Option<&Reach>,
        query: &str,
    ) -> Result<Self, String> {
        let pool = match reach {
            None => db::open_pool(url, MOST, PATIENCE, RecyclingMethod::Verified, ""),
            Some(reach) => db::open_pool_within(url, reach, MOST, PATIENCE),
        };
        let pool = pool.map_err(|error| format!("auth_url: {error}"))?;
        Ok(Self { pool, query: query.to_owned(), secret: random::bytes() })
    }

    /// What the origin answers. A connection that ends under the question, because it has brought as much as one may, is no
    /// reason to refuse anybody: so it is asked once more.
    async fn ask(&self, user: &str) -> Result<Option<tokio_postgres::Row>, DbError> {
        let mut is_first = true;
        loop {
            let client = self.pool.get().await?;
            let asked = async {
                let statement = client.prepare_cached(&self.query).await?;
                client.query_opt(&statement, &[&user]).await
            };
            match asked.await {
                Err(_) if is_first && client.is_closed() => is_first = false,
                answer => return Ok(answer?),
            }
        }
    }

    /// The verifier of a user; of one who is not there, one that no password fits.
    pub(crate) async fn of(&self, user: &str) -> Result<Verifier, VerifierError> {
        let row = self.ask(user).await?;
        let text: Option<String> = match &row {
            None => None,
            Some(row) => row.try_get(1).map_err(|error| VerifierError(error.to_string()))?,
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
