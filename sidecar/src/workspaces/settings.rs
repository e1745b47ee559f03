//! What can be set about workspaces and their caches; the section `[workspaces]` of the configuration file.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

/// The section `[workspaces]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkspaceSettings {
    /// Networks that are not for everybody, and that the origins of workspaces' caches may be in all the same.
    pub allow_networks: Vec<IpNet>,
    /// The host that clients of caches connect to, for connection strings; unless told, the address that the proxy
    /// listens on.
    pub hostname: Option<String>,
    /// The port that they connect to; unless told, the one that the proxy listens on.
    pub port: Option<u16>,
    /// The most workspaces that one user may own.
    pub max_workspaces: u32,
    /// The most caches of a workspace.
    pub max_caches: u32,
    /// The most caches of all workspaces together.
    pub max_caches_total: u32,
    /// The most memory that the settings of a workspace's cache may ask for, in bytes.
    pub max_cache_bytes: usize,
    /// The most memory that the caches of all workspaces may ask for together, in bytes.
    pub max_total_bytes: usize,
    /// The most clients that the caches of one workspace have together.
    pub max_clients: usize,
    /// The most that the caches of all workspaces have together.
    pub max_clients_total: usize,
    /// Bytes of the texts and names of prepared statements that the clients of one workspace's caches have, altogether.
    pub max_statement_bytes: usize,
    /// Of those of all workspaces.
    pub max_statement_bytes_total: usize,
    /// A file with 32 bytes, or 64 hexadecimal digits: what credentials in the settings of caches are sealed with.
    pub key_file: Option<PathBuf>,
    /// Days that the audit log is kept; 0 is for ever.
    pub audit_days: u32,
}

impl Default for WorkspaceSettings {
    fn default() -> Self {
        Self {
            allow_networks: Vec::new(),
            hostname: None,
            port: None,
            max_workspaces: 20,
            max_caches: 100,
            max_caches_total: 10_000,
            max_cache_bytes: 256 << 20,
            max_total_bytes: 1 << 30,
            max_clients: 1000,
            max_clients_total: 5000,
            max_statement_bytes: 64 << 20,
            max_statement_bytes_total: 1 << 30,
            key_file: None,
            audit_days: 400,
        }
    }
}
