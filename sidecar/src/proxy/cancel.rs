//! Cancel requests: from the key a client was given to the query it has running, and to no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use integratedb_wire::write;
use subtle::ConstantTimeEq;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, oneshot};

use super::buffer::Buffer;
use super::origin::Origin;
use super::random;

/// What cancels the queries of one connection to an origin.
pub(crate) struct OriginKey {
    /// The origin as it was configured when the connection was opened.
    pub(crate) origin: Arc<Origin>,
    /// Which of its hosts.
    pub(crate) host: usize,
    pub(crate) process: u32,
    pub(crate) secret: Vec<u8>,
}

/// The keys of all clients.
#[derive(Default)]
pub(crate) struct Cancels {
    clients: Mutex<HashMap<u32, Arc<Client>>>,
}

struct Client {
    secret: Vec<u8>,
    target: Mutex<Target>,
    /// A cancel request of this client has reached the origin, or failed to.
    done: Notify,
}

#[derive(Default)]
struct Target {
    key: Option<Arc<OriginKey>>,
    /// Requests on their way to it. Until they are there, it may not serve another client.
    under_way: usize,
    /// The client's query waits in the proxy, and the origin does not know of it.
    waiting: Option<oneshot::Sender<()>>,
}

/// One client's key, as long as it is connected.
pub(crate) struct ClientKey {
    cancels: Arc<Cancels>,
    process: u32,
    client: Arc<Client>,
}

impl Cancels {
    /// A key that cannot be guessed; `length` is that of its secret.
    pub(crate) fn issue(self: &Arc<Self>, length: usize) -> ClientKey {
        let client = Arc::new(Client {
            secret: random::bytes::<32>()[..length].to_vec(),
            target: Mutex::default(),
            done: Notify::new(),
        });
        let mut clients = self.lock();
        let process = loop {
            // Positive as a signed number, because that is how clients show it.
            let process = u32::from_be_bytes(random::bytes()) >> 1;
            if process != 0 && !clients.contains_key(&process) {
                break process;
            }
        };
        clients.insert(process, Arc::clone(&client));
        ClientKey { cancels: Arc::clone(self), process, client }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Cancels what the client with this key has running, if the key is one. Ends when the origin knows.
    pub(crate) async fn cancel(&self, process: u32, secret: &[u8]) {
        let Some(client) = self.lock().get(&process).cloned() else { return };
        if !bool::from(client.secret.ct_eq(secret)) {
            return;
        }
        client.cancel().await;
    }
}

impl Client {
    async fn cancel(self: Arc<Self>) {
        let key = {
            let mut target = self.lock();
            if target.waiting.take().is_some_and(|waiting| waiting.send(()).is_ok()) {
                return;
            }
            let Some(key) = target.key.clone() else { return };
            target.under_way += 1;
            key
        };
        let under_way = UnderWay(&self);
        if let Err(error) = send(&key).await {
            tracing::warn!(error, "a cancel request did not reach the origin");
        }
        drop(under_way);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Counts a request as done however its sending ends.
struct UnderWay<'a>(&'a Client);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
        self.0.done.notify_waiters();
    }
}

/// Sends a cancel request and waits until the origin has closed the connection: by then the signal is sent.
pub(crate) async fn send(key: &OriginKey) -> Result<(), String> {
    let origin = &key.origin;
    let mut stream = origin.connect(key.host).await.map_err(|error| error.to_string())?;
    let exchange = async {
        let mut output = Buffer::default();
        write::frontend::cancel_request(output.tail(), key.process, &key.secret)
            .map_err(|error| error.to_string())?;
        output.drain(&mut stream).await.map_err(|error| error.to_string())?;
        // An origin resets the connection or ends it; both say that it is done.
        let _ = stream.read(&mut [0; 64]).await;
        Ok(())
    };
    tokio::time::timeout(origin.timeout(), exchange)
        .await
        .unwrap_or_else(|_| Err("no answer".to_owned()))
}

impl ClientKey {
    /// What the client gets to know.
    pub(crate) fn shown(&self) -> (u32, &[u8]) {
        (self.process, &self.client.secret)
    }

    /// From now on a cancel request goes to this connection.
    pub(crate) fn link(&self, key: &Arc<OriginKey>) {
        self.client.lock().key = Some(Arc::clone(key));
    }

    /// From now on a cancel request goes nowhere. True when none is on its way: else the connection may not be
    /// used for another client before [`Self::settled`].
    pub(crate) fn unlink(&self) -> bool {
        let mut target = self.client.lock();
        target.key = None;
        target.under_way == 0
    }

    /// Until the receiver is dropped, a cancel request goes to it.
    pub(crate) fn wait(&self) -> oneshot::Receiver<()> {
        let (waiting, asked) = oneshot::channel();
        self.client.lock().waiting = Some(waiting);
        asked
    }

    /// Ends when no cancel request is on its way any more.
    pub(crate) fn settled(&self) -> impl Future<Output = ()> + Send + 'static {
        let client = Arc::clone(&self.client);
        async move {
            loop {
                let mut done = std::pin::pin!(client.done.notified());
                done.as_mut().enable();
                if client.lock().under_way == 0 {
                    return;
                }
                done.await;
            }
        }
    }
}

impl Drop for ClientKey {
    fn drop(&mut self) {
        self.cancels.lock().remove(&self.process);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn origin() -> Arc<Origin> {
        let origin = Origin::read("host=127.0.0.1 port=1", Duration::from_secs(1), None);
        Arc::new(origin.expect("readable"))
    }

    #[test]
    fn a_key_is_gone_with_its_client_and_no_two_are_alike() {
        let cancels = Arc::new(Cancels::default());
        let (a, b) = (cancels.issue(4), cancels.issue(32));
        assert_ne!(a.shown().0, b.shown().0);
        assert_eq!((a.shown().1.len(), b.shown().1.len()), (4, 32));
        drop(a);
        assert_eq!(cancels.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_connection_is_not_reused_while_a_cancel_request_is_on_its_way() {
        let cancels = Arc::new(Cancels::default());
        let key = cancels.issue(4);
        key.link(&Arc::new(OriginKey { origin: origin(), host: 0, process: 1, secret: vec![1] }));
        key.client.lock().under_way += 1;
        assert!(!key.unlink());
        let settled = tokio::spawn(key.settled());
        tokio::task::yield_now().await;
        assert!(!settled.is_finished());
        drop(UnderWay(&key.client));
        settled.await.expect("it ends");
        assert!(key.unlink());
    }
}
