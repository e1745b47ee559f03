//! What others have of sync.

use std::sync::Arc;

use tokio::sync::Notify;

use super::figures::SyncFigures;
use super::settings::SyncSettings;

/// Sync, as the REST API and the follower of tables see it.
pub struct SyncHandle {
    /// What was set.
    pub settings: SyncSettings,
    /// To be notified when something was made due.
    pub wake: Arc<Notify>,
    /// What the engine has done.
    pub figures: Arc<SyncFigures>,
}

impl SyncHandle {
    /// One of a sidecar with these settings.
    pub fn new(settings: SyncSettings) -> Arc<Self> {
        Arc::new(Self { settings, wake: Arc::default(), figures: Arc::default() })
    }
}
