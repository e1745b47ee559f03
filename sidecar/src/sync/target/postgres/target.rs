//! Pushes and comparisons: which statement, with which values.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::super::open::{sentence, whole};
use super::super::{Comparison, PushError, Target};
use super::connections::Connections;
use super::error::told;
use super::settings::{Settings, Table};
use super::statements::{SHAPE, Statements, name};
use crate::reach::Reach;
use crate::sync::work::{Data, Push};

/// How long a table's columns are believed to be the same.
const BELIEVED: Duration = Duration::from_secs(60);

/// What a table has.
struct Shape {
    /// Those that can be written.
    columns: Vec<String>,
    primary_key: Vec<String>,
}

/// A second Postgres.
pub(in super::super) struct PostgresTarget {
    tables: BTreeMap<String, Table>,
    connections: Connections,
    /// For a connection with what it is asked first, and for the statement: half of the push's time.
    half: Duration,
    /// By class.
    shapes: Mutex<HashMap<String, (Arc<Shape>, Instant)>>,
}

/// What a statement is made for: columns with the values that they have, as the source wrote them.
struct Row {
    columns: Vec<String>,
    key: Vec<String>,
    values: String,
}

impl PostgresTarget {
    pub(in super::super) fn new(
        settings: &Value,
        hidden: &Value,
        reach: &Reach,
        timeout: Duration,
    ) -> Result<Self, String> {
        let Settings { url, connections, tables } =
            Settings::read(&whole(settings, hidden)).map_err(|mistakes| sentence(&mistakes))?;
        let half = timeout / 2;
        let connections = Connections::new(&url, reach, connections, half)?;
        Ok(Self { tables, connections, half, shapes: Mutex::default() })
    }

    async fn bring(&self, push: &Push) -> Result<(), PushError> {
        let Some(table) = self.tables.get(&push.model.class) else { return Ok(()) };
        let what = if push.data.is_some() { "the upsert into" } else { "the delete from" };
        let make = |row: &Row| {
            let statements = Statements { table, columns: &row.columns, key: &row.key };
            if push.data.is_some() { statements.upsert() } else { statements.delete() }
        };
        self.run(what, push, table, make, async |client, statement, values| {
            client.execute_typed(statement, &[(&values, Type::TEXT)]).await
        })
        .await
        .map(|_| ())
    }

    async fn differs(&self, push: &Push) -> Result<Comparison, PushError> {
        let Some(table) = self.tables.get(&push.model.class) else { return Ok(Comparison::Same) };
        let make = |row: &Row| Statements { table, columns: &row.columns, key: &row.key }.compare();
        let rows = self
            .run("the comparison with", push, table, make, async |client, statement, values| {
                client.query_typed(statement, &[(&values, Type::TEXT)]).await
            })
            .await?;
        Ok(match (&push.data, rows.first().map(|row| row.get::<_, Vec<String>>(0))) {
            (Some(_), None) => Comparison::Create,
            (Some(_), Some(names)) if names.is_empty() => Comparison::Same,
            (Some(_), Some(names)) => Comparison::Update(names),
            (None, None) => Comparison::Same,
            (None, Some(_)) => Comparison::Delete,
        })
    }

    async fn run<T>(
        &self,
        what: &str,
        push: &Push,
        table: &Table,
        make: impl FnOnce(&Row) -> String,
        send: impl AsyncFnOnce(&Client, &str, &str) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, PushError> {
        let failed =
            |why: String| PushError::new(format!("{what} {}: {why}", table.name.join(".")));
        let begin = async {
            let lent = self.connections.get().await?;
            let shape = self
                .shape(lent.client(), push, table)
                .await
                .map_err(|error| failed(told(error)))?;
            Ok((lent, shape))
        };
        // A statement begins within the first half, and is stopped by the server before the end of the second.
        let (lent, shape) = tokio::time::timeout(self.half, begin)
            .await
            .map_err(|_| failed("the database does not answer in time".to_owned()))??;
        let made = row(push, table, &shape);
        let row = match made {
            Ok(row) => row,
            Err(why) => {
                lent.give_back();
                return Err(failed(why));
            }
        };
        let sent = send(lent.client(), &make(&row), &row.values).await;
        lent.give_back();
        sent.map_err(|error| {
            // The table may have been changed.
            self.shapes().remove(&push.model.class);
            failed(told(error))
        })
    }

    async fn shape(
        &self,
        client: &Client,
        push: &Push,
        table: &Table,
    ) -> Result<Arc<Shape>, tokio_postgres::Error> {
        let class = &push.model.class;
        if let Some((shape, at)) = self.shapes().get(class)
            && at.elapsed() < BELIEVED
        {
            return Ok(Arc::clone(shape));
        }
        let mut shape = Shape { columns: Vec::new(), primary_key: Vec::new() };
        for row in client.query_typed(SHAPE, &[(&name(table), Type::TEXT)]).await? {
            let column: String = row.get("name");
            if row.get("is_key") {
                shape.primary_key.push(column.clone());
            }
            if row.get("is_written") {
                shape.columns.push(column);
            }
        }
        let shape = Arc::new(shape);
        self.shapes().insert(class.clone(), (Arc::clone(&shape), Instant::now()));
        Ok(shape)
    }

    fn shapes(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Arc<Shape>, Instant)>> {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Target for PostgresTarget {
    fn push<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<(), PushError>> {
        Box::pin(self.bring(push))
    }

    fn compare<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<Comparison, PushError>> {
        Box::pin(self.differs(push))
    }
}

/// The row of a push; of a model that is gone its key.
fn row(push: &Push, table: &Table, shape: &Shape) -> Result<Row, String> {
    let key = table.key.clone().unwrap_or_else(|| shape.primary_key.clone());
    if key.is_empty() {
        return Err(
            "the table has no primary key: the setting key has to name columns with a unique index"
                .to_owned(),
        );
    }
    let Some(data) = &push.data else {
        let values = key_values(push, table, &key)?;
        return Ok(Row { columns: key.clone(), key, values });
    };
    let members = members(data)?;
    let mut columns = Vec::new();
    let mut values = Vec::new();
    match &table.columns {
        Some(mapped) => {
            for (column, member) in mapped {
                let value = members.get(member).ok_or_else(|| {
                    format!("the data has no {member}, which column {column} has")
                })?;
                columns.push(column.clone());
                values.push(pair(column, value.get()));
            }
        }
        None => {
            for column in &shape.columns {
                if let Some(value) = members.get(column) {
                    columns.push(column.clone());
                    values.push(pair(column, value.get()));
                }
            }
        }
    }
    if let Some(missing) = key.iter().find(|column| !columns.contains(column)) {
        return Err(format!("the data has no {missing}, which is a key"));
    }
    Ok(Row { columns, key, values: format!("{{{}}}", values.join(",")) })
}

/// The key as the last data has it; or else the model's own.
fn key_values(push: &Push, table: &Table, key: &[String]) -> Result<String, String> {
    let member = |column: &String| match &table.columns {
        Some(mapped) => mapped.get(column).cloned(),
        None => Some(column.clone()),
    };
    if let Some(members) = push.last_data.as_ref().map(members).transpose()? {
        let values: Option<Vec<String>> = key
            .iter()
            .map(|column| Some(pair(column, members.get(&member(column)?)?.get())))
            .collect();
        if let Some(values) = values {
            return Ok(format!("{{{}}}", values.join(",")));
        }
    }
    let parts = if key.len() == 1 {
        vec![push.model.key.clone()]
    } else {
        serde_json::from_str(&push.model.key).unwrap_or_default()
    };
    if parts.len() != key.len() {
        return Err(format!(
            "its key is of {} columns, and the table's of {}",
            parts.len(),
            key.len()
        ));
    }
    let values: Vec<_> = key
        .iter()
        .zip(&parts)
        .map(|(column, part)| pair(column, &Value::from(part.as_str()).to_string()))
        .collect();
    Ok(format!("{{{}}}", values.join(",")))
}

fn members(data: &Data) -> Result<HashMap<String, Box<RawValue>>, String> {
    serde_json::from_str(data.get()).map_err(|_| "the model's data is not a JSON object".to_owned())
}

/// A member of an object; the value as it was written, so that numbers keep their digits.
fn pair(name: &str, value: &str) -> String {
    format!("{}:{value}", Value::from(name))
}
