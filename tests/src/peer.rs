//! A server that takes any request, remembers it, and answers as a test wants it to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use axum::response::IntoResponse;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its method and its path with the query, as in `PUT /orders/1?x=2`.
    pub line: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: String,
}

impl Asked {
    /// A header; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct Says {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: String,
    /// How long it takes.
    pub after: Duration,
}

impl From<u16> for Says {
    fn from(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), after: Duration::ZERO }
    }
}

impl From<(u16, Value)> for Says {
    fn from((status, body): (u16, Value)) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body: body.to_string(), after: Duration::ZERO }
    }
}

type Decide = dyn Fn(&Asked) -> Says + Send + Sync;

#[derive(Clone)]
struct Shared {
    asked: Arc<Mutex<Vec<Asked>>>,
    decide: Arc<Decide>,
}

/// A running server. It is gone when this value is.
pub struct Peer {
    address: SocketAddr,
    shared: Shared,
    server: JoinHandle<()>,
}

impl Peer {
    /// One that answers so.
    pub async fn start(decide: impl Fn(&Asked) -> Says + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Shared { asked: Arc::default(), decide: Arc::new(decide) };
        let router = Router::new().fallback(receive).with_state(shared.clone());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, server })
    }

    /// Where it is, as in `127.0.0.1:1234`.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that came, in its order.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.asked).clone()
    }

    /// The first lines of all that came.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let body = String::from_utf8_lossy(&body).into_owned();
    let asked = Asked { line: format!("{method} {uri}"), headers, body };
    let says = (shared.decide)(&asked);
    lock(&shared.asked).push(asked);
    tokio::time::sleep(says.after).await;
    let headers: HeaderMap = says
        .headers
        .iter()
        .filter_map(|(name, value)| Some((HeaderName::from_static(name), value.parse().ok()?)))
        .collect();
    (StatusCode::from_u16(says.status).unwrap_or_default(), headers, says.body)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
