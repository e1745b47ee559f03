//! What is secret of an integration.

use serde_json::{Value, json};

use crate::seal::Sealer;
use crate::sync::error::SyncError;
use crate::sync::ids::TenantId;

/// What it is sealed under. No other integration's can be put in its place.
fn name(tenant: TenantId, integration: &str) -> String {
    format!("integration {tenant} {integration}")
}

/// As it is stored: nothing if there is nothing secret.
pub(crate) fn seal(
    hidden: &Value,
    sealer: Option<&Sealer>,
    tenant: TenantId,
    integration: &str,
) -> Result<Option<Vec<u8>>, SyncError> {
    if hidden.as_object().is_none_or(serde_json::Map::is_empty) {
        return Ok(None);
    }
    let sealer = sealer.ok_or_else(|| {
        SyncError::Key("credentials can't be stored without a key: set sync.key_file".to_owned())
    })?;
    Ok(Some(sealer.seal(name(tenant, integration).as_bytes(), hidden.to_string().as_bytes())))
}

/// What was stored.
pub(crate) fn open(
    sealed: Option<&[u8]>,
    sealer: Option<&Sealer>,
    tenant: TenantId,
    integration: &str,
) -> Result<Value, SyncError> {
    let Some(sealed) = sealed else { return Ok(json!({})) };
    let opened =
        sealer.and_then(|sealer| sealer.open(name(tenant, integration).as_bytes(), sealed));
    let bytes = opened.ok_or_else(|| {
        let what = "the credentials of the integration can't be opened: sync.key_file is missing or another than they \
                    were sealed with";
        SyncError::Key(what.to_owned())
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        SyncError::Unexpected(format!("the credentials of the integration: {error}"))
    })
}
