//! Zync's design, as its public description and source have it: a job for each step, taken one at a time by a worker with a
//! connection of its own, which holds an advisory lock on the job meanwhile.
//!
//! 1. A notification enqueues an update, and removes those that are enqueued for the same model.
//! 2. An update locks the model's state, fetches the model and stores the entry in one transaction; while another has the
//!    lock, it is tried again later. After the commit it enqueues the entry's processing.
//! 3. That enqueues a job for each integration.
//! 4. Which locks the model's state at the integration, and pushes the latest entry in one transaction.
//!
//! It has none of Rails' cost, and no cost of a discovery, which Zync makes before each push.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, Statement};

const TABLES: &str = include_str!("zync.sql");

/// Between looks of a worker that has found nothing. What is enqueued in Zync wakes one instead.
const IDLE: Duration = Duration::from_millis(5);

/// The first job in turn that nobody else has. An advisory lock has to be tried for one row after another: in a plain
/// query the server may try it for rows that are not asked for.
const TAKE: &str = "
    WITH RECURSIVE look AS (
        SELECT job.*, pg_try_advisory_lock(job.id) AS is_mine
        FROM (SELECT * FROM zync.job WHERE run_at <= now() ORDER BY run_at, id LIMIT 1) AS job
        UNION ALL
        SELECT job.*, pg_try_advisory_lock(job.id)
        FROM look, LATERAL (
            SELECT * FROM zync.job
            WHERE run_at <= now() AND (run_at, id) > (look.run_at, look.id)
            ORDER BY run_at, id LIMIT 1
        ) AS job
        WHERE NOT look.is_mine
    )
    SELECT id, class, model_id, entry_id, integration_id FROM look WHERE is_mine";

/// Somebody may have done it between the look and the lock.
const STILL_THERE: &str = "SELECT FROM zync.job WHERE id = $1";

const LATER: &str = "UPDATE zync.job SET run_at = now() + interval '3 seconds', failures = failures + 1 WHERE id = $1";

const NOTIFY: &str = "
    WITH made AS (
        INSERT INTO zync.model (key) VALUES ($1) ON CONFLICT DO NOTHING RETURNING id
    ), model AS (
        SELECT id FROM made UNION ALL SELECT id FROM zync.model WHERE key = $1
    ), state AS (
        INSERT INTO zync.update_state (model_id) SELECT id FROM model ON CONFLICT DO NOTHING
    ), notification AS (
        INSERT INTO zync.notification (model_id) SELECT id FROM model
    ), duplicates AS (
        DELETE FROM zync.job USING model WHERE class = 'Update' AND model_id = model.id
    )
    INSERT INTO zync.job (class, model_id) SELECT 'Update', id FROM model";

async fn connect(database: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(database, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Tells of each model so often, before it goes on to the next one; reports the microseconds that it took.
pub(crate) async fn notify(database: &str, models: u64, times: u64) -> Result<String> {
    let client = connect(database).await?;
    client.batch_execute(TABLES).await?;
    let statement = client.prepare(NOTIFY).await?;
    let began = Instant::now();
    for sent in 0..models * times {
        let model = format!("c{}", sent / times + 1);
        // A worker that ends the job which is deleted here may lock in another order. Who notifies would try again.
        while let Err(error) = client.execute(&statement, &[&model]).await {
            if !is_deadlock(&error) {
                return Err(error.into());
            }
        }
    }
    Ok(json!({"notified": models * times, "took_us": began.elapsed().as_micros()}).to_string())
}

/// Works with so many workers until it is told to end.
pub(crate) async fn work(database: &str, source: &str, target: &str, workers: usize) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(workers).build()?;
    let mut all = JoinSet::new();
    for _ in 0..workers {
        let worker = Worker {
            client: connect(database).await?,
            http: http.clone(),
            source: format!("http://{source}"),
            target: format!("http://{target}"),
        };
        all.spawn(worker.run());
    }
    let mut told = signal(SignalKind::terminate())?;
    tokio::select! {
        Some(ended) = all.join_next() => ended?,
        _ = told.recv() => Ok(()),
    }
}

fn is_deadlock(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED)
}

struct Worker {
    client: Client,
    http: reqwest::Client,
    source: String,
    target: String,
}

struct Job {
    id: i64,
    class: String,
    model: Option<i64>,
    entry: Option<i64>,
    integration: Option<i64>,
}

/// Whether a job was done, or has to wait for who has the lock.
enum Done {
    Yes,
    Locked,
}

impl Worker {
    async fn run(mut self) -> Result<()> {
        let take = self.client.prepare(TAKE).await?;
        let still_there = self.client.prepare(STILL_THERE).await?;
        let delete = self.client.prepare("DELETE FROM zync.job WHERE id = $1").await?;
        let later = self.client.prepare(LATER).await?;
        let unlock = self.client.prepare("SELECT pg_advisory_unlock($1)").await?;
        let steps = Steps::prepare(&self.client).await?;
        loop {
            let Some(row) = self.client.query_opt(&take, &[]).await? else {
                tokio::time::sleep(IDLE).await;
                continue;
            };
            let job = Job {
                id: row.get(0),
                class: row.get(1),
                model: row.get(2),
                entry: row.get(3),
                integration: row.get(4),
            };
            if self.client.query_opt(&still_there, &[&job.id]).await?.is_some() {
                let end = match self.perform(&steps, &job).await {
                    Ok(Done::Yes) => &delete,
                    Ok(Done::Locked) => &later,
                    Err(error) if error.downcast_ref().is_some_and(is_deadlock) => &later,
                    Err(error) => return Err(error),
                };
                // What is still there then is done again.
                if let Err(error) = self.client.execute(end, &[&job.id]).await
                    && !is_deadlock(&error)
                {
                    return Err(error.into());
                }
            }
            self.client.query_one(&unlock, &[&job.id]).await?;
        }
    }

    async fn perform(&mut self, steps: &Steps, job: &Job) -> Result<Done> {
        match job.class.as_str() {
            "Update" => self.update(steps, job.model.context("no model")?).await,
            "ProcessEntry" => self.process_entry(steps, job.entry.context("no entry")?).await,
            _ => {
                let integration = job.integration.context("no integration")?;
                self.push(steps, integration, job.model.context("no model")?).await
            }
        }
    }

    async fn update(&mut self, steps: &Steps, model: i64) -> Result<Done> {
        let tx = self.client.transaction().await?;
        let key: String = match tx.query_one(&steps.lock_update, &[&model]).await {
            Ok(row) => row.get(0),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                tx.rollback().await?;
                return Ok(Done::Locked);
            }
            Err(error) => return Err(error.into()),
        };
        tx.execute(&steps.start_update, &[&model]).await?;
        let url =
            format!("{}/admin/api/applications/find.json?app_id={key}&service_id=1", self.source);
        let answer = self.http.get(url).send().await?.error_for_status()?;
        let data: Value = answer.json().await?;
        let entry: i64 =
            tx.query_one(&steps.insert_entry, &[&model, &data["application"]]).await?.get(0);
        tx.execute(&steps.finish_update, &[&model]).await?;
        tx.commit().await?;
        self.client.execute(&steps.enqueue_entry, &[&entry]).await?;
        Ok(Done::Yes)
    }

    async fn process_entry(&self, steps: &Steps, entry: i64) -> Result<Done> {
        let model: i64 = self.client.query_one(&steps.model_of, &[&entry]).await?.get(0);
        for integration in self.client.query(&steps.integrations, &[]).await? {
            let integration: i64 = integration.get(0);
            self.client.execute(&steps.enqueue_push, &[&integration, &model]).await?;
        }
        Ok(Done::Yes)
    }

    async fn push(&mut self, steps: &Steps, integration: i64, model: i64) -> Result<Done> {
        self.client.execute(&steps.make_state, &[&integration, &model]).await?;
        let tx = self.client.transaction().await?;
        if let Err(error) = tx.query_one(&steps.lock_state, &[&integration, &model]).await {
            ensure!(error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE), "{error}");
            tx.rollback().await?;
            return Ok(Done::Locked);
        }
        let latest = tx.query_one(&steps.latest_entry, &[&model]).await?;
        let (entry, data): (i64, Value) = (latest.get(0), latest.get(1));
        tx.execute(&steps.start_push, &[&integration, &model, &entry]).await?;
        let id = data["client_id"].as_str().context("no client")?;
        let body = json!({
            "client_id": id, "client_secret": data["client_secret"], "client_name": data["name"],
            "redirect_uris": [data["redirect_url"]], "grant_types": ["authorization_code"],
        });
        let request = self.http.put(format!("{}/clients/{id}", self.target)).json(&body);
        request.send().await?.error_for_status()?.bytes().await?;
        tx.execute(&steps.finish_push, &[&integration, &model]).await?;
        tx.commit().await?;
        Ok(Done::Yes)
    }
}

/// What jobs ask, prepared.
struct Steps {
    lock_update: Statement,
    start_update: Statement,
    insert_entry: Statement,
    finish_update: Statement,
    enqueue_entry: Statement,
    model_of: Statement,
    integrations: Statement,
    enqueue_push: Statement,
    make_state: Statement,
    lock_state: Statement,
    latest_entry: Statement,
    start_push: Statement,
    finish_push: Statement,
}

impl Steps {
    async fn prepare(client: &Client) -> Result<Self> {
        let of_state = "WHERE integration_id = $1 AND model_id = $2";
        let prepare = async |sql: &str| client.prepare(sql).await;
        Ok(Self {
            lock_update: prepare(
                "SELECT key FROM zync.update_state JOIN zync.model ON id = model_id WHERE model_id = $1
                 FOR UPDATE OF update_state NOWAIT",
            )
            .await?,
            start_update: prepare("UPDATE zync.update_state SET started_at = now() WHERE model_id = $1")
                .await?,
            insert_entry: prepare(
                "INSERT INTO zync.entry (model_id, data) VALUES ($1, $2) RETURNING id",
            )
            .await?,
            finish_update: prepare(
                "UPDATE zync.update_state SET success = true, finished_at = clock_timestamp() WHERE model_id = $1",
            )
            .await?,
            enqueue_entry: prepare("INSERT INTO zync.job (class, entry_id) VALUES ('ProcessEntry', $1)")
                .await?,
            model_of: prepare("SELECT model_id FROM zync.entry WHERE id = $1").await?,
            integrations: prepare("SELECT id FROM zync.integration").await?,
            enqueue_push: prepare(
                "INSERT INTO zync.job (class, integration_id, model_id) VALUES ('ProcessIntegrationEntry', $1, $2)",
            )
            .await?,
            make_state: prepare(
                "INSERT INTO zync.integration_state (integration_id, model_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            )
            .await?,
            lock_state: prepare(&format!(
                "SELECT entry_id FROM zync.integration_state {of_state} FOR UPDATE NOWAIT"
            ))
            .await?,
            latest_entry: prepare(
                "SELECT id, data FROM zync.entry WHERE model_id = $1 ORDER BY id DESC LIMIT 1",
            )
            .await?,
            start_push: prepare(&format!(
                "UPDATE zync.integration_state SET started_at = now(), entry_id = $3 {of_state}"
            ))
            .await?,
            finish_push: prepare(&format!(
                "UPDATE zync.integration_state SET success = true, finished_at = clock_timestamp() {of_state}"
            ))
            .await?,
        })
    }
}
