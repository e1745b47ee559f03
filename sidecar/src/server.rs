//! The server's life: waits for the database, serves, and stops without dropping what is under way.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::serve::ListenerExt;
use futures_util::future::OptionFuture;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::{App, router};
use crate::audit;
use crate::config::Config;
use crate::db::{self, DbError, Pool};
use crate::listener::ApiListener;
use crate::notify::Notifications;
use crate::notify::channels::Delivery;
use crate::notify::sockets::Sockets;
use crate::proxy::registry::Registry;
use crate::proxy::{Proxy, ProxyError};
use crate::sync::follow::Follower;
use crate::sync::{self, SyncHandle};
use crate::telemetry;
use crate::workspaces::caches::CacheKeeper;

/// How often caches and their rules are looked at, for those that another process has set.
const FOLLOW: Duration = Duration::from_secs(5);

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database can't be used.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The listener failed.
    #[error("can't serve: {0}")]
    Listen(#[from] std::io::Error),
    /// The proxy's configuration can't be used.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The section `[workspaces]` can't be used.
    #[error("{0}")]
    Workspaces(String),
    /// The section `[sync]` can't be used.
    #[error("{0}")]
    Sync(String),
}

/// Where a server listens.
pub struct Listeners {
    /// For the REST API.
    pub api: TcpListener,
    /// For Postgres clients, where there is a proxy.
    pub proxy: Option<TcpListener>,
}

/// Serves on `listeners` until `shutdown` completes; then no new connection is taken, and what is under way gets
/// `config.drain_secs` to finish. Configurations that come from `reloads` replace the proxy's and its caches'
/// settings; the rest stays as it was at start.
pub async fn run(
    listeners: Listeners,
    config: Config,
    reloads: mpsc::Receiver<Config>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let drain = Duration::from_secs(config.drain_secs);
    let proxy = match listeners.proxy {
        None => None,
        Some(listener) => {
            tracing::info!(address = %listener.local_addr()?, "the proxy listens");
            Some(Proxy::start(listener.into_std()?, &config.proxy, &config.caches)?)
        }
    };
    let stopping = CancellationToken::new();
    let served = serve(listeners.api, config, proxy.as_ref(), stopping.clone(), async move {
        shutdown.await;
        stopping.cancel();
    });
    let result = tokio::select! {
        result = served => result,
        never = take_reloads(reloads, proxy.as_ref()) => match never {},
    };
    if let Some(proxy) = proxy {
        proxy.stop(drain).await;
    }
    result
}

async fn take_reloads(mut reloads: mpsc::Receiver<Config>, proxy: Option<&Proxy>) -> Infallible {
    while let Some(config) = reloads.recv().await {
        match proxy.map(|proxy| proxy.reload(&config.proxy, &config.caches)) {
            None | Some(Ok(())) => tracing::info!("the configuration was read again"),
            Some(Err(error)) => {
                tracing::error!(%error, "the new configuration can't be used; the old one stays")
            }
        }
    }
    std::future::pending().await
}

async fn serve(
    listener: TcpListener,
    config: Config,
    proxy: Option<&Proxy>,
    stopping: CancellationToken,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let pool = db::open(&config)?;
    let mut shutdown = Box::pin(shutdown);
    tokio::select! {
        prepared = prepare(&pool, Duration::from_secs(config.database_wait_secs)) => prepared?,
        () = &mut shutdown => {
            tracing::info!("told to stop while waiting for the database");
            return Ok(());
        }
    }
    let drain = Duration::from_secs(config.drain_secs);
    let notifications =
        Notifications::new(config.notifications.clone(), config.database_url.clone(), pool.clone());
    let sockets = Sockets::new(Arc::clone(&notifications), stopping.clone());
    let sync = SyncHandle::new(config.sync.clone());
    let service = sync_service(&config, &sync)?;
    let sync_wake = Arc::clone(&sync.wake);
    let registry = proxy.map(|proxy| Arc::clone(proxy.registry()));
    let address = proxy.map(Proxy::address);
    let caches = CacheKeeper::new(&config.workspaces, pool.clone(), registry.clone(), address);
    let caches = Arc::new(caches.map_err(ServeError::Workspaces)?);
    let app = App::new(
        &config,
        pool.clone(),
        registry.clone(),
        Arc::clone(&caches),
        Arc::clone(&notifications),
        Arc::clone(&sockets),
        sync,
    );
    let notify = CancellationToken::new();
    let notifying = tokio::spawn({
        let notify = notify.clone();
        let delivery = Delivery::run(Arc::clone(&notifications), notify.clone());
        // Whoever leads follows tables for all, even if others do the work.
        let following = Follower::run(Arc::clone(&notifications), sync_wake, notify.clone());
        async move { tokio::join!(notifications.run(notify), delivery, following) }
    });
    let syncing = service.map(|service| tokio::spawn(service.run(notify.clone())));
    let following = follow_caches(pool.clone(), registry, caches);
    let pruning = audit::prune(pool.clone(), config.workspaces.audit_days);
    let upkeep = async { tokio::join!(keep_up(app.clone()), following, pruning).0 };
    let routes = router(app.clone(), &config);
    tracing::info!(address = %listener.local_addr()?, "listening");
    let patience = Duration::from_secs(config.write_timeout_secs.max(1));
    let listener = ApiListener { listener, patience, stopping: stopping.clone() };
    // axum knows the client's address behind a listener of its own; a tap that does nothing is one.
    let listener = listener.tap_io(|_| ());

    let server = axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move {
            shutdown.await;
            tracing::info!("stopping");
        });
    let result = tokio::select! {
        result = server => result,
        never = upkeep => match never {},
        () = async { stopping.cancelled().await; tokio::time::sleep(drain).await } => {
            tracing::warn!(seconds = drain.as_secs(), "requests still under way were cut off");
            Ok(())
        }
    };
    sockets.closed().await;
    if tokio::time::timeout(drain, app.repeats().ended()).await.is_err() {
        tracing::warn!("requests whose clients had gone away were cut off");
    }
    notify.cancel();
    if notifying.await.is_err_and(|error| error.is_panic()) {
        tracing::error!("what reads or delivers notifications has panicked");
    }
    if OptionFuture::from(syncing).await.is_some_and(|ended| ended.is_err_and(|e| e.is_panic())) {
        tracing::error!("what syncs has panicked");
    }
    pool.close();
    Ok(result?)
}

/// What does the work of sync, if this sidecar does.
fn sync_service(
    config: &Config,
    sync: &Arc<SyncHandle>,
) -> Result<Option<sync::Service>, ServeError> {
    if !config.sync.enabled {
        return Ok(None);
    }
    let service = sync::Service::new(sync::open_pool(config)?, Arc::clone(sync));
    service.map(Some).map_err(ServeError::Sync)
}

async fn keep_up(app: App) -> Infallible {
    loop {
        tokio::time::sleep(telemetry::UPKEEP).await;
        app.metrics().upkeep();
    }
}

/// Takes caches and their rules from the database: those that were made before, and by other processes.
async fn follow_caches(
    pool: Pool,
    registry: Option<Arc<Registry>>,
    caches: Arc<CacheKeeper>,
) -> Infallible {
    let Some(registry) = registry else { return std::future::pending().await };
    loop {
        if let Err(error) = caches.look().await {
            tracing::warn!(%error, "the caches of workspaces can't be read; those before stay");
        }
        for cache in registry.caches() {
            let Some(following) = cache.following() else { continue };
            if let Err(error) = following.engine().take_rules(&pool, cache.id().as_str()).await {
                tracing::warn!(cache = %cache.id(), %error, "the rules can't be read; those before stay");
            }
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

/// Waits until the database answers, then makes the sidecar's tables.
async fn prepare(pool: &Pool, patience: Duration) -> Result<(), DbError> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt(pool).await {
            Err(DbError::Unavailable(cause)) if Instant::now() < deadline => {
                tracing::warn!(cause, "waiting for the database");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            other => return other,
        }
    }
}

async fn attempt(pool: &Pool) -> Result<(), DbError> {
    let mut client = pool.get().await?;
    db::check_extension(&client).await?;
    let applied = db::migrate(&mut client).await?;
    if applied > 0 {
        tracing::info!(applied, "migrated the sidecar's tables");
    }
    Ok(())
}
