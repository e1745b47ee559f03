//! The origin's committed transactions, as the store wants to know of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use integratedb_cache::{
    ColumnId, Lsn, Row, Rows, Snapshot, TableId, Touched, TouchedTable, Value, ValueType, Xid,
    widen,
};
use serde::Deserialize;
use tokio::sync::mpsc::UnboundedSender;

use super::disk::Source;
use super::engine::Engine;
use super::keeper::Task;
use crate::replication::{
    Begin, Change, Commit, Connected, LogicalMessage, MESSAGE_PREFIX, Old, Relation, Sink, Truncate,
};

/// Rows of one table in one transaction beyond which it counts as touched as a whole.
const MOST_ROWS: usize = 1000;

/// What a logical message of the extension says.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Told {
    /// What changed the schema.
    schema: Option<String>,
    /// A materialized view that was refreshed.
    refresh: Option<u32>,
    unpublished: Vec<u32>,
}

/// The transaction that is coming in.
struct Open {
    xid: Xid,
    tables: HashMap<u32, Table>,
    schema: bool,
    everything: bool,
    unpublished: Vec<TableId>,
}

/// What it touches of a table.
struct Table {
    rows: Rows,
    /// Columns that entries may depend on: their places in a row, numbers and types.
    columns: Vec<(usize, ColumnId, ValueType)>,
}

/// Feeds one engine.
pub(super) struct CacheSink {
    engine: Arc<Engine>,
    tasks: UnboundedSender<Task>,
    open: Option<Open>,
    /// A transaction of about now.
    near: Xid,
    applied: Lsn,
    /// Something may have been missed since the last connection.
    is_lost: bool,
    slot: String,
    /// No connection stood yet.
    is_first: bool,
    /// The roles there were when they were last looked at.
    roles: Option<String>,
}

impl CacheSink {
    /// `slot`: the name of the one that is followed.
    pub(super) fn new(engine: Arc<Engine>, tasks: UnboundedSender<Task>, slot: String) -> Self {
        Self {
            engine,
            tasks,
            open: None,
            near: Xid(0),
            applied: Lsn(0),
            is_lost: false,
            slot,
            is_first: true,
            roles: None,
        }
    }

    /// Whether this connection does not go on where what is kept ended.
    fn begins_anew(&mut self, connected: &Connected, source: &Source) -> bool {
        if connected.slot_is_new || std::mem::take(&mut self.is_lost) {
            return true;
        }
        let Some(disk) = self.engine.disk() else { return false };
        let continues = disk.continues(source, connected, self.is_first);
        if let Err(why) = continues {
            tracing::info!(why, "what is on disk is dropped");
        }
        continues.is_err()
    }

    fn table(&mut self, relation: &Relation) -> Option<&mut Table> {
        let open = self.open.as_mut()?;
        let engine = &self.engine;
        Some(open.tables.entry(relation.oid).or_insert_with(|| {
            let columns = relation.columns.iter().enumerate().filter_map(|(place, column)| {
                let number = engine.column(relation.oid, &column.name)?;
                Some((place, ColumnId(number), ValueType::from_oid(column.type_oid)?))
            });
            Table { rows: Rows::Some(Vec::new()), columns: columns.collect() }
        }))
    }

    /// Roles are others. No commit tells of it, so it is as of now.
    fn purge(&self) {
        self.engine.forget_schema();
        self.engine.store().purge_all();
        if let Some(disk) = self.engine.disk() {
            disk.note_roles(self.roles.as_deref());
        }
    }

    fn send(&self, task: Task) {
        // The keeper ends with the process.
        let _ = self.tasks.send(task);
    }
}

impl Table {
    /// Takes a row of which not all columns may be known.
    fn add(&mut self, row: &crate::replication::Row<'_>) {
        let Rows::Some(rows) = &mut self.rows else { return };
        // A table that no entry depends on by its rows has no columns here, and one row says it all.
        if rows.len() >= MOST_ROWS || self.columns.is_empty() {
            self.rows = Rows::All;
            return;
        }
        let values: Vec<_> = row.iter().collect();
        let known: Row = self
            .columns
            .iter()
            .filter_map(|(place, column, of)| match values.get(*place)? {
                crate::replication::Value::Text(text) => {
                    Some((*column, Value::from_text(*of, text)?))
                }
                _ => None,
            })
            .collect();
        rows.push(known);
    }
}

impl Sink for CacheSink {
    fn connected(&mut self, connected: &Connected) {
        let snapshot: Option<Snapshot> = connected.snapshot.parse().ok();
        if let Some(snapshot) = &snapshot {
            self.near = snapshot.xmax;
        }
        let source = Source::of(connected, &self.slot, &self.engine);
        let anew = self.begins_anew(connected, &source) || snapshot.is_none();
        let had_others = !self.is_first && self.roles != connected.roles;
        self.is_first = false;
        self.roles.clone_from(&connected.roles);
        if anew {
            // What was committed before is not told.
            self.engine.start_anew("a new replication slot");
            if let Some(disk) = self.engine.disk() {
                disk.begin(source, connected.roles.as_deref());
            }
        } else if had_others {
            self.purge();
        }
        self.applied = connected.start;
        self.engine.connected(connected.start);
        self.send(Task::Connected { anew });
    }

    fn disconnected(&mut self, why: &str) {
        self.open = None;
        tracing::debug!(why, "nothing is served until the reader is back");
        self.engine.store().suspend("the reader has no connection");
    }

    fn lost(&mut self, why: &str) {
        self.open = None;
        self.is_lost = true;
        tracing::debug!(why, "all entries are dropped");
        self.engine.start_anew("transactions may have been missed");
    }

    fn begin(&mut self, begin: &Begin) {
        let xid = widen(begin.xid, self.near);
        self.near = self.near.max(xid);
        self.open = Some(Open {
            xid,
            tables: HashMap::new(),
            schema: false,
            everything: false,
            unpublished: Vec::new(),
        });
    }

    fn change(&mut self, relation: &Arc<Relation>, change: &Change<'_>) {
        let Some(table) = self.table(relation) else { return };
        let (old, new) = match change {
            Change::Insert { new } => (None, Some(new)),
            Change::Update { old, new } => (old.as_ref(), Some(new)),
            Change::Delete { old } => (Some(old), None),
        };
        if let Some(Old::Key(row) | Old::Row(row)) = old {
            table.add(row);
        }
        if let Some(row) = new {
            table.add(row);
        }
    }

    fn truncate(&mut self, relations: &[&Arc<Relation>], _: Truncate) {
        for relation in relations {
            if let Some(table) = self.table(relation) {
                table.rows = Rows::All;
            }
        }
    }

    fn message(&mut self, message: &LogicalMessage<'_>) {
        if message.prefix != MESSAGE_PREFIX || !message.transactional {
            return;
        }
        let Some(open) = &mut self.open else { return };
        match serde_json::from_slice::<Told>(message.content) {
            Ok(told) => {
                open.schema |= told.schema.is_some();
                open.unpublished.extend(told.unpublished.into_iter().map(TableId));
                if let Some(view) = told.refresh {
                    open.tables.insert(view, Table { rows: Rows::All, columns: Vec::new() });
                }
            }
            // Of a later version, perhaps: whatever it means.
            Err(_) => open.everything = true,
        }
    }

    fn commit(&mut self, commit: &Commit) {
        if let Some(open) = self.open.take() {
            let tables = open.tables.into_iter();
            let touched = Touched {
                xid: open.xid,
                commit: commit.commit_lsn,
                tables: tables
                    .map(|(table, of)| TouchedTable { table: TableId(table), rows: of.rows })
                    .collect(),
                schema: open.schema,
                everything: open.everything,
            };
            if open.schema {
                // Before the entries go: what is stored from then on has to find its columns again.
                self.engine.forget_columns();
            }
            self.engine.store().apply(&touched);
            if !open.unpublished.is_empty() {
                self.engine.store().unpublish(&open.unpublished);
            }
            if open.schema {
                self.engine.forget_schema();
                self.send(Task::SchemaChanged);
            }
        }
        self.position(commit.end_lsn);
    }

    fn position(&mut self, position: Lsn) {
        self.applied = position;
        self.engine.store().advance(position);
    }

    fn fresh(&mut self, as_of: Instant) {
        self.engine.store().fresh(as_of);
    }

    fn roles_changed(&mut self, fingerprint: &str) {
        self.roles = Some(fingerprint.to_owned());
        self.purge();
    }

    fn confirmable(&self) -> Lsn {
        match self.engine.disk() {
            Some(disk) => disk.confirmable(self.applied),
            None => self.applied,
        }
    }
}
