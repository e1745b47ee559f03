//! What handlers share.

use std::sync::Arc;
use std::time::Duration;

use super::error::ApiError;
use super::idempotency::Repeats;
use super::oauth::AuthServer;
use super::rate::Rates;
use super::schema;
use crate::auth::{LoginLimit, Passwords, Tokens};
use crate::config::Config;
use crate::db::Pool;
use crate::notify::Notifications;
use crate::notify::sockets::Sockets;
use crate::proxy::registry::Registry;
use crate::sync::SyncHandle;
use crate::telemetry::Metrics;
use crate::workspaces::caches::CacheKeeper;

/// What handlers share.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    pool: Pool,
    passwords: Passwords,
    tokens: Tokens,
    logins: LoginLimit,
    rates: Option<Rates>,
    repeats: Repeats,
    oauth: AuthServer,
    metrics: Metrics,
    claims_schema: schema::SpecSchema,
    notifications_schema: schema::SpecSchema,
    proxy: Option<Arc<Registry>>,
    caches: Arc<CacheKeeper>,
    notifications: Arc<Notifications>,
    sockets: Arc<Sockets>,
    sync: Arc<SyncHandle>,
    max_workspaces: u32,
}

impl App {
    /// Everything a server needs besides its listener.
    pub(crate) fn new(
        config: &Config,
        pool: Pool,
        proxy: Option<Arc<Registry>>,
        caches: Arc<CacheKeeper>,
        notifications: Arc<Notifications>,
        sockets: Arc<Sockets>,
        sync: Arc<SyncHandle>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Shared {
            pool,
            passwords: Passwords::new(cores),
            tokens: Tokens {
                token_secs: config.token_secs,
                refresh_token_secs: config.refresh_token_secs,
            },
            logins: LoginLimit::new(
                config.login_attempts_per_user,
                config.login_attempts_per_address,
            ),
            rates: Rates::new(config.requests_per_minute, config.request_burst),
            repeats: Repeats::new(Duration::from_secs(config.request_timeout_secs)),
            oauth: AuthServer::new(&config.oauth),
            metrics: Metrics::new(),
            claims_schema: schema::SpecSchema::claims(),
            notifications_schema: schema::SpecSchema::notifications(),
            proxy,
            caches,
            notifications,
            sockets,
            sync,
            max_workspaces: config.workspaces.max_workspaces,
        }))
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// A connection for one request.
    pub(super) async fn client(&self) -> Result<deadpool_postgres::Client, ApiError> {
        Ok(self.0.pool.get().await.map_err(crate::db::DbError::from)?)
    }

    pub(super) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    pub(super) fn tokens(&self) -> Tokens {
        self.0.tokens
    }

    pub(super) fn logins(&self) -> &LoginLimit {
        &self.0.logins
    }

    /// What callers have left; `None` if any number of requests may be sent.
    pub(super) fn rates(&self) -> Option<&Rates> {
        self.0.rates.as_ref()
    }

    /// Requests that may be sent twice.
    pub(crate) fn repeats(&self) -> &Repeats {
        &self.0.repeats
    }

    /// The most workspaces that one user may own.
    pub(super) fn max_workspaces(&self) -> u32 {
        self.0.max_workspaces
    }

    /// The authorization server.
    pub(super) fn oauth(&self) -> &AuthServer {
        &self.0.oauth
    }

    pub(super) fn claims_schema(&self) -> schema::SpecSchema {
        self.0.claims_schema.clone()
    }

    pub(super) fn notifications_schema(&self) -> schema::SpecSchema {
        self.0.notifications_schema.clone()
    }

    /// The proxy's caches, where there is a proxy.
    pub(super) fn proxy(&self) -> Option<&Registry> {
        self.0.proxy.as_deref()
    }

    /// The caches of workspaces.
    pub(super) fn caches(&self) -> &Arc<CacheKeeper> {
        &self.0.caches
    }

    /// Notifications of this sidecar.
    pub(super) fn notifications(&self) -> &Arc<Notifications> {
        &self.0.notifications
    }

    /// The sockets of this sidecar.
    pub(super) fn sockets(&self) -> &Arc<Sockets> {
        &self.0.sockets
    }

    /// Sync.
    pub(super) fn sync(&self) -> &Arc<SyncHandle> {
        &self.0.sync
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}
