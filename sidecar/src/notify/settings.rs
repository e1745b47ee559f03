//! What can be set about notifications: the section `[notifications]`.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::seal::{Purpose, Sealer};
use crate::secret::Secret;

/// The section `[notifications]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NotificationSettings {
    /// Whether this sidecar reads and delivers. One that doesn't still takes specs.
    pub enabled: bool,
    /// The database with a role that has REPLICATION; as a rule, and by default, that of `database_url`.
    pub url: Option<Secret<String>>,
    /// The slot, to which the number of the log's epoch is added. By default with the database's OID.
    pub slot_name: Option<String>,
    /// Seconds for which changes are kept for those who come back.
    pub retention_secs: u64,
    /// The most bytes the log may take, compressed. Beyond it the oldest go, delivered or not, and whoever lacks them is
    /// told of the gap.
    pub max_log_bytes: u64,
    /// Bytes of the log's end that are held in memory.
    pub memory_bytes: usize,
    /// The most sockets at once.
    pub max_sockets: usize,
    /// Seconds between heartbeats of a socket. A WebSocket that does not answer for three of them is closed.
    pub heartbeat_secs: u64,
    /// Rows a second that a backfill reads at most; 0 for as many as it can.
    pub backfill_rows_per_sec: u64,
    /// A file with the key by which secrets of channels are encrypted in the database: 64 hexadecimal digits.
    pub key_file: Option<PathBuf>,
    /// Private networks that webhooks may reach all the same, such as `127.0.0.0/8`. Without TLS too.
    pub allow_networks: Vec<IpNet>,
    /// Whether webhooks may go without TLS to any address that they may reach.
    pub allow_http: bool,
}

impl NotificationSettings {
    /// What secrets of channels are sealed with; none without a key file. The error says what is wrong with the file.
    pub fn sealer(&self) -> Result<Option<Sealer>, String> {
        let Some(file) = &self.key_file else { return Ok(None) };
        Sealer::from_file(Purpose::Channels, file)
            .map(Some)
            .map_err(|why| format!("notifications.key_file {}: {why}", file.display()))
    }
}

impl Default for NotificationSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            url: None,
            slot_name: None,
            retention_secs: 7 * 24 * 3600,
            max_log_bytes: 8 << 30,
            memory_bytes: 64 << 20,
            max_sockets: 1000,
            heartbeat_secs: 15,
            backfill_rows_per_sec: 0,
            key_file: None,
            allow_networks: Vec::new(),
            allow_http: false,
        }
    }
}

impl NotificationSettings {
    /// The time between heartbeats.
    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_secs.clamp(1, 3600))
    }
}
