//! What goes wrong with a request, drawn at random.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Well.
    None,
    /// Well, but not soon.
    Slow,
    /// 500.
    Error,
    /// 503, with the wish to be left alone for a second.
    Busy,
    /// 404, of something in between that knows nothing of models.
    Elsewhere,
    /// The connection ends before anything was done.
    CutBefore,
    /// The connection ends when all was done.
    CutAfter,
    /// Nothing is done, and nothing is answered.
    HangBefore,
    /// All is done, and nothing is answered.
    HangAfter,
}

impl Fault {
    /// Whether the request does what it is for.
    pub const fn takes_effect(self) -> bool {
        matches!(self, Self::None | Self::Slow | Self::CutAfter | Self::HangAfter)
    }
}

/// Of a hundred failures. Few hang, as each keeps a worker of a sidecar until its timeout.
const FAILURES: [(Fault, u64); 7] = [
    (Fault::Error, 25),
    (Fault::Busy, 20),
    (Fault::Elsewhere, 15),
    (Fault::CutBefore, 17),
    (Fault::CutAfter, 17),
    (Fault::HangBefore, 3),
    (Fault::HangAfter, 3),
];

/// Draws for many threads.
#[derive(Debug)]
pub struct Faults {
    drawn: AtomicU64,
    seed: u64,
    /// Failures of a hundred requests.
    percent: AtomicU64,
}

impl Faults {
    /// So many of a hundred requests fail.
    pub const fn new(seed: u64, percent: u64) -> Self {
        Self { drawn: AtomicU64::new(0), seed, percent: AtomicU64::new(percent) }
    }

    /// From now on so many fail.
    pub fn set(&self, percent: u64) {
        self.percent.store(percent, Ordering::Relaxed);
    }

    /// The next one.
    pub fn draw(&self) -> Fault {
        let drawn = mix(self.seed ^ self.drawn.fetch_add(1, Ordering::Relaxed));
        let percent = self.percent.load(Ordering::Relaxed);
        if drawn % 100 >= percent {
            return if (drawn / 100).is_multiple_of(5) { Fault::Slow } else { Fault::None };
        }
        let mut left = drawn / 100 % 100;
        for (fault, weight) in FAILURES {
            if left < weight {
                return fault;
            }
            left -= weight;
        }
        Fault::Error
    }

    /// A number below another, as random as the rest.
    pub fn below(&self, end: u64) -> u64 {
        mix(self.seed ^ self.drawn.fetch_add(1, Ordering::Relaxed)) % end
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): numbers that follow one
/// another become numbers without a pattern.
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_fail_as_were_asked_for_and_in_every_way() {
        let faults = Faults::new(1, 30);
        let drawn: Vec<_> = (0..10_000).map(|_| faults.draw()).collect();
        let failed = drawn.iter().filter(|fault| !matches!(fault, Fault::None | Fault::Slow));
        assert!((2800..3200).contains(&failed.count()));
        for (fault, _) in FAILURES {
            assert!(drawn.contains(&fault), "{fault:?}");
        }
        faults.set(0);
        assert!((0..1000).all(|_| matches!(faults.draw(), Fault::None | Fault::Slow)));
    }
}
