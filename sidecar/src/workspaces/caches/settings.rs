//! What can be set of a cache over REST, and the settings of the proxy that come of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Mistake;
use super::credentials::{Credential, Credentials, Place};
use crate::cache::{CachingSettings, Consistency, Mode};
use crate::proxy::{Auth, CacheSettings, PoolMode};
use crate::reach::Reach;
use crate::secret::Secret;

/// No time is longer than a day, in seconds, or in milliseconds.
const DAY: u64 = 24 * 3600;

/// The most connections to an origin.
const CONNECTIONS: usize = 1000;

/// The longest answer that may be kept.
const MOST_OF_ENTRY: usize = 8 << 20;

/// How connections to the origin are encrypted, as libpq names it. Certificates are verified with the roots of the
/// sidecar's system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SslMode {
    /// Not at all.
    Disable,
    /// If the origin offers it; nothing is verified.
    #[default]
    Prefer,
    /// Always; nothing is verified.
    Require,
    /// Always, and the certificate is verified.
    VerifyCa,
    /// Always, and certificate and name are verified.
    VerifyFull,
}

impl SslMode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// The settings of a cache that was made over REST. What is left out has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = CacheOptions)]
pub(crate) struct Settings {
    /// How connections to the origin are encrypted.
    sslmode: SslMode,
    /// How clients prove who they are. `scram` needs `verifiers`.
    auth: Auth,
    /// How long a client keeps a connection to the origin. `transaction` needs `"auth": "scram"`.
    pool_mode: PoolMode,
    /// The most connections to the origin of one user, database and set of startup options.
    #[schema(minimum = 1, maximum = 1000)]
    pool_size: usize,
    /// The most connections to the origin altogether.
    #[schema(minimum = 1, maximum = 1000)]
    max_origin_connections: usize,
    /// Seconds a query waits for a connection to the origin.
    #[schema(minimum = 1, maximum = 86400)]
    query_wait_secs: u64,
    /// Seconds to connect to the origin and log in there.
    #[schema(minimum = 1, maximum = 60)]
    connect_secs: u64,
    /// Seconds after which a client that says nothing, outside of a transaction, is disconnected; 0 is never.
    #[schema(maximum = 86400)]
    idle_client_secs: u64,
    /// Seconds after which a client that says nothing inside a transaction is disconnected; 0 is never.
    #[schema(maximum = 86400)]
    idle_transaction_secs: u64,
    /// Seconds after which a query is cancelled and its client disconnected; 0 is never.
    #[schema(maximum = 86400)]
    query_secs: u64,
    /// Seconds after which a connection to the origin that nobody uses is closed; 0 is never.
    #[schema(maximum = 86400)]
    origin_idle_secs: u64,
    /// Seconds after which a connection to the origin is not used again; 0 is never.
    #[schema(maximum = 86400)]
    origin_lifetime_secs: u64,
    /// Who asks the origin for the SCRAM verifiers of users, for `"auth": "scram"`.
    verifiers: Option<Verifiers>,
    /// What is kept of answers; without it, nothing is.
    caching: Option<Caching>,
}

/// Who asks the origin for the SCRAM verifiers of its users, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CacheVerifiers)]
pub(crate) struct Verifiers {
    #[schema(example = "postgres")]
    database: String,
    #[schema(example = "integratedb_auth")]
    user: String,
    /// Never shown. Left out, the one that was given before stays, if user, database, query, hostname, port and sslmode are
    /// the same.
    #[serde(default, skip_serializing)]
    #[schema(value_type = Option<String>, write_only, example = "correct horse battery")]
    password: Option<Secret<String>>,
    /// Gives name and verifier of the user `$1`. Without one, `pg_authid` is read, which takes a superuser.
    #[serde(default)]
    #[schema(example = "SELECT * FROM integratedb_verifier($1)")]
    query: Option<String>,
}

/// What is kept of answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CacheCaching)]
pub(crate) struct Caching {
    /// The database whose answers are kept.
    #[schema(example = "shop")]
    database: String,
    /// A user who may be told what statements depend on and, for replication, has REPLICATION.
    #[schema(example = "integratedb")]
    user: String,
    /// Never shown. Left out, the one that was given before stays, if user, database, hostname, port and sslmode are the same.
    #[serde(default, skip_serializing)]
    #[schema(value_type = Option<String>, write_only, example = "correct horse battery")]
    password: Option<Secret<String>>,
    /// What is kept without a rule, until `PUT …/mode` says otherwise.
    #[serde(default)]
    mode: Mode,
    /// What a client may rely on.
    #[serde(default)]
    consistency: Consistency,
    /// Whether the origin's log is followed. Without it only what a rule gives a time to live is kept.
    #[serde(default = "yes")]
    replication: bool,
    /// The most memory for answers and what finds them, in bytes. The installation has a limit.
    #[serde(default = "max_bytes")]
    #[schema(minimum = 1)]
    max_bytes: usize,
    /// The longest answer that is kept, in bytes; not more than `max_bytes`.
    #[serde(default = "max_entry_bytes")]
    #[schema(minimum = 1)]
    max_entry_bytes: usize,
    /// Milliseconds that what is known of the origin may be behind before nothing is served any more.
    #[serde(default = "max_lag_ms")]
    #[schema(minimum = 1, maximum = 86400000)]
    max_lag_ms: u64,
}

const fn yes() -> bool {
    true
}
const fn max_bytes() -> usize {
    64 << 20
}
const fn max_entry_bytes() -> usize {
    1 << 20
}
const fn max_lag_ms() -> u64 {
    10_000
}

impl Default for Settings {
    fn default() -> Self {
        let of_file = CacheSettings::new("");
        Self {
            sslmode: SslMode::default(),
            auth: of_file.auth,
            pool_mode: of_file.pool_mode,
            pool_size: of_file.pool_size,
            // Somebody else's origin that is no Postgres, or is this proxy, takes no more than its share.
            max_origin_connections: 100,
            query_wait_secs: of_file.query_wait_secs,
            connect_secs: of_file.connect_secs,
            idle_client_secs: of_file.idle_client_secs,
            idle_transaction_secs: of_file.idle_transaction_secs,
            query_secs: of_file.query_secs,
            origin_idle_secs: of_file.origin_idle_secs,
            origin_lifetime_secs: of_file.origin_lifetime_secs,
            verifiers: None,
            caching: None,
        }
    }
}

/// A part of the settings that needs a password: its name, whose, and what was given.
struct Needing<'a> {
    field: &'static str,
    login: Login<'a>,
    given: Option<&'a Secret<String>>,
    stored: Option<&'a Credential>,
}

/// Who connects to the origin for the cache itself, and what for.
#[derive(Clone, Copy)]
struct Login<'a> {
    user: &'a str,
    database: &'a str,
    query: Option<&'a str>,
}

impl Verifiers {
    fn login(&self) -> Login<'_> {
        Login { user: &self.user, database: &self.database, query: self.query.as_deref() }
    }
}

impl Caching {
    fn login(&self) -> Login<'_> {
        Login { user: &self.user, database: &self.database, query: None }
    }
}

impl Settings {
    /// Those that are stored. What a later version has stored besides is passed over: sidecars of both may run.
    pub(super) fn stored(mut stored: Value) -> Result<Self, serde_json::Error> {
        let known = serde_json::to_value(Self::with_all_parts())?;
        keep_known(&mut stored, &known);
        serde_json::from_value(stored)
    }

    /// Some that have each field there is.
    fn with_all_parts() -> Self {
        let verifiers =
            Verifiers { database: String::new(), user: String::new(), password: None, query: None };
        let caching = Caching {
            database: String::new(),
            user: String::new(),
            password: None,
            mode: Mode::default(),
            consistency: Consistency::default(),
            replication: yes(),
            max_bytes: max_bytes(),
            max_entry_bytes: max_entry_bytes(),
            max_lag_ms: max_lag_ms(),
        };
        Self { verifiers: Some(verifiers), caching: Some(caching), ..Self::default() }
    }

    /// How clients prove who they are, and how long they keep connections, of which there are so many at most.
    pub(crate) const fn pooling(&self) -> (Auth, PoolMode, usize) {
        (self.auth, self.pool_mode, self.pool_size)
    }

    /// Whether it asks the origin for verifiers.
    pub(super) const fn has_verifiers(&self) -> bool {
        self.verifiers.is_some()
    }

    /// Takes out what is secret.
    pub(super) fn take_passwords(&mut self) {
        if let Some(login) = &mut self.verifiers {
            login.password = None;
        }
        if let Some(caching) = &mut self.caching {
            caching.password = None;
        }
    }

    /// What is wrong with them; `most` is the most memory a cache may ask for.
    pub(super) fn check(&self, most: usize) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let mut range = |name, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                mistakes.push((name, format!("has to be {least} to {most}")));
            }
        };
        let size = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        range("pool_size", size(self.pool_size), 1, size(CONNECTIONS));
        range("max_origin_connections", size(self.max_origin_connections), 1, size(CONNECTIONS));
        range("query_wait_secs", self.query_wait_secs, 1, DAY);
        range("connect_secs", self.connect_secs, 1, 60);
        range("idle_client_secs", self.idle_client_secs, 0, DAY);
        range("idle_transaction_secs", self.idle_transaction_secs, 0, DAY);
        range("query_secs", self.query_secs, 0, DAY);
        range("origin_idle_secs", self.origin_idle_secs, 0, DAY);
        range("origin_lifetime_secs", self.origin_lifetime_secs, 0, DAY);
        if let Some(caching) = &self.caching {
            range("caching.max_bytes", size(caching.max_bytes), 1, size(most));
            // Each session gathers an answer before it is known whether it is kept.
            let longest = size(caching.max_bytes.min(MOST_OF_ENTRY));
            range("caching.max_entry_bytes", size(caching.max_entry_bytes), 1, longest);
            range("caching.max_lag_ms", caching.max_lag_ms, 1, DAY * 1000);
            if let Consistency::Bounded(ms) = caching.consistency {
                range("caching.consistency", ms, 1, DAY * 1000);
            }
        }
        let mut name = |field, text: &str| {
            if text.is_empty() || text.len() > 63 || text.contains('\0') {
                mistakes.push((field, "has to have 1 to 63 bytes".to_owned()));
            }
        };
        if let Some(login) = &self.verifiers {
            name("verifiers.database", &login.database);
            name("verifiers.user", &login.user);
        }
        if let Some(caching) = &self.caching {
            name("caching.database", &caching.database);
            name("caching.user", &caching.user);
        }
        let query = self.verifiers.as_ref().and_then(|verifiers| verifiers.query.as_deref());
        if query.is_some_and(|q| q.trim().is_empty() || q.len() > 4000 || q.contains('\0')) {
            mistakes.push(("verifiers.query", "has to have 1 to 4000 bytes".to_owned()));
        }
        if self.auth == Auth::Scram && self.verifiers.is_none() {
            mistakes.push(("verifiers", "has to be given for \"auth\": \"scram\"".to_owned()));
        }
        if self.pool_mode == PoolMode::Transaction && self.auth == Auth::Passthrough {
            mistakes.push((
                "auth",
                "has to be \"scram\" for \"pool_mode\": \"transaction\"".to_owned(),
            ));
        }
        mistakes
    }

    /// The memory that it may take.
    pub(super) fn max_bytes(&self) -> usize {
        self.caching.as_ref().map_or(0, |caching| caching.max_bytes)
    }

    fn place(&self, hostname: &str, port: u16, login: Login<'_>) -> Place {
        Place {
            hostname: hostname.to_owned(),
            port,
            sslmode: self.sslmode,
            user: login.user.to_owned(),
            database: login.database.to_owned(),
            query: login.query.map(str::to_owned),
        }
    }

    /// The passwords that they need: those that were given, and of those `before` what is for the very same place.
    pub(super) fn credentials(
        &self,
        hostname: &str,
        port: u16,
        before: &Credentials,
    ) -> Result<Credentials, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut find = |needing: Needing<'_>| {
            let place = self.place(hostname, port, needing.login);
            let kept = needing.stored.filter(|stored| stored.password(&place).is_some());
            match (needing.given, kept) {
                (Some(given), _) => {
                    let text = given.expose_secret();
                    if text.is_empty() || text.len() > 1000 || text.contains('\0') {
                        mistakes.push((needing.field, "has to have 1 to 1000 bytes".to_owned()));
                    }
                    Some(Credential::new(place, given))
                }
                (None, Some(kept)) => Some(kept.clone()),
                (None, None) if needing.stored.is_some() => {
                    let why = "has to be given again: the stored one is for another user, database, query, hostname, port \
                               or sslmode";
                    mistakes.push((needing.field, why.to_owned()));
                    None
                }
                (None, None) => {
                    mistakes.push((needing.field, "can't be blank".to_owned()));
                    None
                }
            }
        };
        let verifiers = self.verifiers.as_ref().and_then(|verifiers| {
            find(Needing {
                field: "verifiers.password",
                login: verifiers.login(),
                given: verifiers.password.as_ref(),
                stored: before.verifiers.as_ref(),
            })
        });
        let caching = self.caching.as_ref().and_then(|caching| {
            find(Needing {
                field: "caching.password",
                login: caching.login(),
                given: caching.password.as_ref(),
                stored: before.caching.as_ref(),
            })
        });
        if mistakes.is_empty() { Ok(Credentials { verifiers, caching }) } else { Err(mistakes) }
    }

    /// The settings of the proxy for an origin. The error says why there are none.
    pub(super) fn proxy(
        &self,
        hostname: &str,
        port: u16,
        credentials: &Credentials,
        reach: &Reach,
    ) -> Result<CacheSettings, String> {
        let origin = pairs(&[
            ("host", hostname),
            ("port", &port.to_string()),
            ("sslmode", self.sslmode.as_str()),
        ]);
        let url = |login: Login<'_>, stored: Option<&Credential>| {
            let place = self.place(hostname, port, login);
            let password = stored.and_then(|stored| stored.password(&place));
            let password = password.ok_or("a password is missing; give its settings again")?;
            let login = pairs(&[
                ("user", login.user),
                ("password", password.expose_secret()),
                ("dbname", login.database),
            ]);
            Ok::<_, String>(Secret::new(format!("{origin} {login}")))
        };
        let mut made = CacheSettings::new(origin.clone());
        if let Some(verifiers) = &self.verifiers {
            if let Some(query) = &verifiers.query {
                made.auth_query.clone_from(query);
            }
            made.auth_url = Some(url(verifiers.login(), credentials.verifiers.as_ref())?);
        }
        if let Some(caching) = &self.caching {
            made.caching = Some(CachingSettings {
                mode: caching.mode,
                url: url(caching.login(), credentials.caching.as_ref())?,
                replication: caching.replication,
                consistency: caching.consistency,
                max_bytes: caching.max_bytes,
                max_entry_bytes: caching.max_entry_bytes,
                max_lag_ms: caching.max_lag_ms,
                reach: Some(reach.clone()),
                ..CachingSettings::default()
            });
        }
        Ok(CacheSettings {
            auth: self.auth,
            pool_mode: self.pool_mode,
            pool_size: self.pool_size,
            max_origin_connections: self.max_origin_connections,
            query_wait_secs: self.query_wait_secs,
            connect_secs: self.connect_secs,
            idle_client_secs: self.idle_client_secs,
            idle_transaction_secs: self.idle_transaction_secs,
            query_secs: self.query_secs,
            origin_idle_secs: self.origin_idle_secs,
            origin_lifetime_secs: self.origin_lifetime_secs,
            reach: Some(reach.clone()),
            ..made
        })
    }
}

/// Takes out fields that are not among those that are known.
fn keep_known(stored: &mut Value, known: &Value) {
    let (Value::Object(stored), Value::Object(known)) = (stored, known) else { return };
    stored.retain(|name, _| known.contains_key(name));
    for (name, value) in stored {
        keep_known(value, &known[name]);
    }
}

/// A connection string of names and values, whatever is in the values.
fn pairs(of: &[(&str, &str)]) -> String {
    let quote = |text: &str| text.replace('\\', r"\\").replace('\'', r"\'");
    let pairs: Vec<String> =
        of.iter().map(|(name, value)| format!("{name}='{}'", quote(value))).collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_later_version_has_stored_besides_is_passed_over() {
        let ours = json!({"pool_size": 7,
            "verifiers": {"database": "d", "user": "u", "query": "q"},
            "caching": {"database": "d", "user": "u", "consistency": {"bounded": 5}, "max_lag_ms": 7}});
        let mut stored = ours.clone();
        for part in ["", "/verifiers", "/caching"] {
            stored.pointer_mut(part).expect("it is there")["of_later"] = json!({"x": 1});
        }
        assert!(serde_json::from_value::<Settings>(stored.clone()).is_err(), "a request may not");
        let read = Settings::stored(stored).expect("the rest is known");
        assert_eq!(read, serde_json::from_value(ours).expect("it is all known"));
        assert!(Settings::stored(json!({"pool_size": "many"})).is_err());
    }
}
