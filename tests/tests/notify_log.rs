//! Changes are stored once, in order, before the database may forget them.

use anyhow::{Context, Result, ensure};
use support::{Cluster, Database, Sidecar, until};

/// A database with a table that is subscribed to, and a sidecar that leads.
struct Setup {
    _cluster: Cluster,
    database: Database,
    _sidecar: Sidecar,
}

impl Setup {
    async fn new() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), |_| {}).await?;
        let schema = "CREATE TABLE items (id int PRIMARY KEY, name text, price int);
            SELECT integratedb.publish(ARRAY['items'::regclass::oid]);
            CREATE OR REPLACE FUNCTION integratedb.subscriptions() RETURNS jsonb LANGUAGE sql AS $$
                SELECT jsonb_build_array(jsonb_build_object('stakeholder_id', 1, 'stakeholder', 'reporting', 'item', 0,
                    'schema', 'public', 'table', 'items', 'relation', 'items'::regclass::oid::bigint, 'columns', jsonb_build_array('id', 'name'),
                    'events', jsonb_build_array('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE'), 'channels', jsonb_build_array('*'))) $$;";
        database.connect().await?.batch_execute(schema).await?;
        let setup = Self { _cluster: cluster, database, _sidecar: sidecar };
        until("the slot is followed", async || {
            let sql = "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name LIKE 'integratedb_notify%'";
            let row = setup.database.connect().await?.query_one(sql, &[]).await?;
            Ok(row.get::<_, i64>(0) == 1)
        })
        .await?;
        Ok(setup)
    }
}

#[tokio::test]
async fn what_is_committed_is_stored() -> Result<()> {
    let setup = Setup::new().await?;
    let client = setup.database.connect().await?;
    client.batch_execute("INSERT INTO items SELECT n, 'item ' || n, n FROM generate_series(1, 10000) n; UPDATE items SET price = 0 WHERE id = 7; DELETE FROM items WHERE id = 8").await?;
    until("all is stored", async || {
        let row = client.query_one("SELECT sum(changes) FROM integratedb.event_log", &[]).await?;
        Ok(row.get::<_, Option<i64>>(0) == Some(10002))
    })
    .await?;
    let row = client
        .query_one("SELECT count(*), sum(length(body)) FROM integratedb.event_log", &[])
        .await?;
    let segments: i64 = row.get(0);
    let bytes: Option<i64> = row.get(1);
    ensure!(segments >= 3, "{segments}");
    bytes.context("no bytes")?;
    eprintln!("{segments} {bytes:?}");
    Ok(())
}
