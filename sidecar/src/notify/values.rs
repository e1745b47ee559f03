//! From a table of the stream to a shape of the log, and from its values to JSON.

use std::collections::HashMap;
use std::sync::Arc;

use integratedb_events::json::{JsonType, Types, ValueError};
use integratedb_events::{Cell, Column, RowBuffer, Shape};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::error::NotifyError;
use crate::replication::{Relation, ReplicaIdentity, Value};

/// A table as it was told last.
pub(super) struct Known {
    told: Arc<Relation>,
    pub(super) shape: Arc<Shape>,
    types: Vec<JsonType>,
}

/// The tables that were told.
#[derive(Default)]
pub(super) struct Tables {
    types: Types,
    known: HashMap<u32, Known>,
}

impl Tables {
    /// A table that is known as it is told now.
    pub(super) fn get(&self, relation: &Arc<Relation>) -> Option<&Known> {
        self.known.get(&relation.oid).filter(|known| Arc::ptr_eq(&known.told, relation))
    }

    /// The table as it is known, if that is how it is told now: so that what is told twice is learned once.
    pub(super) fn alike(&self, relation: &Arc<Relation>) -> Arc<Relation> {
        let known = self.known.get(&relation.oid).map(|known| &known.told);
        Arc::clone(known.filter(|told| ***told == **relation).unwrap_or(relation))
    }

    /// Gets to know a table: its types, and what tells its rows from one another where the stream does not say.
    pub(super) async fn learn(
        &mut self,
        client: &Client,
        relation: &Arc<Relation>,
    ) -> Result<(), NotifyError> {
        let missing = self.types.missing(relation.columns.iter().map(|column| column.type_oid));
        if !missing.is_empty() {
            let rows = texts(client, &Types::query(&missing)).await?;
            self.types.learn(&rows).map_err(|error| {
                NotifyError::Unexpected(format!("types can't be read: {error}"))
            })?;
        }
        let key = match relation.identity {
            ReplicaIdentity::Full => primary_key(client, relation.oid).await?,
            _ => relation.columns.iter().filter(|c| c.is_key).map(|c| c.name.clone()).collect(),
        };
        let columns = relation
            .columns
            .iter()
            .map(|column| Column { name: column.name.clone(), is_key: key.contains(&column.name) });
        let shape = Arc::new(Shape {
            relation: relation.oid,
            schema: relation.schema.clone(),
            table: relation.name.clone(),
            columns: columns.collect(),
        });
        let types = relation.columns.iter().map(|column| {
            // One that is gone by now.
            self.types.get(column.type_oid).unwrap_or(JsonType::TEXT)
        });
        let known = Known { told: Arc::clone(relation), shape, types: types.collect() };
        self.known.insert(relation.oid, known);
        Ok(())
    }

    /// Tables and types may be others.
    pub(super) fn forget(&mut self) {
        self.types.forget();
        self.known.clear();
    }
}

impl Known {
    /// Writes a row; of one that is only a key, the other columns are absent.
    pub(super) fn write<'a>(
        &self,
        values: impl Iterator<Item = Value<'a>>,
        is_key_only: bool,
        row: &mut RowBuffer,
    ) {
        row.clear();
        for ((value, column), of) in values.zip(&self.told.columns).zip(&self.types) {
            match value {
                _ if is_key_only && !column.is_key => row.put(Cell::Absent),
                Value::Null => row.put(Cell::Null),
                Value::Unchanged => row.put(Cell::Unchanged),
                Value::Text(text) | Value::Binary(text) => {
                    let one_line = |of: &JsonType, out: &mut Vec<u8>| {
                        of.write(text, out)?;
                        // Values of json keep their line ends; an event is one line.
                        let ends = out.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r'));
                        ends.for_each(|byte| *byte = b' ');
                        Ok::<_, ValueError>(())
                    };
                    // A type that was changed since is not written as it is read now: then its text is right.
                    if row.json(|out| one_line(of, out)).is_err() {
                        let _ = row.json(|out| JsonType::TEXT.write(text, out));
                    }
                }
            }
        }
    }
}

async fn primary_key(client: &Client, relation: u32) -> Result<Vec<String>, NotifyError> {
    let sql = "SELECT a.attname::text FROM pg_catalog.pg_index i
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
               WHERE i.indrelid = $1 AND i.indisprimary";
    let rows = client.query(sql, &[&relation]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn texts(client: &Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, NotifyError> {
    let rows = client.simple_query(sql).await?.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    });
    Ok(rows.collect())
}
