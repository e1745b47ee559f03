//! How much there is to do.

use serde::Serialize;
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;

use crate::db::DbError;

/// What there is to do of one kind: updates, or pushes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Work {
    /// Could be begun now.
    pub due: i64,
    /// Are done at present.
    pub running: i64,
    /// Wait for their time, mostly after a failure.
    pub later: i64,
    /// Of all these, those whose last attempt failed.
    pub failing: i64,
    /// Wait until a parent is pushed, or children are deleted.
    pub waiting: i64,
    /// For how many seconds the oldest of those that could be begun has been due.
    pub oldest_due_seconds: Option<f64>,
}

/// The columns of a [`Work`], over rows `w` that are due or wait.
pub(super) const WORK: &str = "count(*) FILTER (WHERE w.due_at <= now()),
    count(*) FILTER (WHERE w.due_at > now() AND w.lease IS NOT NULL),
    count(*) FILTER (WHERE w.due_at > now() AND w.lease IS NULL),
    count(*) FILTER (WHERE NOT w.success),
    count(*) FILTER (WHERE w.waits_for IS NOT NULL),
    extract(epoch FROM now() - min(w.due_at) FILTER (WHERE w.due_at <= now()))::float8";

impl Work {
    /// From the columns of [`WORK`], of which the first is this one.
    pub(super) fn read(row: &Row, first: usize) -> Self {
        Self {
            due: row.get(first),
            running: row.get(first + 1),
            later: row.get(first + 2),
            failing: row.get(first + 3),
            waiting: row.get(first + 4),
            oldest_due_seconds: row.get(first + 5),
        }
    }
}

/// What there is to do, of all tenants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Queue {
    /// Models to fetch.
    pub updates: Work,
    /// Models to push, to integrations that are not disabled.
    pub pushes: Work,
}

/// Updates that are due.
pub(super) const UPDATES: &str = "SELECT u.due_at, u.lease, u.success, NULL::bigint AS waits_for
    FROM integratedb.sync_update u WHERE u.due_at IS NOT NULL";

/// Pushes that are due or wait, where they may be done. Twice, so that each half goes along an index of its own.
pub(super) const PUSHES: &str = "SELECT s.due_at, s.lease, s.success, s.waits_for
    FROM integratedb.sync_integration i JOIN integratedb.sync_state s ON s.integration_id = i.id
    WHERE i.state = 'active' AND s.due_at IS NOT NULL
    UNION ALL
    SELECT s.due_at, s.lease, s.success, s.waits_for
    FROM integratedb.sync_integration i JOIN integratedb.sync_state s ON s.integration_id = i.id
    WHERE i.state = 'active' AND s.due_at IS NULL AND s.waits_for IS NOT NULL";

/// Counts what there is to do. What it costs depends on how much that is, not on how many models there are.
pub async fn queue(client: &Client) -> Result<Queue, DbError> {
    let updates = client.query_one(&format!("SELECT {WORK} FROM ({UPDATES}) w"), &[]).await?;
    let pushes = client.query_one(&format!("SELECT {WORK} FROM ({PUSHES}) w"), &[]).await?;
    Ok(Queue { updates: Work::read(&updates, 0), pushes: Work::read(&pushes, 0) })
}
