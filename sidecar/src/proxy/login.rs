//! From a new connection to a session: TLS, the first packet, and who the client is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use integratedb_wire::{Authentication, Backend as Message, Frontend, Startup, TransactionStatus};
use integratedb_wire::{frame, write};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout_at};

use super::backend::Backend;
use super::buffer::Buffer;
use super::cache::{Cache, Slot};
use super::cancel::ClientKey;
use super::params::Params;
use super::pool::{Lease, PoolKey, none_free};
use super::registry::Registry;
use super::report::{self, Report};
use super::scram::{self, Keys, ScramError};
use super::session::{Client, Session, Source};
use super::settings::{Auth, PoolMode, limit};
use super::share::{Full, Place, Share};
use super::startup::Wanted;
use super::stream::{self, Stream};
use super::{origin::ConnectError, random};

/// The longest message during authentication, in bytes.
const LIMIT: usize = 64 << 10;

/// A message from the origin before the first ReadyForQuery may be an error with a long text.
const ORIGIN_LIMIT: usize = 1 << 20;

/// How long a connection may say nothing before its first packet; nobody types anything until then.
const FIRST_PACKET: Duration = Duration::from_secs(15);

/// Why there is no session.
enum Refusal {
    /// The client is gone, or was only there to cancel something.
    Over,
    /// The client is told why.
    Told(Report),
    /// The client gets these bytes, an ErrorResponse.
    Bytes(Vec<u8>),
}

impl From<io::Error> for Refusal {
    fn from(_: io::Error) -> Self {
        Self::Over
    }
}

impl From<Report> for Refusal {
    fn from(report: Report) -> Self {
        Self::Told(report)
    }
}

impl From<integratedb_wire::Error> for Refusal {
    fn from(error: integratedb_wire::Error) -> Self {
        Self::Told(Report::fatal(report::PROTOCOL_VIOLATION, error.to_string()))
    }
}

/// A client that is not known yet.
struct Newcomer {
    stream: Stream,
    input: Buffer,
    output: Buffer,
    /// Until when the client may take its time.
    deadline: Instant,
}

/// Takes a new connection to its session, or to its end.
pub(super) async fn login(
    registry: &Arc<Registry>,
    stream: TcpStream,
) -> Option<(Session, Option<Lease>)> {
    stream::tune(&stream).ok()?;
    let mut newcomer = Newcomer {
        stream: Stream::Tcp(stream),
        input: Buffer::default(),
        output: Buffer::default(),
        deadline: Instant::now() + registry.login_time().min(FIRST_PACKET),
    };
    let refusal = match Box::pin(newcomer.enter(registry)).await {
        Ok((entered, cache, place)) => {
            let Newcomer { stream, input, output, .. } = newcomer;
            let Entered { key, source, params, settings, lease, wanted } = entered;
            let client =
                Client { stream, input, output, key, source, params, settings, wanted, place };
            return Some((Session::new(Arc::clone(registry), cache, client), lease));
        }
        Err(refusal) => refusal,
    };
    match refusal {
        Refusal::Over => return None,
        Refusal::Told(report) => report.write(newcomer.output.tail()),
        Refusal::Bytes(bytes) => newcomer.output.append(&bytes),
    }
    let farewell = async {
        let _ = newcomer.output.drain(&mut newcomer.stream).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut newcomer.stream).await;
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), farewell).await;
    None
}

/// A client that is known.
struct Entered {
    key: ClientKey,
    source: Source,
    params: Params,
    settings: Params,
    lease: Option<Lease>,
    wanted: PoolKey,
}

impl Newcomer {
    async fn enter(
        &mut self,
        registry: &Arc<Registry>,
    ) -> Result<(Entered, Arc<Cache>, Option<Place>), Refusal> {
        let wanted = timeout_at(self.deadline, self.first_packet(registry))
            .await
            .map_err(|_| too_late())??;
        self.deadline = Instant::now() + registry.login_time();
        if registry.sessions().load(Relaxed) >= registry.max_clients() {
            return Err(Report::fatal(
                report::TOO_MANY_CONNECTIONS,
                "sorry, too many clients already",
            )
            .hint("The limit is max_clients of the proxy.")
            .into());
        }
        if !self.stream.is_tls() && registry.tls().is_some_and(|tls| tls.required) {
            return Err(Report::fatal(
                report::INVALID_AUTHORIZATION,
                "the proxy takes only connections with TLS",
            )
            .hint("Set sslmode to require or better.")
            .into());
        }
        let cache = wanted.cache(registry)?;
        // From here on: who waits for a connection counts as well.
        let place = cache.settings().share.as_ref().map(Share::enter).transpose();
        let place = place.map_err(|Full { whose, most }| {
            Report::fatal(report::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
                .hint(format!("The caches of {whose} have at most {most} clients together."))
        })?;
        let entered = match cache.settings().auth {
            Auth::Passthrough => self.pass_through(registry, &cache, &wanted).await?,
            Auth::Scram => self.scram(registry, &cache, &wanted).await?,
        };
        Ok((entered, cache, place))
    }

    /// Answers requests for encryption and for cancelling, until the client says what it wants.
    async fn first_packet(&mut self, registry: &Arc<Registry>) -> Result<Wanted, Refusal> {
        self.accept_direct_tls(registry).await?;
        loop {
            let (startup, length) = loop {
                if let Some(found) = Startup::read(self.input.filled())? {
                    break found;
                }
                if self.input.fill(&mut self.stream).await? == 0 {
                    return Err(Refusal::Over);
                }
            };
            match startup {
                Startup::Ssl | Startup::GssEncryption => {
                    let wants_tls = startup == Startup::Ssl;
                    self.input.consume(length);
                    // What follows in clear text could come from somebody in between.
                    if !self.input.is_empty() {
                        return Err(Report::fatal(
                            report::PROTOCOL_VIOLATION,
                            "received unencrypted data after SSL or GSSAPI encryption request",
                        )
                        .into());
                    }
                    let tls = registry.tls().filter(|_| wants_tls && !self.stream.is_tls());
                    self.output.append(if tls.is_some() { b"S" } else { b"N" });
                    self.output.drain(&mut self.stream).await?;
                    if let Some(tls) = tls {
                        self.accept_tls(&tls.acceptor).await?;
                    }
                }
                Startup::Cancel { process, key } => {
                    let key = key.to_vec();
                    registry.cancels().cancel(process, &key).await;
                    return Err(Refusal::Over);
                }
                Startup::Session { version, parameters } => {
                    let wanted = Wanted::read(version, parameters)?;
                    self.input.consume(length);
                    return Ok(wanted);
                }
            }
        }
    }

    /// Since version 17 a client may begin with TLS at once (sslnegotiation=direct).
    async fn accept_direct_tls(&mut self, registry: &Arc<Registry>) -> Result<(), Refusal> {
        /// The type of TLS's record that holds a ClientHello; the length of a first packet begins with zero.
        const HANDSHAKE: u8 = 0x16;
        let Some(tls) = registry.tls() else { return Ok(()) };
        let Stream::Tcp(stream) = &self.stream else { return Ok(()) };
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE {
            self.accept_tls(&tls.acceptor).await?;
            let Stream::Tls(stream) = &self.stream else { return Err(Refusal::Over) };
            if stream.get_ref().1.alpn_protocol() != Some(b"postgresql") {
                return Err(Refusal::Over);
            }
        }
        Ok(())
    }

    async fn accept_tls(&mut self, acceptor: &tokio_rustls::TlsAcceptor) -> Result<(), Refusal> {
        // The stream is replaced whatever happens; one that failed is of no use to anybody.
        let (unused, _) = tokio::net::UnixStream::pair()?;
        let Stream::Tcp(stream) = std::mem::replace(&mut self.stream, Stream::Unix(unused)) else {
            return Err(Refusal::Over);
        };
        let stream = acceptor.accept(stream).await?;
        self.stream = Stream::Tls(Box::new(stream.into()));
        Ok(())
    }

    /// Waits for one message of the client's authentication.
    async fn password_message(&mut self) -> Result<usize, Refusal> {
        loop {
            if let Some(message) = frame::whole(self.input.filled(), LIMIT)? {
                return match Frontend::read(message)? {
                    Frontend::Password(_) => Ok(message.total()),
                    Frontend::Terminate => Err(Refusal::Over),
                    _ => Err(Report::fatal(
                        report::PROTOCOL_VIOLATION,
                        format!("expected password response, got message type {}", message.tag),
                    )
                    .into()),
                };
            }
            let fill = self.input.fill(&mut self.stream);
            if timeout_at(self.deadline, fill).await.map_err(|_| too_late())?? == 0 {
                return Err(Refusal::Over);
            }
        }
    }

    /// The right to a connection to the origin, while the client waits for it.
    async fn wait_for_slot(&mut self, cache: &Arc<Cache>) -> Result<Slot, Refusal> {
        let patience = async {
            match limit(cache.settings().query_wait_secs) {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        let slot = cache.slot(None);
        tokio::pin!(slot, patience);
        loop {
            tokio::select! {
                biased;
                slot = &mut slot => return Ok(slot),
                () = &mut patience => {
                    let limits = "The limits are max_origin_connections and query_wait_secs of the cache.";
                    return Err(none_free(limits).into());
                }
                // It has nothing to say before it is asked; but it may have left.
                came = self.input.fill(&mut self.stream) => {
                    if came? == 0 || self.input.len() > LIMIT {
                        return Err(Refusal::Over);
                    }
                }
            }
        }
    }

    /// The client logs in to the origin; only what concerns the connection itself is changed on the way.
    async fn pass_through(
        &mut self,
        registry: &Arc<Registry>,
        cache: &Arc<Cache>,
        wanted: &Wanted,
    ) -> Result<Entered, Refusal> {
        let slot = self.wait_for_slot(cache).await?;
        let (stream, host) = connect(cache).await?;
        let mut link = Backend::new(stream, cache.origin(), host);
        write::frontend::startup(link.output.tail(), wanted.version, wanted.startup())?;
        let mut minor = wanted.version.minor;
        let mut key = None;
        let mut params = Params::default();
        loop {
            link.output.drain(&mut link.stream).await.map_err(|_| lost())?;
            let Some(message) =
                frame::whole(link.input.filled(), ORIGIN_LIMIT).map_err(|e| nonsense(&e))?
            else {
                self.output.drain(&mut self.stream).await?;
                let fill = link.input.fill(&mut link.stream);
                match timeout_at(self.deadline, fill).await.map_err(|_| too_late())? {
                    Ok(count) if count > 0 => continue,
                    _ => return Err(lost()),
                }
            };
            let total = message.total();
            let mut answer = false;
            match Message::read(message).map_err(|e| nonsense(&e))? {
                Message::Authentication(step) => {
                    match step {
                        Authentication::Sasl(offered) => {
                            // A binding to the proxy's certificate would prove nothing to the origin.
                            let kept =
                                offered.iter().filter(|name| *name != scram::PLUS.as_bytes());
                            write::backend::authentication_sasl(self.output.tail(), kept)?;
                        }
                        _ => self.output.append(&link.input.filled()[..total]),
                    }
                    answer = !matches!(step, Authentication::Ok | Authentication::SaslFinal(_));
                }
                Message::BackendKeyData { process, key: secret } => {
                    let secret = secret.to_vec();
                    link.learn_key(process, secret);
                    let length = if minor >= 2 { 32 } else { 4 };
                    let issued = registry.cancels().issue(length);
                    let (process, secret) = issued.shown();
                    write::backend::backend_key_data(self.output.tail(), process, secret)?;
                    key = Some(issued);
                }
                Message::NegotiateVersion { minor: newest } => {
                    minor = minor.min(u16::try_from(newest & 0xffff).unwrap_or(0));
                    self.output.append(&link.input.filled()[..total]);
                }
                Message::ParameterStatus(name, value) => {
                    params.report(name, value);
                    self.output.append(&link.input.filled()[..total]);
                }
                Message::Ready(_) => {
                    self.output.append(&link.input.filled()[..total]);
                    link.input.consume(total);
                    break;
                }
                Message::Error(_) => {
                    return Err(Refusal::Bytes(link.input.filled()[..total].to_vec()));
                }
                _ => self.output.append(&link.input.filled()[..total]),
            }
            link.input.consume(total);
            if answer {
                self.output.drain(&mut self.stream).await?;
                let total = self.password_message().await?;
                let message = &self.input.filled()[..total];
                if link.stream.is_tls() && was_kept_from_binding(message) {
                    return Err(cannot_bind().into());
                }
                link.output.append(message);
                self.input.consume(total);
            }
        }
        // An origin without a postmaster behind it may have no key; a key that leads nowhere does no harm.
        let key = key.unwrap_or_else(|| registry.cancels().issue(4));
        Ok(Entered {
            key,
            source: Source::Own,
            params,
            settings: Params::default(),
            lease: Some(Lease::own(link, slot)),
            wanted: wanted.pool_key(),
        })
    }

    /// The client proves to the proxy that it knows the password.
    async fn scram(
        &mut self,
        registry: &Arc<Registry>,
        cache: &Arc<Cache>,
        wanted: &Wanted,
    ) -> Result<Entered, Refusal> {
        self.negotiate(wanted)?;
        let keys = Arc::new(self.authenticate(registry, cache, wanted).await?);
        let pool = cache.pool(&wanted.pool_key());
        pool.learn(&keys);
        // The first of a pool opens a connection, to know what the origin reports.
        let mut lease = None;
        let mut params = match pool.welcome() {
            Some(params) => params,
            None => {
                let first = pool.acquire(cache).await.map_err(Refusal::Bytes)?;
                let params = first.backend.params.clone();
                match cache.settings().pool_mode {
                    PoolMode::Session if wanted.application_name().is_none() => lease = Some(first),
                    _ => pool.release(first, cache),
                }
                params
            }
        };
        let mut settings = Params::default();
        if let Some(name) = wanted.application_name() {
            params.set(b"application_name", name);
            settings.set(b"application_name", name);
        }
        let length = if wanted.version.minor >= 2 { 32 } else { 4 };
        let key = registry.cancels().issue(length);
        let output = self.output.tail();
        write::backend::authentication_ok(output);
        for (name, value) in params.iter() {
            write::backend::parameter_status(output, name, value)?;
        }
        let (process, secret) = key.shown();
        write::backend::backend_key_data(output, process, secret)?;
        write::backend::ready(output, TransactionStatus::Idle);
        let wanted = pool.key().clone();
        Ok(Entered { key, source: Source::Pool { pool, keys }, params, settings, lease, wanted })
    }

    /// A client that wants more than the proxy knows is told what it gets.
    fn negotiate(&mut self, wanted: &Wanted) -> Result<(), Refusal> {
        let unknown = wanted.protocol_options();
        if wanted.version.minor > 2 || !unknown.is_empty() {
            let minor = wanted.version.minor.min(2);
            write::backend::negotiate_version(self.output.tail(), minor, &unknown)?;
        }
        Ok(())
    }

    async fn authenticate(
        &mut self,
        registry: &Arc<Registry>,
        cache: &Arc<Cache>,
        wanted: &Wanted,
    ) -> Result<Keys, Refusal> {
        let user = String::from_utf8_lossy(&wanted.user).into_owned();
        let wrong = |why: ScramError| {
            tracing::info!(cache = %cache.id(), why = %why, "a login failed");
            match why {
                ScramError::Malformed | ScramError::ChannelBinding => {
                    Report::fatal(report::PROTOCOL_VIOLATION, why.to_string())
                }
                _ => Report::fatal(
                    report::INVALID_PASSWORD,
                    format!("password authentication failed for user \"{user}\""),
                ),
            }
        };
        let verifiers = cache.verifiers().ok_or_else(|| {
            Report::fatal(report::INVALID_AUTHORIZATION, "the cache can't authenticate anybody")
        })?;
        let verifier = verifiers.of(&user).await.map_err(|error| {
            tracing::warn!(cache = %cache.id(), %error, "a login failed");
            Report::fatal(
                report::CONNECTION_FAILURE,
                "the proxy can't ask the origin who may come in",
            )
            .detail(error.to_string())
        })?;
        let hash = registry.tls().filter(|_| self.stream.is_tls()).and_then(|tls| tls.hash);
        let plus = hash.as_ref().map(|_| scram::PLUS.as_bytes());
        let offered = plus.into_iter().chain([scram::PLAIN.as_bytes()]);
        write::backend::authentication_sasl(self.output.tail(), offered)?;
        self.output.drain(&mut self.stream).await?;

        let total = self.password_message().await?;
        let body = &self.input.filled()[frame::HEADER..total];
        let (mechanism, data) = sasl_initial(body).ok_or_else(|| wrong(ScramError::Malformed))?;
        let (server, reply) =
            scram::Server::start(verifier, mechanism, data, hash.as_deref(), &random::nonce())
                .map_err(wrong)?;
        self.input.consume(total);
        write::backend::authentication_sasl_continue(self.output.tail(), reply.as_bytes())?;
        self.output.drain(&mut self.stream).await?;

        let total = self.password_message().await?;
        let data = &self.input.filled()[frame::HEADER..total];
        let (reply, keys) = server.finish(data).map_err(wrong)?;
        self.input.consume(total);
        write::backend::authentication_sasl_final(self.output.tail(), reply.as_bytes())?;
        Ok(keys)
    }
}

/// Mechanism and data of a SASLInitialResponse.
fn sasl_initial(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let (mechanism, rest) = (&body[..end], &body[end + 1..]);
    let (length, data) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    (data.len() == length).then_some((mechanism, data))
}

/// Whether a client says that it could bind to the TLS connection but was not offered to.
fn was_kept_from_binding(message: &[u8]) -> bool {
    sasl_initial(&message[frame::HEADER..]).is_some_and(|(mechanism, data)| {
        mechanism == scram::PLAIN.as_bytes() && data.starts_with(b"y,")
    })
}

fn cannot_bind() -> Report {
    Report::fatal(
        report::INVALID_AUTHORIZATION,
        "a SCRAM login can't be passed through when TLS is used on both sides of the proxy",
    )
    .detail("The client could bind its login to its TLS connection, and the origin would take that for an attack.")
    .hint("Set auth = \"scram\" for the cache, or channel_binding=disable in the client.")
}

async fn connect(cache: &Cache) -> Result<(Stream, usize), Refusal> {
    let origin = cache.origin();
    let mut last: Option<ConnectError> = None;
    for host in 0..origin.hosts() {
        match origin.connect(host).await {
            Ok(stream) => return Ok((stream, host)),
            Err(error) => last = Some(error),
        }
    }
    let mut report =
        Report::fatal(report::CONNECTION_FAILURE, "the proxy can't connect to the origin");
    if let Some(error) = last {
        tracing::warn!(cache = %cache.id(), %error, "no connection to the origin");
        report = report.detail(error.to_string());
    }
    Err(report.into())
}

fn too_late() -> Refusal {
    Report::fatal(report::PROTOCOL_VIOLATION, "the login took too long")
        .hint("The limit is login_secs of the proxy.")
        .into()
}

fn lost() -> Refusal {
    Report::fatal(report::CONNECTION_FAILURE, "the connection to the origin was lost").into()
}

fn nonsense(error: &integratedb_wire::Error) -> Refusal {
    Report::fatal(report::PROTOCOL_VIOLATION, "the origin said what the protocol does not allow")
        .detail(error.to_string())
        .into()
}
