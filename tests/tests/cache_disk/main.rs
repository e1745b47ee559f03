//! The cache on disk: what a restart finds again, and that none of it is older than it may be.

mod faults;
mod killed;
mod overflow;
mod restart;
mod slow;

use std::cell::Cell;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use support::{Cluster, Database, Process, until};
use tempfile::TempDir;
use tokio_postgres::{Client, SimpleQueryMessage};

const SCHEMA: &str = "
    CREATE ROLE app LOGIN PASSWORD 'secret';
    CREATE ROLE staff;
    CREATE TABLE items (id int PRIMARY KEY, name text, price int);
    INSERT INTO items SELECT n, 'item ' || n, n * 10 FROM generate_series(1, 100) n;
    CREATE TABLE counts (id int PRIMARY KEY, n int);
    INSERT INTO counts SELECT n, 0 FROM generate_series(1, 20) n;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app";

/// An origin, and a sidecar that comes and goes.
struct World {
    _cluster: Cluster,
    database: Database,
    files: TempDir,
    process: Option<Process>,
    /// Further lines of the section `[caches.pass.caching]`.
    memory: String,
    /// Further lines of the section `[caches.pass.caching.disk]`.
    further: String,
    largest: Cell<Option<u64>>,
}

impl World {
    async fn new() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        database.connect().await?.batch_execute(SCHEMA).await?;
        let files = TempDir::new()?;
        Ok(Self {
            _cluster: cluster,
            database,
            files,
            process: None,
            memory: String::new(),
            further: String::new(),
            largest: Cell::new(None),
        })
    }

    /// The same, with a sidecar that has answers to these queries on disk.
    async fn warm(queries: &[&str]) -> Result<Self> {
        let mut world = Self::new().await?;
        world.start().await?;
        world.keep(queries).await?;
        Ok(world)
    }

    fn folder(&self) -> PathBuf {
        self.files.path().join("disk")
    }

    fn file(&self) -> PathBuf {
        self.folder().join("cache.redb")
    }

    fn config(&self, name: &str, slot: &str) -> Result<PathBuf> {
        let url = self.database.url();
        let origin = integratedb_sidecar::proxy::origin_of(&url).map_err(anyhow::Error::msg)?;
        let text = format!(
            "[proxy]\ndefault_cache = 'pass'\n[caches.pass]\norigin = \"{origin}\"\n[caches.pass.caching]\n\
             url = '{url}'\nslot = 'permanent'\nslot_name = '{slot}'\nwait_ms = 5000\n{}[caches.pass.caching.disk]\npath = '{}'\n{}",
            self.memory,
            self.folder().display(),
            self.further
        );
        let file = self.files.path().join(name);
        std::fs::write(&file, text)?;
        Ok(file)
    }

    async fn start(&mut self) -> Result<()> {
        let config = self.config("config.toml", "kept")?;
        let process = Process::start(&config, &self.database.url(), self.largest.get()).await?;
        self.process = Some(process);
        Ok(())
    }

    fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("no sidecar runs")
    }

    fn stop(&mut self) -> Result<()> {
        self.process.take().context("no sidecar runs")?.stop()
    }

    async fn connect(&self) -> Result<Client> {
        let url = self.database.url_through(self.process()?.proxy(), "app", "secret");
        support::connect(&url).await
    }

    async fn metric(&self, name: &str) -> Result<f64> {
        self.process()?.metric(&format!("integratedb_cache_{name}")).await
    }

    async fn admin(&self, sql: &str) -> Result<()> {
        Ok(self.database.connect().await?.batch_execute(sql).await?)
    }

    /// Has answers to these queries kept, and waits until they are on disk.
    async fn keep(&self, queries: &[&str]) -> Result<()> {
        let client = self.connect().await?;
        for query in queries {
            until(&format!("it is kept: {query}"), async || {
                let before = self.metric("hits_total").await?;
                first(&client, query).await?;
                Ok(self.metric("hits_total").await? > before)
            })
            .await?;
        }
        until("they are on disk", async || {
            Ok(self.metric("disk_entries").await? >= queries.len() as f64)
        })
        .await
    }

    /// Waits until the cache answers.
    async fn serves(&self) -> Result<()> {
        let client = self.connect().await?;
        until("the cache serves", async || {
            let before = self.metric("hits_total").await?;
            first(&client, "SELECT 1 FROM items WHERE id = 99").await?;
            Ok(self.metric("hits_total").await? > before)
        })
        .await
    }

    /// Asks again and again while the cache comes back; each answer has to be this one.
    async fn answers(&self, query: &str, right: &str) -> Result<()> {
        let client = self.connect().await?;
        self.serves_with(&client, query, right).await
    }

    async fn serves_with(&self, client: &Client, query: &str, right: &str) -> Result<()> {
        until(&format!("a hit: {query}"), async || {
            let before = self.metric("hits_total").await?;
            let answer = first(client, query).await?;
            ensure!(answer == right, "{query}: {answer}, and not {right}");
            Ok(self.metric("hits_total").await? > before)
        })
        .await
    }
}

/// The first column of the first row.
async fn first(client: &Client, query: &str) -> Result<String> {
    let messages = client.simple_query(query).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("null").to_owned()),
        _ => None,
    });
    Ok(row.unwrap_or_else(|| "none".to_owned()))
}
