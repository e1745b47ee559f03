//! Where those who read chunks and the one who writes the log meet. Nothing here waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use integratedb_cache::Snapshot;
use integratedb_events::Op;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::rows::Chunk;
use super::window::{Key, Recent, Settled, Window};
use crate::notify::ingest::{Batch, RawChange, RawRow};
use crate::replication::{Relation, Value};

/// What a message in the WAL says of a chunk: `{"backfill":{"id":7,"chunk":1234,"mark":"low"}}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::notify) struct Mark {
    /// The backfill.
    pub(super) id: i64,
    /// Random, so that nobody else's and no earlier process's is taken for it.
    pub(super) chunk: u64,
    /// Which one.
    pub(super) mark: Which,
}

/// Which end of a chunk's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Which {
    Low,
    High,
}

/// The writer has come to a low mark.
#[derive(Debug)]
pub(super) struct Opened {
    /// The transactions before it that may not be visible yet.
    pub(super) before: Vec<u32>,
    /// Of what is remembered.
    pub(super) generation: u64,
}

/// What became of a chunk whose high mark came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// It is stored.
    Stored,
    /// It has to be read again.
    Again,
    /// The backfill is not running any more, or in another epoch.
    Over,
}

/// A chunk that is to be stored where its high mark is.
#[derive(Debug)]
pub(in crate::notify) struct Due {
    pub(super) id: i64,
    pub(super) chunk: Chunk,
    pub(super) settled: Settled,
    pub(super) reply: oneshot::Sender<Closed>,
}

/// A row to be read once more: of which backfill, of which table, and its key.
pub(in crate::notify) type Left = (i64, u32, Key);

/// The backfills that are under way: those that are read here, and those that are paused.
#[derive(Debug, Default)]
pub(in crate::notify) struct Backfills {
    inner: Mutex<Inner>,
    is_active: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    /// Kept while somebody reads.
    recent: Recent,
    under_way: HashMap<i64, UnderWay>,
    left: Vec<Left>,
    epoch: u32,
}

#[derive(Debug)]
struct UnderWay {
    /// The table that is read, or that was before it paused.
    relation: u32,
    /// The columns of the key.
    key: Vec<String>,
    /// A table of the stream, and where these columns are in it.
    places: Option<(Arc<Relation>, Option<Vec<usize>>)>,
    open: Option<Open>,
    /// Somebody reads it.
    is_read: bool,
}

#[derive(Debug)]
struct Open {
    chunk: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Awaited(oneshot::Sender<Opened>),
    Between(Window, Option<Box<(Chunk, oneshot::Sender<Closed>)>>),
}

/// What a change did to a row, by its keys.
#[derive(Debug)]
struct Touch {
    old: Option<Key>,
    new: Option<Key>,
    is_partial: bool,
}

/// A backfill that is read, until this is dropped.
pub(super) struct Reading {
    backfills: Arc<Backfills>,
    id: i64,
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(one) = self.backfills.lock().under_way.get_mut(&self.id) {
            one.is_read = false;
            one.open = None;
        }
    }
}

/// For those who read.
impl Backfills {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One is under way, and may be behind what it has read already.
    pub(super) fn track(&self, id: i64, relation: u32, key: Vec<String>) {
        let one = UnderWay { relation, key, places: None, open: None, is_read: false };
        self.lock().under_way.insert(id, one);
        self.is_active.store(true, Ordering::SeqCst);
    }

    /// Begins to read a table. From now on the writer remembers what it processes.
    pub(super) fn read(self: &Arc<Self>, id: i64, relation: u32, key: Vec<String>) -> Reading {
        let mut inner = self.lock();
        if !inner.under_way.values().any(|one| one.is_read) {
            inner.recent.forget();
        }
        let one = UnderWay { relation, key, places: None, open: None, is_read: true };
        inner.under_way.insert(id, one);
        self.is_active.store(true, Ordering::SeqCst);
        Reading { backfills: Arc::clone(self), id }
    }

    /// Which are under way and not read.
    pub(super) fn resting(&self) -> Vec<i64> {
        let inner = self.lock();
        inner.under_way.iter().filter(|(_, one)| !one.is_read).map(|(id, _)| *id).collect()
    }

    /// Those that are not read are not under way any more.
    pub(super) fn forget(&self, ids: &[i64]) {
        let mut inner = self.lock();
        inner.under_way.retain(|id, one| one.is_read || !ids.contains(id));
        inner.left.retain(|(id, ..)| !ids.contains(id));
        self.is_active.store(!inner.under_way.is_empty(), Ordering::SeqCst);
    }

    /// The log's epoch, and the number that is raised when transactions of before are forgotten.
    pub(super) fn now(&self) -> (u32, u64) {
        let inner = self.lock();
        (inner.epoch, inner.recent.generation())
    }

    /// A low mark is about to be written. The receiver ends without a word if it is not to be waited for.
    pub(super) fn await_low(&self, id: i64, chunk: u64) -> oneshot::Receiver<Opened> {
        let (sender, receiver) = oneshot::channel();
        if let Some(one) = self.lock().under_way.get_mut(&id) {
            one.open = Some(Open { chunk, stage: Stage::Awaited(sender) });
        }
        receiver
    }

    /// A snapshot was taken.
    pub(super) fn seen(&self, snapshot: &Snapshot) {
        self.lock().recent.seen(snapshot);
    }

    /// Rows that were read after the low mark; the high mark is about to be written. `None` if it is of no use.
    pub(super) fn offer(
        &self,
        id: i64,
        number: u64,
        chunk: Chunk,
    ) -> Option<oneshot::Receiver<Closed>> {
        let mut inner = self.lock();
        let open = inner.under_way.get_mut(&id)?.open.as_mut()?;
        match &mut open.stage {
            Stage::Between(_, rows) if open.chunk == number => {
                let (sender, receiver) = oneshot::channel();
                *rows = Some(Box::new((chunk, sender)));
                Some(receiver)
            }
            _ => None,
        }
    }
}

/// For the writer.
impl Backfills {
    /// What was under way is to be begun anew, and what was processed before is not known.
    pub(in crate::notify) fn connected(&self, epoch: u32) {
        let mut inner = self.lock();
        inner.epoch = epoch;
        inner.recent.forget();
        inner.left.clear();
        inner.under_way.values_mut().for_each(|one| {
            one.open = None;
            one.places = None;
        });
    }

    /// A row of a table changed, whether or not that is stored.
    pub(in crate::notify) fn change(&self, batch: &Batch, change: &RawChange) {
        if !self.is_active.load(Ordering::SeqCst) {
            return;
        }
        let is_moved = change.op == Op::Update && change.old.is_some();
        self.touch(change.relation.oid, is_moved, |one| {
            let places = one.places(&change.relation)?;
            touch(batch, change, places)
        });
    }

    /// A row changed as `how` tells for the key of each backfill; `None` if it can't tell. It may have another key than
    /// before if it `is_moved`.
    fn touch(&self, relation: u32, is_moved: bool, how: impl Fn(&mut UnderWay) -> Option<Touch>) {
        let Inner { under_way, left, .. } = &mut *self.lock();
        for (id, one) in under_way.iter_mut().filter(|(_, one)| one.relation == relation) {
            if !is_moved && one.window().is_none() {
                continue;
            }
            let Some(touch) = how(one) else {
                one.window().map(Window::lose);
                continue;
            };
            let Touch { old, new, is_partial } = touch;
            // A row with another key may be behind what is read, without its large values having been told.
            if let (Some(old), Some(new), true) = (&old, &new, is_partial)
                && old != new
            {
                left.push((*id, relation, new.clone()));
            }
            if let Some(window) = one.window() {
                old.iter().for_each(|key| window.touch(key, false));
                new.iter().for_each(|key| window.touch(key, is_partial));
            }
        }
    }

    /// Tables were emptied.
    pub(in crate::notify) fn truncate(&self, relations: &[Arc<Relation>]) {
        if !self.is_active.load(Ordering::SeqCst) {
            return;
        }
        for one in self.lock().under_way.values_mut() {
            if relations.iter().any(|relation| relation.oid == one.relation) {
                one.window().map(Window::empty);
            }
        }
    }

    /// Tables may be others: what was read of them may be, too.
    pub(in crate::notify) fn schema(&self) {
        let mut inner = self.lock();
        inner.under_way.values_mut().filter_map(UnderWay::window).for_each(Window::lose);
    }

    /// A transaction ends.
    pub(in crate::notify) fn commit(&self, xid: u32) {
        if self.is_active.load(Ordering::SeqCst) {
            let mut inner = self.lock();
            if inner.under_way.values().any(|one| one.is_read) {
                inner.recent.note(xid);
            }
        }
    }

    /// The stream comes to a mark. What is due is to be stored before anything that comes after.
    pub(in crate::notify) fn mark(&self, mark: Mark) -> Option<Due> {
        let Inner { under_way, recent, .. } = &mut *self.lock();
        let one = under_way.get_mut(&mark.id)?;
        // Of an earlier process, or given up meanwhile.
        let open = one.open.take_if(|open| open.chunk == mark.chunk)?;
        match (mark.mark, open.stage) {
            (Which::Low, Stage::Awaited(sender)) => {
                let opened = Opened { before: recent.all(), generation: recent.generation() };
                if sender.send(opened).is_ok() {
                    let stage = Stage::Between(Window::default(), None);
                    one.open = Some(Open { stage, ..open });
                }
                None
            }
            (Which::High, Stage::Between(window, Some(read))) => {
                let (chunk, reply) = *read;
                let asked: Vec<Key> = chunk.asked.iter().map(|(_, key)| key.clone()).collect();
                let Some(settled) = window.settle(chunk.rows.keys(), &asked) else {
                    let _ = reply.send(Closed::Again);
                    return None;
                };
                Some(Due { id: mark.id, chunk, settled, reply })
            }
            _ => None,
        }
    }

    /// Rows to be read again, that are to be stored with what the stream said of them.
    pub(in crate::notify) fn take_left(&self) -> Vec<Left> {
        if !self.is_active.load(Ordering::SeqCst) {
            return Vec::new();
        }
        std::mem::take(&mut self.lock().left)
    }
}

impl UnderWay {
    fn window(&mut self) -> Option<&mut Window> {
        match &mut self.open.as_mut()?.stage {
            Stage::Between(window, _) => Some(window),
            Stage::Awaited(_) => None,
        }
    }

    /// Where the key's columns are in a table as it is told; `None` if not all are there.
    fn places(&mut self, relation: &Arc<Relation>) -> Option<&[usize]> {
        if !self.places.as_ref().is_some_and(|(told, _)| Arc::ptr_eq(told, relation)) {
            let place =
                |name: &String| relation.columns.iter().position(|column| column.name == *name);
            let places = self.key.iter().map(place).collect();
            self.places = Some((Arc::clone(relation), places));
        }
        self.places.as_ref().and_then(|(_, places)| places.as_deref())
    }
}

/// What a change did; `None` if a key can't be read.
fn touch(batch: &Batch, change: &RawChange, places: &[usize]) -> Option<Touch> {
    let values = |row: RawRow| batch.row(row).collect::<Vec<_>>();
    let (new, old) = (change.new.map(values), change.old.map(|(_, row)| values(row)));
    let is_full = change.old.is_some_and(|(is_full, _)| is_full);
    let old_key = match &old {
        Some(old) => Some(Key::of(places.iter().map(|place| known(old.get(*place))))?),
        None => None,
    };
    let new_key = match &new {
        // A key so large that it is left out comes with the old row.
        Some(new) => Some(Key::of(places.iter().map(|place| {
            known(new.get(*place)).or_else(|| known(old.as_ref().and_then(|old| old.get(*place))))
        }))?),
        None => None,
    };
    let is_left_out = |value: &Value<'_>| *value == Value::Unchanged;
    let is_partial = !is_full && new.is_some_and(|new| new.iter().any(is_left_out));
    Some(Touch { old: old_key, new: new_key, is_partial })
}

fn known<'a>(value: Option<&Value<'a>>) -> Option<&'a [u8]> {
    match value? {
        Value::Text(text) | Value::Binary(text) => Some(text),
        Value::Null | Value::Unchanged => None,
    }
}

#[cfg(test)]
mod simulation;
