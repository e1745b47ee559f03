//! Waiting for a state, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Asks again and again until the answer is yes; errors with `what` when that takes too long.
pub async fn until<F: Future<Output = Result<bool>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !check().await? {
        ensure!(Instant::now() < deadline, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
