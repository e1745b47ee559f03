//! What names stand for where they are the origin's matter: of statements, and of the portals that are made of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::proxy::observe::Seen;
use crate::proxy::statements::Statement;

/// Statements whose templates are remembered by name, and the bytes that their names have together.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 1 << 20;

/// The longest name that is remembered so that it need not be looked up again, in bytes.
const REMEMBERED: usize = 64;

/// What a name of a statement stands for.
pub(super) struct Label {
    pub(super) seen: Arc<Seen>,
    /// Only where answers are kept, and while it is certain.
    pub(super) statement: Option<Arc<Statement>>,
}

/// What the client's statements were found to be.
#[derive(Default)]
pub(super) struct Labels {
    by_name: HashMap<Box<[u8]>, Label, foldhash::fast::RandomState>,
    /// Of all names.
    bytes: usize,
    /// How often a name has got or lost its meaning.
    changes: u64,
}

impl Labels {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Label> {
        self.by_name.get(name)
    }

    /// False when all others had to be forgotten, because statements that SQL deallocates are not taken out.
    pub(super) fn insert(&mut self, name: &[u8], label: Label) -> bool {
        let has_room = self.by_name.len() < MOST && self.bytes + name.len() <= MOST_BYTES;
        if !has_room {
            self.clear();
        }
        self.changes += 1;
        if self.by_name.insert(name.into(), label).is_none() {
            self.bytes += name.len();
        }
        has_room
    }

    /// Whether there was one.
    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        let was_there = self.by_name.remove(name).is_some();
        if was_there {
            self.changes += 1;
            self.bytes -= name.len();
        }
        was_there
    }

    pub(super) fn clear(&mut self) {
        self.changes += 1;
        self.bytes = 0;
        self.by_name = HashMap::default();
    }

    /// It is not certain any more what this name stands for.
    pub(super) fn doubt(&mut self, name: &[u8]) {
        if let Some(label) = self.by_name.get_mut(name) {
            label.statement = None;
        }
    }

    /// The same of all names.
    pub(super) fn doubt_all(&mut self) {
        self.by_name.values_mut().for_each(|label| label.statement = None);
    }
}

/// What the portals are made of, most of the time of only one.
#[derive(Default)]
pub(super) struct Portals {
    unnamed: Option<Arc<Seen>>,
    /// The changes of labels when it was looked up what the portal without a name is made of, and the name of that
    /// statement: many clients run the same again and again.
    unnamed_of: Option<u64>,
    unnamed_name: Vec<u8>,
    named: HashMap<Box<[u8]>, Arc<Seen>>,
}

impl Portals {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Seen>> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    /// A portal is made of a statement.
    pub(super) fn bind(&mut self, portal: &[u8], statement: &[u8], labels: &Labels) {
        let find = || labels.get(statement).map(|label| &label.seen);
        if !portal.is_empty() {
            self.set(portal, find());
            return;
        }
        if self.unnamed_of == Some(labels.changes) && self.unnamed_name == statement {
            return;
        }
        self.unnamed = find().cloned();
        self.unnamed_of = (statement.len() <= REMEMBERED).then_some(labels.changes);
        if self.unnamed_of.is_some() {
            self.unnamed_name.clear();
            self.unnamed_name.extend_from_slice(statement);
        }
    }

    pub(super) fn set(&mut self, name: &[u8], seen: Option<&Arc<Seen>>) {
        match seen {
            // Mostly what it is already.
            Some(seen)
                if name.is_empty()
                    && self.unnamed.as_ref().is_some_and(|s| Arc::ptr_eq(s, seen)) => {}
            seen if name.is_empty() => {
                self.unnamed = seen.cloned();
                self.unnamed_of = None;
            }
            Some(seen) => drop(self.named.insert(name.into(), Arc::clone(seen))),
            None => drop(self.named.remove(name)),
        }
    }

    /// They end with their transaction.
    pub(super) fn clear(&mut self) {
        if !self.named.is_empty() {
            self.named = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::observe::Queries;

    fn label(queries: &Queries, text: &[u8]) -> Label {
        Label { seen: queries.see(text), statement: None }
    }

    #[test]
    fn a_portal_is_made_of_what_the_name_means_now() {
        let queries = Queries::new(9, [1; 16]);
        let (mut labels, mut portals) = (Labels::default(), Portals::default());
        labels.insert(b"a", label(&queries, b"SELECT 1"));
        portals.bind(b"", b"a", &labels);
        let first = portals.get(b"").cloned().expect("it is bound");
        portals.bind(b"", b"a", &labels);
        assert!(portals.get(b"").is_some_and(|seen| Arc::ptr_eq(seen, &first)));
        labels.insert(b"a", label(&queries, b"SELECT 1, 2"));
        portals.bind(b"", b"a", &labels);
        assert!(portals.get(b"").is_some_and(|seen| !Arc::ptr_eq(seen, &first)));
        labels.remove(b"a");
        portals.bind(b"", b"a", &labels);
        assert!(portals.get(b"").is_none());
        portals.bind(b"", b"b", &labels);
        labels.insert(b"b", label(&queries, b"SELECT 1"));
        portals.set(b"", None);
        portals.bind(b"", b"b", &labels);
        assert!(portals.get(b"").is_some());
    }

    #[test]
    fn names_have_room_for_so_many_and_so_long_ones() {
        let queries = Queries::new(9, [1; 16]);
        let mut labels = Labels::default();
        for number in 0..16 {
            let name = [&[number][..], &vec![b'x'; (64 << 10) - 1]].concat();
            assert!(labels.insert(&name, label(&queries, b"SELECT 1")));
            // Once more is no more.
            assert!(number == 15 || labels.insert(&name, label(&queries, b"SELECT 1")));
        }
        assert!(!labels.insert(b"y", label(&queries, b"SELECT 1")));
        assert!(labels.get(b"y").is_some() && labels.by_name.len() == 1);
        assert!(labels.remove(b"y") && labels.bytes == 0);
    }
}
