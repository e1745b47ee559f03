//! Dead letters, and how they are sent again.

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::GenericClient;
use utoipa::ToSchema;

use super::super::error::ChannelsError;
use super::progress::event_id;

/// An event that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DeadLetter {
    /// Its number, rising in the order in which they were given up.
    pub id: i64,
    /// The event's id.
    pub event_id: String,
    /// The event as it would have been delivered.
    #[schema(value_type = Object)]
    pub event: Value,
    /// Requests that had it.
    pub attempts: i32,
    /// What the last of them met.
    pub error: String,
    /// When it was given up, in RFC 3339.
    pub inserted_at: String,
}

const CHANNEL: &str = "SELECT id FROM integratedb.channel WHERE stakeholder_id = $1 AND name = $2";

const LETTERS: &str = r#"SELECT id, epoch, lsn, index, event, attempts, error,
        to_char(inserted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    FROM integratedb.dead_letter WHERE channel_id = $1 AND id > $2 ORDER BY id LIMIT $3"#;

/// The dead letters of a channel after the one with this number, at most `limit`.
pub async fn dead_letters(
    client: &impl GenericClient,
    stakeholder: i64,
    name: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<DeadLetter>, ChannelsError> {
    let channel = channel(client, stakeholder, name).await?;
    let rows = client.query(LETTERS, &[&channel, &after, &limit]).await?;
    let letter = |row: tokio_postgres::Row| {
        let event: &str = row.get(4);
        Ok(DeadLetter {
            id: row.get(0),
            event_id: event_id(row.get(1), row.get(2), row.get(3)).to_string(),
            event: serde_json::from_str(event)
                .map_err(|error| ChannelsError::Stored(name.to_owned(), error.to_string()))?,
            attempts: row.get(5),
            error: row.get(6),
            inserted_at: row.get(7),
        })
    };
    rows.into_iter().map(letter).collect()
}

/// Which dead letters are sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// All of a channel.
    All,
    /// Those with these numbers.
    Ids(Vec<i64>),
}

const REPLAY: &str = "WITH again AS (
        DELETE FROM integratedb.dead_letter WHERE channel_id = $1 AND ($2::bigint[] IS NULL OR id = ANY ($2))
        RETURNING channel_id, epoch, lsn, index, keys, commit_micros, event
    ),
    kept AS (
        INSERT INTO integratedb.channel_delivery (channel_id, epoch, lsn, index, keys, commit_micros, event)
        SELECT * FROM again ON CONFLICT DO NOTHING
    ),
    told AS (
        UPDATE integratedb.channel SET version = version + 1 WHERE id = $1 AND EXISTS (SELECT FROM again)
    )
    SELECT count(*) FROM again";

/// Sends dead letters again, as if they had never been tried; gives how many. Of a channel that is paused or disabled
/// they go when it goes on.
pub async fn replay(
    client: &impl GenericClient,
    stakeholder: i64,
    name: &str,
    which: &Replay,
) -> Result<u64, ChannelsError> {
    let channel = channel(client, stakeholder, name).await?;
    let ids = match which {
        Replay::All => None,
        Replay::Ids(ids) => Some(ids),
    };
    let row = client.query_one(REPLAY, &[&channel, &ids]).await?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or_default())
}

async fn channel(
    client: &impl GenericClient,
    stakeholder: i64,
    name: &str,
) -> Result<i64, ChannelsError> {
    match client.query_opt(CHANNEL, &[&stakeholder, &name]).await? {
        Some(row) => Ok(row.get(0)),
        None => Err(ChannelsError::NoChannel(name.to_owned())),
    }
}
