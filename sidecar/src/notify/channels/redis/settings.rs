//! The settings of a REDIS channel.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use reqwest::Url;
use serde_json::{Map, Value, json};

use super::key::Template;
use crate::fields::Fields;

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// XADD
    Stream,
    /// PUBLISH
    PubSub,
}

/// Where and how it is delivered.
#[derive(Clone, PartialEq)]
pub(in crate::notify::channels) struct RedisSettings {
    /// May have a password in it.
    url: Url,
    pub(super) mode: Mode,
    pub(super) key: Template,
    /// About the most entries of a stream.
    pub(super) max_len: Option<u64>,
}

/// Most entries that anybody could mean.
const MOST_LENGTH: u64 = 1 << 40;

impl RedisSettings {
    pub(in crate::notify::channels) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let url = fields.needed_text("url").and_then(|text| match read_url(&text) {
            Ok(url) => Some(url),
            Err(why) => {
                fields.wrong("url", why);
                None
            }
        });
        let mode = match fields.text("mode").as_deref() {
            None | Some("stream") => Mode::Stream,
            Some("pubsub") => Mode::PubSub,
            Some(_) => {
                fields.wrong("mode", "the mode is stream or pubsub");
                Mode::Stream
            }
        };
        let key = fields.text("key").map_or(Ok(Template::default()), |text| Template::read(&text));
        let key = key.map_err(|why| fields.wrong("key", why)).ok();
        let max_len = match fields.number("max_len", 1, MOST_LENGTH, 0) {
            0 => None,
            most => Some(most),
        };
        Some(Self { url: url?, mode, key: key?, max_len })
    }

    /// What may be shown, and what may not: a URL with a password.
    pub(in crate::notify::channels) fn write(&self) -> (Value, Map<String, Value>) {
        let mut shown = self.url.clone();
        let mut hidden = Map::new();
        if shown.password().is_some() {
            hidden.insert("url".to_owned(), self.url.as_str().into());
            // It has a host, so it can have a password, or none.
            let _ = shown.set_password(None);
        }
        let mode = match self.mode {
            Mode::Stream => "stream",
            Mode::PubSub => "pubsub",
        };
        let key = self.key.as_str();
        (json!({"url": shown.as_str(), "mode": mode, "key": key, "max_len": self.max_len}), hidden)
    }

    /// What the library makes of the URL.
    pub(super) fn connection(&self) -> Result<ConnectionInfo, String> {
        // What the library says may quote the URL.
        self.url.as_str().into_connection_info().map_err(|_| "the URL can't be used".to_owned())
    }
}

fn read_url(text: &str) -> Result<Url, String> {
    // What is wrong is told without the URL, which may have a password.
    let url = Url::parse(text).map_err(|error| format!("this is no URL: {error}"))?;
    if !matches!(url.scheme(), "redis" | "rediss") {
        return Err("a Redis URL begins with redis:// or rediss://".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the URL names no host".to_owned());
    }
    if url.fragment().is_some() || url.query().is_some() {
        return Err("a Redis URL has nothing after the database's number".to_owned());
    }
    let info = url.as_str().into_connection_info();
    match info.as_ref().map(ConnectionInfo::addr) {
        Ok(ConnectionAddr::Tcp(..) | ConnectionAddr::TcpTls { .. }) => Ok(url),
        _ => Err("a Redis URL is redis://[user:password@]host[:port][/database]".to_owned()),
    }
}
