//! How long an answer may be kept that replication cannot see.
//!
//! Changes are taken for a Poisson process: at rate λ, an answer is unchanged after a time t with probability
//! e^(-λt).
//!
//! **The rate.** Each time an answer is read again, it is known whether it changed since it was read before, not
//! how often. With n readings at equal intervals I, of which X found a change, Cho and Garcia-Molina
//! ("Estimating Frequency of Change", ACM Transactions on Internet Technology 3(3), 2003) give an estimator with
//! little bias, λ = -log((n - X + 0.5) / (n + 0.5)) / I. For intervals that differ, they give the equation of
//! greatest likelihood, Σ over changed t/(e^(λt) - 1) = Σ over unchanged t. The former is the latter with half an
//! unchanged interval more; so here half an interval of mean length is added to the right side. With equal
//! intervals it is their estimator exactly, and it has a solution also if every interval has seen a change.
//!
//! No change at all gives λ = 0, which nobody should believe: the rate is at least that at which the time watched
//! would have passed without a change with probability 1/2, ln 2 / Σt.
//!
//! **The time.** Kept for τ and then read again, an answer is stale for the share 1 - (1 - e^(-x))/x of the time,
//! x = λτ (Cho and Garcia-Molina, "Synchronizing a Database to Improve Freshness", SIGMOD 2000). That grows with
//! x, and stays below x/2. The recommended time is the longest whose share is at most ε.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::Key;

/// Intervals remembered: the last ones, so that the estimate follows a rate that changes.
const INTERVALS: usize = 128;
/// Keys of a template watched at once.
const KEYS: usize = 32;
/// How long a watched key that is not read again keeps out others.
const TURN: Duration = Duration::from_secs(60);

/// How often the answers of a template change.
#[derive(Clone, Debug)]
pub struct ChangeRate {
    watched: Box<[Option<Watched>]>,
    intervals: VecDeque<Interval>,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    key: Key,
    hash: u64,
    read: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    seconds: f64,
    has_changed: bool,
}

impl Default for ChangeRate {
    fn default() -> Self {
        Self { watched: vec![None; KEYS].into(), intervals: VecDeque::new() }
    }
}

impl ChangeRate {
    /// Notes that the answer to `key`, read at the origin, has this hash.
    pub fn observe(&mut self, key: Key, hash: u64, read: Instant) {
        let place = crate::index::mix(key) as usize % KEYS;
        if let Some(known) = self.watched[place] {
            let since = read.saturating_duration_since(known.read);
            if known.key == key {
                self.note(since.as_secs_f64(), known.hash != hash);
            } else if since < TURN {
                return;
            }
        }
        self.watched[place] = Some(Watched { key, hash, read });
    }

    fn note(&mut self, seconds: f64, has_changed: bool) {
        if seconds > 0.0 {
            self.intervals.push_back(Interval { seconds, has_changed });
            if self.intervals.len() > INTERVALS {
                self.intervals.pop_front();
            }
        }
    }

    /// How many intervals the estimate rests on.
    pub fn intervals(&self) -> usize {
        self.intervals.len()
    }

    /// Changes a second; none if nothing was read twice.
    pub fn per_second(&self) -> Option<f64> {
        let watched: f64 = self.intervals.iter().map(|interval| interval.seconds).sum();
        if watched <= 0.0 {
            return None;
        }
        let mean = watched / self.intervals.len() as f64;
        let (changed, unchanged): (Vec<&Interval>, _) =
            self.intervals.iter().partition(|interval| interval.has_changed);
        let unchanged: f64 = unchanged.iter().map(|interval| interval.seconds).sum();
        let right = unchanged + mean / 2.0;
        // Falls with the rate. It is above `right` below `low`, as each term is at most 1/rate.
        let left = |rate: f64| -> f64 {
            changed
                .iter()
                .map(|interval| interval.seconds / (rate * interval.seconds).exp_m1())
                .sum()
        };
        let floor = std::f64::consts::LN_2 / watched;
        let high = changed.len() as f64 / right;
        if changed.is_empty() || left(floor) <= right {
            return Some(floor);
        }
        // t/(e^(λt) - 1) <= 1/λ, so at n/right the left side is no more than the right one.
        Some(bisect(floor, high.max(floor), |rate| left(rate) > right))
    }

    /// The longest time whose expected stale share is at most `epsilon`, kept within bounds. The shortest if
    /// nothing is known.
    pub fn recommended(&self, epsilon: f64, bounds: RangeInclusive<Duration>) -> Duration {
        let (shortest, longest) = bounds.into_inner();
        let Some(rate) = self.per_second() else { return shortest };
        let seconds = longest_within(epsilon) / rate;
        Duration::try_from_secs_f64(seconds).map_or(longest, |time| time.min(longest).max(shortest))
    }
}

/// The share of its time that an answer is stale that is kept for `x` mean times between changes.
pub fn stale_share(x: f64) -> f64 {
    if x < 1e-6 { x / 2.0 } else { 1.0 + (-x).exp_m1() / x }
}

/// The greatest x whose stale share is at most `epsilon`.
fn longest_within(epsilon: f64) -> f64 {
    if epsilon.is_nan() || epsilon <= 0.0 {
        return 0.0;
    }
    // The share is above 1 - 1/x.
    let high = if epsilon < 1.0 { 1.0 / (1.0 - epsilon) } else { return f64::INFINITY };
    bisect(0.0, high, |x| stale_share(x) <= epsilon)
}

/// Where `is_below` turns from true to false, from below.
fn bisect(mut low: f64, mut high: f64, is_below: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..200 {
        let middle = f64::midpoint(low, high);
        if is_below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(intervals: &[(f64, bool)]) -> ChangeRate {
        let mut rate = ChangeRate::default();
        intervals.iter().for_each(|(seconds, changed)| rate.note(*seconds, *changed));
        rate
    }

    #[test]
    fn equal_intervals_give_the_estimator_of_the_paper() {
        for (n, x) in [(10, 3), (10, 10), (50, 49), (100, 20)] {
            let intervals: Vec<_> = (0..n).map(|number| (4.0, number < x)).collect();
            let (n, x) = (f64::from(n), f64::from(x));
            let paper = -((n - x + 0.5) / (n + 0.5)).ln() / 4.0;
            let ours = rate(&intervals).per_second().expect("observed");
            assert!((ours - paper).abs() < 1e-9 * paper, "{n} {x}: {ours} {paper}");
        }
    }

    #[test]
    fn unequal_intervals_find_the_rate() {
        // A process at 0.2/s, read at times that differ, all by a fixed pseudo-random sequence.
        let mut state = 88_172_645_463_325_252_u64;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut sum = 0.0;
        for _ in 0..200 {
            let intervals: Vec<_> = (0..INTERVALS)
                .map(|_| {
                    let seconds = 0.5 + 15.0 * uniform();
                    (seconds, uniform() > (-0.2 * seconds).exp())
                })
                .collect();
            sum += rate(&intervals).per_second().expect("observed");
        }
        assert!((sum / 200.0 - 0.2).abs() < 0.01, "{}", sum / 200.0);
    }

    #[test]
    fn the_recommended_time_keeps_its_promise() {
        let rate = rate(&[(10.0, true), (10.0, false), (3.0, false), (20.0, true)]);
        let per_second = rate.per_second().expect("observed");
        let bounds = Duration::ZERO..=Duration::from_secs(86_400);
        for epsilon in [0.001, 0.05, 0.5, 0.9] {
            let x = rate.recommended(epsilon, bounds.clone()).as_secs_f64() * per_second;
            assert!((stale_share(x) - epsilon).abs() < 1e-6, "{epsilon}");
        }
        assert_eq!(rate.recommended(1.0, bounds.clone()), *bounds.end());
        assert_eq!(rate.recommended(0.0, bounds.clone()), *bounds.start());
    }

    #[test]
    fn nothing_known_gives_the_shortest_and_no_change_a_share_of_what_was_watched() {
        let bounds = Duration::from_secs(1)..=Duration::from_secs(86_400);
        assert_eq!(ChangeRate::default().recommended(0.1, bounds.clone()), Duration::from_secs(1));
        let still = rate(&[(100.0, false); 10]);
        let time = still.recommended(0.1, bounds).as_secs_f64();
        assert!((200.0..400.0).contains(&time), "{time}");
    }
}
