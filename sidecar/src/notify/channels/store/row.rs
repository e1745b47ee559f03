//! Channels as the one that delivers reads them.

use deadpool_postgres::ClientWrapper;
use serde_json::Value;
use tokio_postgres::Client;

use super::super::config::{ChannelConfig, Kind};
use super::super::error::ChannelsError;
use super::super::secrets::Secrets;
use crate::seal::Sealer;

/// What is different when a channel has to begin anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Version {
    pub(in super::super) channel: i64,
    number: i64,
    stakeholder: String,
}

// The stakeholder may be gone, and the channel not yet.
const WANTED: &str = "SELECT c.id, c.version, s.name
    FROM integratedb.channel c JOIN integratedb.stakeholder s ON s.id = c.stakeholder_id
    WHERE c.kind <> 'SOCKET' AND NOT c.is_paused AND c.disabled_because IS NULL";

/// All channels that are to be delivered to.
pub(in super::super) async fn wanted(
    client: &ClientWrapper,
) -> Result<Vec<Version>, ChannelsError> {
    let rows = client.query(&client.prepare_cached(WANTED).await?, &[]).await?;
    let version = |row: &tokio_postgres::Row| Version {
        channel: row.get(0),
        number: row.get(1),
        stakeholder: row.get(2),
    };
    Ok(rows.iter().map(version).collect())
}

const ORPHANS: &str = "DELETE FROM integratedb.channel c
    WHERE NOT EXISTS (SELECT FROM integratedb.stakeholder s WHERE s.id = c.stakeholder_id)";

/// Removes channels of stakeholders that are gone.
pub(in super::super) async fn orphans(client: &Client) -> Result<(), ChannelsError> {
    client.execute(ORPHANS, &[]).await?;
    Ok(())
}

/// A channel with all that delivering takes.
pub(in super::super) struct Row {
    pub(in super::super) id: i64,
    pub(in super::super) stakeholder: i64,
    pub(in super::super) stakeholder_name: String,
    pub(in super::super) config: ChannelConfig,
    pub(in super::super) secrets: Secrets,
}

const ROW: &str = "SELECT c.stakeholder_id, s.name, c.name, c.kind, c.settings, c.sealed
    FROM integratedb.channel c JOIN integratedb.stakeholder s ON s.id = c.stakeholder_id WHERE c.id = $1";

impl Row {
    pub(in super::super) async fn load(
        client: &Client,
        sealer: Option<&Sealer>,
        id: i64,
    ) -> Result<Self, ChannelsError> {
        let row = client.query_opt(ROW, &[&id]).await?;
        let row = row.ok_or_else(|| ChannelsError::NoChannel(id.to_string()))?;
        let (stakeholder, name): (i64, String) = (row.get(0), row.get(2));
        let secrets = Secrets::open(sealer, stakeholder, &name, row.get(5))?;
        let stored = |why: String| ChannelsError::Stored(name.clone(), why);
        let kind: &str = row.get(3);
        let kind = Kind::named(kind).ok_or_else(|| stored(format!("its kind is {kind}")))?;
        let shown: Value = row.get(4);
        let config =
            ChannelConfig::stored(&name, kind, shown, secrets.hidden.clone()).map_err(stored)?;
        Ok(Self { id, stakeholder, stakeholder_name: row.get(1), config, secrets })
    }
}
