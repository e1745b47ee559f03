//! Whether an endpoint answers at all. One that doesn't is asked by one request at a time, more and more seldom: its
//! events wait, and none is given up for that.

use std::time::{Duration, Instant};

/// The first and the longest time between two questions.
const WAIT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// Requests in a row without an answer after which the endpoint counts as down. One may be the fault of its event.
const IN_A_ROW: u32 = 3;

/// What is known of the endpoint.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
}

#[derive(Debug)]
enum State {
    /// It answers; or so many requests in a row had no answer.
    Up(u32),
    Down {
        until: Instant,
        wait: Duration,
    },
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self { state: State::Up(0) }
    }

    /// Until when nothing may be sent, if it is down.
    pub(super) const fn until(&self) -> Option<Instant> {
        match self.state {
            State::Up(_) => None,
            State::Down { until, .. } => Some(until),
        }
    }

    /// Whether another request may be sent while so many are on their way.
    pub(super) fn allows(&self, now: Instant, under_way: usize) -> bool {
        self.until().is_none_or(|until| under_way == 0 && until <= now)
    }

    /// It has answered, whatever it said; true if it was down.
    pub(super) const fn answered(&mut self) -> bool {
        let was_down = self.until().is_some();
        self.state = State::Up(0);
        was_down
    }

    /// It has not answered. `surely`: there is no connection, so it is not for the request.
    pub(super) fn silent(&mut self, now: Instant, surely: bool, random: f64) {
        self.state = match self.state {
            State::Up(before) if !surely && before + 1 < IN_A_ROW => State::Up(before + 1),
            State::Up(_) => {
                State::Down { until: now + WAIT.0.mul_f64(0.8 + 0.4 * random), wait: WAIT.0 }
            }
            // Of those that were on their way when it went down.
            State::Down { until, wait } if until > now => State::Down { until, wait },
            State::Down { wait, .. } => {
                let wait = (wait * 2).min(WAIT.1);
                State::Down { until: now + wait.mul_f64(0.8 + 0.4 * random), wait }
            }
        };
    }

    /// It wants to be left alone for this long.
    pub(super) fn pause(&mut self, until: Instant) {
        self.state = State::Down { until, wait: WAIT.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_without_an_answer_is_not_an_endpoint_that_is_down() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        breaker.silent(now, false, 0.5);
        breaker.silent(now, false, 0.5);
        assert!(breaker.allows(now, 3));
        assert!(!breaker.answered(), "it was not down");
        breaker.silent(now, false, 0.5);
        breaker.silent(now, false, 0.5);
        assert!(breaker.allows(now, 3));
        breaker.silent(now, false, 0.5);
        assert!(!breaker.allows(now, 0));
    }

    #[test]
    fn what_is_down_is_asked_by_one_at_a_time_and_more_and_more_seldom() {
        let (mut breaker, start) = (Breaker::new(), Instant::now());
        breaker.silent(start, true, 0.5);
        breaker.silent(start, true, 0.5);
        let mut waits = Vec::new();
        let mut now = start;
        for _ in 0..9 {
            let until = breaker.until().expect("it is down");
            assert!(!breaker.allows(now, 0));
            waits.push((until - now).as_millis());
            now = until;
            assert!(breaker.allows(now, 0) && !breaker.allows(now, 1));
            breaker.silent(now, true, 0.5);
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert!(breaker.answered());
        assert!(breaker.allows(now, 1));
    }
}
