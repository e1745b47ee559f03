//! A Postgres with tables, the sidecar in front of it with caching on, and the clock and books of a run.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::cache::{CachingSettings, Consistency};
use integratedb_sidecar::proxy::PoolMode;
use integratedb_sidecar::secret::Secret;
use serde_json::Value;
use support::{Cluster, Database, Network, RawClient, Sidecar, cache, cache_id, until};

use crate::check::Promise;
use crate::client::Client;
use crate::history::{History, Read, Write};
use crate::log;

const SCHEMA: &str = include_str!("schema.sql");

/// All that a run needs.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) database: Database,
    pub(crate) admin: tokio_postgres::Client,
    /// What the cache promises.
    pub(crate) promise: Promise,
    sidecar: Sidecar,
    /// Between the reader and the origin.
    pub(crate) network: Network,
    began: Instant,
    version: AtomicI64,
    sessions: AtomicU64,
    history: Mutex<History>,
}

/// Answers that a run goes on for, on a machine however slow, up to six times its time.
const FEWEST_ANSWERS: usize = 1000;

/// How long a run goes on, on the clock of the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    least: u64,
    most: u64,
}

/// Whom a client connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Through,
    Around,
}

/// What the cache has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Of the hits, those from disk.
    pub(crate) disk_hits: u64,
}

impl World {
    /// With a cache of this kind.
    pub(crate) async fn new(
        mode: Option<PoolMode>,
        adjust: impl FnOnce(&mut CachingSettings),
    ) -> Result<Self> {
        let quiet = [
            ("log_statement", "none"),
            ("log_min_duration_statement", "-1"),
            ("autovacuum", "off"),
        ];
        let cluster = Cluster::start_with(&quiet).await?;
        let database = cluster.database("shop").await?;
        let admin = database.connect().await?;
        admin.batch_execute(SCHEMA).await?;
        log::begin(&admin).await?;
        let network = Network::to(database.address()).await?;
        let url = format!("postgres://postgres@{}/shop?sslmode=disable", network.address());
        // What is not served proves nothing.
        let mut caching =
            CachingSettings { url: Secret::new(url), eager: true, ..CachingSettings::default() };
        adjust(&mut caching);
        let promise = match caching.consistency {
            Consistency::ReadYourWrites => Promise::ReadYourWrites,
            Consistency::Bounded(ms) => Promise::Bounded(ms * 1_000_000),
            Consistency::Revalidate => Promise::Fresh,
        };
        let mut cache = cache(&database.url(), mode)?;
        cache.pool_size = 6;
        cache.caching = Some(caching);
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            config.caches.insert(cache_id("shop"), cache);
            config.proxy.default_cache = Some(cache_id("shop"));
        })
        .await?;
        let world = Self {
            cluster,
            database,
            admin,
            promise,
            sidecar,
            network,
            began: Instant::now(),
            version: AtomicI64::new(1000),
            sessions: AtomicU64::new(0),
            history: Mutex::default(),
        };
        world.is_serving().await?;
        Ok(world)
    }

    /// Waits until the cache serves.
    pub(crate) async fn is_serving(&self) -> Result<()> {
        until("the cache serves", async || Ok(self.caching().await?["serving"] == true)).await
    }

    /// What the sidecar says of the cache.
    async fn caching(&self) -> Result<Value> {
        let reply = self.sidecar.get("/api/v1/caches/shop/caching").await?;
        ensure!(reply.status == 200, "{}", reply.text);
        Ok(reply.body["data"].clone())
    }

    pub(crate) async fn figures(&self) -> Result<Figures> {
        let caching = self.caching().await?;
        let count = |name: &str| caching[name].as_u64().unwrap_or_default();
        let disk_hits = caching["disk"]["hits"].as_u64().unwrap_or_default();
        Ok(Figures { hits: count("hits"), misses: count("misses"), disk_hits })
    }

    /// Notes now and then up to where the reader has applied the log.
    pub(crate) async fn sample(&self) -> Result<()> {
        let text = self.caching().await?["reader"]["applied"].as_str().unwrap_or("0/0").to_owned();
        let at = self.now();
        let (high, low) = text.split_once('/').context("no position")?;
        let position = u64::from_str_radix(high, 16)? << 32 | u64::from_str_radix(low, 16)?;
        let mut history = self.history();
        // A new slot begins anew, but what was applied stays so.
        let most = history.applied.last().map_or(0, |(_, position)| *position);
        history.applied.push((at, position.max(most)));
        Ok(())
    }

    /// A session of a role.
    pub(crate) async fn connect(&self, path: Path, role: &str) -> Result<Client> {
        let address = match path {
            Path::Through => self.sidecar.proxy(),
            Path::Around => self.database.address(),
        };
        let raw = RawClient::login(address, role, "secret", "shop", "shop").await?;
        Ok(Client::new(raw))
    }

    /// The time on the clock of the history.
    pub(crate) fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// From now.
    pub(crate) fn span(&self, time: Duration) -> Span {
        let nanos = time.as_nanos() as u64;
        Span { least: self.now() + nanos, most: self.now() + 6 * nanos }
    }

    pub(crate) fn is_over(&self, span: Span) -> bool {
        let now = self.now();
        now >= span.most || now >= span.least && self.history().reads.len() >= FEWEST_ANSWERS
    }

    /// A version that no row has had.
    pub(crate) fn version(&self) -> i64 {
        self.version.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a session in the history.
    pub(crate) fn session(&self) -> usize {
        self.sessions.fetch_add(1, Ordering::Relaxed) as usize
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_read(&self, read: Read) {
        self.history().reads.push(read);
    }

    pub(crate) fn note_write(&self, write: Write) {
        self.history().writes.push(write);
    }

    /// Notes what Postgres would not have answered.
    pub(crate) fn note_fault(&self, fault: String) {
        self.history().faults.push(fault);
    }

    /// The history since the last call.
    pub(crate) fn take_history(&self) -> History {
        std::mem::take(&mut *self.history())
    }
}
