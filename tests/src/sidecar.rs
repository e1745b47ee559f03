//! The sidecar, in process, and a client for its API.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use integratedb_sidecar::Config;
use integratedb_sidecar::proxy::{Auth, CacheId, CacheSettings, PoolMode};
use integratedb_sidecar::secret::Secret;
use integratedb_sidecar::server::{Listeners, ServeError};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A running sidecar.
pub struct Sidecar {
    address: SocketAddr,
    proxy: SocketAddr,
    config: Config,
    reload: mpsc::Sender<Config>,
    http: reqwest::Client,
    token: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<Result<(), ServeError>>>,
}

/// An answer of the API.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: reqwest::header::HeaderMap,
    /// Its body; null where it is empty or not JSON.
    pub body: Value,
    /// Its body as it came.
    pub text: String,
}

impl Sidecar {
    /// Starts a sidecar on a free port.
    pub async fn start(database_url: &str) -> Result<Self> {
        Self::start_with(database_url, |_| {}).await
    }

    /// Starts a sidecar with other settings.
    pub async fn start_with(database_url: &str, adjust: impl FnOnce(&mut Config)) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        Self::start_on(listener, database_url, adjust).await
    }

    /// Starts a sidecar where another one was.
    pub async fn start_at(address: SocketAddr, database_url: &str) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Self::start_on(listener, database_url, |_| {}).await
    }

    async fn start_on(
        listener: TcpListener,
        database_url: &str,
        adjust: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let address = listener.local_addr()?;
        let mut config =
            Config { database_url: Secret::new(database_url.to_owned()), ..Config::default() };
        config.listen = address;
        adjust(&mut config);
        let proxy_listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = proxy_listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let (reload, reloads) = mpsc::channel(1);
        let listeners = Listeners { api: listener, proxy: Some(proxy_listener) };
        let server =
            tokio::spawn(integratedb_sidecar::run(listeners, config.clone(), reloads, async {
                let _ = stopped.await;
            }));
        // A proxy from the environment could not reach this address.
        let http = crate::http()?;
        // The listener is bound, so a first request waits until the server takes it.
        let sidecar = Self {
            address,
            proxy,
            config,
            reload,
            http,
            token: None,
            stop: Some(stop),
            server: Some(server),
        };
        sidecar.get("/health/live").await?;
        Ok(sidecar)
    }

    /// Starts a sidecar, creates the first user and acts as that user from here on.
    pub async fn start_as_root(database_url: &str) -> Result<Self> {
        Self::start_as_root_with(database_url, |_| {}).await
    }

    /// The same, with other settings.
    pub async fn start_as_root_with(
        database_url: &str,
        adjust: impl FnOnce(&mut Config),
    ) -> Result<Self> {
        let mut sidecar = Self::start_with(database_url, adjust).await?;
        let user = serde_json::json!({"user": {"username": "root", "password": "correct horse"}});
        let reply = sidecar.post("/api/v1/users", user).await?;
        let token = reply.body["data"]["token"].as_str().context("no token")?;
        sidecar.token = Some(token.to_owned());
        Ok(sidecar)
    }

    /// Uses this token from here on; `None` for no token.
    pub fn set_token(&mut self, token: Option<&str>) {
        self.token = token.map(str::to_owned);
    }

    /// The token in use.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Where the API listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the proxy listens.
    pub const fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Has the configuration read again, after a change.
    pub async fn reload(&mut self, adjust: impl FnOnce(&mut Config)) -> Result<()> {
        adjust(&mut self.config);
        Ok(self.reload.send(self.config.clone()).await?)
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The client, for requests that are not well-formed JSON.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// GET
    pub async fn get(&self, path: &str) -> Result<Reply> {
        self.send(Method::GET, path, None).await
    }

    /// POST
    pub async fn post(&self, path: &str, body: Value) -> Result<Reply> {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    /// PUT
    pub async fn put(&self, path: &str, body: Value) -> Result<Reply> {
        self.send(Method::PUT, path, Some(body.to_string())).await
    }

    /// DELETE
    pub async fn delete(&self, path: &str) -> Result<Reply> {
        self.send(Method::DELETE, path, None).await
    }

    /// Sends any text as JSON.
    pub async fn send(&self, method: Method, path: &str, body: Option<String>) -> Result<Reply> {
        let mut request = self.http.request(method, self.url(path));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        Reply::of(request.send().await?).await
    }

    /// Asks the server to stop and waits until it has.
    pub async fn stop(mut self) -> Result<()> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        match self.server.take() {
            Some(server) => Ok(server.await??),
            None => Ok(()),
        }
    }
}

/// A cache in front of the server that a URL leads to, as a test's configuration has it: clients log in to the
/// origin through it, or to the proxy where they are to share connections.
pub fn cache(server_url: &str, pool_mode: Option<PoolMode>) -> Result<CacheSettings> {
    let mut cache = CacheSettings::new(
        integratedb_sidecar::proxy::origin_of(server_url).map_err(anyhow::Error::msg)?,
    );
    if let Some(pool_mode) = pool_mode {
        cache.auth = Auth::Scram;
        cache.auth_url = Some(Secret::new(server_url.to_owned()));
        cache.pool_mode = pool_mode;
    }
    Ok(cache)
}

/// Adds the caches that most tests need: `pass`, the default, `session` and `transaction`.
pub fn add_caches(config: &mut Config, server_url: &str) -> Result<()> {
    let modes = [
        ("pass", None),
        ("session", Some(PoolMode::Session)),
        ("transaction", Some(PoolMode::Transaction)),
    ];
    for (name, mode) in modes {
        config.caches.insert(cache_id(name), cache(server_url, mode)?);
    }
    config.proxy.default_cache = Some(cache_id("pass"));
    Ok(())
}

/// The id of a cache.
pub fn cache_id(name: &str) -> CacheId {
    CacheId::try_from(name.to_owned()).expect("tests use short names of letters")
}

/// The binary `integratedb`, for what only a process can show.
pub fn binary() -> Result<std::path::PathBuf> {
    // The test lies in target/PROFILE/deps, the binary in target/PROFILE.
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(|deps| deps.parent()).context("an odd place for a test")?;
    let binary = folder.join("integratedb");
    anyhow::ensure!(binary.exists(), "build the package integratedb-sidecar with the tests");
    Ok(binary)
}

impl Reply {
    /// Reads a response.
    pub async fn of(response: reqwest::Response) -> Result<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok(Self { status, headers, body, text })
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}
