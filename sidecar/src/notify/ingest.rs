//! Takes what a reader delivers into a bounded queue, from which the writer takes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use integratedb_events::Op;
use tokio::sync::Notify;

use crate::replication::{
    Begin, Change, Commit, Connected, LogicalMessage, Lsn, MESSAGE_PREFIX, Old, Relation, Row,
    Sink, Truncate, Value,
};

/// Bytes in the queue beyond which the reader has to wait.
const FULL: usize = 4 << 20;

/// What was delivered, in its order.
pub(super) enum Item {
    Connected(Box<Connected>),
    /// A transaction without its commit never was; but as the origin only tells of those that did commit, what came of
    /// it is right, and what is missing comes again.
    Disconnected,
    Lost(String),
    Begin(Begin),
    Change(RawChange),
    /// The tables that were emptied, and the number of the first of these changes.
    Truncate(Vec<Arc<Relation>>, u32),
    /// One of ours: what it says.
    Message(Vec<u8>),
    Commit(Commit),
    Position(Lsn),
}

/// A change of a row, copied.
pub(super) struct RawChange {
    pub(super) relation: Arc<Relation>,
    pub(super) op: Op,
    /// Which change of its transaction it is.
    pub(super) index: u32,
    pub(super) new: Option<RawRow>,
    /// Whether all of it is told, and what.
    pub(super) old: Option<(bool, RawRow)>,
}

/// Where the values of a row begin in the bytes of its batch.
#[derive(Clone, Copy)]
pub(super) struct RawRow {
    start: usize,
    count: usize,
}

/// What the writer takes at once.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    bytes: Vec<u8>,
}

impl Batch {
    fn size(&self) -> usize {
        self.bytes.len() + self.items.len() * size_of::<Item>()
    }

    fn add(&mut self, row: Row<'_>) -> RawRow {
        let start = self.bytes.len();
        for value in row.iter() {
            let (kind, text): (u8, &[u8]) = match value {
                Value::Null => (0, b""),
                Value::Unchanged => (1, b""),
                Value::Text(text) | Value::Binary(text) => (2, text),
            };
            self.bytes.push(kind);
            if kind == 2 {
                // A message has 31 bits for it.
                self.bytes.extend_from_slice(&(text.len() as u32).to_ne_bytes());
                self.bytes.extend_from_slice(text);
            }
        }
        RawRow { start, count: row.len() }
    }

    /// The values of a row.
    pub(super) fn row(&self, row: RawRow) -> impl Iterator<Item = Value<'_>> {
        let mut rest = &self.bytes[row.start..];
        (0..row.count).map_while(move |_| {
            let (kind, after) = rest.split_first()?;
            rest = after;
            match kind {
                0 => Some(Value::Null),
                1 => Some(Value::Unchanged),
                _ => {
                    let (length, after) = rest.split_first_chunk::<4>()?;
                    let (text, after) =
                        after.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
                    rest = after;
                    Some(Value::Text(text))
                }
            }
        })
    }
}

/// What is between a reader and the writer.
#[derive(Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    filled: Notify,
    confirmed: AtomicU64,
}

#[derive(Default)]
struct Queue {
    batch: Batch,
    waker: Option<Waker>,
}

impl Inbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for something, and takes all of it. May be dropped while it waits.
    pub(super) async fn take(&self) -> Batch {
        loop {
            {
                let mut queue = self.queue();
                if !queue.batch.items.is_empty() {
                    if let Some(waker) = queue.waker.take() {
                        waker.wake();
                    }
                    return std::mem::take(&mut queue.batch);
                }
            }
            self.filled.notified().await;
        }
    }

    /// All before this position is stored, or concerns nobody.
    pub(super) fn confirm(&self, position: Lsn) {
        self.confirmed.fetch_max(position.0, Ordering::AcqRel);
    }
}

/// The reader's end of it.
pub(super) struct Ingest {
    inbox: Arc<Inbox>,
    /// Changes of the open transaction so far.
    index: u32,
}

impl Ingest {
    pub(super) fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, index: 0 }
    }

    fn put(&self, make: impl FnOnce(&mut Batch) -> Item) {
        let mut queue = self.inbox.queue();
        let item = make(&mut queue.batch);
        match (queue.batch.items.last_mut(), item) {
            (Some(Item::Position(last)), Item::Position(next)) => *last = next,
            (_, item) => queue.batch.items.push(item),
        }
        let is_first = queue.batch.items.len() == 1;
        drop(queue);
        if is_first {
            self.inbox.filled.notify_one();
        }
    }
}

impl Sink for Ingest {
    fn connected(&mut self, connected: &Connected) {
        self.put(|_| Item::Connected(Box::new(connected.clone())));
    }

    fn disconnected(&mut self, _: &str) {
        self.put(|_| Item::Disconnected);
    }

    fn lost(&mut self, why: &str) {
        self.put(|_| Item::Lost(why.to_owned()));
    }

    fn begin(&mut self, begin: &Begin) {
        self.index = 0;
        self.put(|_| Item::Begin(*begin));
    }

    fn change(&mut self, relation: &Arc<Relation>, change: &Change<'_>) {
        let index = self.index;
        self.index += 1;
        let relation = Arc::clone(relation);
        self.put(|batch| {
            let (op, new, old) = match change {
                Change::Insert { new } => (Op::Insert, Some(*new), None),
                Change::Update { old, new } => (Op::Update, Some(*new), *old),
                Change::Delete { old } => (Op::Delete, None, Some(*old)),
            };
            let new = new.map(|row| batch.add(row));
            let old = old.map(|old| match old {
                Old::Key(row) => (false, batch.add(row)),
                Old::Row(row) => (true, batch.add(row)),
            });
            Item::Change(RawChange { relation, op, index, new, old })
        });
    }

    fn truncate(&mut self, relations: &[&Arc<Relation>], _: Truncate) {
        let index = self.index;
        // There are never so many tables.
        self.index += relations.len() as u32;
        let relations = relations.iter().map(|relation| Arc::clone(relation)).collect();
        self.put(|_| Item::Truncate(relations, index));
    }

    fn message(&mut self, message: &LogicalMessage<'_>) {
        if message.prefix == MESSAGE_PREFIX && message.transactional {
            self.put(|_| Item::Message(message.content.to_vec()));
        }
    }

    fn commit(&mut self, commit: &Commit) {
        self.put(|_| Item::Commit(*commit));
    }

    fn position(&mut self, position: Lsn) {
        self.put(|_| Item::Position(position));
    }

    fn confirmable(&self) -> Lsn {
        Lsn(self.inbox.confirmed.load(Ordering::Acquire))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.inbox.queue();
        if queue.batch.size() < FULL {
            return Poll::Ready(());
        }
        queue.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
