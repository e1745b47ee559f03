//! A shop, its stakeholders, and a reader of its WAL.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Database};
use tokio_postgres::Client;

const VERIFIER: &str = "SCRAM-SHA-256$4096:jZ0oAN5wNK4vGDs8DJgx4g==$h0GoE3K9tNLcmmGYv8A8NHKO1ERk0Fa\
    OHPfgTZHmnDk=:u1tGHgSiUvY4YsXdBKKhCeE0c4PVPrs7dKzPPIOhEdc=";

const TABLES: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, price numeric(10, 2) NOT NULL, note varchar(40));
    CREATE TABLE customers (id int PRIMARY KEY, user_id int NOT NULL UNIQUE);
    CREATE TABLE events (id int NOT NULL, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')
        PARTITION BY RANGE (at);
    CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES FROM ('2027-01-01') TO ('2027-07-01')";

/// A database with tables and the stakeholder `reporting`; each test has its own.
pub(crate) struct World {
    _cluster: Cluster,
    pub(crate) database: Database,
    /// A superuser's connection.
    pub(crate) client: Client,
    /// The id of `reporting`.
    pub(crate) id: i64,
}

/// What the database answered instead; DETAIL as JSON, if it is.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
    pub(crate) detail: Value,
}

impl Refused {
    pub(crate) fn new(error: &tokio_postgres::Error) -> Self {
        let error = error.as_db_error().expect("an answer of the database");
        Self {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint().unwrap_or_default().to_owned(),
            detail: serde_json::from_str(error.detail().unwrap_or_default()).unwrap_or_default(),
        }
    }
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let client = database.connect().await?;
        client.batch_execute(TABLES).await?;
        let id = stakeholder(&client, "reporting").await?;
        client
            .query("SELECT pg_create_logical_replication_slot('reader', 'test_decoding')", &[])
            .await?;
        Ok(Self { _cluster: cluster, database, client, id })
    }

    /// With every DDL validated at COMMIT.
    pub(crate) async fn strict() -> Result<Self> {
        let mut world = Self::new().await?;
        world
            .client
            .batch_execute("ALTER DATABASE shop SET integratedb.enforcement = strict")
            .await?;
        world.client = world.database.connect().await?;
        Ok(world)
    }

    /// PUTs notifications of `reporting` whose matches, all or one, are for all events and channels unless they say
    /// otherwise.
    pub(crate) async fn put(&self, matches: Value) -> Result<Value, Refused> {
        self.put_document(&document(matches)).await
    }

    pub(crate) async fn put_document(&self, document: &Value) -> Result<Value, Refused> {
        put_spec(&self.client, self.id, "NOTIFICATIONS", document).await
    }

    pub(crate) async fn one<T>(&self, sql: &str) -> Result<T>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        Ok(self.client.query_one(sql, &[]).await.context(sql.to_owned())?.get(0))
    }

    /// Runs a migration with its validation.
    pub(crate) async fn migrate(&self, sql: &str) -> Result<(), Refused> {
        let sql = format!("BEGIN; {sql}; SELECT integratedb_validate_migration(); COMMIT;");
        let Err(error) = self.client.batch_execute(&sql).await else { return Ok(()) };
        self.client.batch_execute("ROLLBACK").await.expect("the connection is alive");
        Err(Refused::new(&error))
    }

    /// `TABLE PROPERTY ACTUAL` of each unmet claim.
    pub(crate) async fn unmet(&self) -> Result<Vec<String>> {
        self.texts(
            "SELECT concat_ws(' ', path, field, property, actual) FROM integratedb_unmet_claims()",
        )
        .await
    }

    /// The members of the publication, in order.
    pub(crate) async fn members(&self) -> Result<Vec<String>> {
        self.texts(
            "SELECT tablename::text FROM pg_publication_tables WHERE pubname = 'integratedb' ORDER BY 1",
        )
        .await
    }

    pub(crate) async fn texts(&self, sql: &str) -> Result<Vec<String>> {
        let rows = self.client.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Whether subscriptions were told to have changed since the last call.
    pub(crate) async fn is_told(&self) -> Result<bool> {
        let told = self
            .texts(
                "SELECT data FROM pg_logical_slot_get_changes('reader', NULL, NULL) \
                 WHERE data LIKE 'message: transactional: 1 prefix: integratedb,%{\"subscriptions\": true}'",
            )
            .await?;
        Ok(!told.is_empty())
    }

    pub(crate) async fn subscriptions(&self) -> Result<Value> {
        self.one("SELECT integratedb.subscriptions()").await
    }

    /// `item table relation columns` of each subscription, with the name of the relation told.
    pub(crate) async fn subscribed(&self) -> Result<Vec<String>> {
        self.texts(
            "SELECT format('%s %s.%s %s %s', s ->> 'item', s ->> 'schema', s ->> 'table', \
                 (s ->> 'relation')::oid::regclass, \
                 (SELECT string_agg(c, ',') FROM jsonb_array_elements_text(s -> 'columns') c)) \
             FROM jsonb_array_elements(integratedb.subscriptions()) s",
        )
        .await
    }
}

pub(crate) fn document(mut matches: Value) -> Value {
    if !matches.is_array() {
        matches = json!([matches]);
    }
    for item in matches.as_array_mut().expect("a list") {
        for (key, all) in [("events", json!(["*"])), ("channels", json!(["*"]))] {
            if item.get(key).is_none() {
                item[key] = all;
            }
        }
    }
    json!({ "match": matches })
}

pub(crate) async fn put_spec(
    client: &Client,
    id: i64,
    kind: &str,
    document: &Value,
) -> Result<Value, Refused> {
    client
        .query_one("SELECT integratedb.put_spec($1, $2, $3)", &[&id, &kind, &document.to_string()])
        .await
        .map(|row| row.get(0))
        .map_err(|error| Refused::new(&error))
}

pub(crate) async fn stakeholder(client: &Client, name: &str) -> Result<i64> {
    let row = client
        .query_one("SELECT integratedb.create_stakeholder($1, $2)", &[&name, &VERIFIER])
        .await?;
    Ok(row.get(0))
}
