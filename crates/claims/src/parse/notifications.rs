//! The parts of a document that only notifications have: `events` and `channels`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Reader, kind};
use crate::notification::{ALL, Channel, ChannelKind, EventKind, Notification, SOCKET};

/// PostgreSQL's bound for names does for channels as well.
const MAX_NAME: usize = 63;

impl Reader {
    /// The configured channels. Those that could be named are kept for [`Self::notification`], whatever else is wrong
    /// with them, so that one mistake is not told twice.
    pub(super) fn configured_channels(&mut self, document: &Map<String, Value>) -> Vec<Channel> {
        let items = match document.get("channels") {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                let got = kind(other);
                self.at("channels", |r| {
                    r.problem(format!("Type mismatch. Expected Array but got {got}."));
                });
                return Vec::new();
            }
        };
        let mut names = BTreeSet::new();
        self.at("channels", |r| r.items(items, |r, item| r.channel(item, &mut names)))
    }

    fn channel(&mut self, value: &Value, names: &mut BTreeSet<String>) -> Option<Channel> {
        let Some(map) = value.as_object() else {
            self.problem(format!("Type mismatch. Expected Object but got {}.", kind(value)));
            return None;
        };
        let kind = match map.get("type") {
            None => {
                self.problem("Required property type was not present.");
                None
            }
            Some(value) => self.at("type", |r| r.channel_kind(value)),
        };
        let given = match map.get("name") {
            None | Some(Value::Null) => Some(None),
            Some(value) => self.at("name", |r| r.channel_name(value, kind)).map(Some),
        };
        self.known_channels.extend(kind.map(|kind| kind.as_str().to_owned()));
        self.known_channels.extend(given.clone().flatten());
        let kind = kind?;
        let is_named = given.as_ref().is_some_and(Option::is_some);
        let name = given.map(|name| name.unwrap_or_else(|| kind.as_str().to_owned()));
        let taken = name.clone().filter(|name| !names.insert(name.clone()));
        if let Some(name) = &taken {
            let message = format!("The channel `{name}` is given twice; each needs its own name.");
            if is_named {
                self.at("name", |r| r.problem(message));
            } else {
                self.problem(message);
            }
        }
        let has_url = match map.get("url") {
            Some(Value::String(url)) if !url.is_empty() => true,
            _ if !kind.needs_url() => true,
            None => {
                self.problem("Required property url was not present.");
                false
            }
            Some(value) => {
                self.at("url", |r| {
                    if r.string(value).is_some() {
                        r.problem("Expected value to have a minimum length of 1 but was 0.");
                    }
                });
                false
            }
        };
        let mut configuration = map.clone();
        configuration.retain(|key, _| key != "type" && key != "name");
        let name = name?;
        (taken.is_none() && has_url).then_some(Channel { kind, name, configuration })
    }

    fn channel_kind(&mut self, value: &Value) -> Option<ChannelKind> {
        let text = self.string(value)?;
        let found = ChannelKind::ALL.into_iter().find(|kind| kind.as_str() == text);
        if found.is_none() {
            self.problem(format!(
                "There is no channel of the type `{text}`. The types are SOCKET, WEBHOOK and REDIS."
            ));
        }
        found
    }

    fn channel_name(&mut self, value: &Value, of: Option<ChannelKind>) -> Option<String> {
        let text = self.string(value)?;
        let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.len() <= MAX_NAME
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !is_name {
            self.problem(
                "Not a channel's name: it has 1 to 63 letters of ASCII, digits, `_` and `-`, a letter first.",
            );
            return None;
        }
        // Or a match could not say which of the two it means.
        if ChannelKind::ALL.into_iter().any(|kind| kind.as_str() == text && Some(kind) != of) {
            self.problem(format!("The name {text} is that of another type."));
            return None;
        }
        Some(text.to_owned())
    }

    /// `events` and `channels` of an item of `match`.
    pub(super) fn notification(&mut self, map: &Map<String, Value>) -> Option<Notification> {
        let events = self.required_list(map, "events", Self::event).map(|lists| lists.concat());
        let channels = self.required_list(map, "channels", Self::channel_of_match);
        Some(Notification { events: events?.into_iter().collect(), channels: channels? })
    }

    /// A list of texts that has to be there, with at least one item and none twice.
    fn required_list<T>(
        &mut self,
        map: &Map<String, Value>,
        key: &str,
        mut read: impl FnMut(&mut Self, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        if !map.contains_key(key) {
            self.problem(format!("Required property {key} was not present."));
            return None;
        }
        let items = self.non_empty(map, key)?;
        let mut seen = BTreeSet::new();
        let found = self.at(key, |r| {
            r.items(items, |r, item| {
                let text = r.string(item)?;
                if !seen.insert(text.to_owned()) {
                    r.problem(format!("`{text}` is given twice."));
                    return None;
                }
                read(r, text)
            })
        });
        (found.len() == items.len()).then_some(found)
    }

    fn event(&mut self, text: &str) -> Option<Vec<EventKind>> {
        if text == ALL {
            return Some(EventKind::ALL.to_vec());
        }
        let found = EventKind::ALL.into_iter().find(|event| event.as_str() == text);
        if found.is_none() {
            self.problem(format!(
                "There is no event `{text}`. The events are INSERT, UPDATE, DELETE, TRUNCATE and `*`."
            ));
        }
        found.map(|event| vec![event])
    }

    fn channel_of_match(&mut self, text: &str) -> Option<String> {
        if text != ALL && text != SOCKET && !self.known_channels.contains(text) {
            self.problem(format!(
                "There is no channel with the name or type `{text}`; add one to #/channels first."
            ));
            return None;
        }
        Some(text.to_owned())
    }
}
