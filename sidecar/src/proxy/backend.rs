//! One connection to an origin, logged in: opened by the proxy, and talked to by it alone here.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use integratedb_wire::{
    Authentication, Backend as Message, ErrorField, ErrorFields, ProtocolVersion,
};
use integratedb_wire::{frame, write};
use tokio::io::AsyncWriteExt;

use super::buffer::Buffer;
use super::cancel::OriginKey;
use super::endpoint;
use super::origin::{ConnectError, Origin};
use super::params::Params;
use super::password::{Exchange, Password};
use super::report::{self, Report};
use super::scram;
use super::statements::Prepared;
use super::stream::Stream;

/// The longest message that is read as a whole while no client is there to take it piece by piece.
const LIMIT: usize = 1 << 20;

/// What the proxy gathers of one answer, in memory.
const ANSWER: usize = 16 << 20;

/// A connection to an origin.
pub(crate) struct Backend {
    pub(crate) stream: Stream,
    pub(crate) input: Buffer,
    pub(crate) output: Buffer,
    /// What cancels its queries.
    pub(crate) key: Arc<OriginKey>,
    /// What the origin reports of its settings.
    pub(crate) params: Params,
    /// What was set in it since it was opened.
    pub(crate) settings: Params,
    /// A client may have left something in it that is not known of.
    pub(crate) is_doubtful: bool,
    /// The statements prepared in it.
    pub(crate) prepared: Prepared,
    /// When it was opened.
    pub(crate) born: Instant,
    /// When it was last given back.
    pub(crate) idle_since: Instant,
}

/// Why an origin has no connection for us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The origin's own ErrorResponse, as it came.
    #[error("the origin refuses: {message}")]
    Refused { code: String, message: String, response: Vec<u8> },
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the origin said what the protocol does not allow: {0}")]
    Wire(#[from] integratedb_wire::Error),
    #[error("{0}")]
    Scram(#[from] scram::ScramError),
    #[error("the origin asks for {0}, but the proxy has only SCRAM-SHA-256 keys to show")]
    Method(&'static str),
    #[error("no host of the origin takes writes")]
    ReadOnly,
    #[error("no answer within {0} s")]
    Timeout(u64),
    #[error("the answer is longer than the {ANSWER} bytes that are read of one")]
    TooLong,
}

impl OpenError {
    /// What the origin says in an ErrorResponse, which came as these bytes.
    pub(crate) fn refused(fields: ErrorFields<'_>, response: &[u8]) -> Self {
        let text = |field| {
            fields.get(field).map(|t| String::from_utf8_lossy(t).into_owned()).unwrap_or_default()
        };
        Self::Refused {
            code: text(ErrorField::CODE),
            message: text(ErrorField::MESSAGE),
            response: response.to_vec(),
        }
    }

    /// Whether the same may go well later, without anybody changing anything: the origin is down, starting, full.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Connect(ConnectError::NoTls(_)) | Self::Scram(_) | Self::Method(_) => false,
            Self::Refused { code, .. } => {
                matches!(code.as_str(), "57P03" | "53300" | "57P01" | "57P02")
            }
            _ => true,
        }
    }

    /// Appends what a client is told.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Refused { response, .. } => buffer.extend(response),
            Self::Scram(scram::ScramError::OtherVerifier) => Report::fatal(
                report::INVALID_PASSWORD,
                "the password was changed since this session began",
            )
            .hint("Connect again.")
            .write(buffer),
            other => {
                Report::fatal(report::CONNECTION_FAILURE, "the proxy can't connect to the origin")
                    .detail(other.to_string())
                    .write(buffer)
            }
        }
    }
}

/// What came back from a batch of the proxy's own.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<Vec<Option<Vec<u8>>>>,
    /// The first error, which is [`OpenError::Refused`].
    pub(crate) error: Option<OpenError>,
}

/// How a session is begun.
pub(crate) struct Login<'a> {
    /// user, database and the rest of the startup packet.
    pub(crate) startup: &'a [(Vec<u8>, Vec<u8>)],
    pub(crate) keys: Option<&'a scram::Keys>,
    /// What the sidecar itself logs in with, where it has no keys.
    pub(crate) password: Option<Password<'a>>,
}

impl Backend {
    /// A connection to one of the hosts that nothing was said on yet.
    pub(crate) fn new(stream: Stream, origin: &Arc<Origin>, host: usize) -> Self {
        Self {
            stream,
            input: Buffer::default(),
            output: Buffer::default(),
            key: Arc::new(OriginKey {
                origin: Arc::clone(origin),
                host,
                process: 0,
                secret: Vec::new(),
            }),
            params: Params::default(),
            settings: Params::default(),
            is_doubtful: false,
            prepared: Prepared::default(),
            born: Instant::now(),
            idle_since: Instant::now(),
        }
    }

    /// What the origin named to cancel its queries by.
    pub(crate) fn learn_key(&mut self, process: u32, secret: Vec<u8>) {
        let OriginKey { origin, host, .. } = &*self.key;
        let key = OriginKey { origin: Arc::clone(origin), host: *host, process, secret };
        self.key = Arc::new(key);
    }

    /// Logs in at the first host that will do.
    pub(crate) async fn open(origin: &Arc<Origin>, login: &Login<'_>) -> Result<Self, OpenError> {
        let mut last = OpenError::ReadOnly;
        for host in 0..origin.hosts() {
            let attempt =
                tokio::time::timeout(origin.timeout(), Self::open_at(origin, host, login));
            match attempt.await.unwrap_or(Err(OpenError::Timeout(origin.timeout().as_secs()))) {
                Ok(backend) => return Ok(backend),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Logs in at one host.
    pub(crate) async fn open_at(
        origin: &Arc<Origin>,
        host: usize,
        login: &Login<'_>,
    ) -> Result<Self, OpenError> {
        let stream = origin.connect(host).await?;
        let mut backend = Self::new(stream, origin, host);
        let version = ProtocolVersion { major: 3, minor: 0 };
        let pairs = login.startup.iter().map(|(n, v)| (n.as_slice(), v.as_slice()));
        write::frontend::startup(backend.output.tail(), version, pairs)?;
        backend.output.drain(&mut backend.stream).await?;
        backend.authenticate(login).await?;
        while !backend.read_greeting().await? {}
        if origin.wants_writes() && backend.only_reads().await? {
            return Err(OpenError::ReadOnly);
        }
        Ok(backend)
    }

    async fn authenticate(&mut self, login: &Login<'_>) -> Result<(), OpenError> {
        let hash = self.stream.peer_certificate().and_then(endpoint::hash);
        let mut exchange = None;
        let mut is_verified = false;
        loop {
            let total = self.wait_for_message().await?;
            let message = frame::whole(self.input.filled(), LIMIT)?.expect("it was waited for");
            let reply = match Message::read(message)? {
                Message::Authentication(step) => match step {
                    // Whoever can't prove that it knows the verifier is not the origin.
                    Authentication::Ok if exchange.is_some() && !is_verified => {
                        return Err(scram::ScramError::Server.into());
                    }
                    Authentication::Ok => {
                        self.input.consume(total);
                        return Ok(());
                    }
                    Authentication::Sasl(offered) => {
                        let offers = |name: &str| offered.iter().any(|m| m == name.as_bytes());
                        let is_tls = self.stream.is_tls();
                        let hash = hash.as_deref().filter(|_| offers(scram::PLUS));
                        if hash.is_none() && !offers(scram::PLAIN) {
                            return Err(OpenError::Method(
                                "a SASL mechanism other than SCRAM-SHA-256",
                            ));
                        }
                        let name = if hash.is_some() { scram::PLUS } else { scram::PLAIN };
                        let client = match (login.keys, login.password) {
                            (Some(keys), _) => Exchange::of_keys(keys, is_tls, hash),
                            (None, Some(password)) => password.exchange(is_tls, hash),
                            (None, None) => return Err(OpenError::Method("a password")),
                        };
                        let mut reply = Vec::new();
                        write::frontend::sasl_initial(&mut reply, name, &client.first())?;
                        exchange = Some(client);
                        reply
                    }
                    Authentication::SaslContinue(data) => {
                        let client = exchange.as_mut().ok_or(scram::ScramError::Malformed)?;
                        let mut reply = Vec::new();
                        write::frontend::sasl_response(&mut reply, &client.last(data)?)?;
                        reply
                    }
                    Authentication::SaslFinal(data) => {
                        exchange.as_mut().ok_or(scram::ScramError::Malformed)?.verify(data)?;
                        is_verified = true;
                        Vec::new()
                    }
                    Authentication::Cleartext => login
                        .password
                        .ok_or(OpenError::Method("a password in clear text"))?
                        .in_clear_text()?,
                    Authentication::Md5(salt) => {
                        login.password.ok_or(OpenError::Method("an MD5 hash"))?.hashed(salt)?
                    }
                    Authentication::Other(_) => {
                        return Err(OpenError::Method("a method of its own"));
                    }
                },
                Message::Error(fields) => {
                    return Err(OpenError::refused(fields, &self.input.filled()[..total]));
                }
                Message::Notice(_) | Message::NegotiateVersion { .. } => Vec::new(),
                _ => return Err(integratedb_wire::Error::Tag(message.tag).into()),
            };
            self.input.consume(total);
            self.output.append(&reply);
            self.output.drain(&mut self.stream).await?;
        }
    }

    /// Takes one message between authentication and the first ReadyForQuery, which gives true.
    async fn read_greeting(&mut self) -> Result<bool, OpenError> {
        let total = self.wait_for_message().await?;
        let message = frame::whole(self.input.filled(), LIMIT)?.expect("it was waited for");
        let mut is_ready = false;
        match Message::read(message)? {
            Message::ParameterStatus(name, value) => self.params.report(name, value),
            Message::BackendKeyData { process, key } => {
                let secret = key.to_vec();
                self.learn_key(process, secret);
            }
            Message::Ready(_) => is_ready = true,
            Message::Error(fields) => {
                return Err(OpenError::refused(fields, &self.input.filled()[..total]));
            }
            _ => {}
        }
        self.input.consume(total);
        Ok(is_ready)
    }

    /// Since version 14 a server reports both settings; an older one is asked.
    async fn only_reads(&mut self) -> Result<bool, OpenError> {
        let is_on = |name: &[u8]| self.params.get(name).map(|value| value == b"on");
        if let (Some(standby), Some(read_only)) =
            (is_on(b"in_hot_standby"), is_on(b"default_transaction_read_only"))
        {
            return Ok(standby || read_only);
        }
        let mut batch = Vec::new();
        write::frontend::query(&mut batch, b"SHOW transaction_read_only")?;
        let answer = self.run(&batch).await?;
        Ok(answer
            .rows
            .first()
            .and_then(|row| row.first())
            .is_some_and(|v| v.as_deref() == Some(b"on")))
    }

    /// Sends messages that end with a Query or Sync, and gives what comes back before it is ready again. An origin
    /// that does not answer in the time that a login may take is given up.
    pub(crate) async fn run(&mut self, batch: &[u8]) -> Result<Answer, OpenError> {
        let patience = self.key.origin.timeout();
        let answer = tokio::time::timeout(patience, self.run_patiently(batch)).await;
        answer.unwrap_or(Err(OpenError::Timeout(patience.as_secs())))
    }

    /// The same without end: for what may take long.
    pub(crate) async fn run_patiently(&mut self, batch: &[u8]) -> Result<Answer, OpenError> {
        self.output.append(batch);
        self.output.drain(&mut self.stream).await?;
        let mut answer = Answer::default();
        let mut left = ANSWER;
        loop {
            let total = self.wait_for_message().await?;
            let message = frame::whole(self.input.filled(), LIMIT)?.expect("it was waited for");
            match Message::read(message)? {
                Message::DataRow(row) => {
                    // With what a row takes besides its bytes.
                    let values = (row.iter().count() + 1) * size_of::<Option<Vec<u8>>>();
                    left = left.checked_sub(total + values).ok_or(OpenError::TooLong)?;
                    answer.rows.push(row.iter().map(|value| value.map(<[u8]>::to_vec)).collect());
                }
                Message::Error(fields) if answer.error.is_none() => {
                    answer.error = Some(OpenError::refused(fields, &self.input.filled()[..total]));
                }
                Message::ParameterStatus(name, value) => self.params.report(name, value),
                Message::Ready(_) => {
                    self.input.consume(total);
                    return Ok(answer);
                }
                _ => {}
            }
            self.input.consume(total);
        }
    }

    /// Waits until a whole message is there; gives its length.
    pub(crate) async fn wait_for_message(&mut self) -> Result<usize, OpenError> {
        loop {
            if let Some(message) = frame::whole(self.input.filled(), LIMIT)? {
                return Ok(message.total());
            }
            if self.input.fill(&mut self.stream).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Whether it still stands and has nothing to say, as far as can be told without waiting. Settings that it
    /// reports unasked, after a reload of its configuration, are taken in.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        loop {
            match self.input.poll_fill(&mut cx, &mut self.stream, false) {
                std::task::Poll::Pending => return self.take_in_news(),
                std::task::Poll::Ready(Ok(count)) if count > 0 => {}
                std::task::Poll::Ready(_) => return false,
            }
        }
    }

    fn take_in_news(&mut self) -> bool {
        while let Ok(Some(message)) = frame::whole(self.input.filled(), LIMIT) {
            match Message::read(message) {
                Ok(Message::ParameterStatus(name, value)) => self.params.report(name, value),
                Ok(Message::Notice(_)) => {}
                _ => return false,
            }
            let total = message.total();
            self.input.consume(total);
        }
        self.input.is_empty()
    }

    /// Writes what is left to be written, and reads, whatever it is, until the origin closes.
    pub(crate) async fn finish(&mut self) {
        std::future::poll_fn(|cx| {
            let _ = self.output.poll_drain(cx, &mut self.stream);
            loop {
                self.input.reset();
                match std::task::ready!(self.input.poll_fill(cx, &mut self.stream, false)) {
                    Ok(count) if count > 0 => {}
                    _ => return std::task::Poll::Ready(()),
                }
            }
        })
        .await;
    }

    /// Says goodbye, as far as that goes without waiting.
    pub(crate) fn close(mut self) {
        write::frontend::terminate(self.output.tail());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = self.output.poll_drain(&mut cx, &mut self.stream);
        if self.stream.is_tls() {
            // A TLS connection wants to be told of its end, which may take a moment.
            tokio::spawn(async move {
                let _ =
                    tokio::time::timeout(std::time::Duration::from_secs(1), self.stream.shutdown())
                        .await;
            });
        }
    }
}
