//! The settings of a WEBHOOK channel.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use crate::fields::{Fields, seconds, seconds_json};
use crate::http::FRAMING;
use crate::notify::NotificationSettings;
use crate::reach::Reach;

/// The waits after each failure, in seconds, as Svix has them: after the last the event is given up.
const SCHEDULE: [u64; 7] = [5, 300, 1800, 7200, 18_000, 36_000, 36_000];

/// The longest wait, and the longest time to fail.
const MONTH: f64 = 30.0 * 24.0 * 3600.0;

const MOST_HEADERS: usize = 20;
const MOST_RETRIES: usize = 30;

/// Headers that are ours, beside those of [`FRAMING`].
const OURS: &[&str] = &["webhook-id", "webhook-timestamp", "webhook-signature", "content-type"];

/// Where and how it is delivered.
#[derive(Clone, PartialEq)]
pub(in crate::notify::channels) struct WebhookSettings {
    pub(super) url: Url,
    /// For a request with its answer.
    pub(super) timeout: Duration,
    /// The most events of a request.
    pub(super) max_events: usize,
    /// How long events wait for others to go with.
    pub(super) max_wait: Duration,
    /// The most requests at once.
    pub(super) concurrency: usize,
    pub(super) headers: HeaderMap,
    /// The waits after each failure of an event.
    pub(super) schedule: Vec<Duration>,
    /// For how long nothing at all may go well.
    pub(super) disable_after: Duration,
}

impl WebhookSettings {
    pub(in crate::notify::channels) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let url = fields.needed_text("url").and_then(|text| match read_url(&text) {
            Ok(url) => Some(url),
            Err(why) => {
                fields.wrong("url", why);
                None
            }
        });
        let timeout = Duration::from_millis(fields.number("timeout_ms", 100, 120_000, 10_000));
        let (max_events, max_wait) = fields.object("batch", |mut batch| {
            let read = (
                batch.number("max_events", 1, 1000, 1) as usize,
                Duration::from_millis(batch.number("max_wait_ms", 0, 60_000, 0)),
            );
            batch.end();
            read
        });
        let concurrency = fields.number("concurrency", 1, 100, 4) as usize;
        let headers = fields.object("headers", read_headers);
        let schedule = fields.object("retry", |mut retry| {
            let schedule = retry.take("schedule_secs");
            let schedule = schedule.map_or_else(
                || SCHEDULE.map(Duration::from_secs).to_vec(),
                |value| read_schedule(&value, &mut retry),
            );
            retry.end();
            schedule
        });
        let disable_after = fields.take("disable_after_secs").map_or(
            Some(Duration::from_secs(5 * 24 * 3600)),
            |value| {
                let read = seconds(&value, 1.0, MONTH);
                if read.is_none() {
                    fields.wrong("disable_after_secs", "this has to be seconds, from 1 to 2592000");
                }
                read
            },
        );
        Some(Self {
            url: url?,
            timeout,
            max_events,
            max_wait,
            concurrency,
            headers,
            schedule,
            disable_after: disable_after?,
        })
    }

    /// What can be said against where it goes before a name is resolved.
    pub(in crate::notify::channels) fn check(
        &self,
        settings: &NotificationSettings,
    ) -> Result<(), String> {
        Reach::from(settings).check(&self.url)
    }

    /// What may be shown, and what may not: the values of headers, which are often credentials.
    pub(in crate::notify::channels) fn write(&self) -> (Value, Map<String, Value>) {
        let schedule: Vec<Value> = self.schedule.iter().copied().map(seconds_json).collect();
        let shown = json!({
            "url": self.url.as_str(),
            "timeout_ms": self.timeout.as_millis() as u64,
            "batch": {"max_events": self.max_events, "max_wait_ms": self.max_wait.as_millis() as u64},
            "concurrency": self.concurrency,
            "headers": self.headers.keys().map(|name| (name.to_string(), Value::from("…"))).collect::<Map<_, _>>(),
            "retry": {"schedule_secs": schedule},
            "disable_after_secs": seconds_json(self.disable_after),
        });
        let headers: Map<String, Value> = self
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.into())))
            .collect();
        let mut hidden = Map::new();
        if !headers.is_empty() {
            hidden.insert("headers".to_owned(), headers.into());
        }
        (shown, hidden)
    }
}

fn read_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("this is no URL: {error}"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err("a webhook's URL begins with https:// or http://".to_owned());
    }
    if url.host().is_none() {
        return Err("the URL names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials don't belong into the URL: put them into headers".to_owned());
    }
    if url.fragment().is_some() {
        return Err("a fragment is never sent: leave out what is after #".to_owned());
    }
    Ok(url)
}

fn read_headers(mut fields: Fields<'_>) -> HeaderMap {
    let given = fields.rest();
    if given.len() > MOST_HEADERS {
        fields.wrong_here(format!("there are at most {MOST_HEADERS} headers"));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let Ok(header) = HeaderName::try_from(name.as_str()) else {
            fields.wrong(&name, "this is no name of a header");
            continue;
        };
        if OURS.contains(&header.as_str()) || FRAMING.contains(&header.as_str()) {
            fields.wrong(&name, "this header is set by the sidecar");
            continue;
        }
        match value.as_str().map(HeaderValue::from_str) {
            Some(Ok(mut value)) if value.to_str().is_ok() => {
                value.set_sensitive(true);
                headers.insert(header, value);
            }
            _ => fields.wrong(&name, "a header's value is a string of printable ASCII"),
        }
    }
    fields.end();
    headers
}

fn read_schedule(value: &Value, fields: &mut Fields<'_>) -> Vec<Duration> {
    let Some(items) = value.as_array().filter(|items| items.len() <= MOST_RETRIES) else {
        fields.wrong(
            "schedule_secs",
            format!("this has to be a list of at most {MOST_RETRIES} waits"),
        );
        return Vec::new();
    };
    let mut schedule = Vec::new();
    for (at, item) in items.iter().enumerate() {
        match seconds(item, 0.0, MONTH) {
            Some(wait) => schedule.push(wait),
            None => {
                let pointer = format!("schedule_secs/{at}");
                fields.wrong_at(&pointer, "a wait is a number of seconds, from 0 to 2592000");
            }
        }
    }
    schedule
}
