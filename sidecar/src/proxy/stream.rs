//! A connection, with or without TLS.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// A connection to a client or an origin.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// How long the other end may say nothing at all, not even that it received something.
const SILENCE: Duration = Duration::from_secs(60);

/// Sends small messages at once, and notices a peer that is gone without a word.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(SILENCE)
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}

impl Stream {
    /// Whether what is said is encrypted.
    pub(crate) const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Reads once, what is there and fits in the room that `bytes` make; 0 is the end of the stream. `bytes` are only
    /// asked for when there may be something to read: who has nothing to read needs no buffer. `is_awaited` says that the
    /// last such call was made by this task and found nothing.
    pub(crate) fn poll_fill<'a>(
        &mut self,
        cx: &mut Context<'_>,
        is_awaited: bool,
        bytes: impl FnOnce() -> &'a mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => poll_receive(stream, cx, is_awaited, bytes),
            Self::Unix(stream) => poll_receive(stream, cx, is_awaited, bytes),
            // It may hold what it has decrypted already.
            Self::Tls(stream) => {
                tokio_util::io::poll_read_buf(Pin::new(stream.as_mut()), cx, bytes())
            }
        }
    }

    /// The hash of the certificate at the server's end, for SCRAM's channel binding (RFC 5929,
    /// tls-server-end-point), of a connection to an origin.
    pub(crate) fn peer_certificate(&self) -> Option<&[u8]> {
        let Self::Tls(stream) = self else { return None };
        let (_, connection) = stream.get_ref();
        Some(connection.peer_certificates()?.first()?.as_ref())
    }
}

/// What both kinds of socket have. A query costs four calls of the system; they are made without the detour by the C
/// library, which prepares for the cancellation of threads at each.
trait Socket: AsFd {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Does what the socket is ready for, as far as known; `WouldBlock` says that it is so no longer.
    fn attempt<T>(&self, interest: Interest, act: impl FnOnce() -> io::Result<T>) -> io::Result<T>;
}

macro_rules! socket {
    ($kind:ty) => {
        impl Socket for $kind {
            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn attempt<T>(
                &self,
                interest: Interest,
                act: impl FnOnce() -> io::Result<T>,
            ) -> io::Result<T> {
                self.try_io(interest, act)
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

fn poll_receive<'a>(
    socket: &impl Socket,
    cx: &mut Context<'_>,
    is_awaited: bool,
    bytes: impl FnOnce() -> &'a mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    match is_awaited {
        // Nothing has come since: what wakes this task then is still in place.
        true if socket.attempt(Interest::READABLE, || Ok(())).is_err() => return Poll::Pending,
        true => {}
        false => ready!(socket.poll_readable(cx))?,
    }
    let bytes = bytes();
    loop {
        let room = bytes.capacity() - bytes.len();
        let mut received = None;
        let attempt = socket.attempt(Interest::READABLE, || {
            let receive =
                || rustix::net::recv(socket, spare_capacity(&mut *bytes), RecvFlags::empty());
            let (_, count) = rustix::io::retry_on_intr(receive)?;
            received = Some(count);
            // Less than there was room for: nothing is left, and to ask for it would be a call for nothing.
            if (1..room).contains(&count) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (received, attempt) {
            (Some(count), _) => return Poll::Ready(Ok(count)),
            (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                return Poll::Ready(Err(error));
            }
            (None, _) => ready!(socket.poll_readable(cx))?,
        }
    }
}

fn poll_send(socket: &impl Socket, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        let mut sent = None;
        let attempt = socket.attempt(Interest::WRITABLE, || {
            let send = || rustix::net::send(socket, bytes, SendFlags::NOSIGNAL);
            let count = rustix::io::retry_on_intr(send)?;
            sent = Some(count);
            // It took what it had room for.
            if count < bytes.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (sent, attempt) {
            (Some(count), _) => return Poll::Ready(Ok(count)),
            (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                return Poll::Ready(Err(error));
            }
            (None, _) => ready!(socket.poll_writable(cx))?,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => poll_send(stream, cx, bytes),
            Self::Unix(stream) => poll_send(stream, cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
