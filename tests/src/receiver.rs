//! An endpoint for webhooks: takes what comes, and answers as a test wants it to.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::until;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Post {
    /// `webhook-id`
    pub id: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: String,
    /// The events in it.
    pub events: Vec<Value>,
    /// When it came.
    pub at: Instant,
    /// What was answered; none before it was.
    pub status: Option<StatusCode>,
}

impl Post {
    /// A header; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether it has an event of this row.
    pub fn is_of(&self, id: i64) -> bool {
        self.events.iter().any(|event| event["record"]["id"] == id)
    }

    /// Whether one of its signatures was made with this secret.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let key = secret.strip_prefix("whsec_").map(|key| BASE64_STANDARD.decode(key));
        let Some(Ok(key)) = key else { return false };
        let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(&key) else { return false };
        mac.update(
            format!("{}.{}.{}", self.id, self.header("webhook-timestamp"), self.body).as_bytes(),
        );
        let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
        self.header("webhook-signature").split(' ').any(|signature| signature == expected)
    }
}

/// What a receiver answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// How long it takes.
    pub after: Duration,
}

impl From<u16> for Answer {
    fn from(status: u16) -> Self {
        Self { status, headers: Vec::new(), after: Duration::ZERO }
    }
}

type Decide = dyn Fn(&Post) -> Answer + Send + Sync;

#[derive(Clone)]
struct Shared {
    posts: Arc<Mutex<Vec<Post>>>,
    /// The ids of events that were taken.
    ids: Arc<Mutex<HashSet<String>>>,
    decide: Arc<Mutex<Arc<Decide>>>,
}

/// A running endpoint. It is gone when this value is.
pub struct Receiver {
    address: SocketAddr,
    shared: Shared,
    server: JoinHandle<()>,
}

impl Receiver {
    /// One that takes everything.
    pub async fn start() -> Result<Self> {
        Self::start_with(|_| 204.into()).await
    }

    /// One that answers as it is told.
    pub async fn start_with(
        decide: impl Fn(&Post) -> Answer + Send + Sync + 'static,
    ) -> Result<Self> {
        let decide: Arc<Decide> = Arc::new(decide);
        let shared = Shared {
            posts: Arc::default(),
            ids: Arc::default(),
            decide: Arc::new(Mutex::new(decide)),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { address, server: serve(listener, shared.clone()), shared })
    }

    /// One that answers with this status what has an event of this row, as long as the flag is set, and takes the rest.
    pub async fn refusing(id: i64, status: u16) -> Result<(Self, Arc<AtomicBool>)> {
        let refuses = Arc::new(AtomicBool::new(true));
        let flag = Arc::clone(&refuses);
        let decide = move |post: &Post| {
            let is_refused = post.is_of(id) && flag.load(Ordering::SeqCst);
            if is_refused { status.into() } else { 200.into() }
        };
        Ok((Self::start_with(decide).await?, refuses))
    }

    /// Ends it: nobody listens any more. What came stays known.
    pub fn stop(&self) {
        self.server.abort();
    }

    /// Listens again, at the same address.
    pub async fn restart(&mut self) -> Result<()> {
        self.server.abort();
        // The server may be about to let go of its address.
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.server = serve(listener, self.shared.clone());
        Ok(())
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, decide: impl Fn(&Post) -> Answer + Send + Sync + 'static) {
        *lock(&self.shared.decide) = Arc::new(decide);
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// All that came, in its order.
    pub fn posts(&self) -> Vec<Post> {
        lock(&self.shared.posts).clone()
    }

    /// Waits until it has taken so many different events.
    pub async fn takes(&self, events: usize) -> Result<()> {
        until(&format!("{events} events are taken"), async || Ok(self.count() >= events))
            .await
            .with_context(|| format!("{} were", self.count()))
    }

    /// The numbers `n` of the events that it took, by row, as they came; each event once.
    pub fn by_row(&self) -> Result<BTreeMap<i64, Vec<i64>>> {
        let (mut rows, mut seen) = (BTreeMap::<_, Vec<_>>::new(), HashSet::new());
        for event in self.taken() {
            let id = event["id"].as_str().context("no id")?.to_owned();
            if seen.insert(id) {
                rows.entry(number(&event, "id")?).or_default().push(number(&event, "n")?);
            }
        }
        Ok(rows)
    }

    /// How many different events were taken.
    pub fn count(&self) -> usize {
        lock(&self.shared.ids).len()
    }

    /// The events that were taken, in their order.
    pub fn taken(&self) -> Vec<Value> {
        let posts = self.posts().into_iter();
        let taken = posts.filter(|post| post.status.is_some_and(|status| status.is_success()));
        taken.flat_map(|post| post.events).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn serve(listener: TcpListener, shared: Shared) -> JoinHandle<()> {
    let router = Router::new().fallback(receive).with_state(shared);
    tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    })
}

async fn receive(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let body = String::from_utf8_lossy(&body).into_owned();
    let value: Value = serde_json::from_str(&body).unwrap_or_default();
    let events = value["data"]["events"].as_array().cloned().unwrap_or_default();
    let id =
        headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let post = Post { id, headers, body, events, at: Instant::now(), status: None };
    let decide = Arc::clone(&lock(&shared.decide));
    let answer = decide(&post);
    let at = {
        let mut posts = lock(&shared.posts);
        posts.push(post);
        posts.len() - 1
    };
    tokio::time::sleep(answer.after).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or_default();
    if let Some(post) = lock(&shared.posts).get_mut(at) {
        post.status = Some(status);
        if status.is_success() {
            let ids = post.events.iter().filter_map(|event| Some(event["id"].as_str()?.to_owned()));
            lock(&shared.ids).extend(ids);
        }
    }
    let headers: HeaderMap = answer
        .headers
        .iter()
        .filter_map(|(name, value)| {
            Some((axum::http::HeaderName::from_static(name), value.parse().ok()?))
        })
        .collect();
    (status, headers, "what it says")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number of the record of an event.
pub fn number(event: &Value, column: &str) -> Result<i64> {
    event["record"][column].as_i64().with_context(|| format!("no {column} in {event}"))
}
