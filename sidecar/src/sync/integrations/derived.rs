//! Integrations that an entry asks for, as Zync's proxies do.

use deadpool_postgres::Transaction;
use serde_json::{Value, json};

use super::{make_due, open, seal};
use crate::seal::Sealer;
use crate::sync::accept;
use crate::sync::error::SyncError;
use crate::sync::ids::{IntegrationId, TenantId};
use crate::sync::source::Derived;
use crate::sync::target;
use crate::sync::work::Named;

/// The classes that such an integration is for, as Zync has them.
const CLASSES: &[&str] = &["Client", "Proxy"];

/// Stores what an entry says about the integration of a model above it. Others that came this way are disabled. A new one gets
/// so many requests at once.
pub(in crate::sync) async fn store(
    transaction: &Transaction<'_>,
    sealer: Option<&Sealer>,
    tenant: TenantId,
    derived: &Derived,
    concurrency: i32,
) -> Result<(), SyncError> {
    let (Derived::Push { model, .. } | Derived::Nowhere { model }) = derived;
    let scope = accept::ensure(transaction, tenant, model).await?;
    let wanted = match derived {
        Derived::Nowhere { .. } => None,
        Derived::Push { kind, endpoint, .. } => {
            let settings = json!({ "endpoint": endpoint.expose_secret() });
            match target::check(kind, &settings) {
                Ok(checked) => Some((kind.as_str(), checked)),
                Err(mistakes) => {
                    let why: Vec<String> = mistakes.into_iter().map(|(what, _)| what).collect();
                    tracing::warn!(
                        tenant = tenant.0,
                        class = model.class,
                        key = model.key,
                        why = why.join(" "),
                        "an entry names a target that can't be used; its models go nowhere"
                    );
                    None
                }
            }
        }
    };
    let name = wanted.as_ref().map(|(kind, _)| name(kind, model));
    transaction
        .execute(
            "UPDATE integratedb.sync_integration SET state = 'disabled', updated_at = now()
             WHERE tenant_id = $1 AND model_id = $2 AND is_derived AND state = 'active'
               AND name IS DISTINCT FROM $3",
            &[&tenant.0, &scope.0, &name],
        )
        .await?;
    let (Some((kind, checked)), Some(name)) = (wanted, name) else { return Ok(()) };
    if is_stored(transaction, sealer, tenant, &name, &checked).await? {
        return Ok(());
    }
    let sealed = seal(&checked.hidden, sealer, tenant, &name)?;
    let row = transaction
        .query_one(
            "INSERT INTO integratedb.sync_integration AS i
                 (tenant_id, name, model_id, kind, classes, settings, sealed, is_derived, concurrency)
             VALUES ($1, $2, $3, $4, $5, $6, $7, true, $8)
             ON CONFLICT (tenant_id, name) DO UPDATE
             SET settings = EXCLUDED.settings, sealed = EXCLUDED.sealed, state = 'active', version = i.version + 1,
                 updated_at = now()
             RETURNING id",
            &[&tenant.0, &name, &scope.0, &kind, &CLASSES, &checked.settings, &sealed, &concurrency],
        )
        .await?;
    make_due(transaction, tenant, IntegrationId(row.get(0))).await
}

fn name(kind: &str, model: &Named) -> String {
    format!("{kind} of {} {}", model.class, model.key)
}

/// Whether it is there, active, and as it should be.
async fn is_stored(
    transaction: &Transaction<'_>,
    sealer: Option<&Sealer>,
    tenant: TenantId,
    name: &str,
    checked: &target::Checked,
) -> Result<bool, SyncError> {
    let row = transaction
        .query_opt(
            "SELECT settings, sealed FROM integratedb.sync_integration
             WHERE tenant_id = $1 AND name = $2 AND state = 'active' FOR NO KEY UPDATE",
            &[&tenant.0, &name],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let hidden = open(row.get(1), sealer, tenant, name).unwrap_or(Value::Null);
    Ok(row.get::<_, Value>(0) == checked.settings && hidden == checked.hidden)
}
