//! Stores a chunk where its high mark is.

use integratedb_events::{EventId, Head, Op, RowBuffer, Segment, SegmentBuilder, Target};
use tokio_postgres::Client;

use super::meeting::{Closed, Due};
use super::store::{self, Progress};
use super::window::Key;
use crate::notify::error::NotifyError;
use crate::notify::log::Log;
use crate::notify::values::Tables;
use crate::notify::writer::SEGMENT_BYTES;
use crate::replication::Begin;

impl Due {
    /// Stores the rows as changes of the transaction that is open, and in the same transaction of the database how far
    /// the backfill is. Gives the last of these changes.
    pub(in crate::notify) async fn store(
        self,
        client: &Client,
        log: &Log,
        tables: &mut Tables,
        epoch: u32,
        begin: &Begin,
    ) -> Result<Option<EventId>, NotifyError> {
        let relation = tables.alike(&self.chunk.table.relation);
        if tables.get(&relation).is_none() {
            tables.learn(client, &relation).await?;
        }
        let known = tables.get(&relation).expect("it was just learned");
        let stakeholder = self.chunk.stakeholder;
        let target = Some(Target { stakeholder, backfill: self.id });
        let (mut builder, mut segments) = (SegmentBuilder::new(epoch), Vec::<Segment>::new());
        let mut row = RowBuffer::default();
        for (index, place) in (EventId::SNAPSHOT..).zip(&self.settled.kept) {
            known.write(self.chunk.rows.row(*place), false, &mut row);
            let id = EventId { epoch, lsn: begin.final_lsn, index };
            let commit_micros = begin.commit_time.unix_micros();
            let head = Head { id, op: Op::Snapshot, commit_micros, xid: begin.xid, target };
            builder.push(head, &known.shape, Some(&row), None);
            if builder.size() >= SEGMENT_BYTES {
                segments.push(builder.finish());
            }
        }
        segments.push(builder.finish());
        let progress = self.progress(epoch, relation.oid);
        let is_stored =
            log.store_with(client, segments, store::progress(client, &progress)).await?;
        let _ = self.reply.send(if is_stored { Closed::Stored } else { Closed::Over });
        let last = self.settled.kept.len().checked_sub(1).filter(|_| is_stored);
        // A chunk has far fewer rows than there are numbers.
        let index = |last| EventId::SNAPSHOT + last as u32;
        Ok(last.map(|last| EventId { epoch, lsn: begin.final_lsn, index: index(last) }))
    }

    fn progress(&self, epoch: u32, relation: u32) -> Progress {
        let chunk = &self.chunk;
        let follows = chunk.asked.is_empty();
        let last_key = chunk.rows.keys().next_back().filter(|_| follows).map(Key::texts);
        let left = self.settled.left.iter().map(|key| (self.id, relation, key.clone()));
        Progress {
            id: self.id,
            epoch,
            relation,
            last_key,
            at_end: follows && chunk.at_end,
            rows: if follows { i64::try_from(chunk.rows.len()).unwrap_or(i64::MAX) } else { 0 },
            asked: chunk.asked.iter().map(|(id, _)| *id).collect(),
            left: left.collect(),
        }
    }
}
