//! A database whose changes a stakeholder is told of, and clients of its sockets.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use integratedb_sidecar::Config;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{Cluster, Database, Sidecar};

/// How long a client waits for the next message.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tables `items (id int PRIMARY KEY, name text, price int)` and `others (id int PRIMARY KEY)`, and a stakeholder
/// `reporting` that is told of columns `id` and `name` of the first.
pub struct Notified {
    /// The server.
    pub cluster: Cluster,
    /// The database.
    pub database: Database,
    /// The sidecar that leads.
    pub sidecar: Sidecar,
    /// The stakeholder's id.
    pub stakeholder: i64,
}

impl Notified {
    /// Starts all of it, and waits until changes are followed.
    pub async fn start() -> Result<Self> {
        Self::start_with(|_| {}).await
    }

    /// The same, with other settings.
    pub async fn start_with(adjust: impl FnOnce(&mut Config)) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), adjust).await?;
        let schema = "CREATE TABLE items (id int PRIMARY KEY, name text, price int);
            CREATE TABLE others (id int PRIMARY KEY)";
        database.connect().await?.batch_execute(schema).await?;
        let mut notified = Self { cluster, database, sidecar, stakeholder: 0 };
        notified.stakeholder = notified.stakeholder("reporting").await?;
        notified.subscribe(notified.stakeholder, "items", &["id", "name"]).await?;
        Ok(notified)
    }

    /// Makes a stakeholder, and gives its id.
    pub async fn stakeholder(&self, name: &str) -> Result<i64> {
        let body = json!({"stakeholder": {"name": name}});
        let made = self.sidecar.post("/api/v1/stakeholders", body).await?;
        made.body["data"]["id"].as_i64().with_context(|| format!("{made:?}"))
    }

    /// Has a stakeholder told of all changes of columns of a table by every channel, in place of what it was told.
    pub async fn subscribe(&self, stakeholder: i64, table: &str, columns: &[&str]) -> Result<()> {
        let item = json!({"path": format!("public.{table}"), "events": ["*"], "fields": columns, "channels": ["*"]});
        let path = format!("/api/v1/stakeholders/{stakeholder}/notifications");
        let put = self.sidecar.put(&path, json!({"data": {"match": [item]}})).await?;
        ensure!(put.status == 200 && put.body["data"]["active"] == true, "{put:?}");
        Ok(())
    }

    /// The path of the stakeholder's events, with what follows it.
    pub fn path(&self, rest: &str) -> String {
        format!("/api/v1/stakeholders/{}/events{rest}", self.stakeholder)
    }

    /// A WebSocket that has said hello.
    pub async fn socket(&self, query: &str) -> Result<Socket> {
        Socket::open(self.sidecar.address(), &self.path(query), self.sidecar.token()).await
    }

    /// A stream of Server-Sent Events; `last` goes into `Last-Event-ID`.
    pub async fn sse(&self, query: &str, last: Option<&str>) -> Result<SseClient> {
        let request = self.sidecar.http().get(self.sidecar.url(&self.path(query)));
        let mut request = request.header("accept", "text/event-stream");
        if let Some(token) = self.sidecar.token() {
            request = request.bearer_auth(token);
        }
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        SseClient::of(request.send().await?)
    }
}

/// A client's WebSocket.
pub struct Socket {
    inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Where it began.
    pub after: String,
}

/// What a WebSocket has said.
#[derive(Debug)]
pub enum Said {
    /// A text message.
    Json(Value),
    /// A ping, which is answered.
    Ping,
    /// The end.
    Closed(Option<CloseFrame>),
}

impl Socket {
    /// Opens one. The error holds the status where it is refused.
    pub async fn open(address: SocketAddr, path: &str, token: Option<&str>) -> Result<Self> {
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        if let Some(token) = token {
            let headers = request.headers_mut();
            headers.insert("authorization", format!("Bearer {token}").parse()?);
        }
        let (inner, _) = match tokio_tungstenite::connect_async(request).await {
            Ok(opened) => opened,
            Err(Error::Http(answer)) => bail!("{}", answer.status()),
            Err(error) => return Err(error.into()),
        };
        let mut socket = Self { inner, after: String::new() };
        let Said::Json(hello) = socket.said().await? else { bail!("no hello") };
        ensure!(hello["type"] == "hello" && hello["version"] == 1, "{hello}");
        socket.after = hello["after"].as_str().context("no position")?.to_owned();
        Ok(socket)
    }

    /// The next thing it says.
    pub async fn said(&mut self) -> Result<Said> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.inner.next()).await?;
            return Ok(match message.transpose()? {
                None => Said::Closed(None),
                Some(Message::Text(text)) => Said::Json(serde_json::from_str(&text)?),
                Some(Message::Close(frame)) => Said::Closed(frame),
                Some(Message::Ping(_)) => {
                    self.inner.flush().await?;
                    Said::Ping
                }
                Some(_) => continue,
            });
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> Result<Value> {
        loop {
            match self.said().await? {
                Said::Json(event) if event["type"].is_null() => return Ok(event),
                Said::Closed(frame) => bail!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Waits for the code it is closed with, whatever comes before.
    pub async fn code(&mut self) -> Result<u16> {
        loop {
            if let Said::Closed(frame) = self.said().await? {
                return Ok(frame.context("no close frame")?.code.into());
            }
        }
    }
}

/// A client of Server-Sent Events.
pub struct SseClient {
    response: reqwest::Response,
    text: String,
}

/// One of them: its id, its name and its data.
pub type SseEvent = (String, String, Value);

impl SseClient {
    fn of(response: reqwest::Response) -> Result<Self> {
        ensure!(response.status() == 200, "{}", response.status());
        ensure!(response.headers()["content-type"] == "text/event-stream");
        Ok(Self { response, text: String::new() })
    }

    /// The next block of lines, comments too; `None` at the end.
    pub async fn block(&mut self) -> Result<Option<String>> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Ok(Some(block));
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await??;
            let Some(chunk) = chunk else { return Ok(None) };
            self.text.push_str(std::str::from_utf8(&chunk)?);
        }
    }

    /// The next event; heartbeats are passed over.
    pub async fn event(&mut self) -> Result<SseEvent> {
        loop {
            let block = self.block().await?.context("the stream has ended")?;
            let field = |name: &str| {
                block
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_default()
                    .to_owned()
            };
            let data = field("data: ");
            if !data.is_empty() {
                return Ok((field("id: "), field("event: "), serde_json::from_str(&data)?));
            }
        }
    }
}
