//! When what failed is tried again.

use std::time::Duration;

use rand::Rng;

use crate::sync::settings::SyncSettings;

/// Waits between attempts: each twice as long as the one before, up to a limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    first: Duration,
    most: Duration,
}

impl Retry {
    pub(crate) fn new(settings: &SyncSettings) -> Self {
        let first = Duration::from_secs(settings.retry_secs.max(1));
        Self { first, most: Duration::from_secs(settings.max_retry_secs).max(first) }
    }

    /// Seconds until the next attempt, after so many. Spread by a fifth, so that what failed together does not come back
    /// together. If whoever was asked wants more time, it gets it.
    pub(super) fn after(&self, attempts: i32, asked: Option<Duration>) -> f64 {
        let doubled = u32::try_from(attempts.clamp(1, 30) - 1).unwrap_or_default();
        let wait = self.first.saturating_mul(2_u32.saturating_pow(doubled)).min(self.most);
        let wait = wait.as_secs_f64() * rand::rng().random_range(0.8..1.2);
        // A day is as long as anybody may ask for.
        wait.max(asked.map_or(0.0, |asked| asked.as_secs_f64().min(86_400.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_limit_and_give_who_asks_the_time() {
        let settings = SyncSettings { retry_secs: 1, max_retry_secs: 60, ..Default::default() };
        let retry = Retry::new(&settings);
        for (attempts, about) in [(0, 1.0), (1, 1.0), (3, 4.0), (7, 60.0), (i32::MAX, 60.0)] {
            let wait = retry.after(attempts, None);
            assert!((about * 0.79..about * 1.21).contains(&wait), "{attempts}: {wait}");
        }
        assert!((retry.after(1, Some(Duration::from_secs(90))) - 90.0).abs() < 0.1);
        assert!(retry.after(1, Some(Duration::MAX)) <= 86_400.0);
    }
}
