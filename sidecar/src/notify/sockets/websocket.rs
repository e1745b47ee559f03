//! A socket over WebSocket: a text message an event.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, timeout};

use super::{Chunk, End, Session};

/// Heartbeats that a ping may go unanswered.
const PATIENCE: u32 = 3;

/// How long the client gets to answer that the socket is closed.
const GOODBYE: Duration = Duration::from_secs(1);

impl Session {
    /// Speaks until either end has enough.
    pub(crate) async fn speak(mut self, mut socket: WebSocket) {
        let end = self.talk(&mut socket).await;
        tracing::debug!(?end, "a WebSocket ends");
        if let Ok(end) = end {
            let frame =
                CloseFrame { code: end.code(), reason: Utf8Bytes::from_static(end.reason()) };
            let goodbye = async {
                socket.send(Message::Close(Some(frame))).await?;
                // Until the client has said so too: what it has not read is lost if the connection ends before.
                while socket.next().await.transpose()?.is_some() {}
                Ok::<_, axum::Error>(())
            };
            let _ = timeout(GOODBYE, goodbye).await;
        }
    }

    /// An error is the client's end.
    async fn talk(&mut self, socket: &mut WebSocket) -> Result<End, axum::Error> {
        let patience = self.beat.period() * PATIENCE;
        // Since when a ping has not been answered.
        let mut silent: Option<Instant> = None;
        socket.send(Message::text(self.hello())).await?;
        loop {
            let sending = tokio::select! {
                biased;
                end = &mut self.ended => return Ok(end),
                now = self.beat.tick() => {
                    if silent.is_some_and(|since| now.duration_since(since) + self.beat.period() / 2 > patience) {
                        return Ok(End::Silent);
                    }
                    silent.get_or_insert(now);
                    let position = self.news().map(|id| {
                        Message::text(format!("{{\"type\":\"position\",\"after\":\"{id}\"}}"))
                    });
                    let messages = position.into_iter().chain([Message::Ping(Bytes::new())]);
                    Sending::Messages(messages.collect())
                }
                said = socket.next() => {
                    // What it says is of no interest, but that it does. A ping is answered for us.
                    match said.transpose()? {
                        None | Some(Message::Close(_)) => return Err(axum::Error::new("closed")),
                        Some(_) => silent = None,
                    }
                    continue;
                }
                chunk = self.feed.next() => match chunk {
                    Ok(chunk) => Sending::Chunk(chunk),
                    Err(error) => {
                        tracing::warn!(%error, "a socket is closed");
                        return Ok(End::Failed);
                    }
                },
            };
            let (messages, told) = match sending {
                Sending::Messages(messages) => (messages, None),
                Sending::Chunk(mut chunk) => (messages(&mut chunk), Some(chunk)),
            };
            tokio::select! {
                sent = send(socket, messages) => sent?,
                end = &mut self.ended => return Ok(end),
            }
            if let Some(chunk) = told {
                // It takes what it is sent, so it lives.
                silent = None;
                self.sent(&chunk);
            }
        }
    }
}

enum Sending {
    Messages(Vec<Message>),
    Chunk(Chunk),
}

/// A message an event; they share the chunk's bytes.
fn messages(chunk: &mut Chunk) -> Vec<Message> {
    let bytes = Bytes::from(std::mem::take(&mut chunk.bytes));
    let mut start = 0;
    let text = chunk.events.iter().map(|told| {
        let json = bytes.slice(start..told.end);
        start = told.end;
        // It always is one; were it not, a client would end the socket, and at the same event again.
        match Utf8Bytes::try_from(json.clone()) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::text(String::from_utf8_lossy(&json).into_owned()),
        }
    });
    text.collect()
}

/// Sends messages, and flushes once.
async fn send(socket: &mut WebSocket, messages: Vec<Message>) -> Result<(), axum::Error> {
    for message in messages {
        socket.feed(message).await?;
    }
    socket.flush().await
}
