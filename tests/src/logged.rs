//! What the log of notifications holds, read from the database.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use integratedb_events::{Cell, Change, EventId, Op, Row, Segment};
use serde_json::Value;
use tokio_postgres::Client;

/// A row's columns that are told, by name.
pub type Cells = BTreeMap<String, Value>;

/// A change as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// Which it is.
    pub id: EventId,
    /// What happened.
    pub op: Op,
    /// The table's name.
    pub table: String,
    /// The row as it is now.
    pub new: Option<Cells>,
    /// The row as it was, or its key.
    pub old: Option<Cells>,
    /// The backfill that has read it.
    pub backfill: Option<i64>,
    /// Of a gap.
    pub reason: String,
}

/// All that is stored, in its order. Errors unless each id is above the one before.
pub async fn logged(client: &Client) -> Result<Vec<Logged>> {
    let sql =
        "SELECT body, changes FROM integratedb.event_log ORDER BY epoch, last_lsn, last_index";
    let mut all: Vec<Logged> = Vec::new();
    for row in client.query(sql, &[]).await? {
        let body = lz4_flex::decompress_size_prepended(row.get(0))?;
        let segment = Segment::decode(&body)?;
        ensure!(i32::try_from(segment.len())? == row.get::<_, i32>(1), "miscounted");
        for change in segment.changes() {
            let logged = one(&change)?;
            let last = all.last().map(|last| last.id);
            ensure!(last < Some(logged.id), "{} after {last:?}", logged.id);
            all.push(logged);
        }
    }
    Ok(all)
}

fn one(change: &Change<'_>) -> Result<Logged> {
    let cells = |row: Row<'_>| -> Result<Cells> {
        let mut cells = Cells::new();
        for (column, cell) in change.shape.columns.iter().zip(row.iter()) {
            let value = match cell {
                Cell::Json(json) => serde_json::from_slice(json).context("no JSON")?,
                Cell::Null => Value::Null,
                Cell::Unchanged | Cell::Absent => continue,
            };
            cells.insert(column.name.clone(), value);
        }
        Ok(cells)
    };
    Ok(Logged {
        id: change.id,
        op: change.op,
        table: change.shape.table.clone(),
        new: change.new.map(cells).transpose()?,
        old: change.old.map(|old| cells(old.row())).transpose()?,
        backfill: change.target.map(|target| target.backfill),
        reason: change.reason.to_owned(),
    })
}

/// The rows of a table with the key `id` that these changes leave behind.
pub fn replayed(changes: &[Logged], table: &str) -> Result<BTreeMap<i64, Cells>> {
    let mut rows = BTreeMap::new();
    let key = |cells: &Cells| cells.get("id").and_then(Value::as_i64).context("no id");
    for change in changes.iter().filter(|change| change.table == table) {
        if change.op == Op::Truncate {
            rows.clear();
        }
        if let Some(old) = &change.old {
            rows.remove(&key(old)?);
        }
        if let Some(new) = &change.new {
            rows.insert(key(new)?, new.clone());
        }
    }
    Ok(rows)
}

/// Has a stakeholder `reporting` subscribe to all changes of tables, with all their columns, over all channels.
pub async fn subscribe_to_all(client: &Client, tables: &[&str]) -> Result<()> {
    let items = tables.iter().map(|table| {
        serde_json::json!({"path": table, "events": ["*"], "fields": ["*"], "channels": ["*"]})
    });
    let document = serde_json::json!({"match": items.collect::<Vec<_>>()}).to_string();
    let verifier = postgres_protocol::password::scram_sha_256(b"secret");
    let sql = "SELECT integratedb.put_spec(coalesce(
                   (SELECT id FROM integratedb.stakeholder WHERE name = 'reporting'),
                   integratedb.create_stakeholder('reporting', $1)), 'NOTIFICATIONS', $2)";
    client.query_one(sql, &[&verifier, &document]).await?;
    Ok(())
}
