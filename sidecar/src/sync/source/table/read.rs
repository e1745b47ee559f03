//! Reads rows with the rights of the stakeholder whose models they are.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_postgres::error::SqlState;

use super::definition::TableClass;
use super::key::{self, MOST_KEY};
use crate::db::{DbError, Pool};
use crate::replication::{identifier, literal};
use crate::sync::source::{FetchError, Fetched, Source};
use crate::sync::work::{Fetch, Named};

/// What runs a statement as a stakeholder.
const READ_AS: &str = "SELECT integratedb.read_as($1, $2)";

/// The rows of a table as models.
pub struct TableSource {
    class: TableClass,
    stakeholder: i64,
    pool: Pool,
}

/// A row, as [`row`] asks for it.
#[derive(Deserialize)]
struct Row<'a> {
    /// The key's values.
    #[serde(borrow)]
    key: Vec<&'a RawValue>,
    /// Those of the parent's key; none if the class has no parent.
    #[serde(borrow)]
    parent: Vec<&'a RawValue>,
    data: Box<RawValue>,
}

impl TableSource {
    /// Of a class of a stakeholder. Nothing is asked yet.
    pub fn new(class: TableClass, stakeholder: i64, pool: Pool) -> Self {
        Self { class, stakeholder, pool }
    }

    async fn read(&self, fetch: &Fetch) -> Result<Fetched, FetchError> {
        let mut fetched =
            Fetched { data: None, parent: None, notified: Vec::new(), integration: None };
        // The key of a class that had another key once names no row now.
        let Some(texts) = key::split(&fetch.model.key, self.class.key.len()) else {
            return Ok(fetched);
        };
        let client = self.pool.get().await.map_err(|error| failed(DbError::from(error)))?;
        let statement = row(&self.class, &texts);
        let read = async {
            let prepared = client.prepare_cached(READ_AS).await?;
            client.query_one(&prepared, &[&self.stakeholder, &statement]).await
        };
        let answer = read.await.map_err(|error| self.explain(error))?;
        let Some(text) = answer.get::<_, Option<&str>>(0) else { return Ok(fetched) };
        let row: Row<'_> = serde_json::from_str(text)
            .map_err(|error| unexpected(format!("the row can't be read: {error}")))?;
        // Values that are equal can be written differently: the model is the one whose key is written as the row's.
        if key::of_values(&row.key).as_ref() != Some(&fetch.model.key) {
            return Ok(fetched);
        }
        if key::of_values(&row.parent).is_some_and(|key| key.len() > MOST_KEY) {
            return Err(unexpected(format!(
                "the key of its parent has more than {MOST_KEY} bytes"
            )));
        }
        fetched.parent = self.class.parent.as_ref().map(|parent| {
            let key = key::of_values(&row.parent)?;
            Some(Named { class: parent.class.clone(), key })
        });
        fetched.data = Some(Arc::from(row.data));
        Ok(fetched)
    }

    fn explain(&self, error: tokio_postgres::Error) -> FetchError {
        FetchError { message: explain(&self.class, error), retry_after: None }
    }
}

impl Source for TableSource {
    fn fetch<'a>(&'a self, fetch: &'a Fetch) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        Box::pin(self.read(fetch))
    }
}

fn failed(error: DbError) -> FetchError {
    unexpected(error.to_string())
}

fn unexpected(message: String) -> FetchError {
    FetchError { message, retry_after: None }
}

/// Why rows of a table could not be read, and what to do about it.
fn explain(class: &TableClass, error: tokio_postgres::Error) -> String {
    let table = &class.table;
    let Some(refusal) = error.as_db_error() else { return DbError::from(error).to_string() };
    let said = refusal.message();
    match *refusal.code() {
        SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME => {
            format!("there is no table {table} any more: declare the class anew, or withdraw it")
        }
        SqlState::UNDEFINED_COLUMN => {
            format!("{table} is not as it was declared: {said}. Declare the class anew")
        }
        SqlState::INSUFFICIENT_PRIVILEGE if said.contains("read_as") => format!(
            "{said}: let the sidecar's role read for stakeholders, with integratedb.grant_sidecar(role)"
        ),
        SqlState::INSUFFICIENT_PRIVILEGE if !said.starts_with("permission denied") => {
            format!(
                "{said}: a policy of {table}, or a function that it calls, does what it may not"
            )
        }
        SqlState::INSUFFICIENT_PRIVILEGE => format!(
            "{said}: the stakeholder's role may not read {}. Add them to its claims, or declare the class anew without",
            class.columns.join(", ")
        ),
        SqlState::UNDEFINED_FUNCTION if said.contains("read_as") => {
            format!("{said}: the extension is older than the sidecar. Drop and create it")
        }
        SqlState::LOCK_NOT_AVAILABLE => {
            format!("{table} is locked, such as by a migration: it is tried again")
        }
        SqlState::QUERY_CANCELED => format!("reading {table} took too long: {said}"),
        SqlState::INVALID_TEXT_REPRESENTATION
        | SqlState::NUMERIC_VALUE_OUT_OF_RANGE
        | SqlState::INVALID_DATETIME_FORMAT
        | SqlState::DATETIME_FIELD_OVERFLOW => format!(
            "the key can't be read as {} of {table}: it is of another time, or a policy of the table fails",
            class.key.join(", ")
        ),
        _ => DbError::from(error).to_string(),
    }
}

/// The statement for one row: as JSON, with its key and that of its parent.
fn row(class: &TableClass, key: &[String]) -> String {
    let values = |names: &[String]| list(names.iter().map(|n| format!("to_json({})", column(n))));
    let parent = class.parent.as_ref().map_or(&[][..], |parent| &parent.columns);
    let is_it =
        class.key.iter().zip(key).map(|(n, text)| format!("{} = {}", column(n), literal(text)));
    format!(
        "SELECT json_build_object('key', json_build_array({}), 'parent', json_build_array({}),
             'data', (SELECT row_to_json(d.*) FROM (SELECT {}) d))::text
         FROM {} t WHERE {} LIMIT 1",
        values(&class.key),
        values(parent),
        list(class.columns.iter().map(|name| column(name))),
        table(class),
        is_it.collect::<Vec<_>>().join(" AND "),
    )
}

/// The statement for the keys of so many rows after this one, in the order of the key: a JSON array of arrays of values.
fn keys(class: &TableClass, after: Option<&[String]>, most: usize) -> String {
    let columns = list(class.key.iter().map(|name| column(name)));
    let values = list(class.key.iter().map(|name| format!("to_json({})", column(name))));
    let after = after.map(|texts| list(texts.iter().map(|text| literal(text))));
    let after = after.map(|texts| format!("WHERE ({columns}) > ({texts})")).unwrap_or_default();
    format!(
        "SELECT coalesce(json_agg(k.key), '[]')::text
         FROM (SELECT json_build_array({values}) AS key FROM {} t {after} ORDER BY {columns} LIMIT {most}) k",
        table(class),
    )
}

/// The keys of so many rows after this one that the stakeholder may see: the values of each.
pub(crate) async fn keys_after(
    client: &deadpool_postgres::Client,
    class: &TableClass,
    stakeholder: i64,
    after: Option<&[String]>,
    most: usize,
) -> Result<Vec<Vec<String>>, String> {
    let statement = keys(class, after, most);
    let read = async {
        let prepared = client.prepare_cached(READ_AS).await?;
        client.query_one(&prepared, &[&stakeholder, &statement]).await
    };
    let answer = read.await.map_err(|error| explain(class, error))?;
    let unreadable = |error: serde_json::Error| format!("keys can't be read: {error}");
    let rows: Vec<Vec<&RawValue>> =
        serde_json::from_str(answer.get::<_, Option<&str>>(0).unwrap_or("[]"))
            .map_err(unreadable)?;
    let texts = |row: &Vec<&RawValue>| row.iter().map(|v| key::text(v.get().as_bytes())).collect();
    let rows: Option<Vec<Vec<String>>> = rows.iter().map(texts).collect();
    rows.ok_or_else(|| "a row has a key that can't be told: declare the class anew".to_owned())
}

fn table(class: &TableClass) -> String {
    let name = &class.table;
    format!("{}.{}", identifier(name.schema.as_str()), identifier(name.table.as_str()))
}

fn column(name: &str) -> String {
    format!("t.{}", identifier(name))
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
