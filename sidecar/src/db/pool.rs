//! Connections to the database, with TLS when the URL's sslmode asks for it.

use std::ops::Deref;
use std::str::FromStr;
use std::time::Duration;

pub(crate) use deadpool_postgres::RecyclingMethod;
use deadpool_postgres::{Manager, ManagerConfig, Runtime, Timeouts};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::DbError;
use super::within::{self, Within};
use crate::config::Config;
use crate::reach::Reach;
use crate::secret::Secret;
use crate::tls::Tls;

/// The pool of connections.
pub type Pool = deadpool_postgres::Pool;

/// How long a request waits for a free connection or a new one.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// How long the other end of a connection may say nothing at all, not even that it received something.
pub(super) const SILENCE: Duration = Duration::from_secs(30);

/// Makes a pool to the sidecar's database; no connection is opened yet.
pub fn open(config: &Config) -> Result<Pool, DbError> {
    let timeout = Duration::from_secs(config.statement_timeout_secs);
    // A connection is tried before it is lent out: a restart of the database, or a network that swallows
    // packets, then costs a new connection instead of a failed request.
    let most = config.database_connections;
    open_pool(&config.database_url, most, timeout, RecyclingMethod::Verified, "")
}

/// Makes a pool of at most `most` connections whose statements are given up after `timeout`; no connection is
/// opened yet. `recycling` says whether one is tried before it is lent out, which takes a round trip. `options` are further
/// settings, as on the command line of a server process.
pub(crate) fn open_pool(
    url: &Secret<String>,
    most: usize,
    timeout: Duration,
    recycling_method: RecyclingMethod,
    options: &str,
) -> Result<Pool, DbError> {
    let (settings, tls) = parse_url(url)?;
    let manager_config = ManagerConfig { recycling_method };
    pool_of(settings, most, timeout, options, |settings| {
        match tls.client_config().map_err(unreadable)? {
            None => Ok(Manager::from_config(settings, NoTls, manager_config)),
            Some(config) => {
                Ok(Manager::from_config(settings, MakeRustlsConnect::new(config), manager_config))
            }
        }
    })
}

/// The same, to addresses that may be reached.
pub(crate) fn open_pool_within(
    url: &Secret<String>,
    reach: &Reach,
    most: usize,
    timeout: Duration,
) -> Result<Pool, DbError> {
    let (settings, tls) = parse_url(url)?;
    let within = Within::new(&settings, &tls, reach)?;
    let recycling_method = RecyclingMethod::Verified;
    let make =
        |settings| Ok(Manager::from_connect(settings, within, ManagerConfig { recycling_method }));
    pool_of(settings, most, timeout, "", make)
}

fn pool_of(
    mut settings: tokio_postgres::Config,
    most: usize,
    timeout: Duration,
    further: &str,
    make: impl FnOnce(tokio_postgres::Config) -> Result<Manager, DbError>,
) -> Result<Pool, DbError> {
    // Every statement here is short: compiling one takes longer than it runs.
    let options = format!(
        "{} -c jit=off -c statement_timeout={}s -c idle_in_transaction_session_timeout=60s {further}",
        settings.get_options().unwrap_or_default(),
        timeout.as_secs(),
    );
    settings.options(options.trim());
    let manager = make(settings)?;
    Pool::builder(manager)
        .max_size(most.max(1))
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts { wait: Some(WAIT), create: Some(WAIT), recycle: Some(WAIT) })
        .build()
        .map_err(|error| DbError::Unexpected(error.to_string()))
}

/// Opens one connection outside of any pool, for a command.
pub async fn connect(url: &Secret<String>) -> Result<Client, DbError> {
    Ok(open_one(url, None).await?.0)
}

/// A connection that ends when it is dropped, whatever it is in the middle of: the other end may be anybody's, and never come
/// to the end of an answer.
pub(crate) struct Alone {
    client: Client,
    connection: JoinHandle<()>,
}

impl Deref for Alone {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Opens one; with `reach`, only to an address that may be reached.
pub(crate) async fn connect_within(
    url: &Secret<String>,
    reach: Option<&Reach>,
) -> Result<Alone, DbError> {
    let (client, connection) = open_one(url, reach).await?;
    Ok(Alone { client, connection })
}

async fn open_one(
    url: &Secret<String>,
    reach: Option<&Reach>,
) -> Result<(Client, JoinHandle<()>), DbError> {
    let (settings, tls) = parse_url(url)?;
    if let Some(reach) = reach {
        let within = Within::new(&settings, &tls, reach)?;
        let opened = tokio::time::timeout(within::PATIENCE, within.open(&settings)).await;
        let late = |_| DbError::Unavailable("it does not answer".to_owned());
        return Ok(opened.map_err(late)??);
    }
    match tls.client_config().map_err(unreadable)? {
        None => {
            let (client, connection) = settings.connect(NoTls).await?;
            Ok((client, tokio::spawn(async { drop(connection.await) })))
        }
        Some(config) => {
            let (client, connection) = settings.connect(MakeRustlsConnect::new(config)).await?;
            Ok((client, tokio::spawn(async { drop(connection.await) })))
        }
    }
}

pub(crate) fn parse_url(url: &Secret<String>) -> Result<(tokio_postgres::Config, Tls), DbError> {
    let (tls, rest) = Tls::take_from(url.expose_secret()).map_err(unreadable)?;
    let mut settings = tokio_postgres::Config::from_str(&rest).map_err(unreadable)?;
    settings.ssl_mode(tls.ssl_mode());
    if settings.get_application_name().is_none() {
        settings.application_name("integratedb");
    }
    if settings.get_password().is_none()
        && let Ok(password) = std::env::var("PGPASSWORD")
    {
        settings.password(password);
    }
    settings.connect_timeout(WAIT);
    if settings.get_tcp_user_timeout().is_none() {
        settings.tcp_user_timeout(SILENCE);
    }
    if settings.get_keepalives_idle() > SILENCE {
        settings.keepalives_idle(SILENCE).keepalives_interval(WAIT).keepalives_retries(3);
    }
    Ok((settings, tls))
}

/// The error names the mistake but never quotes the URL, which may hold a password.
pub(super) fn unreadable(error: impl std::fmt::Display) -> DbError {
    DbError::Unreadable(error.to_string())
}
