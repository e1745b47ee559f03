//! The events of a channel that are not finished: which go next, what failed, and what of it is to be kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use integratedb_events::{EventId, Keys};

use super::super::source::Event;
use super::super::store::{Dead, Kept, Progress};
use super::body::{body, delivery_id};
use super::order::{Group, Number, Order};
use super::settings::WebhookSettings;

/// Events that failed or wait behind those, beyond which no more are read.
const MOST_KEPT: usize = 1000;

/// Bytes of these.
const MOST_KEPT_BYTES: usize = 32 << 20;

/// Bytes of events that are read and not finished.
const MOST_BYTES: usize = 16 << 20;

/// Bytes of a request's events, except where one has more.
const BODY_BYTES: usize = 1 << 20;

/// An event that is not finished.
struct Entry {
    event: Event,
    /// When it was read.
    since: Instant,
    /// Whether it is in the database.
    is_kept: bool,
    /// In which it is sent; 0 if in none yet.
    group: Group,
}

/// Events that are sent together, again and again with the same id.
struct Post {
    id: String,
    numbers: Vec<Number>,
    /// Those that count.
    failures: u32,
    error: Option<String>,
    /// When it is sent again; none while it is on its way.
    due: Option<Instant>,
    /// Whether there was no answer.
    was_silent: bool,
    /// Whether the database does not know of its last failure.
    is_changed: bool,
}

/// What is to be sent.
pub(super) struct Request {
    pub(super) group: Group,
    pub(super) id: String,
    pub(super) body: Vec<u8>,
}

/// All events that are not finished.
pub(super) struct Outbox {
    max_events: usize,
    max_wait: Duration,
    window: usize,
    order: Order,
    entries: HashMap<Number, Entry>,
    /// Read, and not yet in order: at most what one reading gives.
    pub(super) incoming: VecDeque<Event>,
    /// Those that hold the cursor, with where it is before them.
    unsettled: BTreeMap<Number, EventId>,
    unsettled_bytes: usize,
    kept: usize,
    kept_bytes: usize,
    posts: HashMap<Group, Post>,
    due: BTreeSet<(Instant, Group)>,
    last_group: Group,
    /// Whether the last that was sent had failed before.
    was_repeated: bool,
    /// A gap that is to be sent before what comes after it.
    gap: Option<Number>,
    done: Vec<EventId>,
    dead: Vec<Dead>,
    /// Those after the cursor that were kept or given up already. The log has them too.
    known: HashSet<EventId>,
}

impl Outbox {
    /// With what was kept, those that failed first, and what was given up.
    pub(super) fn new(
        settings: &WebhookSettings,
        kept: Vec<Kept>,
        dead: Vec<EventId>,
        now: Instant,
    ) -> Self {
        let mut outbox = Self {
            max_events: settings.max_events,
            max_wait: settings.max_wait,
            window: (2 * settings.concurrency * settings.max_events).clamp(256, 20_000),
            order: Order::default(),
            entries: HashMap::new(),
            incoming: VecDeque::new(),
            unsettled: BTreeMap::new(),
            unsettled_bytes: 0,
            kept: 0,
            kept_bytes: 0,
            posts: HashMap::new(),
            due: BTreeSet::new(),
            last_group: 0,
            was_repeated: false,
            gap: None,
            done: Vec::new(),
            dead: Vec::new(),
            known: dead.into_iter().chain(kept.iter().map(|kept| kept.id)).collect(),
        };
        let mut groups: HashMap<String, Group> = HashMap::new();
        for kept in kept {
            outbox.restore(kept, &mut groups, now);
        }
        let posts: Vec<_> =
            outbox.posts.iter().map(|(group, post)| (*group, post.numbers.clone())).collect();
        for (group, numbers) in posts {
            outbox.order.retake(group, &numbers);
        }
        outbox
    }

    fn restore(&mut self, kept: Kept, groups: &mut HashMap<String, Group>, now: Instant) {
        let Kept { id, keys, commit_micros, event: json, delivery, failures, wait, error } = kept;
        let event = Event { id, before: id, keys, relation: 0, commit_micros, json };
        let number = self.order.push(keys);
        let mut entry = Entry { event, since: now, is_kept: true, group: 0 };
        if let Some(delivery) = delivery {
            let group = *groups.entry(delivery.clone()).or_insert_with(|| {
                self.last_group += 1;
                self.last_group
            });
            entry.group = group;
            let due = now + wait.unwrap_or_default();
            let post = self.posts.entry(group).or_insert_with(|| Post {
                id: delivery,
                numbers: Vec::new(),
                failures,
                error,
                due: Some(due),
                was_silent: false,
                is_changed: false,
            });
            post.numbers.push(number);
            if post.numbers.len() == 1 {
                self.due.insert((due, group));
            }
        }
        self.kept += 1;
        self.kept_bytes += entry.event.json.len();
        self.entries.insert(number, entry);
    }

    /// Whether more is to be read.
    pub(super) fn has_room(&self) -> bool {
        self.incoming.is_empty()
            && self.unsettled.len() < self.window
            && self.unsettled_bytes < MOST_BYTES
            && self.kept < MOST_KEPT
            && self.kept_bytes < MOST_KEPT_BYTES
    }

    /// How many more events are worth reading at once.
    pub(super) const fn at_once(&self) -> usize {
        self.window
    }

    /// Gives what was read its place. A gap comes after all before it that is not waiting for another attempt, and
    /// before all that comes after it.
    pub(super) fn admit(&mut self, now: Instant) {
        while let Some(event) = self.incoming.front() {
            if self.known.remove(&event.id) {
                self.incoming.pop_front();
                continue;
            }
            let is_gap = event.keys == Keys::All;
            if !self.gap_is_past() || is_gap && !self.is_quiet() {
                return;
            }
            let Some(event) = self.incoming.pop_front() else { return };
            let number = self.order.push(event.keys);
            self.gap = is_gap.then_some(number);
            self.unsettled.insert(number, event.before);
            self.unsettled_bytes += event.json.len();
            self.entries.insert(number, Entry { event, since: now, is_kept: false, group: 0 });
        }
    }

    fn gap_is_past(&self) -> bool {
        let entry = self.gap.and_then(|gap| self.entries.get(&gap));
        entry.is_none_or(|entry| self.posts.get(&entry.group).is_some_and(|post| post.failures > 0))
    }

    fn is_quiet(&self) -> bool {
        let waits = |post: &Post| post.failures > 0 && post.due.is_some();
        self.order.ready().is_empty() && self.posts.values().all(waits)
    }

    /// What goes next. While the endpoint is down, what failed and what is new take turns, as an event may itself be
    /// why there is no answer.
    pub(super) fn next(&mut self, now: Instant, is_down: bool) -> Option<Request> {
        let repeated = self.due.first().filter(|(due, _)| *due <= now).map(|(_, group)| *group);
        let is_new_first = is_down && self.was_repeated;
        let group = match repeated {
            Some(group) if !is_new_first => group,
            _ => self.form(now).or(repeated)?,
        };
        self.was_repeated = repeated == Some(group);
        let post = self.posts.get_mut(&group)?;
        if let Some(due) = post.due.take() {
            self.due.remove(&(due, group));
        }
        let events: Vec<&Event> = post
            .numbers
            .iter()
            .filter_map(|number| Some(&self.entries.get(number)?.event))
            .collect();
        Some(Request { group, id: post.id.clone(), body: body(&events) })
    }

    /// Makes a group of what is ready, if there is enough of it or it has waited long enough.
    fn form(&mut self, now: Instant) -> Option<Group> {
        if self.forms_at()? > now {
            return None;
        }
        let group = self.last_group + 1;
        let (mut bytes, entries) = (0, &self.entries);
        let numbers = self.order.take(group, self.max_events, |number| {
            let size = entries.get(&number).map_or(0, |entry| entry.event.json.len());
            let fits = bytes == 0 || bytes + size <= BODY_BYTES;
            bytes += size;
            fits
        });
        self.last_group = group;
        let mut ids = Vec::new();
        for number in &numbers {
            let entry = self.entries.get_mut(number)?;
            entry.group = group;
            ids.push(entry.event.id);
        }
        let post = Post {
            id: delivery_id(&ids)?,
            numbers,
            failures: 0,
            error: None,
            due: None,
            was_silent: false,
            is_changed: false,
        };
        self.posts.insert(group, post);
        Some(group)
    }

    /// When a group can be made of what is ready.
    fn forms_at(&self) -> Option<Instant> {
        let ready = self.order.ready();
        let since = self.entries.get(ready.first()?)?.since;
        Some(if ready.len() >= self.max_events { since } else { since + self.max_wait })
    }

    /// When there is something to send.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due).into_iter().chain(self.forms_at()).min()
    }

    /// When something that failed is sent again.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// How often a group has failed.
    pub(super) fn failures(&self, group: Group) -> u32 {
        self.posts.get(&group).map_or(0, |post| post.failures)
    }

    /// Its events were taken; gives how many.
    pub(super) fn taken(&mut self, group: Group) -> usize {
        let Some(post) = self.posts.remove(&group) else { return 0 };
        for number in &post.numbers {
            self.finish(*number);
        }
        post.numbers.len()
    }

    /// It failed, and goes again at a time or is given up. Gives how many events were.
    pub(super) fn failed(
        &mut self,
        group: Group,
        error: String,
        again: Option<Instant>,
        was_silent: bool,
    ) -> usize {
        let Some(mut post) = self.posts.remove(&group) else { return 0 };
        post.failures += 1;
        let Some(due) = again else {
            for number in &post.numbers {
                let Some(Event { id, keys, commit_micros, json, .. }) = self.finish(*number) else {
                    continue;
                };
                let (attempts, error) = (post.failures, error.clone());
                self.dead.push(Dead { id, keys, commit_micros, event: json, attempts, error });
            }
            return post.numbers.len();
        };
        (post.error, post.due, post.was_silent, post.is_changed) =
            (Some(error), Some(due), was_silent, true);
        self.due.insert((due, group));
        self.posts.insert(group, post);
        0
    }

    /// It goes again as if nothing had been: what failed was not its fault.
    pub(super) fn put_back(&mut self, group: Group, now: Instant) {
        if let Some(post) = self.posts.get_mut(&group) {
            post.due = Some(now);
            self.due.insert((now, group));
        }
    }

    /// The endpoint answers again: what had no answer need not wait any longer.
    pub(super) fn revive(&mut self, now: Instant) {
        for (group, post) in &mut self.posts {
            if let (true, Some(due)) = (post.was_silent, post.due)
                && due > now
            {
                self.due.remove(&(due, *group));
                self.due.insert((now, *group));
                post.due = Some(now);
            }
        }
    }

    fn finish(&mut self, number: Number) -> Option<Event> {
        self.order.finish(number);
        self.settle(number);
        let entry = self.entries.remove(&number)?;
        if entry.is_kept {
            self.kept -= 1;
            self.kept_bytes -= entry.event.json.len();
            self.done.push(entry.event.id);
        }
        Some(entry.event)
    }

    fn settle(&mut self, number: Number) {
        if self.unsettled.remove(&number).is_some()
            && let Some(entry) = self.entries.get(&number)
        {
            self.unsettled_bytes -= entry.event.json.len();
        }
    }

    /// What is to be written by now; `position` is how far the log was read. It counts as written.
    pub(super) fn progress(&mut self, position: EventId, now: Instant) -> Progress {
        let mut keep = Vec::new();
        let mut changed = Vec::new();
        for (group, post) in &mut self.posts {
            if post.due.is_some() && std::mem::take(&mut post.is_changed) {
                changed.push(*group);
            }
        }
        for group in changed {
            let numbers =
                self.posts.get(&group).map(|post| post.numbers.clone()).unwrap_or_default();
            keep.extend(numbers.into_iter().filter_map(|number| self.keep(number, now)));
        }
        let failed = self.posts.values().filter(|post| post.failures > 0);
        let failed: HashSet<Number> =
            failed.flat_map(|post| post.numbers.iter().copied()).collect();
        if !failed.is_empty() {
            let mut new = BTreeSet::new();
            for number in self.order.behind(&failed) {
                if self.kept >= MOST_KEPT || self.kept_bytes >= MOST_KEPT_BYTES {
                    break;
                }
                if self.entries.get(&number).is_some_and(|entry| !entry.is_kept) {
                    keep.extend(self.keep(number, now));
                    new.insert(number);
                }
            }
            // What these wait for too, on its way perhaps: read again from the log, it would come after them.
            for number in self.order.before(&new) {
                if self.entries.get(&number).is_some_and(|entry| !entry.is_kept) {
                    keep.extend(self.keep(number, now));
                }
            }
        }
        let incoming = self.incoming.front().map(|event| event.before);
        let cursor = self.unsettled.values().next().copied().or(incoming).unwrap_or(position);
        let (done, dead) = (std::mem::take(&mut self.done), std::mem::take(&mut self.dead));
        Progress { cursor, keep, done, dead, ..Progress::default() }
    }

    fn keep(&mut self, number: Number, now: Instant) -> Option<Kept> {
        self.settle(number);
        let entry = self.entries.get_mut(&number)?;
        if !std::mem::replace(&mut entry.is_kept, true) {
            self.kept += 1;
            self.kept_bytes += entry.event.json.len();
        }
        let post = self.posts.get(&entry.group);
        let event = &entry.event;
        Some(Kept {
            id: event.id,
            keys: event.keys,
            commit_micros: event.commit_micros,
            event: event.json.clone(),
            delivery: post.map(|post| post.id.clone()),
            failures: post.map_or(0, |post| post.failures),
            wait: post.and_then(|post| post.due).map(|due| due.saturating_duration_since(now)),
            error: post.and_then(|post| post.error.clone()),
        })
    }
}

#[cfg(test)]
mod tests;
