//! A database with tables that a stakeholder subscribes to, and a sidecar for its backfills.

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::Config;
use serde_json::{Value, json};
use support::{Cluster, Database, Sidecar, until};
use tokio_postgres::Client;

use crate::replay::{Event, read_log};

/// What the extension tells of subscriptions, from a table that tests fill.
const SUBSCRIPTIONS: &str = "
CREATE TABLE subscribed (relation oid, schema_name text, table_name text);
CREATE OR REPLACE FUNCTION integratedb.subscriptions() RETURNS jsonb LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, public AS $$
    SELECT coalesce(jsonb_agg(jsonb_build_object(
        'stakeholder_id', 1, 'stakeholder', 'reporting', 'item', 0, 'schema', schema_name, 'table', table_name,
        'relation', relation::bigint, 'columns', jsonb_build_array('a', 'b'),
        'events', jsonb_build_array('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'), 'channels', jsonb_build_array('*'))), '[]')
    FROM subscribed
$$;
";

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) database: Database,
    pub(crate) client: Client,
    /// For REST, and unless it was told not to, for the rest.
    pub(crate) sidecar: Sidecar,
}

impl World {
    /// With these tables, of which those in `subscribed` are subscribed to.
    pub(crate) async fn new(
        schema: &str,
        subscribed: &[&str],
        adjust: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let url = database.url();
        Self::on(cluster, database, &url, schema, subscribed, adjust).await
    }

    /// The same, on a database that is there, with a sidecar that logs in by this URL.
    pub(crate) async fn on(
        cluster: Cluster,
        database: Database,
        url: &str,
        schema: &str,
        subscribed: &[&str],
        adjust: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let client = database.connect().await?;
        client.batch_execute(SUBSCRIPTIONS).await?;
        client.batch_execute(schema).await?;
        for table in subscribed {
            subscribe(&client, table).await?;
        }
        let sidecar = Sidecar::start_as_root_with(url, adjust).await?;
        let body = json!({"stakeholder": {"name": "reporting"}});
        let made = sidecar.post("/api/v1/stakeholders", body).await?;
        ensure!(made.body["data"]["id"] == 1, "{}", made.text);
        Ok(Self { cluster, database, client, sidecar })
    }

    /// Waits until somebody follows the slot.
    pub(crate) async fn followed(&self) -> Result<()> {
        let sql = "SELECT count(*) FROM pg_replication_slots
                   WHERE active AND slot_name LIKE 'integratedb_notify%'";
        until("the slot is followed", async || {
            Ok(self.client.query_one(sql, &[]).await?.get::<_, i64>(0) == 1)
        })
        .await
    }

    /// Asks for a backfill; gives its id.
    pub(crate) async fn backfill(&self, table: &str, rows: u32) -> Result<i64> {
        let body = json!({"backfill": {"table": table, "chunk_rows": rows}});
        let made = self.sidecar.post("/api/v1/stakeholders/1/backfills", body).await?;
        ensure!(made.status == 201, "{}", made.text);
        made.body["data"]["id"].as_i64().context("no id")
    }

    /// How a backfill is.
    pub(crate) async fn show(&self, id: i64) -> Result<Value> {
        let mut shown = self.sidecar.get(&format!("/api/v1/stakeholders/1/backfills/{id}")).await?;
        ensure!(shown.status == 200, "{}", shown.text);
        Ok(shown.body["data"].take())
    }

    /// Waits until it is in this state.
    pub(crate) async fn is(&self, id: i64, state: &str) -> Result<Value> {
        let mut last = Value::Null;
        let waited = until(&format!("backfill {id} is {state}"), async || {
            Ok(self.show(id).await?["state"] == state)
        })
        .await;
        if let Ok(shown) = self.show(id).await {
            last = shown;
        }
        waited.with_context(|| last.to_string())?;
        Ok(last)
    }

    /// Asks something of it; gives the status.
    pub(crate) async fn ask(&self, id: i64, what: &str) -> Result<u16> {
        let path = format!("/api/v1/stakeholders/1/backfills/{id}/{what}");
        Ok(self.sidecar.post(&path, json!({})).await?.status.as_u16())
    }

    /// The whole log, once all that was committed so far is in it.
    pub(crate) async fn log(&self) -> Result<Vec<Event>> {
        let row = self.client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
        let target: String = row.get(0);
        let sql = "SELECT coalesce(bool_or(confirmed_flush_lsn >= $1::text::pg_lsn), false) FROM pg_replication_slots
                   WHERE slot_name LIKE 'integratedb_notify%'";
        until("the log has all", async || {
            self.client.batch_execute("SELECT pg_logical_emit_message(true, 'a test', '')").await?;
            Ok(self.client.query_one(sql, &[&target]).await?.get(0))
        })
        .await?;
        read_log(&self.client).await
    }
}

/// Has a table, by its parts if it has some, published and subscribed to under its own name.
pub(crate) async fn subscribe(client: &Client, table: &str) -> Result<()> {
    let sql = "INSERT INTO subscribed
        SELECT p.relid, n.nspname, c.relname
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
             LATERAL (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf
                      UNION SELECT c.oid WHERE c.relkind = 'r') p
        WHERE c.oid = $1::text::regclass";
    client.execute(sql, &[&table]).await?;
    let sql = "SELECT integratedb.publish(ARRAY[$1::text::regclass::oid])";
    client.execute(sql, &[&table]).await?;
    Ok(())
}
