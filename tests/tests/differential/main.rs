//! The same random stream of messages to a server, and through the proxy to one like it, is answered the same.
//!
//! `CASES` sets how many streams there are, `SEED` which ones. What fails is made smaller and printed.

mod compare;
mod raw;
mod steps;
mod texts;

use std::cell::Cell;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::cache::{CachingSettings, DiskSettings, SlotKind};
use integratedb_sidecar::secret::Secret;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use support::{Cluster, Database, Sidecar, add_caches, cache_id, until};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use compare::{Mode, difference};
use raw::{Heard, Login, Op, play};
use steps::{Stream, stream};

const PASSWORD: &str = "correct horse";

/// The same streams every time: what fails has to do with what was changed.
const SEED: u64 = 1;

const CASES: u32 = 100;

/// The most steps of a stream.
const STEPS: usize = 14;

/// Two servers, one of them behind the proxy.
struct Pair {
    mode: Mode,
    direct: Side,
    proxied: Side,
    sidecar: Sidecar,
    /// Another client of the same pool, so that its connections change hands.
    neighbour: Option<Client>,
    /// A stream did not end. It may hold what others wait for, so they tell nothing.
    hung: Cell<bool>,
    /// Where the disk is.
    _files: TempDir,
}

/// One server, and a superuser's connection to it.
struct Side {
    address: SocketAddr,
    admin: Client,
    database: Database,
    /// Runs as long as this is kept.
    _cluster: Cluster,
}

impl Side {
    async fn start() -> Result<Self> {
        // Statistics, and with them plans, are not to change by themselves.
        let quiet = [
            ("autovacuum", "off"),
            ("log_statement", "none"),
            ("log_min_duration_statement", "-1"),
        ];
        let cluster = Cluster::start_with(&quiet).await?;
        let database = cluster.database("shop").await?;
        let admin = database.connect().await?;
        admin.batch_execute(texts::SCHEMA).await?;
        admin.batch_execute("SET lock_timeout = '10s'").await?;
        let config: tokio_postgres::Config = database.url().parse()?;
        let port = *config.get_ports().first().context("no port")?;
        Ok(Self { address: ([127, 0, 0, 1], port).into(), admin, database, _cluster: cluster })
    }

    /// What identifies tables in answers.
    async fn oids(&self) -> Result<String> {
        let sql = "SELECT string_agg(relname || ' ' || oid, ', ' ORDER BY relname) FROM pg_class
                   WHERE relname IN ('items', 'changing')";
        Ok(self.admin.query_one(sql, &[]).await?.get(0))
    }
}

impl Pair {
    async fn start(mode: Mode) -> Result<Self> {
        let (direct, proxied) = (Side::start().await?, Side::start().await?);
        ensure!(
            direct.oids().await? == proxied.oids().await?,
            "the servers number tables differently"
        );
        let files = TempDir::new()?;
        let mut added = Ok(());
        // What the sidecar keeps for itself is not to use up numbers on one side only while streams run.
        let sidecar = Sidecar::start_as_root_with(&direct.database.url(), |config| {
            added = add_caches(config, &proxied.database.url());
            for cache in config.caches.values_mut() {
                cache.pool_size = 2;
            }
            if mode.keeps()
                && let Some(cache) = config.caches.get_mut(&cache_id(mode.cache()))
            {
                let url = Secret::new(proxied.database.url());
                let mut caching = CachingSettings { url, ..CachingSettings::default() };
                if mode.is_on_disk() {
                    let disk = DiskSettings::new(files.path().join("disk"));
                    caching.slot = SlotKind::Permanent;
                    caching.disk = Some(DiskSettings { only: true, wait_ms: 2000, ..disk });
                }
                cache.caching = Some(caching);
            }
        })
        .await?;
        added?;
        let mut pair = Self {
            mode,
            direct,
            proxied,
            sidecar,
            neighbour: None,
            hung: Cell::new(false),
            _files: files,
        };
        if mode.shares() {
            let url =
                pair.proxied.database.url_through(pair.sidecar.proxy(), "app", "correct%20horse");
            let url = format!("{url}&application_name={}", mode.cache());
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute("SET work_mem = '5MB'; SET datestyle = 'SQL, DMY'").await?;
            pair.neighbour = Some(client);
        }
        Ok(pair)
    }

    fn login(&self, address: SocketAddr) -> Login<'_> {
        Login {
            address,
            // The superuser is not asked for a password, so the whole login can be compared.
            user: if self.mode.is_own() { "postgres" } else { "app" },
            password: PASSWORD,
            database: "shop",
            application_name: self.mode.cache(),
        }
    }

    /// Errors when the answers differ.
    async fn check(&self, stream: &Stream) -> Result<()> {
        if self.hung.get() {
            return Ok(());
        }
        for side in [&self.direct, &self.proxied] {
            side.admin.batch_execute(texts::RESTORE).await.context("the rows can't be restored")?;
        }
        let ops = stream.ops();
        self.restored().await?;
        let (direct, proxied) = tokio::join!(
            play(self.login(self.direct.address), &ops, &stream.pieces, async || Ok(())),
            self.play_proxied(stream, &ops),
        );
        let direct = direct.context("directly")?;
        self.compare(stream, &direct, &proxied?).await?;
        if !self.mode.keeps() || self.hung.get() {
            return Ok(());
        }
        // What was kept of the first time answers now.
        self.proxied.admin.batch_execute(texts::RESTORE).await?;
        self.restored().await?;
        let proxied = self.play_proxied(stream, &ops).await?;
        self.compare(stream, &direct, &proxied).await.context("the second time")
    }

    async fn play_proxied(&self, stream: &Stream, ops: &[Op]) -> Result<Heard> {
        let between = async || self.neighbour_works().await;
        let login = self.login(self.sidecar.proxy());
        play(login, ops, &stream.pieces, between).await.context("by the proxy")
    }

    async fn compare(&self, stream: &Stream, direct: &Heard, proxied: &Heard) -> Result<()> {
        self.hung.set(direct.hangs || proxied.hangs);
        match difference(self.mode, stream.ending, direct, proxied) {
            Some(text) => anyhow::bail!(text),
            None => self.neighbour_works().await,
        }
    }

    /// Where answers are kept, waits until what was done around the proxy has arrived there.
    async fn restored(&self) -> Result<()> {
        if !self.mode.keeps() {
            return Ok(());
        }
        let sql = "SELECT (pg_current_wal_lsn() - '0/0')::float8";
        let end: f64 = self.proxied.admin.query_one(sql, &[]).await?.get(0);
        until("what was restored arrives", async || {
            Ok(self.metric("integratedb_replication_applied_bytes{").await? >= end)
        })
        .await?;
        if !self.mode.is_on_disk() {
            return Ok(());
        }
        until("memory has given up all answers", async || {
            let entries = self.metric("integratedb_cache_entries{").await?;
            Ok(entries == self.metric("integratedb_cache_disk_only{").await?)
        })
        .await
    }

    async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.sidecar.get("/metrics").await?.text;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.rsplit(' ').next());
        line.map_or(Ok(0.0), |value| Ok(value.parse()?))
    }

    /// The other client has what it set, and nothing of what streams do.
    async fn neighbour_works(&self) -> Result<()> {
        let Some(neighbour) = &self.neighbour else { return Ok(()) };
        let sql = "SELECT concat_ws('|', current_setting('work_mem'), current_setting('datestyle'), \
                   current_setting('search_path'), current_setting('my.tenant', true), current_user, $1::text)";
        let row = neighbour.query_one(sql, &[&"same"]).await.context("the neighbour")?;
        let seen: String = row.get(0);
        ensure!(
            seen.replace("||", "|") == "5MB|SQL, DMY|\"$user\", public|app|same",
            "the neighbour has another's settings: {seen}"
        );
        Ok(())
    }
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    }
}

fn all_are_the_same(mode: Mode) -> Result<()> {
    // Each time waits for the disk twice.
    let usual = if mode.is_on_disk() { CASES / 2 } else { CASES };
    let (cases, seed) = (number("CASES", usual)?, number("SEED", SEED)?);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let pair = runtime.block_on(Pair::start(mode))?;
    let config = Config {
        cases,
        max_shrink_time: 60_000,
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    runner
        .run(&stream(STEPS, mode), |stream| {
            let checked = runtime.block_on(pair.check(&stream));
            checked.map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .map_err(|error| anyhow::anyhow!("SEED={seed}: {error}"))?;
    if mode.keeps() {
        let hits = match mode.is_on_disk() {
            true => "integratedb_cache_disk_hits_total{",
            false => "integratedb_cache_hits_total{",
        };
        let hits = runtime.block_on(pair.metric(hits))?;
        ensure!(hits >= f64::from(cases / 4), "only {hits} answers came from what is kept");
    }
    Ok(())
}

#[test]
fn a_connection_of_its_own_answers_the_same() -> Result<()> {
    all_are_the_same(Mode::Pass)
}

#[test]
fn a_connection_for_a_session_answers_the_same() -> Result<()> {
    all_are_the_same(Mode::Session)
}

#[test]
fn a_connection_for_a_transaction_answers_the_same() -> Result<()> {
    all_are_the_same(Mode::Transaction)
}

#[test]
fn a_connection_of_its_own_answers_the_same_from_what_is_kept() -> Result<()> {
    all_are_the_same(Mode::PassCached)
}

#[test]
fn a_connection_for_a_transaction_answers_the_same_from_what_is_kept() -> Result<()> {
    all_are_the_same(Mode::TransactionCached)
}

#[test]
fn a_connection_of_its_own_answers_the_same_from_disk() -> Result<()> {
    all_are_the_same(Mode::PassOnDisk)
}

#[test]
fn a_connection_for_a_transaction_answers_the_same_from_disk() -> Result<()> {
    all_are_the_same(Mode::TransactionOnDisk)
}
