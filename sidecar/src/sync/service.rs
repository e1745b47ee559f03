//! The work of sync, as one sidecar does it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::configured::Configured;
use super::engine::Engine;
use super::handle::SyncHandle;
use super::outside::Outside;
use super::prune::Pruner;
use super::replay;
use crate::config::Config;
use crate::db::{self, DbError, Pool, RecyclingMethod};

/// What sync does with its tables is to look up some rows of them by key. Plans are kept, and the tables may have been empty
/// when they were made: one that reads whole tables then would be used when they have millions of rows.
const LOOK_UPS: &str = "-c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off";

/// Makes the pool that sync works with; no connection is opened yet.
pub fn open_pool(config: &Config) -> Result<Pool, DbError> {
    let timeout = Duration::from_secs(config.statement_timeout_secs);
    // What fails because a connection is gone is tried again anyway.
    let (most, recycling) = (config.sync.connections.max(4), RecyclingMethod::Fast);
    db::open_pool(&config.database_url, most, timeout, recycling, LOOK_UPS)
}

/// The engine, and what works beside it.
pub struct Service {
    engine: Arc<Engine>,
    replays: replay::Worker,
    pruner: Pruner,
}

impl Service {
    /// Does nothing before it [runs](Service::run). The error says what is wrong with the settings.
    pub fn new(pool: Pool, handle: Arc<SyncHandle>) -> Result<Self, String> {
        let outside: Arc<dyn Outside> = Configured::new(pool.clone(), handle.settings.clone())?;
        let retention = Duration::from_secs(handle.settings.retention_secs);
        Ok(Self {
            engine: Engine::new(pool.clone(), Arc::clone(&handle), Arc::clone(&outside))?,
            replays: replay::Worker::new(pool.clone(), handle, outside)?,
            pruner: Pruner::new(pool, retention),
        })
    }

    /// Works until it is cancelled. Requests that are under way then are waited for.
    pub async fn run(self, cancel: CancellationToken) {
        tokio::join!(
            self.engine.run(cancel.clone()),
            self.replays.run(cancel.clone()),
            self.pruner.run(cancel),
        );
    }
}
