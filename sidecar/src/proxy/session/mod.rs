//! One client's session after its login: takes what the client says to a connection to the origin, and the answers
//! back.
//!
//! One task does both directions, so that a query costs no hand-over between tasks. What a message means for the
//! session is decided without I/O in `up` (from the client), `down` (from the origin) and `prepare`; `link` gets and gives
//! back connections, and `state` carries settings from one to the next. `keep` answers from the cache, `learn` fills it, and
//! `caching` is what both know of the session.
//!
//! Invariants:
//! - A connection is given to another client only when everything that this one sent is answered, no transaction
//!   is open, nothing is pinned and no cancel request is on its way to it.
//! - The client sees each answer once, in the order of its messages.
//! - In neither direction is more read than was written on, but for single messages that have to be seen whole.

mod ask;
mod caching;
mod down;
mod keep;
mod labels;
mod learn;
mod link;
mod look;
mod noted;
mod prepare;
mod relay;
mod state;
mod up;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Instant;

use integratedb_wire::TransactionStatus;

use super::buffer::Buffer;
use super::cache::Cache;
use super::cancel::ClientKey;
use super::flow::Flow;
use super::params::Params;
use super::pool::{Lease, Pool, PoolKey};
use super::recent::Recent;
use super::registry::Registry;
use super::report::Report;
use super::scram::Keys;
use super::settings::{PoolMode, limit};
use super::share::Place;
use super::statements::Names;
use super::stream::Stream;
use crate::cache::Who;
use caching::Caching;
use labels::{Labels, Portals};
pub(crate) use look::LOOKED_INTO;
use state::Touched;

/// How a session gets its connections to the origin.
pub(super) enum Source {
    /// It has its own, which the client itself logged in to.
    Own,
    /// It borrows from a pool; these open a new one.
    Pool { pool: Arc<Pool>, keys: Arc<Keys> },
}

/// What is known of a client when its login is done.
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) input: Buffer,
    pub(super) output: Buffer,
    pub(super) key: ClientKey,
    pub(super) source: Source,
    /// What the client was told of the origin's settings.
    pub(super) params: Params,
    /// What differs in its session from what its connections have after login.
    pub(super) settings: Params,
    /// What it asked for in its startup packet.
    pub(super) wanted: PoolKey,
    /// Among those that may use such caches.
    pub(super) place: Option<Place>,
}

/// A client's session.
pub(super) struct Session {
    registry: Arc<Registry>,
    cache: Arc<Cache>,
    client: Stream,
    input: Buffer,
    output: Buffer,
    key: ClientKey,
    source: Source,
    mode: PoolMode,
    flow: Flow,
    /// In transaction mode: the statements the client has prepared.
    names: Names,
    /// Otherwise: what its statements were found to be.
    labels: Labels,
    /// There may be names that are not among them.
    doubts_names: bool,
    /// What the statements behind its portals were found to be.
    portals: Portals,
    params: Params,
    settings: Params,
    /// What the client came with, and has again when it resets a setting.
    first_settings: Params,
    touched: Touched,
    /// Its last texts, by which others are known.
    recent: Recent,
    /// Whether texts can be told apart into what is constant and what is not: see [`can_be_read`].
    reads_text: bool,
    /// A text of this transaction was not looked into, or not to its end.
    judges_tags: bool,
    /// The connection may not serve another client before this one is gone.
    pinned: bool,
    /// Whether that is counted.
    counted_pin: bool,
    /// Bytes of a message from the client that are still to be passed on.
    up_rest: usize,
    /// The same of a message from the origin; and whether the client gets them.
    down_rest: usize,
    down_hidden: bool,
    /// Bytes of answers since the last one was complete.
    answered: u64,
    /// The query now answered has failed.
    failed: bool,
    /// Answers came that nothing was asked for; the connection is good for nobody else.
    unsound: bool,
    /// Something was sent since the connection was got.
    has_spoken: bool,
    /// The next message of the client depends on answers that are still to come.
    held: bool,
    /// Something under way takes names of statements away, or more; may be out of date when nothing is under way.
    forgets: bool,
    /// The client has said goodbye.
    terminated: bool,
    /// So the origin was told, because it would not come to an end otherwise.
    hung_up: bool,
    /// The origin has said that it ends the session.
    dismissed: bool,
    /// What is known of the batch that a transaction is open in.
    status: TransactionStatus,
    /// When anything was last heard of the client or the origin.
    active: Instant,
    /// Bytes that go before the message that is looked at, used for nothing else.
    scratch: Vec<u8>,
    /// Where answers are kept; `None` where they are not.
    caching: Option<Box<Caching>>,
    _place: Option<Place>,
}

/// Whether strings end where standard SQL says, and no byte of a character looks like one of ASCII. Else what looks
/// like a name may be part of a constant, and constants are never kept.
fn can_be_read(params: &Params) -> bool {
    let has_standard_strings =
        params.get(b"standard_conforming_strings").is_none_or(|value| value == b"on");
    let encoding = params.get(b"client_encoding").unwrap_or_default();
    let is_ambiguous =
        [&b"SJIS"[..], b"BIG5", b"GBK", b"UHC", b"GB18030", b"JOHAB", b"SHIFT_JIS_2004"]
            .iter()
            .any(|name| encoding.eq_ignore_ascii_case(name));
    has_standard_strings && !is_ambiguous
}

/// How a session ends.
enum End {
    /// The client has said goodbye, or is gone without.
    ClientGone,
    /// The origin has closed the connection.
    OriginGone,
    /// The client gets these bytes, an ErrorResponse. Boxed, because what returns it is called for every message.
    Told(Box<[u8]>),
}

impl From<Report> for End {
    fn from(report: Report) -> Self {
        tracing::debug!(code = report.code(), message = report.message(), "session ended");
        let mut bytes = Vec::new();
        report.write(&mut bytes);
        Self::Told(bytes.into())
    }
}

impl From<Vec<u8>> for End {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Told(bytes.into())
    }
}

impl Session {
    pub(super) fn new(registry: Arc<Registry>, cache: Arc<Cache>, client: Client) -> Self {
        let mode = match client.source {
            Source::Own => PoolMode::Session,
            Source::Pool { .. } => cache.settings().pool_mode,
        };
        let room = Arc::clone(cache.statements().room());
        cache.enter();
        registry.sessions().fetch_add(1, Relaxed);
        let caching = cache.engine(&client.wanted.database).map(|engine| {
            Box::new(Caching::new(Arc::clone(engine), Who::new(client.wanted, &client.settings)))
        });
        Self {
            registry,
            cache,
            client: client.stream,
            input: client.input,
            output: client.output,
            key: client.key,
            source: client.source,
            mode,
            flow: Flow::default(),
            names: Names::new(room),
            labels: Labels::default(),
            doubts_names: false,
            portals: Portals::default(),
            recent: Recent::default(),
            reads_text: can_be_read(&client.params),
            judges_tags: false,
            params: client.params,
            first_settings: client.settings.clone(),
            settings: client.settings,
            touched: Touched::default(),
            pinned: false,
            counted_pin: false,
            up_rest: 0,
            down_rest: 0,
            down_hidden: false,
            answered: 0,
            failed: false,
            unsound: false,
            has_spoken: false,
            held: false,
            forgets: false,
            terminated: false,
            hung_up: false,
            dismissed: false,
            status: TransactionStatus::Idle,
            active: Instant::now(),
            scratch: Vec::new(),
            caching,
            _place: client.place,
        }
    }

    /// Lives until client, origin or operator ends it. `lease` is a connection of its own, or one to begin with.
    pub(super) async fn run(mut self, lease: Option<Lease>) {
        let registry = Arc::clone(&self.registry);
        let mut stop = pin!(registry.stopping().cancelled());
        let mut removed = pin!(self.cache.ended().cancelled_owned());
        // Wakes this task once the process stops or the cache is gone, whatever it waits for then.
        std::future::poll_fn(|cx| {
            let _ = removed.as_mut().poll(cx);
            Poll::Ready(stop.as_mut().poll(cx).is_ready())
        })
        .await;
        let mut lease = lease;
        let end = loop {
            let mut linked = match lease.take() {
                Some(lease) => lease,
                None => {
                    if let Err(end) = self.wait_for_work().await {
                        break end;
                    }
                    match self.link_at_once() {
                        Some(lease) => lease,
                        None => match Box::pin(self.link()).await {
                            Ok(lease) => lease,
                            Err(end) => break end,
                        },
                    }
                }
            };
            self.key.link(&linked.backend.key);
            match self.relay(&mut linked.backend).await {
                Ok(()) if !self.touched.is_any() => self.unlink(linked),
                Ok(()) => {
                    if let Err(end) = Box::pin(self.capture(&mut linked)).await {
                        self.abandon(linked, &end);
                        break end;
                    }
                    self.unlink(linked);
                }
                Err(end) => {
                    self.abandon(linked, &end);
                    break end;
                }
            }
        };
        Box::pin(self.say_goodbye(end)).await;
    }

    /// Why the session is to end between transactions, if it is.
    fn farewell(&self) -> Option<End> {
        if self.registry.is_stopping() {
            return Some(End::from(
                Report::fatal(
                    super::report::ADMIN_SHUTDOWN,
                    "terminating connection due to administrator command",
                )
                .detail("The proxy is stopping."),
            ));
        }
        self.cache.is_ended().then(|| self.removed())
    }

    fn removed(&self) -> End {
        let message = format!("the cache \"{}\" was removed", self.cache.id());
        End::from(Report::fatal(super::report::ADMIN_SHUTDOWN, message))
    }

    /// Whether connections are given back between transactions.
    fn shares(&self) -> bool {
        self.mode == PoolMode::Transaction
    }

    /// Has the cache count the session as pinned, or no longer.
    fn count_pin(&mut self, is_pinned: bool) {
        if self.counted_pin != is_pinned {
            self.counted_pin = is_pinned;
            self.cache.count_pinned(is_pinned);
        }
    }

    /// Tells the client why, where there is something to tell and the client is between messages.
    async fn say_goodbye(mut self, end: End) {
        let farewell = async {
            match end {
                End::ClientGone => return,
                // Half a message was sent; more would only be taken for its rest.
                _ if self.down_rest > 0 && !self.down_hidden => {}
                // It was asked to, or has said why.
                End::OriginGone if self.terminated || self.dismissed => {}
                End::OriginGone => Report::fatal(
                    super::report::CONNECTION_FAILURE,
                    "the connection to the origin was lost",
                )
                .write(self.output.tail()),
                End::Told(bytes) => self.output.append(&bytes),
            }
            let _ = self.output.drain(&mut self.client).await;
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.client).await;
        };
        // A client that reads nothing is not waited for.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), farewell).await;
    }

    /// How long to wait between looks at the clock; `None` when no limit is set.
    fn tick(&self) -> Option<std::time::Duration> {
        let settings = self.cache.settings();
        let limits =
            [settings.idle_client_secs, settings.idle_transaction_secs, settings.query_secs];
        let shortest = limits.into_iter().filter_map(limit).min()?;
        Some(
            (shortest / 10)
                .clamp(std::time::Duration::from_millis(50), std::time::Duration::from_secs(10)),
        )
    }

    /// Whether one of the limits on time is exceeded.
    fn overdue(&self) -> Option<Report> {
        use super::report;
        let settings = self.cache.settings();
        if let Some(watch) = self.flow.running() {
            let too_long =
                limit(settings.query_secs).is_some_and(|most| watch.started.elapsed() > most);
            return too_long.then(|| {
                Report::fatal(report::QUERY_CANCELED, "the query took longer than the cache allows")
                    .hint("The limit is query_secs of the cache.")
            });
        }
        let idle = self.active.elapsed();
        if self.status != TransactionStatus::Idle {
            return limit(settings.idle_transaction_secs).is_some_and(|most| idle > most).then(
                || {
                    Report::fatal(
                        report::IDLE_IN_TRANSACTION,
                        "terminating connection due to idle-in-transaction timeout",
                    )
                    .hint("The limit is idle_transaction_secs of the cache.")
                },
            );
        }
        limit(settings.idle_client_secs).is_some_and(|most| idle > most).then(|| {
            Report::fatal(
                report::IDLE_SESSION,
                "terminating connection due to idle-session timeout",
            )
            .hint("The limit is idle_client_secs of the cache.")
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.count_pin(false);
        self.cache.leave();
        self.registry.sessions().fetch_sub(1, Relaxed);
    }
}
