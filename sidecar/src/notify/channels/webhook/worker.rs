//! Delivers to one endpoint.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::error::ChannelsError;
use super::super::ledger::{Ledger, sleep_until};
use super::super::source::Source;
use super::super::store::{self, Row};
use super::breaker::Breaker;
use super::order::Group;
use super::outbox::Outbox;
use super::request::{Endpoint, Outcome};
use super::retry;
use super::settings::WebhookSettings;
use crate::http::LONGEST;
use crate::notify::Notifications;

/// Bytes that are read at once.
const READ: usize = 4 << 20;

/// What requests on their way get when the worker has to end.
const GRACE: Duration = Duration::from_secs(2);

/// Delivers until it is cancelled, or the channel is given up.
pub(in crate::notify::channels) async fn run(
    notifications: &Arc<Notifications>,
    row: Row,
    settings: &WebhookSettings,
    cancel: &CancellationToken,
) -> Result<(), ChannelsError> {
    let endpoint = Endpoint::new(settings, row.secrets.clone(), notifications.settings())
        .map_err(ChannelsError::Unusable)?;
    let stored = {
        let client = notifications.pool().get().await?;
        store::begin(&client, row.id).await?
    };
    let worker = Worker {
        settings: settings.clone(),
        endpoint: Arc::new(endpoint),
        source: Source::new(Arc::clone(notifications), &row, stored.cursor),
        ledger: Ledger::new(Arc::clone(notifications), row.id, stored.lease, stored.failing_for),
        outbox: Outbox::new(settings, stored.kept, stored.dead, Instant::now()),
        breaker: Breaker::new(),
        requests: JoinSet::new(),
        disable: None,
        row,
    };
    worker.run(cancel).await
}

struct Worker {
    row: Row,
    settings: WebhookSettings,
    endpoint: Arc<Endpoint>,
    source: Source,
    ledger: Ledger,
    outbox: Outbox,
    breaker: Breaker,
    requests: JoinSet<(Group, Outcome)>,
    /// Why it is given up.
    disable: Option<String>,
}

/// How a request failed.
struct Failure {
    told: String,
    /// The same for the log: without what it has answered, which may have an event in it.
    logged: String,
    /// How long it wants to be left alone.
    asked: Option<Duration>,
    /// It did not answer, or somebody before it says that it does not.
    is_silence: bool,
    /// There was no connection at all.
    surely: bool,
}

impl Worker {
    async fn run(mut self, cancel: &CancellationToken) -> Result<(), ChannelsError> {
        while self.disable.is_none() {
            self.outbox.admit(Instant::now());
            self.send();
            let wake = self.wake_at();
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(answered) = self.requests.join_next() => self.take(answered),
                read = self.source.wait(), if self.outbox.has_room() => {
                    read?;
                    let most = self.outbox.at_once();
                    self.source.take(most, READ, &mut self.outbox.incoming);
                    self.ledger.passed();
                }
                () = sleep_until(wake) => {}
            }
            if self.ledger.due().is_some_and(|due| due <= Instant::now()) {
                self.write().await?;
            }
        }
        self.end().await
    }

    /// Sends what may be sent by now.
    fn send(&mut self) {
        let now = Instant::now();
        while self.requests.len() < self.settings.concurrency
            && self.breaker.allows(now, self.requests.len())
            && let Some(request) = self.outbox.next(now, self.breaker.until().is_some())
        {
            let endpoint = Arc::clone(&self.endpoint);
            self.requests.spawn(async move {
                (request.group, endpoint.post(&request.id, request.body).await)
            });
        }
    }

    /// When there is something to do that nobody else tells of.
    fn wake_at(&self) -> Option<Instant> {
        let may_send = self.requests.len() < self.settings.concurrency;
        let next = match self.breaker.until() {
            Some(_) if !self.requests.is_empty() => None,
            Some(until) => self.outbox.next_at().map(|next| next.max(until)),
            None if may_send => self.outbox.next_at(),
            None => None,
        };
        next.into_iter().chain(self.ledger.due()).min()
    }

    fn take(&mut self, answered: Result<(Group, Outcome), tokio::task::JoinError>) {
        // A request that panics would come again for ever, so it ends the worker; nobody aborts one.
        let (group, outcome) = match answered {
            Ok(answered) => answered,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        let now = Instant::now();
        match outcome {
            Outcome::Taken => {
                self.answered(now);
                let events = self.outbox.taken(group);
                self.ledger.succeeded(events);
            }
            Outcome::Refused { status, told, asked, is_overloaded } => {
                let logged = format!("it answered {status}");
                let (is_silence, surely) = (is_overloaded, false);
                self.fail(group, now, Failure { told, logged, asked, is_silence, surely });
            }
            Outcome::Silent { told, surely } => {
                let logged = told.clone();
                let (asked, is_silence) = (None, true);
                self.fail(group, now, Failure { told, logged, asked, is_silence, surely });
            }
            Outcome::Gone => {
                self.outbox.put_back(group, now);
                self.ledger.failed("it answered 410 Gone");
                self.disable =
                    Some("the endpoint wants no more requests: it answered 410 Gone".to_owned());
            }
        }
    }

    fn answered(&mut self, now: Instant) {
        if self.breaker.answered() {
            tracing::info!(
                channel = self.row.config.name,
                stakeholder = self.row.stakeholder_name,
                "the endpoint answers again"
            );
            self.outbox.revive(now);
        }
    }

    fn fail(&mut self, group: Group, now: Instant, failure: Failure) {
        let Failure { told, logged, asked, is_silence, surely } = failure;
        let was_down = self.breaker.until().is_some();
        if is_silence {
            self.breaker.silent(now, surely, random());
            if let Some(asked) = asked {
                self.breaker.pause(now + asked.min(LONGEST));
            }
        } else {
            self.answered(now);
        }
        let (channel, stakeholder) = (&self.row.config.name, &self.row.stakeholder_name);
        if !was_down && self.breaker.until().is_some() {
            tracing::warn!(
                channel,
                stakeholder,
                error = logged,
                "the endpoint does not answer; events wait"
            );
        }
        let failing_for = self.ledger.failed(&told);
        if failing_for >= self.settings.disable_after {
            let seconds = failing_for.as_secs();
            self.disable =
                Some(format!("every request failed for {seconds} s; the last: {logged}"));
        }
        if is_silence && (surely || was_down) {
            // It is the endpoint that failed, and not the events.
            self.outbox.put_back(group, now);
            return;
        }
        let failures = self.outbox.failures(group) + 1;
        let wait = retry::wait(&self.settings.schedule, failures, asked, random());
        let dead = self.outbox.failed(group, told, wait.map(|wait| now + wait), is_silence);
        if dead > 0 {
            tracing::warn!(
                channel,
                stakeholder,
                events = dead,
                error = logged,
                "events were given up"
            );
        }
    }

    async fn write(&mut self) -> Result<(), ChannelsError> {
        let now = Instant::now();
        let mut progress = self.outbox.progress(self.source.position(), now);
        progress.disable.clone_from(&self.disable);
        let next = self.breaker.until().or(self.outbox.due_at());
        self.ledger.figures.next_attempt = next.map(|next| next.saturating_duration_since(now));
        self.ledger.write(progress).await
    }

    /// Lets what is on its way arrive, and writes what is known by then.
    async fn end(mut self) -> Result<(), ChannelsError> {
        let end = Instant::now() + GRACE;
        while let Ok(Some(answered)) =
            tokio::time::timeout_at(end.into(), self.requests.join_next()).await
        {
            self.take(answered);
        }
        if let Some(why) = &self.disable {
            let (channel, stakeholder) = (&self.row.config.name, &self.row.stakeholder_name);
            tracing::error!(
                channel,
                stakeholder,
                why,
                "a channel is disabled: nothing is delivered to it any more"
            );
        }
        self.write().await
    }
}

fn random() -> f64 {
    rand::rng().random()
}
