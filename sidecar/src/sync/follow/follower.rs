//! Reads the log, and has models fetched.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use integratedb_events::EventId;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::changes::Batch;
use super::classes::Classes;
use super::scan::Scanner;
use super::{store, visible};
use crate::notify::{LogError, Notifications, Role, Subscriptions};
use crate::sync::error::SyncError;
use crate::sync::source::table::orphans;

/// How often it is looked what is declared, and how long a cursor may lag behind changes that say nothing.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked whether stakeholders are gone.
const UPKEEP: Duration = Duration::from_secs(30);

/// Models beyond which a batch is stored before more is read.
const MOST: usize = 2000;

/// The waits after an error.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Follows changes of declared tables.
#[derive(Debug)]
pub struct Follower;

impl Follower {
    /// Follows while this sidecar leads, until it is cancelled. `wake` is told when models are due.
    pub async fn run(
        notifications: Arc<Notifications>,
        wake: Arc<Notify>,
        cancel: CancellationToken,
    ) {
        let mut role = notifications.role();
        let may = |role: &Role| matches!(role, Role::Leads | Role::Idle);
        let mut wait = RETRY.0;
        loop {
            let began = Instant::now();
            let attempt = async {
                if role.wait_for(may).await.is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::select! {
                    attempt = Following::begin_and_follow(&notifications, &wake) => attempt.map(drop),
                    _ = role.wait_for(|role| !may(role)) => Ok(()),
                }
            };
            let ended = tokio::select! {
                () = cancel.cancelled() => return,
                ended = attempt => ended,
            };
            let Err(error) = ended else { continue };
            tracing::warn!(%error, "changes of synced tables are not followed");
            if began.elapsed() > RETRY.1 {
                wait = RETRY.0;
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY.1),
            }
        }
    }
}

/// A follower at work.
struct Following<'a> {
    notifications: &'a Notifications,
    wake: &'a Notify,
    subscriptions: watch::Receiver<Arc<Subscriptions>>,
    classes: watch::Sender<Arc<Classes>>,
    looked: Option<Instant>,
    kept: Option<Instant>,
    /// All up to here is looked at.
    position: EventId,
    /// And up to here that is stored.
    stored: EventId,
    stored_at: Instant,
}

impl<'a> Following<'a> {
    async fn begin_and_follow(
        notifications: &'a Notifications,
        wake: &'a Arc<Notify>,
    ) -> Result<Infallible, SyncError> {
        let head = notifications.log().head();
        let mut following = Following {
            notifications,
            wake,
            subscriptions: notifications.subscriptions(),
            classes: watch::Sender::default(),
            looked: None,
            kept: None,
            position: head,
            stored: head,
            stored_at: Instant::now(),
        };
        let scanner = Scanner::new(
            notifications.pool().clone(),
            following.classes.subscribe(),
            Arc::clone(wake),
        );
        following.position = store::begin(&*notifications.pool().get().await?, head).await?;
        following.stored = following.position;
        tokio::select! {
            ended = following.follow() => ended,
            ended = scanner.run() => ended,
        }
    }

    async fn follow(&mut self) -> Result<Infallible, SyncError> {
        loop {
            if self.looked.is_none_or(|at| at.elapsed() >= LOOK) {
                self.look().await?;
            }
            let next = tokio::select! {
                next = self.notifications.log().next(self.position) => Some(next),
                () = tokio::time::sleep(LOOK) => None,
                changed = self.subscriptions.changed() => {
                    changed.map_err(|_| SyncError::Unexpected("stopping".to_owned()))?;
                    // Maybe since a stakeholder is gone.
                    (self.looked, self.kept) = (None, None);
                    None
                }
            };
            let mut batch = Batch::default();
            let mut next = next.map(|next| next.map(Some));
            while let Some(read) = next.take() {
                // Whoever sees a change sees the subscriptions under which it was stored: they are what it is judged by.
                if self.subscriptions.has_changed().unwrap_or_default() {
                    self.look().await?;
                }
                let classes = Arc::clone(&self.classes.borrow());
                match read {
                    Ok(None) => break,
                    Ok(Some(segment)) => {
                        segment
                            .after(self.position)
                            .for_each(|change| batch.add(&change, &classes));
                        self.position = segment.last().unwrap_or(self.position);
                    }
                    Err(LogError::Pruned(last) | LogError::Segment(last, _)) => {
                        tracing::warn!(%last, "changes were lost before they were followed: all rows are gone through");
                        batch = Batch { has_gap: true, ..Batch::default() };
                        self.position = last;
                    }
                    Err(LogError::Database(error)) => return Err(error.into()),
                }
                if batch.models.len() < MOST {
                    next = Some(self.notifications.log().read(self.position).await);
                }
            }
            self.store(batch).await?;
        }
    }

    /// Looks what is declared and how it is told. It is followed from here on.
    async fn look(&mut self) -> Result<(), SyncError> {
        let subscriptions = Arc::clone(&self.subscriptions.borrow_and_update());
        let client = self.notifications.pool().get().await?;
        if self.kept.is_none_or(|at| at.elapsed() >= UPKEEP) {
            orphans(&client).await?;
            self.kept = Some(Instant::now());
        }
        let (classes, republished) = Classes::load(&client, &subscriptions).await?;
        if classes.tenants() != self.classes.borrow().tenants() {
            store::begin(&client, self.position).await?;
        }
        store::republish(&client, &republished).await?;
        self.classes.send_if_modified(|present| {
            let is_other = **present != classes;
            *present = Arc::new(classes);
            is_other
        });
        self.looked = Some(Instant::now());
        Ok(())
    }

    async fn store(&mut self, batch: Batch) -> Result<(), SyncError> {
        if self.position == self.stored || batch.is_empty() && self.stored_at.elapsed() < LOOK {
            return Ok(());
        }
        let mut client = self.notifications.pool().get().await?;
        visible::wait(&client, &batch.xids, self.notifications.log(), self.position.epoch).await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(store::RELAXED).await?;
        store::settle(&transaction, &batch).await?;
        store::advance(&transaction, self.position).await?;
        transaction.commit().await?;
        (self.stored, self.stored_at) = (self.position, Instant::now());
        if !batch.is_empty() {
            self.wake.notify_one();
        }
        Ok(())
    }
}
