//! `integratedb serve`.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::ConfigFile;
use crate::config::{self, Config, LogFormat};
use crate::server::{self, Listeners};
use crate::telemetry;

/// Shown below the flags.
pub(super) const HELP: &str = "\
Every setting can also stand in a TOML file (--config) under its long name with underscores, or in the \
environment as INTEGRATEDB_NAME; a flag wins over the environment, and that over the file. In the file \
--database is called database_url, and in the environment INTEGRATEDB_DATABASE_URL.

The proxy and its caches are set in the file, in the sections [proxy] and [caches.ID]; SIGHUP reads them again, \
and certificates too.

TLS to the database is asked for in its URL as with libpq: ?sslmode=verify-full verifies the certificate and the \
name, verify-ca the certificate alone, with the system's roots or ?sslrootcert=FILE; require verifies only what \
sslrootcert names. Without sslmode, TLS is used where the server offers it, and nothing is verified.

First steps:
  1. as a superuser, in the database:  CREATE EXTENSION integratedb;
                                       CREATE ROLE sidecar LOGIN PASSWORD '…';
                                       SELECT integratedb.grant_sidecar('sidecar');
  2. integratedb serve --database postgres://sidecar@localhost/shop
  3. create the first user:            curl -X POST -H 'Content-Type: application/json' \\
       -d '{\"user\": {\"username\": \"root\", \"password\": \"…\"}}' http://127.0.0.1:4000/api/v1/users";

/// What `serve` takes. Names are those of [`Config`].
#[derive(Args, Serialize)]
pub(super) struct Flags {
    #[command(flatten)]
    #[serde(skip)]
    file: ConfigFile,
    /// The database that has the extension, as a libpq URL or key/value string [INTEGRATEDB_DATABASE_URL]
    #[arg(long, short, value_name = "URL")]
    #[serde(rename = "database_url", skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    /// Where the REST API listens [default: 127.0.0.1:4000]
    #[arg(long, short, value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "ProxyFlags::is_empty")]
    proxy: ProxyFlags,
    /// The most connections held to the database [default: 8]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    database_connections: Option<usize>,
    /// Seconds to wait at start for the database to answer [default: 30]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    database_wait_secs: Option<u64>,
    /// Seconds after which a statement of the sidecar is given up [default: 60]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    statement_timeout_secs: Option<u64>,
    /// Seconds after which a request is given up, whatever it waits for [default: 120]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    request_timeout_secs: Option<u64>,
    /// Seconds for which a client may take nothing of what is sent to it [default: 30]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    write_timeout_secs: Option<u64>,
    /// Seconds for which a token is valid [default: 14400]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    token_secs: Option<u32>,
    /// Seconds for which a refresh token is valid [default: 43200]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token_secs: Option<u32>,
    /// Logins at once for one user name before it has to wait; one a minute comes back, and that of a right
    /// password at once [default: 10]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    login_attempts_per_user: Option<u32>,
    /// The same for one address; behind a proxy that is none of trusted_proxies all clients have the proxy's [default: 100]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    login_attempts_per_address: Option<u32>,
    /// Requests of one token a minute to the REST API, or, of those without one, of one address; 0 for any number
    /// [default: 6000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<u32>,
    /// As many of them at once [default: 1000]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    request_burst: Option<u32>,
    /// The largest request body [default: 4194304]
    #[arg(long, value_name = "BYTES")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_body_bytes: Option<usize>,
    /// Seconds that requests under way get to finish on SIGTERM or Ctrl-C [default: 10]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    drain_secs: Option<u64>,
    /// How log lines are written [default: text]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
    /// What is logged, as a filter such as `info` or `integratedb_sidecar=debug`; of libraries never more than
    /// `info`, because they log parameters [default: info]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
}

/// What `serve` takes for the proxy.
#[derive(Args, Serialize)]
struct ProxyFlags {
    /// Where Postgres clients connect to the proxy; without caches in the file, they reach --database's server
    #[arg(id = "proxy_listen", long = "proxy-listen", value_name = "ADDRESS:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
}

impl ProxyFlags {
    const fn is_empty(&self) -> bool {
        self.listen.is_none()
    }
}

pub(super) async fn serve(flags: Flags) -> anyhow::Result<ExitCode> {
    let config = Config::load(flags.file.config.as_deref(), &flags)?;
    telemetry::start_logging(&config)?;
    let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in config::unknown_variables(variables) {
        tracing::warn!(name, "this variable is not a setting, and ignored");
    }
    let api = listen(config.listen).await?;
    let proxy = match config.proxy.listen {
        None => None,
        Some(address) => Some(listen(address).await?),
    };
    let mut terminate = signal(SignalKind::terminate()).context("can't watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't watch for Ctrl-C")?;
    let mut hangup = signal(SignalKind::hangup()).context("can't watch for SIGHUP")?;
    let (reload, reloads) = mpsc::channel(1);
    let watcher = tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match Config::load(flags.file.config.as_deref(), &flags) {
                Ok(config) => drop(reload.send(config).await),
                Err(error) => {
                    tracing::error!(%error, "the configuration can't be read again; the old one stays");
                }
            }
        }
    });
    let result = server::run(Listeners { api, proxy }, config, reloads, async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
    .await;
    watcher.abort();
    result?;
    Ok(ExitCode::SUCCESS)
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("can't listen on {address}"))
}
