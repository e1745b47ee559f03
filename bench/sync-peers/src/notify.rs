//! Tells a sidecar of models, as an API manager tells Zync.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;

/// The tenant of the benchmark.
const TENANT: u64 = 1;

/// Tells of each model so often, before it goes on to the next one; reports the microseconds that it took.
pub(crate) async fn run(
    address: &str,
    token: &str,
    models: u64,
    times: u64,
    concurrency: usize,
) -> Result<String> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let next = Arc::new(AtomicU64::new(0));
    let url = format!("http://{address}/notification");
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..concurrency {
        let (http, next, url) = (http.clone(), Arc::clone(&next), url.clone());
        let authorization = format!("Token token=\"{token}\"");
        senders.spawn(async move {
            loop {
                let sent = next.fetch_add(1, Ordering::Relaxed);
                if sent >= models * times {
                    return anyhow::Ok(());
                }
                let client = format!("c{}", sent / times + 1);
                let body =
                    json!({"type": "Client", "client_id": client, "service_id": 1, "tenant_id": TENANT});
                let request = http.put(&url).header("authorization", &authorization).json(&body);
                let answer = request.send().await?;
                let status = answer.status();
                ensure!(status == 201, "{status}: {}", answer.text().await?);
                answer.bytes().await?;
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender??;
    }
    Ok(json!({"notified": models * times, "took_us": began.elapsed().as_micros()}).to_string())
}
