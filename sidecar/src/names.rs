//! Looks names up, of which somebody else may say how long that takes.
//!
//! The system's resolver works on threads that the whole process shares, and goes on after whoever has asked gave up. So a name
//! whose server says nothing may only take a few of them, and all such names together not all.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// At once, of one name. Who comes later waits.
const OF_ONE: usize = 8;

/// At once, of all names. The threads are 512, and hash passwords too.
const OF_ALL: usize = 128;

static TURNS: Semaphore = Semaphore::const_new(OF_ALL);

/// The turns of a name, and how many have one or wait for one.
struct Turns {
    turns: Arc<Semaphore>,
    count: usize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(OF_ONE)), count: 0 }
    }
}

/// Names that are being looked up or waited for.
static UNDER_WAY: LazyLock<Mutex<HashMap<String, Turns>>> = LazyLock::new(Mutex::default);

fn under_way() -> MutexGuard<'static, HashMap<String, Turns>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who waits for the turn of a name, or has it.
struct OfOne {
    host: String,
    turns: Arc<Semaphore>,
}

impl OfOne {
    fn new(host: &str) -> Self {
        let mut all = under_way();
        let of_name = all.entry(host.to_owned()).or_default();
        of_name.count += 1;
        Self { host: host.to_owned(), turns: Arc::clone(&of_name.turns) }
    }

    async fn turn(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.turns).acquire_owned().await.expect("it is never closed")
    }
}

impl Drop for OfOne {
    fn drop(&mut self) {
        let mut all = under_way();
        if let Some(of_name) = all.get_mut(&self.host) {
            of_name.count -= 1;
            if of_name.count == 0 {
                all.remove(&self.host);
            }
        }
    }
}

/// The addresses of a host, or itself if it is one.
pub(crate) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let one = OfOne::new(host);
    let turn = one.turn().await;
    // It counts for as long as it takes, whoever still waits for it.
    let found = tokio::spawn(async move {
        let _turn_of_all = TURNS.acquire().await;
        let found = tokio::net::lookup_host((one.host.as_str(), port)).await;
        drop(turn);
        found.map(Iterator::collect)
    });
    found.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_name_takes_a_few_threads_only() {
        let one = OfOne::new("slow.example");
        let mut turns = Vec::new();
        for _ in 0..OF_ONE {
            turns.push(one.turn().await);
        }
        let late = OfOne::new("slow.example");
        let none = tokio::time::timeout(Duration::from_millis(10), late.turn()).await;
        assert!(none.is_err(), "all have their turns");
        drop(OfOne::new("other.example").turn().await);
        turns.pop();
        turns.push(late.turn().await);
        drop(turns);
        drop((one, late));
        assert!(under_way().is_empty(), "what is over is forgotten");
        let found = look_up("::1", 5432).await.expect("it is an address");
        assert_eq!(found, ["[::1]:5432".parse().expect("an address")]);
    }
}
