//! What can be set about the proxy and its caches; parts of the configuration file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::share::Share;
use crate::cache::CachingSettings;
use crate::reach::Reach;
use crate::secret::Secret;

/// The name of a cache: letters, digits, `_`, `-` and `.`, at most 63 of them, so that it fits into an
/// `application_name`.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "String")]
pub struct CacheId(String);

impl CacheId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A new one, for a cache that is made over REST.
    pub(crate) fn random() -> Self {
        Self(format!("{MADE}{}", hex::encode(super::random::bytes::<16>())))
    }

    /// Whether it looks like one that [`CacheId::random`] has made. Whoever names such a one means that cache and no other.
    pub(crate) fn is_random(&self) -> bool {
        self.0.strip_prefix(MADE).is_some_and(|digits| {
            digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }
}

/// What the ids of caches begin with that are made over REST.
const MADE: &str = "cache-";

impl std::fmt::Display for CacheId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CacheId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if (1..=63).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text))
        } else {
            Err("the id of a cache has 1 to 63 letters, digits, underscores, hyphens or dots"
                .to_owned())
        }
    }
}

/// The caches of a configuration, by their ids.
pub type Caches = BTreeMap<CacheId, CacheSettings>;

/// The section `[proxy]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySettings {
    /// Where Postgres clients connect; without it there is no proxy.
    pub listen: Option<SocketAddr>,
    /// The cache of clients that name none.
    pub default_cache: Option<CacheId>,
    /// Threads that pass queries on.
    pub workers: usize,
    /// The most clients at once; one more is refused.
    pub max_clients: usize,
    /// Seconds a client has to connect and log in.
    pub login_secs: u64,
    /// Certificate and key for clients that want TLS.
    pub tls: Option<TlsSettings>,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            listen: None,
            default_cache: None,
            workers: 1,
            max_clients: 10_000,
            login_secs: 60,
            tls: None,
        }
    }
}

/// The section `[proxy.tls]`: how clients may encrypt. The files are read again on SIGHUP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// A PEM file: the certificate, then those between it and its root.
    pub certificate: PathBuf,
    /// A PEM file: the certificate's key.
    pub key: PathBuf,
    /// Refuses clients without TLS.
    #[serde(default)]
    pub required: bool,
    /// A PEM file of roots; clients then have to show a certificate that one of them signed.
    pub client_ca: Option<PathBuf>,
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// To the origin, through the proxy, which only looks on.
    #[default]
    Passthrough,
    /// To the proxy, by SCRAM-SHA-256 and the origin's own verifiers.
    Scram,
}

/// How long a client keeps a connection to the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PoolMode {
    /// Until it disconnects.
    #[default]
    Session,
    /// For one transaction.
    Transaction,
}

/// A section `[caches.ID]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSettings {
    /// The Postgres behind it: a URL or key/value string with hosts, ports, sslmode, sslrootcert and
    /// target_session_attrs; never a user, password or database.
    pub origin: String,
    /// How clients prove who they are.
    #[serde(default)]
    pub auth: Auth,
    /// Where `auth_query` is run, with the user who may.
    pub auth_url: Option<Secret<String>>,
    /// Gives a row of name and verifier for a user name.
    #[serde(default = "auth_query")]
    pub auth_query: String,
    /// How long a client keeps a connection to the origin. `transaction` needs `auth = "scram"`.
    #[serde(default)]
    pub pool_mode: PoolMode,
    /// The most connections to the origin of one user, database and set of startup options.
    #[serde(default = "pool_size")]
    pub pool_size: usize,
    /// The most connections to the origin altogether; 0 is no limit.
    #[serde(default)]
    pub max_origin_connections: usize,
    /// Seconds a query waits for a connection to the origin.
    #[serde(default = "query_wait_secs")]
    pub query_wait_secs: u64,
    /// Seconds to connect to one host of the origin and log in there.
    #[serde(default = "connect_secs")]
    pub connect_secs: u64,
    /// Seconds after which a client that says nothing, outside of a transaction, is disconnected; 0 is never.
    #[serde(default)]
    pub idle_client_secs: u64,
    /// Seconds after which a client that says nothing inside a transaction is disconnected; 0 is never.
    #[serde(default)]
    pub idle_transaction_secs: u64,
    /// Seconds after which a query is cancelled and its client disconnected; 0 is never.
    #[serde(default)]
    pub query_secs: u64,
    /// Seconds after which a connection to the origin that nobody uses is closed; 0 is never.
    #[serde(default = "origin_idle_secs")]
    pub origin_idle_secs: u64,
    /// Seconds after which a connection to the origin is not used again; 0 is never.
    #[serde(default = "origin_lifetime_secs")]
    pub origin_lifetime_secs: u64,
    /// What makes a connection to the origin as new, for the next client.
    #[serde(default = "server_reset_query")]
    pub server_reset_query: String,
    /// Prepared statements kept on one connection to the origin; the one unused for longest goes first.
    #[serde(default = "max_prepared_statements")]
    pub max_prepared_statements: usize,
    /// Bytes of the texts and names of prepared statements that clients have, altogether; beyond, none gets a name.
    #[serde(default = "max_statement_bytes")]
    pub max_statement_bytes: usize,
    /// Templates whose figures are kept; what is beyond is counted together.
    #[serde(default = "max_templates")]
    pub max_templates: usize,
    /// What is kept of its answers; without it, nothing is.
    #[serde(default)]
    pub caching: Option<CachingSettings>,
    /// Where its origin may be: of a cache that was made over REST, only where `[workspaces]` says.
    #[serde(skip)]
    pub reach: Option<Reach>,
    /// What its clients count towards: of a cache that was made over REST, its workspace's.
    #[serde(skip)]
    pub share: Option<Arc<Share>>,
}

fn auth_query() -> String {
    include_str!("auth_query.sql").to_owned()
}
const fn pool_size() -> usize {
    20
}
const fn query_wait_secs() -> u64 {
    120
}
const fn connect_secs() -> u64 {
    15
}
const fn origin_idle_secs() -> u64 {
    600
}
const fn origin_lifetime_secs() -> u64 {
    3600
}
fn server_reset_query() -> String {
    "DISCARD ALL".to_owned()
}
const fn max_prepared_statements() -> usize {
    1000
}
const fn max_statement_bytes() -> usize {
    256 << 20
}
const fn max_templates() -> usize {
    5000
}

impl CacheSettings {
    /// The settings that are needed, with defaults for the others.
    pub fn new(origin: impl Into<String>) -> Self {
        Self {
            origin: origin.into(),
            auth: Auth::default(),
            auth_url: None,
            auth_query: auth_query(),
            pool_mode: PoolMode::default(),
            pool_size: pool_size(),
            max_origin_connections: 0,
            query_wait_secs: query_wait_secs(),
            connect_secs: connect_secs(),
            idle_client_secs: 0,
            idle_transaction_secs: 0,
            query_secs: 0,
            origin_idle_secs: origin_idle_secs(),
            origin_lifetime_secs: origin_lifetime_secs(),
            server_reset_query: server_reset_query(),
            max_prepared_statements: max_prepared_statements(),
            max_statement_bytes: max_statement_bytes(),
            max_templates: max_templates(),
            caching: None,
            reach: None,
            share: None,
        }
    }

    /// What contradicts itself.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.pool_mode == PoolMode::Transaction && self.auth == Auth::Passthrough {
            return Err(
                "pool_mode = \"transaction\" needs auth = \"scram\": a connection that a client opened \
                        with a password of its own can't serve another",
            );
        }
        if self.auth == Auth::Scram && self.auth_url.is_none() {
            return Err("auth = \"scram\" needs an auth_url, of a user who may read verifiers");
        }
        if self.max_statement_bytes == 0 {
            return Err("max_statement_bytes has to be at least 1");
        }
        if self.pool_size == 0 {
            return Err("pool_size has to be at least 1");
        }
        self.caching.as_ref().map_or(Ok(()), CachingSettings::check)
    }
}

/// A number of seconds where 0 stands for never.
pub(crate) fn limit(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_to_fit_into_an_application_name() {
        for bad in ["", "a b", "a/b", &"x".repeat(64)] {
            assert!(CacheId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert!(CacheId::try_from("shop-1.eu_west".to_owned()).is_ok_and(|id| !id.is_random()));
        let made = CacheId::random();
        assert!(made.is_random() && CacheId::try_from(made.as_str().to_owned()) == Ok(made));
    }

    #[test]
    fn pooling_needs_authentication_of_its_own() {
        let mut cache = CacheSettings::new("host=localhost");
        cache.pool_mode = PoolMode::Transaction;
        assert!(cache.check().expect_err("no credentials").contains("auth = \"scram\""));
        cache.auth = Auth::Scram;
        assert!(cache.check().expect_err("nobody to ask").contains("auth_url"));
        cache.auth_url = Some(Secret::new("postgres://a@b/c".to_owned()));
        assert_eq!(cache.check(), Ok(()));
    }
}
