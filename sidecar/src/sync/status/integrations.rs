//! How an integration is.

use serde::Serialize;
use tokio_postgres::Client;
use utoipa::ToSchema;

use super::work::{WORK, Work};
use crate::db::DbError;
use crate::sync::ids::IntegrationId;
use crate::sync::time::rfc3339;

/// How the models of an integration are at its target.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct IntegrationStatus {
    /// Models that it knows of.
    pub models: i64,
    /// Of these, those that the target has.
    pub present: i64,
    /// The last time that a push went well.
    pub succeeded_at: Option<String>,
    /// Why the last push that failed did, if its model still waits for one that goes well.
    pub error: Option<String>,
    /// When the next attempt of what failed is made, the soonest.
    pub next_attempt_at: Option<String>,
    /// What there is to push.
    pub pushes: Work,
}

/// How an integration is, if there is one of this id. Goes through the states of the integration once.
pub async fn integration(
    client: &Client,
    id: IntegrationId,
) -> Result<Option<IntegrationStatus>, DbError> {
    let sql = format!(
        "SELECT w.models, w.present, w.succeeded_at, w.next_attempt_at,
             (SELECT s.error FROM integratedb.sync_state s WHERE s.integration_id = i.id AND NOT s.success
              ORDER BY s.finished_at DESC NULLS LAST LIMIT 1), w.*
         FROM integratedb.sync_integration i CROSS JOIN LATERAL (
             SELECT {WORK}, count(*) AS models, count(*) FILTER (WHERE w.presence = 'present') AS present,
                 {} AS succeeded_at, {} AS next_attempt_at
             FROM integratedb.sync_state w WHERE w.integration_id = i.id) w
         WHERE i.id = $1",
        rfc3339("max(w.succeeded_at)"),
        rfc3339("min(w.due_at) FILTER (WHERE NOT w.success)"),
    );
    let row = client.query_opt(&sql, &[&id.0]).await?;
    Ok(row.map(|row| IntegrationStatus {
        models: row.get(0),
        present: row.get(1),
        succeeded_at: row.get(2),
        next_attempt_at: row.get(3),
        error: row.get(4),
        pushes: Work::read(&row, 5),
    }))
}
