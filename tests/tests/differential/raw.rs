//! A connection of plain bytes: it logs in, writes what it is told in the pieces it is told, and keeps all that
//! comes back.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use integratedb_wire::tag::{backend as tag, frontend};
use integratedb_wire::{Authentication, Backend, ProtocolVersion, Target, frame, write};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

/// For one stream, from the login to its end.
const DEADLINE: Duration = Duration::from_secs(15);

/// The longest message that is taken for one.
const LIMIT: usize = 1 << 30;

/// What is done on a connection, in this order.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// These bytes are written.
    Send(Vec<u8>),
    /// Everything under way is ended, and its answers are waited for.
    Settle,
    /// One of these messages is waited for, after what was last waited for.
    Await(&'static [u8]),
    /// No more is written, but what comes is still read.
    CloseWriting,
}

/// What [`Op::Settle`] sends: the end of a COPY and of a batch, then what is answered with [`SETTLED`] even in a
/// transaction that failed.
fn settle() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write::header(&mut bytes, frontend::COPY_DONE, 0)?;
    write::frontend::sync(&mut bytes);
    write::frontend::query(&mut bytes, b"")?;
    write::frontend::close(&mut bytes, Target::Portal, b"none of this name")?;
    write::frontend::sync(&mut bytes);
    write::frontend::query(&mut bytes, b"")?;
    Ok(bytes)
}

const SETTLED: [u8; 6] =
    [tag::EMPTY_QUERY, tag::READY, tag::CLOSE_COMPLETE, tag::READY, tag::EMPTY_QUERY, tag::READY];

/// Where and as whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) database: &'a str,
    pub(crate) application_name: &'a str,
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Up to the first ReadyForQuery.
    pub(crate) login: Vec<u8>,
    /// After that.
    pub(crate) rest: Vec<u8>,
    /// The other side did not close within the deadline.
    pub(crate) hangs: bool,
}

/// Logs in and does all of `ops`, then reads to the end. What is sent is cut into pieces of these sizes, the first
/// again after the last. `between` is run whenever the connection has settled.
pub(crate) async fn play(
    login: Login<'_>,
    ops: &[Op],
    pieces: &[usize],
    between: impl AsyncFnMut() -> Result<()>,
) -> Result<Heard> {
    let stream = TcpStream::connect(login.address).await?;
    stream.set_nodelay(true)?;
    let (mut reading, mut writing) = stream.into_split();
    let greeting = log_in(login, &mut reading, &mut writing);
    let greeting = tokio::time::timeout(DEADLINE, greeting).await.context("no login")??;
    let inbox = Inbox::default();
    let played = async {
        let (read, written) =
            tokio::join!(inbox.fill(reading), perform(ops, pieces, writing, &inbox, between));
        read.and(written)
    };
    let hangs = match tokio::time::timeout(DEADLINE, played).await {
        Ok(result) => {
            result?;
            false
        }
        Err(_) => true,
    };
    Ok(Heard { login: greeting, rest: inbox.state.into_inner().bytes, hangs })
}

/// What comes in while something else goes out.
#[derive(Default)]
struct Inbox {
    state: RefCell<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// Types of the messages, but for those that come unasked, and for all before the last that was waited for.
    tags: Vec<u8>,
    /// Up to where `tags` have been read.
    read: usize,
    ended: bool,
}

impl State {
    fn read_tags(&mut self) -> Result<()> {
        while let Some(message) = frame::whole(&self.bytes[self.read..], LIMIT)? {
            if !matches!(message.tag, tag::NOTICE | tag::NOTIFICATION | tag::PARAMETER_STATUS) {
                self.tags.push(message.tag);
            }
            self.read += message.total();
        }
        Ok(())
    }
}

impl Inbox {
    async fn fill(&self, mut stream: OwnedReadHalf) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            // A side that closes before it has read everything resets the connection.
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            let mut state = self.state.borrow_mut();
            state.bytes.extend(&buffer[..count]);
            state.ended = count == 0;
            self.news.notify_one();
            if count == 0 {
                return Ok(());
            }
        }
    }

    /// Waits until the messages since the last wait are as wanted, or the other side has closed.
    async fn wait_for(&self, is_it: impl Fn(&[u8]) -> bool) -> Result<()> {
        loop {
            {
                let mut state = self.state.borrow_mut();
                state.read_tags()?;
                if state.ended || is_it(&state.tags) {
                    state.tags.clear();
                    return Ok(());
                }
            }
            self.news.notified().await;
        }
    }
}

async fn perform(
    ops: &[Op],
    pieces: &[usize],
    mut stream: OwnedWriteHalf,
    inbox: &Inbox,
    mut between: impl AsyncFnMut() -> Result<()>,
) -> Result<()> {
    let mut sizes = pieces.iter().copied().cycle();
    for op in ops {
        match op {
            Op::Send(bytes) => send(&mut stream, bytes, &mut sizes).await,
            Op::Settle => {
                send(&mut stream, &settle()?, &mut sizes).await;
                inbox.wait_for(|tags| tags.ends_with(&SETTLED)).await?;
                between().await?;
            }
            Op::Await(wanted) => {
                inbox.wait_for(|tags| tags.iter().any(|tag| wanted.contains(tag))).await?;
            }
            Op::CloseWriting => drop(stream.shutdown().await),
        }
    }
    // Dropping it would close the writing half, which some servers take for the client's end.
    inbox.wait_for(|_| false).await?;
    drop(stream);
    Ok(())
}

/// Writes in pieces. That the other side has closed is seen by reading.
async fn send(
    stream: &mut OwnedWriteHalf,
    mut bytes: &[u8],
    sizes: &mut impl Iterator<Item = usize>,
) {
    while !bytes.is_empty() {
        let size = sizes.next().unwrap_or(usize::MAX).clamp(1, bytes.len());
        if stream.write_all(&bytes[..size]).await.is_err() {
            return;
        }
        bytes = &bytes[size..];
        // So that the other side may see the piece alone.
        tokio::task::yield_now().await;
    }
}

async fn log_in(
    login: Login<'_>,
    reading: &mut OwnedReadHalf,
    writing: &mut OwnedWriteHalf,
) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let pairs = [
        ("user", login.user),
        ("database", login.database),
        ("application_name", login.application_name),
    ];
    let pairs = pairs.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    write::frontend::startup(&mut out, ProtocolVersion { major: 3, minor: 0 }, pairs)?;
    let mut heard = Vec::new();
    let mut read = 0;
    let mut exchange = None;
    loop {
        writing.write_all(&out).await?;
        out.clear();
        let Some(message) = frame::whole(&heard[read..], LIMIT)? else {
            ensure!(reading.read_buf(&mut heard).await? > 0, "closed while logging in");
            continue;
        };
        match Backend::read(message)? {
            Backend::Authentication(Authentication::Sasl(_)) => {
                let client =
                    ScramSha256::new(login.password.as_bytes(), ChannelBinding::unsupported());
                write::frontend::sasl_initial(&mut out, "SCRAM-SHA-256", client.message())?;
                exchange = Some(client);
            }
            Backend::Authentication(Authentication::SaslContinue(data)) => {
                let client = exchange.as_mut().context("no exchange goes on")?;
                client.update(data)?;
                write::frontend::sasl_response(&mut out, client.message())?;
            }
            Backend::Authentication(Authentication::SaslFinal(data)) => {
                exchange.as_mut().context("no exchange goes on")?.finish(data)?;
            }
            Backend::Error(fields) => {
                bail!(
                    "refused: {:?}",
                    fields.iter().map(|f| String::from_utf8_lossy(f.1)).collect::<Vec<_>>()
                );
            }
            // Nothing was sent yet, so nothing follows.
            Backend::Ready(_) => return Ok(heard),
            _ => {}
        }
        read += message.total();
    }
}
