//! Connections to where somebody else says, on behalf of them. They go to addresses that may be reached only, and what is
//! gathered in memory before it is read, which is a whole message, has an end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::DbError;
use super::pool::{SILENCE, WAIT, unreadable};
use crate::reach::Reach;
use crate::tls::Tls;

/// The most that one connection may bring. What is asked takes a few hundred bytes, so it serves thousands of logins.
const MOST: usize = 8 << 20;

/// One host, and where it may be.
pub(super) struct Within {
    host: String,
    port: u16,
    reach: Reach,
    tls: Option<MakeRustlsConnect>,
}

impl Within {
    /// For the host that the settings name.
    pub(super) fn new(settings: &Config, tls: &Tls, reach: &Reach) -> Result<Self, DbError> {
        let ([Host::Tcp(host)], []) = (settings.get_hosts(), settings.get_hostaddrs()) else {
            return Err(unreadable("it has to name one host, by its name"));
        };
        Ok(Self {
            host: host.clone(),
            port: settings.get_ports().first().copied().unwrap_or(5432),
            reach: reach.clone(),
            tls: tls.client_config().map_err(unreadable)?.map(MakeRustlsConnect::new),
        })
    }

    /// Connects and logs in. The name is looked up each time: it may lead elsewhere than before.
    pub(super) async fn open(&self, settings: &Config) -> Result<(Client, JoinHandle<()>), Error> {
        let late = || Err(io::Error::from(io::ErrorKind::TimedOut));
        let stream = tokio::time::timeout(WAIT, self.reach_it()).await.unwrap_or_else(|_| late());
        let (tls, stream) = match (stream, &self.tls) {
            (Ok(stream), Some(tls)) => {
                let made =
                    MakeTlsConnect::<Limited>::make_tls_connect(&mut tls.clone(), &self.host);
                match made.map_err(io::Error::other) {
                    Ok(made) => (Some(made), Ok(stream)),
                    Err(error) => (None, Err(error)),
                }
            }
            (stream, _) => (None, stream),
        };
        let stream = Limited { stream, left: MOST };
        match tls {
            None => {
                let (client, connection) = settings.connect_raw(stream, NoTls).await?;
                Ok((client, tokio::spawn(async { drop(connection.await) })))
            }
            Some(tls) => {
                let (client, connection) = settings.connect_raw(stream, tls).await?;
                Ok((client, tokio::spawn(async { drop(connection.await) })))
            }
        }
    }

    async fn reach_it(&self) -> io::Result<TcpStream> {
        let addresses = self.reach.resolve(&self.host, self.port, self.tls.is_none()).await;
        let addresses = addresses.map_err(io::Error::other)?;
        let stream = self.reach.connect(&addresses).await?;
        stream.set_nodelay(true)?;
        let keepalive =
            socket2::TcpKeepalive::new().with_time(SILENCE).with_interval(WAIT).with_retries(3);
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        Ok(stream)
    }
}

impl Connect for Within {
    fn connect(&self, settings: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let settings = settings.clone();
        Box::pin(async move { self.open(&settings).await })
    }
}

/// A stream that fails once it has brought so much. One that could not be made fails at its first use, because only
/// tokio-postgres can make its errors.
struct Limited {
    stream: io::Result<TcpStream>,
    left: usize,
}

impl Limited {
    /// The error is told once; whoever asks again is told less.
    fn get(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.stream {
            Ok(stream) => Ok(Pin::new(stream)),
            Err(error) => {
                let told = io::Error::from(error.kind());
                Err(std::mem::replace(error, told))
            }
        }
    }
}

impl AsyncRead for Limited {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(this.get()?.poll_read(cx, buffer))?;
        let came = buffer.filled().len() - before;
        let Some(left) = this.left.checked_sub(came) else {
            let why = format!("more came than the {MOST} bytes that one connection may bring");
            return Poll::Ready(Err(io::Error::other(why)));
        };
        this.left = left;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Limited {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().get()?.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().get()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().get()?.poll_shutdown(cx)
    }
}

/// How long connecting and logging in may take, of a connection outside of a pool.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspaces::WorkspaceSettings;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What comes of connecting to a server that answers the first packet with these bytes, and goes on with zeros.
    async fn outcome(allowed: &[&str], answer: &'static [u8]) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            stream.read_u8().await?;
            stream.write_all(answer).await?;
            loop {
                stream.write_all(&[0; 64 << 10]).await?;
            }
            #[expect(unreachable_code, reason = "it says what the errors are")]
            io::Result::Ok(())
        });
        let allow_networks = allowed.iter().map(|net| net.parse().expect("a network")).collect();
        let settings = WorkspaceSettings { allow_networks, ..WorkspaceSettings::default() };
        let url = format!("host=localhost port={port} user=u dbname=d sslmode=disable");
        let (config, tls) =
            super::super::pool::parse_url(&crate::secret::Secret::new(url)).expect("it is one");
        let within = Within::new(&config, &tls, &Reach::from(&settings)).expect("it has a host");
        let error = within.open(&config).await.expect_err("it is no server");
        DbError::from(error).to_string()
    }

    #[tokio::test]
    async fn a_message_without_end_is_not_gathered() {
        // An error of two gigabytes.
        let error = outcome(&["127.0.0.0/8"], b"E\x7f\xff\xff\xff").await;
        assert!(error.contains("one connection may bring"), "{error}");
    }

    #[tokio::test]
    async fn each_connection_asks_where_it_may_go() {
        let error = outcome(&[], b"").await;
        assert!(error.contains("workspaces.allow_networks"), "{error}");
    }
}
