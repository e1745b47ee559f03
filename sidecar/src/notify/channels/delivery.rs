//! Runs a task for each channel, where this sidecar leads.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::notify::Notifications;

/// Delivers to durable channels.
pub struct Delivery;

impl Delivery {
    /// Delivers until it is cancelled.
    pub async fn run(_notifications: Arc<Notifications>, cancel: CancellationToken) {
        cancel.cancelled().await;
    }
}
