//! The origin's verifiers, asked for by `auth_query`.

use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio::sync::Mutex;

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
    url: Secret<String>,
    /// Where the origin may be; anywhere unless told.
    reach: Option<Reach>,
    /// None until addresses that may be reached were looked up, which is done again after a connection could not be made.
    pool: Mutex<Option<db::Pool>>,
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

fn open(url: &Secret<String>) -> Result<db::Pool, DbError> {
    db::open_pool(url, MOST, PATIENCE, RecyclingMethod::Verified)
}

impl Verifiers {
    pub(crate) fn new(
        url: &Secret<String>,
        reach: Option<&Reach>,
        query: &str,
    ) -> Result<Self, String> {
        let unusable = |error| format!("auth_url: {error}");
        let pool = match reach {
            None => Some(open(url).map_err(unusable)?),
            Some(_) => db::parse_url(url).map(|_| None).map_err(unusable)?,
        };
        Ok(Self {
            url: url.clone(),
            reach: reach.cloned(),
            pool: Mutex::new(pool),
            query: query.to_owned(),
            secret: random::bytes(),
        })
    }

    async fn pool(&self) -> Result<db::Pool, DbError> {
        let mut pool = self.pool.lock().await;
        if let Some(pool) = &*pool {
            return Ok(pool.clone());
        }
        let made = match &self.reach {
            None => open(&self.url)?,
            Some(reach) => db::open_pool_within(&self.url, reach, MOST, PATIENCE).await?,
        };
        Ok(pool.insert(made).clone())
    }

    /// The verifier of a user; of one who is not there, one that no password fits.
    pub(crate) async fn of(&self, user: &str) -> Result<Verifier, VerifierError> {
        let client = match self.pool().await?.get().await {
            Ok(client) => client,
            Err(error) => {
                if self.reach.is_some() && matches!(error, PoolError::Backend(_)) {
                    *self.pool.lock().await = None;
                }
                return Err(DbError::from(error).into());
            }
        };
        let statement = client.prepare_cached(&self.query).await.map_err(DbError::from)?;
        let row = client.query_opt(&statement, &[&user]).await.map_err(DbError::from)?;
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
