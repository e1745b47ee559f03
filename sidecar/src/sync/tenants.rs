//! Tenants in the sidecar's database: those whose models come from an API, and those of stakeholders.

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Client, Transaction};
use utoipa::ToSchema;

use super::error::SyncError;
use super::ids::TenantId;
use super::time::rfc3339;
use crate::seal::Sealer;
use crate::secret::Secret;

/// Where the models of a tenant come from, and what its API asks for.
pub struct HttpTenant {
    /// An address that paths are put behind.
    pub endpoint: String,
    /// The access token.
    pub token: Secret<String>,
}

/// What a token is sealed under: it can't be taken for that of another tenant.
fn record(id: TenantId) -> String {
    format!("tenant {id}")
}

/// What is kept of a tenant whose models come from an API; `None` if there is no such tenant.
pub async fn load(
    client: &Client,
    sealer: &Sealer,
    id: TenantId,
) -> Result<Option<HttpTenant>, SyncError> {
    let sql = "SELECT endpoint, sealed FROM integratedb.sync_tenant
               WHERE id = $1 AND endpoint IS NOT NULL";
    let Some(row) = client.query_opt(sql, &[&id.0]).await? else { return Ok(None) };
    let token = open(sealer, id, row.get(1)).ok_or_else(|| {
        SyncError::Key(format!(
            "the access token of tenant {id} can't be decrypted: sync.key_file has another key than it was written with; \
             PUT /tenant writes it again"
        ))
    })?;
    Ok(Some(HttpTenant { endpoint: row.get(0), token }))
}

fn open(sealer: &Sealer, id: TenantId, sealed: &[u8]) -> Option<Secret<String>> {
    let opened = sealer.open(record(id).as_bytes(), sealed)?;
    String::from_utf8(opened).ok().map(Secret::new)
}

/// Keeps a tenant whose models come from an API, and says whether it is new. What could not be fetched before is tried
/// again at once if its endpoint or its token is another now.
pub async fn put(
    client: &mut Client,
    sealer: &Sealer,
    id: TenantId,
    endpoint: &str,
    token: &Secret<String>,
) -> Result<bool, SyncError> {
    let sealed = sealer.seal(record(id).as_bytes(), token.expose_secret().as_bytes());
    let tx = client.transaction().await?;
    let sql = "INSERT INTO integratedb.sync_tenant (id, endpoint, sealed) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let is_new = tx.execute(sql, &[&id.0, &endpoint, &sealed]).await? > 0;
    if !is_new {
        let sql =
            "SELECT endpoint, sealed FROM integratedb.sync_tenant WHERE id = $1 FOR NO KEY UPDATE";
        // It may have been removed since; its client then has to say so again.
        let row = tx.query_opt(sql, &[&id.0]).await?.ok_or_else(|| {
            SyncError::Refused("the tenant was removed at the same time; try again".to_owned())
        })?;
        let is_same = row.get::<_, &str>(0) == endpoint
            && open(sealer, id, row.get(1)).is_some_and(|known| known == *token);
        if !is_same {
            let sql = "UPDATE integratedb.sync_tenant
                       SET endpoint = $2, sealed = $3, version = version + 1, updated_at = now() WHERE id = $1";
            tx.execute(sql, &[&id.0, &endpoint, &sealed]).await?;
            retry(&tx, id).await?;
        }
    }
    tx.commit().await?;
    Ok(is_new)
}

/// Removes a tenant with all that belongs to it, and says whether there was one. What is under way for it changes nothing
/// when it comes back. Nothing is deleted at its targets.
pub async fn remove(client: &Client, id: TenantId) -> Result<bool, SyncError> {
    let sql = "DELETE FROM integratedb.sync_tenant WHERE id = $1";
    Ok(client.execute(sql, &[&id.0]).await? > 0)
}

/// The tenant of a stakeholder, if it has one.
pub async fn find(client: &Client, stakeholder: i64) -> Result<Option<TenantId>, SyncError> {
    let sql = "SELECT id FROM integratedb.sync_tenant WHERE stakeholder_id = $1";
    Ok(client.query_opt(sql, &[&stakeholder]).await?.map(|row| TenantId(row.get(0))))
}

/// The tenant of a stakeholder; it is made if it has none.
pub async fn of_stakeholder(client: &Client, stakeholder: i64) -> Result<TenantId, SyncError> {
    let sql = "WITH made AS (
            INSERT INTO integratedb.sync_tenant (id, stakeholder_id)
            SELECT nextval('integratedb.sync_stakeholder_tenant'), $1
            WHERE NOT EXISTS (SELECT FROM integratedb.sync_tenant WHERE stakeholder_id = $1)
            ON CONFLICT (stakeholder_id) DO NOTHING RETURNING id
        )
        SELECT id FROM made UNION ALL SELECT id FROM integratedb.sync_tenant WHERE stakeholder_id = $1";
    if let Some(row) = client.query_opt(sql, &[&stakeholder]).await? {
        return Ok(TenantId(row.get(0)));
    }
    // Another request has made it meanwhile.
    find(client, stakeholder).await?.ok_or_else(|| {
        SyncError::Refused("the stakeholder's tenant was removed at the same time".to_owned())
    })
}

/// A class that a tenant has defined itself.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TenantClass {
    /// What notifications call it.
    pub name: String,
    /// How it is fetched.
    #[schema(value_type = Object)]
    pub definition: Value,
    /// When it was first defined.
    pub inserted_at: String,
    /// When it was last defined otherwise.
    pub updated_at: String,
}

/// The classes that a tenant has defined itself, or one of them, by their names.
pub async fn classes(
    client: &Client,
    id: TenantId,
    name: Option<&str>,
) -> Result<Vec<TenantClass>, SyncError> {
    let sql = format!(
        "SELECT name, definition, {}, {} FROM integratedb.sync_class
         WHERE tenant_id = $1 AND ($2::text IS NULL OR name = $2) ORDER BY name",
        rfc3339("inserted_at"),
        rfc3339("updated_at")
    );
    let rows = client.query(&sql, &[&id.0, &name]).await?;
    let read = |row: &tokio_postgres::Row| TenantClass {
        name: row.get(0),
        definition: row.get(1),
        inserted_at: row.get(2),
        updated_at: row.get(3),
    };
    Ok(rows.iter().map(read).collect())
}

/// Keeps a class of a tenant whose models come from an API, and says whether it is new; `None` if there is no such tenant.
/// What could not be fetched before is tried again at once if the class is another now. The definition was checked before.
pub async fn put_class(
    client: &mut Client,
    id: TenantId,
    name: &str,
    definition: &Value,
) -> Result<Option<bool>, SyncError> {
    let tx = client.transaction().await?;
    let sql =
        "SELECT FROM integratedb.sync_tenant WHERE id = $1 AND endpoint IS NOT NULL FOR KEY SHARE";
    if tx.query_opt(sql, &[&id.0]).await?.is_none() {
        return Ok(None);
    }
    let sql =
        "INSERT INTO integratedb.sync_class AS c (tenant_id, name, definition) VALUES ($1, $2, $3)
               ON CONFLICT (tenant_id, name) DO UPDATE
               SET definition = EXCLUDED.definition, version = c.version + 1, updated_at = now()
               WHERE c.definition <> EXCLUDED.definition
               RETURNING version = 1";
    let row = tx.query_opt(sql, &[&id.0, &name, definition]).await?;
    if row.is_some() {
        retry(&tx, id).await?;
    }
    tx.commit().await?;
    Ok(Some(row.is_some_and(|row| row.get(0))))
}

/// Removes a class that a tenant has defined, and says whether there was one. Models that are of it stay as they are.
pub async fn remove_class(client: &Client, id: TenantId, name: &str) -> Result<bool, SyncError> {
    let sql = "DELETE FROM integratedb.sync_class WHERE tenant_id = $1 AND name = $2";
    Ok(client.execute(sql, &[&id.0, &name]).await? > 0)
}

/// Has what could not be fetched tried again at once.
async fn retry(tx: &Transaction<'_>, id: TenantId) -> Result<(), SyncError> {
    // In an order of ids, as whoever else locks several.
    let sql = "WITH failed AS (
            SELECT model_id FROM integratedb.sync_update
            WHERE tenant_id = $1 AND due_at > now() AND lease IS NULL
            ORDER BY model_id FOR NO KEY UPDATE
        )
        UPDATE integratedb.sync_update u SET due_at = now() FROM failed f WHERE u.model_id = f.model_id";
    tx.execute(sql, &[&id.0]).await?;
    Ok(())
}
