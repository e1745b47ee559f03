//! The log in the database.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use integratedb_events::{EventId, Segment};
use tokio_postgres::Client;
use tokio_postgres::types::{PgLsn, Type};

use super::state::{State, id, number, pruned};
use super::{Log, LogError};
use crate::db::DbError;
use crate::replication::{Lsn, PgTime};

const INSERT: &str = "INSERT INTO integratedb.event_log
    (epoch, last_lsn, last_index, first_lsn, first_index, changes, total, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// The next segments: some at once, as they may be small.
const AFTER: &str = "SELECT epoch, last_lsn, last_index, body FROM (
        SELECT *, total - first_value(total) OVER w AS bytes FROM (
            SELECT * FROM integratedb.event_log
            WHERE (epoch, last_lsn, last_index) > ($1, $2, $3) ORDER BY epoch, last_lsn, last_index LIMIT 100) next
        WINDOW w AS (ORDER BY epoch, last_lsn, last_index)) sized
    WHERE bytes < 1000000 ORDER BY epoch, last_lsn, last_index";

impl Log {
    /// Where the database's log ends.
    pub(in crate::notify) async fn end(&self, client: &Client) -> Result<EventId, LogError> {
        let sql = "SELECT epoch, last_lsn, last_index FROM integratedb.event_log
                   ORDER BY epoch DESC, last_lsn DESC, last_index DESC LIMIT 1";
        let head = match client.query_opt(sql, &[]).await? {
            Some(row) => id(row.get(0), row.get(1), row.get(2)),
            None => pruned(client).await?,
        };
        let sql = "SELECT coalesce(max(total), 0) FROM integratedb.event_log";
        self.total.store(client.query_one(sql, &[]).await?.get(0), Ordering::Relaxed);
        Ok(head)
    }

    /// Shows the log up to this end of it.
    pub(in crate::notify) fn open(&self, head: EventId) {
        // What is read on from where it was stays in memory.
        if head != self.head() {
            self.tail().reset(head);
            self.head.send_replace(head);
        }
    }

    /// Stores a segment that follows on the last one.
    pub(in crate::notify) async fn store(
        &self,
        client: &Client,
        segment: Segment,
    ) -> Result<(), LogError> {
        self.insert(client, &segment).await?;
        self.figures.changes.fetch_add(segment.len() as u64, Ordering::Relaxed);
        self.figures.segments.fetch_add(1, Ordering::Relaxed);
        self.append(Arc::new(segment));
        Ok(())
    }

    /// Stores segments that follow on the last one, and what `also` writes by the same client, in one transaction; or
    /// neither, if `also` gives false.
    pub(in crate::notify) async fn store_with(
        &self,
        client: &Client,
        segments: Vec<Segment>,
        also: impl Future<Output = Result<bool, LogError>>,
    ) -> Result<bool, LogError> {
        client.batch_execute("BEGIN").await?;
        let stored = async {
            if !also.await? {
                return Ok(false);
            }
            for segment in &segments {
                self.insert(client, segment).await?;
            }
            Ok(true)
        };
        let stored: Result<bool, LogError> = stored.await;
        let end = if matches!(stored, Ok(true)) { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(end).await?;
        if stored? {
            segments.into_iter().for_each(|segment| self.append(Arc::new(segment)));
            return Ok(true);
        }
        Ok(false)
    }

    /// Begins another epoch with a gap.
    pub(in crate::notify) async fn store_gap(
        &self,
        client: &Client,
        state: &mut State,
        why: &str,
    ) -> Result<(), LogError> {
        tracing::warn!("notifications: changes may be missing: {why}");
        let next = State { epoch: state.epoch + 1, slot: None, ..state.clone() };
        let id = EventId { epoch: next.epoch, lsn: Lsn(0), index: 0 };
        let segment = Segment::gap(id, PgTime::now().unix_micros(), why);
        client.batch_execute("BEGIN").await?;
        let stored = async {
            self.insert(client, &segment).await?;
            next.save(client).await
        };
        let stored = stored.await;
        client.batch_execute(if stored.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        stored?;
        *state = next;
        self.figures.gaps.fetch_add(1, Ordering::Relaxed);
        self.append(Arc::new(segment));
        Ok(())
    }

    /// What another process has stored since: some of it, if it is much.
    pub(in crate::notify) async fn ahead(
        &self,
        client: &Client,
    ) -> Result<Vec<Arc<Segment>>, LogError> {
        next(client, self.head()).await
    }

    /// Takes what was [ahead](Log::ahead).
    pub(in crate::notify) fn follow(&self, ahead: Vec<Arc<Segment>>) {
        ahead.into_iter().for_each(|segment| self.append(segment));
    }

    async fn insert(&self, client: &Client, segment: &Segment) -> Result<(), LogError> {
        let (Some(first), Some(last)) = (segment.first(), segment.last()) else { return Ok(()) };
        let body = lz4_flex::compress_prepend_size(&segment.encode());
        let changes = i32::try_from(segment.len()).unwrap_or(i32::MAX);
        let size = i64::try_from(body.len()).unwrap_or(i64::MAX);
        let total = self.total.fetch_add(size, Ordering::Relaxed) + size;
        // Not prepared first: that would be another round trip before each segment.
        client
            .execute_typed(
                INSERT,
                &[
                    (&number(last.epoch), Type::INT4),
                    (&PgLsn::from(last.lsn.0), Type::PG_LSN),
                    (&i64::from(last.index), Type::INT8),
                    (&PgLsn::from(first.lsn.0), Type::PG_LSN),
                    (&i64::from(first.index), Type::INT8),
                    (&changes, Type::INT4),
                    (&total, Type::INT8),
                    (&body, Type::BYTEA),
                ],
            )
            .await?;
        Ok(())
    }

    /// The segment with the first change after this one, for who can't be served from memory.
    pub(super) async fn read_stored(
        &self,
        after: EventId,
    ) -> Result<Option<Arc<Segment>>, LogError> {
        if let Some(segment) = self.recent().after(after) {
            return Ok(Some(segment));
        }
        let client = self.pool.get().await.map_err(DbError::from)?;
        let found = next(&client, after).await?;
        // Asked afterwards: what is pruned meanwhile is noticed.
        let pruned = pruned(&client).await?;
        if after < pruned {
            return Err(LogError::Pruned(pruned));
        }
        let first = found.first().cloned();
        self.recent().put(after, found);
        Ok(first)
    }
}

/// Segments with the changes after this one; none if there are none.
async fn next(client: &Client, after: EventId) -> Result<Vec<Arc<Segment>>, LogError> {
    let (epoch, lsn) = (number(after.epoch), PgLsn::from(after.lsn.0));
    let rows = client.query(AFTER, &[&epoch, &lsn, &i64::from(after.index)]).await?;
    let segments = rows.iter().map(|row| {
        let last = id(row.get(0), row.get(1), row.get(2));
        let body = lz4_flex::decompress_size_prepended(row.get(3))
            .map_err(|error| LogError::Segment(last, error.to_string()))?;
        let segment = Segment::decode(&body).map_err(|error| LogError::segment(last, error))?;
        Ok(Arc::new(segment))
    });
    segments.collect()
}
