//! The models at an API: groups, items in groups and parts of items. They change at random.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};
use support::{Effect, Judge, Model, Outcome, SyncPeers, SyncRequest};

use crate::notifier::Notifier;

/// The tenant.
pub(crate) const TENANT: i64 = 7;

/// Classes, each below the one before.
pub(crate) const CLASSES: [&str; 3] = ["group", "item", "part"];

/// How each class is defined for the sidecar: where it is fetched, and below what it is.
pub(crate) fn definition(class: usize) -> Value {
    let name = CLASSES[class];
    let mut definition = json!({"key": "id", "path": format!("/api/{name}/{{id}}")});
    if class > 0 {
        definition["parent"] = json!({"class": CLASSES[class - 1], "field": "parent_id"});
    }
    definition
}

/// How many models have just changed.
const RECENT: usize = 20;

/// Models by number: of a hundred, five are groups, thirty are items and the rest are parts.
pub(crate) struct World {
    counts: [u64; 3],
    /// The data of the latest change.
    changed: AtomicU64,
}

impl World {
    /// So many models may be there at once.
    pub(crate) fn new(models: u64) -> Self {
        let (groups, items) = (models.div_ceil(20), models * 3 / 10);
        Self {
            counts: [groups, items, models.saturating_sub(groups + items)],
            changed: AtomicU64::default(),
        }
    }

    fn data(&self) -> Value {
        self.changed.fetch_add(1, Ordering::Relaxed).into()
    }

    fn parent(&self, model: &Model) -> Option<Model> {
        let class = CLASSES.iter().position(|class| *class == model.class)?.checked_sub(1)?;
        let number: u64 = model.key.parse().ok()?;
        Some(Model::new(CLASSES[class], number % self.counts[class].max(1)))
    }

    /// What a notification says of a model: as little as it may.
    pub(crate) fn said(&self, model: &Model) -> Map<String, Value> {
        let mut said = Map::new();
        said.insert("type".to_owned(), model.class.clone().into());
        said.insert("id".to_owned(), model.key.clone().into());
        said.insert("tenant_id".to_owned(), TENANT.into());
        if let Some(parent) = self.parent(model) {
            said.insert("parent_id".to_owned(), parent.key.into());
        }
        said
    }

    fn draw(&self, random: &mut StdRng) -> Model {
        let class = match random.random_range(0..100) {
            0..5 => 0,
            5..35 => 1,
            _ => 2,
        };
        Model::new(CLASSES[class], random.random_range(0..self.counts[class]))
    }

    /// Makes all models; those below others once somebody was told of these.
    pub(crate) async fn make(&self, peers: &SyncPeers, notifier: &Arc<Notifier>) -> Result<()> {
        for (class, count) in CLASSES.iter().zip(self.counts) {
            for key in 0..count {
                let model = Model::new(class, key);
                peers.judge().is(&model, self.parent(&model).as_ref(), self.data());
                notifier.changed(&model, &self.said(&model));
            }
            notifier.finish(|model| self.said(model)).await?;
        }
        Ok(())
    }

    /// Changes models for so long, as often as there are models. Gives how many changes there were.
    pub(crate) async fn change(
        &self,
        peers: &SyncPeers,
        notifier: &Arc<Notifier>,
        random: &mut StdRng,
        time: Duration,
    ) -> Result<u64> {
        let mut changes = 0;
        let models: u64 = self.counts.iter().sum();
        let end = Instant::now() + time;
        let pause = time.div_f64(models as f64);
        let mut at = Instant::now();
        let mut recent = VecDeque::new();
        while Instant::now() < end {
            at += pause;
            tokio::time::sleep_until(at.into()).await;
            // Half of what changes has just changed, and may be on its way.
            let again = recent.get(random.random_range(0..2 * RECENT)).cloned();
            let model = again.unwrap_or_else(|| self.draw(random));
            recent.push_front(model.clone());
            recent.truncate(RECENT);
            for changed in self.change_one(peers, notifier, random, &model) {
                notifier.changed(&changed, &self.said(&changed));
                changes += 1;
            }
        }
        Ok(changes)
    }

    /// Makes, changes or removes a model; gives those that are others now.
    fn change_one(
        &self,
        peers: &SyncPeers,
        notifier: &Notifier,
        random: &mut StdRng,
        model: &Model,
    ) -> Vec<Model> {
        let parent = self.parent(model);
        let mut judge = peers.judge();
        let is_there = judge.source(model).is_some();
        // Below what nobody was told of there is no order.
        let may_be = parent
            .as_ref()
            .is_none_or(|parent| judge.source(parent).is_some() && notifier.has_told(parent));
        // With a group much else goes.
        let goes = match model.class.as_str() {
            "group" => 4,
            "item" => 15,
            _ => 30,
        };
        if is_there && random.random_range(0..100) < goes {
            judge.is_gone(model)
        } else if is_there || may_be {
            judge.is(model, parent.as_ref(), self.data());
            vec![model.clone()]
        } else {
            Vec::new()
        }
    }
}

/// `/api/CLASS/ID`
pub(crate) fn source(heard: &SyncRequest) -> Option<(Model, Effect)> {
    let ["api", class, id] = heard.path()[..] else { return None };
    let answer = |judge: &mut Judge, model: &Model, _: &SyncRequest| match judge.source(model) {
        Some(n) => Outcome::json(200, &json!({"id": model.key, "n": n})),
        None => Outcome::json(404, &json!({"error": "Not found"})),
    };
    Some((Model::new(class, id), answer))
}

/// Has all classes go to the target. Its 410 says that it does not have a model; a 404 may be anybody's.
pub(crate) fn integration(name: &str, peers: &SyncPeers) -> Value {
    let url = format!("{}/{{{{ class }}}}/{{{{ key }}}}", peers.target.url());
    let settings = json!({"upsert": {"url": url}, "delete": {"url": url}});
    json!({"integration": {"name": name, "kind": "http", "settings": settings}})
}

/// `/CLASS/KEY`
pub(crate) fn target(heard: &SyncRequest) -> Option<(Model, Effect)> {
    let [class, key] = heard.path()[..] else { return None };
    let take = |judge: &mut Judge, model: &Model, heard: &SyncRequest| {
        let entry = heard.header("integratedb-entry").and_then(|entry| entry.parse().ok());
        if heard.method == "DELETE" {
            let was_there = judge.target(model).is_some();
            judge.deletes(model, entry);
            return Outcome::json(if was_there { 200 } else { 410 }, &json!({}));
        }
        let body: Value = serde_json::from_slice(&heard.body).unwrap_or_default();
        let above = CLASSES.iter().position(|class| *class == model.class).unwrap_or_default();
        let parent = body["parent_id"].as_i64().zip(above.checked_sub(1));
        let parent = parent.map(|(id, above)| Model::new(CLASSES[above], id));
        judge.upserts(model, parent.as_ref(), entry, body["n"].clone());
        Outcome::status(204)
    };
    Some((Model::new(class, key), take))
}
