//! Events of one channel, from the log.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use integratedb_events::{EventId, Keys, Renderer, Segment, View};
use tokio::sync::watch;

use super::config::Kind;
use super::store::Row;
use crate::notify::{LogError, Notifications, Subscriptions};
use crate::replication::PgTime;

/// Changes that are looked at before others get their turn.
const AT_ONCE: usize = 2000;

/// An event, as it is delivered.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: EventId,
    /// The cursor of whoever has all before it.
    pub(super) before: EventId,
    pub(super) keys: Keys,
    /// The table's OID in the log; of a gap, 0.
    pub(super) relation: u32,
    pub(super) commit_micros: i64,
    pub(super) json: String,
}

/// Reads the log for a channel. What it subscribes to is looked up when it is read.
pub(super) struct Source {
    notifications: Arc<Notifications>,
    subscriptions: watch::Receiver<Arc<Subscriptions>>,
    stakeholder: i64,
    channel: String,
    kind: Kind,
    renderer: Renderer,
    tables: HashMap<u32, (String, String)>,
    generation: u64,
    position: EventId,
    segment: Option<Arc<Segment>>,
    scratch: Vec<u8>,
}

impl Source {
    /// Reads on after `cursor`.
    pub(super) fn new(notifications: Arc<Notifications>, row: &Row, cursor: EventId) -> Self {
        let mut source = Self {
            subscriptions: notifications.subscriptions(),
            notifications,
            stakeholder: row.stakeholder,
            channel: row.config.name.clone(),
            kind: row.config.kind,
            renderer: Renderer::new(View::default()),
            tables: HashMap::new(),
            generation: 0,
            position: cursor,
            segment: None,
            scratch: Vec::new(),
        };
        source.subscribe();
        source
    }

    fn subscribe(&mut self) {
        let all = Arc::clone(&self.subscriptions.borrow_and_update());
        let view = all.view(self.stakeholder, &self.channel, self.kind.as_str());
        let table =
            |(oid, schema, table): (u32, &str, &str)| (oid, (schema.to_owned(), table.to_owned()));
        self.tables = view.tables().map(table).collect();
        self.renderer = Renderer::new(view);
        self.generation += 1;
    }

    /// Everything up to here was looked at.
    pub(super) const fn position(&self) -> EventId {
        self.position
    }

    /// The tables that are told of at present, by their OIDs in the log.
    pub(super) const fn tables(&self) -> &HashMap<u32, (String, String)> {
        &self.tables
    }

    /// Another number whenever these may be others; from 1.
    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    /// The end of the log.
    pub(super) fn head(&self) -> EventId {
        self.notifications.log().head()
    }

    /// Waits until there is something to look at. May be dropped while it waits.
    pub(super) async fn wait(&mut self) -> Result<(), LogError> {
        if self.segment.is_none() {
            let segment = match self.notifications.log().next(self.position).await {
                Ok(segment) => segment,
                Err(LogError::Pruned(last)) => Arc::new(gap(last)),
                Err(error) => return Err(error),
            };
            self.segment = Some(segment);
        }
        Ok(())
    }

    /// Appends what is there, about as many events and bytes as these; false if there was nothing to look at.
    pub(super) fn take(
        &mut self,
        most: usize,
        most_bytes: usize,
        out: &mut VecDeque<Event>,
    ) -> bool {
        let Some(segment) = self.segment.take() else { return false };
        if self.subscriptions.has_changed().unwrap_or_default() {
            self.subscribe();
        }
        let (mut count, mut bytes) = (0, 0);
        for change in segment.after(self.position).take(AT_ONCE) {
            let before = self.position;
            self.position = change.id;
            self.scratch.clear();
            if !self.renderer.render(&change, &mut self.scratch) {
                continue;
            }
            out.push_back(Event {
                id: change.id,
                before,
                keys: change.keys(),
                relation: change.shape.relation,
                commit_micros: change.commit_micros,
                json: String::from_utf8_lossy(&self.scratch).into_owned(),
            });
            (count, bytes) = (count + 1, bytes + self.scratch.len());
            if count >= most || bytes >= most_bytes {
                break;
            }
        }
        if segment.last().is_some_and(|last| last > self.position) {
            self.segment = Some(segment);
        }
        true
    }
}

/// What is told in the place of changes that were pruned before they were read: the last of them is this one.
fn gap(last: EventId) -> Segment {
    let reason = "the channel was so far behind that changes were not kept any more";
    Segment::gap(last, PgTime::now().unix_micros(), reason)
}
