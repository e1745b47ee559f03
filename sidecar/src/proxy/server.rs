//! Threads that serve Postgres clients, and what they have in common: accepting, sweeping, reloading, stopping.
//!
//! Each worker is a thread with a runtime of its own, and a client stays with one: a query then never wakes another
//! thread. The first worker also takes new connections in and hands them out in turn.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::registry::{ProxyError, Registry};
use super::settings::{Caches, ProxySettings};
use super::{login, parser};

/// How often what is old is looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Connections beyond twice the most clients that may be on their way to a login, or to be told that it is full.
const NEWCOMERS: usize = 100;

/// A running proxy.
pub struct Proxy {
    registry: Arc<Registry>,
    address: SocketAddr,
    workers: Vec<JoinHandle<()>>,
    /// Ends the workers, whatever they are doing.
    end: CancellationToken,
    _sweeping: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Serves clients on `listener` from now on. To be called within a runtime.
    ///
    /// Errors when a cache, certificate or default can't be used, and says which.
    pub fn start(
        listener: std::net::TcpListener,
        settings: &ProxySettings,
        caches: &Caches,
    ) -> Result<Self, ProxyError> {
        // A client needs a descriptor or two; the default limit is for programs that open few.
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        parser::start()?;
        let registry = Arc::new(Registry::new(settings, caches)?);
        let end = CancellationToken::new();
        let mut workers = Vec::new();
        let mut queues = Vec::new();
        for number in 1..settings.workers.max(1) {
            let (queue, connections) = unbounded_channel();
            queues.push(queue);
            let work = take_from(connections, Arc::clone(&registry));
            workers.push(worker(number, end.clone(), work)?);
        }
        let accepting = accept(listener, queues, Arc::clone(&registry));
        workers.push(worker(0, end.clone(), accepting)?);
        // Not on a worker: without timers, it need not look at the clock before it waits for clients.
        let sweeping = AbortOnDropHandle::new(tokio::spawn(sweep(Arc::clone(&registry))));
        Ok(Self { registry, address, workers, end, _sweeping: sweeping })
    }

    /// Takes a new configuration, certificates included; errors leave everything as it was. The listener's address
    /// and the number of workers stay.
    pub fn reload(&self, settings: &ProxySettings, caches: &Caches) -> Result<(), ProxyError> {
        self.registry.reload(settings, caches)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Something to ask about caches.
    pub(crate) const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Takes no new clients, ends those between transactions, and gives the others `patience` to get there.
    pub async fn stop(mut self, patience: Duration) {
        self.registry.stop();
        let deadline = tokio::time::Instant::now() + patience;
        self.registry.tasks().close();
        let ended = tokio::time::timeout_at(deadline, self.registry.tasks().wait()).await;
        let left = self.registry.clients();
        if ended.is_err() && left > 0 {
            tracing::warn!(clients = left, "clients still in a transaction were cut off");
        }
        self.end.cancel();
        let workers = std::mem::take(&mut self.workers);
        let joined = tokio::task::spawn_blocking(move || {
            workers.into_iter().for_each(|worker| drop(worker.join()));
        });
        let _ = joined.await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.registry.stop();
        self.end.cancel();
    }
}

fn worker(
    number: usize,
    end: CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) -> Result<JoinHandle<()>, ProxyError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("proxy-{number}")).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = work => {}
                () = end.cancelled() => {}
            }
        });
        // Name look-ups run on threads that need not be waited for.
        runtime.shutdown_background();
    })?;
    Ok(thread)
}

async fn accept(
    listener: std::net::TcpListener,
    queues: Vec<UnboundedSender<std::net::TcpStream>>,
    registry: Arc<Registry>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the proxy can't listen");
            return;
        }
    };
    let mut turn = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = registry.stopping().cancelled() => break,
        };
        match accepted {
            // Not even told so: descriptors are for those who will be served.
            Ok(_) if registry.clients() > registry.max_clients().saturating_mul(2) + NEWCOMERS => {}
            Ok((stream, _)) => {
                turn = (turn + 1) % (queues.len() + 1);
                match queues.get(turn) {
                    None => serve(stream, &registry),
                    Some(queue) => {
                        if let Ok(stream) = stream.into_std() {
                            let _ = queue.send(stream);
                        }
                    }
                }
            }
            // Out of descriptors, mostly: some come back as clients leave.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    // Sessions go on until the worker is ended.
    std::future::pending().await
}

async fn take_from(
    mut connections: UnboundedReceiver<std::net::TcpStream>,
    registry: Arc<Registry>,
) {
    while let Some(stream) = connections.recv().await {
        if let Ok(stream) = TcpStream::from_std(stream) {
            serve(stream, &registry);
        }
    }
    std::future::pending().await
}

fn serve(stream: TcpStream, registry: &Arc<Registry>) {
    let registry = Arc::clone(registry);
    let counted = registry.count_client();
    let tasks = registry.tasks().clone();
    tasks.spawn(async move {
        // What a login needs is given back before the session begins: it may last for days.
        let entered = Box::pin(login::login(&registry, stream)).await;
        if let Some((session, lease)) = entered {
            // It gives way to others by itself, and need not be asked at every read and write.
            tokio::task::unconstrained(session.run(lease)).await;
        }
        drop(counted);
    });
}

async fn sweep(registry: Arc<Registry>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        registry.caches().iter().for_each(|cache| cache.sweep());
    }
}
