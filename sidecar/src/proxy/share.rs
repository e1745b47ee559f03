//! How many clients some caches may have together, and what these may have the proxy remember, so that they leave room for
//! those of others.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::room::Room;

/// The clients of some caches. It may itself have a share of a larger one.
pub struct Share {
    /// Whose caches these are, for people.
    whose: &'static str,
    most: usize,
    clients: AtomicUsize,
    /// Of their prepared statements.
    room: Arc<Room>,
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
    /// `most` clients, and so many bytes of prepared statements.
    pub(crate) fn new(
        whose: &'static str,
        most: usize,
        statement_bytes: usize,
        of: Option<Arc<Self>>,
    ) -> Arc<Self> {
        let room = Room::new(statement_bytes, of.as_ref().map(|of| Arc::clone(&of.room)));
        Arc::new(Self { whose, most, clients: AtomicUsize::new(0), room: Arc::new(room), of })
    }

    pub(super) const fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// One more client, from its login on, until what is given is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Place, Full> {
        self.take()?;
        Ok(Place(Arc::clone(self)))
    }

    fn take(&self) -> Result<(), Full> {
        let more = |clients| (clients < self.most).then_some(clients + 1);
        if self.clients.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Err(Full { whose: self.whose, most: self.most });
        }
        let Some(of) = &self.of else { return Ok(()) };
        let taken = of.take();
        if taken.is_err() {
            self.clients.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    fn give_back(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
        if let Some(of) = &self.of {
            of.give_back();
        }
    }
}

/// There are as many clients as there may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) whose: &'static str,
    pub(crate) most: usize,
}

/// That of one client.
#[derive(Debug)]
pub(crate) struct Place(Arc<Share>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_most_and_all_have_theirs() -> Result<(), Full> {
        let all = Share::new("all", 3, 9, None);
        let (one, other) =
            (Share::new("one", 2, 9, Some(Arc::clone(&all))), Share::new("one", 2, 9, Some(all)));
        let (first, second) = (one.enter()?, one.enter()?);
        assert_eq!(one.enter().err(), Some(Full { whose: "one", most: 2 }));
        let third = other.enter()?;
        assert_eq!(other.enter().err(), Some(Full { whose: "all", most: 3 }));
        drop(first);
        let fourth = other.enter()?;
        drop((second, third, fourth));
        assert_eq!(
            (one.clients.load(Ordering::Relaxed), other.clients.load(Ordering::Relaxed)),
            (0, 0)
        );
        Ok(())
    }

    #[test]
    fn many_at_once_are_no_more() {
        let share = Share::new("one", 10, 9, None);
        let entered: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..10).filter_map(|_| share.enter().ok()).collect::<Vec<_>>())
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().expect("it does not panic"))
                .collect()
        });
        assert_eq!(entered.len(), 10);
    }
}
