//! Random interleavings of writers, the stream, the writer of the log and a reader of chunks, against a model of a
//! table with snapshots. What the reader decides is as in `run` and `read`, what the writer decides is the real thing.

use std::collections::BTreeMap;

use integratedb_cache::Xid;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::rows::{Rows, Table};
use super::super::window::{is_older, sees_all};
use super::*;
use crate::replication::{Column, ReplicaIdentity};

const TABLE: u32 = 7;
const BACKFILL: i64 = 1;

/// A way in which it may be built wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Rows are read at any snapshot.
    Visibility,
    /// Rows that changed in the window are told.
    Dropping,
    /// Nobody waits for those from before transactions were remembered.
    Older,
    /// Rows whose large value was left out are not read again.
    Left,
}

/// A row: which state of it, and its large value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    version: u32,
    large: u32,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// The row at a key is gone or is another now, maybe at another key; whether its large value is left out.
    Row {
        version: u32,
        old: Option<u8>,
        new: Option<(u8, Row)>,
        is_partial: bool,
    },
    Truncate {
        version: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The stream has it, but no snapshot sees it.
    Logged,
    Visible,
}

struct Transaction {
    xid: u32,
    ops: Vec<Op>,
    state: State,
    is_truncate: bool,
}

enum Item {
    Transaction(usize),
    Mark(Mark, u32),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Change(Op),
    Snapshot(u8, Row),
}

/// What the reader is about to do.
enum Step {
    Begin,
    Older(u32, u64),
    Low(u64),
    Opened(u64, oneshot::Receiver<Opened>),
    Read(u64, Opened),
    Closed(oneshot::Receiver<Closed>),
}

struct World {
    rng: StdRng,
    fault: Fault,
    /// What a snapshot sees now.
    table: BTreeMap<u8, Row>,
    transactions: Vec<Transaction>,
    /// As xmax of a snapshot is reckoned (`GetSnapshotData` in procarray.c).
    completed: u32,
    next_xid: u32,
    versions: u32,
    stream: Vec<Item>,
    processed: usize,
    log: Vec<Event>,
    backfills: Arc<Backfills>,
    reading: Option<Reading>,
    settled: Option<u64>,
    step: Step,
    chunks: u64,
    // What the database keeps.
    last: Option<u8>,
    at_end: bool,
    left: Vec<(i64, Key)>,
    ids: i64,
    is_done: bool,
}

fn relation() -> Arc<Relation> {
    let column =
        |name: &str, is_key| Column { name: name.to_owned(), type_oid: 25, modifier: -1, is_key };
    Arc::new(Relation {
        oid: TABLE,
        schema: "public".to_owned(),
        name: "items".to_owned(),
        identity: ReplicaIdentity::Default,
        columns: vec![column("id", true), column("version", false), column("large", false)],
    })
}

fn key(of: u8) -> Key {
    Key::of([Some(of.to_string().as_bytes())].into_iter()).expect("a value")
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

impl World {
    fn new(seed: u64, fault: Fault) -> Self {
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            fault,
            table: BTreeMap::new(),
            transactions: Vec::new(),
            completed: 99,
            next_xid: 100,
            versions: 100,
            stream: Vec::new(),
            processed: 0,
            log: Vec::new(),
            backfills: Arc::default(),
            reading: None,
            settled: None,
            step: Step::Begin,
            chunks: 0,
            last: None,
            at_end: false,
            left: Vec::new(),
            ids: 0,
            is_done: false,
        };
        for at in 0..10 {
            if world.rng.random_bool(0.6) {
                world.table.insert(at, Row { version: u32::from(at), large: u32::from(at) });
            }
        }
        world.backfills.connected(1);
        world
    }

    fn random(&mut self) {
        match self.rng.random_range(0..100) {
            0..12 => self.write(),
            12..26 => self.change(State::Open, State::Logged),
            26..40 => self.change(State::Logged, State::Visible),
            40..65 => self.process(),
            65..98 => self.read(),
            _ => self.crash(),
        }
    }

    fn xid(&mut self) -> u32 {
        self.next_xid += 1;
        self.next_xid - 1
    }

    fn version(&mut self) -> u32 {
        self.versions += 1;
        self.versions
    }

    /// A new transaction, of rows that nobody else has locked.
    fn write(&mut self) {
        let unseen = self.transactions.iter().filter(|one| one.state != State::Visible);
        let mut locked = [false; 10];
        let mut count = 0;
        for one in unseen {
            count += 1;
            for op in &one.ops {
                match op {
                    Op::Row { old, new, .. } => {
                        old.iter()
                            .chain(new.iter().map(|(at, _)| at))
                            .for_each(|at| locked[usize::from(*at)] = true);
                    }
                    Op::Truncate { .. } => locked = [true; 10],
                }
            }
        }
        let version = self.version();
        if count == 0 && self.rng.random_bool(0.03) {
            let xid = self.xid();
            let ops = vec![Op::Truncate { version }];
            self.transactions.push(Transaction { xid, ops, state: State::Open, is_truncate: true });
            return;
        }
        let mut ops = Vec::new();
        let mut own = self.table.clone();
        for _ in 0..self.rng.random_range(1..3) {
            let at = self.rng.random_range(0..10_u8);
            let to = if self.rng.random_bool(0.3) { self.rng.random_range(0..10_u8) } else { at };
            if locked[usize::from(at)] || locked[usize::from(to)] {
                continue;
            }
            let version = self.version();
            let op = match own.remove(&at) {
                None => {
                    let row = Row { version, large: version };
                    Op::Row { version, old: None, new: Some((at, row)), is_partial: false }
                }
                Some(_) if self.rng.random_bool(0.3) => {
                    Op::Row { version, old: Some(at), new: None, is_partial: false }
                }
                Some(before) => {
                    let to = if own.contains_key(&to) { at } else { to };
                    let is_partial = self.rng.random_bool(0.5);
                    let large = if is_partial { before.large } else { version };
                    let new = Some((to, Row { version, large }));
                    Op::Row { version, old: (to != at).then_some(at), new, is_partial }
                }
            };
            if let Op::Row { new: Some((to, row)), .. } = op {
                own.insert(to, row);
            }
            ops.push(op);
        }
        if !ops.is_empty() {
            let xid = self.xid();
            self.transactions.push(Transaction {
                xid,
                ops,
                state: State::Open,
                is_truncate: false,
            });
        }
    }

    fn change(&mut self, from: State, to: State) {
        let of: Vec<usize> = (0..self.transactions.len())
            .filter(|at| self.transactions[*at].state == from)
            .collect();
        if of.is_empty() {
            return;
        }
        let at = of[self.rng.random_range(0..of.len())];
        self.transactions[at].state = to;
        if to == State::Logged {
            self.stream.push(Item::Transaction(at));
            return;
        }
        self.completed = self.completed.max(self.transactions[at].xid);
        for op in &self.transactions[at].ops {
            match *op {
                Op::Truncate { .. } => self.table.clear(),
                Op::Row { old, new, .. } => {
                    old.map(|at| self.table.remove(&at));
                    new.map(|(at, row)| self.table.insert(at, row));
                }
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let xmax = Xid(u64::from(self.completed) + 1);
        let unseen = self.transactions.iter().filter(|one| one.state != State::Visible);
        let mut in_progress: Vec<Xid> =
            unseen.map(|one| Xid(u64::from(one.xid))).filter(|xid| *xid < xmax).collect();
        in_progress.sort_unstable();
        let xmin = in_progress.first().copied().unwrap_or(xmax);
        Snapshot::new(xmin, xmax, in_progress).expect("a snapshot")
    }

    fn emit(&mut self, mark: Mark) {
        let xid = self.xid();
        self.completed = self.completed.max(xid);
        self.stream.push(Item::Mark(mark, xid));
    }

    /// The writer takes the next of the stream.
    fn process(&mut self) {
        let Some(item) = self.stream.get(self.processed) else { return };
        self.processed += 1;
        match *item {
            Item::Transaction(at) => {
                for op in self.transactions[at].ops.clone() {
                    match op {
                        Op::Truncate { .. } => self.backfills.truncate(&[relation()]),
                        Op::Row { old, new, is_partial, .. } => {
                            self.backfills.touch(TABLE, old.is_some(), |_| {
                                let new = new.map(|(at, _)| key(at));
                                Some(Touch { old: old.map(key), new, is_partial })
                            })
                        }
                    }
                    self.log.push(Event::Change(op));
                }
                self.backfills.commit(self.transactions[at].xid);
                let left = self.backfills.take_left();
                left.into_iter().for_each(|(_, _, key)| self.leave(key));
            }
            Item::Mark(mark, xid) => {
                if let Some(due) = self.backfills.mark(mark) {
                    self.store(due);
                }
                self.backfills.commit(xid);
            }
        }
    }

    fn leave(&mut self, key: Key) {
        if self.fault != Fault::Left {
            self.ids += 1;
            self.left.push((self.ids, key));
        }
    }

    fn store(&mut self, due: Due) {
        let Due { chunk, settled, reply, .. } = due;
        let kept = match self.fault {
            Fault::Dropping => (0..chunk.rows.len()).collect(),
            _ => settled.kept,
        };
        for place in kept {
            let texts: Vec<u32> = chunk
                .rows
                .row(place)
                .filter_map(|value| match value {
                    Value::Text(text) => number(std::str::from_utf8(text).ok()?),
                    _ => None,
                })
                .collect();
            let row = Row { version: texts[1], large: texts[2] };
            self.log.push(Event::Snapshot(texts[0] as u8, row));
        }
        self.left.retain(|(id, _)| !chunk.asked.iter().any(|(asked, _)| asked == id));
        if chunk.asked.is_empty() {
            let last = chunk.rows.keys().next_back().and_then(|key| number(&key.texts()[0]));
            self.last = last.or(self.last);
            self.at_end |= chunk.at_end;
        }
        settled.left.into_iter().for_each(|key| self.leave(key));
        let _ = reply.send(Closed::Stored);
    }

    /// The reader does its next step.
    fn read(&mut self) {
        if self.is_done {
            return;
        }
        self.step = match std::mem::replace(&mut self.step, Step::Begin) {
            Step::Begin => {
                if self.at_end && self.left.is_empty() {
                    self.is_done = true;
                    return;
                }
                if self.reading.is_none() {
                    self.reading =
                        Some(self.backfills.read(BACKFILL, TABLE, vec!["id".to_owned()]));
                }
                let (_, generation) = self.backfills.now();
                if self.settled == Some(generation) || self.fault == Fault::Older {
                    Step::Low(generation)
                } else {
                    Step::Older(self.xid(), generation)
                }
            }
            Step::Older(floor, generation) => {
                let holds = |one: &Transaction| {
                    one.state != State::Visible && is_older(one.xid, Xid(u64::from(floor)))
                };
                self.completed = self.completed.max(floor);
                if self.transactions.iter().any(holds) {
                    Step::Older(floor, generation)
                } else {
                    self.settled = Some(generation);
                    Step::Low(generation)
                }
            }
            Step::Low(generation) => {
                self.chunks += 1;
                let receiver = self.backfills.await_low(BACKFILL, self.chunks);
                self.emit(Mark { id: BACKFILL, chunk: self.chunks, mark: Which::Low });
                Step::Opened(generation, receiver)
            }
            Step::Opened(generation, mut receiver) => match receiver.try_recv() {
                Ok(opened) if opened.generation == generation => Step::Read(self.chunks, opened),
                Err(oneshot::error::TryRecvError::Empty) => Step::Opened(generation, receiver),
                _ => Step::Begin,
            },
            Step::Read(chunk, opened) => self.read_rows(chunk, opened),
            Step::Closed(mut receiver) => match receiver.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => Step::Closed(receiver),
                _ => Step::Begin,
            },
        };
    }

    fn read_rows(&mut self, chunk: u64, opened: Opened) -> Step {
        let snapshot = self.snapshot();
        let is_locked =
            self.transactions.iter().any(|one| one.is_truncate && one.state != State::Visible);
        let sees = self.fault == Fault::Visibility || sees_all(&snapshot, &opened.before);
        if is_locked || !sees {
            return Step::Read(chunk, opened);
        }
        self.backfills.seen(&snapshot);
        let asked: Vec<(i64, Key)> =
            if self.at_end { self.left.iter().take(2).cloned().collect() } else { Vec::new() };
        let mut rows = Rows::default();
        let is_wanted = |at: &u8| match &asked[..] {
            [] => self.last.is_none_or(|last| *at > last),
            asked => asked.iter().any(|(_, asked)| *asked == key(*at)),
        };
        for (at, row) in self.table.iter().filter(|(at, _)| is_wanted(at)).take(3) {
            let texts = [u32::from(*at), row.version, row.large].map(|number| number.to_string());
            rows.push(&texts.each_ref().map(|text| Some(text.as_str())), &[0]);
        }
        let table = Table {
            relation: relation(),
            key: vec!["id".to_owned()],
            numbers: vec![1],
            estimated: 0,
        };
        let at_end = asked.is_empty() && rows.len() < 3;
        let read = Chunk { stakeholder: 1, table, rows, asked, at_end };
        match self.backfills.offer(BACKFILL, chunk, read) {
            None => Step::Begin,
            Some(receiver) => {
                self.emit(Mark { id: BACKFILL, chunk, mark: Which::High });
                Step::Closed(receiver)
            }
        }
    }

    /// Another process goes on.
    fn crash(&mut self) {
        self.reading = None;
        self.settled = None;
        self.step = Step::Begin;
        self.backfills = Arc::default();
        self.backfills.track(BACKFILL, TABLE, vec!["id".to_owned()]);
        self.backfills.connected(1);
    }

    /// What somebody has who takes the log in its order, or what is wrong with it.
    fn replay(&self) -> Result<BTreeMap<u8, Row>, String> {
        let mut newest = [0_u32; 10];
        let mut rows: BTreeMap<u8, (u32, Option<u32>)> = BTreeMap::new();
        for event in &self.log {
            match *event {
                Event::Snapshot(at, row) => {
                    if row.version < newest[usize::from(at)] {
                        return Err(format!("{at} goes back to {row:?}"));
                    }
                    newest[usize::from(at)] = row.version;
                    rows.insert(at, (row.version, Some(row.large)));
                }
                Event::Change(Op::Truncate { version }) => {
                    newest = [version; 10];
                    rows.clear();
                }
                Event::Change(Op::Row { version, old, new, is_partial }) => {
                    let mut before = None;
                    if let Some(old) = old {
                        newest[usize::from(old)] = version;
                        before = rows.remove(&old);
                    }
                    if let Some((at, row)) = new {
                        newest[usize::from(at)] = version;
                        let before = before.or_else(|| rows.get(&at).copied());
                        let known = before.and_then(|(_, large)| large);
                        let large = if is_partial { known } else { Some(row.large) };
                        rows.insert(at, (row.version, large));
                    }
                }
            }
        }
        let whole = |(at, (version, large)): (u8, (u32, Option<u32>))| match large {
            Some(large) => Ok((at, Row { version, large })),
            None => Err(format!("{at} lacks its large value")),
        };
        rows.into_iter().map(whole).collect()
    }

    fn run(mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(50..400) {
            self.random();
        }
        // Everybody comes to an end.
        for _ in 0..400 {
            self.change(State::Open, State::Logged);
            self.change(State::Logged, State::Visible);
            self.process();
            self.read();
        }
        if !self.is_done {
            return Err("it never ends".to_owned());
        }
        let got = self.replay()?;
        if got != self.table {
            return Err(format!("{got:?} in place of {:?}", self.table));
        }
        Ok(())
    }
}

#[test]
fn no_row_is_missed_and_none_goes_back() {
    for seed in 0..4_000 {
        if let Err(why) = World::new(seed, Fault::None).run() {
            panic!("seed {seed}: {why}");
        }
    }
}

#[test]
fn what_is_built_wrong_is_found() {
    for fault in [Fault::Visibility, Fault::Dropping, Fault::Older, Fault::Left] {
        let found = (0..4_000).find_map(|seed| World::new(seed, fault).run().err());
        assert!(found.is_some(), "{fault:?} makes no difference");
    }
}
