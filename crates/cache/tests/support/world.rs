//! The steps, and the judgement on each hit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use integratedb_cache::{
    Answer, ColumnId, Durable, Entry, Faults, FenceId, FillResult, FillTicket, Key, Lookup, Lsn,
    Observer, Outcome, Reader, Removal, Scope, Settings, Snapshot, Store, TableId, Value,
};

use super::model::{Database, Query, TABLES, Transaction, queries};

pub(crate) const SESSIONS: usize = 3;

/// One thing that happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Begin {
        session: Option<usize>,
    },
    Write {
        open: usize,
        table: u32,
        id: i64,
        group: i64,
    },
    Show {
        open: usize,
        view: u32,
    },
    Commit {
        open: usize,
    },
    /// Visible, fenced and acknowledged if a session's; gone if not in the log.
    End {
        open: usize,
    },
    Apply {
        count: usize,
    },
    Settle {
        fence: usize,
    },
    Probe,
    /// The next step of the session's fill; begins one if there is none.
    Fill {
        session: usize,
        query: usize,
    },
    Lookup {
        session: usize,
        query: usize,
    },
    Publish {
        table: u32,
    },
    Unpublish {
        table: u32,
    },
    Purge {
        table: u32,
    },
    Lose,
    Restart,
    /// The file holds what was stored, and not what was removed. Memory gives it up at once, or when it wants room.
    Save {
        spills: bool,
    },
    /// The session's read from disk ends.
    Read {
        session: usize,
    },
    /// The disk wants room.
    Shed,
    /// The file is lost, or there again.
    Spills {
        spills: bool,
    },
}

/// What is on disk, as the observer of a store sees to it.
#[derive(Default)]
struct File {
    noted: HashMap<u128, Option<Arc<Entry<()>>>>,
    answers: HashMap<u128, Answer>,
}

struct Follows(Arc<Mutex<File>>);

impl Follows {
    fn note(&self, key: Key, entry: Option<Arc<Entry<()>>>) {
        self.0.lock().expect("no panic").noted.insert(key.0, entry);
    }
}

impl Observer<()> for Follows {
    fn stored(&self, key: Key, entry: &Arc<Entry<()>>) {
        self.note(key, Some(Arc::clone(entry)));
    }

    fn removed(&self, key: Key, _: &Entry<()>, _: Removal) {
        self.note(key, None);
    }
}

impl File {
    fn save(&mut self) {
        for (key, entry) in self.noted.drain() {
            match entry.as_ref().and_then(|entry| Some((entry, entry.answer()?))) {
                Some((entry, answer)) => {
                    self.answers.insert(key, answer.clone());
                    entry.durable.note();
                }
                // What came back without its bytes has them there already.
                None if entry.is_some() => {}
                None => drop(self.answers.remove(&key)),
            }
        }
    }
}

/// Why an answer is wrong.
#[derive(Debug)]
pub(crate) struct Wrong(pub(crate) String);

struct Fill {
    query: Query,
    key: Key,
    ticket: FillTicket,
    understood: Snapshot,
    view: u32,
    snapshot: Option<Snapshot>,
    answer: Option<(Vec<u8>, usize)>,
}

#[derive(Default)]
struct Session {
    seen: Lsn,
    /// The oldest version that does not go back.
    floor: usize,
    fill: Option<Fill>,
    reading: Option<Reading>,
}

/// What a session reads from disk.
struct Reading {
    query: usize,
    ticket: Arc<Entry<()>>,
    answer: Answer,
}

struct World {
    database: Database,
    store: Store<()>,
    sessions: Vec<Session>,
    /// How much of the log is applied.
    applied: usize,
    /// Where each write acknowledged through the proxy became visible.
    acknowledged: Vec<usize>,
    /// Those whose session has not yet read the position after its write.
    fences: Vec<(FenceId, usize)>,
    now: Instant,
    settings: Settings,
    file: Arc<Mutex<File>>,
    hits: usize,
    disk_hits: u64,
}

/// Runs steps against a cache with these faults. Gives how many hits there were, and how many of
/// them were read from disk.
pub(crate) fn run(steps: &[Step], faults: Faults, max_bytes: usize) -> Result<(usize, u64), Wrong> {
    let settings = Settings {
        max_bytes,
        disk_only: false,
        max_entry_bytes: max_bytes,
        max_age: Duration::from_secs(5),
        shards: 2,
        journal_per_table: 3,
        journal_bytes: 2000,
        secret: 1,
        faults,
    };
    let now = Instant::now();
    let file = Arc::default();
    let mut world = World {
        database: Database::new(),
        store: store(&settings, now, &file),
        sessions: (0..SESSIONS).map(|_| Session::default()).collect(),
        applied: 0,
        acknowledged: Vec::new(),
        fences: Vec::new(),
        now,
        settings,
        file,
        hits: 0,
        disk_hits: 0,
    };
    world.store.resume();
    world.store.fresh(now);
    (0..TABLES).for_each(|table| world.publish(table));
    for (number, step) in steps.iter().enumerate() {
        world.step(step)?;
        if number % 8 == 0 {
            world.store.audit().map_err(Wrong)?;
        }
    }
    world.store.audit().map_err(Wrong)?;
    Ok((world.hits, world.disk_hits + world.store.figures().disk_hits))
}

fn store(settings: &Settings, now: Instant, file: &Arc<Mutex<File>>) -> Store<()> {
    let store = Store::observed(settings.clone(), now, Box::new(Follows(Arc::clone(file))));
    store.set_spills(true);
    store
}

impl World {
    fn open(&self, open: usize) -> Option<usize> {
        open.checked_rem(self.database.open.len())
    }

    fn step(&mut self, step: &Step) -> Result<(), Wrong> {
        match *step {
            Step::Begin { session } => self.database.begin(session),
            Step::Write { open, table, id, group } => {
                if let Some(open) = self.open(open) {
                    self.database.write(open, table, id, group);
                }
            }
            Step::Show { open, view } => {
                if let Some(open) = self.open(open) {
                    self.database.show(open, view);
                }
            }
            Step::Commit { open } => {
                if let Some(open) = self.open(open) {
                    self.database.commit(open);
                }
            }
            Step::End { open } => {
                if let Some(open) = self.open(open) {
                    let ended = self.database.end(open);
                    self.acknowledge(&ended);
                }
            }
            Step::Apply { count } => (0..count).for_each(|_| self.apply()),
            Step::Settle { fence } => {
                if let Some(fence) = fence.checked_rem(self.fences.len()) {
                    let (fence, session) = self.fences.remove(fence);
                    let position = Lsn(self.database.end);
                    self.store.settle(fence, position);
                    let seen = &mut self.sessions[session].seen;
                    *seen = position.max(*seen);
                }
            }
            Step::Probe => {
                let ticket = self.store.begin();
                let mark = self.store.fence_mark();
                self.store.receive(&ticket, &self.database.snapshot());
                self.store.settle_before(mark, Lsn(self.database.end));
            }
            Step::Fill { session, query } => self.fill(session, query),
            Step::Lookup { session, query } => return self.lookup(session, query),
            Step::Publish { table } => self.publish(table),
            Step::Unpublish { table } => {
                self.store.unpublish(&[TableId(table)]);
                self.database.published[table as usize] = false;
            }
            Step::Purge { table } => drop(self.store.purge_table(TableId(table))),
            Step::Lose => self.lose(),
            Step::Restart => self.restart(),
            Step::Save { spills } => {
                self.file.lock().expect("no panic").save();
                if spills {
                    let keys = 0..queries().len() as u128;
                    self.store.spill_now(keys.map(|query| Key(query + 1)));
                }
            }
            Step::Read { session } => return self.read(session),
            Step::Shed => drop(self.store.shed(200, self.now)),
            Step::Spills { spills } => drop(self.store.set_spills(spills)),
        }
        Ok(())
    }

    fn apply(&mut self) {
        if let Some(touched) = self.database.log.get(self.applied) {
            self.store.apply(touched);
            self.store.advance(touched.commit);
            self.applied += 1;
        } else {
            // Nothing more: as a keepalive says.
            self.store.advance(Lsn(self.database.end));
        }
    }

    fn publish(&mut self, table: u32) {
        if !self.database.published[table as usize] {
            self.database.publish(table);
        }
        self.store.publish(&[TableId(table)], &self.database.snapshot());
    }

    fn acknowledge(&mut self, ended: &Transaction) {
        let Some(session) = ended.session.filter(|_| ended.commit.is_some()) else { return };
        let row = |write: &super::model::Write| Scope::Row {
            table: TableId(write.table),
            columns: vec![(ColumnId(1), Value::Int(write.id))],
        };
        let scopes: Vec<Scope> = match ended.xid % 3 {
            0 => vec![Scope::Everything],
            1 => ended.writes.iter().map(|write| Scope::Table(TableId(write.table))).collect(),
            _ => ended.writes.iter().map(row).collect(),
        };
        // A change of the view touches what nobody can name.
        let scopes = if ended.writes.is_empty() { vec![Scope::Everything] } else { scopes };
        let scopes =
            if self.database.log.iter().any(|touched| touched.xid.0 == ended.xid && touched.schema)
            {
                vec![Scope::Everything]
            } else {
                scopes
            };
        let session = session % SESSIONS;
        self.fences.push((self.store.fence(&scopes), session));
        let version = self.database.version();
        self.acknowledged.push(version);
        self.sessions[session].floor = version;
    }

    /// Describe, begin, snapshot, query, position, finish: each at its own time.
    fn fill(&mut self, session: usize, query: usize) {
        let session = &mut self.sessions[session % SESSIONS];
        let Some(fill) = &mut session.fill else {
            let all = queries();
            let query = query % all.len();
            session.fill = Some(Fill {
                query: all[query],
                key: Key(query as u128 + 1),
                understood: self.database.snapshot(),
                view: self.database.view(),
                ticket: self.store.begin(),
                snapshot: None,
                answer: None,
            });
            return;
        };
        if fill.snapshot.is_none() {
            fill.snapshot = Some(self.database.snapshot());
            return;
        }
        let Some((answer, version)) = fill.answer.take() else {
            let version = self.database.version();
            fill.answer = Some((fill.query.answer(&self.database.versions[version]), version));
            return;
        };
        let Some(Fill { query, key, ticket, understood, view, snapshot: Some(snapshot), .. }) =
            session.fill.take()
        else {
            return;
        };
        session.floor = session.floor.max(version);
        let position = Lsn(self.database.end);
        session.seen = session.seen.max(position);
        let _: Outcome = self.store.finish(
            ticket,
            key,
            FillResult {
                answer: Answer::new(b"", &answer),
                dependencies: query.dependencies(view),
                snapshot,
                understood,
                position,
                // Worth a place on disk, however short the answer is.
                cost: Duration::from_millis(10),
                label: Arc::new(()),
                until: None,
                seen_by_replication: true,
            },
            self.now,
        );
    }

    /// A session has read what it wanted from disk.
    fn read(&mut self, session: usize) -> Result<(), Wrong> {
        let reading = self.sessions[session % SESSIONS].reading.as_ref();
        match reading.map(|reading| reading.query) {
            Some(query) => self.look(session, query, true),
            None => Ok(()),
        }
    }

    fn lookup(&mut self, session: usize, query: usize) -> Result<(), Wrong> {
        self.look(session, query, false)
    }

    fn look(&mut self, session: usize, query: usize, is_read: bool) -> Result<(), Wrong> {
        let all = queries();
        let query = query % all.len();
        let session = session % SESSIONS;
        // A write may show its session anything that had committed: how far that is, it knows when it settles.
        let is_written = self.fences.iter().any(|(_, writer)| *writer == session);
        let session = &mut self.sessions[session];
        let mut seen = if is_written { Lsn(u64::MAX) } else { session.seen };
        let reader = Reader { seen: &mut seen, now: self.now };
        let key = Key(query as u128 + 1);
        let looked = match session.reading.take() {
            Some(Reading { ticket, answer, .. }) if is_read => {
                self.store.lookup_read(key, &ticket, answer, reader)
            }
            _ => self.store.lookup(key, reader),
        };
        let entry = match looked {
            Lookup::Hit(entry) => entry,
            Lookup::OnDisk(ticket) => {
                let answer = self.file.lock().expect("no panic").answers.get(&{ key.0 }).cloned();
                let answer = answer.ok_or_else(|| Wrong("not on disk".to_owned()))?;
                session.reading = Some(Reading { query, ticket, answer });
                return Ok(());
            }
            _ => return Ok(()),
        };
        session.seen = session.seen.max(seen);
        self.hits += 1;
        let rows = entry.answer().expect("a hit").rows();
        let database = &self.database;
        // Commits become visible in another order than they are in the log. An applied transaction, or a write of
        // somebody else, that does not change this answer may be visible only after one that does and is not
        // applied yet: it says nothing.
        let answer = |version: usize| all[query].answer(&database.versions[version]);
        let changes = |version: &usize| answer(*version) != answer(*version - 1);
        let applied = database.log[..self.applied]
            .iter()
            .filter_map(|touched| database.visible_at.get(&touched.xid.0).copied())
            .filter(changes)
            .max();
        let acknowledged = self.acknowledged.iter().copied().filter(changes).max();
        let floor = session.floor.max(acknowledged.unwrap_or(0)).max(applied.unwrap_or(0));
        // The oldest that it may be is the best for later: a session only goes forward from it.
        let found = (floor..database.versions.len()).find(|version| answer(*version) == rows);
        let Some(version) = found else {
            return Err(Wrong(format!(
                "{:?} gave {}, which is no version since {floor} (applied {applied:?}, \
                 acknowledged {acknowledged:?}, session {}): {:?}",
                all[query],
                String::from_utf8_lossy(rows),
                session.floor,
                &database.versions[floor..],
            )));
        };
        session.floor = session.floor.max(version);
        Ok(())
    }

    /// The slot is gone: what was not applied never will be. A new one is made, and all tables published anew.
    fn lose(&mut self) {
        self.store.flush("the slot was lost");
        // A slot is ready only when all who were writing have ended.
        while !self.database.open.is_empty() {
            let ended = self.database.end(0);
            self.acknowledge(&ended);
        }
        self.applied = self.database.log.len();
        self.store.advance(Lsn(self.database.end));
        for table in 0..TABLES {
            if self.database.published[table as usize] {
                self.store.publish(&[TableId(table)], &self.database.snapshot());
            }
        }
        self.store.fresh(self.now);
        self.store.resume();
    }

    /// The process comes back with what a disk kept; sessions begin anew. The log goes on where it was applied.
    fn restart(&mut self) {
        let mut kept = Vec::new();
        for query in 0..queries().len() {
            let reader = Reader { seen: &mut Lsn(0), now: self.now };
            let key = Key(query as u128 + 1);
            // What was not saved is lost, and what was removed since comes again from the log.
            if let Lookup::Hit(entry) | Lookup::OnDisk(entry) = self.store.lookup(key, reader) {
                kept.push((key, entry));
            }
        }
        self.file.lock().expect("no panic").save();
        self.disk_hits += self.store.figures().disk_hits;
        self.store = store(&self.settings, self.now, &self.file);
        for (key, entry) in kept {
            let restored = Entry {
                body: entry.body.clone(),
                durable: Durable::yes(),
                read_at: entry.read_at.clone(),
                position: entry.position,
                pins: entry.pins.clone(),
                label: Arc::clone(&entry.label),
                cost: entry.cost,
                until: entry.until,
                seen_by_replication: entry.seen_by_replication,
            };
            // By turns with its bytes and without, as where there is not room for all.
            let restored = if { key.0 } % 2 == 0 { restored.without_answer() } else { restored };
            let _: Outcome = self.store.restore(key, restored, self.now);
        }
        for table in 0..TABLES {
            if self.database.published[table as usize] {
                self.store.publish(&[TableId(table)], &self.database.snapshot());
            }
        }
        self.fences.clear();
        self.sessions = (0..SESSIONS).map(|_| Session::default()).collect();
        // The log up to its end when the process came back is applied before it serves.
        while self.applied < self.database.log.len() {
            self.apply();
        }
        self.store.fresh(self.now);
        self.store.resume();
    }
}
