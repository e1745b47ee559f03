//! Waits for a time that is the same for all, to some ten microseconds. A timer of tokio's waits for whole milliseconds, and
//! for up to one more, which would be much of what is measured.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Who waits, in the order in which they end.
#[derive(Clone)]
pub(crate) struct Delay {
    waiting: Sender<(Instant, oneshot::Sender<()>)>,
    time: Duration,
}

impl Delay {
    /// Of this time.
    pub(crate) fn new(time: Duration) -> Self {
        let (waiting, waits) = channel();
        std::thread::spawn(move || wake(&waits));
        Self { waiting, time }
    }

    /// Waits.
    pub(crate) async fn wait(&self) {
        let (wakes, woken) = oneshot::channel();
        let until = Instant::now() + self.time;
        if self.waiting.send((until, wakes)).is_ok() {
            // It is gone only where the thread is, at the end of all.
            let _ = woken.await;
        }
    }
}

fn wake(waits: &Receiver<(Instant, oneshot::Sender<()>)>) {
    for (until, wakes) in waits {
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        // Who waited may have given up.
        let _ = wakes.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_wait_at_once_and_none_too_short() {
        let delay = Delay::new(Duration::from_millis(5));
        let began = Instant::now();
        let mut waits = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let delay = delay.clone();
            waits.spawn(async move { delay.wait().await });
        }
        waits.join_all().await;
        assert!(began.elapsed() >= Duration::from_millis(5));
        assert!(began.elapsed() < Duration::from_millis(100), "they do not wait for each other");
    }
}
