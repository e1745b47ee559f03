//! Prepared statements that outlive the connection they were prepared on.
//!
//! Names are a namespace of each client. In transaction mode a statement is prepared on a connection to the
//! origin under a name made of its id, and again wherever it is missing. Statements with the same text and types,
//! read under the same settings, share one id, so clients of the same program share what is prepared.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use siphasher::sip128::SipHasher13;

use super::observe::Seen;
use super::params::Params;
use super::room::{EACH, Room, Taken};

/// A statement as a client prepared it.
#[derive(Debug)]
pub(crate) struct Statement {
    id: u64,
    /// What it is called on connections to the origin.
    pub(crate) name: Box<[u8]>,
    pub(crate) text: Box<[u8]>,
    /// OIDs of its parameters' types, four bytes each.
    pub(crate) types: Box<[u8]>,
    /// Under which settings its constants are read: see [`reading`].
    reading: Box<[u8]>,
    /// Stands for text, types and how its constants are read.
    pub(crate) hash: u128,
    pub(crate) seen: Arc<Seen>,
    _taken: Taken,
}

/// The settings that decide what a constant means when its statement is prepared. A statement is only shared where
/// they are the same.
pub(crate) fn reading(params: &Params) -> Vec<u8> {
    let names: [&[u8]; 5] = [
        b"TimeZone",
        b"DateStyle",
        b"IntervalStyle",
        b"client_encoding",
        b"standard_conforming_strings",
    ];
    names.map(|name| params.get(name).unwrap_or_default()).join(&0)
}

/// What all names of statements begin with that the proxy gives.
pub(crate) const PREFIX: &str = "integratedb_";

/// One for the whole process: a session that a reload takes to the next cache brings its statements along.
static LAST_ID: AtomicU64 = AtomicU64::new(0);

impl Statement {
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }
}

/// All statements that some client has.
pub(crate) struct Statements {
    state: Mutex<State>,
    hasher: RandomState,
    room: Arc<Room>,
}

#[derive(Default)]
struct State {
    /// By the hash of text and types; a second statement with the same hash is not shared.
    by_hash: HashMap<u64, Weak<Statement>>,
}

impl Statements {
    /// None, which take from `room` as they come.
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self { state: Mutex::default(), hasher: RandomState::new(), room }
    }

    pub(crate) const fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// The statement with this text and these types, read in this way.
    pub(crate) fn intern(
        &self,
        text: &[u8],
        types: &[u8],
        reading: &[u8],
        seen: &Arc<Seen>,
    ) -> Arc<Statement> {
        let hash = self.hasher.hash_one((text, types, reading));
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = state.by_hash.get(&hash).and_then(Weak::upgrade)
            && *known.text == *text
            && *known.types == *types
            && *known.reading == *reading
        {
            return known;
        }
        let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
        let statement = Arc::new(Statement {
            id,
            name: format!("{PREFIX}{id}").into_bytes().into(),
            text: text.into(),
            types: types.into(),
            reading: reading.into(),
            // No key is needed: what an answer is found by is hashed once more, with one.
            hash: {
                let (text, length) = (seen.hash.to_ne_bytes(), reading.len().to_ne_bytes());
                SipHasher13::new().hash(&[&text[..], &length, reading, types].concat()).into()
            },
            seen: Arc::clone(seen),
            _taken: self.room.take(EACH + text.len() + types.len() + reading.len()),
        });
        // What nobody has any more goes when the map has doubled since it last went.
        if state.by_hash.len() == state.by_hash.capacity() {
            state.by_hash.retain(|_, statement| statement.strong_count() > 0);
        }
        state.by_hash.insert(hash, Arc::downgrade(&statement));
        statement
    }
}

/// A client's names.
pub(crate) struct Names {
    unnamed: Option<Arc<Statement>>,
    named: HashMap<Box<[u8]>, (Arc<Statement>, Taken)>,
    room: Arc<Room>,
}

impl Names {
    /// None, which take from `room` as they come.
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self { unnamed: None, named: HashMap::new(), room }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        if name.is_empty() {
            return self.unnamed.as_ref();
        }
        self.named.get(name).map(|(statement, _)| statement)
    }

    /// Gives a name, or takes it away; gives what had it before.
    pub(crate) fn set(
        &mut self,
        name: &[u8],
        statement: Option<Arc<Statement>>,
    ) -> Option<Arc<Statement>> {
        let before = match statement {
            statement if name.is_empty() => {
                return std::mem::replace(&mut self.unnamed, statement);
            }
            Some(statement) => {
                let taken = self.room.take(EACH + name.len());
                self.named.insert(name.into(), (statement, taken))
            }
            None => self.named.remove(name),
        };
        before.map(|(statement, _)| statement)
    }

    /// Those that have a name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Statement)> {
        self.named.iter().map(|(name, (statement, _))| (&**name, &**statement))
    }

    /// DEALLOCATE ALL, DISCARD ALL
    pub(crate) fn clear_named(&mut self) {
        self.named = HashMap::new();
    }
}

/// What is prepared on one connection to an origin.
#[derive(Default)]
pub(crate) struct Prepared {
    unnamed: Option<u64>,
    named: HashMap<u64, Entry>,
    clock: u64,
}

struct Entry {
    used: u64,
    /// The schema's age when it was prepared: see [`super::cache::Cache::schema_age`].
    schema_age: u64,
}

impl Prepared {
    pub(crate) fn is_unnamed(&self, statement: &Statement) -> bool {
        self.unnamed == Some(statement.id)
    }

    /// The id of the one without a name.
    pub(crate) const fn unnamed(&self) -> Option<u64> {
        self.unnamed
    }

    /// Gives the id of the one that was there before.
    pub(crate) fn set_unnamed(&mut self, statement: Option<&Statement>) -> Option<u64> {
        std::mem::replace(&mut self.unnamed, statement.map(|statement| statement.id))
    }

    /// It was not replaced after all.
    pub(crate) const fn put_back_unnamed(&mut self, id: Option<u64>) {
        self.unnamed = id;
    }

    /// The schema's age when it was prepared, if it is; counts as a use.
    pub(crate) fn touch(&mut self, statement: &Statement) -> Option<u64> {
        self.clock += 1;
        let entry = self.named.get_mut(&statement.id)?;
        entry.used = self.clock;
        Some(entry.schema_age)
    }

    pub(crate) fn has(&self, statement: &Statement) -> bool {
        self.named.contains_key(&statement.id)
    }

    pub(crate) fn insert(&mut self, statement: &Statement, schema_age: u64) {
        self.clock += 1;
        self.named.insert(statement.id, Entry { used: self.clock, schema_age });
    }

    pub(crate) fn remove(&mut self, statement: &Statement) {
        self.named.remove(&statement.id);
    }

    /// It was forgotten, but is there all the same, from a time that is not known.
    pub(crate) fn put_back(&mut self, id: u64) {
        self.named.insert(id, Entry { used: self.clock, schema_age: u64::MAX });
    }

    /// Id and name of the one that was unused for longest, when there is no room for one more. It is forgotten.
    pub(crate) fn evict(&mut self, most: usize) -> Option<(u64, Vec<u8>)> {
        if self.named.len() < most.max(1) {
            return None;
        }
        let oldest = self.named.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id)?;
        self.named.remove(&oldest);
        Some((oldest, format!("{PREFIX}{oldest}").into_bytes()))
    }

    pub(crate) fn clear(&mut self) {
        self.unnamed = None;
        self.clear_named();
    }

    pub(crate) fn clear_named(&mut self) {
        self.named.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements() -> Statements {
        Statements::new(Arc::new(Room::new(10_000, None)))
    }

    #[test]
    fn statements_and_names_take_room_as_long_as_they_are_there() {
        let room = Arc::new(Room::new(1000, None));
        let statements = Statements::new(Arc::clone(&room));
        let mut names = Names::new(Arc::clone(&room));
        let seen = Seen::for_tests();
        names.set(b"a", Some(statements.intern(&[b'x'; 300], b"", b"", &seen)));
        assert_eq!(room.limit_reached(), None);
        // The same again is only one more name.
        names.set(b"b", Some(statements.intern(&[b'x'; 300], b"", b"", &seen)));
        assert_eq!(room.limit_reached(), Some(1000));
        names.set(b"b", None);
        assert_eq!(room.limit_reached(), None);
        names.set(&[b'c'; 300], names.get(b"a").cloned());
        assert_eq!(room.limit_reached(), Some(1000));
        names.clear_named();
        assert_eq!(room.limit_reached(), None);
    }

    #[test]
    fn equal_statements_are_one_as_long_as_somebody_has_them() {
        let statements = statements();
        let seen = Seen::for_tests();
        let a = statements.intern(b"SELECT 1", b"", b"UTC", &seen);
        assert_eq!(a.id, statements.intern(b"SELECT 1", b"", b"UTC", &seen).id);
        assert_ne!(a.id, statements.intern(b"SELECT 1", b"", b"CET", &seen).id);
        assert_ne!(a.id, statements.intern(b"SELECT 1", &[0; 4], b"UTC", &seen).id);
        let id = a.id;
        drop(a);
        assert_ne!(id, statements.intern(b"SELECT 1", b"", b"UTC", &seen).id);
    }

    #[test]
    fn the_one_unused_for_longest_goes_first() {
        let statements = statements();
        let seen = Seen::for_tests();
        let make = |text: &str| statements.intern(text.as_bytes(), b"", b"", &seen);
        let (a, b, c) = (make("a"), make("b"), make("c"));
        let mut prepared = Prepared::default();
        for statement in [&a, &b, &c] {
            prepared.insert(statement, 0);
        }
        prepared.touch(&a);
        assert_eq!(prepared.evict(3), Some((b.id, b.name.to_vec())));
        assert_eq!(prepared.evict(3), None);
        assert_eq!(prepared.touch(&b), None);
    }
}
