//! The REST API's listener: nobody is waited for who takes nothing of what is sent to him.
//!
//! An answer may be a stream of events that never ends, so no deadline can be set for it as a whole. What can be said
//! is that a client that has not taken a byte for so long will not take the next one either.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::proxy::tune;

/// What is left of the patience once the sidecar is told to stop.
const HURRY: Duration = Duration::from_secs(1);

/// A listener whose connections fail once their client has taken nothing for `patience` of what waits for it.
pub(crate) struct ApiListener {
    pub(crate) listener: TcpListener,
    pub(crate) patience: Duration,
    /// Cancelled when the sidecar is told to stop.
    pub(crate) stopping: CancellationToken,
}

impl axum::serve::Listener for ApiListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        if let Err(error) = tune(&stream) {
            tracing::debug!(%error, "a connection can't be tuned");
        }
        let (patience, stopping) = (self.patience, self.stopping.clone());
        (Connection { stream, patience, stopping, stalled: None }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection of the REST API.
pub(crate) struct Connection {
    stream: TcpStream,
    patience: Duration,
    stopping: CancellationToken,
    /// While the client takes nothing: is ready when that has been so for too long.
    stalled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Connection {
    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), cx);
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let (patience, stopping) = (self.patience, &self.stopping);
        let stalled = self.stalled.get_or_insert_with(|| {
            let stopping = stopping.clone();
            Box::pin(async move {
                let hurry = async {
                    stopping.cancelled().await;
                    tokio::time::sleep(HURRY).await;
                };
                tokio::select! {
                    () = tokio::time::sleep(patience) => {}
                    () = hurry => {}
                }
            })
        });
        stalled.as_mut().poll(cx).map(|()| {
            let why = "the client takes nothing of what is sent to it";
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        })
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn pair(patience: Duration) -> (Connection, TcpStream, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let stopping = CancellationToken::new();
        let mut listener = ApiListener { listener, patience, stopping: stopping.clone() };
        let address = listener.local_addr().expect("it listens");
        let (client, (connection, _)) =
            tokio::join!(TcpStream::connect(address), listener.accept());
        (connection, client.expect("it listens"), stopping)
    }

    #[tokio::test]
    async fn who_takes_nothing_is_given_up_and_who_is_slow_is_not() {
        let (mut connection, mut client, _) = pair(Duration::from_secs(1)).await;
        let slow = tokio::spawn(async move {
            let mut taken = vec![0; 256 << 10];
            // Far longer than the patience in all, but never so long without taking something.
            for _ in 0..64 {
                tokio::time::sleep(Duration::from_millis(40)).await;
                client.read_exact(&mut taken).await.expect("it is sent");
            }
            client
        });
        connection.write_all(&vec![0; 16 << 20]).await.expect("somebody takes it");
        let _client = slow.await.expect("no panic");
        let error = connection.write_all(&vec![0; 64 << 20]).await.expect_err("nobody takes it");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_stop_leaves_less_patience() {
        let (mut connection, _client, stopping) = pair(Duration::from_secs(3600)).await;
        stopping.cancel();
        let error = connection.write_all(&vec![0; 64 << 20]).await.expect_err("nobody takes it");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
