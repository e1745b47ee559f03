//! What a notifications spec says beside its claims: which events of a table go to which channels, and the channels
//! themselves.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A channel of every stakeholder, without configuration.
pub const SOCKET: &str = "SOCKET";

/// Stands for every channel in `match[].channels`, and for every event in `match[].events`.
pub const ALL: &str = "*";

/// What makes a spec one of notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notifications {
    /// One for each of the spec's matches, in the same order.
    pub items: Vec<Notification>,
    /// The configured channels, in the order written; no two have the same name.
    pub channels: Vec<Channel>,
}

/// Which events of a match go where. They are those of its first alternative that is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// At least one.
    pub events: BTreeSet<EventKind>,
    /// At least one: `*`, `SOCKET`, or the name or type of a configured channel. As written.
    pub channels: Vec<String>,
}

/// A kind of change, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventKind {
    /// A row came.
    Insert,
    /// A row changed.
    Update,
    /// A row went.
    Delete,
    /// All rows went.
    Truncate,
}

impl EventKind {
    /// Every kind, in order.
    pub const ALL: [Self; 4] = [Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    /// As a spec writes it: `INSERT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
        }
    }
}

/// A configured channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// How events travel.
    pub kind: ChannelKind,
    /// Its name, letter for letter; the type's name where none was given.
    pub name: String,
    /// The other members, as they are.
    pub configuration: Map<String, Value>,
}

/// How events travel to a stakeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChannelKind {
    /// By a connection that the stakeholder opens.
    Socket,
    /// By HTTP requests to its `url`.
    Webhook,
    /// By Redis at its `url`.
    Redis,
}

impl ChannelKind {
    /// Every kind, in order.
    pub const ALL: [Self; 3] = [Self::Socket, Self::Webhook, Self::Redis];

    /// As a spec writes it: `WEBHOOK`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Socket => SOCKET,
            Self::Webhook => "WEBHOOK",
            Self::Redis => "REDIS",
        }
    }

    /// Whether a channel of this kind needs a `url`.
    pub fn needs_url(self) -> bool {
        self != Self::Socket
    }
}
