//! A client that speaks the protocol message by message, to stop wherever a test wants it to.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use integratedb_wire::{Authentication, Backend, ProtocolVersion, frame, write};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(20);
const LIMIT: usize = 64 << 20;

/// A connection, at first without a session.
pub struct RawClient {
    stream: TcpStream,
    input: Vec<u8>,
}

/// One message of the server.
#[derive(Debug)]
pub struct RawMessage {
    /// Its type.
    pub tag: u8,
    /// What follows its length.
    pub body: Vec<u8>,
}

impl RawClient {
    /// Only connects.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self { stream: TcpStream::connect(address).await?, input: Vec::new() })
    }

    /// The packet that begins a session.
    pub fn startup(user: &str, database: &str, application_name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let pairs =
            [("user", user), ("database", database), ("application_name", application_name)];
        let pairs = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        write::frontend::startup(&mut bytes, ProtocolVersion { major: 3, minor: 0 }, pairs)
            .expect("names without zero bytes");
        bytes
    }

    /// Connects and logs in by SCRAM.
    pub async fn login(
        address: SocketAddr,
        user: &str,
        password: &str,
        database: &str,
        application_name: &str,
    ) -> Result<Self> {
        let mut client = Self::connect(address).await?;
        client.send(&Self::startup(user, database, application_name)).await?;
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let message = client.read().await?.context("closed during the login")?;
            let frame = frame::Frame { tag: message.tag, body: &message.body };
            let mut reply = Vec::new();
            match Backend::read(frame)? {
                Backend::Authentication(Authentication::Sasl(_)) => {
                    write::frontend::sasl_initial(&mut reply, "SCRAM-SHA-256", scram.message())?;
                }
                Backend::Authentication(Authentication::SaslContinue(data)) => {
                    scram.update(data)?;
                    write::frontend::sasl_response(&mut reply, scram.message())?;
                }
                Backend::Error(_) => bail!("refused: {}", message.text()),
                Backend::Ready(_) => return Ok(client),
                _ => {}
            }
            client.send(&reply).await?;
        }
    }

    /// Sends bytes, whatever they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        tokio::time::timeout(DEADLINE, self.stream.write_all(bytes)).await?.map_err(Into::into)
    }

    /// Sends a Query.
    pub async fn query(&mut self, text: &str) -> Result<()> {
        let mut bytes = Vec::new();
        write::frontend::query(&mut bytes, text.as_bytes())?;
        self.send(&bytes).await
    }

    /// The next message; `None` when the connection is closed, or broken.
    pub async fn read(&mut self) -> Result<Option<RawMessage>> {
        loop {
            if let Some(found) = frame::whole(&self.input, LIMIT)? {
                let message = RawMessage { tag: found.tag, body: found.body.to_vec() };
                let total = found.total();
                self.input.drain(..total);
                return Ok(Some(message));
            }
            let read = tokio::time::timeout(DEADLINE, self.stream.read_buf(&mut self.input)).await;
            match read.context("the server says nothing")? {
                Ok(count) if count > 0 => {}
                _ => return Ok(None),
            }
        }
    }

    /// Reads up to a message of this type; `None` when the connection ends before.
    pub async fn read_to(&mut self, tag: u8) -> Result<Option<RawMessage>> {
        while let Some(message) = self.read().await? {
            if message.tag == tag {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Reads all there is until the connection is closed.
    pub async fn read_to_end(&mut self) -> Result<Vec<RawMessage>> {
        let mut messages = Vec::new();
        while let Some(message) = self.read().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// Breaks the connection as a machine that crashes does: by a reset.
    pub fn reset(self) -> Result<()> {
        let stream = self.stream.into_std()?;
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let size = libc::socklen_t::try_from(size_of::<libc::linger>())?;
        // SAFETY: the descriptor is open, and the value has the type and size that the option takes.
        let set = unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(&stream),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                std::ptr::from_ref(&linger).cast(),
                size,
            )
        };
        anyhow::ensure!(set == 0, "the socket takes no option");
        Ok(())
    }
}

impl RawMessage {
    /// Its body as far as it is text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).replace('\0', " ")
    }
}
