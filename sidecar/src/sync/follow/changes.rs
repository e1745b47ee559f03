//! What changes say of models.

use std::collections::{BTreeMap, BTreeSet};

use integratedb_events::{Cell, Change, Op, Row};

use super::classes::{Classes, Followed};
use crate::sync::ids::TenantId;
use crate::sync::source::table::{join, text};
use crate::sync::work::Named;

/// A class of a tenant.
pub(super) type ClassId = (TenantId, String);

/// What some changes say, each model once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Models that may have changed.
    pub(super) models: BTreeSet<(TenantId, Named)>,
    /// Classes of which every model may have.
    pub(super) emptied: BTreeSet<ClassId>,
    /// Classes whose models can't be told from the changes, and why.
    pub(super) unreadable: BTreeMap<ClassId, String>,
    /// Changes may be missing, of whatever.
    pub(super) has_gap: bool,
    /// The transactions that have to be visible first, by the lower 32 bits of their ids.
    pub(super) xids: BTreeSet<u32>,
}

/// Why a row names no model.
enum Unnamed {
    /// The column is not there any more.
    Gone(String),
    /// It is, and its value was not told.
    Untold,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.models.is_empty()
            && self.emptied.is_empty()
            && self.unreadable.is_empty()
            && !self.has_gap
    }

    /// Adds what a change says.
    pub(super) fn add(&mut self, change: &Change<'_>, classes: &Classes) {
        if change.op == Op::Gap {
            // All is gone through anew, so what was before need not be waited for, which might be for ever.
            *self = Self { has_gap: true, ..Self::default() };
            return;
        }
        for class in classes.of(change.shape.relation) {
            if change.target.is_none_or(|target| target.stakeholder == class.stakeholder) {
                self.xids.insert(change.xid);
                self.change(change, class);
            }
        }
    }

    fn change(&mut self, change: &Change<'_>, class: &Followed) {
        let id = || (class.tenant, class.name.clone());
        let old = change.old.map(|old| old.row());
        if change.new.is_none() && old.is_none() {
            self.emptied.insert(id());
            return;
        }
        // A large value that an UPDATE left as it was is only in the old row.
        let keys = [
            change.new.map(|new| key(change, class, new, old)),
            old.map(|old| key(change, class, old, None)),
        ];
        for key in keys.into_iter().flatten() {
            match key {
                Ok(key) => {
                    let model = Named { class: class.name.clone(), key };
                    self.models.insert((class.tenant, model));
                }
                Err(Unnamed::Untold) => {
                    self.emptied.insert(id());
                }
                Err(Unnamed::Gone(column)) => {
                    let why = format!(
                        "{} has no column {column} any more, which the key is made of: declare the class anew",
                        class.class.table
                    );
                    self.unreadable.insert(id(), why);
                }
            }
        }
    }
}

/// The key of the model that a row is.
fn key(
    change: &Change<'_>,
    class: &Followed,
    row: Row<'_>,
    old: Option<Row<'_>>,
) -> Result<String, Unnamed> {
    let columns = &change.shape.columns;
    let value = |name: &String| {
        let place = columns.iter().position(|column| column.name == *name);
        let place = place.ok_or_else(|| Unnamed::Gone(name.clone()))?;
        let cell = match row.iter().nth(place) {
            Some(Cell::Unchanged) => old.and_then(|old| old.iter().nth(place)),
            cell => cell,
        };
        match cell {
            Some(Cell::Json(json)) => text(json).ok_or(Unnamed::Untold),
            _ => Err(Unnamed::Untold),
        }
    };
    Ok(join(class.class.key.iter().map(value).collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use integratedb_events::{
        Column, EventId, Head, OldBuffer, RowBuffer, SegmentBuilder, Shape, Target,
    };
    use serde_json::json;

    use super::*;
    use crate::replication::Lsn;

    fn classes() -> Classes {
        let class = |tenant, name: &str, key: &[&str]| {
            let class = json!({"table": "public.orders", "key": key, "columns": ["id"]});
            let class = serde_json::from_value(class).expect("a definition");
            let (tenant, name) = (TenantId(tenant), name.to_owned());
            Arc::new(Followed {
                tenant,
                stakeholder: -tenant.0,
                name,
                version: 1,
                class,
                relations: [7].into(),
            })
        };
        Classes::new(vec![class(-1, "orders", &["id"]), class(-2, "places", &["id", "place"])])
    }

    fn row(cells: &[Cell<'_>]) -> RowBuffer {
        let mut row = RowBuffer::default();
        cells.iter().for_each(|cell| row.put(*cell));
        row
    }

    /// What happened, the new row, the old one, and for whom alone.
    type Told<'a> = (Op, Option<&'a RowBuffer>, Option<&'a RowBuffer>, Option<i64>);

    fn said(changes: &[Told<'_>], columns: &[&str]) -> Batch {
        let columns =
            columns.iter().map(|name| Column { name: (*name).to_owned(), is_key: true }).collect();
        let shape =
            Shape { relation: 7, schema: "public".to_owned(), table: "orders".to_owned(), columns };
        let (shape, mut builder) = (Arc::new(shape), SegmentBuilder::new(1));
        for (index, (op, new, old, stakeholder)) in (0..).zip(changes) {
            let id = EventId { epoch: 1, lsn: Lsn(9), index };
            let target = stakeholder.map(|stakeholder| Target { stakeholder, backfill: 1 });
            let head = Head { id, op: *op, commit_micros: 0, xid: 5 + index, target };
            builder.push(head, &shape, *new, old.map(OldBuffer::Key));
        }
        let (segment, classes) = (builder.finish(), classes());
        let mut batch = Batch::default();
        segment.changes().for_each(|change| batch.add(&change, &classes));
        batch
    }

    fn keys(batch: &Batch) -> Vec<(i64, &str)> {
        batch.models.iter().map(|(tenant, model)| (tenant.0, model.key.as_str())).collect()
    }

    #[test]
    fn a_row_is_one_model_however_often_it_changed_and_its_former_key_another() {
        let one = row(&[Cell::Json(b"1"), Cell::Json(b"\"a\"")]);
        let two = row(&[Cell::Json(b"2"), Cell::Unchanged]);
        let changes = [
            (Op::Insert, Some(&one), None, None),
            (Op::Update, Some(&one), None, None),
            (Op::Update, Some(&two), Some(&one), None),
        ];
        let batch = said(&changes, &["id", "place"]);
        let wanted = [(-2, "[\"1\",\"a\"]"), (-2, "[\"2\",\"a\"]"), (-1, "1"), (-1, "2")];
        assert_eq!(keys(&batch), wanted);
        assert_eq!(batch.xids, [5, 6, 7].into());
        assert!(batch.emptied.is_empty() && batch.unreadable.is_empty());
    }

    #[test]
    fn what_names_no_row_has_every_model_asked_for() {
        let batch = said(&[(Op::Truncate, None, None, None)], &["id", "place"]);
        assert_eq!(batch.emptied.len(), 2);
        let half = row(&[Cell::Json(b"1"), Cell::Absent]);
        let batch = said(&[(Op::Delete, None, Some(&half), None)], &["id", "place"]);
        assert_eq!(keys(&batch), [(-1, "1")]);
        assert_eq!(batch.emptied, [(TenantId(-2), "places".to_owned())].into());
    }

    #[test]
    fn a_key_column_that_is_gone_is_an_error_of_its_class_alone() {
        let one = row(&[Cell::Json(b"1"), Cell::Json(b"\"a\"")]);
        let batch = said(&[(Op::Insert, Some(&one), None, None)], &["id", "renamed"]);
        assert_eq!(keys(&batch), [(-1, "1")]);
        assert!(batch.unreadable[&(TenantId(-2), "places".to_owned())].contains("no column place"));
    }

    #[test]
    fn rows_of_a_backfill_are_for_whom_they_were_read() {
        let one = row(&[Cell::Json(b"1"), Cell::Json(b"\"a\"")]);
        let batch = said(&[(Op::Snapshot, Some(&one), None, Some(1))], &["id", "place"]);
        assert_eq!(keys(&batch), [(-1, "1")]);
    }
}
