//! The reference: rows, transactions, snapshots and a log.

use std::collections::BTreeMap;

use integratedb_cache::{
    ColumnId, Dependency, Lsn, Row, Rows, Snapshot, TableId, Touched, TouchedTable, Value, Xid,
};

pub(crate) const TABLES: u32 = 3;
pub(crate) const IDS: i64 = 3;
pub(crate) const GROUPS: i64 = 2;
const ID: ColumnId = ColumnId(1);
const GROUP: ColumnId = ColumnId(2);

/// All rows of all tables: (table, id) -> (group, the transaction that wrote it). And which table the view shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct State {
    rows: BTreeMap<(u32, i64), (i64, u64)>,
    view: u32,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    ById(u32, i64),
    ByGroup(u32, i64),
    Whole(u32),
    /// The table the view shows, by id.
    View(i64),
    Join(i64, i64),
}

/// All of them.
pub(crate) fn queries() -> Vec<Query> {
    let mut all = Vec::new();
    for table in 0..TABLES {
        all.extend((0..IDS).map(|id| Query::ById(table, id)));
        all.extend((0..GROUPS).map(|group| Query::ByGroup(table, group)));
        all.push(Query::Whole(table));
    }
    all.extend((0..IDS).map(Query::View));
    all.extend((0..IDS).map(|id| Query::Join(id, (id + 1) % IDS)));
    all
}

impl Query {
    /// The true answer in a state.
    pub(crate) fn answer(self, state: &State) -> Vec<u8> {
        let rows = |wanted: &dyn Fn(u32, i64, i64) -> bool| {
            let found =
                state.rows.iter().filter(|((table, id), (group, _))| wanted(*table, *id, *group));
            format!("{:?}", found.collect::<Vec<_>>())
        };
        match self {
            Self::ById(table, id) => rows(&|t, i, _| (t, i) == (table, id)),
            Self::ByGroup(table, group) => rows(&|t, _, g| (t, g) == (table, group)),
            Self::Whole(table) => rows(&|t, _, _| t == table),
            Self::View(id) => rows(&|t, i, _| (t, i) == (state.view, id)),
            Self::Join(a, b) => rows(&|t, i, _| (t, i) == (0, a) || (t, i) == (1, b)),
        }
        .into_bytes()
    }

    /// What it depends on, as told by a catalog in which the view shows `view`.
    pub(crate) fn dependencies(self, view: u32) -> Vec<Dependency> {
        let pinned = |table, column, value| Dependency {
            table: TableId(table),
            pins: Some((column, Value::Int(value))),
        };
        match self {
            Self::ById(table, id) => vec![pinned(table, ID, id)],
            Self::ByGroup(table, group) => vec![pinned(table, GROUP, group)],
            Self::Whole(table) => vec![Dependency { table: TableId(table), pins: None }],
            Self::View(id) => vec![pinned(view, ID, id)],
            Self::Join(a, b) => vec![pinned(0, ID, a), pinned(1, ID, b)],
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) table: u32,
    pub(crate) id: i64,
    pub(crate) group: i64,
    old_group: Option<i64>,
    /// The table was published when it was made.
    is_decoded: bool,
}

/// A transaction that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) xid: u64,
    pub(crate) writes: Vec<Write>,
    view: Option<u32>,
    pub(crate) session: Option<usize>,
    pub(crate) commit: Option<Lsn>,
}

pub(crate) struct Database {
    /// Every state that was ever visible, oldest first.
    pub(crate) versions: Vec<State>,
    next_xid: u64,
    pub(crate) end: u64,
    pub(crate) open: Vec<Transaction>,
    pub(crate) log: Vec<Touched>,
    /// Where each transaction became visible.
    pub(crate) visible_at: BTreeMap<u64, usize>,
    pub(crate) published: [bool; TABLES as usize],
}

impl Database {
    pub(crate) fn new() -> Self {
        Self {
            versions: vec![State::default()],
            next_xid: 3,
            end: 1,
            open: Vec::new(),
            log: Vec::new(),
            visible_at: BTreeMap::new(),
            published: [false; TABLES as usize],
        }
    }

    pub(crate) fn version(&self) -> usize {
        self.versions.len() - 1
    }

    pub(crate) fn view(&self) -> u32 {
        self.versions[self.version()].view
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut running: Vec<Xid> = self.open.iter().map(|open| Xid(open.xid)).collect();
        running.sort_unstable();
        let xmax = Xid(self.next_xid);
        Snapshot::new(running.first().copied().unwrap_or(xmax), xmax, running).expect("ordered")
    }

    pub(crate) fn begin(&mut self, session: Option<usize>) {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.open.push(Transaction { xid, writes: vec![], view: None, session, commit: None });
    }

    /// A row is locked by who writes it: nobody else writes it meanwhile.
    pub(crate) fn write(&mut self, open: usize, table: u32, id: i64, group: i64) {
        let is_locked = self.open.iter().enumerate().any(|(number, other)| {
            number != open
                && other.writes.iter().any(|write| (write.table, write.id) == (table, id))
        });
        let now = &self.versions[self.versions.len() - 1];
        let old = now.rows.get(&(table, id)).map(|(group, _)| *group);
        let transaction = &mut self.open[open];
        if transaction.commit.is_none() && !is_locked {
            let mine = transaction
                .writes
                .iter()
                .rev()
                .find(|write| (write.table, write.id) == (table, id));
            let old_group = mine.map_or(old, |write| Some(write.group));
            let is_decoded = self.published[table as usize];
            transaction.writes.push(Write { table, id, group, old_group, is_decoded });
            self.end += 1;
        }
    }

    pub(crate) fn show(&mut self, open: usize, view: u32) {
        let is_locked =
            self.open.iter().enumerate().any(|(n, other)| n != open && other.view.is_some());
        if self.open[open].commit.is_none() && !is_locked {
            self.open[open].view = Some(view);
        }
    }

    /// Into the log; not visible yet.
    pub(crate) fn commit(&mut self, open: usize) {
        let transaction = &mut self.open[open];
        if transaction.commit.is_some() {
            return;
        }
        self.end += 1;
        let commit = Lsn(self.end);
        transaction.commit = Some(commit);
        let decoded = transaction.writes.iter().filter(|write| write.is_decoded);
        let tables =
            decoded.map(|write| TouchedTable { table: TableId(write.table), rows: rows(write) });
        self.log.push(Touched {
            xid: Xid(transaction.xid),
            commit,
            tables: tables.collect(),
            schema: transaction.view.is_some(),
            everything: false,
        });
    }

    /// Ends a transaction: visible if it is in the log, gone if not.
    pub(crate) fn end(&mut self, open: usize) -> Transaction {
        let transaction = self.open.remove(open);
        if transaction.commit.is_some() {
            let mut state = self.versions[self.version()].clone();
            for write in &transaction.writes {
                state.rows.insert((write.table, write.id), (write.group, transaction.xid));
            }
            state.view = transaction.view.unwrap_or(state.view);
            self.versions.push(state);
            self.visible_at.insert(transaction.xid, self.version());
        }
        transaction
    }

    /// ALTER PUBLICATION: a transaction of its own.
    pub(crate) fn publish(&mut self, table: u32) {
        self.next_xid += 1;
        self.end += 1;
        self.published[table as usize] = true;
    }
}

/// Each table has its own replica identity: the key, everything, or so much that only "all rows" is told.
fn rows(write: &Write) -> Rows {
    let id = (ID, Value::Int(write.id));
    let group = |group| (GROUP, Value::Int(group));
    match write.table {
        0 => Rows::Some(vec![vec![id]]),
        1 => {
            let old: Option<Row> = write.old_group.map(|old| vec![id.clone(), group(old)]);
            Rows::Some(old.into_iter().chain([vec![id, group(write.group)]]).collect())
        }
        _ if write.id == 0 => Rows::All,
        // Integers of one column and booleans of another never prove anything about each other.
        _ => Rows::Some(vec![vec![id, (ColumnId(9), Value::Bool(true))]]),
    }
}
