//! Follows a slot: reads what comes, and tells the origin how far we are.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use integratedb_wire::replication::{StandbyStatus, Stream};
use integratedb_wire::tag::{backend, frontend};
use integratedb_wire::{Backend as Message, Lsn, frame, write};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::deliver::Delivery;
use super::error::ReplicationError;
use super::link::{identifier, message};
use super::probe::Pending;
use super::progress::Progress;
use super::settings::ReaderSettings;
use super::sink::PgTime;
use super::sql::Note;
use super::status::{Alarms, Status};
use crate::proxy::backend::{Backend, OpenError};

/// The longest message: what PostgreSQL itself can make (MaxAllocSize) and the header of the stream.
const LIMIT: usize = (1 << 30) + 64;

/// The longest message of an origin that somebody of a workspace has named.
const LIMIT_OF_OTHERS: usize = 64 << 20;

/// Of which size on room is made for a message as a whole.
const LARGE: usize = 16 << 10;

/// The least time between two reports that nobody asked for.
const REPORT: Duration = Duration::from_millis(100);

/// A stream that is followed.
pub(super) struct Follower<'a> {
    backend: Backend,
    settings: &'a ReaderSettings,
    delivery: &'a mut Delivery,
    progress: &'a Progress,
    status: &'a watch::Sender<Status>,
    alarms: &'a mut Alarms,
    pending: Pending,
    /// Where the origin was at the last probe.
    target: Lsn,
    received: Lsn,
    confirmed: Lsn,
    started: Instant,
    last_heard: Instant,
    last_reported: Instant,
}

/// Asks for the stream from `start` on.
pub(super) async fn start(
    backend: &mut Backend,
    settings: &ReaderSettings,
    slot: &str,
    start: Lsn,
) -> Result<(), ReplicationError> {
    let what = "follow the slot";
    // The option is a list of identifiers in a literal; a replication command knows no E''.
    let publications = identifier(&settings.publication).replace('\'', "''");
    let slot = identifier(slot);
    let command = format!(
        "START_REPLICATION SLOT {slot} LOGICAL {start} \
         (proto_version '1', publication_names '{publications}', messages 'true')"
    );
    backend.output.append(&message(&command)?);
    let begin = async {
        backend.output.drain(&mut backend.stream).await?;
        loop {
            let total = backend.wait_for_message().await?;
            let message = frame::whole(backend.input.filled(), LIMIT)?.expect("it was waited for");
            let answer = match Message::read(message)? {
                Message::CopyBoth => Some(Ok(())),
                Message::Error(fields) => {
                    Some(Err(OpenError::refused(fields, &backend.input.filled()[..total])))
                }
                _ => None,
            };
            backend.input.consume(total);
            if let Some(answer) = answer {
                return answer;
            }
        }
    };
    let patience = settings.patience;
    let answer = tokio::time::timeout(patience, begin).await;
    answer
        .map_err(|_| ReplicationError::Timeout { what, patience })?
        .map_err(|error| ReplicationError::asked(what, error))
}

impl<'a> Follower<'a> {
    pub(super) fn new(
        backend: Backend,
        settings: &'a ReaderSettings,
        delivery: &'a mut Delivery,
        progress: &'a Progress,
        status: &'a watch::Sender<Status>,
        alarms: &'a mut Alarms,
    ) -> Self {
        let now = Instant::now();
        Self {
            backend,
            settings,
            delivery,
            progress,
            status,
            alarms,
            pending: Pending::default(),
            target: Lsn(0),
            received: Lsn(0),
            confirmed: Lsn(0),
            started: now,
            last_heard: now,
            last_reported: now,
        }
    }

    /// Ends well only when it is cancelled.
    pub(super) async fn run(
        mut self,
        mut notes: mpsc::Receiver<Note>,
        cancel: &CancellationToken,
    ) -> Result<(), ReplicationError> {
        let mut ticks = tokio::time::interval(self.settings.status_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_held = self.deliver()?;
            tokio::select! {
                () = cancel.cancelled() => {
                    self.farewell().await;
                    return Ok(());
                }
                _ = ticks.tick() => self.tick()?,
                Some(note) = notes.recv() => self.note(note)?,
                moved = std::future::poll_fn(|cx| self.poll_move(cx, is_held)) => moved?,
            }
        }
    }

    /// Sends what is to be sent; and reads, or, while a sink takes nothing, waits for the sink. Reading nothing holds
    /// the origin back, which keeps both memories bounded.
    fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        is_held: bool,
    ) -> Poll<Result<(), ReplicationError>> {
        let Backend { stream, input, output, .. } = &mut self.backend;
        if let Poll::Ready(Err(error)) = output.poll_drain(cx, stream) {
            return Poll::Ready(Err(error.into()));
        }
        if is_held {
            return self.delivery.poll_ready(cx).map(Ok);
        }
        match std::task::ready!(input.poll_fill(cx, stream, false)) {
            Ok(0) => Poll::Ready(Err(ReplicationError::Broken("the origin closed it".to_owned()))),
            Ok(_) => {
                self.last_heard = Instant::now();
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Delivers what is there. True when a sink takes no more.
    fn deliver(&mut self) -> Result<bool, ReplicationError> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut is_held = false;
        loop {
            let filled = self.backend.input.filled();
            let Some(header) = frame::header(filled)? else { break };
            let limit = if self.settings.reach.is_some() { LIMIT_OF_OTHERS } else { LIMIT };
            let Some(message) = frame::whole(filled, limit)? else {
                if header.total() > LARGE {
                    self.backend.input.expect(header.total());
                }
                break;
            };
            if self.delivery.poll_ready(&mut cx).is_pending() {
                is_held = true;
                break;
            }
            let total = message.total();
            let mut wants_reply = false;
            match message.tag {
                backend::COPY_DATA => match Stream::read(message.body)? {
                    Stream::Data { start, data, .. } => {
                        self.received = self.received.max(start);
                        self.delivery.take(data)?;
                    }
                    Stream::Keepalive { end, wants_reply: asks } => {
                        self.received = self.received.max(end);
                        self.delivery.keepalive(end);
                        wants_reply = asks;
                    }
                },
                backend::ERROR => {
                    if let Message::Error(fields) = Message::read(message)? {
                        let error = OpenError::refused(fields, &[]);
                        return Err(ReplicationError::asked("follow the slot", error));
                    }
                }
                backend::COPY_DONE => {
                    return Err(ReplicationError::Broken("the origin ended the stream".to_owned()));
                }
                _ => {}
            }
            self.backend.input.consume(total);
            if wants_reply {
                self.note_progress();
                self.report(false);
            }
        }
        self.note_progress();
        if self.delivery.confirmable() > self.confirmed && self.last_reported.elapsed() > REPORT {
            self.report(false);
        }
        Ok(is_held)
    }

    /// Makes known how far we are.
    fn note_progress(&mut self) {
        let Some(position) = self.delivery.position() else { return };
        self.progress.set_applied(position);
        if !self.pending.is_empty()
            && let Some(as_of) = self.pending.reached(position)
        {
            self.progress.set_fresh(Some(as_of));
            self.delivery.fresh(as_of);
        }
    }

    fn note(&mut self, note: Note) -> Result<(), ReplicationError> {
        match note {
            Note::Probed(probe) => {
                self.target = self.target.max(probe.insert);
                self.pending.add(probe.asked, probe.insert);
                self.note_progress();
                // A quiet server says nothing by itself.
                if !self.pending.is_empty() {
                    self.report(true);
                }
            }
            Note::Slot(wal_status, safe_wal_size) => {
                // The walsender is told to end, but can't say so to us while we don't read; and a checkpoint waits
                // for it, which must not wait for a sink.
                if wal_status.as_deref() == Some("unreserved") && self.is_held_by_a_sink() {
                    return Err(ReplicationError::Held);
                }
                self.status.send_modify(|status| {
                    status.wal_status = wal_status;
                    status.safe_wal_size = safe_wal_size;
                });
            }
            Note::Roles(fingerprint) => self.delivery.roles_changed(&fingerprint),
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), ReplicationError> {
        let silent = self.last_heard.elapsed();
        if silent > self.settings.silence && !self.is_held_by_a_sink() {
            return Err(ReplicationError::Silent(self.settings.silence));
        }
        self.report(!self.pending.is_empty() || silent > self.settings.silence / 3);
        let applied = self.progress.applied();
        self.status.send_modify(|status| {
            status.applied = applied;
            status.confirmed = self.confirmed;
            status.lag_bytes = self.target.0.saturating_sub(applied.0);
            status.lag = self.progress.fresh_as_of().map(|as_of| as_of.elapsed());
            status.changes = self.delivery.changes;
            status.transactions = self.delivery.transactions;
            status.state = status.judge(self.settings, self.started.elapsed());
        });
        self.alarms.look(&self.settings.name, &self.status.borrow());
        Ok(())
    }

    /// Then it is we who don't listen.
    fn is_held_by_a_sink(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let is_held = self.delivery.poll_ready(&mut cx).is_pending();
        if is_held {
            self.last_heard = Instant::now();
        }
        is_held
    }

    /// Tells the origin how far we are.
    fn report(&mut self, wants_reply: bool) {
        // A connection that takes nothing gets no heap of reports.
        if self.backend.output.len() > LARGE {
            return;
        }
        self.confirmed = self.confirmed.max(self.delivery.confirmable());
        self.progress.set_confirmed(self.confirmed);
        let status = StandbyStatus {
            written: self.received.max(self.confirmed),
            flushed: self.confirmed,
            applied: self.confirmed,
            micros: PgTime::now().0,
            wants_reply,
        };
        status.write(self.backend.output.tail());
        self.last_reported = Instant::now();
    }

    /// Leaves as one should, as far as that goes in a moment.
    async fn farewell(mut self) {
        self.report(false);
        let output = self.backend.output.tail();
        write::header(output, frontend::COPY_DONE, 0).expect("0 is a length");
        write::frontend::terminate(output);
        let Backend { stream, output, .. } = &mut self.backend;
        let _ = tokio::time::timeout(Duration::from_secs(1), output.drain(stream)).await;
    }
}
