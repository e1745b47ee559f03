//! Tenants in the sidecar's database: those whose models come from an API, and those of stakeholders.

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Client, Row, Transaction};
use utoipa::ToSchema;

use super::error::SyncError;
use super::ids::TenantId;
use super::status::Tenant;
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

/// What became of a tenant that was to be kept.
pub enum Kept {
    /// There was none.
    New(Tenant),
    /// It was otherwise, and is so now.
    Changed(Tenant, Tenant),
    /// It was so already.
    Same,
}

/// Keeps a tenant whose models come from an API. What could not be fetched before is tried again at once if its endpoint or
/// its token is another now.
pub async fn put(
    tx: &Transaction<'_>,
    sealer: &Sealer,
    id: TenantId,
    endpoint: &str,
    token: &Secret<String>,
) -> Result<Kept, SyncError> {
    let sealed = sealer.seal(record(id).as_bytes(), token.expose_secret().as_bytes());
    let shown = Tenant::columns();
    let sql = format!(
        "INSERT INTO integratedb.sync_tenant AS t (id, endpoint, sealed) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING RETURNING {shown}"
    );
    if let Some(row) = tx.query_opt(&sql, &[&id.0, &endpoint, &sealed]).await? {
        return Ok(Kept::New(Tenant::read(&row)));
    }
    let sql = format!(
        "SELECT {shown}, t.sealed FROM integratedb.sync_tenant t WHERE t.id = $1 FOR NO KEY UPDATE"
    );
    // It may have been removed since; its client then has to say so again.
    let row = tx.query_opt(&sql, &[&id.0]).await?.ok_or_else(|| {
        SyncError::Refused("the tenant was removed at the same time; try again".to_owned())
    })?;
    let before = Tenant::read(&row);
    let is_same = before.endpoint.as_deref() == Some(endpoint)
        && open(sealer, id, row.get("sealed")).is_some_and(|known| known == *token);
    if is_same {
        return Ok(Kept::Same);
    }
    let sql = format!(
        "UPDATE integratedb.sync_tenant t
         SET endpoint = $2, sealed = $3, version = version + 1, updated_at = now() WHERE t.id = $1 RETURNING {shown}"
    );
    let row = tx.query_one(&sql, &[&id.0, &endpoint, &sealed]).await?;
    retry(tx, id).await?;
    Ok(Kept::Changed(before, Tenant::read(&row)))
}

/// Locks a tenant that is to be removed until the transaction ends, and gives it, if there is one.
pub async fn begin_removal(
    tx: &Transaction<'_>,
    id: TenantId,
) -> Result<Option<Tenant>, SyncError> {
    let sql = format!(
        "SELECT {} FROM integratedb.sync_tenant t WHERE t.id = $1 FOR UPDATE",
        Tenant::columns()
    );
    Ok(tx.query_opt(&sql, &[&id.0]).await?.as_ref().map(Tenant::read))
}

/// Removes a tenant with all that belongs to it. What is under way for it changes nothing when it comes back. Nothing is
/// deleted at its targets.
pub async fn remove(tx: &Transaction<'_>, id: TenantId) -> Result<(), SyncError> {
    tx.execute("DELETE FROM integratedb.sync_tenant WHERE id = $1", &[&id.0]).await?;
    Ok(())
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

fn shown_class() -> String {
    format!("name, definition, {}, {}", rfc3339("inserted_at"), rfc3339("updated_at"))
}

fn read_class(row: &Row) -> TenantClass {
    TenantClass {
        name: row.get(0),
        definition: row.get(1),
        inserted_at: row.get(2),
        updated_at: row.get(3),
    }
}

/// The first `limit` classes that a tenant has defined itself, by name, after the one of this name.
pub async fn classes(
    client: &Client,
    id: TenantId,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<TenantClass>, SyncError> {
    let sql = format!(
        "SELECT {} FROM integratedb.sync_class
         WHERE tenant_id = $1 AND ($2::text IS NULL OR name > $2) ORDER BY name LIMIT $3",
        shown_class()
    );
    Ok(client.query(&sql, &[&id.0, &after, &limit]).await?.iter().map(read_class).collect())
}

/// One of them, if the tenant has it.
pub async fn class(
    client: &Client,
    id: TenantId,
    name: &str,
) -> Result<Option<TenantClass>, SyncError> {
    let sql = format!(
        "SELECT {} FROM integratedb.sync_class WHERE tenant_id = $1 AND name = $2",
        shown_class()
    );
    Ok(client.query_opt(&sql, &[&id.0, &name]).await?.as_ref().map(read_class))
}

/// Has whoever else changes a class of a tenant whose models come from an API wait until the transaction ends; false if
/// there is no such tenant.
pub async fn hold_classes(tx: &Transaction<'_>, id: TenantId) -> Result<bool, SyncError> {
    let sql = "SELECT FROM integratedb.sync_tenant WHERE id = $1 AND endpoint IS NOT NULL FOR NO KEY UPDATE";
    Ok(tx.query_opt(sql, &[&id.0]).await?.is_some())
}

/// Keeps a class of a tenant whose models come from an API, and says whether it is another now. If so, what could not be
/// fetched before is tried again at once. The definition was checked before.
pub async fn put_class(
    tx: &Transaction<'_>,
    id: TenantId,
    name: &str,
    definition: &Value,
) -> Result<bool, SyncError> {
    let sql =
        "INSERT INTO integratedb.sync_class AS c (tenant_id, name, definition) VALUES ($1, $2, $3)
               ON CONFLICT (tenant_id, name) DO UPDATE
               SET definition = EXCLUDED.definition, version = c.version + 1, updated_at = now()
               WHERE c.definition <> EXCLUDED.definition";
    let is_changed = tx.execute(sql, &[&id.0, &name, definition]).await? > 0;
    if is_changed {
        retry(tx, id).await?;
    }
    Ok(is_changed)
}

/// Removes a class that a tenant has defined. Models that are of it stay as they are.
pub async fn remove_class(tx: &Transaction<'_>, id: TenantId, name: &str) -> Result<(), SyncError> {
    let sql = "DELETE FROM integratedb.sync_class WHERE tenant_id = $1 AND name = $2";
    tx.execute(sql, &[&id.0, &name]).await?;
    Ok(())
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
