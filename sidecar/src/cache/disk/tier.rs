//! What the rest of the cache knows of the file: what happens in memory is noted here, and how far the file is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use integratedb_cache::{Entry, Key, Lsn, Observer, Removal};
use tokio::sync::oneshot::Sender;

use super::file::{File, FileError, Folder};
use super::head::{Head, Names, Source};
use super::reads::{Reading, Reads};
use super::record;
use super::settings::DiskSettings;
use super::worker::Worker;
use crate::cache::engine::{Engine, Label};
use crate::cache::rules::Rules;
use crate::proxy::observe::{Figures, Queries};
use crate::replication::Connected;

/// After so long without a transaction that was due, the origin's log is held back no more.
const STALLED: Duration = Duration::from_secs(60);

/// What a file is about to become.
pub(super) struct Pending {
    /// Keys with what they lead to since the last transaction.
    pub(super) entries: HashMap<u128, Option<Arc<Entry<Label>>>>,
    /// About what was stored of them, in bytes; and with how many the file is written before its time, so that memory
    /// can give them up.
    pub(super) bytes: usize,
    pub(super) enough: usize,
    /// All before is void.
    pub(super) clear: bool,
    pub(super) head: Head,
    /// How often all became void. What was read of positions before that is void too.
    pub(super) generation: u64,
    /// Up to where all is durable, as the file says.
    pub(super) durable: Lsn,
    /// When the thread last had nothing left to write.
    pub(super) last_round: Instant,
    /// Entries are coming from the file, which need not go there again.
    pub(super) loading: bool,
    /// The rules changed before the entries came that were stored under others.
    pub(super) is_void: bool,
    /// Nothing goes to the file any more.
    pub(super) closed: bool,
    /// Why there is no file.
    pub(super) off: Option<String>,
    pub(super) figures: DiskFigures,
}

/// What there is to see.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiskFigures {
    /// Entries in the file, and what they take.
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// What the file takes.
    pub(crate) file_bytes: u64,
    /// Entries that were brought back.
    pub(crate) restored: u64,
    /// Entries that found no room.
    pub(crate) passed_over: u64,
    /// Transactions of the file.
    pub(crate) writes: u64,
    /// Answers that were wanted, but not before it was too late.
    pub(crate) late: u64,
    /// Answers asked for that are not there yet.
    pub(crate) under_way: usize,
    /// Up to where it is complete.
    pub(crate) durable: Lsn,
    /// Why it is off, if it is.
    pub(crate) off: Option<String>,
}

pub(super) struct Shared {
    pub(super) pending: Mutex<Pending>,
    pub(super) wake: Condvar,
    pub(super) stop: AtomicBool,
}

/// The file of a cache, or what is left when it can't be used.
pub(crate) struct Disk {
    shared: Arc<Shared>,
    key: [u8; 16],
    names: Names,
    /// Until the thread has it.
    file: Mutex<Option<File>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    reads: Arc<Reads>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Opens what the settings name; `key` is for a file that holds nothing yet. A file that can't be used is replaced;
    /// if that fails too, there is none, and the figures say why. Errors are of the settings.
    pub(crate) fn open(settings: &DiskSettings, key: [u8; 16]) -> Result<Self, String> {
        let sealer = Arc::new(settings.sealer()?);
        let mut off = None;
        let (mut head, mut names) = (Head::new(key), Names::default());
        let opened = Folder::take(&settings.path).map(Arc::new).and_then(|folder| {
            let open = || File::open(Arc::clone(&folder), Arc::clone(&sealer), settings.max_bytes);
            let why = match open().and_then(|mut file| Ok((file.about()?, file))) {
                Ok((Some(about), file)) if about.0.is_ours() => {
                    (head, names) = about;
                    return Ok(file);
                }
                Ok((None, file)) => return Ok(file),
                Ok((Some(_), _)) => FileError::Version,
                Err(why) => why,
            };
            let path = settings.path.display();
            tracing::warn!(%path, %why, "the cache begins empty: its file can't be used");
            folder.remove();
            open()
        });
        let file = opened.map_err(|why| off = Some(told(settings, &why.to_string()))).ok();
        let mut kept = [0; 16];
        let key = hex::decode_to_slice(&head.key, &mut kept).map_or(key, |()| kept);
        let pending = Pending {
            entries: HashMap::new(),
            bytes: 0,
            enough: usize::MAX,
            clear: false,
            durable: Lsn(head.position),
            head,
            generation: 0,
            last_round: Instant::now(),
            loading: true,
            is_void: false,
            closed: false,
            off,
            figures: DiskFigures::default(),
        };
        let shared = Shared {
            pending: Mutex::new(pending),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        };
        Ok(Self {
            shared: Arc::new(shared),
            key,
            names,
            file: Mutex::new(file),
            thread: Mutex::default(),
            reads: Arc::default(),
        })
    }

    /// What hashes are made with, so that what was found before is found again.
    pub(crate) const fn key(&self) -> [u8; 16] {
        self.key
    }

    /// What the file knew of columns and settings.
    pub(crate) const fn names(&self) -> &Names {
        &self.names
    }

    /// Tells the file of what the store does.
    pub(crate) fn observer(&self) -> Box<dyn Observer<Label>> {
        Box::new(Follows(Arc::clone(&self.shared)))
    }

    /// Brings back what the file holds, then follows. Tells `ready` when all is back: no transaction may be applied
    /// before.
    pub(crate) fn start(&self, engine: Arc<Engine>, queries: Arc<Queries>, ready: Sender<()>) {
        let Some(file) = lock(&self.file).take() else {
            lock(&self.shared.pending).loading = false;
            return;
        };
        let slow = engine.settings().disk.as_ref().map_or(Duration::ZERO, |disk| disk.slow);
        self.reads.start(engine.store(), slow);
        lock(&self.shared.pending).enough = engine.disk_writes_at();
        let (shared, reads) = (Arc::clone(&self.shared), Arc::clone(&self.reads));
        let worker = Worker::new(shared, reads, engine, self.names.clone());
        let started = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || worker.run(file, &queries, ready));
        *lock(&self.thread) = Some(started.expect("a thread can be started"));
    }

    /// Writes what is to be written and closes the file. The log is held back for a while, for whoever opens it next.
    pub(crate) fn close(&self) {
        // The file has to be in nobody's hands when this returns.
        self.reads.end();
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.file).take());
        // The thread looks at `stop` under this lock before it sleeps.
        drop(lock(&self.shared.pending));
        self.shared.wake.notify_all();
        if let Some(thread) = lock(&self.thread).take() {
            // It catches what panics in it.
            let _ = thread.join();
        }
        let mut pending = lock(&self.shared.pending);
        pending.closed = true;
        pending.entries = HashMap::new();
    }

    /// D2: whether what was restored counts on this connection; if not, why not. It is the process's first, or one
    /// that goes on where the former ended.
    pub(crate) fn continues(
        &self,
        source: &Source,
        connected: &Connected,
        is_first: bool,
    ) -> Result<(), &'static str> {
        let pending = lock(&self.shared.pending);
        let objection = match is_first {
            true => pending.head.objection(source, connected),
            false if pending.head.source.as_ref() == Some(source) => None,
            false => Some("another origin"),
        };
        objection.map_or(Ok(()), Err)
    }

    /// All that was is void: what comes is of this source.
    pub(crate) fn begin(&self, source: Source, roles: Option<&str>) {
        let mut pending = lock(&self.shared.pending);
        pending.forget();
        pending.head.source = Some(source);
        pending.head.roles = roles.map(str::to_owned);
        pending.last_round = Instant::now();
    }

    /// Roles have changed, and what was kept before is purged.
    pub(crate) fn note_roles(&self, fingerprint: Option<&str>) {
        lock(&self.shared.pending).head.roles = fingerprint.map(str::to_owned);
    }

    /// The rules under which what the file holds was kept.
    pub(crate) fn rules(&self) -> Rules {
        lock(&self.shared.pending).head.rules.clone()
    }

    /// Rules have changed, and all that was kept before is purged.
    pub(crate) fn note_rules(&self, rules: Rules) {
        let mut pending = lock(&self.shared.pending);
        pending.is_void |= pending.loading;
        pending.head.rules = rules;
    }

    /// D1, D3: up to where the origin may forget, where all up to `applied` was applied.
    pub(crate) fn confirmable(&self, applied: Lsn) -> Lsn {
        let mut pending = lock(&self.shared.pending);
        if pending.off.is_some() {
            return applied;
        }
        if pending.durable < applied && pending.last_round.elapsed() > STALLED {
            let why = format!("nothing could be written for {} seconds", STALLED.as_secs());
            pending.turn_off(why);
            return applied;
        }
        pending.durable.min(applied)
    }

    /// Asks for the bytes of an entry that has them on disk; `None` if they would not come soon.
    pub(crate) fn read(&self, key: Key, entry: Arc<Entry<Label>>) -> Option<Reading> {
        self.reads.read(key, entry)
    }

    /// How reading went.
    pub(crate) fn reads(&self) -> &Figures {
        &self.reads.figures
    }

    pub(crate) fn figures(&self) -> DiskFigures {
        let pending = lock(&self.shared.pending);
        DiskFigures {
            durable: pending.durable,
            off: pending.off.clone(),
            late: self.reads.late.load(Ordering::Relaxed),
            under_way: self.reads.under_way(),
            ..pending.figures.clone()
        }
    }
}

fn told(settings: &DiskSettings, why: &str) -> String {
    tracing::warn!(path = %settings.path.display(), why, "the cache is kept in memory only");
    why.to_owned()
}

impl Pending {
    /// All that was is void.
    pub(super) fn forget(&mut self) {
        self.entries.clear();
        self.bytes = 0;
        self.clear = true;
        self.generation += 1;
        self.head.source = None;
        self.head.position = 0;
        self.durable = Lsn(0);
    }

    pub(super) fn turn_off(&mut self, why: String) {
        tracing::error!(
            why,
            "the cache is kept in memory only from here on: its file can't be used"
        );
        self.off = Some(why);
        self.entries = HashMap::new();
    }
}

/// Notes what happens; see [`Observer`] for the lock under which.
struct Follows(Arc<Shared>);

impl Follows {
    fn note(&self, key: Key, entry: Option<&Arc<Entry<Label>>>) {
        let mut pending = lock(&self.0.pending);
        if pending.off.is_none() && !pending.closed && !(pending.loading && entry.is_some()) {
            if let Some(entry) = entry {
                pending.bytes += record::length(entry);
                if pending.bytes > pending.enough {
                    self.0.wake.notify_all();
                }
            }
            pending.entries.insert(key.0, entry.cloned());
        }
    }
}

impl Observer<Label> for Follows {
    fn stored(&self, key: Key, entry: &Arc<Entry<Label>>) {
        if entry.seen_by_replication {
            self.note(key, Some(entry));
        }
    }

    fn removed(&self, key: Key, _: &Entry<Label>, _: Removal) {
        self.note(key, None);
    }
}
