//! Tenants, and how much there is to do for each.

use serde::Serialize;
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;

use super::work::{PUSHES, UPDATES, WORK, Work};
use crate::db::DbError;
use crate::sync::ids::TenantId;
use crate::sync::time::rfc3339;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Tenant {
    /// Its id; that of a stakeholder is negative.
    pub id: i64,
    /// Whose it is, if its models are rows of this database.
    pub stakeholder_id: Option<i64>,
    /// The API that its models come from otherwise.
    pub endpoint: Option<String>,
    /// When it was first told of.
    pub inserted_at: String,
    /// When its address or its token last changed.
    pub updated_at: String,
}

/// A tenant, and how its models are.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TenantStatus {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: Tenant,
    /// How many models it has.
    pub models: i64,
    /// How many integrations.
    pub integrations: i64,
    /// Models to fetch.
    pub updates: Work,
    /// Models to push, to integrations that are not disabled.
    pub pushes: Work,
}

impl Tenant {
    /// What is shown of a row `t`, as columns.
    pub(in crate::sync) fn columns() -> String {
        let (inserted, updated) = (rfc3339("t.inserted_at"), rfc3339("t.updated_at"));
        format!("t.id, t.stakeholder_id, t.endpoint, {inserted}, {updated}")
    }

    /// From a row that begins with these columns.
    pub(in crate::sync) fn read(row: &Row) -> Self {
        Self {
            id: row.get(0),
            stakeholder_id: row.get(1),
            endpoint: row.get(2),
            inserted_at: row.get(3),
            updated_at: row.get(4),
        }
    }
}

/// The tenants with ids above `after`, by id.
pub async fn tenants(
    client: &Client,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Tenant>, DbError> {
    let sql = format!(
        "SELECT {} FROM integratedb.sync_tenant t WHERE $1::bigint IS NULL OR t.id > $1 ORDER BY t.id LIMIT $2",
        Tenant::columns()
    );
    Ok(client.query(&sql, &[&after, &limit]).await?.iter().map(Tenant::read).collect())
}

/// One tenant with its counts, if there is one of this id.
pub async fn tenant(client: &Client, id: TenantId) -> Result<Option<TenantStatus>, DbError> {
    let sql = format!(
        "SELECT {}, (SELECT count(*) FROM integratedb.sync_model m WHERE m.tenant_id = t.id),
             (SELECT count(*) FROM integratedb.sync_integration i WHERE i.tenant_id = t.id)
         FROM integratedb.sync_tenant t WHERE t.id = $1",
        Tenant::columns()
    );
    let Some(row) = client.query_opt(&sql, &[&id.0]).await? else { return Ok(None) };
    let sql = format!("SELECT {WORK} FROM ({UPDATES} AND u.tenant_id = $1) w");
    let updates = client.query_one(&sql, &[&id.0]).await?;
    let pushes = PUSHES.replace("i.state = 'active'", "i.state = 'active' AND i.tenant_id = $1");
    let sql = format!("SELECT {WORK} FROM ({pushes}) w");
    let pushes = client.query_one(&sql, &[&id.0]).await?;
    Ok(Some(TenantStatus {
        tenant: Tenant::read(&row),
        models: row.get(5),
        integrations: row.get(6),
        updates: Work::read(&updates, 0),
        pushes: Work::read(&pushes, 0),
    }))
}
