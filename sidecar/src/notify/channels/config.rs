//! A channel as its stakeholder configures it.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::redis::RedisSettings;
use super::webhook::WebhookSettings;
use crate::fields::{Fields, Mistake};
use crate::notify::NotificationSettings;

/// What kind of channel it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// WebSocket or SSE connections that the stakeholder opens.
    Socket,
    /// Requests to an endpoint of the stakeholder.
    Webhook,
    /// A Redis of the stakeholder.
    Redis,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Socket, Self::Webhook, Self::Redis];

    /// As documents have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "SOCKET",
            Self::Webhook => "WEBHOOK",
            Self::Redis => "REDIS",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A channel, checked.
#[derive(Clone, PartialEq)]
pub struct ChannelConfig {
    /// Unique among the stakeholder's channels.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// All other members with their defaults, but without secrets: what may be shown.
    pub settings: Value,
    /// What may not.
    pub(super) hidden: Map<String, Value>,
    pub(super) typed: Settings,
}

impl fmt::Debug for ChannelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kind, self.name, self.settings)
    }
}

/// The settings of each kind.
#[derive(Clone, PartialEq)]
pub(super) enum Settings {
    Socket,
    Webhook(WebhookSettings),
    Redis(RedisSettings),
}

/// The longest name.
const NAME: usize = 63;

impl ChannelConfig {
    /// Reads one. Mistakes are told with pointers below the channel, such as `/url`.
    pub fn read(value: &Value) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        match Self::from(Fields::of(value, "", &mut mistakes)) {
            Some(channel) if mistakes.is_empty() => Ok(channel),
            _ => Err(mistakes),
        }
    }

    /// Reads a list of them, whose names differ. Pointers are below the list, such as `/0/url`.
    pub fn read_list(value: &Value) -> Result<Vec<Self>, Vec<Mistake>> {
        let Some(items) = value.as_array() else {
            return Err(vec![("channels are a list".to_owned(), String::new())]);
        };
        let (mut channels, mut mistakes, mut names) = (Vec::new(), Vec::new(), HashSet::new());
        for (at, item) in items.iter().enumerate() {
            match Self::read(item) {
                Ok(channel) if names.insert(channel.name.clone()) => channels.push(channel),
                Ok(channel) => mistakes.push((
                    format!("another channel is named {} already", channel.name),
                    format!("/{at}/name"),
                )),
                Err(wrong) => mistakes.extend(
                    wrong
                        .into_iter()
                        .map(|(message, pointer)| (message, format!("/{at}{pointer}"))),
                ),
            }
        }
        if mistakes.is_empty() { Ok(channels) } else { Err(mistakes) }
    }

    /// What can be said before the first delivery against where it goes. The same is checked at each delivery.
    pub fn check(&self, settings: &NotificationSettings) -> Result<(), Vec<Mistake>> {
        let Settings::Webhook(webhook) = &self.typed else { return Ok(()) };
        webhook.check(settings).map_err(|message| vec![(message, "/url".to_owned())])
    }

    /// Whether there is something to seal.
    pub fn has_secrets(&self) -> bool {
        self.kind == Kind::Webhook || !self.hidden.is_empty()
    }

    fn from(mut fields: Fields<'_>) -> Option<Self> {
        let kind = fields.needed_text("type").and_then(|name| {
            let kind = Kind::named(&name);
            if kind.is_none() {
                fields.wrong("type", "a channel's type is SOCKET, WEBHOOK or REDIS");
            }
            kind
        });
        let Some(kind) = kind else {
            // Of what kind the others would be is not known.
            fields.rest();
            return None;
        };
        let name = fields.text("name").unwrap_or_else(|| kind.as_str().to_owned());
        if let Some(why) = wrong_name(&name, kind) {
            fields.wrong("name", why);
        }
        let (typed, settings, hidden) = match kind {
            Kind::Socket => (Some(Settings::Socket), Value::Object(Map::new()), Map::new()),
            Kind::Webhook => {
                let webhook = WebhookSettings::read(&mut fields);
                let (shown, hidden) =
                    webhook.as_ref().map(WebhookSettings::write).unwrap_or_default();
                (webhook.map(Settings::Webhook), shown, hidden)
            }
            Kind::Redis => {
                let redis = RedisSettings::read(&mut fields);
                let (shown, hidden) = redis.as_ref().map(RedisSettings::write).unwrap_or_default();
                (redis.map(Settings::Redis), shown, hidden)
            }
        };
        fields.end();
        Some(Self { name, kind, settings, hidden, typed: typed? })
    }

    /// From what is stored: what was shown, and what was hidden.
    pub(super) fn stored(
        name: &str,
        kind: Kind,
        shown: Value,
        hidden: Map<String, Value>,
    ) -> Result<Self, String> {
        let Value::Object(mut all) = shown else { return Err("it is no object".to_owned()) };
        all.extend(hidden);
        all.insert("type".to_owned(), kind.as_str().into());
        all.insert("name".to_owned(), name.into());
        Self::read(&Value::Object(all)).map_err(|mistakes| {
            let all: Vec<String> = mistakes
                .into_iter()
                .map(|(message, pointer)| format!("{pointer}: {message}"))
                .collect();
            all.join("; ")
        })
    }
}

fn wrong_name(name: &str, kind: Kind) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME || !name.chars().all(is_plain) {
        return Some(format!(
            "a name has 1 to {NAME} letters, digits, dots, dashes and underscores"
        ));
    }
    // What names a type means all channels of it.
    Kind::named(name)
        .filter(|named| *named != kind)
        .map(|named| format!("{named} is the name of another type"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(value: Value) -> Vec<String> {
        let mistakes = ChannelConfig::read(&value).err().unwrap_or_default();
        mistakes.into_iter().map(|(_, pointer)| pointer).collect()
    }

    #[test]
    fn every_mistake_has_its_pointer() {
        assert_eq!(pointers(json!({"type": "SOCKET"})), [] as [&str; 0]);
        assert_eq!(pointers(json!([])), ["", ""]);
        assert_eq!(pointers(json!({"type": "MAIL", "x": 1})), ["/type"]);
        assert_eq!(pointers(json!({"type": "SOCKET", "url": "x"})), ["/url"]);
        assert_eq!(pointers(json!({"type": "SOCKET", "name": "REDIS"})), ["/name"]);
        assert_eq!(pointers(json!({"type": "WEBHOOK", "name": "a/b"})), ["/name", ""]);
        let wrong = json!({"type": "WEBHOOK", "url": "ftp://x", "timeout_ms": 0, "batch": {"max_events": 1001, "most": 1},
            "concurrency": 101, "headers": {"webhook-id": "x", "a b": "c", "n": 1}, "retry": {"schedule_secs": [5, -1]},
            "disable_after_secs": 0, "x/y": 1});
        assert_eq!(
            pointers(wrong),
            [
                "/url",
                "/timeout_ms",
                "/batch/max_events",
                "/batch/most",
                "/concurrency",
                "/headers/a b",
                "/headers/n",
                "/headers/webhook-id",
                "/retry/schedule_secs/1",
                "/disable_after_secs",
                "/x~1y"
            ]
        );
        let wrong = json!({"type": "REDIS", "url": "http://x", "mode": "list", "key": "{table}{x}", "max_len": 0});
        assert_eq!(pointers(wrong), ["/url", "/mode", "/key", "/max_len"]);
        let list = json!([{"type": "SOCKET"}, {"type": "SOCKET"}, {"type": "REDIS"}]);
        let mistakes = ChannelConfig::read_list(&list).expect_err("two of one name, and no URL");
        let pointers: Vec<_> = mistakes.into_iter().map(|(_, pointer)| pointer).collect();
        assert_eq!(pointers, ["/1/name", "/2"]);
    }

    #[test]
    fn secrets_are_hidden_and_come_back_when_it_is_read_from_store() {
        for (channel, secret) in [
            (
                json!({"type": "WEBHOOK", "url": "https://example.com/x?a=b", "headers": {"Authorization": "Bearer s3cret"}}),
                "s3cret",
            ),
            (json!({"type": "REDIS", "url": "rediss://user:s3cret@example.com:6380/2"}), "s3cret"),
        ] {
            let read = ChannelConfig::read(&channel).expect("valid");
            assert!(!read.settings.to_string().contains(secret), "{}", read.settings);
            assert!(!format!("{read:?}").contains(secret) && read.has_secrets());
            let again = ChannelConfig::stored(
                &read.name,
                read.kind,
                read.settings.clone(),
                read.hidden.clone(),
            );
            assert!(again.expect("as it was written") == read);
        }
        let read = ChannelConfig::read(&json!({"type": "REDIS", "url": "redis://localhost"}));
        assert!(!read.expect("valid").has_secrets());
    }
}
