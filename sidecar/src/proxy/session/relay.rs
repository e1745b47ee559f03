//! Moving bytes: between client and origin while they are linked, and waiting for the client while they are not.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use integratedb_wire::TransactionStatus;
use integratedb_wire::tag::frontend as tag;
use integratedb_wire::{frame, write};

use super::keep::Kept;
use super::{End, Session};
use crate::proxy::backend::Backend;

/// Bytes of a message that are waited for before a connection is asked for.
const PART: usize = 8 << 10;

/// Reads of one session before another has its turn.
const TURNS: usize = 64;

/// From whom this task waits for something to read, so that it need not see to that again. Only good for one stay with a
/// connection: who reads from either between two of them waits otherwise. And only because sessions have no budget of
/// tokio's (`tokio::task::unconstrained`): who is put off by that waits for nothing.
#[derive(Default)]
struct Listening {
    client: bool,
    origin: bool,
}

impl Session {
    /// Waits, without a connection to the origin, until the client has something for it.
    pub(super) async fn wait_for_work(&mut self) -> Result<(), End> {
        self.flow.shrink();
        let mut tick = self.tick().map(|period| Box::pin(tokio::time::sleep(period)));
        std::future::poll_fn(|cx| {
            loop {
                if let Poll::Ready(Err(_)) = self.output.poll_drain(cx, &mut self.client) {
                    return Poll::Ready(Err(End::ClientGone));
                }
                if self.caching.is_some() && !self.input.is_empty() {
                    ready!(self.poll_pause(cx));
                    match self.answer_input() {
                        Kept::Answered(_) => continue,
                        Kept::Waits => {
                            ready!(self.poll_pause(cx));
                            continue;
                        }
                        Kept::Asks | Kept::No => {}
                    }
                }
                match frame::header(self.input.filled()) {
                    Ok(Some(header)) if header.tag == tag::TERMINATE => {
                        return Poll::Ready(Err(End::ClientGone));
                    }
                    // A client that sends slowly does not keep a connection from others meanwhile.
                    Ok(Some(header)) if self.input.len() < header.total().min(PART) => {}
                    Ok(None) => {}
                    Ok(Some(_)) | Err(_) => return Poll::Ready(Ok(())),
                }
                if let Some(end) = self.farewell() {
                    return Poll::Ready(Err(end));
                }
                self.poll_clock(cx, tick.as_mut())?;
                match ready!(self.input.poll_fill(cx, &mut self.client, false)) {
                    Ok(count) if count > 0 => self.active = Instant::now(),
                    _ => return Poll::Ready(Err(End::ClientGone)),
                }
            }
        })
        .await
    }

    /// Errors when a limit on time is exceeded; else sees to it that the clock is looked at again.
    fn poll_clock(
        &self,
        cx: &mut Context<'_>,
        tick: Option<&mut Pin<Box<tokio::time::Sleep>>>,
    ) -> Result<(), End> {
        let Some(tick) = tick else { return Ok(()) };
        while tick.as_mut().poll(cx).is_ready() {
            if let Some(report) = self.overdue() {
                return Err(End::from(report));
            }
            let period = self.tick().unwrap_or(std::time::Duration::from_secs(10));
            tick.as_mut().reset(tokio::time::Instant::now() + period);
        }
        Ok(())
    }

    /// Passes messages both ways until the connection may be given back.
    pub(super) async fn relay(&mut self, link: &mut Backend) -> Result<(), End> {
        let mut tick = self.tick().map(|period| Box::pin(tokio::time::sleep(period)));
        let mut listening = Listening::default();
        std::future::poll_fn(|cx| {
            self.poll_clock(cx, tick.as_mut())?;
            self.poll_relay(cx, link, &mut listening)
        })
        .await
    }

    fn is_between_transactions(&self) -> bool {
        self.flow.is_empty() && self.status == TransactionStatus::Idle && self.up_rest == 0
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Backend,
        listening: &mut Listening,
    ) -> Poll<Result<(), End>> {
        // What was read while there was no link, or before a pause.
        if !self.input.is_empty() && self.poll_pause(cx).is_ready() {
            self.on_client(link)?;
            self.watch_pause(cx);
        }
        for _ in 0..TURNS {
            // What the origin said before it closed is still to be read, so that writing fails is no end.
            if !link.output.is_drained()
                && matches!(link.output.poll_drain(cx, &mut link.stream), Poll::Ready(Err(_)))
            {
                link.output.reset();
            }
            if !self.output.is_drained()
                && matches!(self.output.poll_drain(cx, &mut self.client), Poll::Ready(Err(_)))
            {
                return Poll::Ready(Err(End::ClientGone));
            }
            // A connection of its own is closed by the origin, which was told.
            if self.terminated && !self.is_own() && !self.hung_up {
                if self.flow.is_empty() && self.output.is_drained() && !self.unsound {
                    return Poll::Ready(Err(End::ClientGone));
                }
                if self.unsound || !self.flow.ends() {
                    self.hung_up = true;
                    write::frontend::terminate(link.output.tail());
                    continue;
                }
            }
            // A session that ends with the process, or with its cache, does so between transactions.
            if self.is_between_transactions()
                && let Some(end) = self.farewell()
            {
                return Poll::Ready(Err(end));
            }
            if self.may_be_released(link) {
                return Poll::Ready(Ok(()));
            }
            // Whose turn it is, is asked first: the other is then mostly not asked before it is its own.
            let client_first = self.flow.is_empty();
            let is_progress = (client_first && self.poll_client(cx, link, listening)?)
                || self.poll_origin(cx, link, listening)?
                || (!client_first && self.poll_client(cx, link, listening)?);
            if !is_progress {
                return Poll::Pending;
            }
        }
        // Others on this thread have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what the origin says, unless the client still has to take what it said before.
    fn poll_origin(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Backend,
        listening: &mut Listening,
    ) -> Result<bool, End> {
        if !self.output.is_drained() {
            // Others do not wait for a client that does not read.
            if let Some(caching) = &mut self.caching {
                caching.give_up_lead();
            }
            return Ok(false);
        }
        let read = link.input.poll_fill(cx, &mut link.stream, listening.origin);
        listening.origin = read.is_pending();
        match read {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.on_origin(link)?;
                if self.held {
                    self.on_client(link)?;
                    self.watch_pause(cx);
                }
                Ok(true)
            }
            Poll::Ready(_) => Err(End::OriginGone),
            Poll::Pending => Ok(false),
        }
    }

    /// Takes what the client says, unless the origin still has to take what it said before.
    fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
        link: &mut Backend,
        listening: &mut Listening,
    ) -> Result<bool, End> {
        if !link.output.is_drained() || self.terminated || self.held {
            return Ok(false);
        }
        let read = self.input.poll_fill(cx, &mut self.client, listening.client);
        listening.client = read.is_pending();
        match read {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.active = Instant::now();
                self.on_client(link)?;
                self.watch_pause(cx);
                Ok(true)
            }
            Poll::Ready(_) => Err(End::ClientGone),
            Poll::Pending => Ok(false),
        }
    }

    /// Ready when the session waits for nothing but its client and its connection.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.caching {
            Some(caching) if caching.pause.is_some() => {
                ready!(caching.poll_pause(cx));
                self.active = Instant::now();
                Poll::Ready(())
            }
            _ => Poll::Ready(()),
        }
    }

    /// Sees to it that the end of a pause that has just begun is noticed.
    fn watch_pause(&mut self, cx: &mut Context<'_>) {
        if self.is_paused() && self.poll_pause(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Answers what the client has said, without a connection to the origin.
    fn answer_input(&mut self) -> Kept {
        let mut input = std::mem::take(&mut self.input);
        let kept = self.answer_kept(input.filled());
        if let Kept::Answered(count) = kept {
            input.consume(count);
        }
        self.input = input;
        if let Some(caching) = &mut self.caching {
            caching.was_tried = matches!(kept, Kept::No);
        }
        kept
    }

    /// Whether the connection can serve somebody else.
    fn may_be_released(&self, link: &Backend) -> bool {
        self.shares()
            && self.is_between_transactions()
            && !self.pinned
            && self.down_rest == 0
            && self.output.is_drained()
            && link.output.is_drained()
            && link.input.is_empty()
            && self.has_spoken
    }
}
