//! Goes through the rows of a class that are there, and then through its models.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use super::changes::ClassId;
use super::classes::{Classes, Followed};
use super::store::{self, Pending};
use crate::db::{DbError, Pool};
use crate::notify::backfill::{ReadError, RowSource};
use crate::sync::error::SyncError;
use crate::sync::source::table::{join, keys_after};
use crate::sync::work::Named;

/// Rows, or models, of a step.
const CHUNK: usize = 500;

/// How long it is until what could not be done is tried again: because of who still writes, or of an error.
const BUSY: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(2);

/// How often it is looked whether there is anything to go through.
const LOOK: Duration = Duration::from_millis(500);

/// Goes through classes, a chunk of each in turn.
pub(super) struct Scanner {
    pool: Pool,
    /// Those that are followed: no other one may be gone through.
    classes: watch::Receiver<Arc<Classes>>,
    wake: Arc<Notify>,
    /// Those of which everybody who wrote before they were followed is visible, by their version.
    settled: HashSet<(ClassId, i64)>,
    /// Until when some have to wait.
    waiting: HashMap<ClassId, Instant>,
}

impl Scanner {
    pub(super) fn new(
        pool: Pool,
        classes: watch::Receiver<Arc<Classes>>,
        wake: Arc<Notify>,
    ) -> Self {
        Self { pool, classes, wake, settled: HashSet::new(), waiting: HashMap::new() }
    }

    /// Ends only with an error.
    pub(super) async fn run(mut self) -> Result<Infallible, SyncError> {
        loop {
            let pending = store::pending(&*self.pool.get().await?).await?;
            let mut has_moved = false;
            for one in &pending {
                let classes = Arc::clone(&self.classes.borrow());
                let is_it = |class: &&Arc<Followed>| {
                    (class.tenant, &class.name, class.version) == (one.id.0, &one.id.1, one.version)
                };
                let class =
                    classes.all.iter().find(is_it).filter(|class| !class.relations.is_empty());
                let is_waiting =
                    self.waiting.get(&one.id).is_some_and(|until| *until > Instant::now());
                let Some(class) = class.filter(|_| !is_waiting) else { continue };
                self.waiting.remove(&one.id);
                match self.step(class, one).await? {
                    Step::Done => has_moved = true,
                    Step::Wait(pause) => {
                        self.waiting.insert(one.id.clone(), Instant::now() + pause);
                    }
                }
            }
            if has_moved {
                continue;
            }
            let pause = if pending.is_empty() { LOOK } else { BUSY };
            tokio::select! {
                changed = self.classes.changed() => changed.map_err(|_| {
                    SyncError::Unexpected("nobody follows changes any more".to_owned())
                })?,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn step(&mut self, class: &Followed, pending: &Pending) -> Result<Step, SyncError> {
        if let Some(after) = pending.scan.get("models") {
            return self.models(pending, after.as_i64().unwrap_or_default()).await;
        }
        let after: Option<Vec<String>> =
            pending.scan.get("after").and_then(|after| serde_json::from_value(after.clone()).ok());
        let settled = (pending.id.clone(), pending.version);
        // One that begins anew may do so because of what was not told since.
        if (after.is_none() || !self.settled.contains(&settled))
            && !self.older_are_gone(class).await?
        {
            return Ok(Step::Wait(BUSY));
        }
        self.settled.insert(settled);
        self.rows(class, pending, after).await
    }

    /// Whether whoever has written to the tables until now is visible: he holds locks on them until then.
    async fn older_are_gone(&self, class: &Followed) -> Result<bool, SyncError> {
        let client = self.pool.get().await?;
        let source = RowSource(&client);
        let unexpected = |error| match error {
            ReadError::Database(error) => SyncError::Database(error),
            ReadError::Refused(why) => SyncError::Refused(why),
            ReadError::TooSlow | ReadError::Again => SyncError::Database(DbError::Busy),
        };
        let floor = source.next_xid().await.map_err(unexpected)?;
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        for relation in &class.relations {
            while source.older_writers(*relation, floor).await.map_err(unexpected)? > 0 {
                if began.elapsed() > RETRY {
                    let why = "waits for transactions that write to the table since before it was followed";
                    store::fail(&client, &(class.tenant, class.name.clone()), why).await?;
                    return Ok(false);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BUSY);
            }
        }
        Ok(true)
    }

    async fn rows(
        &self,
        class: &Followed,
        pending: &Pending,
        after: Option<Vec<String>>,
    ) -> Result<Step, SyncError> {
        let client = self.pool.get().await?;
        let read =
            keys_after(&client, &class.class, class.stakeholder, after.as_deref(), CHUNK).await;
        let keys = match read {
            Ok(keys) => keys,
            Err(why) => {
                store::fail(&client, &pending.id, &why).await?;
                return Ok(Step::Wait(RETRY));
            }
        };
        drop(client);
        let next = match keys.last() {
            Some(last) if keys.len() >= CHUNK => json!({ "after": last }),
            _ => json!({ "models": 0 }),
        };
        self.note(pending, Some(next), keys.len(), keys.into_iter().map(join)).await
    }

    async fn models(&self, pending: &Pending, after: i64) -> Result<Step, SyncError> {
        let most = i64::try_from(CHUNK).unwrap_or(i64::MAX);
        let models = store::models(&*self.pool.get().await?, &pending.id, after, most).await?;
        let last = models.last().filter(|_| models.len() >= CHUNK);
        let next = last.map(|(last, _)| json!({ "models": last }));
        self.note(pending, next, 0, models.into_iter().map(|(_, key)| key)).await
    }

    /// Notifies models, and notes how far the class is gone through, in one transaction.
    async fn note(
        &self,
        pending: &Pending,
        scan: Option<Value>,
        met: usize,
        keys: impl Iterator<Item = String>,
    ) -> Result<Step, SyncError> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(store::RELAXED).await?;
        let (tenant, class) = &pending.id;
        store::notify(&transaction, keys.map(|key| (*tenant, Named { class: class.clone(), key })))
            .await?;
        let met = i64::try_from(met).unwrap_or(i64::MAX);
        if store::progress(&transaction, pending, scan.as_ref(), met).await? {
            transaction.commit().await?;
            self.wake.notify_one();
        }
        Ok(Step::Done)
    }
}

/// How a step has gone.
enum Step {
    /// It is done, or begins anew because somebody has changed the class.
    Done,
    /// It can't be done now.
    Wait(Duration),
}
