//! What all sessions share: the caches as they are configured now, TLS, cancel keys, and the wish to stop.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cache::Cache;
use super::cancel::Cancels;
use super::report::{self, Report};
use super::settings::{CacheId, CacheSettings, Caches, ProxySettings};
use super::tls::ClientTls;

/// What all sessions share.
pub(crate) struct Registry {
    now: RwLock<Configured>,
    changing: Mutex<()>,
    cancels: Arc<Cancels>,
    clients: AtomicUsize,
    sessions: AtomicUsize,
    is_stopping: AtomicBool,
    /// The caches that were made over REST have been told.
    knows_all: AtomicBool,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// What a reload replaces.
struct Configured {
    caches: HashMap<CacheId, Arc<Cache>>,
    /// The settings each cache was made of, to see whether a reload changes it.
    sources: HashMap<CacheId, String>,
    /// Of the caches, those that were made over REST, and those that can't be made.
    made: HashMap<CacheId, Made>,
    proxy: ProxySettings,
    tls: Option<ClientTls>,
}

/// A cache that was made over REST.
#[derive(Clone)]
struct Made {
    version: i64,
    /// What the one among the caches was made of.
    source: Option<String>,
    /// Why it could not be made in this version. If it could be in one before, that one is among the caches.
    error: Option<String>,
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// A cache with settings that are wrong or contradict each other.
    #[error("cache {0}: {1}")]
    Cache(CacheId, String),
    /// A certificate or key.
    #[error("the proxy's TLS: {0}")]
    Tls(String),
    /// A default that is no cache.
    #[error("the default cache {0} is not configured")]
    Default(CacheId),
    /// No thread or no listener.
    #[error("the proxy can't start: {0}")]
    Io(#[from] std::io::Error),
}

impl Configured {
    fn new(
        proxy: &ProxySettings,
        caches: &Caches,
        before: Option<&Self>,
    ) -> Result<Self, ProxyError> {
        if let Some(default) = &proxy.default_cache
            && !caches.contains_key(default)
        {
            return Err(ProxyError::Default(default.clone()));
        }
        let tls = proxy.tls.as_ref().map(ClientTls::read).transpose().map_err(ProxyError::Tls)?;
        let mut made = HashMap::new();
        let mut sources = HashMap::new();
        let mut over_rest = HashMap::new();
        for (id, settings) in caches {
            let source = source(settings);
            let old = before.and_then(|before| before.caches.get(id));
            let is_same = before.is_some_and(|before| before.sources.get(id) == Some(&source));
            let cache = match old {
                Some(old) if is_same => Arc::clone(old),
                _ => {
                    let cache = Cache::new(id.clone(), settings.clone(), old.map(|old| &**old));
                    Arc::new(cache.map_err(|why| ProxyError::Cache(id.clone(), why))?)
                }
            };
            made.insert(id.clone(), cache);
            sources.insert(id.clone(), source);
        }
        // What was made over REST stays. Where the file has got a cache of the same id, that one wins.
        for (id, kept) in before.into_iter().flat_map(|before| &before.made) {
            if !caches.contains_key(id) {
                let cache = before.and_then(|before| before.caches.get(id));
                made.extend(cache.map(|cache| (id.clone(), Arc::clone(cache))));
                over_rest.insert(id.clone(), kept.clone());
            }
        }
        Ok(Self { caches: made, sources, made: over_rest, proxy: proxy.clone(), tls })
    }
}

/// All that a cache is made of, to be compared.
fn source(settings: &CacheSettings) -> String {
    // Secrets do not print; whether one has changed is asked separately.
    let caching = settings.caching.as_ref().map(|caching| &caching.url);
    let secrets = [settings.auth_url.as_ref(), caching]
        .map(|url| fingerprint(url.map(|url| url.expose_secret().as_str()).unwrap_or_default()));
    format!("{settings:?} {}", secrets.join(" "))
}

fn fingerprint(text: &str) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(text.as_bytes()))
}

impl Registry {
    pub(crate) fn new(proxy: &ProxySettings, caches: &Caches) -> Result<Self, ProxyError> {
        Ok(Self {
            now: RwLock::new(Configured::new(proxy, caches, None)?),
            changing: Mutex::default(),
            cancels: Arc::default(),
            clients: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            knows_all: AtomicBool::new(false),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Held by who changes what is configured, so that nobody builds upon what another one replaces.
    fn changing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Configured> {
        self.now.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Configured> {
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new configuration, or leaves all as it is when that can't be used. Sessions go on: those in
    /// transaction mode with the new settings from their next transaction on, others as they began.
    pub(crate) fn reload(&self, proxy: &ProxySettings, caches: &Caches) -> Result<(), ProxyError> {
        let _changing = self.changing();
        let next = Configured::new(proxy, caches, Some(&self.read()))?;
        let before = std::mem::replace(&mut *self.write(), next);
        let now = self.read();
        for (id, cache) in &before.caches {
            let next = now.caches.get(id);
            if !next.is_some_and(|next| Arc::ptr_eq(next, cache)) {
                cache.retire(next.map(|next| &**next));
            }
        }
        Ok(())
    }

    /// Takes a cache that was made over REST, in this version; the error is why it can't be made, and then it stays as it
    /// was: who changed it, perhaps a later sidecar, had no wish to end its sessions. One of the configuration file with
    /// the same id stays in its place.
    pub(crate) fn put(&self, id: &CacheId, version: i64, settings: Result<CacheSettings, String>) {
        let _changing = self.changing();
        let (known, before) = {
            let now = self.read();
            if now.sources.contains_key(id) {
                return;
            }
            (now.made.get(id).cloned(), now.caches.get(id).cloned())
        };
        // One that could not be made may be able to now, as when there is room again.
        if known.as_ref().is_some_and(|known| known.version == version && known.error.is_none()) {
            return;
        }
        let before_source = known.and_then(|known| known.source);
        let made = settings.and_then(|settings| {
            let source = source(&settings);
            if before_source.as_ref() == Some(&source) {
                // A new name, perhaps. Clients' connections stay.
                return Ok((source, None));
            }
            let cache = Cache::new(id.clone(), settings, before.as_deref())?;
            Ok((source, Some(Arc::new(cache))))
        });
        let (source, cache, error) = match made {
            Ok((source, cache)) => (Some(source), cache, None),
            Err(error) => {
                tracing::warn!(cache = %id, error, "a cache of a workspace can't be made");
                (before_source, None, Some(error))
            }
        };
        let is_new = cache.is_some();
        {
            let mut now = self.write();
            now.caches.extend(cache.map(|cache| (id.clone(), cache)));
            now.made.insert(id.clone(), Made { version, source, error });
        }
        if let Some(before) = before.filter(|_| is_new) {
            before.retire(self.cache(id).as_deref());
        }
    }

    /// Removes a cache that was made over REST. Its sessions end.
    pub(crate) fn remove(&self, id: &CacheId) {
        let _changing = self.changing();
        let removed = {
            let mut now = self.write();
            now.made.remove(id).and_then(|_| now.caches.remove(id))
        };
        if let Some(removed) = removed {
            removed.end();
        }
    }

    /// From now on, a cache that is not here is not anywhere.
    pub(crate) fn knows_all(&self) {
        self.knows_all.store(true, Ordering::Release);
    }

    /// Why there is no cache of this id.
    pub(crate) fn missing(&self, id: &str) -> Report {
        let is_of_file = CacheId::try_from(id.to_owned()).is_ok_and(|id| !id.is_random());
        if is_of_file || self.knows_all.load(Ordering::Acquire) {
            Report::fatal(report::INVALID_CATALOG_NAME, format!("cache \"{id}\" does not exist"))
        } else {
            Report::fatal(
                report::CANNOT_CONNECT_NOW,
                format!("it is not known yet whether cache \"{id}\" exists"),
            )
            .hint("The proxy has just started and waits for its database.")
        }
    }

    /// The versions of the caches that were made over REST.
    pub(crate) fn made(&self) -> HashMap<CacheId, i64> {
        self.read().made.iter().map(|(id, made)| (id.clone(), made.version)).collect()
    }

    /// Why a cache that was made over REST could not be made as it is set now.
    pub(crate) fn error(&self, id: &CacheId) -> Option<String> {
        self.read().made.get(id)?.error.clone()
    }

    pub(crate) fn cache(&self, id: &CacheId) -> Option<Arc<Cache>> {
        self.read().caches.get(id).cloned()
    }

    /// The cache of clients that name none.
    pub(crate) fn default_cache(&self) -> Option<Arc<Cache>> {
        let now = self.read();
        now.proxy.default_cache.as_ref().and_then(|id| now.caches.get(id)).cloned()
    }

    /// All caches, by their ids.
    pub(crate) fn caches(&self) -> Vec<Arc<Cache>> {
        let mut caches: Vec<_> = self.read().caches.values().cloned().collect();
        caches.sort_by(|a, b| a.id().cmp(b.id()));
        caches
    }

    /// The caches of the configuration file, by their ids.
    pub(crate) fn of_file(&self) -> Vec<Arc<Cache>> {
        let now = self.read();
        let is_of_file = |cache: &&Arc<Cache>| now.sources.contains_key(cache.id());
        let mut caches: Vec<_> = now.caches.values().filter(is_of_file).cloned().collect();
        caches.sort_by(|a, b| a.id().cmp(b.id()));
        caches
    }

    pub(crate) fn tls(&self) -> Option<ClientTls> {
        self.read().tls.clone()
    }

    pub(crate) fn login_time(&self) -> std::time::Duration {
        std::time::Duration::from_secs(self.read().proxy.login_secs)
    }

    pub(crate) fn max_clients(&self) -> usize {
        self.read().proxy.max_clients
    }

    pub(crate) const fn cancels(&self) -> &Arc<Cancels> {
        &self.cancels
    }

    /// How many clients are logged in, those included whose cache a reload has replaced.
    pub(crate) const fn sessions(&self) -> &AtomicUsize {
        &self.sessions
    }

    /// How many clients are connected, logged in or not.
    pub(crate) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Counts a client as long as what it gives is kept.
    pub(crate) fn count_client(self: &Arc<Self>) -> Counted {
        self.clients.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self))
    }

    /// Asks all sessions to end.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.stopping.cancel();
    }

    /// Whether sessions are to end; cheap enough to be asked at every turn.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// What wakes up who waits.
    pub(crate) const fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Runs what outlives a session, in the thread that asks.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    pub(crate) const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
}

/// A client that is counted.
pub(crate) struct Counted(Arc<Registry>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
