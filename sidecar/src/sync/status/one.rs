//! One model, with how it is at its source and at each integration.

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;

use super::models::Parent;
use crate::db::DbError;
use crate::sync::ids::{ModelId, TenantId};
use crate::sync::time::rfc3339;

/// The most integrations that are shown of a model.
const MOST: i64 = 1000;

/// A model.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ModelStatus {
    /// Its id.
    pub id: i64,
    /// Whose it is.
    pub tenant_id: i64,
    /// Its class.
    pub class: String,
    /// Its key, unique in its class.
    pub key: String,
    /// What it is below.
    pub parent: Option<Parent>,
    /// What the notifications said besides.
    #[schema(value_type = Object)]
    pub data: Value,
    /// When it was first told of.
    pub inserted_at: String,
    /// How it is fetched.
    pub update: UpdateStatus,
    /// How it is at each integration that knows of it.
    pub integrations: Vec<AtIntegration>,
}

/// How a model is fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct UpdateStatus {
    /// How many notifications there were.
    pub notified: i64,
    /// How many of these are answered by an entry.
    pub fetched: i64,
    /// The last entry.
    pub entry_id: Option<i64>,
    /// Whether it says that the model is gone.
    pub is_gone: bool,
    /// When it was last fetched, or its source said that it is gone.
    pub succeeded_at: Option<String>,
    /// Whether it is being fetched.
    pub is_running: bool,
    /// Attempts since one went well.
    pub attempts: i32,
    /// When the last attempt began.
    pub started_at: Option<String>,
    /// When the last attempt that is over ended.
    pub finished_at: Option<String>,
    /// Whether that went well.
    pub success: Option<bool>,
    /// Why not.
    pub error: Option<String>,
    /// When it is fetched next, if it is to be.
    pub next_attempt_at: Option<String>,
}

/// How a model is at an integration.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AtIntegration {
    /// The integration.
    pub integration_id: i64,
    /// Its name.
    pub name: String,
    /// The entry that it is to have.
    pub wanted: i64,
    /// Whether that says that the model is gone.
    pub is_gone: bool,
    /// The entry that was pushed last.
    pub entry_id: Option<i64>,
    /// Whether the target has the model: `absent`, `present`, or `unknown` after an attempt that may have changed it.
    pub presence: String,
    /// The model that has to be pushed or deleted before.
    pub waits_for: Option<i64>,
    /// Whether it is being pushed.
    pub is_running: bool,
    /// Attempts since one went well.
    pub attempts: i32,
    /// When the last attempt began.
    pub started_at: Option<String>,
    /// When the last attempt that is over ended.
    pub finished_at: Option<String>,
    /// When one last went well.
    pub succeeded_at: Option<String>,
    /// Whether the last one did.
    pub success: Option<bool>,
    /// Why not.
    pub error: Option<String>,
    /// When it is pushed next, if it is to be.
    pub next_attempt_at: Option<String>,
}

/// A model of a tenant, if it has one of this id.
pub async fn model(
    client: &Client,
    tenant: TenantId,
    id: ModelId,
) -> Result<Option<ModelStatus>, DbError> {
    let sql = format!(
        "SELECT m.id, m.tenant_id, r.class, r.key, pm.id, p.class, p.key, r.data, {inserted_at},
             coalesce(u.notified, 0), coalesce(u.fetched, 0), u.entry_id, coalesce(u.is_gone, false), {succeeded_at},
             coalesce(u.lease IS NOT NULL AND u.due_at > now(), false), coalesce(u.attempts, 0), {started_at},
             {finished_at}, u.success, u.error, {due_at}
         FROM integratedb.sync_model m JOIN integratedb.sync_record r ON r.id = m.record_id
         LEFT JOIN integratedb.sync_record p ON p.id = r.parent_id
         LEFT JOIN integratedb.sync_model pm ON pm.record_id = p.id
         LEFT JOIN integratedb.sync_update u ON u.model_id = m.id
         LEFT JOIN integratedb.sync_entry e ON e.id = u.entry_id
         WHERE m.id = $1 AND m.tenant_id = $2",
        inserted_at = rfc3339("m.inserted_at"),
        succeeded_at = rfc3339("e.inserted_at"),
        started_at = rfc3339("u.started_at"),
        finished_at = rfc3339("u.finished_at"),
        due_at = rfc3339("u.due_at"),
    );
    let Some(row) = client.query_opt(&sql, &[&id.0, &tenant.0]).await? else { return Ok(None) };
    let sql = format!(
        "SELECT s.integration_id, i.name, s.wanted, s.is_gone, s.entry_id, s.presence, s.waits_for,
             coalesce(s.lease IS NOT NULL AND s.due_at > now(), false), s.attempts, {}, {}, {}, s.success, s.error, {}
         FROM integratedb.sync_state s JOIN integratedb.sync_integration i ON i.id = s.integration_id
         WHERE s.model_id = $1 ORDER BY s.integration_id LIMIT $2",
        rfc3339("s.started_at"),
        rfc3339("s.finished_at"),
        rfc3339("s.succeeded_at"),
        rfc3339("s.due_at"),
    );
    let states = client.query(&sql, &[&id.0, &MOST]).await?;
    Ok(Some(ModelStatus {
        id: row.get(0),
        tenant_id: row.get(1),
        class: row.get(2),
        key: row.get(3),
        parent: row.get::<_, Option<String>>(5).map(|class| Parent {
            model_id: row.get(4),
            class,
            key: row.get(6),
        }),
        data: row.get(7),
        inserted_at: row.get(8),
        update: UpdateStatus {
            notified: row.get(9),
            fetched: row.get(10),
            entry_id: row.get(11),
            is_gone: row.get(12),
            succeeded_at: row.get(13),
            is_running: row.get(14),
            attempts: row.get(15),
            started_at: row.get(16),
            finished_at: row.get(17),
            success: row.get(18),
            error: row.get(19),
            next_attempt_at: row.get(20),
        },
        integrations: states.iter().map(at_integration).collect(),
    }))
}

fn at_integration(row: &Row) -> AtIntegration {
    AtIntegration {
        integration_id: row.get(0),
        name: row.get(1),
        wanted: row.get(2),
        is_gone: row.get(3),
        entry_id: row.get(4),
        presence: row.get(5),
        waits_for: row.get(6),
        is_running: row.get(7),
        attempts: row.get(8),
        started_at: row.get(9),
        finished_at: row.get(10),
        succeeded_at: row.get(11),
        success: row.get(12),
        error: row.get(13),
        next_attempt_at: row.get(14),
    }
}
