//! From changes to events: the JSON that is delivered.
//!
//! Its first version; members come in this order, and none is ever taken away or given another meaning without another
//! version:
//!
//! ```json
//! {"id":"1-00000000016B3748-3","version":1,"stakeholder":"reporting","event":"UPDATE",
//!  "schema":"public","table":"orders","commit_time":"2026-11-21T14:00:00.123456Z","lsn":"0/16B3748","xid":771,
//!  "position":3,"key":{"id":7},"record":{"id":7,"price":12},"old":null,"changed":null,"unchanged_toast":["note"]}
//! ```
//!
//! Only columns that are subscribed to occur anywhere in it.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::change::{Cell, Change, Old, Op, Row, Shape};
use crate::json::write_string;
use crate::view::View;

/// Writes events of one view.
#[derive(Debug)]
pub struct Renderer {
    view: View,
    stakeholder: Vec<u8>,
    /// By where the shape is in memory, which holds as long as the shape is held: to compare shapes would cost more
    /// than to write an event.
    plans: HashMap<(usize, Op), Planned>,
}

/// A shape, and how its changes are written; `None` if the view does not want them.
#[derive(Debug)]
struct Planned {
    _shape: Arc<Shape>,
    plan: Option<Plan>,
}

/// How changes of one shape are written.
#[derive(Debug)]
struct Plan {
    /// `,"schema":…,"table":…`
    table: Vec<u8>,
    /// For each column, if it is wanted, its name as JSON.
    names: Vec<Option<Vec<u8>>>,
}

/// Shapes beyond which what was made for them is made anew.
const MOST_PLANS: usize = 4096;

impl Renderer {
    /// For what a channel subscribes to.
    pub fn new(view: View) -> Self {
        let mut stakeholder = Vec::new();
        write_string(view.stakeholder.as_bytes(), &mut stakeholder);
        Self { view, stakeholder, plans: HashMap::new() }
    }

    /// Appends the event that a change is; false, and nothing appended, if it is none to this view.
    pub fn render(&mut self, change: &Change<'_>, out: &mut Vec<u8>) -> bool {
        if change.target.is_some_and(|target| target.stakeholder != self.view.id) {
            return false;
        }
        if change.op == Op::Gap {
            Self::head(&self.stakeholder, change, out);
            out.extend_from_slice(b",\"reason\":");
            write_string(change.reason.as_bytes(), out);
            out.push(b'}');
            return true;
        }
        if !self.view.interests.contains_key(&change.shape.relation) {
            return false;
        }
        let key = (Arc::as_ptr(&change.shape).addr(), change.op);
        if self.plans.len() >= MOST_PLANS && !self.plans.contains_key(&key) {
            self.plans.clear();
        }
        let planned = self.plans.entry(key).or_insert_with(|| Planned {
            _shape: Arc::clone(&change.shape),
            plan: Plan::new(&self.view, &change.shape, change.op),
        });
        let Some(plan) = &planned.plan else { return false };
        Self::head(&self.stakeholder, change, out);
        plan.write(change, out);
        out.push(b'}');
        true
    }

    fn head(stakeholder: &[u8], change: &Change<'_>, out: &mut Vec<u8>) {
        // Writing to memory can't fail.
        let _ = write!(out, "{{\"id\":\"{}\",\"version\":1,\"stakeholder\":", change.id);
        out.extend_from_slice(stakeholder);
        let _ = write!(out, ",\"event\":\"{}\"", change.op.as_str());
    }
}

impl Plan {
    /// `None` if the view does not want such changes.
    fn new(view: &View, shape: &Shape, op: Op) -> Option<Self> {
        let interest = view.interests.get(&shape.relation)?;
        let columns = interest.columns.get(&op)?;
        let mut table = b",\"schema\":".to_vec();
        write_string(interest.schema.as_bytes(), &mut table);
        table.extend_from_slice(b",\"table\":");
        write_string(interest.table.as_bytes(), &mut table);
        let names = shape.columns.iter().map(|column| {
            columns.contains(&column.name).then(|| {
                let mut name = Vec::new();
                write_string(column.name.as_bytes(), &mut name);
                name
            })
        });
        Some(Self { table, names: names.collect() })
    }

    fn write(&self, change: &Change<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.table);
        let since = Duration::from_micros(u64::try_from(change.commit_micros).unwrap_or_default());
        let time = humantime::format_rfc3339_micros(SystemTime::UNIX_EPOCH + since);
        let _ = write!(
            out,
            ",\"commit_time\":\"{time}\",\"lsn\":\"{}\",\"xid\":{},\"position\":{}",
            change.id.lsn, change.xid, change.id.index
        );
        let (full, key) = match change.old {
            Some(Old::Full(row)) => (Some(row), None),
            Some(Old::Key(row)) => (None, Some(row)),
            None => (None, None),
        };
        let is_key = |at: usize| change.shape.columns.get(at).is_some_and(|column| column.is_key);
        out.extend_from_slice(b",\"key\":");
        match change.new.or(full).or(key) {
            Some(row) if change.shape.columns.iter().any(|column| column.is_key) => {
                self.object(out, row, full, is_key);
            }
            _ => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"record\":");
        match change.new {
            Some(row) => self.object(out, row, full, |_| true),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"old\":");
        match full.or(key) {
            Some(row) => self.object(out, row, None, |_| true),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"changed\":");
        match change.new.zip(full) {
            Some((new, full)) => {
                let differ = |(new, old)| new != old && new != Cell::Unchanged;
                self.list(out, new.iter().zip(full.iter()).map(differ));
            }
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"unchanged_toast\":");
        match change.new {
            Some(new) if full.is_none() => {
                self.list(out, new.iter().map(|cell| cell == Cell::Unchanged));
            }
            _ => out.extend_from_slice(b"[]"),
        }
        if let Some(target) = change.target {
            let _ = write!(out, ",\"backfill\":{}", target.backfill);
        }
    }

    /// The wanted columns of a row; what is not in it comes from `full`, or is left out.
    fn object(
        &self,
        out: &mut Vec<u8>,
        row: Row<'_>,
        full: Option<Row<'_>>,
        is_wanted: impl Fn(usize) -> bool,
    ) {
        out.push(b'{');
        let mut is_first = true;
        let mut before = full.map(|row| row.iter());
        for (at, (name, cell)) in self.names.iter().zip(row.iter()).enumerate() {
            let old = before.as_mut().and_then(Iterator::next);
            let cell = if cell == Cell::Unchanged { old.unwrap_or(cell) } else { cell };
            let (Some(name), true) = (name, is_wanted(at)) else { continue };
            let value: &[u8] = match cell {
                Cell::Null => b"null",
                Cell::Json(json) => json,
                Cell::Unchanged | Cell::Absent => continue,
            };
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            out.extend_from_slice(name);
            out.push(b':');
            out.extend_from_slice(value);
        }
        out.push(b'}');
    }

    /// The names of the wanted columns that are listed.
    fn list(&self, out: &mut Vec<u8>, is_listed: impl Iterator<Item = bool>) {
        out.push(b'[');
        let mut is_first = true;
        for (name, is_listed) in self.names.iter().zip(is_listed) {
            let (Some(name), true) = (name, is_listed) else { continue };
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            out.extend_from_slice(name);
        }
        out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use integratedb_wire::Lsn;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        Column, EventId, Head, OldBuffer, RowBuffer, SegmentBuilder, Subscription, Target,
    };

    fn shape() -> Arc<Shape> {
        let column = |name: &str, is_key| Column { name: name.to_owned(), is_key };
        Arc::new(Shape {
            relation: 7,
            schema: "public".to_owned(),
            table: "orders_2026".to_owned(),
            columns: vec![column("id", true), column("no\"te", false), column("secret", false)],
        })
    }

    fn row(cells: [Cell<'_>; 3]) -> RowBuffer {
        let mut row = RowBuffer::default();
        cells.iter().for_each(|cell| row.put(*cell));
        row
    }

    fn subscription(columns: &[&str], ops: &[Op]) -> Subscription {
        Subscription {
            relation: 7,
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            ops: ops.to_vec(),
        }
    }

    fn rendered(
        op: Op,
        new: Option<&RowBuffer>,
        old: Option<OldBuffer<'_>>,
        subscriptions: &[Subscription],
    ) -> Option<Value> {
        let mut builder = SegmentBuilder::new(1);
        let id = EventId { epoch: 1, lsn: Lsn(0x016B_3748), index: 3 };
        let head = Head { id, op, commit_micros: 1_795_269_600_123_456, xid: 771, target: None };
        builder.push(head, &shape(), new, old);
        let segment = builder.finish();
        let mut renderer = Renderer::new(View::new(4, "reporting", subscriptions));
        let mut out = Vec::new();
        let change = segment.changes().next().expect("it has one");
        renderer
            .render(&change, &mut out)
            .then(|| serde_json::from_slice(&out).expect("it is JSON"))
    }

    const ONE: Cell<'_> = Cell::Json(b"1");
    const A: Cell<'_> = Cell::Json(b"\"a\"");
    const B: Cell<'_> = Cell::Json(b"\"b\"");

    #[test]
    fn an_event_has_what_is_subscribed_to_and_no_more() {
        let new = row([ONE, A, Cell::Json(b"\"hidden\"")]);
        let wanted = [subscription(&["id", "no\"te", "gone"], &[Op::Insert])];
        let event = rendered(Op::Insert, Some(&new), None, &wanted).expect("it is wanted");
        let expected = json!({"id": "1-00000000016B3748-3", "version": 1, "stakeholder": "reporting",
            "event": "INSERT", "schema": "public", "table": "orders", "commit_time": "2026-11-21T14:00:00.123456Z",
            "lsn": "0/16B3748", "xid": 771, "position": 3, "key": {"id": 1}, "record": {"id": 1, "no\"te": "a"},
            "old": null, "changed": null, "unchanged_toast": []});
        assert_eq!(event, expected);
        assert_eq!(rendered(Op::Delete, None, Some(OldBuffer::Full(&new)), &wanted), None);
    }

    #[test]
    fn a_value_that_the_log_lacks_is_taken_from_the_old_row_or_named() {
        let new = row([ONE, Cell::Unchanged, Cell::Null]);
        let wanted = [subscription(&["id", "no\"te", "secret"], &[Op::Update])];
        let event = rendered(Op::Update, Some(&new), None, &wanted).expect("it is wanted");
        assert_eq!(event["record"], json!({"id": 1, "secret": null}));
        assert_eq!(
            (&event["unchanged_toast"], &event["changed"]),
            (&json!(["no\"te"]), &Value::Null)
        );
        let full = row([ONE, B, A]);
        let event = rendered(Op::Update, Some(&new), Some(OldBuffer::Full(&full)), &wanted);
        let event = event.expect("it is wanted");
        assert_eq!(event["record"], json!({"id": 1, "no\"te": "b", "secret": null}));
        assert_eq!(
            (&event["unchanged_toast"], &event["changed"]),
            (&json!([]), &json!(["secret"]))
        );
        assert_eq!(event["old"], json!({"id": 1, "no\"te": "b", "secret": "a"}));
    }

    #[test]
    fn a_deletion_tells_the_key_of_what_is_gone() {
        let key = row([ONE, Cell::Absent, Cell::Absent]);
        let wanted = [subscription(&["id"], &[Op::Delete])];
        let event =
            rendered(Op::Delete, None, Some(OldBuffer::Key(&key)), &wanted).expect("wanted");
        assert_eq!((&event["key"], &event["record"]), (&json!({"id": 1}), &Value::Null));
        assert_eq!(event["old"], json!({"id": 1}));
        // A key that is not subscribed to is not told either.
        let wanted = [subscription(&["secret"], &[Op::Delete])];
        let event =
            rendered(Op::Delete, None, Some(OldBuffer::Key(&key)), &wanted).expect("wanted");
        assert_eq!((&event["key"], &event["old"]), (&json!({}), &json!({})));
    }

    #[test]
    fn what_several_items_ask_for_is_told_once_with_the_columns_of_those_that_ask() {
        let new = row([ONE, A, B]);
        let wanted = [
            subscription(&["id"], &[Op::Insert, Op::Update]),
            subscription(&["secret"], &[Op::Insert]),
        ];
        let event = rendered(Op::Insert, Some(&new), None, &wanted).expect("wanted");
        assert_eq!(event["record"], json!({"id": 1, "secret": "b"}));
        let event = rendered(Op::Update, Some(&new), None, &wanted).expect("wanted");
        assert_eq!(event["record"], json!({"id": 1}));
    }

    #[test]
    fn rows_of_a_backfill_are_for_who_asked_and_a_gap_is_for_all() {
        let mut builder = SegmentBuilder::new(1);
        let at = |index| EventId { epoch: 1, lsn: Lsn(1), index };
        let head = |index, op, target| Head { id: at(index), op, commit_micros: 0, xid: 0, target };
        let row = row([ONE, A, B]);
        for (index, stakeholder) in [(0, 4), (1, 5)] {
            let target = Some(Target { stakeholder, backfill: 9 });
            builder.push(head(index, Op::Snapshot, target), &shape(), Some(&row), None);
        }
        builder.push_gap(head(2, Op::Gap, None), "lost \"it\"");
        let segment = builder.finish();
        let mut renderer =
            Renderer::new(View::new(4, "r", &[subscription(&["id"], &[Op::Delete])]));
        let events = segment.changes().filter_map(|change| {
            let mut out = Vec::new();
            renderer
                .render(&change, &mut out)
                .then(|| serde_json::from_slice::<Value>(&out).expect("JSON"))
        });
        let events: Vec<Value> = events.collect();
        assert_eq!(events.len(), 2);
        assert_eq!((&events[0]["event"], &events[0]["backfill"]), (&json!("SNAPSHOT"), &json!(9)));
        assert_eq!(
            (&events[1]["event"], &events[1]["reason"]),
            (&json!("GAP"), &json!("lost \"it\""))
        );
    }
}
