//! The log of changes: its end in memory, all of it in the sidecar's database.

mod prune;
mod recent;
mod state;
mod store;
mod tail;

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use integratedb_events::{EventId, Segment, SegmentError};
use tokio::sync::watch;

pub(super) use state::State;
pub(crate) use state::id;

use self::recent::Recent;
use self::tail::Tail;
use crate::db::{DbError, Pool};

/// Why the log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
    /// Changes after the one that was asked for are not there any more.
    #[error("changes up to {0} are not kept any more")]
    Pruned(EventId),
    /// A segment can't be read.
    #[error("the segment of the log that ends with {0} can't be read: {1}")]
    Segment(EventId, String),
}

impl From<tokio_postgres::Error> for LogError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

impl LogError {
    fn segment(id: EventId, error: SegmentError) -> Self {
        Self::Segment(id, error.to_string())
    }
}

/// What a sidecar that leads has done to the log.
#[derive(Debug, Default)]
pub(crate) struct LogFigures {
    pub(crate) changes: AtomicU64,
    pub(crate) segments: AtomicU64,
    /// Times that changes may have been missed.
    pub(crate) gaps: AtomicU64,
    /// Changes that are not kept any more.
    pub(crate) pruned: AtomicU64,
}

/// The log, shared by all who read it.
pub struct Log {
    pool: Pool,
    tail: Mutex<Tail>,
    /// What was read from the database of late.
    recent: Mutex<Recent>,
    head: watch::Sender<EventId>,
    figures: LogFigures,
    /// Bytes of all that was ever stored.
    total: AtomicI64,
}

impl Log {
    /// One whose end takes at most `memory` bytes here. It has to be [opened](Log::open) before it says anything.
    pub(super) fn new(pool: Pool, memory: usize) -> Self {
        Self {
            pool,
            tail: Mutex::new(Tail::new(memory)),
            recent: Mutex::new(Recent::new(memory / 4)),
            head: watch::Sender::default(),
            figures: LogFigures::default(),
            total: AtomicI64::new(0),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn figures(&self) -> &LogFigures {
        &self.figures
    }

    /// The last change that is stored: where one begins who wants to be told of what comes.
    pub fn head(&self) -> EventId {
        *self.head.borrow()
    }

    /// Tells of each change of the head.
    pub fn watch(&self) -> watch::Receiver<EventId> {
        self.head.subscribe()
    }

    /// The segment that has the first change after this one; `None` if there is none yet. The segment may have others
    /// before: see [`Segment::after`].
    pub async fn read(&self, after: EventId) -> Result<Option<Arc<Segment>>, LogError> {
        if after >= self.head() {
            return Ok(None);
        }
        if let Some(segment) = self.tail().after(after) {
            return Ok(Some(segment));
        }
        self.read_stored(after).await
    }

    /// The same, and waits for it. May be dropped while it waits.
    pub async fn next(&self, after: EventId) -> Result<Arc<Segment>, LogError> {
        let mut head = self.head.subscribe();
        loop {
            if let Some(segment) = self.read(after).await? {
                return Ok(segment);
            }
            if head.wait_for(|head| *head > after).await.is_err() {
                // The sender is here.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes a segment that is stored to the end of what is here.
    fn append(&self, segment: Arc<Segment>) {
        let Some(last) = segment.last() else { return };
        self.tail().push(segment);
        self.head.send_replace(last);
    }
}
