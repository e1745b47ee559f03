//! A replay that this sidecar works on, and the right to.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Client;

use super::store::Counts;
use crate::db::DbError;
use crate::sync::error::SyncError;
use crate::sync::ids::IntegrationId;

/// How long nobody else takes a replay that was last written now.
const LEASE: f64 = 30.0;

/// Why work on a replay stops before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// It was cancelled, or another sidecar has it.
    #[error("it is no longer this sidecar's")]
    Lost,
    /// It can't be done, now or later: why.
    #[error("{0}")]
    Failed(String),
    /// Something that may be otherwise the next time.
    #[error(transparent)]
    Error(#[from] SyncError),
}

impl From<DbError> for Stop {
    fn from(error: DbError) -> Self {
        Self::Error(error.into())
    }
}

impl From<tokio_postgres::Error> for Stop {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Error(error.into())
    }
}

impl From<deadpool_postgres::PoolError> for Stop {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Error(error.into())
    }
}

/// What a replay does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Compare,
    Mark,
    Push,
    Wait,
}

impl Step {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Compare => "compare",
            Self::Mark => "mark",
            Self::Push => "push",
            Self::Wait => "wait",
        }
    }

    fn read(text: &str) -> Self {
        match text {
            "compare" => Self::Compare,
            "mark" => Self::Mark,
            "push" => Self::Push,
            _ => Self::Wait,
        }
    }
}

/// A replay under a lease, as it was last written.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) id: i64,
    lease: i64,
    pub(super) integration: IntegrationId,
    /// It only has to make due what it has marked.
    pub(super) is_cancelled: bool,
    pub(super) step: Step,
    pub(super) last_model: i64,
    pub(super) counts: Counts,
}

impl Held {
    /// Takes the one that has been due the longest, if there is one.
    pub(super) async fn take(client: &ClientWrapper) -> Result<Option<Self>, DbError> {
        let sql = "
            UPDATE integratedb.sync_replay r
            SET lease = $1, due_at = now() + make_interval(secs => $2), started_at = coalesce(r.started_at, now()),
                state = CASE r.state WHEN 'pending' THEN 'running' ELSE r.state END
            FROM (SELECT id FROM integratedb.sync_replay WHERE finished_at IS NULL AND due_at <= now()
                  ORDER BY due_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) due
            WHERE r.id = due.id
            RETURNING r.id, r.integration_id, r.state = 'cancelled', r.step, r.last_model, r.counts";
        let lease: i64 = rand::random();
        let taken = client.prepare_cached(sql).await?;
        let row = client.query_opt(&taken, &[&lease, &LEASE]).await?;
        Ok(row.map(|row| Self {
            id: row.get(0),
            lease,
            integration: IntegrationId(row.get(1)),
            is_cancelled: row.get(2),
            step: Step::read(row.get(3)),
            last_model: row.get(4),
            // Our own rows; a field that an older version did not have is 0.
            counts: serde_json::from_value(row.get(5)).unwrap_or_default(),
        }))
    }

    /// Writes how far it is, and holds it for as long again. In a transaction, the last thing in it: if it is lost, so has
    /// to be what was done.
    pub(super) async fn save(&self, client: &Client) -> Result<(), Stop> {
        let sql = "
            UPDATE integratedb.sync_replay
            SET step = $3, last_model = $4, counts = $5, due_at = now() + make_interval(secs => $6), error = NULL
            WHERE id = $1 AND lease = $2 AND finished_at IS NULL";
        let counts = serde_json::to_value(self.counts).unwrap_or_default();
        let step = self.step.as_str();
        let saved = client
            .execute(sql, &[&self.id, &self.lease, &step, &self.last_model, &counts, &LEASE])
            .await?;
        if saved == 1 { Ok(()) } else { Err(Stop::Lost) }
    }

    /// Gives it back, to be gone on with after a while, and says what is in the way, if something is.
    pub(super) async fn release(
        &self,
        client: &Client,
        wait: Duration,
        error: Option<&str>,
    ) -> Result<(), DbError> {
        let sql = "
            UPDATE integratedb.sync_replay
            SET lease = NULL, due_at = now() + make_interval(secs => $3), error = $4
            WHERE id = $1 AND lease = $2";
        client.execute(sql, &[&self.id, &self.lease, &wait.as_secs_f64(), &error]).await?;
        Ok(())
    }

    /// Ends it: well, or with what is wrong. One that was cancelled stays so.
    pub(super) async fn finish(&self, client: &Client, wrong: Option<&str>) -> Result<(), DbError> {
        let sql = "
            UPDATE integratedb.sync_replay
            SET state = CASE WHEN state = 'cancelled' THEN state WHEN $3::text IS NULL THEN 'done' ELSE 'failed' END,
                error = $3, lease = NULL, finished_at = now()
            WHERE id = $1 AND lease = $2 AND finished_at IS NULL";
        client.execute(sql, &[&self.id, &self.lease, &wrong]).await?;
        Ok(())
    }
}
