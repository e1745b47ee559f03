//! How channels are.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Client;
use utoipa::ToSchema;

use super::super::error::ChannelsError;
use super::progress::event_id;

/// What a channel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelState {
    /// It delivers, or has nothing to deliver.
    Running,
    /// Its last attempts failed, and it tries again.
    Failing,
    /// The sidecar gave it up.
    Disabled,
    /// Somebody paused it.
    Paused,
}

impl ChannelState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Disabled => "disabled",
            Self::Paused => "paused",
        }
    }
}

/// A channel with its figures.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// `SOCKET`, `WEBHOOK` or `REDIS`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its settings, without secrets.
    #[schema(value_type = Object)]
    pub config: Value,
    /// What it does.
    pub state: ChannelState,
    /// Why the sidecar gave it up.
    pub disabled_because: Option<String>,
    /// Everything up to this change is taken care of; of a SOCKET there is none.
    pub cursor: Option<String>,
    /// Changes of the log after the cursor, whether or not they are for this channel.
    pub lag_events: i64,
    /// Seconds since the first of these was stored.
    pub lag_seconds: f64,
    /// Events that failed, and those that wait behind them.
    pub waiting: i64,
    /// Requests or writes so far.
    pub attempts: i64,
    /// Of these, those that failed.
    pub failures: i64,
    /// Events that were taken.
    pub delivered: i64,
    /// Events that were given up.
    pub dead_letters: i64,
    /// What the last failure was.
    pub last_error: Option<String>,
    /// When what failed is tried again, in RFC 3339.
    pub next_attempt_at: Option<String>,
    /// When something was last taken, in RFC 3339.
    pub last_delivered_at: Option<String>,
}

const LIST: &str = include_str!("list.sql");

/// A stakeholder's channels, by name.
pub async fn list(client: &Client, stakeholder: i64) -> Result<Vec<ChannelStatus>, ChannelsError> {
    page(client, stakeholder, None, None, None).await
}

/// The first `limit` of those that do this, after the one of this name.
pub async fn page(
    client: &Client,
    stakeholder: i64,
    state: Option<ChannelState>,
    after: Option<&str>,
    limit: Option<i64>,
) -> Result<Vec<ChannelStatus>, ChannelsError> {
    let state = state.map(ChannelState::as_str);
    let rows = client.query(LIST, &[&stakeholder, &after, &state, &limit]).await?;
    let status = |row: tokio_postgres::Row| {
        let kind: String = row.get("kind");
        let is_durable = kind != "SOCKET";
        let disabled_because: Option<String> = row.get("disabled_because");
        let state = match (&disabled_because, row.get("is_paused"), row.get("is_failing")) {
            (Some(_), ..) => ChannelState::Disabled,
            (None, true, _) => ChannelState::Paused,
            (None, false, true) => ChannelState::Failing,
            (None, false, false) => ChannelState::Running,
        };
        let cursor = event_id(row.get("epoch"), row.get("lsn"), row.get("index"));
        ChannelStatus {
            name: row.get("name"),
            kind,
            config: row.get("settings"),
            state,
            disabled_because,
            cursor: is_durable.then(|| cursor.to_string()),
            lag_events: row.get("lag_events"),
            lag_seconds: row.get("lag_seconds"),
            waiting: row.get("waiting"),
            attempts: row.get("attempts"),
            failures: row.get("failures"),
            delivered: row.get("delivered"),
            dead_letters: row.get("dead_letters"),
            last_error: row.get("last_error"),
            next_attempt_at: row.get("next_attempt_at"),
            last_delivered_at: row.get("last_delivered_at"),
        }
    };
    Ok(rows.into_iter().map(status).collect())
}
