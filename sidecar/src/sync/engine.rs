//! Does what is due: as much at once as there are workers.
//!
//! One task takes work from the queue and spawns a task for each piece; two others [note](super::notes) what comes of it. A
//! piece of work that has waited too long for its turn is not begun: its lock might end before the request does.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::SyncError;
use super::handle::SyncHandle;
use super::ids::{IntegrationId, TenantId};
use super::notes::Notes;
use super::outside::{OpenError, Opened, Outside};
use super::queue::{self, Busy, Claimed, FetchDone, PATIENCE, PushDone};
use super::source::{FetchError, Fetched, Source};
use super::target::{PushError, Target};
use super::work::{Fetch, Push};
use crate::db::Pool;
use crate::seal::Sealer;

/// The waits after an error of the database.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How much may have ended without being noted, before no more is taken: the database does not keep up.
const MOST_UNNOTED: usize = 1000;

/// How much is taken ahead by few workers, to whom a look for work takes as long as the work itself.
const AHEAD: usize = 16;

/// The least time between two looks for work. Under load a look finds more; who is alone does not wait.
const PACE: Duration = Duration::from_millis(2);

/// What is noted of work that has ended in a fault of ours. The other work goes on.
const PANICKED: &str = "the sidecar has a fault, and its log says where";

/// Does the work of sync in one sidecar.
pub struct Engine {
    pool: Pool,
    sealer: Option<Arc<Sealer>>,
    outside: Arc<dyn Outside>,
    sources: Opened<(TenantId, String), Arc<dyn Source>>,
    targets: Opened<IntegrationId, Arc<dyn Target>>,
    handle: Arc<SyncHandle>,
    notes: Arc<Notes>,
}

/// What the task that takes work keeps.
struct Hands {
    workers: Arc<Semaphore>,
    tracker: TaskTracker,
    tenants: Busy<TenantId>,
    integrations: Busy<IntegrationId>,
    freed: mpsc::UnboundedReceiver<Freed>,
    free: mpsc::UnboundedSender<Freed>,
    /// Work that was taken and has not ended.
    taken: usize,
    /// How many pushes were taken the last time.
    pushed_last: usize,
    /// Whether some were put off then: behind them there may be others.
    were_put_off: bool,
    fetched: mpsc::UnboundedSender<FetchDone>,
    pushed: mpsc::UnboundedSender<PushDone>,
}

/// A piece of work has ended.
enum Freed {
    Fetch(TenantId),
    Push(IntegrationId),
}

impl Engine {
    /// Does nothing before it [runs](Engine::run). The error says what is wrong with the settings.
    pub fn new(
        pool: Pool,
        handle: Arc<SyncHandle>,
        outside: Arc<dyn Outside>,
    ) -> Result<Arc<Self>, String> {
        let sealer = handle.settings.sealer()?.map(Arc::new);
        let notes = Arc::new(Notes::new(pool.clone(), sealer.clone(), Arc::clone(&handle)));
        Ok(Arc::new(Self {
            pool,
            sealer,
            outside,
            sources: Opened::new(),
            targets: Opened::new(),
            handle,
            notes,
        }))
    }

    /// Works until it is cancelled. What is under way then is finished and noted.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let (fetched, ended_fetches) = mpsc::unbounded_channel();
        let (pushed, ended_pushes) = mpsc::unbounded_channel();
        let fetch_notes = tokio::spawn(Arc::clone(&self.notes).run(ended_fetches));
        let push_notes = tokio::spawn(Arc::clone(&self.notes).run(ended_pushes));
        let (free, freed) = mpsc::unbounded_channel();
        let hands = Hands {
            workers: Arc::new(Semaphore::new(self.workers())),
            tracker: TaskTracker::new(),
            tenants: Busy::default(),
            integrations: Busy::default(),
            freed,
            free,
            taken: 0,
            pushed_last: 0,
            were_put_off: false,
            fetched,
            pushed,
        };
        self.take(hands, cancel).await;
        for notes in [fetch_notes, push_notes] {
            if notes.await.is_err_and(|error| error.is_panic()) {
                tracing::error!("what notes the work of sync has panicked");
            }
        }
    }

    fn workers(&self) -> usize {
        self.handle.settings.workers.clamp(1, 10_000)
    }

    /// Takes work until it is cancelled, then waits for what was taken.
    async fn take(self: &Arc<Self>, mut hands: Hands, cancel: CancellationToken) {
        let poll = Duration::from_millis(self.handle.settings.poll_millis.max(10));
        let mut wait = RETRY.0;
        loop {
            // What was taken is begun, even if it is cancelled meanwhile: else it would be locked for nothing.
            let attempt = self.take_some(&mut hands, &cancel).await;
            let is_failing = attempt.is_err();
            let pause = match attempt {
                Ok(()) => {
                    wait = RETRY.0;
                    poll
                }
                Err(error) => {
                    tracing::warn!(%error, "sync can't look for work");
                    wait = (wait * 2).min(RETRY.1);
                    wait
                }
            };
            let taken_at = Instant::now();
            let asleep = tokio::time::sleep(pause);
            tokio::pin!(asleep);
            let mut is_worth_a_look = std::mem::take(&mut hands.were_put_off);
            while !is_worth_a_look {
                tokio::select! {
                    () = cancel.cancelled() => break,
                    Some(freed) = hands.freed.recv(), if !is_failing => hands.take_back(freed),
                    () = self.handle.wake.notified(), if !is_failing => {}
                    () = &mut asleep => is_worth_a_look = true,
                }
                while let Ok(freed) = hands.freed.try_recv() {
                    hands.take_back(freed);
                }
                is_worth_a_look |=
                    hands.taken < self.workers() || self.room(&hands) >= self.workers().div_ceil(2);
            }
            if cancel.is_cancelled() {
                break;
            }
            tokio::time::sleep(PACE.saturating_sub(taken_at.elapsed())).await;
        }
        hands.tracker.close();
        hands.tracker.wait().await;
    }

    /// How much may be taken. More than twice as much as there are workers for, so that none of them waits for the database.
    fn room(&self, hands: &Hands) -> usize {
        if self.notes.unnoted() > MOST_UNNOTED {
            return 0;
        }
        (self.workers() * 2 + AHEAD).saturating_sub(hands.taken)
    }

    /// Takes what is due, as far as there is room.
    async fn take_some(
        self: &Arc<Self>,
        hands: &mut Hands,
        cancel: &CancellationToken,
    ) -> Result<(), SyncError> {
        let room = self.room(hands);
        if room == 0 || cancel.is_cancelled() {
            return Ok(());
        }
        let (one, other) = tokio::try_join!(self.pool.get(), self.pool.get())?;
        let sealer = self.sealer.as_deref();
        let timeout = self.handle.settings.timeout();
        let per_tenant = self.handle.settings.workers_per_tenant.max(1);
        // At the same time. Pushes make room for what is new, so they get half of it; what they have not used of theirs
        // the last time is for fetches.
        let half = room.div_ceil(2);
        let rest = (room - hands.pushed_last.min(half)).max(1);
        let busy = (&mut hands.integrations, &mut hands.tenants);
        let (pushes, fetches) = tokio::join!(
            queue::claim_pushes(&one, sealer, half, busy.0, timeout),
            queue::claim_fetches(&other, sealer, rest, per_tenant, busy.1, timeout),
        );
        drop((one, other));
        // What either has taken is begun, however the other went.
        let (pushes, push_error) = split(pushes.map(|(pushes, were_put_off)| {
            hands.were_put_off = were_put_off;
            pushes
        }));
        let (fetches, fetch_error) = split(fetches);
        hands.pushed_last = pushes.len();
        pushes.into_iter().for_each(|claimed| self.begin_push(hands, claimed));
        fetches.into_iter().for_each(|claimed| self.begin_fetch(hands, claimed));
        push_error.or(fetch_error).map_or(Ok(()), Err)
    }

    fn begin_fetch(self: &Arc<Self>, hands: &mut Hands, claimed: Claimed<Fetch>) {
        hands.taken += 1;
        let tenant = claimed.work.tenant;
        hands.tenants.begin(tenant);
        let (engine, workers) = (Arc::clone(self), Arc::clone(&hands.workers));
        let (done, free) = (hands.fetched.clone(), hands.free.clone());
        hands.tracker.spawn(async move {
            let worker = turn(workers, claimed.asked_at).await;
            let result = if worker.is_some() {
                let fetch = AssertUnwindSafe(engine.fetch(&claimed)).catch_unwind().await;
                fetch.unwrap_or_else(|_| Some(Err(FetchError::from(PANICKED.to_owned()))))
            } else {
                None
            };
            engine.notes.add(&done, FetchDone { claimed, result });
            drop(worker);
            let _ = free.send(Freed::Fetch(tenant));
        });
    }

    fn begin_push(self: &Arc<Self>, hands: &mut Hands, claimed: Claimed<Push>) {
        hands.taken += 1;
        let integration = claimed.work.integration;
        hands.integrations.begin(integration);
        let (engine, workers) = (Arc::clone(self), Arc::clone(&hands.workers));
        let (done, free) = (hands.pushed.clone(), hands.free.clone());
        hands.tracker.spawn(async move {
            let worker = turn(workers, claimed.asked_at).await;
            let result = if worker.is_some() {
                let push = AssertUnwindSafe(engine.push(&claimed)).catch_unwind().await;
                push.unwrap_or_else(|_| Some(Err(PushError::new(PANICKED))))
            } else {
                None
            };
            engine.notes.add(&done, PushDone { claimed, result });
            drop(worker);
            let _ = free.send(Freed::Push(integration));
        });
    }

    /// Fetches; nothing comes of it if there is nobody any more to fetch for: then the lock is given back.
    async fn fetch(&self, claimed: &Claimed<Fetch>) -> Option<Result<Fetched, FetchError>> {
        let work = &claimed.work;
        let failed = |message: String| Some(Err(FetchError { message, retry_after: None }));
        if let Some(fault) = &claimed.fault {
            return failed(fault.clone());
        }
        let key = (work.tenant, work.model.class.clone());
        let limit = self.handle.settings.timeout();
        let _running = self.handle.figures.fetching();
        // What it takes to open the source is part of it: the lock does not last longer.
        let asked = tokio::time::timeout(limit, async {
            let source = match self.sources.get(&key, claimed.version) {
                Some(source) => source,
                None => {
                    let source = self.outside.source(work.tenant, &work.model.class).await?;
                    self.sources.put(key, claimed.version, Arc::clone(&source));
                    source
                }
            };
            Ok::<_, OpenError>(source.fetch(work).await)
        });
        let result = match asked.await {
            Ok(Ok(result)) => result,
            Ok(Err(OpenError::Removed)) => return None,
            Ok(Err(error)) => return failed(error.to_string()),
            Err(_) => {
                let message = format!("the source has not answered within {} s", limit.as_secs());
                Err(FetchError { message, retry_after: None })
            }
        };
        self.handle.figures.fetched(result.as_ref().map(|fetched| fetched.data.is_some()).ok());
        if let Err(error) = &result {
            tracing::debug!(tenant = work.tenant.0, model = work.id.0, %error, "a model was not fetched");
        }
        Some(result)
    }

    /// Pushes; nothing comes of it if the integration is not there any more.
    async fn push(&self, claimed: &Claimed<Push>) -> Option<Result<(), PushError>> {
        let work = &claimed.work;
        let failed = |message: String| Some(Err(PushError { message, retry_after: None }));
        if let Some(fault) = &claimed.fault {
            return failed(fault.clone());
        }
        let limit = self.handle.settings.timeout();
        let _running = self.handle.figures.pushing();
        let asked = tokio::time::timeout(limit, async {
            let target = match self.targets.get(&work.integration, claimed.version) {
                Some(target) => target,
                None => {
                    let target = self.outside.target(work.integration).await?;
                    self.targets.put(work.integration, claimed.version, Arc::clone(&target));
                    target
                }
            };
            Ok::<_, OpenError>(target.push(work).await)
        });
        let result = match asked.await {
            Ok(Ok(result)) => result,
            Ok(Err(OpenError::Removed)) => return None,
            Ok(Err(error)) => return failed(error.to_string()),
            Err(_) => {
                let message = format!("the target has not answered within {} s", limit.as_secs());
                Err(PushError { message, retry_after: None })
            }
        };
        self.handle.figures.pushed(work.data.is_some(), result.is_ok());
        if let Err(error) = &result {
            tracing::debug!(integration = work.integration.0, model = work.id.0, %error, "a model was not pushed");
        }
        Some(result)
    }
}

impl Hands {
    fn take_back(&mut self, freed: Freed) {
        self.taken = self.taken.saturating_sub(1);
        match freed {
            Freed::Fetch(tenant) => self.tenants.end(tenant),
            Freed::Push(integration) => self.integrations.end(integration),
        }
    }
}

fn split<T>(result: Result<Vec<T>, SyncError>) -> (Vec<T>, Option<SyncError>) {
    match result {
        Ok(all) => (all, None),
        Err(error) => (Vec::new(), Some(error)),
    }
}

/// A worker, unless it came too late. The answer of the database may have been as late as a worker.
async fn turn(workers: Arc<Semaphore>, asked_at: Instant) -> Option<OwnedSemaphorePermit> {
    let worker = workers.acquire_owned().await.ok()?;
    (asked_at.elapsed() < PATIENCE).then_some(worker)
}
