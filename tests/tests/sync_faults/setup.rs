//! A database, sidecars that are killed, and an account at their API.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Database, SyncPeers, until};
use tempfile::TempDir;
use tokio_postgres::Client;

use crate::killed::Killed;

/// What notifications are authorised by.
pub(crate) const TOKEN: &str = "only for this test";

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Attempts follow one another quickly, so that no model that fails often decides how long all takes.
const CONFIG: &str = "
    allow_networks = ['127.0.0.0/8']
    timeout_secs = 1
    retry_secs = 1
    max_retry_secs = 1
    poll_millis = 100";

/// What may still be due.
const DUE: &str = "
    SELECT (SELECT count(*) FROM integratedb.sync_update WHERE due_at IS NOT NULL)
         + (SELECT count(*) FROM integratedb.sync_state WHERE due_at IS NOT NULL)";

/// What a test begins with.
pub(crate) struct Setup {
    _cluster: Cluster,
    pub(crate) database: Database,
    /// A superuser's connection.
    pub(crate) client: Client,
    http: reqwest::Client,
    /// An account's token, once there is one.
    account: Option<String>,
    folder: TempDir,
}

impl Setup {
    /// With this SQL in the database.
    pub(crate) async fn new(schema: &str) -> Result<Self> {
        // What three sidecars do is much, and each statement of it would be logged.
        let quiet = [("log_statement", "none"), ("log_min_duration_statement", "-1")];
        let cluster = Cluster::start_with(&quiet).await?;
        let database = cluster.database("sync").await?;
        let client = database.connect().await?;
        client.batch_execute("CREATE EXTENSION IF NOT EXISTS integratedb").await?;
        client.batch_execute(schema).await?;
        let (http, folder) = (support::http()?, tempfile::tempdir()?);
        Ok(Self { _cluster: cluster, database, client, http, account: None, folder })
    }

    /// Starts the sidecars, and makes an account.
    pub(crate) async fn sidecars(&mut self, seed: u64) -> Result<Killed> {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        std::fs::write(path("key"), KEY)?;
        let key = path("key").display().to_string();
        let config = format!(
            "[notifications]\nkey_file = '{key}'\n[sync]\ntoken = '{TOKEN}'\nkey_file = '{key}'{CONFIG}\n"
        );
        std::fs::write(path("integratedb.toml"), config)?;
        let killed = Killed::start(&path("integratedb.toml"), &self.database, seed).await?;
        let user = json!({"user": {"username": "root", "password": "correct horse"}});
        let made = self.call(&killed, "POST", "/api/v1/users", user).await?;
        self.account = Some(made["data"]["token"].as_str().context("no token")?.to_owned());
        Ok(killed)
    }

    /// Asks one of the sidecars, which has to agree.
    pub(crate) async fn call(
        &self,
        killed: &Killed,
        method: &str,
        path: &str,
        body: Value,
    ) -> Result<Value> {
        let api = killed.one()?;
        let mut request =
            self.http.request(method.parse()?, format!("http://{api}{path}")).json(&body);
        if let Some(account) = &self.account {
            request = request.bearer_auth(account);
        }
        if path == "/tenant" {
            request = self.http.put(format!("http://{api}{path}")).json(&body);
            request = request.header("authorization", format!("Token token=\"{TOKEN}\""));
        }
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{method} {path}: {status} {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Waits until nothing is due and nothing differs; errors at once if the judge has objected.
    pub(crate) async fn converges(
        &self,
        peers: &SyncPeers,
        patience: Duration,
        mut differences: impl AsyncFnMut() -> Result<Vec<String>>,
    ) -> Result<()> {
        let began = Instant::now();
        loop {
            let due: i64 = self.client.query_one(DUE, &[]).await?.get(0);
            let differ = differences().await?;
            is_right(peers)?;
            if due == 0 && differ.is_empty() {
                eprintln!("converged {:?} after the last change", began.elapsed());
                return Ok(());
            }
            ensure!(
                began.elapsed() < patience,
                "after {patience:?} {due} are due and {} differ, such as {:?}: {:#?}; {:?}",
                differ.len(),
                &differ[..differ.len().min(5)],
                self.trouble().await?,
                peers.judge().counts()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the sidecars say of what does not go well.
    async fn trouble(&self) -> Result<Vec<String>> {
        let sql = "
            SELECT 'fetch of ' || class || ' ' || key || ': ' || coalesce(error, 'due')
            FROM integratedb.sync_update u JOIN integratedb.sync_model m ON m.id = u.model_id
            JOIN integratedb.sync_record r ON r.id = m.record_id WHERE u.due_at IS NOT NULL
            UNION ALL
            SELECT 'push of ' || class || ' ' || key || ': ' || coalesce('waits for ' || waits_for, error, 'due')
            FROM integratedb.sync_state s JOIN integratedb.sync_model m ON m.id = s.model_id
            JOIN integratedb.sync_record r ON r.id = m.record_id WHERE s.due_at IS NOT NULL
            LIMIT 10";
        Ok(self.client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Waits until somebody reads the slot.
    pub(crate) async fn is_followed(&self) -> Result<()> {
        until("the slot is followed", async || {
            let sql = "SELECT count(*) FROM pg_replication_slots WHERE active";
            Ok(self.client.query_one(sql, &[]).await?.get::<_, i64>(0) > 0)
        })
        .await
    }
}

/// Whether nothing has happened that may not.
pub(crate) fn is_right(peers: &SyncPeers) -> Result<()> {
    let judge = peers.judge();
    let wrong = judge.wrong();
    ensure!(wrong.is_empty(), "{} times: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    Ok(())
}
