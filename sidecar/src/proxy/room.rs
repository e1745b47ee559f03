//! What the prepared statements of a cache's clients take together, so that no client takes the memory of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that a statement takes besides its texts, and a name besides its letters, about.
pub(super) const EACH: usize = 256;

/// Bytes that may be taken. A cache that comes in the place of another goes on with its room.
#[derive(Debug)]
pub(crate) struct Room {
    most: AtomicUsize,
    taken: AtomicUsize,
}

impl Room {
    pub(crate) const fn new(most: usize) -> Self {
        Self { most: AtomicUsize::new(most), taken: AtomicUsize::new(0) }
    }

    /// Changes how much may be taken. What is taken beyond that stays.
    pub(crate) fn set_most(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// How many bytes are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    pub(super) fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// Whether nothing more is to be taken.
    pub(super) fn is_full(&self) -> bool {
        self.taken() >= self.most()
    }

    /// Counts so many bytes until what is returned is dropped, also where there is no room: it is asked before.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Taken {
        self.taken.fetch_add(bytes, Relaxed);
        Taken { room: Arc::clone(self), bytes }
    }
}

/// A part of a room, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let room = Arc::new(Room::new(10));
        let first = room.take(9);
        assert!(!room.is_full());
        let second = room.take(9);
        assert!(room.is_full());
        drop(first);
        assert!(!room.is_full());
        room.set_most(9);
        assert!(room.is_full());
        drop(second);
        assert!(!room.is_full());
    }
}
