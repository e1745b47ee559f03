//! An API that models are fetched from: it has objects by path, and does otherwise where a test says so.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request that came.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The path, with the query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The other end of the connection.
    pub from: SocketAddr,
}

impl Fetched {
    /// A header; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: String,
    /// How long it takes.
    pub after: Duration,
}

impl Answered {
    /// With JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::of(status, "application/json; charset=utf-8", body.to_string())
    }

    /// As somebody before the API would, who doesn't find it.
    pub fn balancer() -> Self {
        Self::of(404, "text/html", "<html><body>404 Not Found</body></html>".to_owned())
    }

    /// With a body of some type.
    pub fn of(status: u16, content_type: &str, body: String) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { status, headers, body, after: Duration::ZERO }
    }

    /// With a header more.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Only after some time.
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

type Decide = dyn Fn(&Fetched) -> Option<Answered> + Send + Sync;

struct Shared {
    objects: Mutex<HashMap<String, Value>>,
    asked: Mutex<Vec<Fetched>>,
    decide: Mutex<Arc<Decide>>,
}

/// A running API. It is gone when this value is.
pub struct SourceApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl SourceApi {
    /// One that has nothing, and says so.
    pub async fn start() -> Result<Self> {
        let shared = Arc::new(Shared {
            objects: Mutex::default(),
            asked: Mutex::default(),
            decide: Mutex::new(Arc::new(|_| None)),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, service).await;
        });
        Ok(Self { address, shared, server })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has this at a path, which has its query with it, from now on.
    pub fn put(&self, path: &str, object: Value) {
        lock(&self.shared.objects).insert(path.to_owned(), object);
    }

    /// Has nothing there any more.
    pub fn remove(&self, path: &str) {
        lock(&self.shared.objects).remove(path);
    }

    /// Answers otherwise from now on, where this gives something.
    pub fn answer(&self, decide: impl Fn(&Fetched) -> Option<Answered> + Send + Sync + 'static) {
        *lock(&self.shared.decide) = Arc::new(decide);
    }

    /// All requests, in their order.
    pub fn asked(&self) -> Vec<Fetched> {
        lock(&self.shared.asked).clone()
    }
}

impl Drop for SourceApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> impl IntoResponse {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let asked = Fetched { path, headers: request.headers().clone(), from };
    lock(&shared.asked).push(asked.clone());
    let decide = Arc::clone(&lock(&shared.decide));
    let answered = decide(&asked).unwrap_or_else(|| match lock(&shared.objects).get(&asked.path) {
        Some(object) => Answered::json(200, object),
        None => Answered::json(404, &json!({"status": "Not found"})),
    });
    tokio::time::sleep(answered.after).await;
    let headers: HeaderMap = answered
        .headers
        .iter()
        .filter_map(|(name, value)| Some((HeaderName::from_static(name), value.parse().ok()?)))
        .collect();
    (StatusCode::from_u16(answered.status).unwrap_or_default(), headers, answered.body)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
