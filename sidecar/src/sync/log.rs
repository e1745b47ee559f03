//! How an entry's data is kept: of an API sealed, since it holds what may be used to sign in; of a table as it is, since it
//! is there as well.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::error::SyncError;
use super::ids::{ModelId, TenantId};
use super::work::Data;
use crate::seal::Sealer;

/// What an entry is sealed under. No other model's can be put in its place.
fn name(tenant: TenantId, model: ModelId) -> String {
    format!("entry {tenant} {model}")
}

/// How data is stored.
pub(super) fn seal(
    data: &Data,
    tenant: TenantId,
    model: ModelId,
    sealer: Option<&Sealer>,
) -> Result<Vec<u8>, SyncError> {
    let sealer = sealer.ok_or_else(no_key)?;
    Ok(sealer.seal(name(tenant, model).as_bytes(), data.get().as_bytes()))
}

/// What is stored of an entry, as data.
pub(crate) fn open(
    plain: Option<String>,
    sealed: Option<&[u8]>,
    tenant: TenantId,
    model: ModelId,
    sealer: Option<&Sealer>,
) -> Result<Option<Data>, SyncError> {
    let text = match (plain, sealed) {
        (None, None) => return Ok(None),
        (Some(text), _) => text,
        (None, Some(sealed)) => {
            let bytes = sealer.ok_or_else(no_key)?.open(name(tenant, model).as_bytes(), sealed);
            let other = || {
                SyncError::Key(
                    "an entry can't be opened: sync.key_file is another than it was sealed with"
                        .to_owned(),
                )
            };
            String::from_utf8(bytes.ok_or_else(other)?).map_err(|_| other())?
        }
    };
    let data = RawValue::from_string(text)
        .map_err(|error| SyncError::Unexpected(format!("an entry is no JSON: {error}")))?;
    Ok(Some(Arc::from(data)))
}

fn no_key() -> SyncError {
    SyncError::Key(
        "sync.key_file is not set, and without it nothing of an API can be stored or read"
            .to_owned(),
    )
}
