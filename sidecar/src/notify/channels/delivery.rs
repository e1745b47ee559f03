//! Runs a task for each channel, where this sidecar leads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::Settings;
use super::error::ChannelsError;
use super::store::{self, Row, Version};
use super::{redis, webhook};
use crate::notify::{Notifications, Role};

/// How often channels are looked at for changes.
const LOOK: Duration = Duration::from_millis(500);

/// How often it is looked whether stakeholders are gone. What is theirs is not delivered to meanwhile.
const UPKEEP: Duration = Duration::from_secs(30);

/// The waits after an error.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Delivers to durable channels.
pub struct Delivery {
    notifications: Arc<Notifications>,
    tasks: HashMap<i64, Running>,
    /// When it was looked whether stakeholders are gone.
    kept: Option<Instant>,
}

/// A channel that is delivered to.
struct Running {
    version: Version,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        if self.task.await.is_err_and(|error| error.is_panic()) {
            tracing::error!(
                channel = self.version.channel,
                "what delivers to a channel has panicked"
            );
        }
    }
}

impl Delivery {
    /// Delivers whenever this sidecar leads, until it is cancelled.
    pub async fn run(notifications: Arc<Notifications>, cancel: CancellationToken) {
        let mut role = notifications.role();
        let mut delivery = Self { notifications, tasks: HashMap::new(), kept: None };
        while !cancel.is_cancelled() {
            let leads = matches!(*role.borrow_and_update(), Role::Leads | Role::Idle);
            if leads {
                if let Err(error) = delivery.look().await {
                    tracing::warn!(%error, "channels can't be looked at");
                }
            } else {
                delivery.keep(&[]).await;
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                changed = role.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                () = tokio::time::sleep(LOOK), if leads => {}
            }
        }
        delivery.keep(&[]).await;
    }

    /// Ends tasks whose channel is another by now, and starts those that are missing.
    async fn look(&mut self) -> Result<(), ChannelsError> {
        let wanted = {
            let client = self.notifications.pool().get().await?;
            if self.kept.is_none_or(|at| at.elapsed() >= UPKEEP) {
                store::orphans(&client).await?;
                self.kept = Some(Instant::now());
            }
            store::wanted(&client).await?
        };
        self.keep(&wanted).await;
        for version in wanted {
            self.tasks.entry(version.channel).or_insert_with(|| {
                let (cancel, channel) = (CancellationToken::new(), version.channel);
                let (notifications, token) = (Arc::clone(&self.notifications), cancel.clone());
                let task =
                    tokio::spawn(async move { deliver(notifications, channel, token).await });
                Running { version, cancel, task }
            });
        }
        Ok(())
    }

    /// Ends all tasks but those that are as they should be.
    async fn keep(&mut self, wanted: &[Version]) {
        let is_other =
            |running: &Running| running.task.is_finished() || !wanted.contains(&running.version);
        let others: Vec<i64> =
            self.tasks.iter().filter(|(_, running)| is_other(running)).map(|(id, _)| *id).collect();
        let others: Vec<Running> = others.iter().filter_map(|id| self.tasks.remove(id)).collect();
        // All are told before the first is waited for.
        others.iter().for_each(|running| running.cancel.cancel());
        for running in others {
            running.stop().await;
        }
    }
}

/// Delivers to one channel, and tries again after each error, until it is cancelled or the channel is given up.
async fn deliver(notifications: Arc<Notifications>, channel: i64, cancel: CancellationToken) {
    let mut wait = RETRY.0;
    loop {
        let Err(error) = attempt(&notifications, channel, &cancel).await else { return };
        tracing::warn!(channel, %error, "a channel is not delivered to");
        if matches!(error, ChannelsError::Overtaken | ChannelsError::NoChannel(_)) {
            return;
        }
        if let Ok(client) = notifications.pool().get().await {
            // It is logged; where the database is not there it can't be noted as well.
            let _ = store::fail(&client, channel, &error.to_string()).await;
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY.1),
        }
    }
}

async fn attempt(
    notifications: &Arc<Notifications>,
    channel: i64,
    cancel: &CancellationToken,
) -> Result<(), ChannelsError> {
    let sealer = notifications.settings().sealer().map_err(ChannelsError::Key)?;
    let row = {
        let client = notifications.pool().get().await?;
        Row::load(&client, sealer.as_ref(), channel).await?
    };
    match row.config.typed.clone() {
        Settings::Webhook(settings) => webhook::run(notifications, row, &settings, cancel).await,
        Settings::Redis(settings) => redis::run(notifications, row, &settings, cancel).await,
        Settings::Socket => Ok(()),
    }
}
