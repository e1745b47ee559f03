//! Tells sidecars that models have changed, as badly as it may: twice, late, in another order, or not at all. Only of the
//! latest change of a model somebody is told at last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Map, Value};
use support::Model;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// The latest that a notification comes, in milliseconds.
const LATE: u64 = 600;

/// Requests at once.
const AT_ONCE: usize = 24;

/// Tells of models of one tenant.
pub(crate) struct Notifier {
    http: reqwest::Client,
    token: String,
    api: Arc<Mutex<Vec<Option<SocketAddr>>>>,
    /// How often each model has changed, and which of these changes somebody was told of.
    changes: Mutex<BTreeMap<Model, (u64, u64)>>,
    /// Of which models somebody was told at least once.
    told: Mutex<BTreeSet<Model>>,
    turns: Semaphore,
    under_way: TaskTracker,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notifier {
    /// Sidecars are where `api` says; some of them may be dead.
    pub(crate) fn new(token: &str, api: Arc<Mutex<Vec<Option<SocketAddr>>>>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            http: support::http()?,
            token: token.to_owned(),
            api,
            changes: Mutex::default(),
            told: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
            under_way: TaskTracker::new(),
        }))
    }

    /// Whether somebody was told of this model.
    pub(crate) fn has_told(&self, model: &Model) -> bool {
        lock(&self.told).contains(model)
    }

    /// A model has changed: what is said of it may be lost, may be late, and may be said again.
    pub(crate) fn changed(self: &Arc<Self>, model: &Model, said: &Map<String, Value>) {
        lock(&self.changes).entry(model.clone()).or_default().0 += 1;
        let copies = match rand::random_range(0..10) {
            0..3 => 0,
            3..8 => 1,
            _ => 2,
        };
        for _ in 0..copies {
            let (notifier, model, said) = (Arc::clone(self), model.clone(), said.clone());
            self.under_way.spawn(async move {
                // Half come at once.
                let late = rand::random_range(0..2 * LATE).saturating_sub(LATE);
                tokio::time::sleep(Duration::from_millis(late)).await;
                // What fails is lost.
                let _ = notifier.tell(&model, &said).await;
            });
        }
    }

    async fn tell(&self, model: &Model, said: &Map<String, Value>) -> Result<()> {
        let _turn = self.turns.acquire().await?;
        let change = lock(&self.changes).get(model).map_or(0, |(changes, _)| *changes);
        let living: Vec<SocketAddr> = lock(&self.api).iter().flatten().copied().collect();
        ensure!(!living.is_empty(), "all are dead");
        let api = living[rand::random_range(0..living.len())];
        let request = self
            .http
            .put(format!("http://{api}/notification"))
            .header("authorization", format!("Token token=\"{}\"", self.token))
            .timeout(Duration::from_secs(1))
            .json(said);
        let answer = request.send().await?;
        let status = answer.status();
        ensure!(status == 201, "{status}: {}", answer.text().await?);
        if let Some((_, told)) = lock(&self.changes).get_mut(model) {
            *told = change.max(*told);
        }
        lock(&self.told).insert(model.clone());
        Ok(())
    }

    /// Waits for what is under way, and sees to it that somebody is told of the latest change of each model. `say`: what is said of one.
    pub(crate) async fn finish(&self, say: impl Fn(&Model) -> Map<String, Value>) -> Result<()> {
        self.under_way.close();
        self.under_way.wait().await;
        self.under_way.reopen();
        let untold = || -> Vec<Model> {
            let changes = lock(&self.changes);
            let untold = changes.iter().filter(|(_, (changes, told))| told < changes);
            untold.map(|(model, _)| model.clone()).collect()
        };
        let mut left = untold();
        for _ in 0..100 {
            let told = left.iter().map(async |model| self.tell(model, &say(model)).await);
            let failed =
                futures_util::future::join_all(told).await.into_iter().find_map(Result::err);
            left = untold();
            if left.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(error) = failed {
                eprintln!("{} are still to be told of: {error:#}", left.len());
            }
        }
        anyhow::bail!("nobody takes notifications")
    }
}
