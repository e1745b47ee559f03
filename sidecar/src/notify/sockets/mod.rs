//! Sockets: a stakeholder's events as they come, over WebSocket or SSE.
//!
//! A socket keeps nothing here but its position in the log (`feed`). It reads on when its client has taken what was read
//! before, so one that is slow costs a segment, whatever it has not got yet. Who comes back goes on after the last id he
//! got. A socket ends with its token, its stakeholder or the sidecar (`lease`).

mod feed;
mod lease;
mod sse;
mod ticket;
mod websocket;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use integratedb_events::{EventId, Op};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(crate) use self::feed::{Chunk, Feed};
pub(crate) use self::lease::End;
use self::lease::Lease;
pub(crate) use self::ticket::{Tickets, VALID};
use super::{Notifications, Role};
use crate::auth::Token;

/// How long a socket waits for the log to be opened, when the sidecar has just started.
const START: Duration = Duration::from_secs(10);

/// How long sockets get to say good-bye.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a socket is spoken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    WebSocket,
    Sse,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::WebSocket, Self::Sse];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
        }
    }
}

/// Figures of the sockets of one kind.
#[derive(Debug, Default)]
pub(crate) struct SocketFigures {
    pub(crate) open: AtomicUsize,
    pub(crate) opened: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) gaps: AtomicU64,
}

/// The sockets of one sidecar.
pub(crate) struct Sockets {
    notifications: Arc<Notifications>,
    permits: Arc<Semaphore>,
    tickets: Tickets,
    figures: [SocketFigures; 2],
    looks: watch::Sender<()>,
    stopping: CancellationToken,
    open: TaskTracker,
}

/// Why there is no socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpen {
    /// There are as many as there may be.
    Full,
    /// The log is not open.
    Starting,
}

impl Sockets {
    /// Sockets that are closed when `stopping` is cancelled.
    pub(crate) fn new(notifications: Arc<Notifications>, stopping: CancellationToken) -> Arc<Self> {
        let most = notifications.settings().max_sockets;
        Arc::new(Self {
            notifications,
            permits: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            tickets: Tickets::default(),
            figures: Default::default(),
            looks: watch::Sender::default(),
            stopping,
            open: TaskTracker::new(),
        })
    }

    pub(crate) const fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Figures of one kind.
    pub(crate) const fn figures(&self, kind: Kind) -> &SocketFigures {
        &self.figures[kind as usize]
    }

    /// A token or stakeholder may be gone: every socket looks whether it was its own.
    pub(crate) fn look(&self) {
        self.looks.send_replace(());
    }

    /// Waits until all have closed, or have had the time to.
    pub(crate) async fn closed(&self) {
        self.open.close();
        if tokio::time::timeout(GOODBYE, self.open.wait()).await.is_err() {
            tracing::warn!(sockets = self.open.len(), "sockets did not close in time");
        }
    }

    /// Waits, but not for ever, until the log is open; the position of its last change.
    pub(crate) async fn head(&self) -> Result<EventId, NotOpen> {
        let log = self.notifications.log();
        if log.head() == EventId::default() {
            let mut role = self.notifications.role();
            let opened = role.wait_for(|role| *role != Role::Starting);
            let opened = tokio::time::timeout(START, opened).await;
            opened.map_err(|_| NotOpen::Starting)?.map_err(|_| NotOpen::Starting)?;
        }
        Ok(log.head())
    }

    /// A feed for a stakeholder, after this position.
    pub(crate) fn feed(&self, stakeholder: i64, name: String, after: EventId) -> Feed {
        Feed::new(&self.notifications, stakeholder, name, after)
    }

    /// Opens a socket for whoever has this token for so long. It begins after `after`, or now.
    pub(crate) async fn open(
        self: &Arc<Self>,
        kind: Kind,
        (stakeholder, name): (i64, String),
        after: Option<EventId>,
        (token, remaining): (Token, Duration),
    ) -> Result<Session, NotOpen> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| NotOpen::Full)?;
        let head = self.head().await?;
        let after = after.unwrap_or(head);
        let lease = Lease::new(self, stakeholder, token, remaining);
        let every = self.notifications.settings().heartbeat();
        let mut beat = tokio::time::interval_at(Instant::now() + every, every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let figures = self.figures(kind);
        figures.open.fetch_add(1, Relaxed);
        figures.opened.fetch_add(1, Relaxed);
        Ok(Session {
            kind,
            sockets: Arc::clone(self),
            feed: self.feed(stakeholder, name, after),
            ended: Box::pin(lease.ended()),
            beat,
            told: after,
            _open: (permit, self.open.token()),
        })
    }
}

/// An open socket, whatever it is spoken over.
pub(crate) struct Session {
    kind: Kind,
    sockets: Arc<Sockets>,
    feed: Feed,
    ended: Pin<Box<dyn Future<Output = End> + Send>>,
    beat: Interval,
    /// The last position that the client knows.
    told: EventId,
    _open: (OwnedSemaphorePermit, TaskTrackerToken),
}

impl Session {
    /// The first thing that is said: where it begins.
    fn hello(&self) -> String {
        format!("{{\"type\":\"hello\",\"after\":\"{}\",\"version\":1}}", self.told)
    }

    /// The position, if the client does not know it: for a client to go on from though it was told nothing.
    fn news(&mut self) -> Option<EventId> {
        let position = self.feed.position();
        (std::mem::replace(&mut self.told, position) != position).then_some(position)
    }

    /// Notes that a chunk was sent.
    fn sent(&mut self, chunk: &Chunk) {
        let figures = self.sockets.figures(self.kind);
        let gaps = chunk.events.iter().filter(|told| told.op == Op::Gap).count();
        figures.events.fetch_add(chunk.events.len() as u64, Relaxed);
        figures.gaps.fetch_add(gaps as u64, Relaxed);
        self.told = chunk.events.last().map_or(self.told, |told| told.id);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sockets.figures(self.kind).open.fetch_sub(1, Relaxed);
    }
}
