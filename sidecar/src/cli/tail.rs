//! `integratedb tail`: a stakeholder's events, a line each, as they come.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use super::Format;

/// Shown below the flags.
pub(super) const HELP: &str = "\
It goes on by itself when the connection is lost, after the last event it has printed, and ends with Ctrl-C or when \
nobody reads what it prints. To go on later, give --after the id of the last event you have.

Exit code: 0 ended, 2 it could not be followed.

Example: INTEGRATEDB_TOKEN=… integratedb tail reporting --format json | jq .record";

/// What `tail` takes.
#[derive(Args)]
pub(super) struct Flags {
    /// The stakeholder's name or id.
    stakeholder: String,
    /// Begin after the event with this id; 0 for the oldest that is kept. Otherwise it begins with what comes.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Where the REST API is.
    #[arg(
        long,
        env = "INTEGRATEDB_URL",
        default_value = "http://127.0.0.1:4000",
        value_name = "URL"
    )]
    url: Url,
    /// A token of the REST API.
    #[arg(long, env = "INTEGRATEDB_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: String,
    /// How to print: json prints events as they are.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Before the first event of all.
const BEGIN: &str = "0-0000000000000000-0";

/// The waits between connections.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// How long a connection may say nothing, not even a heartbeat.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a connection ended.
enum Ended {
    /// Another one may go on.
    Lost(anyhow::Error),
    /// Nothing will: what is asked for is refused.
    Refused(anyhow::Error),
    /// Nobody reads what is printed.
    Unread,
}

/// Follows until it is interrupted.
pub(super) async fn tail(flags: Flags) -> anyhow::Result<ExitCode> {
    tokio::select! {
        ended = follow(flags) => ended,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn follow(flags: Flags) -> anyhow::Result<ExitCode> {
    let tls = crate::tls::public_client().map_err(anyhow::Error::msg)?;
    let http = Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(SILENCE)
        .build()
        .context("no HTTP client")?;
    let Flags { stakeholder, after, url, token, format } = flags;
    let after = after.map(|after| if after == "0" { BEGIN.to_owned() } else { after });
    let mut tail = Tail { http, url, token, format, after, id: None };
    let mut wait = RETRY.0;
    loop {
        let before = tail.after.clone();
        match tail.connect(&stakeholder).await {
            Ended::Refused(error) => return Err(error),
            Ended::Unread => return Ok(ExitCode::SUCCESS),
            Ended::Lost(error) => {
                if tail.after != before {
                    wait = RETRY.0;
                }
                eprintln!("{error:#}; trying again in {} ms", wait.as_millis());
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

struct Tail {
    http: Client,
    url: Url,
    token: String,
    format: Format,
    /// The last event that was printed, or the last position that was told.
    after: Option<String>,
    /// The stakeholder's id, once it is known.
    id: Option<i64>,
}

impl Tail {
    fn get(&self, path: &str) -> RequestBuilder {
        let base = self.url.as_str().trim_end_matches('/');
        self.http.get(format!("{base}{path}")).bearer_auth(&self.token)
    }

    /// Follows as long as one connection lasts.
    async fn connect(&mut self, stakeholder: &str) -> Ended {
        let id = match self.id {
            Some(id) => id,
            None => match self.find(stakeholder).await {
                Ok(id) => *self.id.insert(id),
                Err(ended) => return ended,
            },
        };
        let mut request = self.get(&format!("/api/v1/stakeholders/{id}/events"));
        request = request.header("accept", "text/event-stream");
        if let Some(after) = &self.after {
            request = request.header("last-event-id", after);
        }
        match answer(request).await {
            Ok(response) => self.read(response).await,
            Err(ended) => ended,
        }
    }

    /// The id of a stakeholder that is given by its name, or by its id.
    async fn find(&self, stakeholder: &str) -> Result<i64, Ended> {
        let response = answer(self.get("/api/v1/stakeholders")).await?;
        let list: Value =
            response.json().await.map_err(|error| Ended::Lost(anyhow::Error::new(error)))?;
        let known = list["data"].as_array().into_iter().flatten();
        let found = known.into_iter().find(|one| {
            one["name"] == stakeholder
                || one["id"].as_i64().is_some_and(|id| stakeholder.parse() == Ok(id))
        });
        found.and_then(|one| one["id"].as_i64()).ok_or_else(|| {
            Ended::Refused(anyhow::anyhow!("there is no stakeholder named {stakeholder}"))
        })
    }

    async fn read(&mut self, mut response: Response) -> Ended {
        let mut lines = Lines::default();
        let mut block = Block::default();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => lines.0.extend_from_slice(&chunk),
                Ok(None) => return Ended::Lost(anyhow::anyhow!("the connection has ended")),
                Err(error) => return Ended::Lost(anyhow::Error::new(error)),
            }
            let mut out = Vec::new();
            let mut ended = None;
            for line in lines.complete() {
                if let Some(told) = block.line(&line) {
                    ended = self.told(told, &mut out);
                }
            }
            let mut stdout = std::io::stdout().lock();
            if stdout.write_all(&out).and_then(|()| stdout.flush()).is_err() {
                return Ended::Unread;
            }
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Takes what was told; what it means if it is the last of a connection.
    fn told(&mut self, told: Block, out: &mut Vec<u8>) -> Option<Ended> {
        if let Some(id) = told.id {
            self.after = Some(id);
        }
        match told.event.as_str() {
            // An id alone: how far it is.
            "" | "hello" => None,
            "expired" => Some(Ended::Refused(anyhow::anyhow!("the token is not valid any more"))),
            "deleted" => Some(Ended::Refused(anyhow::anyhow!("the stakeholder was deleted"))),
            "stopping" => Some(Ended::Lost(anyhow::anyhow!("the sidecar stops"))),
            "failed" => Some(Ended::Lost(anyhow::anyhow!("the sidecar can't read its log"))),
            _ if self.format == Format::Json => {
                out.extend_from_slice(told.data.as_bytes());
                out.push(b'\n');
                None
            }
            _ => {
                out.extend_from_slice(text(&told.data).as_bytes());
                out.push(b'\n');
                None
            }
        }
    }
}

/// An answer, if it is one of success.
async fn answer(request: RequestBuilder) -> Result<Response, Ended> {
    let response = request.send().await.map_err(|error| Ended::Lost(anyhow::Error::new(error)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let why: Value = response.json().await.unwrap_or_default();
    let why = why["errors"]["detail"].as_str().unwrap_or_default().to_owned();
    let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let error = match status {
        StatusCode::UNAUTHORIZED => anyhow::anyhow!("the token is not valid; log in for another"),
        _ => anyhow::anyhow!("the sidecar answers {status}: {why}"),
    };
    Err(if passes { Ended::Lost(error) } else { Ended::Refused(error) })
}

/// An event for people: id, what happened, table, and what of the row is known.
fn text(json: &str) -> String {
    let Ok(event) = serde_json::from_str::<Value>(json) else { return json.to_owned() };
    let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let (id, op) = (field("id"), field("event"));
    if op == "GAP" {
        return format!("{id} GAP {}", field("reason"));
    }
    let mut line =
        format!("{} {id} {op} {}.{}", field("commit_time"), field("schema"), field("table"));
    for part in ["key", "record", "old"] {
        // What the row is says what its key is.
        let is_known = part == "key" && !event["record"].is_null();
        if !event[part].is_null() && !is_known {
            line.push_str(&format!(" {part} {}", event[part]));
        }
    }
    line
}

/// Bytes of which the complete lines are taken.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn complete(&mut self) -> Vec<String> {
        let Some(last) = self.0.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.0.split_off(last + 1);
        let complete = std::mem::replace(&mut self.0, rest);
        let text = String::from_utf8_lossy(&complete);
        text.lines().map(str::to_owned).collect()
    }
}

/// What the lines so far say.
#[derive(Default, PartialEq, Debug)]
struct Block {
    id: Option<String>,
    event: String,
    data: String,
}

impl Block {
    /// Takes a line; what was said, where it ends it.
    fn line(&mut self, line: &str) -> Option<Self> {
        if line.is_empty() {
            return Some(std::mem::take(self));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event),
            "data" => self.data.push_str(value),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_when_they_are_complete() {
        let mut lines = Lines(b"id: 1\nda".to_vec());
        assert_eq!(lines.complete(), ["id: 1"]);
        assert!(lines.complete().is_empty());
        lines.0.extend_from_slice("ta: ä\r\n\n".as_bytes());
        assert_eq!(lines.complete(), ["data: ä", ""]);
    }

    #[test]
    fn a_block_is_read_as_it_was_written() {
        let mut block = Block::default();
        let lines = [": heartbeat", "id: 7", "event: INSERT", "data: {\"a\": \"b: c\"}"];
        assert!(lines.iter().all(|line| block.line(line).is_none()));
        let told = block.line("").expect("it ends");
        assert_eq!((told.id.as_deref(), told.event.as_str()), (Some("7"), "INSERT"));
        assert_eq!(told.data, "{\"a\": \"b: c\"}");
        assert_eq!(block.line(""), Some(Block::default()));
    }

    #[test]
    fn people_see_what_happened() {
        let event = r#"{"id":"1-7-0","event":"DELETE","schema":"public","table":"t","commit_time":"T","key":{"a":1},
            "record":null,"old":null}"#;
        assert_eq!(text(event), "T 1-7-0 DELETE public.t key {\"a\":1}");
        assert_eq!(text(r#"{"id":"1-7-0","event":"GAP","reason":"why"}"#), "1-7-0 GAP why");
    }
}
