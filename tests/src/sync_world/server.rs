//! A server of HTTP/1.1 that can do what libraries for servers don't let one do: end a connection instead of answering, and
//! see at once that a client who waits is gone.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A request.
#[derive(Clone, Debug, Default)]
pub struct SyncRequest {
    /// Its method.
    pub method: String,
    /// Its path, with what is behind the question mark.
    pub target: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl SyncRequest {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// The segments of its path.
    pub fn path(&self) -> Vec<&str> {
        let path = self.target.split('?').next().unwrap_or_default();
        path.split('/').filter(|part| !part.is_empty()).collect()
    }

    /// What a name stands for behind the question mark.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(of, _)| *of == name)
            .map(|(_, value)| value)
    }
}

/// What comes of a request.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// An answer.
    Answer {
        /// Its status.
        status: u16,
        /// Its headers, but for the length.
        headers: Vec<(&'static str, String)>,
        /// Its body.
        body: Vec<u8>,
    },
    /// The connection ends.
    Cut,
}

impl Outcome {
    /// An answer without a body.
    pub const fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    /// An answer of JSON.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self::Answer { status, headers, body: body.to_string().into_bytes() }
    }
}

type Handle = dyn Fn(SyncRequest) -> BoxFuture<'static, Outcome> + Send + Sync;

/// A running server. It and all its connections are gone when this value is.
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// What handles a request is dropped as soon as its client is gone.
    pub async fn start(
        handle: impl Fn(SyncRequest) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let handle: Arc<Handle> = Arc::new(handle);
        let task = tokio::spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while clients.try_join_next().is_some() {}
                let handle = Arc::clone(&handle);
                // A client that ends in the middle is what these servers are for.
                clients.spawn(async move { serve(client, &*handle).await.ok() });
            }
        });
        Ok(Self { address, task })
    }

    /// Where it is.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, handle: &Handle) -> Result<()> {
    client.set_nodelay(true)?;
    let mut heard = Vec::new();
    loop {
        let (request, length) = loop {
            if let Some(found) = read(&heard)? {
                break found;
            }
            ensure!(client.read_buf(&mut heard).await? > 0, "ended");
        };
        heard.drain(..length);
        let outcome = tokio::select! {
            outcome = handle(request) => outcome,
            () = gone(&mut client, &mut heard) => return Ok(()),
        };
        let Outcome::Answer { status, headers, body } = outcome else { return Ok(()) };
        let mut answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            answer += &format!("{name}: {value}\r\n");
        }
        answer += "\r\n";
        let mut answer = answer.into_bytes();
        answer.extend(body);
        client.write_all(&answer).await?;
    }
}

/// Waits until nobody waits for an answer.
async fn gone(client: &mut TcpStream, heard: &mut Vec<u8>) {
    while client.read_buf(heard).await.is_ok_and(|count| count > 0) {}
}

/// The first request, and how many bytes it has; none if it is not all there.
fn read(heard: &[u8]) -> Result<Option<(SyncRequest, usize)>> {
    let Some(head) = heard.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&heard[..head])?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().context("no request")?.split(' ');
    let (method, target) = (words.next().context("no method")?, words.next().context("no path")?);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = SyncRequest {
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body: Vec::new(),
    };
    ensure!(request.header("transfer-encoding").is_none(), "a length is not told");
    let length: usize = request.header("content-length").unwrap_or("0").parse()?;
    let end = head + 4 + length;
    if heard.len() < end {
        return Ok(None);
    }
    request.body = heard[head + 4..end].to_vec();
    Ok(Some((request, end)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::until;

    #[test]
    fn a_request_is_read_when_it_is_all_there() -> Result<()> {
        let text = b"PUT /a/b?c=d&e=f HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyzGET";
        assert!(read(&text[..50])?.is_none());
        let (heard, length) = read(text)?.context("it is all there")?;
        assert_eq!((heard.method.as_str(), heard.path()), ("PUT", vec!["a", "b"]));
        assert_eq!((heard.query("e"), heard.header("host")), (Some("f"), Some("x")));
        assert_eq!((heard.body.as_slice(), length), (&b"xyz"[..], text.len() - 3));
        Ok(())
    }

    #[tokio::test]
    async fn who_handles_a_request_ends_with_its_client() -> Result<()> {
        struct Ends(Arc<AtomicBool>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let server = Server::start(move |_| {
            let ends = Ends(Arc::clone(&seen));
            Box::pin(async move {
                let _ends = ends;
                std::future::pending().await
            })
        })
        .await?;
        let mut client = TcpStream::connect(server.address()).await?;
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        let waited = tokio::time::timeout(std::time::Duration::from_millis(100), client.read_u8());
        assert!(waited.await.is_err(), "nothing is answered");
        assert!(!ended.load(Ordering::SeqCst));
        drop(client);
        until("it is noticed", async || Ok(ended.load(Ordering::SeqCst))).await
    }
}
