//! Source and target: one server each, which fail as it is drawn, and tell the judge.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::faults::{Fault, Faults};
use super::judge::{Judge, Model, Place};
use super::server::{Outcome, Server, SyncRequest};

/// The longest that a slow answer takes.
const SLOW: u64 = 300;

/// What a request means to a source or a target: which model it is about, and what comes of it, which is asked once, when
/// the request takes effect. None if it is about no model.
pub type Meaning = fn(&SyncRequest) -> Option<(Model, Effect)>;

/// What a request does.
pub type Effect = fn(&mut Judge, &Model, &SyncRequest) -> Outcome;

/// A source and a target.
pub struct SyncPeers {
    /// The server that models are fetched from.
    pub source: Server,
    /// The server that they are pushed to.
    pub target: Server,
    /// What goes wrong with either.
    pub faults: Arc<Faults>,
    judge: Arc<Mutex<Judge>>,
}

impl SyncPeers {
    /// Starts both.
    pub async fn start(
        judge: Judge,
        faults: Faults,
        source: Meaning,
        target: Meaning,
    ) -> Result<Self> {
        let (judge, faults) = (Arc::new(Mutex::new(judge)), Arc::new(faults));
        let server = |place, meaning| {
            let (judge, faults) = (Arc::clone(&judge), Arc::clone(&faults));
            Server::start(move |heard| {
                let (judge, faults) = (Arc::clone(&judge), Arc::clone(&faults));
                Box::pin(async move { handle(place, meaning, &judge, &faults, heard).await })
            })
        };
        let source = server(Place::Source, source).await?;
        let target = server(Place::Target, target).await?;
        Ok(Self { source, target, faults, judge })
    }

    /// The judge of both.
    pub fn judge(&self) -> MutexGuard<'_, Judge> {
        lock(&self.judge)
    }
}

/// A request about a model, from its beginning until this is dropped.
struct Request<'a> {
    place: Place,
    model: Model,
    judge: &'a Mutex<Judge>,
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        lock(self.judge).ends(self.place, &self.model);
    }
}

async fn handle(
    place: Place,
    meaning: Meaning,
    judge: &Mutex<Judge>,
    faults: &Faults,
    heard: SyncRequest,
) -> Outcome {
    let Some((model, effect)) = meaning(&heard) else { return Outcome::status(404) };
    lock(judge).begins(place, &model);
    let request = Request { place, model, judge };
    let fault = faults.draw();
    let wait = Duration::from_millis(if fault == Fault::Slow { faults.below(SLOW) } else { 0 });
    // Half of what is slow is so before it has done anything.
    let is_late = faults.below(2) == 0;
    if is_late {
        tokio::time::sleep(wait).await;
    }
    let outcome = if fault.takes_effect() {
        effect(&mut lock(judge), &request.model, &heard)
    } else {
        failure(fault)
    };
    if !is_late {
        tokio::time::sleep(wait).await;
    }
    match fault {
        Fault::HangBefore | Fault::HangAfter => std::future::pending().await,
        Fault::CutBefore | Fault::CutAfter => Outcome::Cut,
        _ => outcome,
    }
}

fn failure(fault: Fault) -> Outcome {
    let page = |status, headers: &[(&'static str, &str)], text: &str| {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Outcome::Answer { status, headers, body: text.as_bytes().to_vec() }
    };
    let html = ("content-type", "text/html");
    match fault {
        Fault::Busy => page(503, &[html, ("retry-after", "1")], "<h1>Too many</h1>"),
        Fault::Elsewhere => page(404, &[html], "<h1>default backend: 404</h1>"),
        _ => page(500, &[html], "<h1>It failed</h1>"),
    }
}

fn lock(judge: &Mutex<Judge>) -> MutexGuard<'_, Judge> {
    judge.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Knows, http, until};

    fn meaning(heard: &SyncRequest) -> Option<(Model, Effect)> {
        let key = heard.path().first().copied()?.to_owned();
        Some((Model::new("x", key), |judge, model, _| {
            judge.upserts(model, None, Some(1), json!(1));
            Outcome::json(200, &json!({}))
        }))
    }

    #[tokio::test]
    async fn a_request_counts_until_its_client_is_gone() -> Result<()> {
        // All fail, and one of some tens hangs.
        let faults = Faults::new(3, 100);
        let peers = SyncPeers::start(Judge::new(Knows::All), faults, meaning, meaning).await?;
        let client = http()?;
        let hangs = async |key: usize| -> Result<bool> {
            let sent = client.put(format!("{}/{key}", peers.target.url())).send();
            Ok(tokio::time::timeout(Duration::from_millis(500), sent).await.is_err())
        };
        let mut key = 0;
        while !hangs(key).await? {
            key += 1;
        }
        // Its client has given up, so the next one is no second.
        until("the next one hangs too", async || hangs(key).await).await?;
        assert_eq!(peers.judge().wrong(), Vec::<String>::new());
        let url = format!("{}/{key}", peers.target.url());
        let both = (0..50).map(|_| client.put(&url).timeout(Duration::from_millis(500)).send());
        futures_util::future::join_all(both).await;
        assert!(peers.judge().wrong().iter().all(|line| line.starts_with("J1")));
        assert!(!peers.judge().wrong().is_empty());
        Ok(())
    }
}
