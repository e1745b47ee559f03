//! Integrations as they are stored.

mod configure;
mod derived;
mod list;
mod secrets;

use deadpool_postgres::{Client, Transaction};
use serde_json::Value;

pub use configure::{
    Before, ConfigureError, Wanted, begin, begin_removal, create, hold, remove, replace,
    set_enabled,
};
pub(super) use derived::store as store_derived;
pub use list::{Integration, Scope, list, show};
pub(crate) use secrets::{open, seal};

use super::error::SyncError;
use super::ids::{IntegrationId, TenantId};
use crate::seal::Sealer;

/// Whether models go to an integration, in SQL: `r` is the model's record, `i` the integration, both of one tenant.
pub(crate) const IN_SCOPE: &str = "(i.classes IS NULL OR r.class = ANY (i.classes))
  AND (i.model_id IS NULL OR i.model_id IN (
      WITH RECURSIVE up (id, depth) AS (
          SELECT r.id, 0
          UNION ALL
          -- Rows may name each other as parents.
          SELECT p.parent_id, up.depth + 1 FROM up JOIN integratedb.sync_record p ON p.id = up.id
          WHERE p.parent_id IS NOT NULL AND up.depth < 32)
      SELECT a.id FROM up JOIN integratedb.sync_model a ON a.record_id = up.id))";

/// An integration, as its target is opened by.
pub(crate) struct Loaded {
    pub(crate) kind: String,
    pub(crate) settings: Value,
    pub(crate) hidden: Value,
}

/// The integration with this number; none if it is not there any more.
pub(crate) async fn load(
    client: &Client,
    sealer: Option<&Sealer>,
    id: IntegrationId,
) -> Result<Option<Loaded>, SyncError> {
    let statement = client
        .prepare_cached(
            "SELECT tenant_id, name, kind, settings, sealed \
             FROM integratedb.sync_integration WHERE id = $1",
        )
        .await?;
    let Some(row) = client.query_opt(&statement, &[&id.0]).await? else { return Ok(None) };
    let tenant = TenantId(row.get(0));
    let hidden = open(row.get(4), sealer, tenant, row.get(1))?;
    Ok(Some(Loaded { kind: row.get(2), settings: row.get(3), hidden }))
}

/// The advisory locks between those who append entries of a tenant and those who say where they go: "idbi" as a number, and
/// one of the tenant. A tenant with very many models holds up no other.
pub(super) const SCOPES: i32 = 0x6964_6269;

/// Has whoever says where entries of these tenants go wait until the transaction ends. To be sent before the statement that
/// appends entries: its snapshot then has all integrations whose [`make_due`] did not wait for it.
pub(super) const SHARE_SCOPES: &str = "
    SELECT pg_advisory_xact_lock_shared($1, one.number)
    FROM (SELECT DISTINCT hashint8(tenant) AS number FROM unnest($2::bigint[]) tenant ORDER BY number) one";

/// Waits for those who append entries of the tenant, and has others wait until the transaction ends.
async fn hold_scopes(transaction: &Transaction<'_>, tenant: TenantId) -> Result<(), SyncError> {
    let sql = "SELECT pg_advisory_xact_lock($1, hashint8($2))";
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, &[&SCOPES, &tenant.0]).await?;
    Ok(())
}

/// Has all models in its scope pushed that were fetched, those too whose entry is just being appended. Those that are gone
/// count only if it may have them.
pub(crate) async fn make_due(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: IntegrationId,
) -> Result<(), SyncError> {
    hold_scopes(transaction, tenant).await?;
    let sql = format!(
        "INSERT INTO integratedb.sync_state AS s (integration_id, model_id, wanted, is_gone, due_at)
         SELECT i.id, u.model_id, u.entry_id, u.is_gone, clock_timestamp()
         FROM integratedb.sync_integration i
         JOIN integratedb.sync_record r ON r.tenant_id = i.tenant_id
         JOIN integratedb.sync_model m ON m.record_id = r.id
         JOIN integratedb.sync_update u ON u.model_id = m.id
         WHERE i.id = $1 AND u.entry_id IS NOT NULL
           AND (NOT u.is_gone OR EXISTS (SELECT FROM integratedb.sync_state k
                                         WHERE k.integration_id = i.id AND k.model_id = u.model_id))
           AND {IN_SCOPE}
         ORDER BY u.model_id
         ON CONFLICT (integration_id, model_id) DO UPDATE
         SET wanted = greatest(s.wanted, EXCLUDED.wanted),
             is_gone = CASE WHEN EXCLUDED.wanted >= s.wanted THEN EXCLUDED.is_gone ELSE s.is_gone END,
             waits_for = NULL,
             due_at = CASE WHEN s.lease IS NULL THEN EXCLUDED.due_at ELSE s.due_at END"
    );
    let statement = transaction.prepare_cached(&sql).await?;
    transaction.execute(&statement, &[&id.0]).await?;
    Ok(())
}
