//! How far the reader has applied, and who waits for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::Lsn;

/// The applied position.
#[derive(Default)]
pub(crate) struct Position {
    applied: AtomicU64,
    /// How often the cache was flushed: positions before and after may not compare.
    flushes: AtomicU64,
    waiting: AtomicUsize,
    next: AtomicU64,
    waiters: Mutex<BTreeMap<(Lsn, u64), Waker>>,
}

impl Position {
    pub(crate) fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::SeqCst))
    }

    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::SeqCst)
    }

    pub(crate) fn advance(&self, position: Lsn) {
        self.applied.fetch_max(position.0, Ordering::SeqCst);
        // A waiter counts itself before it looks at the position, so one of the two sees the other.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let reached = {
                let mut waiters = self.waiters();
                let later = waiters.split_off(&(position, u64::MAX));
                let reached = std::mem::replace(&mut *waiters, later);
                self.waiting.store(waiters.len(), Ordering::SeqCst);
                reached
            };
            reached.into_values().for_each(Waker::wake);
        }
    }

    pub(crate) fn flush(&self) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.applied.store(0, Ordering::SeqCst);
        let all = {
            let mut waiters = self.waiters();
            self.waiting.store(0, Ordering::SeqCst);
            std::mem::take(&mut *waiters)
        };
        all.into_values().for_each(Waker::wake);
    }

    pub(crate) fn reached(self: &Arc<Self>, position: Lsn) -> Reached {
        Reached {
            flushes: self.flushes(),
            id: self.next.fetch_add(1, Ordering::SeqCst),
            wanted: position,
            position: Arc::clone(self),
        }
    }

    fn waiters(&self) -> MutexGuard<'_, BTreeMap<(Lsn, u64), Waker>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until the reader has applied a position, or the cache was flushed and there is nothing to wait for.
pub struct Reached {
    position: Arc<Position>,
    wanted: Lsn,
    flushes: u64,
    id: u64,
}

impl Reached {
    /// Ready when it is so; otherwise wakes the task when it may be.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        {
            let mut waiters = self.position.waiters();
            waiters.insert((self.wanted, self.id), context.waker().clone());
            self.position.waiting.store(waiters.len(), Ordering::SeqCst);
        }
        if self.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn is_over(&self) -> bool {
        self.position.applied() >= self.wanted || self.position.flushes() != self.flushes
    }
}

impl Future for Reached {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Self::poll(&mut self, context)
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        let mut waiters = self.position.waiters();
        waiters.remove(&(self.wanted, self.id));
        self.position.waiting.store(waiters.len(), Ordering::SeqCst);
    }
}
