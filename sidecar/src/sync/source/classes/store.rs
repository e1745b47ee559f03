//! Classes that a tenant has defined, as they are stored.

use serde_json::Value;
use tokio_postgres::Client;

use super::class::Classes;
use super::definition::define;
use crate::sync::error::SyncError;
use crate::sync::ids::TenantId;

const OF_TENANT: &str = "SELECT name, definition FROM integratedb.sync_class WHERE tenant_id = $1";

/// The classes of a tenant whose models come from an API. A definition that can't be read, since it was checked by other
/// rules, takes nothing but its own class away.
pub async fn load(client: &Client, tenant: TenantId) -> Result<Classes, SyncError> {
    let mut own = Vec::new();
    for row in client.query(OF_TENANT, &[&tenant.0]).await? {
        let (name, definition): (String, Value) = (row.get(0), row.get(1));
        match define(&name, &definition) {
            Ok(class) => own.push(class),
            Err(mistakes) => {
                let why: Vec<String> = mistakes
                    .into_iter()
                    .map(|(message, pointer)| format!("{pointer}: {message}"))
                    .collect();
                tracing::error!(%tenant, class = name, why = why.join("; "), "a class can't be read");
            }
        }
    }
    Ok(Classes::with(own))
}
