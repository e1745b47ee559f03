//! What `bench/sync` runs beside the sidecar.
//!
//! ```text
//! integratedb-sync-peers peers SOURCE TARGET MICROS MODELS QUIET   a source and a target that answer after so long; ends when
//!                                                          the target has so many models and nobody has asked for QUIET ms
//! integratedb-sync-peers notify ADDRESS MODELS TIMES CONCURRENCY   PUT /notification of each so often; TOKEN is the token
//! integratedb-sync-peers zync-notify DATABASE MODELS TIMES         the same for Zync's design
//! integratedb-sync-peers zync DATABASE SOURCE TARGET WORKERS       Zync's design at work, until it is told to end
//! ```
//!
//! DATABASE is a URL, SOURCE, TARGET and ADDRESS are addresses. Peers say `ready` when they listen; all but the last end with
//! a line of JSON. Models are Zync's clients `c1` to `cMODELS` of service 1, each fetched by one request and pushed by one.

mod delay;
mod http;
mod notify;
mod peers;
mod zync;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("usage: integratedb-sync-peers peers|notify|zync-notify|zync …, see main.rs");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{}: {error:#}", words.first().unwrap_or(&""));
            ExitCode::FAILURE
        }
    }
}

/// Whether the words are an order.
fn run(words: &[&str]) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = match words {
        ["peers", source, target, micros, models, quiet] => runtime.block_on(peers::run(
            source,
            target,
            number(micros)?,
            number(models)?,
            number(quiet)?,
        ))?,
        ["notify", address, models, times, concurrency] => {
            let token = std::env::var("TOKEN").context("no TOKEN")?;
            let concurrency = usize::try_from(number(concurrency)?)?;
            let (models, times) = (number(models)?, number(times)?);
            runtime.block_on(notify::run(address, &token, models, times, concurrency))?
        }
        ["zync-notify", database, models, times] => {
            runtime.block_on(zync::notify(database, number(models)?, number(times)?))?
        }
        ["zync", database, source, target, workers] => {
            let workers = usize::try_from(number(workers)?)?;
            runtime.block_on(zync::work(database, source, target, workers))?;
            return Ok(true);
        }
        _ => return Ok(false),
    };
    say(&report)?;
    Ok(true)
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn number(text: &str) -> Result<u64> {
    text.parse().with_context(|| format!("{text} is no number"))
}
