//! What can be set about sync: the section `[sync]`.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::seal::{Purpose, Sealer};
use crate::secret::Secret;

/// The section `[sync]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyncSettings {
    /// Whether this sidecar fetches and pushes. One that doesn't still takes notifications.
    pub enabled: bool,
    /// What `PUT /notification` and `PUT /tenant` ask for; without it they are refused.
    pub token: Option<Secret<String>>,
    /// Fetches and pushes at once.
    pub workers: usize,
    /// The most connections to the database that sync holds, besides those of the REST API.
    pub connections: usize,
    /// Fetches for one tenant that are taken at once, those with them that wait for a worker.
    pub workers_per_tenant: usize,
    /// The same of pushes to one target, unless its integration says otherwise.
    pub workers_per_integration: usize,
    /// Seconds for a fetch or a push.
    pub timeout_secs: u64,
    /// Seconds between a failure and the next attempt, the first time; each one after waits twice as long.
    pub retry_secs: u64,
    /// The longest of these waits.
    pub max_retry_secs: u64,
    /// Milliseconds between looks for what other sidecars have left.
    pub poll_millis: u64,
    /// Seconds for which notifications and entries are kept, other than those that still count.
    pub retention_secs: u64,
    /// A file with the key by which tokens, credentials and entries of APIs are encrypted in the database: 64 hexadecimal
    /// digits.
    pub key_file: Option<PathBuf>,
    /// Private networks that may be reached all the same, such as `127.0.0.0/8`. Without TLS too.
    pub allow_networks: Vec<IpNet>,
    /// Whether addresses that may be reached may be without TLS.
    pub allow_http: bool,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            token: None,
            workers: 32,
            connections: 10,
            workers_per_tenant: 16,
            workers_per_integration: 16,
            timeout_secs: 10,
            retry_secs: 1,
            max_retry_secs: 300,
            poll_millis: 500,
            retention_secs: 7 * 24 * 3600,
            key_file: None,
            allow_networks: Vec::new(),
            allow_http: false,
        }
    }
}

impl SyncSettings {
    /// What secrets and entries are sealed with; none without a key file. The error says what is wrong with the file.
    pub fn sealer(&self) -> Result<Option<Sealer>, String> {
        let Some(file) = &self.key_file else { return Ok(None) };
        Sealer::from_file(Purpose::Sync, file)
            .map(Some)
            .map_err(|why| format!("sync.key_file {}: {why}", file.display()))
    }

    /// How long a fetch or a push may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_secs.clamp(1, 600))
    }
}
