//! How old what was delivered may be: the origin was asked how far it is, and the reader has got there.

use std::collections::VecDeque;
use std::time::Instant;

use integratedb_wire::Lsn;

/// Probes kept while the reader is behind. Beyond, the latest takes the place of the one before.
const KEPT: usize = 64;

/// Probes whose position is not yet applied, in order.
#[derive(Debug, Default)]
pub(super) struct Pending(VecDeque<(Instant, Lsn)>);

impl Pending {
    /// Notes that the origin was at `target` at some time after `asked`.
    pub(super) fn add(&mut self, asked: Instant, target: Lsn) {
        if self.0.len() == KEPT {
            self.0.pop_back();
        }
        self.0.push_back((asked, target));
    }

    /// The start of the latest probe that `applied` has reached. It and those before are forgotten.
    pub(super) fn reached(&mut self, applied: Lsn) -> Option<Instant> {
        let mut fresh = None;
        while let Some(&(asked, _)) = self.0.front().filter(|(_, target)| *target <= applied) {
            fresh = Some(asked);
            self.0.pop_front();
        }
        fresh
    }

    /// Whether any is not reached.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_latest_reached_probe_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pending = Pending::default();
        for (second, target) in [(1, 10), (2, 10), (3, 20)] {
            pending.add(at(second), Lsn(target));
        }
        assert_eq!(pending.reached(Lsn(9)), None);
        assert_eq!(pending.reached(Lsn(19)), Some(at(2)));
        assert_eq!(pending.reached(Lsn(19)), None);
        assert_eq!(pending.reached(Lsn(20)), Some(at(3)));
        assert!(pending.is_empty());
    }

    #[test]
    fn a_reader_far_behind_keeps_few_probes() {
        let start = Instant::now();
        let mut pending = Pending::default();
        for n in 0..1000 {
            pending.add(start + Duration::from_secs(n), Lsn(n));
        }
        assert_eq!(pending.0.len(), KEPT);
        assert_eq!(pending.reached(Lsn(2000)), Some(start + Duration::from_secs(999)));
    }
}
