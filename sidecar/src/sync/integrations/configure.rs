//! Integrations as people want them: made, changed, enabled, disabled and removed.

use deadpool_postgres::Transaction;
use serde_json::{Map, Value};
use tokio_postgres::error::SqlState;

use super::list::{Integration, show};
use super::{IN_SCOPE, hold_scopes, make_due, open, seal};
use crate::seal::Sealer;
use crate::sync::accept::ensure;
use crate::sync::error::SyncError;
use crate::sync::ids::{IntegrationId, ModelId, TenantId};
use crate::sync::target::Checked;
use crate::sync::work::Named;

/// An integration as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Unique among the tenant's.
    pub name: String,
    /// What kind of target it has.
    pub kind: String,
    /// Only this model and those below it; none: all of the tenant's.
    pub model: Option<Named>,
    /// Only these classes; none: all.
    pub classes: Option<Vec<String>>,
    /// Requests at once to its target.
    pub concurrency: i32,
    /// The target.
    pub checked: Checked,
}

/// Why an integration can't be kept as it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// There is no such integration.
    #[error("there is no such integration")]
    Missing,
    /// Another one of the tenant has its name.
    #[error("another integration of the tenant is named {0} already")]
    Taken(String),
    /// The model of its scope is not known.
    #[error("the tenant has no model {0} {1}, and none below it: it has to be notified of first")]
    NoModel(String, String),
    /// It is not people who decide about it.
    #[error(
        "the source says how {0} is to be, so it is changed there; it can be disabled, and another one be made beside it"
    )]
    Derived(String),
    /// Anything else.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

impl From<tokio_postgres::Error> for ConfigureError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sync(error.into())
    }
}

/// Makes an integration. All models in its scope that were fetched are due.
pub async fn create(
    transaction: &Transaction<'_>,
    sealer: Option<&Sealer>,
    tenant: TenantId,
    wanted: &Wanted,
) -> Result<IntegrationId, ConfigureError> {
    let scope = scope(transaction, tenant, wanted.model.as_ref()).await?;
    let Wanted { name, kind, classes, concurrency, checked, .. } = wanted;
    let sealed = seal(&checked.hidden, sealer, tenant, name)?;
    let sql = "INSERT INTO integratedb.sync_integration
                   (tenant_id, name, model_id, kind, classes, settings, sealed, concurrency)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id";
    let model = scope.map(|model| model.0);
    let row = transaction
        .query_one(
            sql,
            &[&tenant.0, name, &model, kind, classes, &checked.settings, &sealed, concurrency],
        )
        .await
        .map_err(|error| taken(error, name))?;
    let id = IntegrationId(row.get(0));
    make_due(transaction, tenant, id).await?;
    Ok(id)
}

/// What is stored of an integration that has to be kept in mind when it is changed.
pub struct Before {
    kind: String,
    hidden: Value,
    settings: Value,
}

impl Before {
    /// What is secret, if the target is still of this kind: it stays where nothing else is given.
    pub fn hidden(&self, kind: &str) -> Option<&Map<String, Value>> {
        self.hidden.as_object().filter(|_| self.kind == kind)
    }
}

/// Locks an integration that is to be changed until the transaction ends.
pub async fn begin(
    transaction: &Transaction<'_>,
    sealer: Option<&Sealer>,
    tenant: TenantId,
    id: IntegrationId,
) -> Result<Before, ConfigureError> {
    // Before the row is locked, for which whoever appends entries may wait.
    hold_scopes(transaction, tenant).await?;
    let sql = "SELECT name, kind, settings, sealed, is_derived FROM integratedb.sync_integration
               WHERE id = $1 AND tenant_id = $2 FOR NO KEY UPDATE";
    let row = transaction.query_opt(sql, &[&id.0, &tenant.0]).await?;
    let row = row.ok_or(ConfigureError::Missing)?;
    let name: String = row.get(0);
    if row.get(4) {
        return Err(ConfigureError::Derived(name));
    }
    let hidden = open(row.get(3), sealer, tenant, &name)?;
    Ok(Before { kind: row.get(1), hidden, settings: row.get(2) })
}

/// Makes an integration what it is asked to be. If its target or its scope is another, all models in its scope are due;
/// those that are not in it any more stay at the target as they are.
pub async fn replace(
    transaction: &Transaction<'_>,
    sealer: Option<&Sealer>,
    tenant: TenantId,
    id: IntegrationId,
    before: &Before,
    wanted: &Wanted,
) -> Result<(), ConfigureError> {
    let scope = scope(transaction, tenant, wanted.model.as_ref()).await?;
    let Wanted { name, kind, classes, concurrency, checked, .. } = wanted;
    let sealed = seal(&checked.hidden, sealer, tenant, name)?;
    let is_same_target = before.kind == *kind
        && before.settings == checked.settings
        && before.hidden == checked.hidden;
    let sql = "UPDATE integratedb.sync_integration i
               SET name = $2, model_id = $3, kind = $4, classes = $5, settings = $6, sealed = $7, concurrency = $8,
                   version = i.version + 1, updated_at = now()
               FROM integratedb.sync_integration o WHERE i.id = $1 AND o.id = i.id
               RETURNING o.model_id IS NOT DISTINCT FROM i.model_id AND o.classes IS NOT DISTINCT FROM i.classes";
    let model = scope.map(|model| model.0);
    let row = transaction
        .query_one(
            sql,
            &[&id.0, name, &model, kind, classes, &checked.settings, &sealed, concurrency],
        )
        .await
        .map_err(|error| taken(error, name))?;
    let is_same_scope: bool = row.get(0);
    if !is_same_scope {
        let sql = format!(
            "DELETE FROM integratedb.sync_state s
             USING integratedb.sync_integration i, integratedb.sync_model m, integratedb.sync_record r
             WHERE s.integration_id = $1 AND i.id = $1 AND m.id = s.model_id AND r.id = m.record_id AND NOT ({IN_SCOPE})"
        );
        transaction.execute(&sql, &[&id.0]).await?;
    }
    if !is_same_target {
        // Whether the other one has them is not known.
        let sql = "UPDATE integratedb.sync_state SET presence = 'unknown'
                   WHERE (integration_id, model_id) IN (
                       SELECT integration_id, model_id FROM integratedb.sync_state
                       WHERE integration_id = $1 AND presence = 'present' ORDER BY model_id FOR NO KEY UPDATE)";
        transaction.execute(sql, &[&id.0]).await?;
    }
    if !is_same_target || !is_same_scope {
        make_due(transaction, tenant, id).await?;
    }
    Ok(())
}

/// Has an integration push, with all models in its scope due, or stop, after [`hold`]. What is under way then still ends. One
/// that is as it should be is left alone; false of it.
pub async fn set_enabled(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: IntegrationId,
    is_enabled: bool,
) -> Result<bool, ConfigureError> {
    let (from, to) = if is_enabled { ("disabled", "active") } else { ("active", "disabled") };
    let sql = "UPDATE integratedb.sync_integration SET state = $4, updated_at = now()
               WHERE id = $1 AND tenant_id = $2 AND state = $3";
    let is_changed = transaction.execute(sql, &[&id.0, &tenant.0, &from, &to]).await? > 0;
    if is_changed && is_enabled {
        make_due(transaction, tenant, id).await?;
    }
    Ok(is_changed)
}

/// Locks an integration that is to be enabled or disabled until the transaction ends, and gives it.
pub async fn hold(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: IntegrationId,
) -> Result<Integration, ConfigureError> {
    lock(transaction, tenant, id, "FOR NO KEY UPDATE").await
}

/// Locks an integration that is to be removed until the transaction ends, and gives it.
pub async fn begin_removal(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: IntegrationId,
) -> Result<Integration, ConfigureError> {
    // At once as firmly as its removal does.
    lock(transaction, tenant, id, "FOR UPDATE").await
}

async fn lock(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: IntegrationId,
    how: &str,
) -> Result<Integration, ConfigureError> {
    let sql =
        format!("SELECT FROM integratedb.sync_integration WHERE id = $1 AND tenant_id = $2 {how}");
    transaction.query_opt(&sql, &[&id.0, &tenant.0]).await?;
    // Read by a statement that begins with the lock held.
    let found = show(transaction.client(), tenant, id).await.map_err(SyncError::from)?;
    found.ok_or(ConfigureError::Missing)
}

/// Removes an integration with its states. Its target keeps what it has.
pub async fn remove(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    id: IntegrationId,
) -> Result<(), ConfigureError> {
    let sql = "DELETE FROM integratedb.sync_integration WHERE id = $1 AND tenant_id = $2";
    match transaction.execute(sql, &[&id.0, &tenant.0]).await? {
        0 => Err(ConfigureError::Missing),
        _ => Ok(()),
    }
}

/// The model that a scope begins at. One that is known only as a parent becomes a model.
async fn scope(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    model: Option<&Named>,
) -> Result<Option<ModelId>, ConfigureError> {
    let Some(model) = model else { return Ok(None) };
    let sql =
        "SELECT FROM integratedb.sync_record WHERE tenant_id = $1 AND class = $2 AND key = $3";
    if transaction.query_opt(sql, &[&tenant.0, &model.class, &model.key]).await?.is_none() {
        return Err(ConfigureError::NoModel(model.class.clone(), model.key.clone()));
    }
    Ok(Some(ensure(transaction, tenant, model).await?))
}

fn taken(error: tokio_postgres::Error, name: &str) -> ConfigureError {
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => ConfigureError::Taken(name.to_owned()),
        _ => error.into(),
    }
}
