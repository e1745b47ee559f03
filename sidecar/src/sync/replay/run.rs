//! The worker: takes replays that are due and works on each until it is over, or somebody else's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::compare::{self, Comparer};
use super::lease::{Held, Step, Stop};
use super::mark;
use super::scope::Scope;
use crate::db::Pool;
use crate::seal::Sealer;
use crate::sync::handle::SyncHandle;
use crate::sync::outside::{OpenError, Outside};

/// How often replays are looked for.
const LOOK: Duration = Duration::from_millis(500);

/// How many this sidecar works on at once.
const AT_ONCE: usize = 4;

/// How often a replay is held on to while its target is asked; within this a comparison notices that it was cancelled.
const HOLD: Duration = Duration::from_secs(2);

/// How long a model that is being pushed is left alone.
const BUSY: Duration = Duration::from_millis(50);

/// How often is counted what has yet to arrive: so seldom, too, that it takes a twentieth of the time, up to a limit.
const COUNT: Duration = Duration::from_secs(1);
const COUNT_SHARE: u32 = 20;
const COUNT_MOST: Duration = Duration::from_secs(15);

/// The wait after an error.
const RETRY: Duration = Duration::from_secs(5);

/// Works on replays.
pub struct Worker {
    pool: Pool,
    sync: Arc<SyncHandle>,
    sealer: Option<Arc<Sealer>>,
    outside: Arc<dyn Outside>,
}

impl Worker {
    /// Does nothing before it [runs](Worker::run). The error says what is wrong with the settings.
    pub fn new(
        pool: Pool,
        sync: Arc<SyncHandle>,
        outside: Arc<dyn Outside>,
    ) -> Result<Self, String> {
        let sealer = sync.settings.sealer()?.map(Arc::new);
        Ok(Self { pool, sync, sealer, outside })
    }

    /// Works until it is cancelled. What is under way then is gone on with by whoever takes it next.
    pub async fn run(self, cancel: CancellationToken) {
        let worker = Arc::new(self);
        let mut tasks = JoinSet::new();
        loop {
            if tasks.len() < AT_ONCE {
                match worker.take().await {
                    Ok(Some(held)) => {
                        let worker = Arc::clone(&worker);
                        tasks.spawn(async move { worker.work(held).await });
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, "replays can't be looked for"),
                }
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a replay has panicked");
                    }
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        tasks.shutdown().await;
    }

    async fn take(&self) -> Result<Option<Held>, Stop> {
        let client = self.pool.get().await?;
        Ok(Held::take(&client).await?)
    }

    async fn work(&self, mut held: Held) {
        let Err(stop) = self.go_on(&mut held).await else { return };
        let ended = async {
            let client = self.pool.get().await?;
            match &stop {
                Stop::Lost => {}
                Stop::Failed(why) => held.finish(&client, Some(why)).await?,
                Stop::Error(error) => {
                    tracing::warn!(replay = held.id, %error, "a replay does not get on");
                    held.release(&client, RETRY, Some(&error.to_string())).await?;
                }
            }
            Ok::<_, Stop>(())
        };
        if let Err(error) = ended.await {
            // Its lease ends by itself.
            tracing::warn!(replay = held.id, %error, "a replay can't be given back");
        }
    }

    /// Goes on until it is over, or has to wait for the engine.
    async fn go_on(&self, held: &mut Held) -> Result<(), Stop> {
        let scope = {
            let client = self.pool.get().await?;
            // Its replays go with it.
            Scope::load(&client, held.integration).await?.ok_or(Stop::Lost)?
        };
        if held.step == Step::Compare {
            return self.compare(held, &scope).await;
        }
        while held.step == Step::Mark {
            let is_free = mark::mark(&mut self.pool.get().await?, &scope, held).await?;
            if !is_free {
                tokio::time::sleep(BUSY).await;
            }
        }
        while held.step == Step::Push {
            mark::make_due(&mut self.pool.get().await?, held).await?;
            self.sync.wake.notify_one();
        }
        let client = self.pool.get().await?;
        if !held.is_cancelled {
            let begun = Instant::now();
            mark::count_left(&client, held).await?;
            if held.counts.left > 0 {
                let wait = (begun.elapsed() * COUNT_SHARE).clamp(COUNT, COUNT_MOST);
                return Ok(held.release(&client, wait, None).await?);
            }
        }
        Ok(held.finish(&client, None).await?)
    }

    async fn compare(&self, held: &mut Held, scope: &Scope) -> Result<(), Stop> {
        let target = self.outside.target(held.integration).await.map_err(|error| match error {
            OpenError::Removed => Stop::Lost,
            OpenError::Unusable(why) => Stop::Failed(why),
            OpenError::Sync(error) => Stop::Error(error),
        })?;
        let timeout = self.sync.settings.timeout();
        let comparer = Comparer { target, timeout, sealer: self.sealer.clone() };
        loop {
            let page = {
                let client = self.pool.get().await?;
                scope.page(&client, held.last_model, compare::PAGE).await?
            };
            let Some(last) = page.last() else { break };
            let found = {
                let comparison = comparer.compare(&self.pool, scope, &page);
                tokio::pin!(comparison);
                loop {
                    tokio::select! {
                        found = &mut comparison => break found?,
                        () = tokio::time::sleep(HOLD) => held.save(&*self.pool.get().await?).await?,
                    }
                }
            };
            compare::store(&mut self.pool.get().await?, held, found, *last).await?;
        }
        Ok(held.finish(&*self.pool.get().await?, None).await?)
    }
}
