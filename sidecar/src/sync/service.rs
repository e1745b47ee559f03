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
use crate::db::Pool;

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
