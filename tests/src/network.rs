//! A network that fails when a test wants it to: a relay in front of a server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The relay. It is gone when this value is.
pub struct Network {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    server: SocketAddr,
    /// Bytes from the server that still pass, over all connections, before each breaks.
    left: AtomicUsize,
    /// Whether nothing passes, though connections stand.
    stalled: watch::Sender<bool>,
}

impl Network {
    /// Relays to a server.
    pub async fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            server,
            left: AtomicUsize::new(usize::MAX),
            stalled: watch::Sender::new(false),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, Arc::clone(&shared)));
            }
        });
        Ok(Self { address, state, task })
    }

    /// Where the relay listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// After so many more bytes from the server, every connection breaks, and new ones at once.
    pub fn break_after(&self, bytes: usize) {
        self.state.left.store(bytes, Ordering::SeqCst);
    }

    /// All is well again.
    pub fn heal(&self) {
        self.state.left.store(usize::MAX, Ordering::SeqCst);
        self.state.stalled.send_replace(false);
    }

    /// From now on nothing passes, and nobody is told.
    pub fn stall(&self) {
        self.state.stalled.send_replace(true);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(client: TcpStream, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(state.server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever direction ends first takes the other with it.
    tokio::select! {
        () = pass(from_client, to_server, &state, false) => {}
        () = pass(from_server, to_client, &state, true) => {}
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    state: &State,
    is_counted: bool,
) {
    let mut stalled = state.stalled.subscribe();
    let mut bytes = vec![0; 8192];
    while let Ok(count) = from.read(&mut bytes).await {
        if count == 0 || stalled.wait_for(|stalled| !stalled).await.is_err() {
            return;
        }
        let mut passed = count;
        if is_counted {
            let left = state.left.load(Ordering::SeqCst);
            passed = count.min(left);
            if left != usize::MAX {
                state.left.store(left - passed, Ordering::SeqCst);
            }
        }
        if to.write_all(&bytes[..passed]).await.is_err() || passed < count {
            return;
        }
    }
}
