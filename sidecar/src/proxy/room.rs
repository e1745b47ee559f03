//! What the prepared statements of a cache's clients take together, so that no client takes the memory of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that a statement takes besides its texts, and a name besides its letters, about.
pub(super) const EACH: usize = 256;

/// Bytes that may be taken. A cache that comes in the place of another goes on with its room. One may be a part of a
/// larger one.
#[derive(Debug)]
pub(crate) struct Room {
    most: AtomicUsize,
    taken: AtomicUsize,
    of: Option<Arc<Room>>,
}

impl Room {
    pub(crate) const fn new(most: usize, of: Option<Arc<Self>>) -> Self {
        Self { most: AtomicUsize::new(most), taken: AtomicUsize::new(0), of }
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

    /// How much may be taken where nothing more is to be.
    pub(super) fn limit_reached(&self) -> Option<usize> {
        if self.taken() >= self.most() {
            return Some(self.most());
        }
        self.of.as_ref().and_then(|of| of.limit_reached())
    }

    /// Counts so many bytes until what is returned is dropped, also where there is no room: it is asked before.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Taken {
        let mut room = Some(self);
        while let Some(one) = room {
            one.taken.fetch_add(bytes, Relaxed);
            room = one.of.as_ref();
        }
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
        let mut room = Some(&self.room);
        while let Some(one) = room {
            one.taken.fetch_sub(self.bytes, Relaxed);
            room = one.of.as_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let room = Arc::new(Room::new(10, None));
        let first = room.take(9);
        assert_eq!(room.limit_reached(), None);
        let second = room.take(9);
        assert_eq!(room.limit_reached(), Some(10));
        drop(first);
        assert_eq!(room.limit_reached(), None);
        room.set_most(9);
        assert_eq!(room.limit_reached(), Some(9));
        drop(second);
        assert_eq!(room.limit_reached(), None);
    }

    #[test]
    fn what_is_a_part_of_another_takes_from_it() {
        let all = Arc::new(Room::new(10, None));
        let part = || Arc::new(Room::new(6, Some(Arc::clone(&all))));
        let (one, other) = (part(), part());
        let taken = [one.take(5), other.take(5)];
        assert_eq!(one.limit_reached(), Some(10));
        drop(taken);
        let _taken = one.take(6);
        assert_eq!((one.limit_reached(), other.limit_reached()), (Some(6), None));
    }
}
