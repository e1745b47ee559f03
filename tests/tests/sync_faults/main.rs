//! Thousands of models that change at random, notifications that come twice, late or not at all, a source and a target that
//! fail, and sidecars that are killed: the target ends with what the source has, and nothing happens on the way that a judge
//! of every request objects to (see `Judge`).
//!
//! `SECONDS` says for how long models change, `MODELS` how many there are, `SEED` what is drawn.

mod http;
mod killed;
mod notifier;
mod rows;
mod setup;
mod table;
mod world;

use std::time::Duration;

use anyhow::{Context, Result};

/// A number from the environment.
fn environment(name: &str) -> Result<Option<u64>> {
    let Some(text) = std::env::var_os(name) else { return Ok(None) };
    let text = text.to_str().with_context(|| format!("{name} is no number"))?;
    Ok(Some(text.parse().with_context(|| format!("{name} is no number: {text}"))?))
}

/// For how long models change.
fn duration() -> Result<Duration> {
    Ok(Duration::from_secs(environment("SECONDS")?.unwrap_or(10)))
}

/// What is drawn, which is told so that it can be drawn again.
fn seed() -> Result<u64> {
    let seed = match environment("SEED")? {
        Some(seed) => seed,
        None => rand::random(),
    };
    eprintln!("SEED={seed}");
    Ok(seed)
}
