//! Integrations as they are shown.

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;

use crate::db::DbError;
use crate::sync::ids::{IntegrationId, TenantId};

/// The most that are listed.
const MOST: i64 = 1000;

/// An integration without its secrets.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Integration {
    /// Its id.
    pub id: i64,
    /// Unique among the tenant's.
    pub name: String,
    /// What kind of target it has.
    #[schema(example = "postgres")]
    pub kind: String,
    /// `active`, or `disabled`: nothing is pushed.
    #[schema(example = "active")]
    pub state: String,
    /// The classes that go there; null: all.
    pub classes: Option<Vec<String>>,
    /// The model that goes there with those below it; null: all of the tenant's.
    pub model: Option<Scope>,
    /// Requests at once to its target.
    pub concurrency: i32,
    /// The target, without what is secret.
    #[schema(value_type = Object)]
    pub settings: Value,
    /// Whether the source has asked for it, and says how it is.
    pub is_derived: bool,
    /// When it was made.
    pub inserted_at: String,
    /// When it was last changed.
    pub updated_at: String,
}

/// The model that a scope begins at.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Scope {
    /// Its id.
    pub id: i64,
    /// Its class.
    pub class: String,
    /// Its key.
    pub key: String,
}

const SELECT: &str = "
    SELECT i.id, i.name, i.kind, i.state, i.classes, m.id, r.class, r.key, i.concurrency, i.settings, i.is_derived,
           to_char(i.inserted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
           to_char(i.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')
    FROM integratedb.sync_integration i
    LEFT JOIN integratedb.sync_model m ON m.id = i.model_id
    LEFT JOIN integratedb.sync_record r ON r.id = m.record_id
    WHERE i.tenant_id = $1 AND ($2::bigint IS NULL OR i.id = $2) AND i.id > $3
    ORDER BY i.id LIMIT $4";

/// The integrations of a tenant with ids above `after`, by id.
pub async fn list(
    client: &Client,
    tenant: TenantId,
    after: i64,
    limit: i64,
) -> Result<Vec<Integration>, DbError> {
    let none: Option<i64> = None;
    let rows = client.query(SELECT, &[&tenant.0, &none, &after, &limit.min(MOST)]).await?;
    Ok(rows.iter().map(read).collect())
}

/// One integration of a tenant, if it has one of this id.
pub async fn show(
    client: &Client,
    tenant: TenantId,
    id: IntegrationId,
) -> Result<Option<Integration>, DbError> {
    let row = client.query_opt(SELECT, &[&tenant.0, &Some(id.0), &0_i64, &1_i64]).await?;
    Ok(row.as_ref().map(read))
}

fn read(row: &Row) -> Integration {
    let scope = |id| Scope { id, class: row.get(6), key: row.get(7) };
    Integration {
        id: row.get(0),
        name: row.get(1),
        kind: row.get(2),
        state: row.get(3),
        classes: row.get(4),
        model: row.get::<_, Option<i64>>(5).map(scope),
        concurrency: row.get(8),
        settings: row.get(9),
        is_derived: row.get(10),
        inserted_at: row.get(11),
        updated_at: row.get(12),
    }
}
