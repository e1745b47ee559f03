//! Single flight: of many who miss one key at once, one asks the origin and the others wait for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::Key;

/// The misses under way.
#[derive(Default)]
pub struct Flights {
    under_way: Mutex<HashMap<Key, Arc<Flight>>>,
}

/// What somebody who misses a key does.
pub enum Joined {
    /// Ask the origin.
    Lead(Leader),
    /// Wait, then look again.
    Follow(Follower),
}

/// One miss under way.
#[derive(Default)]
struct Flight {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_over: bool,
    next: u64,
    waiting: Vec<(u64, Waker)>,
}

impl Flight {
    // Nothing under these locks panics half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flights {
    /// None under way.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Leads if nobody does, else follows.
    pub fn join(self: &Arc<Self>, key: Key) -> Joined {
        match self.under_way().entry(key) {
            Entry::Vacant(place) => {
                let flight = Arc::clone(place.insert(Arc::default()));
                Joined::Lead(Leader { flights: Arc::clone(self), flight, key })
            }
            Entry::Occupied(flight) => {
                let flight = Arc::clone(flight.get());
                let id = {
                    let mut state = flight.state();
                    state.next += 1;
                    state.next
                };
                Joined::Follow(Follower { flight, id })
            }
        }
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.under_way().len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Key, Arc<Flight>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the origin. Dropping it, for whatever reason, wakes who follows.
pub struct Leader {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    key: Key,
}

impl Drop for Leader {
    fn drop(&mut self) {
        // First out of the map, so that nobody joins what is over.
        self.flights.under_way().remove(&self.key);
        let waiting = {
            let mut state = self.flight.state();
            state.is_over = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

/// Waits for the one who asks.
pub struct Follower {
    flight: Arc<Flight>,
    id: u64,
}

impl Follower {
    /// Ready when the leader is done, well or badly.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.flight.state();
        if state.is_over {
            return Poll::Ready(());
        }
        match state.waiting.iter_mut().find(|(id, _)| *id == self.id) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => state.waiting.push((self.id, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Future for Follower {
    type Output = ();

    fn poll(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Self::poll(&mut self, context)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.flight.state().waiting.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn follow(flights: &Arc<Flights>, key: Key) -> Follower {
        match flights.join(key) {
            Joined::Follow(follower) => follower,
            Joined::Lead(_) => panic!("somebody leads already"),
        }
    }

    #[test]
    fn followers_are_woken_when_the_leader_goes() {
        let flights = Flights::new();
        let Joined::Lead(leader) = flights.join(Key(1)) else { panic!("nobody else") };
        let (mut first, mut second) = (follow(&flights, Key(1)), follow(&flights, Key(1)));
        let woken = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        assert!(first.poll(&mut context).is_pending());
        assert!(first.poll(&mut context).is_pending());
        assert!(second.poll(&mut context).is_pending());
        drop(second);
        let mut late = follow(&flights, Key(1));
        drop(leader);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(first.poll(&mut context).is_ready() && late.poll(&mut context).is_ready());
        assert!(flights.is_empty());
        assert!(matches!(flights.join(Key(1)), Joined::Lead(_)));
    }

    #[test]
    fn followers_that_vanish_leave_nothing() {
        let flights = Flights::new();
        let Joined::Lead(leader) = flights.join(Key(1)) else { panic!("nobody else") };
        for _ in 0..10 {
            let mut follower = follow(&flights, Key(1));
            assert!(follower.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(leader.flight.state().waiting.is_empty());
    }
}
