//! Which sidecar reads and stores, and when.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::backfill;
use super::error::NotifyError;
use super::ingest::{Inbox, Ingest};
use super::log::{Log, State};
use super::settings::NotificationSettings;
use super::subscriptions::Subscriptions;
use super::writer::Writer;
use crate::db::{self, Pool};
use crate::replication::{Reader, ReaderSettings, Slot, Status};
use crate::secret::Secret;

/// The advisory lock of the one that leads: "idbn" as a number.
const LOCK: i64 = 0x6964_626e;

/// How often one that does not lead looks for what is new, and whether it can.
const FOLLOW: Duration = Duration::from_millis(500);

/// How often subscriptions are looked at while nothing tells of them.
const LOOK: Duration = Duration::from_secs(5);

/// How often the log is pruned, and tables are looked for that are subscribed to and not published.
const UPKEEP: Duration = Duration::from_secs(60);

/// How often the connection that holds the lock is tried, and how long an answer may take.
const HOLD: Duration = Duration::from_secs(10);

/// Has those of these tables join the publication that are no members.
const PUBLISH: &str = "
    SELECT p.oid::pg_catalog.regclass::text, p.why
    FROM integratedb.publish(ARRAY(
        SELECT r FROM unnest($1::oid[]) r
        WHERE NOT EXISTS (
            SELECT FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid
            WHERE p.pubname = 'integratedb' AND m.prrelid = r))) p";

/// The waits after an error.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What a sidecar does about notifications at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It is not known yet, or the database can't be reached.
    #[default]
    Starting,
    /// Another one leads.
    Follows,
    /// It would read, but nobody subscribes.
    Idle,
    /// It reads and stores.
    Leads,
}

/// Notifications of one sidecar.
pub struct Notifications {
    settings: NotificationSettings,
    database: Secret<String>,
    pool: Pool,
    log: Log,
    subscriptions: watch::Sender<Arc<Subscriptions>>,
    role: watch::Sender<Role>,
    reader: watch::Sender<Status>,
    look: Notify,
}

impl Notifications {
    /// Does nothing before it [runs](Notifications::run).
    pub fn new(settings: NotificationSettings, database: Secret<String>, pool: Pool) -> Arc<Self> {
        let log = Log::new(pool.clone(), settings.memory_bytes);
        Arc::new(Self {
            settings,
            database,
            pool,
            log,
            subscriptions: watch::Sender::default(),
            role: watch::Sender::default(),
            reader: watch::Sender::default(),
            look: Notify::new(),
        })
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The sidecar's database.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What was set.
    pub fn settings(&self) -> &NotificationSettings {
        &self.settings
    }

    /// The subscriptions, and each change of them.
    pub fn subscriptions(&self) -> watch::Receiver<Arc<Subscriptions>> {
        self.subscriptions.subscribe()
    }

    /// What this sidecar does.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.subscribe()
    }

    /// How the reader is, where this sidecar leads.
    pub fn reader(&self) -> watch::Receiver<Status> {
        self.reader.subscribe()
    }

    /// Subscriptions were changed by this process: they are looked at now, and not later.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Leads or follows until it is cancelled.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut wait = RETRY.0;
        loop {
            let attempt = tokio::select! {
                () = cancel.cancelled() => return,
                attempt = self.attempt(&mut wait) => attempt,
            };
            let Err(error) = attempt;
            self.role.send_replace(Role::Starting);
            tracing::warn!(%error, "notifications are not read");
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY.1),
            }
        }
    }

    async fn attempt(&self, wait: &mut Duration) -> Result<Infallible, NotifyError> {
        let client = db::connect(&self.database).await?;
        client
            .batch_execute("SET synchronous_commit = on; SET statement_timeout = '60s'; SET lock_timeout = '10s'")
            .await?;
        self.open(&client).await?;
        let mut looked = None;
        let leads = "SELECT pg_try_advisory_lock($1)";
        while !self.settings.enabled || !client.query_one(leads, &[&LOCK]).await?.get::<_, bool>(0)
        {
            self.role.send_replace(Role::Follows);
            *wait = RETRY.0;
            if looked.is_none_or(|at: Instant| at.elapsed() > LOOK) {
                self.load(&client).await?;
                looked = Some(Instant::now());
            }
            loop {
                let ahead = self.log.ahead(&client).await?;
                if ahead.is_empty() {
                    break;
                }
                // Before anybody sees them: what was subscribed to before they were made is to be told of them.
                self.load(&client).await?;
                self.log.follow(ahead);
            }
            tokio::select! {
                () = self.look.notified() => looked = None,
                () = tokio::time::sleep(FOLLOW) => {}
            }
        }
        // Another one may have stored something before it ended.
        self.open(&client).await?;
        let mut state = State::load(&client).await?;
        loop {
            self.load(&client).await?;
            if self.subscriptions.borrow().is_empty() {
                self.role.send_replace(Role::Idle);
                self.leave_slots(&client, &mut state).await?;
                *wait = RETRY.0;
                tokio::select! {
                    () = self.look.notified() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
                continue;
            }
            self.lead(&client, &mut state, wait).await?;
        }
    }

    /// Shows what is stored. Who is told of it is known before: what was subscribed to when it was stored at the least.
    async fn open(&self, client: &Client) -> Result<(), NotifyError> {
        let head = self.log.end(client).await?;
        self.load(client).await?;
        self.log.open(head);
        Ok(())
    }

    async fn load(&self, client: &Client) -> Result<(), NotifyError> {
        let all = Arc::new(Subscriptions::load(client).await?);
        Subscriptions::show(&self.subscriptions, &all);
        Ok(())
    }

    /// Reads and stores until nobody subscribes any more, or the slot is lost, which is noted.
    async fn lead(
        &self,
        client: &Client,
        state: &mut State,
        wait: &mut Duration,
    ) -> Result<(), NotifyError> {
        let slot = match &state.slot {
            Some(slot) => slot.clone(),
            None => {
                // One that was made, and whose making was not noted: what it holds is wanted all the same.
                format!("{}_{}", self.slot_base(client).await?, state.epoch)
            }
        };
        // A leader that was killed between a gap and the note of its slot leaves one that would hold WAL for ever.
        self.drop_slots(client, state, Some(&slot)).await?;
        let url = self.settings.url.clone().unwrap_or_else(|| self.database.clone());
        let mut settings = ReaderSettings::new("notifications", url, Slot::Permanent(slot.clone()));
        settings.slot_must_exist = state.slot.is_some();
        let inbox = Arc::new(Inbox::default());
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        let reader =
            Reader::start(settings, vec![Box::new(Ingest::new(Arc::clone(&inbox)))], cancel)?;
        let mut status = reader.watch();
        let backfills = backfill::load(client).await?;
        self.role.send_replace(Role::Leads);
        let writer = Writer::new(
            client,
            &self.log,
            inbox,
            &self.subscriptions,
            state,
            slot,
            Arc::clone(&backfills),
        );
        let lost = tokio::select! {
            ended = writer.run() => {
                ended?;
                None
            }
            never = self.watch(reader.watch()) => match never {},
            never = self.upkeep() => match never {},
            gone = hold(client) => return Err(gone),
            never = backfill::run(self.backfill_settings(), &self.pool, backfills) => match never {},
            lost = status.wait_for(|status| status.slot_lost.is_some()) => {
                lost.ok().and_then(|status| status.slot_lost.clone())
            }
        };
        *wait = RETRY.0;
        if let Some(why) = lost {
            self.log.store_gap(client, state, &why).await?;
            drop(guard);
            reader.stopped().await;
            self.leave_slots(client, state).await?;
        }
        Ok(())
    }

    fn backfill_settings(&self) -> backfill::Settings {
        backfill::Settings {
            database: self.database.clone(),
            rows_per_sec: self.settings.backfill_rows_per_sec,
        }
    }

    async fn watch(&self, mut status: watch::Receiver<Status>) -> Infallible {
        loop {
            self.reader.send_replace(status.borrow_and_update().clone());
            if status.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn upkeep(&self) -> Infallible {
        loop {
            if let Err(error) = self.publish().await {
                tracing::warn!(%error, "whether all tables are published is not known");
            }
            let pruned = async {
                let client = self.pool.get().await.map_err(db::DbError::from)?;
                self.log.prune(&client, &self.settings).await
            };
            match pruned.await {
                Ok(Some(last)) => tracing::info!(%last, "old changes were pruned"),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the log of changes can't be pruned"),
            }
            tokio::time::sleep(UPKEEP).await;
        }
    }

    /// A table joins the publication when it is subscribed to; unless it was locked then, or got its replica identity
    /// back without a validation.
    async fn publish(&self) -> Result<(), NotifyError> {
        let client = self.pool.get().await.map_err(db::DbError::from)?;
        let relations = self.subscriptions.borrow().all_relations();
        for row in client.query(PUBLISH, &[&relations]).await? {
            let (table, why): (String, Option<String>) = (row.get(0), row.get(1));
            match why {
                None => tracing::warn!(
                    table,
                    "a table was not published; its changes so far were not told"
                ),
                Some(why) => tracing::warn!(table, why, "changes of a table can't be told"),
            }
        }
        Ok(())
    }

    async fn slot_base(&self, client: &Client) -> Result<String, NotifyError> {
        if let Some(name) = &self.settings.slot_name {
            return Ok(name.clone());
        }
        let sql = "SELECT 'integratedb_notify_' || oid FROM pg_database WHERE datname = current_database()";
        Ok(client.query_one(sql, &[]).await?.get(0))
    }

    /// Drops our slots: nobody is to be told of what they hold.
    async fn leave_slots(&self, client: &Client, state: &mut State) -> Result<(), NotifyError> {
        self.drop_slots(client, state, None).await?;
        if state.slot.take().is_some() {
            state.save(client).await?;
        }
        Ok(())
    }

    /// Drops all slots of ours, but one that is to be followed. Only the leader may: a slot that is followed is so by a
    /// leader of before, whose end the server has not noticed yet.
    async fn drop_slots(
        &self,
        client: &Client,
        state: &State,
        but: Option<&str>,
    ) -> Result<(), NotifyError> {
        let base = self.slot_base(client).await?;
        let ours = "FROM pg_replication_slots
                    WHERE database = current_database()
                      AND (slot_name = $2 OR slot_name ~ ('^' || $1 || '_[0-9]+$'))
                      AND slot_name IS DISTINCT FROM $3";
        let end = format!("SELECT pg_terminate_backend(active_pid, 5000) {ours} AND active");
        if let Err(error) = client.execute(&end, &[&base, &state.slot, &but]).await {
            tracing::warn!(%error, "a replication slot of before is still followed");
        }
        let sql = format!("SELECT pg_drop_replication_slot(slot_name) {ours} AND NOT active");
        client.execute(&sql, &[&base, &state.slot, &but]).await?;
        Ok(())
    }
}

/// Ends when the connection that holds the lock does: then another one may lead.
async fn hold(client: &Client) -> NotifyError {
    loop {
        tokio::time::sleep(HOLD).await;
        match tokio::time::timeout(HOLD, client.simple_query("SELECT")).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => {
                return NotifyError::Unexpected(
                    "the database does not answer on the connection that holds the lock".to_owned(),
                );
            }
        }
    }
}
