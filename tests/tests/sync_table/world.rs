//! A stakeholder's tables, a follower of their own, and something that fetches what is due.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use integratedb_sidecar::Config;
use integratedb_sidecar::db::{self, Pool};
use integratedb_sidecar::notify::{NotificationSettings, Notifications};
use integratedb_sidecar::secret::Secret;
use integratedb_sidecar::sync::follow::Follower;
use integratedb_sidecar::sync::source::table::{
    ClassView, DeclareError, TableSource, begin, declare, load, withdraw,
};
use integratedb_sidecar::sync::source::{FetchError, Fetched, Source};
use integratedb_sidecar::sync::{Fetch, ModelId, Named, TenantId};
use serde_json::{Map, Value, json};
use support::{Cluster, Database, Sidecar, until};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// A database with a stakeholder `shop` that claims tables and is told of them.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) database: Database,
    pub(crate) client: Client,
    pub(crate) sidecar: Sidecar,
    pub(crate) stakeholder: i64,
    pub(crate) pool: Pool,
}

impl World {
    /// With these tables, of which the stakeholder claims all columns. The sidecar does only REST.
    pub(crate) async fn new(schema: &str, tables: &[&str]) -> Result<Self> {
        Self::with(schema, tables, |config| {
            config.notifications.enabled = false;
            config.sync.enabled = false;
        })
        .await
    }

    /// The same with a sidecar that does what it is set to.
    pub(crate) async fn with(
        schema: &str,
        tables: &[&str],
        adjust: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("store").await?;
        let client = database.connect().await?;
        client.batch_execute(schema).await?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), adjust).await?;
        let made =
            sidecar.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "shop"}})).await?;
        let stakeholder = made.body["data"]["id"].as_i64().with_context(|| made.text.clone())?;
        let pool = pool(&database.url())?;
        let world = Self { cluster, database, client, sidecar, stakeholder, pool };
        let all: Vec<(&str, &[&str])> = tables.iter().map(|table| (*table, &["*"][..])).collect();
        world.claim(&all).await?;
        world.subscribe(&all).await?;
        Ok(world)
    }

    /// What it claims, in place of what it claimed.
    pub(crate) async fn claim(&self, tables: &[(&str, &[&str])]) -> Result<()> {
        let item = |(table, columns): &(&str, &[&str])| json!({"path": table, "fields": columns});
        let items: Vec<Value> = tables.iter().map(item).collect();
        let path = format!("/api/v1/stakeholders/{}/claims", self.stakeholder);
        let put = self.sidecar.put(&path, json!({"data": {"match": items}})).await?;
        ensure!(put.status == 200, "{}", put.text);
        Ok(())
    }

    /// What it is told of, in place of what it was told.
    pub(crate) async fn subscribe(&self, tables: &[(&str, &[&str])]) -> Result<()> {
        let item = |(table, columns): &(&str, &[&str])| json!({"path": table, "fields": columns, "events": ["*"], "channels": ["*"]});
        let items: Vec<Value> = tables.iter().map(item).collect();
        // Not over REST, which waits until somebody follows it.
        let document = json!({ "match": items }).to_string();
        let sql = "SELECT integratedb.put_spec($1, 'NOTIFICATIONS', $2)";
        self.client.query_one(sql, &[&self.stakeholder, &document]).await?;
        Ok(())
    }

    /// Declares a class; the error is what is wrong and where.
    pub(crate) async fn try_declare(
        &self,
        name: &str,
        definition: Value,
    ) -> Result<Result<ClassView, Vec<(String, String)>>> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        begin(&transaction, self.stakeholder, name).await?;
        match declare(&transaction, self.stakeholder, name, &definition).await {
            Ok(view) => {
                transaction.commit().await?;
                Ok(Ok(view))
            }
            Err(DeclareError::Invalid(wrong)) => Ok(Err(wrong)),
            Err(error) => Err(error.into()),
        }
    }

    /// Withdraws a class; false if there was none.
    pub(crate) async fn withdraw(&self, name: &str) -> Result<bool> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        begin(&transaction, self.stakeholder, name).await?;
        let is_withdrawn = withdraw(&transaction, self.stakeholder, name).await?;
        transaction.commit().await?;
        Ok(is_withdrawn)
    }

    pub(crate) async fn declare(&self, name: &str, definition: Value) -> Result<ClassView> {
        self.try_declare(name, definition).await?.map_err(|wrong| anyhow!("{wrong:?}"))
    }

    pub(crate) async fn tenant(&self) -> Result<TenantId> {
        let sql = "SELECT id FROM integratedb.sync_tenant WHERE stakeholder_id = $1";
        Ok(TenantId(self.client.query_one(sql, &[&self.stakeholder]).await?.get(0)))
    }

    /// The source of a class.
    pub(crate) async fn source(&self, class: &str) -> Result<TableSource> {
        let loaded = load(&self.client, self.tenant().await?, class).await?;
        let (class, stakeholder, _) = loaded.context("no such class")?;
        Ok(TableSource::new(class, stakeholder, self.pool.clone()))
    }

    /// Fetches a model by its key.
    pub(crate) async fn fetch(
        &self,
        class: &str,
        key: &str,
    ) -> Result<Result<Fetched, FetchError>> {
        let source = self.source(class).await?;
        Ok(source.fetch(&fetch(self.tenant().await?, class, key)).await)
    }

    /// The data of a model; null if it is gone.
    pub(crate) async fn data(&self, class: &str, key: &str) -> Result<Value> {
        json_of(&self.fetch(class, key).await??)
    }

    /// The one class, as it is kept: `scan`, `scanned`, `error`.
    pub(crate) async fn class(&self, name: &str) -> Result<(Option<Value>, i64, Option<String>)> {
        let sql = "SELECT scan, scanned, error FROM integratedb.sync_class WHERE name = $1";
        let row = self.client.query_one(sql, &[&name]).await?;
        Ok((row.get(0), row.get(1), row.get(2)))
    }

    /// Waits until a class was gone through.
    pub(crate) async fn scanned(&self, name: &str) -> Result<i64> {
        let waited =
            until("all is gone through", async || Ok(self.class(name).await?.0.is_none())).await;
        let class = self.class(name).await?;
        waited.with_context(|| format!("{class:?}"))?;
        Ok(class.1)
    }
}

/// What asks for a model.
pub(crate) fn fetch(tenant: TenantId, class: &str, key: &str) -> Fetch {
    let model = Named { class: class.to_owned(), key: key.to_owned() };
    let data = Map::new();
    Fetch { id: ModelId(1), tenant, model, parent: None, data, last_data: None, attempts: 1 }
}

pub(crate) fn json_of(fetched: &Fetched) -> Result<Value> {
    Ok(fetched.data.as_ref().map_or(Ok(Value::Null), |data| serde_json::from_str(data.get()))?)
}

pub(crate) fn pool(url: &str) -> Result<Pool> {
    let config = Config { database_url: Secret::new(url.to_owned()), ..Config::default() };
    Ok(db::open(&config)?)
}

/// A follower that leads. It ends when this is gone.
pub(crate) struct Following {
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Following {
    pub(crate) async fn start(world: &World) -> Result<Self> {
        let url = Secret::new(world.database.url());
        let settings = NotificationSettings::default();
        let notifications = Notifications::new(settings, url, pool(&world.database.url())?);
        let cancel = CancellationToken::new();
        let follower =
            Follower::run(Arc::clone(&notifications), Arc::new(Notify::new()), cancel.clone());
        let tasks = vec![
            tokio::spawn({
                let cancel = cancel.clone();
                async move { notifications.run(cancel).await }
            }),
            tokio::spawn(follower),
        ];
        let following = Self { cancel, tasks };
        let sql = "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name LIKE 'integratedb_notify%'";
        until("the slot is followed", async || {
            Ok(world.client.query_one(sql, &[]).await?.get::<_, i64>(0) == 1)
        })
        .await?;
        Ok(following)
    }

    /// Ends it, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.cancel.cancel();
        for task in std::mem::take(&mut self.tasks) {
            task.await?;
        }
        Ok(())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Fetches what is due, as the engine does: each model as often as it takes until a fetch began after its last
/// notification.
pub(crate) struct Fetcher {
    source: TableSource,
    tenant: TenantId,
    class: String,
    /// What was fetched last, by key; null if it is gone.
    pub(crate) models: BTreeMap<String, Value>,
    /// How many fetches there were.
    pub(crate) count: u64,
}

const TAKE: &str = "SELECT u.model_id, r.key, u.notified FROM integratedb.sync_update u
    JOIN integratedb.sync_model m ON m.id = u.model_id JOIN integratedb.sync_record r ON r.id = m.record_id
    WHERE r.class = $1 AND u.notified > u.fetched ORDER BY u.model_id LIMIT 500";

impl Fetcher {
    pub(crate) async fn new(world: &World, class: &str) -> Result<Self> {
        let (source, tenant) = (world.source(class).await?, world.tenant().await?);
        Ok(Self { source, tenant, class: class.to_owned(), models: BTreeMap::new(), count: 0 })
    }

    /// Fetches what is due, once.
    pub(crate) async fn turn(&mut self, client: &Client) -> Result<()> {
        for row in client.query(TAKE, &[&self.class]).await? {
            let (id, key, notified): (i64, String, i64) = (row.get(0), row.get(1), row.get(2));
            let fetched = self.source.fetch(&fetch(self.tenant, &self.class, &key)).await?;
            self.models.insert(key, json_of(&fetched)?);
            self.count += 1;
            let sql =
                "UPDATE integratedb.sync_update SET fetched = $2, taken = $2 WHERE model_id = $1";
            client.execute(sql, &[&id, &notified]).await?;
        }
        Ok(())
    }

    /// Fetches until what was fetched is what the table has.
    pub(crate) async fn converge(&mut self, client: &Client, table: &str) -> Result<()> {
        let sql = format!(
            "SELECT coalesce(jsonb_object_agg(t.id::text, to_jsonb(t)), '{{}}') FROM {table} t"
        );
        let (mut has, mut wanted) = (Value::Null, Value::Null);
        for _ in 0..2000 {
            self.turn(client).await?;
            let present = self.models.iter().filter(|(_, data)| !data.is_null());
            has = present
                .map(|(key, data)| (key.clone(), data.clone()))
                .collect::<Map<_, _>>()
                .into();
            wanted = client.query_one(&sql, &[]).await?.get(0);
            if has == wanted {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let (has, wanted) = (has.to_string(), wanted.to_string());
        Err(anyhow!("it never got there:\nhas    {has:.2000}\nwanted {wanted:.2000}"))
    }
}
