//! The life of a reader: connect, follow, and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::deliver::Delivery;
use super::error::ReplicationError;
use super::link::{Link, Target};
use super::progress::Progress;
use super::settings::{ReaderSettings, Slot};
use super::sink::Sink;
use super::slot::{self, Memory, Ready};
use super::sql::{self, Asker, Requests, Sql};
use super::status::{Alarms, State, Status};
use super::stream::{self, Follower};

/// After a connection that stood so long, the next wait is the shortest again.
const STEADY: Duration = Duration::from_secs(5);

/// A task that follows one origin.
pub struct Reader {
    status: watch::Receiver<Status>,
    progress: Arc<Progress>,
    sql: Sql,
    task: JoinHandle<()>,
}

impl Reader {
    /// Starts to follow an origin, until it is cancelled. Errors only when the settings can't be used; whatever else
    /// goes wrong is tried again, and told in [`Reader::status`].
    pub fn start(
        settings: ReaderSettings,
        sinks: Vec<Box<dyn Sink>>,
        cancel: CancellationToken,
    ) -> Result<Self, ReplicationError> {
        Self::start_after(std::future::ready(()), settings, sinks, cancel)
    }

    /// The same, once its sinks are ready for their first connection.
    pub fn start_after(
        ready: impl Future<Output = ()> + Send + 'static,
        settings: ReaderSettings,
        sinks: Vec<Box<dyn Sink>>,
        cancel: CancellationToken,
    ) -> Result<Self, ReplicationError> {
        let target = Target::read(&settings)?;
        let (status, watched) = watch::channel(Status::default());
        let progress = Arc::new(Progress::default());
        let (sql, requests) = sql::channel();
        let life = Life {
            settings,
            target,
            delivery: Delivery::new(sinks),
            progress: Arc::clone(&progress),
            status,
            alarms: Alarms::default(),
            memory: Memory::default(),
            connections: 0,
        };
        let task = tokio::spawn(life.run(ready, requests, cancel));
        Ok(Self { status: watched, progress, sql, task })
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Tells of each change of the status.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// How far it is, without waiting for the next status.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Its connection for queries.
    pub fn sql(&self) -> Sql {
        self.sql.clone()
    }

    /// Waits until it has ended, after it was cancelled.
    pub async fn stopped(self) {
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

struct Life {
    settings: ReaderSettings,
    target: Target,
    delivery: Delivery,
    progress: Arc<Progress>,
    status: watch::Sender<Status>,
    alarms: Alarms,
    memory: Memory,
    connections: u64,
}

impl Drop for Life {
    /// However it ends, by a sink's panic too, it is not taken for one that reads.
    fn drop(&mut self) {
        self.progress.stop();
        self.status.send_modify(|status| {
            status.state = State::Connecting;
            status.last_error = Some("the reader has ended".to_owned());
        });
    }
}

impl Life {
    async fn run(
        mut self,
        ready: impl Future<Output = ()> + Send,
        mut requests: Requests,
        cancel: CancellationToken,
    ) {
        tokio::select! {
            () = cancel.cancelled() => return,
            never = requests.refuse() => never,
            () = ready => {}
        }
        let (shortest, longest) = self.settings.retry;
        let mut wait = shortest;
        loop {
            let connected = tokio::select! {
                () = cancel.cancelled() => return,
                never = requests.refuse() => never,
                connected = self.connect() => connected,
            };
            let began = Instant::now();
            let error = match connected {
                Ok((link, ready)) => match self.follow(link, ready, &mut requests, &cancel).await {
                    Ok(()) => return,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if began.elapsed() > STEADY {
                wait = shortest;
            }
            self.failed(&error);
            // Many readers of one origin do not come back all at once.
            let jittered = wait.mul_f64(rand::rng().random_range(0.5..=1.0));
            wait = (wait * 2).min(longest);
            tokio::select! {
                () = cancel.cancelled() => return,
                never = requests.refuse() => never,
                () = tokio::time::sleep(jittered) => {}
            }
        }
    }

    async fn connect(&mut self) -> Result<(Link, Ready), ReplicationError> {
        let mut link = self.target.connect().await?;
        let delivered = self.delivery.position();
        let ready = slot::prepare(&mut link, &self.settings, &mut self.memory, delivered).await?;
        Ok((link, ready))
    }

    /// Ends well only when it is cancelled.
    async fn follow(
        &mut self,
        mut link: Link,
        ready: Ready,
        requests: &mut Requests,
        cancel: &CancellationToken,
    ) -> Result<(), ReplicationError> {
        if let Some(why) = &ready.lost {
            tracing::warn!(reader = self.settings.name, "transactions may be missing: {why}");
            self.status.send_modify(|status| status.lost += 1);
            self.delivery.lost(why);
        }
        let Ready { slot, connected, is_blind, .. } = &ready;
        stream::start(&mut link.stream, &self.settings, slot, connected.start).await?;
        self.delivery.connected(connected);
        self.memory.is_news = false;
        self.progress.start(connected.start);
        self.connections += 1;
        self.status.send_modify(|status| {
            status.state = State::Streaming;
            status.slot.clone_from(slot);
            status.applied = connected.start;
            status.reconnects = self.connections - 1;
            status.wal_is_unbounded = ready.wal_is_unbounded;
        });
        let (notes, received) = mpsc::channel(16);
        let asker = Asker {
            backend: link.sql,
            settings: &self.settings,
            slot,
            publication: &connected.publication,
            notes,
            unflushed: None,
            roles: connected.roles.clone(),
            is_blind: *is_blind,
        };
        let follower = Follower::new(
            link.stream,
            &self.settings,
            &mut self.delivery,
            &self.progress,
            &self.status,
            &mut self.alarms,
        );
        let ended = tokio::select! {
            ended = follower.run(received, cancel) => ended,
            ended = asker.run(requests) => ended,
        };
        self.progress.stop();
        let why = match &ended {
            Ok(()) => "the reader was stopped".to_owned(),
            Err(error) => error.to_string(),
        };
        self.delivery.disconnected(&why);
        ended
    }

    fn failed(&mut self, error: &ReplicationError) {
        let renew = match error {
            ReplicationError::PublicationDropped(_) | ReplicationError::SlotLost { .. } => true,
            // What changed while there was no publication can't be decoded.
            ReplicationError::Refused { code, message, .. } => {
                code == "42704" && message.starts_with("publication ")
            }
            _ => false,
        };
        if renew && matches!(self.settings.slot, Slot::Permanent(_)) {
            self.memory.renew = Some(error.to_string());
        }
        self.status.send_modify(|status| {
            status.state = State::Connecting;
            status.slot_lost = (renew && self.settings.slot_must_exist).then(|| error.to_string());
            status.last_error = Some(error.to_string());
            status.lag = None;
        });
        self.alarms.look(&self.settings.name, &self.status.borrow());
    }
}
