//! The server's life: waits for the database, serves, and stops without dropping what is under way.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::{App, router};
use crate::config::Config;
use crate::db::{self, DbError, Pool};
use crate::telemetry;

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database can't be used.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The listener failed.
    #[error("can't serve: {0}")]
    Listen(#[from] std::io::Error),
}

/// Serves on `listener` until `shutdown` completes; then no new connection is taken, and requests under way
/// get `config.drain_secs` to finish.
pub async fn run(
    listener: TcpListener,
    config: Config,
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
    let app = App::new(&config, pool.clone());
    let upkeep = keep_up(app.clone());
    let routes = router(app, &config);
    tracing::info!(address = %listener.local_addr()?, "listening");

    let stopping = CancellationToken::new();
    let begun = stopping.clone();
    let server = axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move {
            shutdown.await;
            tracing::info!("stopping");
            begun.cancel();
        });
    let result = tokio::select! {
        result = server => result,
        never = upkeep => match never {},
        () = async { stopping.cancelled().await; tokio::time::sleep(drain).await } => {
            tracing::warn!(seconds = drain.as_secs(), "requests still under way were cut off");
            Ok(())
        }
    };
    pool.close();
    Ok(result?)
}

async fn keep_up(app: App) -> Infallible {
    loop {
        tokio::time::sleep(telemetry::UPKEEP).await;
        app.metrics().upkeep();
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
