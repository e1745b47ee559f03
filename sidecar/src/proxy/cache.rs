//! A cache: a named proxy configuration for one origin, with its pools and what it has seen.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::observe::Queries;
use super::origin::Origin;
use super::pool::{Figures, Pool, PoolKey};
use super::room::Room;
use super::settings::{CacheId, CacheSettings, limit};
use super::statements::Statements;
use super::verifiers::Verifiers;
use crate::cache::{Disk, Engine, Following};

/// How long a pool is kept that nobody uses.
const POOL_KEPT: Duration = Duration::from_secs(300);

/// A cache as it is configured now; a reload that changes it makes a new one.
pub(crate) struct Cache {
    id: CacheId,
    /// What hashes of texts are made with.
    key: [u8; 16],
    settings: CacheSettings,
    origin: Arc<Origin>,
    verifiers: Option<Verifiers>,
    pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    /// The right to have one connection open to the origin.
    slots: Arc<Semaphore>,
    statements: Statements,
    queries: Arc<Queries>,
    /// What is kept of its answers, if any are.
    following: Option<Arc<Following>>,
    schema_age: AtomicU64,
    /// Who waits for a slot.
    short: AtomicUsize,
    clients: AtomicUsize,
    pinned: AtomicUsize,
    retired: AtomicBool,
    end: Arc<End>,
}

/// Of a cache and all that come in its place: it is gone for good, and its sessions are to end.
#[derive(Default)]
struct End {
    is_reached: AtomicBool,
    reached: CancellationToken,
}

/// The right to have a connection open.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// Counts who waits for a slot, as long as they do.
struct Short<'a>(&'a AtomicUsize);

impl<'a> Short<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Short<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cache {
    /// One in the place of `before`, if there was one: what was seen is kept, and so are the answers, unless what they
    /// are made of changes. Errors say which setting is wrong, and how.
    pub(crate) fn new(
        id: CacheId,
        settings: CacheSettings,
        before: Option<&Self>,
    ) -> Result<Self, String> {
        settings.check()?;
        let mut key = before.map_or_else(super::random::bytes, |before| before.key);
        let before_it = before.and_then(|before| before.following.as_ref());
        let goes_on = match (&settings.caching, before_it) {
            (Some(caching), Some(following)) => following.is_same(caching, &settings.origin),
            _ => false,
        };
        let mut disk = None;
        if !goes_on && let Some(wanted) = settings.caching.as_ref().and_then(|c| c.disk.as_ref()) {
            // Two can't have one file open.
            if let Some(following) = before_it {
                following.close_disk();
            }
            let opened = Disk::open(wanted, key)?;
            key = opened.key();
            disk = Some(opened);
        }
        // What was hashed with another key is not found again.
        let queries = before.filter(|before| before.key == key).map(|b| Arc::clone(&b.queries));
        let queries =
            queries.unwrap_or_else(|| Arc::new(Queries::new(settings.max_templates, key)));
        let following = match (&settings.caching, before_it) {
            (None, _) => None,
            (Some(_), Some(following)) if goes_on => Some(Arc::clone(following)),
            (Some(caching), _) => {
                let origin = &settings.origin;
                let before = before_it.map(|before| &**before);
                let following =
                    Following::start(&id, caching, origin, key, disk, &queries, before)?;
                Some(Arc::new(following))
            }
        };
        let reach = settings.reach.as_ref();
        let patience = Duration::from_secs(settings.connect_secs);
        let origin = Origin::read(&settings.origin, patience, reach)?;
        let verifiers = match &settings.auth_url {
            Some(url) if settings.auth == super::settings::Auth::Scram => {
                Some(Verifiers::new(url, reach, &settings.auth_query)?)
            }
            _ => None,
        };
        let room = match (&settings.share, before) {
            (Some(share), _) => Arc::clone(share.room()),
            (None, Some(before)) => Arc::clone(before.statements.room()),
            (None, None) => Arc::new(Room::new(settings.max_statement_bytes, None)),
        };
        let most = match settings.max_origin_connections {
            0 => Semaphore::MAX_PERMITS,
            most => most,
        };
        Ok(Self {
            id,
            origin: Arc::new(origin),
            verifiers,
            pools: Mutex::default(),
            slots: Arc::new(Semaphore::new(most)),
            statements: Statements::new(room),
            queries,
            following,
            key,
            schema_age: AtomicU64::new(0),
            short: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            pinned: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            end: before.map(|before| Arc::clone(&before.end)).unwrap_or_default(),
            settings,
        })
    }

    pub(crate) const fn id(&self) -> &CacheId {
        &self.id
    }

    pub(crate) const fn settings(&self) -> &CacheSettings {
        &self.settings
    }

    pub(crate) const fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    pub(crate) const fn verifiers(&self) -> Option<&Verifiers> {
        self.verifiers.as_ref()
    }

    pub(crate) const fn statements(&self) -> &Statements {
        &self.statements
    }

    pub(crate) const fn queries(&self) -> &Arc<Queries> {
        &self.queries
    }

    /// What keeps answers, and the task that follows the origin.
    pub(crate) const fn following(&self) -> Option<&Arc<Following>> {
        self.following.as_ref()
    }

    /// What keeps the answers of this database, if anything does.
    pub(crate) fn engine(&self, database: &[u8]) -> Option<&Arc<Engine>> {
        let engine = self.following.as_ref()?.engine();
        engine.is_of(database).then_some(engine)
    }

    /// How many sessions use it.
    pub(crate) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Counts a session that begins to use it, or ends.
    pub(crate) fn enter(&self) {
        self.clients.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many sessions keep their connection between transactions, though they would share it.
    pub(crate) fn pinned(&self) -> usize {
        self.pinned.load(Ordering::Relaxed)
    }

    /// Counts a session that begins to, or ends.
    pub(crate) fn count_pinned(&self, is_pinned: bool) {
        if is_pinned {
            self.pinned.fetch_add(1, Ordering::Relaxed);
        } else {
            self.pinned.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How often the schema has changed, as far as is known. A statement that a client prepares after a change
    /// must not meet a plan from before it.
    pub(crate) fn schema_age(&self) -> u64 {
        // What passes here is known at once, the rest when the log tells of it.
        let told = self.following.as_ref().map_or(0, |following| following.engine().epoch());
        self.schema_age.load(Ordering::Relaxed) + told
    }

    pub(crate) fn schema_changed(&self) {
        self.schema_age.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PoolKey, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The pool of a key.
    pub(crate) fn pool(&self, key: &PoolKey) -> Arc<Pool> {
        let mut pools = self.lock();
        if let Some(pool) = pools.get(key) {
            return Arc::clone(pool);
        }
        let pool = Arc::new(Pool::new(key.clone(), self.settings.pool_size));
        pools.insert(key.clone(), Arc::clone(&pool));
        pool
    }

    /// The right to open a connection, for a pool or for a client alone. Where all are taken, another pool's
    /// idle connection gives way.
    pub(crate) async fn slot(&self, asking: Option<&Pool>) -> Slot {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Slot { _permit: permit };
        }
        for pool in self.all_pools() {
            if asking.is_none_or(|asking| pool.key() != asking.key()) && pool.give_way() {
                break;
            }
        }
        let _short = Short::new(&self.short);
        let permit = Arc::clone(&self.slots).acquire_owned().await.expect("it is never closed");
        Slot { _permit: permit }
    }

    /// Whether somebody waits for the right to open a connection.
    pub(crate) fn is_short_of_slots(&self) -> bool {
        self.short.load(Ordering::Relaxed) > 0
    }

    fn all_pools(&self) -> Vec<Arc<Pool>> {
        self.lock().values().cloned().collect()
    }

    /// Closes what nobody has used for too long.
    pub(crate) fn sweep(&self) {
        if let Some(after) = limit(self.settings.origin_idle_secs) {
            self.all_pools().iter().for_each(|pool| pool.close_idle(Some(after)));
        }
        self.queries.sweep();
        // Who holds a pool may be about to use it.
        self.lock().retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_unused(POOL_KEPT));
    }

    /// It is configured otherwise from now on, if at all: connections close as they become free. What was kept is so no
    /// longer, unless `next` goes on with it, even if sessions still use this one.
    pub(crate) fn retire(&self, next: Option<&Self>) {
        self.retired.store(true, Ordering::Relaxed);
        if let Some(next) = next
            && next.settings.share.is_none()
        {
            next.statements.room().set_most(next.settings.max_statement_bytes);
        }
        let kept = next.and_then(|next| next.following.as_ref());
        if let Some(following) = &self.following
            && !kept.is_some_and(|kept| Arc::ptr_eq(kept, following))
        {
            following.end();
        }
        self.all_pools().iter().for_each(|pool| pool.close_idle(None));
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// It is gone for good: its sessions end, between transactions.
    pub(crate) fn end(&self) {
        self.retire(None);
        self.end.is_reached.store(true, Ordering::Release);
        self.end.reached.cancel();
    }

    /// Whether sessions are to end; cheap enough to be asked at every turn.
    pub(crate) fn is_ended(&self) -> bool {
        self.end.is_reached.load(Ordering::Acquire)
    }

    /// What wakes up sessions when they are to end.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.end.reached.clone()
    }

    /// How many connections do what, by user and database.
    pub(crate) fn figures(&self) -> Vec<(String, String, Figures)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut sums = BTreeMap::new();
        for pool in self.all_pools() {
            let (key, figures) = (pool.key(), pool.figures());
            let sum: &mut Figures = sums.entry((text(&key.user), text(&key.database))).or_default();
            sum.idle += figures.idle;
            sum.used += figures.used;
            sum.waiting += figures.waiting;
        }
        sums.into_iter().map(|((user, database), figures)| (user, database, figures)).collect()
    }
}
