//! When what failed is tried again.

use std::time::Duration;

use crate::http::LONGEST;

/// How long to wait after so many failures, from 1; `None` if it is given up. `random` is from 0 to 1: what failed
/// together does not come back together. An endpoint that asks for more time gets it.
pub(super) fn wait(
    schedule: &[Duration],
    failures: u32,
    asked: Option<Duration>,
    random: f64,
) -> Option<Duration> {
    let at = usize::try_from(failures).unwrap_or(usize::MAX).checked_sub(1)?;
    let wait = schedule.get(at)?.mul_f64(0.9 + 0.2 * random);
    Some(wait.max(asked.unwrap_or_default().min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_wait_until_there_is_none() {
        let schedule = [Duration::from_secs(5), Duration::from_secs(100)];
        let wait = |failures, asked: Option<u64>, random| {
            wait(&schedule, failures, asked.map(Duration::from_secs), random)
                .map(|wait| wait.as_secs_f64().round())
        };
        assert_eq!(wait(1, None, 0.5), Some(5.0));
        assert_eq!((wait(2, None, 0.0), wait(2, None, 1.0)), (Some(90.0), Some(110.0)));
        assert_eq!(wait(3, None, 0.5), None);
        assert_eq!(wait(3, Some(9), 0.5), None);
        assert_eq!((wait(1, Some(60), 0.5), wait(2, Some(60), 0.5)), (Some(60.0), Some(100.0)));
        assert_eq!(wait(1, Some(1 << 40), 0.5), Some(3600.0));
    }
}
