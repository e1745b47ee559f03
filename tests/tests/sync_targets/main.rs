//! Targets of sync, against real servers: an OpenID provider, a second Postgres, and servers that answer as documented.

mod http;
mod keycloak;
mod postgres;
mod provider;
mod rest;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use integratedb_sidecar::reach::Reach;
use integratedb_sidecar::sync::target::{Target, check, open};
use integratedb_sidecar::sync::{
    Data, EntryId, IntegrationId, ModelId, Named, Push, SyncSettings, TenantId,
};
use serde_json::Value;

/// The target that these settings make, with loopback allowed.
fn target(kind: &str, settings: &Value) -> Result<Arc<dyn Target>> {
    target_within(kind, settings, Duration::from_secs(10))
}

fn target_within(kind: &str, settings: &Value, timeout: Duration) -> Result<Arc<dyn Target>> {
    let checked = check(kind, settings).map_err(|mistakes| anyhow!("{mistakes:?}"))?;
    let allow_networks = support::loopback();
    let reach = Reach::from(&SyncSettings { allow_networks, ..SyncSettings::default() });
    open(kind, &checked.settings, &checked.hidden, &reach, timeout).map_err(|why| anyhow!(why))
}

fn data(value: &Value) -> Data {
    serde_json::value::to_raw_value(value).expect("a value is JSON").into()
}

/// An entry that says what the model is.
fn upsert(class: &str, key: &str, entry: i64, value: &Value) -> Push {
    Push {
        integration: IntegrationId(7),
        id: ModelId(3),
        tenant: TenantId(16),
        model: Named { class: class.to_owned(), key: key.to_owned() },
        parent: None,
        entry: EntryId(entry),
        data: Some(data(value)),
        last_data: None,
        attempts: 1,
    }
}

/// An entry that says that it is gone.
fn gone(class: &str, key: &str, entry: i64, last: Option<&Value>) -> Push {
    let push = upsert(class, key, entry, &Value::Null);
    Push { data: None, last_data: last.map(data), ..push }
}

/// The message of a push that has to fail.
async fn refusal(target: &dyn Target, push: &Push) -> Result<String> {
    match target.push(push).await {
        Ok(()) => Err(anyhow!("it went well")),
        Err(error) => Ok(error.message),
    }
}
