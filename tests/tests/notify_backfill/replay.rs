//! The log as whoever takes it in its order sees it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use integratedb_events::{Cell, Change, EventId, Op, Row, Segment, Target};
use serde_json::{Value, json};
use tokio_postgres::Client;

/// A row by its columns; `None` for a value that is not known.
pub(crate) type Known = BTreeMap<String, Option<Value>>;

/// Rows by their keys.
pub(crate) type Table = BTreeMap<String, Known>;

/// A change of the log.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: EventId,
    pub(crate) op: Op,
    pub(crate) table: String,
    pub(crate) target: Option<Target>,
    new: Option<(String, Known)>,
    old: Option<String>,
}

/// All changes of the log, which has each once and in order.
pub(crate) async fn read_log(client: &Client) -> Result<Vec<Event>> {
    let sql = "SELECT body FROM integratedb.event_log ORDER BY epoch, last_lsn, last_index";
    let mut events: Vec<Event> = Vec::new();
    for row in client.query(sql, &[]).await? {
        let segment = Segment::decode(&lz4_flex::decompress_size_prepended(row.get(0))?)?;
        for change in segment.changes() {
            let event = event(&change)?;
            if let Some(last) = events.last() {
                ensure!(last.id < event.id, "{} after {}", event.id, last.id);
            }
            events.push(event);
        }
    }
    Ok(events)
}

fn event(change: &Change<'_>) -> Result<Event> {
    let key = |row: Row<'_>, or: Option<Row<'_>>| {
        let or = or.into_iter().flat_map(Row::iter).map(Some).chain(std::iter::repeat(None));
        let cells = change.shape.columns.iter().zip(row.iter()).zip(or);
        let of_key = cells.filter(|((column, _), _)| column.is_key);
        let values = of_key.map(|((_, cell), or)| {
            value(if cell == Cell::Unchanged { or.context("a key")? } else { cell })
        });
        values.collect::<Result<Vec<_>>>().map(|values| json!(values).to_string())
    };
    let known = |row: Row<'_>| {
        let cells = change.shape.columns.iter().zip(row.iter());
        cells.map(|(column, cell)| Ok((column.name.clone(), value(cell)?))).collect::<Result<_>>()
    };
    let old = change.old.map(|old| old.row());
    Ok(Event {
        id: change.id,
        op: change.op,
        table: change.shape.table.clone(),
        target: change.target,
        new: change
            .new
            .map(|row| Ok::<_, anyhow::Error>((key(row, old)?, known(row)?)))
            .transpose()?,
        old: old.map(|row| key(row, None)).transpose()?,
    })
}

fn value(cell: Cell<'_>) -> Result<Option<Value>> {
    Ok(match cell {
        Cell::Null => Some(Value::Null),
        Cell::Json(json) => Some(serde_json::from_slice(json)?),
        Cell::Unchanged | Cell::Absent => None,
    })
}

/// What the table is after these events; whoever `sees_all` has had them since the table was empty, and knows what each
/// row of a backfill has to be.
pub(crate) fn replay(events: &[Event], table: &str, sees_all: bool) -> Result<Table> {
    let mut rows = Table::new();
    for event in events.iter().filter(|event| event.table == table) {
        match (event.op, &event.new, &event.old) {
            (Op::Truncate, ..) => rows.clear(),
            (Op::Delete, _, Some(old)) => drop(rows.remove(old)),
            (Op::Snapshot, Some((key, row)), _) => {
                if sees_all {
                    let present = rows.get(key);
                    ensure!(present == Some(row), "{}: {row:?} in place of {present:?}", event.id);
                }
                rows.insert(key.clone(), row.clone());
            }
            (Op::Insert | Op::Update, Some((key, new)), old) => {
                let before = rows.remove(old.as_ref().unwrap_or(key)).unwrap_or_default();
                let mut row = new.clone();
                for (column, value) in &mut row {
                    if value.is_none() {
                        *value = before.get(column).cloned().flatten();
                    }
                }
                rows.insert(key.clone(), row);
            }
            _ => bail!("an odd event: {event:?}"),
        }
    }
    Ok(rows)
}

/// The table as it is; `key` names the columns of its key in their order in the table.
pub(crate) async fn present(client: &Client, table: &str, key: &[&str]) -> Result<Table> {
    let rows = client.query(&format!("SELECT to_jsonb(t) FROM {table} t"), &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let value: Value = row.get(0);
        let key: Vec<Value> = key.iter().map(|name| value[*name].clone()).collect();
        let columns = value.as_object().cloned().unwrap_or_default();
        (json!(key).to_string(), columns.into_iter().map(|(name, v)| (name, Some(v))).collect())
    };
    Ok(rows.iter().map(read).collect())
}

/// The first difference, if there is one.
pub(crate) fn difference(got: &Table, wanted: &Table) -> Option<String> {
    let keys = got.keys().chain(wanted.keys());
    let (one, other) = keys
        .map(|key| (key, (got.get(key), wanted.get(key))))
        .find_map(|(key, pair)| (pair.0 != pair.1).then_some((key, pair)))?;
    let short = |row: Option<&Known>| {
        row.map(|row| {
            let cut = |value: &Option<Value>| {
                value.as_ref().map(|v| v.to_string().chars().take(20).collect::<String>())
            };
            row.iter().map(|(name, value)| (name.clone(), cut(value))).collect::<Vec<_>>()
        })
    };
    Some(format!(
        "{one}: {:?} in place of {:?}; {} rows and {}",
        short(other.0),
        short(other.1),
        got.len(),
        wanted.len()
    ))
}
