//! What can be set, by a TOML file, the environment (`INTEGRATEDB_…`) and flags; the later wins.

use std::net::SocketAddr;
use std::path::Path;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::notify::NotificationSettings;
use crate::oauth::OAuthSettings;
use crate::proxy::{CacheId, CacheSettings, Caches, ProxySettings};
use crate::secret::Secret;
use crate::sync::SyncSettings;
use crate::workspaces::WorkspaceSettings;

/// The settings of `integratedb serve`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the REST API listens.
    pub listen: SocketAddr,
    /// The database that has the extension, as a libpq URL or key/value string.
    pub database_url: Secret<String>,
    /// The most connections held to it.
    pub database_connections: usize,
    /// Seconds to wait at start for the database to answer.
    pub database_wait_secs: u64,
    /// Seconds after which a statement of the sidecar is given up.
    pub statement_timeout_secs: u64,
    /// Seconds after which a request is given up, whatever it waits for.
    pub request_timeout_secs: u64,
    /// Seconds for which a client of the REST API may take nothing of what is sent to it; then its connection is cut.
    pub write_timeout_secs: u64,
    /// The largest request body in bytes; a larger one is answered with 413.
    pub max_body_bytes: usize,
    /// Seconds for which a token is valid.
    pub token_secs: u32,
    /// Seconds for which a refresh token is valid.
    pub refresh_token_secs: u32,
    /// Logins at once for one user name before it has to wait; one a minute comes back, and that of a right
    /// password at once.
    pub login_attempts_per_user: u32,
    /// The same for one client address, or /64 network of IPv6 addresses.
    pub login_attempts_per_address: u32,
    /// The networks of the proxies in front of the REST API. What they say in `X-Forwarded-For` is where a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Requests of one token a minute to the REST API, or, of those without a valid one, of one client address; 0 for any
    /// number.
    pub requests_per_minute: u32,
    /// As many of them at once.
    pub request_burst: u32,
    /// Seconds that requests under way get to finish when the sidecar is told to stop.
    pub drain_secs: u64,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// What is logged, as a tracing filter: `info`, `integratedb_sidecar=debug`.
    pub log: String,
    /// The proxy, if there is one.
    pub proxy: ProxySettings,
    /// The caches it serves, by their ids.
    pub caches: Caches,
    /// Notifications.
    pub notifications: NotificationSettings,
    /// Sync.
    pub sync: SyncSettings,
    /// Workspaces and the caches that are made over REST.
    pub workspaces: WorkspaceSettings,
    /// The authorization server for applications of third parties.
    pub oauth: OAuthSettings,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4000)),
            database_url: Secret::default(),
            database_connections: 8,
            database_wait_secs: 30,
            statement_timeout_secs: 60,
            request_timeout_secs: 120,
            write_timeout_secs: 30,
            max_body_bytes: 4 << 20,
            token_secs: 4 * 3600,
            refresh_token_secs: 12 * 3600,
            login_attempts_per_user: 10,
            login_attempts_per_address: 100,
            trusted_proxies: Vec::new(),
            requests_per_minute: 6000,
            request_burst: 1000,
            drain_secs: 10,
            log_format: LogFormat::Text,
            log: "info".to_owned(),
            proxy: ProxySettings::default(),
            caches: Caches::new(),
            notifications: NotificationSettings::default(),
            sync: SyncSettings::default(),
            workspaces: WorkspaceSettings::default(),
            oauth: OAuthSettings::default(),
        }
    }
}

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or variable with a wrong name or value; the message names it.
    #[error("the configuration can't be used: {0}")]
    Invalid(#[from] Box<figment::Error>),
    /// Nothing says which database.
    #[error(
        "no database is named; give --database postgres://USER@HOST/DATABASE, set INTEGRATEDB_DATABASE_URL, \
         or put database_url into the configuration file"
    )]
    NoDatabase,
    /// The setting `log` is not a filter.
    #[error("the setting log can't be used: {0}")]
    Filter(String),
    /// The database's URL can't be read.
    #[error("database_url can't be used: {0}")]
    Origin(String),
    /// The file named by a flag is not there.
    #[error("there is no configuration file {0}")]
    NoFile(String),
}

const PREFIX: &str = "INTEGRATEDB_";

/// The settings' names. Only these are read from the environment: others may have put something there whose
/// name begins alike, as Kubernetes does for a service called `integratedb`.
const NAMES: &[&str] = &[
    "listen",
    "database_url",
    "database_connections",
    "database_wait_secs",
    "statement_timeout_secs",
    "request_timeout_secs",
    "write_timeout_secs",
    "max_body_bytes",
    "token_secs",
    "refresh_token_secs",
    "login_attempts_per_user",
    "login_attempts_per_address",
    "trusted_proxies",
    "requests_per_minute",
    "request_burst",
    "drain_secs",
    "log_format",
    "log",
    "proxy",
    "caches",
    "notifications",
    "sync",
    "workspaces",
    "oauth",
];

/// Of these, what only a file can hold.
const FILE_ONLY: &[&str] =
    &["trusted_proxies", "proxy", "caches", "notifications", "sync", "workspaces", "oauth"];

/// Of the section `proxy`, what the environment may say, as `INTEGRATEDB_PROXY_…`.
const PROXY_NAMES: &[&str] = &["listen", "default_cache", "workers", "max_clients", "login_secs"];

const PROXY_PREFIX: &str = "INTEGRATEDB_PROXY_";

/// Those of the names of variables that look like a setting and are none; worth a warning, as they may be
/// misspelt.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let is_unknown = |name: &String| {
        name.strip_prefix(PREFIX).is_some_and(|setting| {
            let setting = setting.to_lowercase();
            let of_proxy = setting.strip_prefix("proxy_").is_some_and(|s| PROXY_NAMES.contains(&s));
            let is_known =
                NAMES.contains(&setting.as_str()) && !FILE_ONLY.contains(&setting.as_str());
            setting != "config" && !of_proxy && !is_known
        })
    };
    let mut unknown: Vec<String> = names.filter(is_unknown).collect();
    unknown.sort();
    unknown
}

impl Config {
    /// Reads the file if one is named, then the environment, then `flags` (only the ones given).
    pub fn load<F: Serialize>(file: Option<&Path>, flags: &F) -> Result<Self, ConfigError> {
        let mut figment = Figment::new();
        if let Some(file) = file {
            if !file.is_file() {
                return Err(ConfigError::NoFile(file.display().to_string()));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let config: Self = figment
            .merge(Env::prefixed(PREFIX).only(NAMES).ignore(FILE_ONLY))
            .merge(
                Env::prefixed(PROXY_PREFIX)
                    .only(PROXY_NAMES)
                    .map(|name| format!("proxy.{name}").into()),
            )
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(Box::new)?;
        if config.database_url.expose_secret().is_empty() {
            return Err(ConfigError::NoDatabase);
        }
        config.with_default_cache()
    }

    /// A proxy without any cache gets one for the sidecar's own database: the shortest way to a first connection.
    fn with_default_cache(mut self) -> Result<Self, ConfigError> {
        if self.proxy.listen.is_some() && self.caches.is_empty() {
            let origin = crate::proxy::origin_of(self.database_url.expose_secret())
                .map_err(ConfigError::Origin)?;
            let id = CacheId::try_from("default".to_owned()).expect("it is a valid id");
            self.caches.insert(id.clone(), CacheSettings::new(origin));
            self.proxy.default_cache.get_or_insert(id);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Serialize)]
    struct Flags {
        #[serde(skip_serializing_if = "Option::is_none")]
        database_url: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_body_bytes: Option<usize>,
    }

    #[test]
    fn a_flag_wins_over_a_file_and_the_rest_has_defaults() {
        let file = std::env::temp_dir().join(format!("integratedb-config-{}", std::process::id()));
        std::fs::write(
            &file,
            "database_url = 'postgres://file'\nmax_body_bytes = 1\ndrain_secs = 3",
        )
        .expect("the temp dir is writable");
        let flags = Flags { max_body_bytes: Some(2), ..Flags::default() };
        let config = Config::load(Some(&file), &flags).expect("valid");
        assert_eq!(config.database_url.expose_secret(), "postgres://file");
        assert_eq!((config.max_body_bytes, config.drain_secs), (2, 3));
        assert_eq!(config.token_secs, 14_400);
        assert!(!format!("{config:?}").contains("postgres://file"));
        std::fs::remove_file(file).expect("it was just written");
    }

    #[test]
    fn the_names_are_those_of_the_fields() {
        let error = Figment::from(Serialized::default("no_such_setting", 1))
            .extract::<Config>()
            .expect_err("an unknown field");
        match error.kind {
            figment::error::Kind::UnknownField(_, fields) => assert_eq!(fields, NAMES),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_misspelt_variables_are_worth_a_warning() {
        let names = ["INTEGRATEDB_LOG", "INTEGRATEDB_CONFIG", "INTEGRATEDB_DRAIN_SEC", "PATH"];
        let unknown = unknown_variables(names.into_iter().map(str::to_owned));
        assert_eq!(unknown, ["INTEGRATEDB_DRAIN_SEC"]);
    }

    #[test]
    fn a_proxy_without_caches_gets_one_for_the_database() {
        let file = std::env::temp_dir().join(format!("integratedb-proxy-{}", std::process::id()));
        std::fs::write(
            &file,
            "database_url = 'postgres://u:secret@h:1/d?sslmode=require'\n[proxy]\nlisten = '127.0.0.1:0'",
        )
        .expect("writable");
        let config = Config::load(Some(&file), &Flags::default()).expect("valid");
        let (id, cache) = config.caches.first_key_value().expect("there is one");
        assert_eq!(Some(id), config.proxy.default_cache.as_ref());
        assert_eq!(cache.origin, "host='h' port='1' sslmode='require'");
        std::fs::remove_file(file).expect("it was just written");
    }

    #[test]
    fn a_misspelt_setting_in_a_file_is_an_error() {
        let file = std::env::temp_dir().join(format!("integratedb-typo-{}", std::process::id()));
        std::fs::write(&file, "database_url = 'x'\ndrain_sec = 3").expect("writable");
        let error = Config::load(Some(&file), &Flags::default()).expect_err("a typo");
        assert!(error.to_string().contains("drain_sec"), "{error}");
        std::fs::remove_file(file).expect("it was just written");
    }

    #[test]
    fn without_a_database_it_says_how_to_name_one() {
        let error = Config::load(None, &Flags::default()).expect_err("no database");
        assert!(error.to_string().contains("INTEGRATEDB_DATABASE_URL"));
    }
}
