//! Replays in the sidecar's database: asked for, shown, and cancelled.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::{Client, Row, Transaction};
use utoipa::ToSchema;

use crate::db::DbError;
use crate::sync::error::SyncError;
use crate::sync::ids::IntegrationId;
use crate::sync::time::rfc3339;

/// What a replay has found or done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Counts {
    /// Of a dry run: models that the target has as it should, or does not have and should not.
    pub same: i64,
    /// Of a dry run: those that it does not have, and should.
    pub create: i64,
    /// Of a dry run: those that it has otherwise.
    pub update: i64,
    /// Those that it has, and should not; of a replay that is no dry run, those whose deletion is sent again.
    pub delete: i64,
    /// Of a dry run: those of which it can't be told.
    pub unknown: i64,
    /// Of a replay that is no dry run: those that are sent again.
    pub push: i64,
    /// Of these and of the deletions, those that have not arrived yet.
    pub left: i64,
    /// Of those that are left, those whose last attempt failed.
    pub failing: i64,
}

/// A replay, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Replay {
    /// Its id.
    pub id: i64,
    /// Whose target it is about.
    pub integration_id: i64,
    /// Whether it only says what would be done.
    pub is_dry_run: bool,
    /// `pending`, `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// What was found or done so far.
    pub counts: Counts,
    /// What is wrong.
    pub error: Option<String>,
    /// When it was asked for.
    pub inserted_at: String,
    /// When it first began.
    pub started_at: Option<String>,
    /// When it was over.
    pub finished_at: Option<String>,
}

/// What a dry run has found about a model.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Difference {
    /// The model.
    pub model_id: i64,
    /// Its class.
    pub class: String,
    /// Its key.
    pub key: String,
    /// What a replay would do: `create`, `update` or `delete`; `unknown` if that can't be told.
    pub action: String,
    /// Of an update, the names of what differs, an array; of `unknown` why, a text.
    #[schema(value_type = Option<Object>)]
    pub detail: Option<Value>,
}

fn columns() -> String {
    let (inserted, started, finished) =
        (rfc3339("inserted_at"), rfc3339("started_at"), rfc3339("finished_at"));
    format!(
        "id, integration_id, is_dry_run, state, counts, error, {inserted}, {started}, {finished}"
    )
}

fn read(row: &Row) -> Replay {
    Replay {
        id: row.get(0),
        integration_id: row.get(1),
        is_dry_run: row.get(2),
        state: row.get(3),
        // Our own rows; a field that an older version did not have is 0.
        counts: serde_json::from_value(row.get(4)).unwrap_or_default(),
        error: row.get(5),
        inserted_at: row.get(6),
        started_at: row.get(7),
        finished_at: row.get(8),
    }
}

/// Asks for a replay; none if there is no such integration. Refused while another one of this integration is under way, and
/// if the integration is disabled, unless it is a dry run.
pub async fn create(
    client: &Client,
    integration: IntegrationId,
    is_dry_run: bool,
) -> Result<Option<Replay>, SyncError> {
    let sql = "SELECT state = 'active' FROM integratedb.sync_integration WHERE id = $1";
    let Some(row) = client.query_opt(sql, &[&integration.0]).await? else { return Ok(None) };
    if !is_dry_run && !row.get::<_, bool>(0) {
        let why = "The integration is disabled: enable it first, or ask for a dry run.";
        return Err(SyncError::Refused(why.to_owned()));
    }
    let sql = format!(
        "INSERT INTO integratedb.sync_replay (integration_id, is_dry_run, step)
         SELECT id, $2, CASE WHEN $2 THEN 'compare' ELSE 'mark' END FROM integratedb.sync_integration WHERE id = $1
         ON CONFLICT DO NOTHING RETURNING {}",
        columns()
    );
    match client.query_opt(&sql, &[&integration.0, &is_dry_run]).await? {
        Some(row) => Ok(Some(read(&row))),
        None => Err(SyncError::Refused(
            "A replay of this integration is under way: wait until it is over, or cancel it."
                .to_owned(),
        )),
    }
}

/// The replays of an integration with ids below `before`, the latest first.
pub async fn list(
    client: &Client,
    integration: IntegrationId,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Replay>, DbError> {
    let sql = format!(
        "SELECT {} FROM integratedb.sync_replay
         WHERE integration_id = $1 AND id < coalesce($2, 9223372036854775807) ORDER BY id DESC LIMIT $3",
        columns()
    );
    Ok(client.query(&sql, &[&integration.0, &before, &limit]).await?.iter().map(read).collect())
}

/// One replay of an integration, if it has one of this id.
pub async fn show(
    client: &Client,
    integration: IntegrationId,
    id: i64,
) -> Result<Option<Replay>, DbError> {
    let sql = format!(
        "SELECT {} FROM integratedb.sync_replay WHERE integration_id = $1 AND id = $2",
        columns()
    );
    Ok(client.query_opt(&sql, &[&integration.0, &id]).await?.as_ref().map(read))
}

/// What a dry run has found so far, by model, after this one: all, or only what asks for one action. None if the
/// integration has no such replay.
pub async fn differences(
    client: &Client,
    integration: IntegrationId,
    replay: i64,
    action: Option<&str>,
    after: Option<i64>,
    limit: i64,
) -> Result<Option<Vec<Difference>>, DbError> {
    if show(client, integration, replay).await?.is_none() {
        return Ok(None);
    }
    let sql = "SELECT d.model_id, r.class, r.key, d.action, d.detail
               FROM integratedb.sync_difference d JOIN integratedb.sync_model m ON m.id = d.model_id
               JOIN integratedb.sync_record r ON r.id = m.record_id
               WHERE d.replay_id = $1 AND d.model_id > coalesce($3, 0::bigint) AND ($2::text IS NULL OR d.action = $2)
               ORDER BY d.model_id LIMIT $4";
    let rows = client.query(sql, &[&replay, &action, &after, &limit]).await?;
    let read = |row: &Row| Difference {
        model_id: row.get(0),
        class: row.get(1),
        key: row.get(2),
        action: row.get(3),
        detail: row.get(4),
    };
    Ok(Some(rows.iter().map(read).collect()))
}

/// Locks a replay until the transaction ends, and gives it, if the integration has one of this id.
pub async fn hold(
    tx: &Transaction<'_>,
    integration: IntegrationId,
    id: i64,
) -> Result<Option<Replay>, DbError> {
    let sql = "SELECT FROM integratedb.sync_replay WHERE integration_id = $1 AND id = $2 FOR NO KEY UPDATE";
    tx.query_opt(sql, &[&integration.0, &id]).await?;
    show(tx.client(), integration, id).await
}

/// Ends a replay; none if the integration has none of this id. Refused if it is over. What it has made due so far is pushed
/// all the same.
pub async fn cancel(
    client: &Client,
    integration: IntegrationId,
    id: i64,
) -> Result<Option<Replay>, SyncError> {
    // One that has marked states is over only when the worker has made them due.
    let sql = format!(
        "UPDATE integratedb.sync_replay
         SET state = 'cancelled', due_at = now(), lease = NULL, last_model = 0,
             step = CASE step WHEN 'mark' THEN 'push' ELSE step END,
             finished_at = CASE WHEN is_dry_run OR step = 'wait' THEN now() END
         WHERE integration_id = $1 AND id = $2 AND state IN ('pending', 'running') RETURNING {}",
        columns()
    );
    if let Some(row) = client.query_opt(&sql, &[&integration.0, &id]).await? {
        return Ok(Some(read(&row)));
    }
    match show(client, integration, id).await? {
        Some(replay) => Err(SyncError::Refused(format!("The replay is {}.", replay.state))),
        None => Ok(None),
    }
}
