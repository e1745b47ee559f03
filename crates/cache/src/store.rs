//! The cache: what a lookup does, and when it serves.
//!
//! I1 An entry is dropped by each processed transaction that touches its dependencies and is not visible in
//!    `read_at` (`apply.rs`).
//! I2 A fill is stored only if no already processed transaction that touches its dependencies is invisible in
//!    its snapshot (`journal.rs`).
//! I3 No entry is served whose dependencies overlap a standing fence; a fence falls only after the reader has
//!    applied past it (`fence.rs`).
//! I4 No entry is served to a session that has seen a position the reader has not applied.
//! I5 While replication is not known to be up to date within a bound, nothing that it must see is served.
//! I6 A schema change drops all entries, and fills count only if described after it.
//!
//! Locks are taken in the order ledger, fences, shard. A lookup reads the applied position, the state of
//! replication and the fences *before* it looks into a shard; the reader removes entries, *then* advances the
//! position, *then* lets fences fall. So who is let through by what it read finds nothing that should be gone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::dependency::Digester;
use crate::fence::Fences;
use crate::index::mix;
use crate::ledger::Ledger;
use crate::position::Position;
use crate::shard::Shard;
use crate::{Entry, Key, Lsn, Observer, Reached, Settings};

/// Who looks.
#[derive(Debug)]
pub struct Reader<'a> {
    /// The highest position of the log that the session may have seen something of: the end of the log, read
    /// after whatever the origin answered it, also to a write. `Lsn(u64::MAX)` while that is not known.
    ///
    /// A hit raises it: an entry may show what the reader has yet to apply, and then the session must not be
    /// served what lacks it.
    pub seen: &'a mut Lsn,
    /// Now.
    pub now: Instant,
}

/// What a lookup comes to.
#[derive(Debug)]
pub enum Lookup<L> {
    /// Send this.
    Hit(Arc<Entry<L>>),
    /// Its bytes are on disk. Read them, then ask again by [`Store::lookup_read`].
    OnDisk(Arc<Entry<L>>),
    /// Nothing is stored: fill.
    Miss,
    /// A write may have touched what it depends on, and is not applied yet.
    Fenced,
    /// The session has seen more than is applied. [`Store::reached`] waits for it; or the origin is asked, which took
    /// so long the last time.
    Behind(Duration),
    /// Replication is not up to date, for this reason.
    Off(&'static str),
}

/// The cache of one database at one origin.
pub struct Store<L> {
    pub(crate) settings: Settings,
    pub(crate) digester: Digester,
    pub(crate) observer: Box<dyn Observer<L>>,
    pub(crate) shards: Box<[Mutex<Shard<L>>]>,
    pub(crate) fences: Fences,
    pub(crate) position: Arc<Position>,
    ledger: Mutex<Ledger>,
    suspended: AtomicBool,
    why: Mutex<&'static str>,
    made: Instant,
    /// Nanoseconds after `made` as of which all is applied; 0 if never.
    fresh: AtomicU64,
}

impl<L: Send + Sync> Store<L> {
    /// An empty cache. It serves when it is resumed and known to be fresh.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self::observed(settings, now, Box::new(()))
    }

    /// The same, with somebody who follows it.
    pub fn observed(settings: Settings, now: Instant, observer: Box<dyn Observer<L>>) -> Self {
        let shards = settings.shards.next_power_of_two();
        // Eight bytes for each of as many entries as fit if they take a kilobyte.
        let sketch = settings.max_bytes / 128 / shards;
        let shards: Box<[_]> = (0..shards).map(|_| Mutex::new(Shard::new(sketch))).collect();
        let mut ledger = Ledger::new(&settings);
        ledger.shard_bytes =
            shards.iter().map(|shard| size_of::<Mutex<Shard<L>>>() + lock(shard).bytes()).sum();
        Self {
            digester: Digester { secret: settings.secret },
            observer,
            shards,
            fences: Fences::new(),
            position: Arc::default(),
            ledger: Mutex::new(ledger),
            suspended: AtomicBool::new(true),
            why: Mutex::new("replication has not started"),
            made: now,
            fresh: AtomicU64::new(0),
            settings,
        }
    }

    /// Looks for an answer.
    pub fn lookup(&self, key: Key, reader: Reader<'_>) -> Lookup<L> {
        let (mut shard, place) = match self.admit(key, &reader) {
            Ok(found) => found,
            Err(why) => return why,
        };
        let entry = &shard.slots[place].entry;
        if entry.answer().is_none() {
            return Lookup::OnDisk(Arc::clone(entry));
        }
        *reader.seen = entry.position.max(*reader.seen);
        Lookup::Hit(shard.hit(place))
    }

    /// The place of an entry that the session may be served, or why there is none.
    #[inline]
    pub(crate) fn admit(
        &self,
        key: Key,
        reader: &Reader<'_>,
    ) -> Result<(MutexGuard<'_, Shard<L>>, usize), Lookup<L>> {
        let applied = self.position.applied();
        let off = self.off(reader.now);
        let fences = self.fences.standing();
        let mut shard = self.lock(self.shard(key));
        let place = shard.place(key);
        let Some(place) = place.filter(|at| !shard.slots[*at].entry.has_expired(reader.now)) else {
            shard.miss(key);
            return Err(Lookup::Miss);
        };
        let entry = &shard.slots[place].entry;
        if entry.seen_by_replication {
            if let Some(why) = off {
                shard.counts.off += 1;
                return Err(Lookup::Off(why));
            }
            if *reader.seen > applied && !self.settings.faults.ignore_seen {
                let cost = entry.cost;
                shard.counts.behind += 1;
                return Err(Lookup::Behind(cost));
            }
        }
        if fences.block(&entry.pins, entry.seen_by_replication) {
            shard.counts.fenced += 1;
            return Err(Lookup::Fenced);
        }
        Ok((shard, place))
    }

    /// What memory is bounded by.
    pub fn max_bytes(&self) -> usize {
        self.settings.max_bytes
    }

    /// Why nothing that replication must see is served now, if so.
    pub fn off(&self, now: Instant) -> Option<&'static str> {
        if self.suspended.load(Ordering::SeqCst) {
            return Some(*self.why.lock().expect("nothing under this lock panics"));
        }
        let fresh = self.fresh.load(Ordering::SeqCst);
        let age = self.nanoseconds(now).saturating_sub(fresh);
        (fresh == 0 || u128::from(age) > self.settings.max_age.as_nanos())
            .then_some("replication is late")
    }

    /// All up to here is applied. Never goes back, but by a flush.
    pub fn advance(&self, position: Lsn) {
        self.position.advance(position);
        self.fences.fall(self.position.applied());
    }

    /// Up to where all is applied.
    pub fn applied(&self) -> Lsn {
        self.position.applied()
    }

    /// All that had committed at this time is applied.
    pub fn fresh(&self, as_of: Instant) {
        self.fresh.fetch_max(self.nanoseconds(as_of), Ordering::SeqCst);
    }

    /// Waits until all up to a position is applied. The caller bounds the time.
    pub fn reached(&self, position: Lsn) -> Reached {
        self.position.reached(position)
    }

    /// Stops serving what replication must see, and keeps it. How fresh it was counts no more: what commits from now
    /// on is not known of.
    pub fn suspend(&self, why: &'static str) {
        *self.why.lock().expect("nothing under this lock panics") = why;
        self.suspended.store(true, Ordering::SeqCst);
        self.forget_fresh();
    }

    /// Serves again. All that happened meanwhile has been applied, or will be before `fresh` says so.
    pub fn resume(&self) {
        self.suspended.store(false, Ordering::SeqCst);
    }

    /// Whether nothing that replication must see is served until `resume`, and then not before `fresh` is told anew: a
    /// write needs no fence meanwhile.
    pub fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::SeqCst)
    }

    /// Nothing is known to be fresh any more.
    pub(crate) fn forget_fresh(&self) {
        self.fresh.store(0, Ordering::SeqCst);
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.made).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    pub(crate) fn shard(&self, key: Key) -> &Mutex<Shard<L>> {
        // Not the low bits, which the shard's table uses, and not the seven highest, which it compares by.
        &self.shards[(mix(key) >> 40) as usize & (self.shards.len() - 1)]
    }

    pub(crate) fn lock<'a>(&self, shard: &'a Mutex<Shard<L>>) -> MutexGuard<'a, Shard<L>> {
        lock(shard)
    }
}

/// Books that a panic left half-written must not be served from.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no other thread panicked in the cache")
}
