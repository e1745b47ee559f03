//! A database behind a proxy that keeps answers, and what tests ask of it.

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::cache::CachingSettings;
use integratedb_sidecar::proxy::PoolMode;
use integratedb_sidecar::secret::Secret;
use serde_json::{Value, json};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{Cluster, Database, Network, Sidecar, cache, cache_id, connect, until};

/// The ids of the caches: one passes clients through, the other pools transactions.
pub const CACHES: [&str; 2] = ["pass", "transaction"];

/// An origin, and a sidecar with [`CACHES`] before it.
pub struct Cached {
    /// The origin's server.
    pub cluster: Cluster,
    /// What is cached of it.
    pub database: Database,
    /// The sidecar.
    pub sidecar: Sidecar,
    /// Where the sidecar has its own state, if that is not the origin.
    _state: Option<Cluster>,
    /// Between the readers and the origin; clients do not go through it.
    pub network: Network,
}

/// Two roles, `app` and `other`, and tables of which `unkeyed` has no replica identity.
const SCHEMA: &str = "
    CREATE ROLE app LOGIN PASSWORD 'secret';
    CREATE ROLE other LOGIN PASSWORD 'secret';
    CREATE TABLE items (id int PRIMARY KEY, name text, price int);
    INSERT INTO items SELECT n, 'item ' || n, n * 10 FROM generate_series(1, 100) n;
    CREATE TABLE orders (id bigint PRIMARY KEY, item int REFERENCES items, amount int);
    INSERT INTO orders SELECT n, n % 100 + 1, n FROM generate_series(1, 1000) n;
    CREATE TABLE unkeyed (n int);
    CREATE VIEW cheap AS SELECT * FROM items WHERE price < 100;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app, other";

impl Cached {
    /// Both caches serve.
    pub async fn new() -> Result<Self> {
        Self::with(&[], |_| {}).await
    }

    /// With settings of the server and of both caches.
    pub async fn with(
        server: &[(&str, &str)],
        adjust: impl Fn(&mut CachingSettings),
    ) -> Result<Self> {
        Self::made(server, adjust, None).await
    }

    /// The same, and the sidecar works while the origin does not.
    pub async fn apart(adjust: impl Fn(&mut CachingSettings)) -> Result<Self> {
        Self::made(&[], adjust, Some(Cluster::start().await?)).await
    }

    async fn made(
        server: &[(&str, &str)],
        adjust: impl Fn(&mut CachingSettings),
        state: Option<Cluster>,
    ) -> Result<Self> {
        let cluster = Cluster::start_with(server).await?;
        let database = cluster.database("shop").await?;
        database.connect().await?.batch_execute(SCHEMA).await?;
        let network = Network::to(database.address()).await?;
        let url = database.url_through(network.address(), "postgres", "");
        let mut added = Ok(());
        let state_url = match &state {
            Some(state) => state.database("state").await?.url(),
            None => database.url(),
        };
        let sidecar = Sidecar::start_as_root_with(&state_url, |config| {
            added = (|| {
                for (name, mode) in CACHES.into_iter().zip([None, Some(PoolMode::Transaction)]) {
                    let mut cache = cache(&database.url(), mode)?;
                    let mut caching = CachingSettings {
                        url: Secret::new(url.clone()),
                        ..CachingSettings::default()
                    };
                    adjust(&mut caching);
                    cache.caching = Some(caching);
                    config.caches.insert(cache_id(name), cache);
                }
                config.proxy.default_cache = Some(cache_id("pass"));
                anyhow::Ok(())
            })();
        })
        .await?;
        added?;
        let setup = Self { cluster, database, sidecar, _state: state, network };
        setup.serves().await?;
        Ok(setup)
    }

    /// Waits until both caches serve.
    pub async fn serves(&self) -> Result<()> {
        for name in CACHES {
            until("the cache serves", async || Ok(self.caching(name).await?["serving"] == true))
                .await?;
        }
        Ok(())
    }

    /// What REST says of what a cache keeps.
    pub async fn caching(&self, cache: &str) -> Result<Value> {
        let reply = self.sidecar.get(&format!("/api/v1/caches/{cache}/caching")).await?;
        ensure!(reply.status == 200, "{}", reply.text);
        Ok(reply.body["data"].clone())
    }

    /// Runs a query until its answer comes from the cache.
    pub async fn warm(&self, cache: &str, client: &Client, query: &str) -> Result<Vec<String>> {
        let answer = std::cell::RefCell::new(Vec::new());
        until(&format!("it is kept: {query}"), async || {
            let (rows, was_hit) = self.ask(cache, client, query).await?;
            *answer.borrow_mut() = rows;
            Ok(was_hit)
        })
        .await?;
        Ok(answer.into_inner())
    }

    /// The first column of each row, and whether it came from the cache.
    pub async fn ask(
        &self,
        cache: &str,
        client: &Client,
        query: &str,
    ) -> Result<(Vec<String>, bool)> {
        let before = self.hits(cache).await?;
        let rows = client.simple_query(query).await?;
        let was_hit = self.hits(cache).await? > before;
        let rows = rows.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("null").to_owned()),
            _ => None,
        });
        Ok((rows.collect(), was_hit))
    }

    /// Answers that a cache has given so far.
    pub async fn hits(&self, cache: &str) -> Result<u64> {
        self.caching(cache).await?["hits"].as_u64().context("no hits")
    }

    /// What a cache makes of the template of this query.
    pub async fn kept(&self, cache: &str, query: &str) -> Result<Value> {
        let body = json!({ "query": query });
        let reply = self.sidecar.post(&format!("/api/v1/caches/{cache}/explain"), body).await?;
        ensure!(reply.status == 200, "{}", reply.text);
        Ok(reply.body["data"].clone())
    }

    /// Runs SQL around the proxy, as a superuser.
    pub async fn admin(&self, sql: &str) -> Result<()> {
        Ok(self.database.connect().await?.batch_execute(sql).await?)
    }

    /// A client of a cache.
    pub async fn connect(&self, cache: &str, user: &str) -> Result<Client> {
        let url = self.database.url_through(self.sidecar.proxy(), user, "secret");
        connect(&format!("{url}&application_name={cache}")).await
    }
}
