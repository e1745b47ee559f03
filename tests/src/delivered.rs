//! A database whose changes are told, and what tests ask of its channels.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integratedb_events::EventId;
use integratedb_sidecar::Config;
use integratedb_sidecar::notify::NotificationSettings;
use integratedb_sidecar::notify::channels::{
    self, ChannelConfig, ChannelState, ChannelStatus, DeadLetter, Replay,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::{Cluster, Database, Process, Sidecar, subscribe_to_all, until};

const SCHEMA: &str = "
    CREATE EXTENSION IF NOT EXISTS integratedb;
    CREATE TABLE items (id int PRIMARY KEY, n int);
    CREATE TABLE other (id int PRIMARY KEY, n int)";

/// The key of tests, as a file has it.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// A database with a stakeholder, and a sidecar that follows it.
pub struct Delivered {
    /// The server.
    pub cluster: Cluster,
    /// What is followed.
    pub database: Database,
    /// The sidecar in this process, unless it is another process.
    pub sidecar: Option<Sidecar>,
    /// A connection of a superuser.
    pub client: Client,
    /// The stakeholder's id.
    pub stakeholder: i64,
    folder: TempDir,
}

impl Delivered {
    /// The sidecar leads, and webhooks may reach this machine.
    pub async fn new() -> Result<Self> {
        Self::with(|settings| settings.allow_networks = loopback()).await
    }

    /// With other settings.
    pub async fn with(adjust: impl FnOnce(&mut NotificationSettings)) -> Result<Self> {
        let mut setup = Self::without_sidecar().await?;
        setup.start(adjust).await?;
        Ok(setup)
    }

    /// Starts the sidecar in this process, and waits until it leads.
    pub async fn start(&mut self, adjust: impl FnOnce(&mut NotificationSettings)) -> Result<()> {
        let key_file = self.folder.path().join("key");
        let sidecar = Sidecar::start_with(&self.database.url(), |config: &mut Config| {
            config.notifications.key_file = Some(key_file);
            adjust(&mut config.notifications);
        })
        .await?;
        self.sidecar = Some(sidecar);
        self.is_followed().await
    }

    /// Nothing follows yet.
    pub async fn without_sidecar() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let client = database.connect().await?;
        client.batch_execute(SCHEMA).await?;
        subscribe_to_all(&client, &["public.items", "public.other"]).await?;
        let row = client.query_one("SELECT id FROM integratedb.stakeholder", &[]).await?;
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("key"), KEY)?;
        let stakeholder = row.get(0);
        Ok(Self { cluster, database, sidecar: None, client, stakeholder, folder })
    }

    /// Starts the sidecar as a process, which can be killed.
    pub async fn process(&self) -> Result<Process> {
        let file = self.folder.path().join("integratedb.toml");
        let key = self.folder.path().join("key");
        let text = format!(
            "[notifications]\nkey_file = '{}'\nallow_networks = ['127.0.0.0/8']\n",
            key.display()
        );
        std::fs::write(&file, text)?;
        Process::start(Path::new(&file), &self.database.url(), None).await
    }

    /// Waits until the slot is read.
    pub async fn is_followed(&self) -> Result<()> {
        until("the slot is followed", async || {
            let sql = "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name LIKE 'integratedb_notify%'";
            Ok(self.client.query_one(sql, &[]).await?.get::<_, i64>(0) == 1)
        })
        .await
    }

    /// What secrets are sealed with.
    fn settings(&self) -> NotificationSettings {
        let key_file = Some(self.folder.path().join("key"));
        NotificationSettings { key_file, ..NotificationSettings::default() }
    }

    /// Sets the stakeholder's channels; gives the secrets of new ones, by their names. They begin with the log.
    pub async fn channels(&self, channels: Value) -> Result<Vec<(String, String)>> {
        let channels = ChannelConfig::read_list(&channels)
            .map_err(|mistakes| anyhow::anyhow!("{mistakes:?}"))?;
        let sealer = self.settings().sealer().map_err(anyhow::Error::msg)?;
        let mut client = self.database.connect().await?;
        let tx = client.transaction().await?;
        let head = EventId::default();
        let made = channels::replace(&tx, &sealer, self.stakeholder, &channels, head).await?;
        tx.commit().await?;
        Ok(made.into_iter().map(|new| (new.channel, new.secret)).collect())
    }

    /// Sets one channel, a WEBHOOK; gives its secret.
    pub async fn webhook(&self, url: &str, settings: Value) -> Result<String> {
        let mut channel = settings;
        channel["type"] = "WEBHOOK".into();
        channel["url"] = url.into();
        let made = self.channels(Value::Array(vec![channel])).await?;
        Ok(made.into_iter().next().context("no secret")?.1)
    }

    /// How a channel is.
    pub async fn status(&self, name: &str) -> Result<ChannelStatus> {
        let all = channels::list(&self.client, self.stakeholder).await?;
        all.into_iter().find(|status| status.name == name).context("no such channel")
    }

    /// Waits until a channel is in a state.
    pub async fn is(&self, name: &str, state: ChannelState) -> Result<ChannelStatus> {
        let found = std::cell::RefCell::new(None);
        until(&format!("{name} is {state:?}"), async || {
            let status = self.status(name).await?;
            let is_so = status.state == state;
            *found.borrow_mut() = Some(status);
            Ok(is_so)
        })
        .await?;
        found.into_inner().context("no status")
    }

    /// The dead letters of a channel.
    pub async fn dead(&self, name: &str) -> Result<Vec<DeadLetter>> {
        Ok(channels::dead_letters(&self.client, self.stakeholder, name, 0, 1000).await?)
    }

    /// Sends dead letters again.
    pub async fn replay(&self, name: &str, which: &Replay) -> Result<u64> {
        Ok(channels::replay(&self.client, self.stakeholder, name, which).await?)
    }

    /// Pauses a channel, or has it go on.
    pub async fn set_enabled(&self, name: &str, is_enabled: bool) -> Result<()> {
        Ok(channels::set_enabled(&self.client, self.stakeholder, name, is_enabled).await?)
    }

    /// Makes a new secret; the old one counts for this long.
    pub async fn rotate(&self, name: &str, overlap: Duration) -> Result<String> {
        let sealer = self.settings().sealer().map_err(anyhow::Error::msg)?;
        let stakeholder = self.stakeholder;
        Ok(channels::rotate_secret(&self.client, &sealer, stakeholder, name, overlap).await?)
    }

    /// Runs SQL.
    pub async fn run(&self, sql: &str) -> Result<()> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Waits until a channel's cursor is at the end of the log, and nothing waits.
    pub async fn is_through(&self, name: &str) -> Result<()> {
        until("all is delivered", async || {
            let status = self.status(name).await?;
            Ok(status.lag_events == 0 && status.waiting == 0)
        })
        .await
        .with_context(|| format!("{name} is not through"))?;
        ensure!(self.status(name).await?.dead_letters == 0, "something was given up");
        Ok(())
    }
}

/// This machine.
pub fn loopback() -> Vec<ipnet::IpNet> {
    vec!["127.0.0.0/8".parse().expect("it is a network")]
}
