//! Follows the memory to the file, and brings back what the file holds.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use integratedb_cache::{Key, Lsn, Outcome};
use tokio::sync::oneshot::Sender;

use super::file::{Changes, File, FileError};
use super::head::{Head, Names};
use super::reads::Reads;
use super::record::{self, Now, Read};
use super::tier::{Pending, Shared, lock};
use crate::cache::engine::{Engine, Label};
use crate::proxy::observe::Queries;

/// Time between two transactions of the file. So much the origin's log is held back, and so much is lost of what was
/// stored last.
const INTERVAL: Duration = Duration::from_secs(1);

/// The thread that reads and writes the file.
pub(super) struct Worker {
    shared: Arc<Shared>,
    reads: Arc<Reads>,
    engine: Arc<Engine>,
    /// As they are in the file.
    names: Names,
    head: Option<Head>,
}

impl Worker {
    /// `names`: those of the file.
    pub(super) fn new(
        shared: Arc<Shared>,
        reads: Arc<Reads>,
        engine: Arc<Engine>,
        names: Names,
    ) -> Self {
        Self { shared, reads, engine, names, head: None }
    }

    /// Until it is told to end, or the file can't be used.
    pub(super) fn run(self, file: File, queries: &Queries, ready: Sender<()>) {
        let file = self.load(file, queries);
        // The reader may have been told to end meanwhile.
        let _ = ready.send(());
        if let Some(file) = file {
            self.reads.open(file.records());
            self.follow(file);
        }
    }

    fn load(&self, mut file: File, queries: &Queries) -> Option<File> {
        let now = Now::read();
        let mut labels: HashMap<String, Arc<Label>> = HashMap::new();
        let (store, mut restored) = (self.engine.store(), 0);
        store.set_spills(true);
        // Where there is not room for all, what is asked for decides which ones come back to memory.
        let stays = file.stored_bytes().map(|bytes| bytes > store.max_bytes() as u64);
        let loaded = stays.and_then(|stays| {
            file.load(|key, bytes| {
                let label = |text: &str| {
                    let known = labels.get(text).cloned();
                    known.unwrap_or_else(|| {
                        let label = Arc::new(Label { template: queries.recall(text) });
                        labels.insert(text.to_owned(), Arc::clone(&label));
                        label
                    })
                };
                let read = record::read(bytes, now, stays, label).ok_or(FileError::Damaged)?;
                let Read::Entry(entry) = read else { return Ok(false) };
                let stored = store.restore(Key(key), *entry, now.instant) == Outcome::Stored;
                restored += u64::from(stored);
                Ok(stored)
            })
        });
        let is_void = {
            let mut pending = lock(&self.shared.pending);
            pending.loading = false;
            pending.is_void
        };
        let useless = match &loaded {
            Ok(useless) if !is_void => useless.as_slice(),
            _ => {
                restored = 0;
                self.engine.start_anew("what was restored does not count");
                &[]
            }
        };
        let damage = loaded.as_ref().err().map(ToString::to_string);
        let file = match &damage {
            None => Ok(file),
            Some(why) => {
                tracing::warn!(why, "the cache begins empty: its file can't be used");
                file.renew()
            }
        };
        let mut pending = lock(&self.shared.pending);
        pending.entries.extend(useless.iter().map(|key| (*key, None)));
        pending.figures.restored = restored;
        pending.last_round = Instant::now();
        if is_void || damage.is_some() {
            pending.forget();
        }
        match file {
            Ok(file) => {
                pending.note(&file);
                tracing::info!(restored, "entries were brought back from disk");
                Some(file)
            }
            Err(why) => {
                pending.turn_off(why.to_string());
                drop(pending);
                store.set_spills(false);
                None
            }
        }
    }

    fn follow(mut self, mut file: File) {
        loop {
            let is_last = self.wait();
            let written = catch_unwind(AssertUnwindSafe(|| self.write(&mut file)));
            let why = match written {
                Ok(Ok(())) if is_last => return,
                Ok(Ok(())) if lock(&self.shared.pending).off.is_none() => continue,
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(why.to_string()),
                Err(_) => Some(FileError::Panicked.to_string()),
            };
            // What memory has given up is gone.
            self.reads.shut();
            self.engine.store().set_spills(false);
            // The file goes before it is told: from when it is off, the slot moves past what the file holds.
            file.destroy();
            if let Some(why) = why {
                lock(&self.shared.pending).turn_off(why);
            }
            return;
        }
    }

    /// Waits for the next transaction; true if it is the last.
    fn wait(&self) -> bool {
        let pending = lock(&self.shared.pending);
        let is_on = |pending: &mut Pending| {
            !self.shared.stop.load(Ordering::SeqCst) && pending.bytes <= pending.enough
        };
        let waited = self.shared.wake.wait_timeout_while(pending, INTERVAL, is_on);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.shared.stop.load(Ordering::SeqCst)
    }

    /// Writes what happened since the last time.
    fn write(&mut self, file: &mut File) -> Result<(), FileError> {
        // In this order: what was removed up to the position was noted before the position was there.
        let generation = lock(&self.shared.pending).generation;
        let applied = self.engine.store().applied();
        let names = self.engine.names();
        let mut pending = lock(&self.shared.pending);
        if pending.off.is_some() {
            return Ok(());
        }
        if generation == pending.generation && pending.head.source.is_some() {
            pending.head.position = pending.head.position.max(applied.0);
        }
        let mut entries = std::mem::take(&mut pending.entries);
        pending.bytes = 0;
        let clear = std::mem::take(&mut pending.clear);
        let (head, generation) = (pending.head.clone(), pending.generation);
        drop(pending);
        let has_names = names != self.names || file.is_new();
        if entries.is_empty() && !clear && self.head.as_ref() == Some(&head) && !has_names {
            lock(&self.shared.pending).last_round = Instant::now();
            return Ok(());
        }
        let now = Now::read();
        if clear {
            file.forget();
        }
        let wanted = entries.values().flatten().map(|entry| record::length(entry) as u64).sum();
        let missing = file.lacks(wanted);
        if missing > 0 {
            let shed = self.engine.store().shed(missing as usize, now.instant);
            // Nothing newer can be here by these keys: what is not written yet is in memory.
            entries.extend(shed.into_iter().map(|key| (key.0, None)));
        }
        let stored = || entries.iter().filter_map(|(key, entry)| Some((*key, entry.as_ref()?)));
        let passed_over = file.write(Changes {
            clear,
            removed: entries.iter().filter(|(_, entry)| entry.is_none()).map(|(key, _)| *key),
            stored: stored()
                .filter_map(|(key, entry)| Some((key, record::write(entry, entry.answer()?, now)))),
            head: &head,
            names: has_names.then_some(&names),
        })?;
        for (_, entry) in stored().filter(|(key, _)| !passed_over.contains(key)) {
            entry.durable.note();
        }
        if self.engine.gives_from_disk_only() {
            self.engine.store().spill_now(stored().map(|(key, _)| Key(key)));
        }
        self.names = names;
        self.head = Some(head.clone());
        let mut pending = lock(&self.shared.pending);
        if generation == pending.generation {
            pending.durable = Lsn(head.position);
        }
        pending.last_round = Instant::now();
        pending.figures.writes += 1;
        pending.note(file);
        Ok(())
    }
}

impl Pending {
    fn note(&mut self, file: &File) {
        self.figures.entries = file.entries;
        self.figures.bytes = file.bytes;
        self.figures.passed_over = file.passed_over;
        self.figures.file_bytes = file.size();
    }
}
