//! How far the changes of tables are followed.

use tokio_postgres::Client;

use crate::db::DbError;

/// Seconds since the oldest change was stored that is not followed yet, of whoever is furthest behind: 0 if all are followed;
/// none if no table is a source.
pub async fn follower_lag(client: &Client) -> Result<Option<f64>, DbError> {
    let sql = "SELECT max(coalesce(extract(epoch FROM now() - (
                   SELECT l.stored_at FROM integratedb.event_log l
                   WHERE (l.epoch, l.last_lsn, l.last_index) > (f.epoch, f.lsn, f.index)
                   ORDER BY l.epoch, l.last_lsn, l.last_index LIMIT 1)), 0))::float8
               FROM integratedb.sync_follower f";
    Ok(client.query_one(sql, &[]).await?.get(0))
}
