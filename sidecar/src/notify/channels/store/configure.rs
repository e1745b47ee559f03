//! Channels are added, changed and removed.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use integratedb_events::EventId;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::{Client, GenericClient, Transaction};

use super::super::config::{ChannelConfig, Kind};
use super::super::error::ChannelsError;
use super::super::secrets::Secrets;
use super::progress::columns;
use crate::db::DbError;
use crate::seal::Sealer;

/// The secret of a new channel, which is told this once.
#[derive(Clone, PartialEq, Eq)]
pub struct NewSecret {
    /// The channel's name.
    pub channel: String,
    /// `whsec_…`
    pub secret: String,
}

const PRESENT: &str = "SELECT id, name, kind, settings, sealed FROM integratedb.channel
    WHERE stakeholder_id = $1 FOR UPDATE";

const REMOVE: &str = "DELETE FROM integratedb.channel WHERE id = $1";

const ADD: &str = "INSERT INTO integratedb.channel (stakeholder_id, name, kind, settings, sealed)
    VALUES ($1, $2, $3, $4, $5) RETURNING id";

const BEGIN: &str =
    "INSERT INTO integratedb.channel_state (channel_id, epoch, lsn, index) VALUES ($1, $2, $3, $4)";

// Whoever changes the settings of a channel that was given up wants it tried again.
const CHANGE: &str = "UPDATE integratedb.channel
    SET settings = $2, sealed = $3, version = version + 1, disabled_because = NULL, updated_at = now() WHERE id = $1";

const FORGIVE: &str =
    "UPDATE integratedb.channel_state SET failing_since = NULL WHERE channel_id = $1";

/// A channel as it is stored.
struct Present {
    id: i64,
    kind: Option<Kind>,
    settings: Value,
    secrets: Option<Secrets>,
}

/// Makes a stakeholder's channels what they should be: adds, changes and removes. Cursors and secrets of those that stay
/// do too. A new one begins after `head`, the end of the log; if it is a WEBHOOK, its secret is in the answer, once.
pub async fn replace(
    tx: &Transaction<'_>,
    sealer: &Option<Sealer>,
    stakeholder: i64,
    channels: &[ChannelConfig],
    head: EventId,
) -> Result<Vec<NewSecret>, ChannelsError> {
    let mut present: HashMap<String, Present> = HashMap::new();
    for row in tx.query(PRESENT, &[&stakeholder]).await? {
        let name: String = row.get(1);
        // One that was sealed with a lost key can be replaced all the same, by what is given now.
        let secrets = Secrets::open(sealer.as_ref(), stakeholder, &name, row.get(4)).ok();
        let kind = Kind::named(row.get(2));
        present.insert(name, Present { id: row.get(0), kind, settings: row.get(3), secrets });
    }
    let mut made = Vec::new();
    for channel in channels {
        if channel.has_secrets() && sealer.is_none() {
            return Err(ChannelsError::NoKey(channel.name.clone()));
        }
        let before = match present.remove(&channel.name) {
            Some(before) if before.kind == Some(channel.kind) => Some(before),
            Some(before) => {
                tx.execute(REMOVE, &[&before.id]).await?;
                None
            }
            None => None,
        };
        let known = before.as_ref().and_then(|before| before.secrets.clone());
        let mut secrets = known.clone().unwrap_or_default();
        secrets.hidden.clone_from(&channel.hidden);
        if channel.kind == Kind::Webhook && !secrets.can_sign() {
            let secret = secrets.rotate(now(), Duration::ZERO);
            made.push(NewSecret { channel: channel.name.clone(), secret });
        }
        let seal = |sealer: &Sealer| secrets.seal(sealer, stakeholder, &channel.name);
        let sealed = if channel.has_secrets() { sealer.as_ref().map(seal) } else { None };
        match before {
            Some(before) => {
                if before.settings != channel.settings || known.as_ref() != Some(&secrets) {
                    tx.execute(CHANGE, &[&before.id, &channel.settings, &sealed]).await?;
                    tx.execute(FORGIVE, &[&before.id]).await?;
                }
            }
            None => {
                let kind = channel.kind.as_str();
                let row = tx
                    .query_one(
                        ADD,
                        &[&stakeholder, &channel.name, &kind, &channel.settings, &sealed],
                    )
                    .await?;
                let (epoch, lsn, index) = columns(head);
                tx.execute(BEGIN, &[&row.get::<_, i64>(0), &epoch, &lsn, &index]).await?;
            }
        }
    }
    for gone in present.values() {
        tx.execute(REMOVE, &[&gone.id]).await?;
    }
    Ok(made)
}

const SECRETS: &str = "SELECT name, sealed FROM integratedb.channel
    WHERE stakeholder_id = $1 AND sealed IS NOT NULL ORDER BY name";

/// The sealed secrets of a stakeholder's channels, by name. They are sealed anew only when their channel becomes another.
pub async fn sealed(
    client: &Client,
    stakeholder: i64,
) -> Result<Vec<(String, Vec<u8>)>, ChannelsError> {
    let rows = client.query(SECRETS, &[&stakeholder]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

const SEALED: &str = "SELECT id, sealed FROM integratedb.channel
    WHERE stakeholder_id = $1 AND name = $2 AND kind = 'WEBHOOK'";

const RESEAL: &str =
    "UPDATE integratedb.channel SET sealed = $3, version = version + 1, updated_at = now()
    WHERE id = $1 AND sealed IS NOT DISTINCT FROM $2";

/// Makes a new secret for a WEBHOOK, and gives it. Requests are signed with those before too, for `overlap`.
pub async fn rotate_secret(
    client: &impl GenericClient,
    sealer: &Option<Sealer>,
    stakeholder: i64,
    name: &str,
    overlap: Duration,
) -> Result<String, ChannelsError> {
    // Somebody else may rotate it at the same time; each of them gets a secret that counts.
    for _ in 0..10 {
        let row = client.query_opt(SEALED, &[&stakeholder, &name]).await?;
        let row = row.ok_or_else(|| ChannelsError::NoChannel(name.to_owned()))?;
        let (id, before): (i64, Option<&[u8]>) = (row.get(0), row.get(1));
        let key = sealer.as_ref().ok_or_else(|| ChannelsError::NoKey(name.to_owned()))?;
        let mut secrets = Secrets::open(Some(key), stakeholder, name, before)?;
        let secret = secrets.rotate(now(), overlap);
        let sealed = secrets.seal(key, stakeholder, name);
        if client.execute(RESEAL, &[&id, &before, &sealed]).await? == 1 {
            return Ok(secret);
        }
    }
    Err(DbError::Busy.into())
}

/// What people and the sidecar have decided about a channel.
#[derive(Clone, Debug, Serialize)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// Whether somebody paused it.
    pub paused: bool,
    /// Why the sidecar gave it up.
    pub disabled_because: Option<String>,
}

const HOLD: &str = "SELECT name, is_paused, disabled_because FROM integratedb.channel
    WHERE stakeholder_id = $1 AND name = $2 FOR UPDATE";

/// Holds a channel until the end of the transaction.
pub async fn hold(
    transaction: &Transaction<'_>,
    stakeholder: i64,
    name: &str,
) -> Result<Held, ChannelsError> {
    let row = transaction.query_opt(HOLD, &[&stakeholder, &name]).await?;
    let row = row.ok_or_else(|| ChannelsError::NoChannel(name.to_owned()))?;
    Ok(Held { name: row.get(0), paused: row.get(1), disabled_because: row.get(2) })
}

const ENABLE: &str = "WITH changed AS (
        UPDATE integratedb.channel
        SET is_paused = NOT $3, disabled_because = CASE WHEN $3 THEN NULL ELSE disabled_because END,
            version = version + 1, updated_at = now()
        WHERE stakeholder_id = $1 AND name = $2 RETURNING id
    ),
    forgiven AS (
        UPDATE integratedb.channel_state s SET failing_since = NULL FROM changed WHERE s.channel_id = changed.id AND $3
    )
    SELECT FROM changed";

/// Pauses a channel, or has it go on: also one that the sidecar gave up.
pub async fn set_enabled(
    client: &impl GenericClient,
    stakeholder: i64,
    name: &str,
    is_enabled: bool,
) -> Result<(), ChannelsError> {
    match client.query_opt(ENABLE, &[&stakeholder, &name, &is_enabled]).await? {
        Some(_) => Ok(()),
        None => Err(ChannelsError::NoChannel(name.to_owned())),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
