//! The most that a webhook could reach: the client that the sidecar uses, and nothing else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::counter::now;
use crate::wrong;

/// Sends the body `count` times, `concurrency` at once. Gives, as JSON, when the first began and the last was answered.
pub(crate) async fn post(
    url: &str,
    body: Vec<u8>,
    count: usize,
    concurrency: usize,
) -> io::Result<String> {
    // Until the process ends, and without a copy for each request.
    let body: &'static [u8] = body.leak();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(10))
        .connect_timeout(Duration::from_secs(10))
        .pool_max_idle_per_host(concurrency)
        .user_agent("IntegrateDB/0.1.0")
        .build()
        .map_err(io::Error::other)?;
    let left = Arc::new(AtomicUsize::new(count));
    let mut tasks: JoinSet<io::Result<()>> = JoinSet::new();
    let first = now();
    for _ in 0..concurrency {
        let (client, url, left) = (client.clone(), url.to_owned(), Arc::clone(&left));
        tasks.spawn(async move {
            while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                send(&client, &url, body).await?;
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(io::Error::other)??;
    }
    Ok(json!({"requests": count, "first_us": first, "last_us": now()}).to_string())
}

async fn send(client: &reqwest::Client, url: &str, body: &'static [u8]) -> io::Result<()> {
    let request = client
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", "msg_1-00000000016B3748-0000000000000003")
        .header("webhook-timestamp", "1700000000")
        .header("webhook-signature", "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=")
        .body(body);
    let answer = request.send().await.map_err(io::Error::other)?;
    if !answer.status().is_success() {
        return Err(wrong(answer.status().to_string()));
    }
    answer.bytes().await.map(drop).map_err(io::Error::other)
}
