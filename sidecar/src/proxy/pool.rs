//! Connections to an origin that clients of one user, database and set of startup options share.
//!
//! A permit is the right to use a connection, and there are `pool_size` of them; waiting clients queue for one
//! in their order. A new connection is opened only by who holds a permit and finds none idle, so there are never
//! more than `pool_size`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::backend::{Backend, Login, OpenError};
use super::cache::{Cache, Slot};
use super::params::Params;
use super::report::{self, Report};
use super::scram::Keys;
use super::settings::limit;

/// What tells pools of a cache apart.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) user: Vec<u8>,
    pub(crate) database: Vec<u8>,
    /// Startup options in the order of their names, but for `application_name`, which is set when it differs.
    pub(crate) options: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The connections of one key.
pub(crate) struct Pool {
    key: PoolKey,
    startup: Vec<(Vec<u8>, Vec<u8>)>,
    permits: Arc<Semaphore>,
    size: usize,
    state: Mutex<State>,
    /// A connection has become idle.
    freed: Notify,
}

#[derive(Default)]
struct State {
    /// The one used last is at the end, and used first: so that those not needed get old.
    idle: Vec<Idle>,
    keys: Option<Arc<Keys>>,
    /// What a connection of this pool reports after its login.
    welcome: Option<Params>,
    /// When somebody last asked for a connection.
    used: Option<Instant>,
    waiting: usize,
}

struct Idle {
    backend: Backend,
    slot: Slot,
}

/// A connection, lent to one client.
pub(crate) struct Lease {
    pub(crate) backend: Backend,
    slot: Slot,
    permit: OwnedSemaphorePermit,
}

impl Lease {
    /// For a client with a connection of its own, which belongs to no pool.
    pub(crate) fn own(backend: Backend, slot: Slot) -> Self {
        let permits = Arc::new(Semaphore::new(1));
        let permit = permits.try_acquire_owned().expect("it has one permit");
        Self { backend, slot, permit }
    }
}

/// How many connections of a pool do what.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) idle: usize,
    pub(crate) used: usize,
    pub(crate) waiting: usize,
}

/// Counts a client as waiting as long as it does.
struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.lock().waiting += 1;
        Self(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

/// What is told to who has waited in vain; `limits`: by what that was bounded.
pub(super) fn none_free(limits: &'static str) -> Report {
    Report::fatal(report::CANNOT_CONNECT_NOW, "no connection to the origin became free in time")
        .hint(limits)
}

impl Pool {
    pub(crate) fn new(key: PoolKey, size: usize) -> Self {
        let mut startup = vec![
            (b"user".to_vec(), key.user.clone()),
            (b"database".to_vec(), key.database.clone()),
        ];
        startup.extend(key.options.iter().cloned());
        let permits = Arc::new(Semaphore::new(size));
        Self { key, startup, permits, size, state: Mutex::default(), freed: Notify::new() }
    }

    pub(crate) const fn key(&self) -> &PoolKey {
        &self.key
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keys that a client has just shown.
    pub(crate) fn learn(&self, keys: &Arc<Keys>) {
        self.lock().keys = Some(Arc::clone(keys));
    }

    /// Keys that a client has shown before; there may be newer ones.
    pub(crate) fn learn_if_none(&self, keys: &Arc<Keys>) {
        self.lock().keys.get_or_insert_with(|| Arc::clone(keys));
    }

    /// What a connection reports after its login, once there has been one.
    pub(crate) fn welcome(&self) -> Option<Params> {
        self.lock().welcome.clone()
    }

    /// A connection that is free now.
    pub(crate) fn try_acquire(&self, cache: &Cache) -> Option<Lease> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let Idle { backend, slot } = self.take_idle(cache)?;
        Some(Lease { backend, slot, permit })
    }

    /// A connection; waits for one as long as the cache's settings say. Errors with what the client is told.
    pub(crate) async fn acquire(&self, cache: &Cache) -> Result<Lease, Vec<u8>> {
        if let Some(lease) = self.try_acquire(cache) {
            return Ok(lease);
        }
        let mut last = None;
        let Some(patience) = limit(cache.settings().query_wait_secs) else {
            return self.wait(cache, &mut last).await;
        };
        let lease = tokio::time::timeout(patience, self.wait(cache, &mut last)).await;
        lease.unwrap_or_else(|_| {
            let mut bytes = Vec::new();
            let limits = "The limits are pool_size, max_origin_connections and query_wait_secs of the cache.";
            let mut report = none_free(limits);
            if let Some(error) = last {
                report = report.detail(format!("The last attempt to open one failed: {error}"));
            }
            report.write(&mut bytes);
            Err(bytes)
        })
    }

    async fn wait(&self, cache: &Cache, last: &mut Option<OpenError>) -> Result<Lease, Vec<u8>> {
        let _waiting = Waiting::new(self);
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("it is never closed");
        let mut pause = Duration::from_millis(50);
        loop {
            if let Some(Idle { backend, slot }) = self.take_idle(cache) {
                return Ok(Lease { backend, slot, permit });
            }
            // Where no more may be opened, one that another client gives back will do.
            let slot = tokio::select! {
                biased;
                slot = cache.slot(Some(self)) => slot,
                () = self.freed.notified() => continue,
            };
            match self.open(cache, slot).await {
                Ok((backend, slot)) => return Ok(Lease { backend, slot, permit }),
                Err(error) if error.may_pass() => {
                    tracing::warn!(cache = %cache.id(), %error, "no connection to the origin; trying again");
                    *last = Some(error);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) => {
                    let mut bytes = Vec::new();
                    error.write(&mut bytes);
                    return Err(bytes);
                }
            }
        }
    }

    async fn open(&self, cache: &Cache, slot: Slot) -> Result<(Backend, Slot), OpenError> {
        let keys = self.lock().keys.clone();
        let login = Login { startup: &self.startup, keys: keys.as_deref(), password: None };
        let backend = Backend::open(cache.origin(), &login).await?;
        self.lock().welcome = Some(backend.params.clone());
        Ok((backend, slot))
    }

    fn take_idle(&self, cache: &Cache) -> Option<Idle> {
        loop {
            let mut idle = {
                let mut state = self.lock();
                state.used = Some(Instant::now());
                state.idle.pop()?
            };
            let lifetime = limit(cache.settings().origin_lifetime_secs);
            let is_old = lifetime.is_some_and(|lifetime| idle.backend.born.elapsed() > lifetime);
            if !is_old && idle.backend.is_quiet() {
                return Some(idle);
            }
            idle.backend.close();
        }
    }

    /// Takes a connection back that is as good as new.
    pub(crate) fn release(&self, lease: Lease, cache: &Cache) {
        let Lease { mut backend, slot, permit } = lease;
        // Another pool may wait for the right to open one, while nobody here does.
        let is_in_the_way = cache.is_short_of_slots() && self.lock().waiting == 0;
        if cache.is_retired() || is_in_the_way {
            backend.close();
            return;
        }
        backend.idle_since = Instant::now();
        self.lock().idle.push(Idle { backend, slot });
        // Only now, so that whoever gets it finds the connection.
        drop(permit);
        self.freed.notify_one();
    }

    /// Closes what has been idle for too long, or all.
    pub(crate) fn close_idle(&self, after: Option<Duration>) {
        let closed: Vec<Idle> = {
            let mut state = self.lock();
            let is_old =
                |idle: &Idle| after.is_none_or(|after| idle.backend.idle_since.elapsed() > after);
            let (old, kept) = std::mem::take(&mut state.idle).into_iter().partition(is_old);
            state.idle = kept;
            old
        };
        closed.into_iter().for_each(|idle| idle.backend.close());
    }

    /// Closes the one that has been idle for longest, to make room for another pool's.
    pub(crate) fn give_way(&self) -> bool {
        let oldest = {
            let mut state = self.lock();
            if state.idle.is_empty() { None } else { Some(state.idle.remove(0)) }
        };
        oldest.map(|idle| idle.backend.close()).is_some()
    }

    /// Whether nobody has wanted anything of it for this long, and nothing is open.
    pub(crate) fn is_unused(&self, since: Duration) -> bool {
        let state = self.lock();
        state.idle.is_empty()
            && self.permits.available_permits() == self.size
            && state.used.is_none_or(|used| used.elapsed() > since)
    }

    pub(crate) fn figures(&self) -> Figures {
        let state = self.lock();
        // Who waits for a connection to be opened holds a permit already.
        let used = self.size - self.permits.available_permits();
        Figures { idle: state.idle.len(), used, waiting: state.waiting }
    }
}
