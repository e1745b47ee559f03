//! Leaky buckets in the form of GCRA (ITU-T I.371): of each key one instant is kept, the time at which all that it took
//! will be forgotten. A limiter crate would do the same, but none of the usual ones can give back what was taken, or
//! tell what is left.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Below this many keys nobody looks for ones to forget.
const FEW: usize = 1_000;

/// A bucket for each key. A key whose bucket is empty takes no memory beyond the next sweep.
pub(crate) struct Buckets<K> {
    /// What a key may take at once.
    burst: u32,
    /// How long until one that was taken is forgotten.
    forget: Duration,
    /// When all that a key took will be forgotten.
    clear_at: HashMap<K, Instant>,
    /// With this many keys, those that are clear are dropped.
    sweep_at: usize,
}

/// What a key has after it took one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// What it may take now.
    pub(crate) count: u32,
    /// How long until it may take all again.
    pub(crate) clear_in: Duration,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Buckets of `burst`, each of which forgets one after every `forget`.
    pub(crate) fn new(burst: u32, forget: Duration) -> Self {
        Self { burst: burst.max(1), forget, clear_at: HashMap::new(), sweep_at: FEW }
    }

    /// Takes one. Errors with the time to wait when there is none left.
    pub(crate) fn take(&mut self, key: &K, now: Instant) -> Result<Left, Duration> {
        let clear_at = self.clear_at.get(key).map_or(now, |at| (*at).max(now));
        let room = self.forget * (self.burst - 1);
        let taken = clear_at.duration_since(now);
        let wait = taken.saturating_sub(room);
        if !wait.is_zero() {
            return Err(wait);
        }
        if self.clear_at.len() >= self.sweep_at {
            self.clear_at.retain(|_, at| *at > now);
            // Twice what is left: sweeping costs a constant a key, however many there are.
            self.sweep_at = FEW.max(self.clear_at.len() * 2);
        }
        self.clear_at.insert(key.clone(), clear_at + self.forget);
        let count = (room - taken).as_nanos().checked_div(self.forget.as_nanos());
        // At most the burst, which is a u32.
        let count = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(self.burst);
        Ok(Left { count, clear_in: taken + self.forget })
    }

    /// How long until a key may take one; nothing if it may now.
    pub(crate) fn wait(&self, key: &K, now: Instant) -> Duration {
        let taken =
            self.clear_at.get(key).map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        taken.saturating_sub(self.forget * (self.burst - 1))
    }

    /// Gives one back.
    pub(crate) fn give_back(&mut self, key: &K) {
        if let Some(at) = self.clear_at.get_mut(key)
            && let Some(earlier) = at.checked_sub(self.forget)
        {
            *at = earlier;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_spent_and_comes_back_one_by_one() {
        let (mut buckets, now) = (Buckets::new(3, SECOND), Instant::now());
        let left = |count, secs| Ok(Left { count, clear_in: SECOND * secs });
        assert_eq!(buckets.take(&"a", now), left(2, 1));
        assert_eq!(buckets.take(&"a", now), left(1, 2));
        assert_eq!(buckets.take(&"b", now), left(2, 1), "another key is another's");
        assert_eq!(buckets.take(&"a", now), left(0, 3));
        assert_eq!(buckets.take(&"a", now), Err(SECOND));
        assert_eq!((buckets.wait(&"a", now), buckets.wait(&"b", now)), (SECOND, Duration::ZERO));
        assert_eq!(buckets.take(&"a", now + SECOND / 2), Err(SECOND / 2));
        assert_eq!(buckets.take(&"a", now + SECOND), left(0, 3));
        assert_eq!(buckets.take(&"a", now + SECOND * 5), left(2, 1));
        buckets.give_back(&"a");
        assert_eq!(buckets.take(&"a", now + SECOND * 5), left(2, 1));
    }

    #[test]
    fn what_is_forgotten_takes_no_memory() {
        let mut buckets = Buckets::new(3, SECOND);
        let mut now = Instant::now();
        for n in 0..20 * FEW {
            now += SECOND;
            assert!(buckets.take(&n, now).is_ok());
            assert!(buckets.clear_at.len() <= FEW);
        }
    }
}
