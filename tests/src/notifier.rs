//! What tells a sidecar of an API's tenants.

use std::io::Write;

use anyhow::Result;
use integratedb_sidecar::Config;
use integratedb_sidecar::secret::Secret;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{Reply, Sidecar};

/// What it calls with.
const TOKEN: &str = "n0tifier";

/// What the API of a tenant asks for, unless told otherwise.
const ACCESS: &str = "acc3ss";

/// A file with a key, which has an end with this.
pub fn key_file() -> Result<NamedTempFile> {
    // Nobody else may read it.
    let mut key = NamedTempFile::new()?;
    key.write_all("ab".repeat(32).as_bytes())?;
    Ok(key)
}

/// Has a sidecar listen to the notifier, and reach APIs of this machine.
pub fn be_notified(config: &mut Config, key: &NamedTempFile) {
    config.sync.token = Some(Secret::new(TOKEN.to_owned()));
    config.sync.key_file = Some(key.path().to_owned());
    config.sync.allow_networks = "127.0.0.0/8".parse().into_iter().collect();
}

/// PUT as the notifier.
pub async fn say(sidecar: &Sidecar, path: &str, body: &Value) -> Result<Reply> {
    let request = sidecar.http().put(sidecar.url(path)).json(body);
    let form = format!("Token token=\"{TOKEN}\"");
    Reply::of(request.header("authorization", form).send().await?).await
}

/// Tells of a tenant, whose API is there.
pub async fn say_tenant(sidecar: &Sidecar, id: i64, endpoint: &str) -> Result<()> {
    let tenant = json!({"tenant": {"id": id, "endpoint": endpoint, "access_token": ACCESS}});
    let said = say(sidecar, "/tenant", &tenant).await?;
    anyhow::ensure!(said.status.is_success(), "{said:?}");
    Ok(())
}
