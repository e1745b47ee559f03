//! A client's first packet: which cache it wants, and what is to be told to the origin.

use std::sync::Arc;

use integratedb_wire::{Parameters, ProtocolVersion};

use super::cache::Cache;
use super::pool::PoolKey;
use super::registry::Registry;
use super::report::{self, Report};
use super::settings::CacheId;

/// What a client asks for.
pub(super) struct Wanted {
    pub(super) version: ProtocolVersion,
    pub(super) user: Vec<u8>,
    pub(super) database: Vec<u8>,
    /// Everything else in its order, without what is meant for the proxy.
    options: Vec<(Vec<u8>, Vec<u8>)>,
    /// The cache that `options` names.
    cache: Option<Vec<u8>>,
}

impl Wanted {
    /// Errors with what the client is told.
    pub(super) fn read(
        version: ProtocolVersion,
        parameters: Parameters<'_>,
    ) -> Result<Self, Report> {
        if version.major != 3 {
            return Err(Report::fatal(
                report::NOT_SUPPORTED,
                format!(
                    "unsupported frontend protocol {}.{}: server supports 3.0 to 3.2",
                    version.major, version.minor
                ),
            ));
        }
        let user = parameters.get("user").filter(|user| !user.is_empty()).ok_or_else(|| {
            Report::fatal(
                report::INVALID_AUTHORIZATION,
                "no PostgreSQL user name specified in startup packet",
            )
        })?;
        let database = parameters.get("database").filter(|name| !name.is_empty()).unwrap_or(user);
        let mut wanted = Self {
            version,
            user: user.to_vec(),
            database: database.to_vec(),
            options: Vec::new(),
            cache: None,
        };
        for (name, value) in parameters.iter() {
            match name {
                b"user" | b"database" => {}
                b"replication" if is_true(value) => {
                    return Err(Report::fatal(
                        report::NOT_SUPPORTED,
                        "the proxy does not pass on replication connections",
                    )
                    .hint("Connect to the origin itself."));
                }
                b"options" => {
                    let (rest, cache) = without_cache(value);
                    wanted.cache = cache;
                    if !rest.is_empty() {
                        wanted.options.push((name.to_vec(), rest));
                    }
                }
                _ => wanted.options.push((name.to_vec(), value.to_vec())),
            }
        }
        Ok(wanted)
    }

    fn get(&self, wanted: &[u8]) -> Option<&[u8]> {
        self.options
            .iter()
            .rev()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_slice())
    }

    /// What the client calls itself.
    pub(super) fn application_name(&self) -> Option<&[u8]> {
        self.get(b"application_name").filter(|name| !name.is_empty())
    }

    /// The cache it names, or else the default.
    pub(super) fn cache(&self, registry: &Registry) -> Result<Arc<Cache>, Report> {
        let read = |id: &[u8]| CacheId::try_from(String::from_utf8(id.to_vec()).ok()?).ok();
        let find = |id: &[u8]| registry.cache(&read(id)?);
        // Whoever names a cache that was removed must not get to another one.
        let named = self.cache.as_deref().or_else(|| {
            self.application_name().filter(|name| read(name).is_some_and(|id| id.is_random()))
        });
        if let Some(id) = named {
            return find(id).ok_or_else(|| registry.missing(&String::from_utf8_lossy(id)));
        }
        self.application_name().and_then(find).or_else(|| registry.default_cache()).ok_or_else(|| {
            Report::fatal(report::INVALID_CATALOG_NAME, "the connection names no cache")
                .hint("Set application_name to the id of a cache, or options to -c integratedb.cache=ID.")
        })
    }

    /// What the origin is told, in a session of the client's own.
    pub(super) fn startup(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let first = [(&b"user"[..], &self.user[..]), (&b"database"[..], &self.database[..])];
        first.into_iter().chain(self.options.iter().map(|(n, v)| (n.as_slice(), v.as_slice())))
    }

    /// Options of the protocol, which begin with `_pq_.`; the proxy knows none.
    pub(super) fn protocol_options(&self) -> Vec<&[u8]> {
        let names = self.options.iter().map(|(name, _)| name.as_slice());
        names.filter(|name| name.starts_with(b"_pq_.")).collect()
    }

    /// The pool whose connections will do.
    pub(super) fn pool_key(&self) -> PoolKey {
        let is_shared = |name: &[u8]| {
            name != b"application_name" && name != b"replication" && !name.starts_with(b"_pq_.")
        };
        let mut options: Vec<_> =
            self.options.iter().filter(|(name, _)| is_shared(name)).cloned().collect();
        options.sort();
        PoolKey { user: self.user.clone(), database: self.database.clone(), options }
    }
}

fn is_true(value: &[u8]) -> bool {
    !matches!(value, b"" | b"0" | b"f" | b"false" | b"off" | b"no" | b"n")
}

/// Takes `-c integratedb.cache=ID` out of command-line options, in any of the ways a server reads (PostgreSQL
/// manual, "Connection Control Functions", options). Everything else stays as it was.
fn without_cache(options: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut cache = None;
    let mut words = words(options).into_iter().peekable();
    while let Some(word) = words.next() {
        let setting = match word {
            b"-c" => words.peek().copied(),
            _ => word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-c")),
        };
        let id = setting.and_then(|setting| {
            let (name, value) = setting.split_at(setting.iter().position(|b| *b == b'=')?);
            let name: Vec<u8> = name
                .iter()
                .map(|b| if *b == b'-' { b'_' } else { b.to_ascii_lowercase() })
                .collect();
            (name == b"integratedb.cache").then(|| value[1..].to_vec())
        });
        match id {
            Some(id) => {
                cache = Some(id);
                if word == b"-c" {
                    words.next();
                }
            }
            None => {
                kept.push(word);
                if word == b"-c" {
                    kept.extend(words.next());
                }
            }
        }
    }
    (kept.join(&b' '), cache)
}

/// Words between spaces; a backslash keeps the next character.
fn words(text: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let mut start = None;
    let mut is_escaped = false;
    for (at, byte) in text.iter().enumerate() {
        if byte.is_ascii_whitespace() && !is_escaped {
            words.extend(start.take().map(|start| &text[start..at]));
        } else {
            start.get_or_insert(at);
        }
        is_escaped = *byte == b'\\' && !is_escaped;
    }
    words.extend(start.map(|start| &text[start..]));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_taken_out_of_the_options() {
        let take = |text: &str| {
            let (rest, cache) = without_cache(text.as_bytes());
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("ASCII");
            (text(rest), cache.map(text))
        };
        let some = |id: &str| Some(id.to_owned());
        assert_eq!(take("-c integratedb.cache=a"), (String::new(), some("a")));
        assert_eq!(
            take("-c geqo=off -c integratedb.cache=a -c x=y"),
            ("-c geqo=off -c x=y".to_owned(), some("a"))
        );
        assert_eq!(take("--integratedb.cache=a"), (String::new(), some("a")));
        assert_eq!(take("-cintegratedb.cache=a -F"), ("-F".to_owned(), some("a")));
        assert_eq!(take(r"-c search_path=a\ b"), (r"-c search_path=a\ b".to_owned(), None));
        assert_eq!(take("-c"), ("-c".to_owned(), None));
    }
}
