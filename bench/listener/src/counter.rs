//! Finds the events of the benchmark's table in what was received.
//!
//! Events are not parsed, which would cost more than all else here: as the table's columns are, each has once
//! `"record":{"id":ID,"sent_at":MICROS`. The sum of the ids tells whether each came, and came once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use memchr::memmem::Finder;
use serde_json::json;
use tokio::sync::Notify;

const RECORD: &[u8] = br#""record":{"id":"#;
const SENT_AT: &[u8] = br#","sent_at":"#;

/// The events of one receiver, which may have several connections.
pub(crate) struct Counter {
    record: Finder<'static>,
    expected: usize,
    counted: Mutex<Counted>,
    done: Notify,
}

#[derive(Default)]
struct Counted {
    first: u64,
    last: u64,
    sum: u64,
    /// Microseconds from what is in `sent_at` until it was here.
    took: Vec<u32>,
    largest: (usize, Vec<u8>),
}

impl Counter {
    /// Of one that is done when it has so many.
    pub(crate) fn new(expected: usize) -> Arc<Self> {
        let counted = Counted { took: Vec::with_capacity(expected), ..Counted::default() };
        let record = Finder::new(RECORD);
        Arc::new(Self { record, expected, counted: Mutex::new(counted), done: Notify::new() })
    }

    /// Counts the events in these bytes, which came at `now`; gives how many there are.
    pub(crate) fn count(&self, mut bytes: &[u8], now: u64) -> usize {
        let mut counted = self.counted();
        let before = counted.took.len();
        while let Some(at) = self.record.find(bytes) {
            let (id, rest) = digits(&bytes[at + RECORD.len()..]);
            let sent = rest.strip_prefix(SENT_AT).map_or(0, |rest| digits(rest).0);
            counted.add(id, sent, now);
            bytes = rest;
        }
        self.tell(&counted);
        counted.took.len() - before
    }

    /// Counts one event that was found otherwise.
    pub(crate) fn add(&self, id: u64, sent: u64, now: u64) {
        let mut counted = self.counted();
        counted.add(id, sent, now);
        self.tell(&counted);
    }

    /// Keeps this if no other had as many events.
    pub(crate) fn keep(&self, bytes: &[u8], events: usize) {
        let mut counted = self.counted();
        if events > counted.largest.0 {
            counted.largest = (events, bytes.to_vec());
        }
    }

    /// What was kept.
    pub(crate) fn largest(&self) -> Vec<u8> {
        std::mem::take(&mut self.counted().largest.1)
    }

    /// Whether all are there.
    pub(crate) fn is_done(&self) -> bool {
        self.counted().took.len() >= self.expected
    }

    /// Waits until they are.
    pub(crate) async fn done(&self) {
        if !self.is_done() {
            self.done.notified().await;
        }
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, counted: &Counted) {
        if counted.took.len() >= self.expected {
            self.done.notify_one();
        }
    }
}

impl Counted {
    fn add(&mut self, id: u64, sent: u64, now: u64) {
        if self.took.is_empty() {
            self.first = now;
        }
        self.last = now;
        self.sum += id;
        self.took.push(now.saturating_sub(sent).try_into().unwrap_or(u32::MAX));
    }
}

/// What several receivers have counted, as JSON: `events`, and `least`, the fewest that one of them has got; `sum` of the
/// ids of their rows; `first_us` and `last_us`, when the first and last came; `p50_us`, `p99_us` and `max_us`, how long
/// they took.
pub(crate) fn report(counters: &[Arc<Counter>]) -> String {
    let mut all = Counted { first: u64::MAX, ..Counted::default() };
    let mut least = usize::MAX;
    for counter in counters {
        let counted = counter.counted();
        least = least.min(counted.took.len());
        all.sum += counted.sum;
        all.last = all.last.max(counted.last);
        if !counted.took.is_empty() {
            all.first = all.first.min(counted.first);
        }
        all.took.extend(&counted.took);
    }
    let first = (all.last > 0).then_some(all.first);
    all.took.sort_unstable();
    let quantile = |percent: usize| all.took.get(all.took.len() * percent / 100);
    json!({
        "events": all.took.len(), "least": least, "sum": all.sum, "first_us": first, "last_us": all.last,
        "p50_us": quantile(50), "p99_us": quantile(99), "max_us": all.took.last(),
    })
    .to_string()
}

/// Microseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The number that these bytes begin with, and what follows it.
pub(crate) fn digits(bytes: &[u8]) -> (u64, &[u8]) {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    let number = bytes[..end]
        .iter()
        .fold(0_u64, |number, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    (number, &bytes[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_counted_once() {
        let counter = Counter::new(3);
        let insert = br#"{"id":"1-2-3","key":{"id":7},"record":{"id":7,"sent_at":40,"payload":"x"},"old":null}"#;
        let two = br#"[{"record":{"id":8,"sent_at":30}},{"record":{"id":9,"sent_at":70}}]"#;
        assert_eq!(counter.count(insert, 50), 1);
        assert_eq!(counter.count(two, 60), 2);
        assert_eq!(counter.count(br#"{"type":"hello"}{"key":{"id":7},"record":null}"#, 70), 0);
        let report: serde_json::Value =
            serde_json::from_str(&report(&[counter])).expect("it is JSON");
        let expected = json!({"events": 3, "least": 3, "sum": 24, "first_us": 50, "last_us": 60,
            "p50_us": 10, "p99_us": 30, "max_us": 30});
        assert_eq!(report, expected);
    }
}
