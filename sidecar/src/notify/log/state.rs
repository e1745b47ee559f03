//! What the next change is compared with, and how far back the log goes.

use integratedb_events::EventId;
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use super::LogError;
use crate::replication::Lsn;

/// The one row of `integratedb.event_log_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::notify) struct State {
    /// Of the changes that come.
    pub(in crate::notify) epoch: u32,
    /// The server whose positions these are.
    pub(in crate::notify) system_id: Option<String>,
    /// The slot that was made: it holds what is not stored.
    pub(in crate::notify) slot: Option<String>,
}

impl State {
    pub(in crate::notify) async fn load(client: &Client) -> Result<Self, LogError> {
        let sql = "SELECT epoch, system_id, slot FROM integratedb.event_log_state";
        let row = client.query_one(sql, &[]).await?;
        let epoch = u32::try_from(row.get::<_, i32>(0)).unwrap_or(1);
        Ok(Self { epoch, system_id: row.get(1), slot: row.get(2) })
    }

    /// Writes it, if it is not as it is written.
    pub(in crate::notify) async fn save(&self, client: &Client) -> Result<(), LogError> {
        let sql = "UPDATE integratedb.event_log_state SET epoch = $1, system_id = $2, slot = $3
                   WHERE (epoch, system_id, slot) IS DISTINCT FROM ($1, $2, $3)";
        client.execute(sql, &[&number(self.epoch), &self.system_id, &self.slot]).await?;
        Ok(())
    }
}

/// An epoch as the database has it.
pub(super) fn number(epoch: u32) -> i32 {
    // It is raised by one at a time.
    i32::try_from(epoch).unwrap_or(i32::MAX)
}

/// An id from its three columns.
pub(crate) fn id(epoch: i32, lsn: PgLsn, index: i64) -> EventId {
    EventId {
        epoch: u32::try_from(epoch).unwrap_or_default(),
        lsn: Lsn(lsn.into()),
        index: u32::try_from(index).unwrap_or(u32::MAX),
    }
}

/// The last change that was pruned.
pub(super) async fn pruned(client: &Client) -> Result<EventId, LogError> {
    let sql = "SELECT pruned_epoch, pruned_lsn, pruned_index FROM integratedb.event_log_state";
    let row = client.query_one(sql, &[]).await?;
    Ok(id(row.get(0), row.get(1), row.get(2)))
}
