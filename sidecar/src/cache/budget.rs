//! The memory that several caches may take together: of those that are made over REST, nobody else adds up what each may.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module. All clones are one.
#[derive(Clone)]
pub struct Budget {
    most: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    bytes: usize,
    /// How often something was given back.
    returns: u64,
}

/// A part of a budget, until it is dropped.
pub(crate) struct Claim {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are so many bytes, once `given_up` of those that are taken are given back. The error says why not, of
    /// whatever it is that takes them.
    pub(crate) fn check(&self, bytes: usize, given_up: usize) -> Result<(), String> {
        self.fits(&self.lock(), bytes, given_up)
    }

    fn fits(&self, taken: &Taken, bytes: usize, given_up: usize) -> Result<(), String> {
        if taken.bytes.saturating_sub(given_up).saturating_add(bytes) <= self.most {
            return Ok(());
        }
        Err(format!(
            "finds no room: the caches of all workspaces may keep {} bytes together, and not so many are left",
            self.most
        ))
    }

    /// Takes so many bytes; `given_up` of those that are taken are about to be given back.
    pub(crate) fn claim(&self, bytes: usize, given_up: usize) -> Result<Claim, String> {
        let mut taken = self.lock();
        self.fits(&taken, bytes, given_up)?;
        taken.bytes += bytes;
        Ok(Claim { budget: self.clone(), bytes })
    }

    /// Changes whenever something was given back.
    pub(crate) fn returns(&self) -> u64 {
        self.lock().returns
    }
}

impl fmt::Debug for Budget {
    /// Always the same: what is taken says nothing about settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("most", &self.most).finish_non_exhaustive()
    }
}

impl Claim {
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = self.budget.lock();
        taken.bytes -= self.bytes;
        taken.returns += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_and_comes_back() {
        let budget = Budget::new(100);
        let first = budget.claim(60, 0).expect("there is room");
        assert!(budget.claim(41, 0).is_err() && budget.check(41, 0).is_err());
        assert!(budget.check(usize::MAX, 0).is_err());
        // In place of the first, for a moment beside it.
        let second = budget.claim(90, first.bytes()).expect("there is room when the first is gone");
        assert!(budget.claim(1, 0).is_err());
        let before = budget.returns();
        drop(first);
        assert!(budget.returns() != before && budget.claim(11, 0).is_err());
        drop((budget.claim(10, 0).expect("there is room"), second));
        assert!(budget.claim(100, 0).is_ok());
    }
}
