//! Stores what was delivered, and only then lets the origin forget it.

use std::sync::Arc;

use integratedb_events::{EventId, Head, OldBuffer, Op, RowBuffer, SegmentBuilder};
use serde::Deserialize;
use tokio::sync::watch;
use tokio_postgres::Client;

use super::backfill::{self, Backfills, Mark};
use super::error::NotifyError;
use super::ingest::{Batch, Inbox, Item, RawChange};
use super::log::{Log, State};
use super::subscriptions::Subscriptions;
use super::values::Tables;
use crate::replication::{Begin, Connected, Lsn, Relation};

/// Bytes of changes, or changes, beyond which a segment is stored before more is looked at.
pub(super) const SEGMENT_BYTES: usize = 512 << 10;
const SEGMENT_CHANGES: usize = 4096;

/// What a logical message of the extension says, as far as it matters here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    /// Subscriptions may be others.
    subscriptions: bool,
    /// What changed the schema.
    schema: Option<String>,
    /// The rows of a backfill's chunk are read.
    backfill: Option<Mark>,
}

/// Takes from the inbox what a reader delivers.
pub(super) struct Writer<'a> {
    pub(super) client: &'a Client,
    pub(super) log: &'a Log,
    pub(super) inbox: Arc<Inbox>,
    pub(super) subscriptions: &'a watch::Sender<Arc<Subscriptions>>,
    pub(super) state: &'a mut State,
    /// The slot that the reader follows.
    pub(super) slot: String,
    backfills: Arc<Backfills>,
    builder: SegmentBuilder,
    /// The last change that is stored: what comes again is passed over.
    stored: EventId,
    transaction: Option<Begin>,
    /// All before is looked at.
    done: Lsn,
    lost: Option<String>,
    wanted: Arc<Subscriptions>,
    tables: Tables,
    new: RowBuffer,
    old: RowBuffer,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        client: &'a Client,
        log: &'a Log,
        inbox: Arc<Inbox>,
        subscriptions: &'a watch::Sender<Arc<Subscriptions>>,
        state: &'a mut State,
        slot: String,
        backfills: Arc<Backfills>,
    ) -> Self {
        Self {
            client,
            log,
            inbox,
            subscriptions,
            slot,
            backfills,
            builder: SegmentBuilder::new(state.epoch),
            stored: log.head(),
            state,
            transaction: None,
            done: Lsn(0),
            lost: None,
            wanted: subscriptions.borrow().clone(),
            tables: Tables::default(),
            new: RowBuffer::default(),
            old: RowBuffer::default(),
        }
    }

    /// Ends only with an error, or with the subscriptions: then nobody wants to be told of anything any more.
    pub(super) async fn run(mut self) -> Result<(), NotifyError> {
        let mut wanted = self.subscriptions.subscribe();
        loop {
            let batch = tokio::select! {
                batch = self.inbox.take() => batch,
                is_empty = wanted.wait_for(|all| all.is_empty()) => {
                    return is_empty.map(drop).map_err(|_| NotifyError::Unexpected("stopping".to_owned()));
                }
            };
            self.wanted = self.subscriptions.borrow().clone();
            for item in &batch.items {
                self.item(&batch, item).await?;
            }
            self.flush().await?;
            self.inbox.confirm(self.done);
        }
    }

    async fn item(&mut self, batch: &Batch, item: &Item) -> Result<(), NotifyError> {
        match item {
            Item::Connected(connected) => self.connected(connected).await?,
            Item::Disconnected => self.transaction = None,
            Item::Lost(why) => self.lost = Some(why.clone()),
            Item::Begin(begin) => self.transaction = Some(*begin),
            Item::Change(change) => {
                self.backfills.change(batch, change);
                if let Some(head) = self.head(change.op, change.index, &change.relation) {
                    self.change(batch, change, head).await?;
                }
            }
            Item::Truncate(relations, first) => {
                self.backfills.truncate(relations);
                for (index, relation) in (*first..).zip(relations) {
                    if let Some(head) = self.head(Op::Truncate, index, relation) {
                        self.learn(relation).await?;
                        let known = self.tables.get(relation).expect("it was just learned");
                        self.builder.push(head, &known.shape, None, None);
                    }
                }
            }
            Item::Message(content) => self.message(content).await?,
            Item::Commit(commit) => {
                self.transaction = None;
                self.backfills.commit(commit.xid);
                self.done = commit.end_lsn;
            }
            Item::Position(position) => self.done = *position,
        }
        Ok(())
    }

    /// What a change begins with; `None` if it is stored already, or concerns nobody.
    fn head(&self, op: Op, index: u32, relation: &Relation) -> Option<Head> {
        let begin = self.transaction.as_ref()?;
        let id = EventId { epoch: self.state.epoch, lsn: begin.final_lsn, index };
        if id <= self.stored || !self.wanted.concerns(relation.oid) {
            return None;
        }
        let commit_micros = begin.commit_time.unix_micros();
        Some(Head { id, op, commit_micros, xid: begin.xid, target: None })
    }

    /// Gets to know a table as it is told now, if it is not known so.
    async fn learn(&mut self, relation: &Arc<Relation>) -> Result<(), NotifyError> {
        match self.tables.get(relation) {
            Some(_) => Ok(()),
            None => self.tables.learn(self.client, relation).await,
        }
    }

    async fn change(
        &mut self,
        batch: &Batch,
        change: &RawChange,
        head: Head,
    ) -> Result<(), NotifyError> {
        self.learn(&change.relation).await?;
        let known = self.tables.get(&change.relation).expect("it was just learned");
        let new = change.new.map(|row| {
            known.write(batch.row(row), false, &mut self.new);
            &self.new
        });
        let old = change.old.map(|(is_full, row)| {
            known.write(batch.row(row), !is_full, &mut self.old);
            if is_full { OldBuffer::Full(&self.old) } else { OldBuffer::Key(&self.old) }
        });
        self.builder.push(head, &known.shape, new, old);
        if self.builder.size() >= SEGMENT_BYTES || self.builder.len() >= SEGMENT_CHANGES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Our own word in the log: what comes after it is by the subscriptions and tables of after it.
    async fn message(&mut self, content: &[u8]) -> Result<(), NotifyError> {
        let told: Told = serde_json::from_slice(content).unwrap_or_default();
        if told.schema.is_some() {
            self.tables.forget();
            self.backfills.schema();
        }
        if let Some(mark) = told.backfill {
            self.mark(mark).await?;
        }
        if told.schema.is_some() || told.subscriptions {
            let Some(begin) = self.transaction else { return Ok(()) };
            self.wanted = Arc::new(Subscriptions::load_after(self.client, begin.xid).await?);
            Subscriptions::show(self.subscriptions, &self.wanted);
        }
        Ok(())
    }

    /// The chunk of a backfill is stored where its high mark is: before anything that comes after.
    async fn mark(&mut self, mark: Mark) -> Result<(), NotifyError> {
        let (Some(begin), Some(due)) = (self.transaction, self.backfills.mark(mark)) else {
            return Ok(());
        };
        self.flush().await?;
        let (client, tables) = (self.client, &mut self.tables);
        let last = due.store(client, self.log, tables, self.state.epoch, &begin).await?;
        self.stored = last.unwrap_or(self.stored);
        Ok(())
    }

    async fn connected(&mut self, connected: &Connected) -> Result<(), NotifyError> {
        self.transaction = None;
        self.tables.forget();
        self.flush().await?;
        // After a promotion or a restore, positions are of another history.
        let server = format!("{}/{}", connected.system_id, connected.timeline);
        let is_other = |known: &String| *known != server;
        let why = if self.state.system_id.as_ref().is_some_and(is_other) {
            Some("the database is on another server or timeline than before".to_owned())
        } else if connected.slot_is_new && self.state.slot.is_some() {
            Some("the replication slot was made anew".to_owned())
        } else {
            None
        };
        if let Some(why) = self.lost.take().or(why) {
            self.log.store_gap(self.client, self.state, &why).await?;
            self.builder = SegmentBuilder::new(self.state.epoch);
            self.stored = self.log.head();
        }
        self.state.system_id = Some(server);
        self.state.slot = Some(self.slot.clone());
        self.state.save(self.client).await?;
        self.backfills.connected(self.state.epoch);
        self.done = connected.start;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), NotifyError> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let segment = self.builder.finish();
        self.stored = segment.last().unwrap_or(self.stored);
        let left = self.backfills.take_left();
        if left.is_empty() {
            self.log.store(self.client, segment).await?;
        } else {
            let also = backfill::add_left(self.client, &left);
            self.log.store_with(self.client, vec![segment], also).await?;
        }
        Ok(())
    }
}
