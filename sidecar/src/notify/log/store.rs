//! The log in the database.

use std::sync::Arc;

use integratedb_events::{EventId, Head, Op, Segment, SegmentBuilder};
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use super::state::{State, id, number, pruned};
use super::{Log, LogError};
use crate::db::{DbError, Pool};
use crate::replication::Lsn;

const INSERT: &str = "INSERT INTO integratedb.event_log
    (epoch, last_lsn, last_index, first_lsn, first_index, changes, body) VALUES ($1, $2, $3, $4, $5, $6, $7)";

const AFTER: &str = "SELECT epoch, last_lsn, last_index, body FROM integratedb.event_log
    WHERE (epoch, last_lsn, last_index) > ($1, $2, $3) ORDER BY epoch, last_lsn, last_index LIMIT 1";

impl Log {
    /// Begins where the database's log ends.
    pub(in crate::notify) async fn open(&self, client: &Client) -> Result<(), LogError> {
        let sql = "SELECT epoch, last_lsn, last_index FROM integratedb.event_log
                   ORDER BY epoch DESC, last_lsn DESC, last_index DESC LIMIT 1";
        let head = match client.query_opt(sql, &[]).await? {
            Some(row) => id(row.get(0), row.get(1), row.get(2)),
            None => pruned(client).await?,
        };
        // What is read on from where it was stays in memory.
        if head != self.head() {
            self.tail().reset(head);
            self.head.send_replace(head);
        }
        Ok(())
    }

    /// Stores a segment that follows on the last one.
    pub(in crate::notify) async fn store(
        &self,
        client: &Client,
        segment: Segment,
    ) -> Result<(), LogError> {
        insert(client, &segment).await?;
        self.append(segment);
        Ok(())
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
        let mut builder = SegmentBuilder::new(next.epoch);
        let id = EventId { epoch: next.epoch, lsn: Lsn(0), index: 0 };
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
        let commit_micros = i64::try_from(now).unwrap_or_default();
        builder.push_gap(Head { id, op: Op::Gap, commit_micros, xid: 0, target: None }, why);
        let segment = builder.finish();
        client.batch_execute("BEGIN").await?;
        let stored = async {
            insert(client, &segment).await?;
            next.save(client).await
        };
        let stored = stored.await;
        client.batch_execute(if stored.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        stored?;
        *state = next;
        self.append(segment);
        Ok(())
    }

    /// Takes what another process has stored since.
    pub(in crate::notify) async fn follow(&self) -> Result<(), LogError> {
        while let Some(segment) =
            read_one(&*self.pool.get().await.map_err(DbError::from)?, self.head()).await?
        {
            self.append(segment);
        }
        Ok(())
    }
}

async fn insert(client: &Client, segment: &Segment) -> Result<(), LogError> {
    let (Some(first), Some(last)) = (segment.first(), segment.last()) else { return Ok(()) };
    let body = lz4_flex::compress_prepend_size(&segment.encode());
    let changes = i32::try_from(segment.len()).unwrap_or(i32::MAX);
    let statement = client.prepare_typed(INSERT, &[]).await?;
    client
        .execute(
            &statement,
            &[
                &number(last.epoch),
                &PgLsn::from(last.lsn.0),
                &i64::from(last.index),
                &PgLsn::from(first.lsn.0),
                &i64::from(first.index),
                &changes,
                &body,
            ],
        )
        .await?;
    Ok(())
}

/// The segment with the first change after this one, for who can't be served from memory.
pub(super) async fn read(pool: &Pool, after: EventId) -> Result<Option<Arc<Segment>>, LogError> {
    let client = pool.get().await.map_err(DbError::from)?;
    let found = read_one(&client, after).await?;
    // Asked afterwards: what is pruned meanwhile is noticed.
    let pruned = pruned(&client).await?;
    if after < pruned { Err(LogError::Pruned(pruned)) } else { Ok(found.map(Arc::new)) }
}

async fn read_one(client: &Client, after: EventId) -> Result<Option<Segment>, LogError> {
    let (epoch, lsn) = (number(after.epoch), PgLsn::from(after.lsn.0));
    let row = client.query_opt(AFTER, &[&epoch, &lsn, &i64::from(after.index)]).await?;
    let Some(row) = row else { return Ok(None) };
    let last = id(row.get(0), row.get(1), row.get(2));
    let body = lz4_flex::decompress_size_prepended(row.get(3))
        .map_err(|error| LogError::Segment(last, error.to_string()))?;
    Ok(Some(Segment::decode(&body).map_err(|error| LogError::segment(last, error))?))
}
