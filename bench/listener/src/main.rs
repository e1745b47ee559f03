//! The receiving end of `bench/notify`: counts the events of the benchmark's table that come by one channel, and notes when.
//!
//! ```text
//! integratedb-listener socket ADDRESS COUNT STAKEHOLDER…   a WebSocket for each, so many events each; TOKEN is the token
//! integratedb-listener webhook ADDRESS COUNT [FILE]        answers 200; the largest body is left in the file
//! integratedb-listener redis ADDRESS COUNT KEY             reads a stream
//! integratedb-listener recvlogical COUNT [now]             reads what pg_recvlogical writes: much at a time, or at once
//! integratedb-listener post URL FILE COUNT CONCURRENCY     sends a body so often, by the client that webhooks use
//! ```
//!
//! It says `ready` when it will miss nothing, and ends with a line of JSON (see `counter::report`) when all have come or
//! when it is told to end. All times are microseconds since 1970.

mod counter;
mod http;
mod post;
mod recvlogical;
mod redis;
mod socket;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use counter::{Counter, report};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words).and_then(|report| report.map(|report| say(&report)).transpose()) {
        Ok(Some(())) => ExitCode::SUCCESS,
        Ok(None) => {
            eprintln!(
                "usage: integratedb-listener socket|webhook|redis|recvlogical|post …, see main.rs"
            );
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("{}: {error}", words.first().unwrap_or(&""));
            ExitCode::FAILURE
        }
    }
}

/// The report; none if the words are no order.
fn run(words: &[&str]) -> io::Result<Option<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(Some(match words {
        ["socket", address, count, stakeholders @ ..] if !stakeholders.is_empty() => {
            let count = number(count)?;
            let counters: Vec<_> = stakeholders.iter().map(|_| Counter::new(count)).collect();
            let token = std::env::var("TOKEN").unwrap_or_default();
            let work = socket::listen(address, &token, stakeholders, &counters);
            runtime.block_on(until_done(work, &counters))?;
            report(&counters)
        }
        ["webhook", address, count, file @ ..] if file.len() < 2 => {
            let counters = [Counter::new(number(count)?)];
            runtime.block_on(until_done(http::receive(address, &counters[0]), &counters))?;
            if let [file] = file {
                std::fs::write(file, counters[0].largest())?;
            }
            report(&counters)
        }
        ["redis", address, count, key] => {
            let counters = [Counter::new(number(count)?)];
            runtime.block_on(until_done(redis::read(address, key, &counters[0]), &counters))?;
            report(&counters)
        }
        ["recvlogical", count, now @ ..] if matches!(now, [] | ["now"]) => {
            let counter = Counter::new(number(count)?);
            recvlogical::read(&counter, now.is_empty())?;
            report(&[counter])
        }
        ["post", url, file, count, concurrency] => {
            let body = std::fs::read(file)?;
            runtime.block_on(post::post(url, body, number(count)?, number(concurrency)?))?
        }
        _ => return Ok(None),
    }))
}

/// Works until all have come, or until somebody asks for what there is.
async fn until_done(
    work: impl Future<Output = io::Result<()>>,
    counters: &[Arc<Counter>],
) -> io::Result<()> {
    let mut told = signal(SignalKind::terminate())?;
    let done = async {
        for counter in counters {
            counter.done().await;
        }
    };
    tokio::select! {
        ended = work => ended,
        () = done => Ok(()),
        _ = told.recv() => Ok(()),
    }
}

/// Tells that nothing that happens from now on is missed.
fn ready() -> io::Result<()> {
    say("ready")
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|_| wrong(format!("{text} is no number")))
}

/// The other end does not do what it should.
fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}
