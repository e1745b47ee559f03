//! A stakeholder's events from the log, some at a time.

use std::sync::Arc;

use integratedb_events::{Change, EventId, Op, Renderer, Segment, View};
use tokio::sync::watch;

use crate::notify::{LogError, Notifications, Subscriptions};
use crate::replication::PgTime;

/// Bytes of events beyond which they are sent before more are looked at.
const CHUNK: usize = 64 << 10;

/// Segments that are looked through for one page.
const PAGE_SEGMENTS: usize = 64;

/// Bytes of events beyond which a page ends.
const PAGE_BYTES: usize = 4 << 20;

/// The name of the channel, and its kind.
const SOCKET: &str = "SOCKET";

/// Events as JSON, one behind the other; there is no line break in any of them.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    pub(crate) events: Vec<Told>,
}

/// An event of a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) id: EventId,
    pub(crate) op: Op,
    /// Where it ends in the bytes, and the next one begins.
    pub(crate) end: usize,
}

impl Chunk {
    /// The events and their JSON.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Told, &[u8])> {
        let mut start = 0;
        self.events.iter().map(move |told| {
            let json = &self.bytes[start..told.end];
            start = told.end;
            (*told, json)
        })
    }

    /// Appends the event that a change is, if it is one.
    fn push(&mut self, renderer: &mut Renderer, change: &Change<'_>) {
        if renderer.render(change, &mut self.bytes) {
            self.events.push(Told { id: change.id, op: change.op, end: self.bytes.len() });
        }
    }
}

/// What is left to tell a stakeholder's socket.
pub(crate) struct Feed {
    notifications: Arc<Notifications>,
    subscriptions: watch::Receiver<Arc<Subscriptions>>,
    stakeholder: i64,
    /// Its name where it subscribes to nothing.
    name: String,
    renderer: Renderer,
    /// All up to this one is told, or is not for this stakeholder.
    position: EventId,
    /// What is being told.
    segment: Option<Arc<Segment>>,
}

impl Feed {
    /// Of a stakeholder, after this position.
    pub(crate) fn new(
        notifications: &Arc<Notifications>,
        stakeholder: i64,
        name: String,
        position: EventId,
    ) -> Self {
        let mut subscriptions = notifications.subscriptions();
        let view = view(&subscriptions.borrow_and_update(), stakeholder, &name);
        Self {
            notifications: Arc::clone(notifications),
            subscriptions,
            stakeholder,
            name,
            renderer: Renderer::new(view),
            position,
            segment: None,
        }
    }

    /// Where to go on after all that was given.
    pub(crate) const fn position(&self) -> EventId {
        self.position
    }

    /// Waits for the next events; there is at least one. May be dropped while it waits.
    pub(crate) async fn next(&mut self) -> Result<Chunk, LogError> {
        let mut chunk = Chunk::default();
        loop {
            if self.fill(&mut chunk, usize::MAX, CHUNK) {
                return Ok(chunk);
            }
            if !chunk.events.is_empty() {
                return Ok(chunk);
            }
            // Others want to go on too, where there is much that is not for this stakeholder.
            tokio::task::yield_now().await;
            match self.notifications.log().next(self.position).await {
                Ok(segment) => self.segment = Some(segment),
                Err(LogError::Pruned(last)) => {
                    self.gap(last, &mut chunk);
                    return Ok(chunk);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What is there already, at most `limit` events; and whether there may be more. `is_start`: whoever asks begins at
    /// what is kept, so that what is not kept any more is no gap.
    pub(crate) async fn page(
        &mut self,
        limit: usize,
        is_start: bool,
    ) -> Result<(Chunk, bool), LogError> {
        let mut chunk = Chunk::default();
        for _ in 0..PAGE_SEGMENTS {
            if self.fill(&mut chunk, limit, PAGE_BYTES) {
                return Ok((chunk, true));
            }
            match self.notifications.log().read(self.position).await {
                Ok(Some(segment)) => self.segment = Some(segment),
                Ok(None) => return Ok((chunk, false)),
                Err(LogError::Pruned(last)) if is_start => self.position = last,
                Err(LogError::Pruned(last)) => self.gap(last, &mut chunk),
                Err(error) => return Err(error),
            }
        }
        Ok((chunk, true))
    }

    /// Appends events of the segment that is being told; true if the chunk is full, else that segment is told to its end.
    fn fill(&mut self, chunk: &mut Chunk, limit: usize, most: usize) -> bool {
        if chunk.events.len() >= limit || chunk.bytes.len() >= most {
            return true;
        }
        let Some(segment) = self.segment.take() else { return false };
        // Only now: what is in the segment was stored after the subscriptions that it is told by were known.
        if self.subscriptions.has_changed().unwrap_or(false) {
            let view = view(&self.subscriptions.borrow_and_update(), self.stakeholder, &self.name);
            self.renderer = Renderer::new(view);
        }
        for change in segment.after(self.position) {
            chunk.push(&mut self.renderer, &change);
            self.position = change.id;
            if chunk.events.len() >= limit || chunk.bytes.len() >= most {
                self.segment = Some(Arc::clone(&segment));
                return true;
            }
        }
        self.position = segment.last().unwrap_or(self.position);
        false
    }

    /// Tells that what was up to `last` is not kept any more.
    fn gap(&mut self, last: EventId, chunk: &mut Chunk) {
        let reason = "changes before this one are not kept any more";
        let gap = Segment::gap(last, PgTime::now().unix_micros(), reason);
        gap.changes().for_each(|change| chunk.push(&mut self.renderer, &change));
        self.position = last;
        self.segment = None;
    }
}

fn view(subscriptions: &Subscriptions, stakeholder: i64, name: &str) -> View {
    match subscriptions.of_stakeholder(stakeholder) {
        Some(_) => subscriptions.view(stakeholder, SOCKET, SOCKET),
        None => View::new(stakeholder, name, []),
    }
}
