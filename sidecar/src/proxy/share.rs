//! How many clients some caches may have together, so that they leave room for those of others.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The clients of some caches. It may itself have a share of a larger one.
pub struct Share {
    /// Whose caches these are, for people.
    whose: &'static str,
    most: usize,
    clients: AtomicUsize,
    of: Option<Arc<Share>>,
}

/// Settings are told apart by how they print: what changes by itself is none.
impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share")
            .field("most", &self.most)
            .field("of", &self.of)
            .finish_non_exhaustive()
    }
}

impl Share {
    pub(crate) fn new(whose: &'static str, most: usize, of: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { whose, most, clients: AtomicUsize::new(0), of })
    }

    /// The first, from this one on, that has as many clients as it may have: whose caches these are, and how many.
    pub(crate) fn full(&self) -> Option<(&'static str, usize)> {
        if self.clients.load(Ordering::Relaxed) >= self.most {
            return Some((self.whose, self.most));
        }
        self.of.as_ref()?.full()
    }

    /// One more client, until what is given is dropped; also beyond the most, for those who log in at the same time.
    pub(crate) fn enter(self: &Arc<Self>) -> Place {
        self.count(|clients| clients.fetch_add(1, Ordering::Relaxed));
        Place(Arc::clone(self))
    }

    fn count(&self, change: impl Fn(&AtomicUsize) -> usize) {
        change(&self.clients);
        if let Some(of) = &self.of {
            of.count(change);
        }
    }
}

/// That of one client.
#[derive(Debug)]
pub(crate) struct Place(Arc<Share>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count(|clients| clients.fetch_sub(1, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_most_and_all_have_theirs() {
        let all = Share::new("all", 3, None);
        let (one, other) =
            (Share::new("one", 2, Some(Arc::clone(&all))), Share::new("one", 2, Some(all)));
        let first = one.enter();
        assert_eq!(one.full(), None);
        let second = one.enter();
        assert_eq!((one.full(), other.full()), (Some(("one", 2)), None));
        let third = other.enter();
        assert_eq!(other.full(), Some(("all", 3)));
        drop((first, third));
        assert_eq!((one.full(), other.full()), (None, None));
        drop(second);
        assert_eq!(one.clients.load(Ordering::Relaxed), 0);
    }
}
