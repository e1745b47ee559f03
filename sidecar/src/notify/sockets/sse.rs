//! A socket over Server-Sent Events.

use std::convert::Infallible;
use std::io::Write;

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::{Chunk, Session};

/// What a browser waits before it connects again, in milliseconds.
const RETRY: u32 = 1000;

impl Session {
    /// The response: a stream that ends when either end has enough.
    pub(crate) fn stream(self) -> Response {
        let hello =
            format!("retry: {RETRY}\nid: {}\nevent: hello\ndata: {}\n\n", self.told, self.hello());
        let said = futures_util::stream::unfold((Some(self), Some(hello)), |state| async {
            let (session, hello) = state;
            let mut session = session?;
            if let Some(hello) = hello {
                return Some((Ok::<_, Infallible>(Bytes::from(hello)), (Some(session), None)));
            }
            let (said, is_last) = session.say().await;
            Some((Ok(said), ((!is_last).then_some(session), None)))
        });
        let headers = [
            (header::CONTENT_TYPE.as_str(), "text/event-stream"),
            (header::CACHE_CONTROL.as_str(), "no-store"),
            // Asks nginx to pass on what comes as it comes.
            ("x-accel-buffering", "no"),
        ];
        (headers, Body::from_stream(said)).into_response()
    }

    /// Waits for what is to be said next, and whether it is the last.
    async fn say(&mut self) -> (Bytes, bool) {
        let end = tokio::select! {
            biased;
            end = &mut self.ended => end,
            _ = self.beat.tick() => {
                // An id alone is no event, but from then on the one that a client goes on from.
                let said = match self.news() {
                    Some(id) => format!(": heartbeat\nid: {id}\n\n"),
                    None => ": heartbeat\n\n".to_owned(),
                };
                return (said.into(), false);
            }
            chunk = self.feed.next() => match chunk {
                Ok(chunk) => {
                    self.sent(&chunk);
                    return (events(&chunk).into(), false);
                }
                Err(error) => {
                    tracing::warn!(%error, "a socket is closed");
                    super::End::Failed
                }
            },
        };
        let (name, reason) = (end.as_str(), end.reason());
        let said =
            format!("event: {name}\ndata: {{\"type\":\"{name}\",\"reason\":\"{reason}\"}}\n\n");
        (said.into(), true)
    }
}

/// Events as SSE has them.
fn events(chunk: &Chunk) -> Vec<u8> {
    let mut out = Vec::with_capacity(chunk.bytes.len() + chunk.events.len() * 64);
    for (told, json) in chunk.iter() {
        // Writing to memory can't fail.
        let _ = write!(out, "id: {}\nevent: {}\ndata: ", told.id, told.op.as_str());
        out.extend_from_slice(json);
        out.extend_from_slice(b"\n\n");
    }
    out
}
