//! Reads answers that are on disk only, on threads of its own: no session waits for the disk but by a message.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use integratedb_cache::{Answer, Entry, Key, Store};
use tokio::sync::oneshot;

use super::file::{FileError, Records};
use super::record;
use super::tier::lock;
use crate::cache::engine::Label;
use crate::proxy::observe::Figures;

/// Threads that read.
const THREADS: usize = 2;

/// Sessions that wait at most; whoever comes then goes to the origin.
const MOST: usize = 1024;

/// What is wanted from the file, and who reads it.
#[derive(Default)]
pub(super) struct Reads {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Of what was read, also in vain.
    pub(super) figures: Figures,
    /// Wanted, but not before it was too late.
    pub(super) late: AtomicU64,
    /// Being read now.
    reading: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    /// While there is a file.
    records: Option<Arc<Records>>,
    ends: bool,
}

struct Request {
    key: Key,
    entry: Arc<Entry<Label>>,
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

/// An answer on its way from the disk.
pub(crate) struct Reading {
    entry: Arc<Entry<Label>>,
    answer: oneshot::Receiver<Answer>,
    read: Option<Answer>,
}

/// An answer that came from the disk, and the entry that it is of.
pub(crate) struct ReadAnswer {
    pub(crate) entry: Arc<Entry<Label>>,
    pub(crate) answer: Answer,
}

impl Reading {
    /// Ready when it is there, or won't come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.answer).poll(cx).map(|read| self.read = read.ok())
    }

    /// What came.
    pub(crate) fn end(self) -> Option<ReadAnswer> {
        let Self { entry, read, .. } = self;
        read.map(|answer| ReadAnswer { entry, answer })
    }
}

impl Reads {
    /// Begins to read for this store, once there is a file.
    pub(super) fn start(self: &Arc<Self>, store: &Arc<Store<Label>>, slow: Duration) {
        let mut threads = lock(&self.threads);
        for number in 0..THREADS {
            let (reads, store) = (Arc::clone(self), Arc::clone(store));
            let thread = std::thread::Builder::new().name(format!("disk read {number}"));
            let started = thread.spawn(move || reads.run(&store, slow));
            threads.push(started.expect("a thread can be started"));
        }
    }

    /// There is a file.
    pub(super) fn open(&self, records: Records) {
        let mut queue = lock(&self.queue);
        if !queue.ends {
            queue.records = Some(Arc::new(records));
        }
    }

    /// There is none any more. Who waits does so no more.
    pub(super) fn shut(&self) {
        let mut queue = lock(&self.queue);
        queue.records = None;
        queue.requests.clear();
    }

    /// The same for good; when it returns, nobody has the file open.
    pub(super) fn end(&self) {
        lock(&self.queue).ends = true;
        self.shut();
        self.wake.notify_all();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // What can panic in it is caught.
            let _ = thread.join();
        }
    }

    /// Asked for and not there yet.
    pub(super) fn under_way(&self) -> usize {
        lock(&self.queue).requests.len() + self.reading.load(Relaxed)
    }

    /// Asks for the bytes of an entry; `None` if nobody would read them soon.
    pub(super) fn read(&self, key: Key, entry: Arc<Entry<Label>>) -> Option<Reading> {
        let (answer, receiver) = oneshot::channel();
        {
            let mut queue = lock(&self.queue);
            queue.records.as_ref()?;
            if queue.requests.len() >= MOST {
                self.late.fetch_add(1, Relaxed);
                return None;
            }
            let (entry, since) = (Arc::clone(&entry), Instant::now());
            queue.requests.push_back(Request { key, entry, since, answer });
        }
        self.wake.notify_one();
        Some(Reading { entry, answer: receiver, read: None })
    }

    fn run(&self, store: &Store<Label>, slow: Duration) {
        loop {
            let (request, records) = {
                let queue = lock(&self.queue);
                let is_idle = |queue: &mut Queue| queue.requests.is_empty() && !queue.ends;
                let woken = self.wake.wait_while(queue, is_idle);
                let mut queue = woken.unwrap_or_else(PoisonError::into_inner);
                if queue.ends {
                    return;
                }
                let Some(request) = queue.requests.pop_front() else { continue };
                let Some(records) = queue.records.clone() else { continue };
                self.reading.fetch_add(1, Relaxed);
                (request, records)
            };
            let Request { key, entry, since, answer } = request;
            if answer.is_closed() {
                self.late.fetch_add(1, Relaxed);
                self.reading.fetch_sub(1, Relaxed);
                continue;
            }
            let read = records.read(key.0).and_then(|record| {
                let answer = record.and_then(|record| record::read_answer(&record, &entry));
                answer.ok_or(FileError::Damaged)
            });
            if !slow.is_zero() {
                std::thread::sleep(slow);
            }
            // The last one closes the file, and redb may look at it once more.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(records)));
            let bytes = read.as_ref().map_or(0, |answer| answer.all().len());
            self.reading.fetch_sub(1, Relaxed);
            self.figures.note(since.elapsed(), bytes as u64, false);
            match read {
                // Who asked may have gone: then it is late.
                Ok(read) => {
                    if answer.send(read).is_err() {
                        self.late.fetch_add(1, Relaxed);
                    }
                }
                // It may also have been dropped meanwhile, and then its record is rightly gone.
                Err(why) => {
                    if store.lose(key, &entry) {
                        let lost = store.figures().lost;
                        if lost.is_power_of_two() {
                            tracing::warn!(%why, lost, "an answer on disk can't be read, and is dropped");
                        }
                    }
                }
            }
        }
    }
}
