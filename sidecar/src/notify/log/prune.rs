//! Keeps the log within its bounds.

use std::sync::atomic::Ordering::Relaxed;

use integratedb_events::EventId;
use tokio_postgres::Client;

use super::state::id;
use super::{Log, LogError};
use crate::notify::NotificationSettings;

/// Deletes what is older than the retention, and the oldest beyond the most bytes; notes what is gone in the same
/// statement, so that nobody takes what is missing for nothing.
const PRUNE: &str = "
WITH last AS (
    SELECT * FROM (
        (SELECT epoch, last_lsn, last_index FROM integratedb.event_log
         WHERE stored_at < now() - make_interval(secs => $1) ORDER BY stored_at DESC LIMIT 1)
        UNION ALL
        (SELECT epoch, last_lsn, last_index FROM integratedb.event_log
         WHERE total <= (SELECT max(total) FROM integratedb.event_log) - $2 ORDER BY total DESC LIMIT 1)) either
    ORDER BY epoch DESC, last_lsn DESC, last_index DESC LIMIT 1
),
gone AS (
    DELETE FROM integratedb.event_log l USING last
    WHERE (l.epoch, l.last_lsn, l.last_index) <= (last.epoch, last.last_lsn, last.last_index)
    RETURNING l.changes
)
UPDATE integratedb.event_log_state s
SET pruned_epoch = last.epoch, pruned_lsn = last.last_lsn, pruned_index = last.last_index
FROM last
RETURNING last.epoch, last.last_lsn, last.last_index, (SELECT sum(changes) FROM gone)";

impl Log {
    /// Prunes; gives the last change that is gone, if any went.
    pub(in crate::notify) async fn prune(
        &self,
        client: &Client,
        settings: &NotificationSettings,
    ) -> Result<Option<EventId>, LogError> {
        let most = i64::try_from(settings.max_log_bytes).unwrap_or(i64::MAX);
        // A day more or less of a century does not matter.
        let row = client.query_opt(PRUNE, &[&(settings.retention_secs as f64), &most]).await?;
        let Some(row) = row else { return Ok(None) };
        let gone = u64::try_from(row.get::<_, Option<i64>>(3).unwrap_or_default());
        self.figures().pruned.fetch_add(gone.unwrap_or_default(), Relaxed);
        Ok(Some(id(row.get(0), row.get(1), row.get(2))))
    }
}
