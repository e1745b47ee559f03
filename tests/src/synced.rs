//! Rows of sync, as the engine leaves them, without an engine.

use anyhow::Result;
use integratedb_sidecar::db::{self, Pool};
use integratedb_sidecar::secret::Secret;
use integratedb_sidecar::{Config, sync};
use tokio_postgres::Client;

use crate::cluster::{Cluster, Database};

/// A database of a sidecar, with one tenant.
pub struct Synced {
    _cluster: Cluster,
    /// The database.
    pub database: Database,
    /// As a sidecar has it.
    pub pool: Pool,
    /// A connection of the test's.
    pub client: Client,
}

impl Synced {
    /// The tenant: a stakeholder's, so that entries are not sealed.
    pub const TENANT: sync::TenantId = sync::TenantId(-1);

    /// Starts a Postgres and makes the tables.
    pub async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("synced").await?;
        let mut client = database.connect().await?;
        db::migrate(&mut client).await?;
        let sql = "INSERT INTO integratedb.sync_tenant (id, stakeholder_id) VALUES (-1, 1)";
        client.batch_execute(sql).await?;
        let config = Config { database_url: Secret::new(database.url()), ..Config::default() };
        Ok(Self { _cluster: cluster, pool: db::open(&config)?, database, client })
    }

    /// A model that nothing is due for, with its update; it was never fetched.
    pub async fn model(&self, class: &str, key: &str, parent: Option<i64>) -> Result<i64> {
        let sql = "
            WITH record AS (
                INSERT INTO integratedb.sync_record (tenant_id, class, key, parent_id)
                VALUES (-1, $1, $2, (SELECT record_id FROM integratedb.sync_model WHERE id = $3)) RETURNING id
            ), model AS (
                INSERT INTO integratedb.sync_model (tenant_id, record_id) SELECT -1, id FROM record RETURNING id
            )
            INSERT INTO integratedb.sync_update (model_id, tenant_id, taken, fetched) SELECT id, -1, 1, 1 FROM model
            RETURNING model_id";
        Ok(self.client.query_one(sql, &[&class, &key, &parent]).await?.get(0))
    }

    /// Appends an entry of so many seconds ago: data, or that the model is gone. No state wants it because of this.
    pub async fn entry(&self, model: i64, data: Option<&str>, age_secs: f64) -> Result<i64> {
        let sql = "
            WITH entry AS (
                INSERT INTO integratedb.sync_entry (tenant_id, model_id, is_gone, data, inserted_at)
                VALUES (-1, $1, $2::text IS NULL, $2::text::json, now() - make_interval(secs => $3)) RETURNING id, is_gone
            )
            UPDATE integratedb.sync_update u SET entry_id = entry.id, is_gone = entry.is_gone, success = true
            FROM entry WHERE u.model_id = $1 RETURNING entry_id";
        Ok(self.client.query_one(sql, &[&model, &data, &age_secs]).await?.get(0))
    }

    /// An integration for all models.
    pub async fn integration(&self, name: &str) -> Result<i64> {
        let sql = "INSERT INTO integratedb.sync_integration (tenant_id, name, kind, settings, concurrency)
                   VALUES (-1, $1, 'test', '{}', 4) RETURNING id";
        Ok(self.client.query_one(sql, &[&name]).await?.get(0))
    }

    /// How a model is at an integration: its latest entry is wanted, and was pushed if this says so. Nothing is due.
    pub async fn state(
        &self,
        integration: i64,
        model: i64,
        presence: &str,
        pushed: Option<i64>,
    ) -> Result<()> {
        let sql = "INSERT INTO integratedb.sync_state (integration_id, model_id, wanted, is_gone, presence, entry_id)
                   SELECT $1, model_id, entry_id, is_gone, $3, $4 FROM integratedb.sync_update WHERE model_id = $2";
        self.client.execute(sql, &[&integration, &model, &presence, &pushed]).await?;
        Ok(())
    }

    /// Numbers that a query gives.
    pub async fn numbers(&self, sql: &str) -> Result<Vec<i64>> {
        Ok(self.client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }
}
