//! When what is noted of a channel is written, and the figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::ChannelsError;
use super::store::{Figures, Progress};
use crate::notify::Notifications;

/// After something was delivered or failed, this is how much a crash may repeat.
const SOON: Duration = Duration::from_millis(200);

/// After nothing but changes that concern nobody.
const LATER: Duration = Duration::from_secs(2);

/// Writes how far a channel is.
pub(super) struct Ledger {
    notifications: Arc<Notifications>,
    channel: i64,
    lease: i64,
    due: Option<Instant>,
    failing_since: Option<Instant>,
    pub(super) figures: Figures,
}

impl Ledger {
    pub(super) fn new(
        notifications: Arc<Notifications>,
        channel: i64,
        lease: i64,
        failing_for: Option<Duration>,
    ) -> Self {
        let failing_since = failing_for.map(|time| {
            let now = Instant::now();
            now.checked_sub(time).unwrap_or(now)
        });
        Self {
            notifications,
            channel,
            lease,
            due: None,
            failing_since,
            figures: Figures::default(),
        }
    }

    /// When it is to be written next.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    fn within(&mut self, time: Duration) {
        let at = Instant::now() + time;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Changes were passed over.
    pub(super) fn passed(&mut self) {
        self.within(LATER);
    }

    /// So many events were delivered by one attempt.
    pub(super) fn succeeded(&mut self, events: usize) {
        self.figures.attempts += 1;
        self.figures.delivered += events as u64;
        self.failing_since = None;
        self.within(SOON);
    }

    /// An attempt failed; gives for how long nothing has gone well.
    pub(super) fn failed(&mut self, error: &str) -> Duration {
        self.figures.attempts += 1;
        self.figures.failures += 1;
        self.figures.last_error = Some(error.to_owned());
        self.within(SOON);
        self.failing_since.get_or_insert_with(Instant::now).elapsed()
    }

    /// Writes all of it, with the figures.
    pub(super) async fn write(&mut self, mut progress: Progress) -> Result<(), ChannelsError> {
        self.due = None;
        progress.figures = std::mem::take(&mut self.figures);
        progress.figures.failing_for = self.failing_since.map(|since| since.elapsed());
        let mut client = self.notifications.pool().get().await?;
        if progress.write(&mut client, self.channel, self.lease).await? {
            Ok(())
        } else {
            Err(ChannelsError::Overtaken)
        }
    }
}

/// Waits until then; for ever, if there is nothing to wait for.
pub(super) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
