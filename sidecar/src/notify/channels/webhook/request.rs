//! One request to an endpoint, and what came of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};

use super::super::secrets::Secrets;
use super::settings::WebhookSettings;
use super::sign::signature;
use crate::http::{retry_after, told};
use crate::notify::NotificationSettings;
use crate::reach::{Client, Reach};

/// What is read of an answer's body, so that the connection can be used again.
const BODY: usize = 64 << 10;

/// What is told of it.
const TOLD: usize = 200;

/// What came of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The events are theirs now.
    Taken,
    /// It answered something else than 2xx: with this status, and in these words.
    Refused { status: StatusCode, told: String, asked: Option<Duration>, is_overloaded: bool },
    /// It wants no more requests, ever (410).
    Gone,
    /// It did not answer. `surely`: there was no connection at all.
    Silent { told: String, surely: bool },
}

/// Sends requests to one endpoint.
pub(super) struct Endpoint {
    client: Client,
    url: Url,
    headers: HeaderMap,
    secrets: Secrets,
}

impl Endpoint {
    /// The error says what is wrong with this machine's TLS.
    pub(super) fn new(
        settings: &WebhookSettings,
        secrets: Secrets,
        notifications: &NotificationSettings,
    ) -> Result<Self, String> {
        let reach = Reach::from(notifications);
        let client = reach.client(settings.timeout, settings.concurrency)?;
        let (url, headers) = (settings.url.clone(), settings.headers.clone());
        Ok(Self { client, url, headers, secrets })
    }

    /// Posts a body under an id, signed.
    pub(super) async fn post(&self, id: &str, body: Vec<u8>) -> Outcome {
        let request = match self.client.request(Method::POST, self.url.clone()) {
            Ok(request) => request,
            Err(told) => return Outcome::Silent { told, surely: true },
        };
        let now = SystemTime::now();
        let timestamp = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = signature(self.secrets.keys(timestamp), id, timestamp, &body);
        let request = request
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                return Outcome::Silent { told: told(&error), surely: error.is_connect() };
            }
        };
        let status = response.status();
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|value| retry_after(value, now));
        let mut read = Vec::new();
        // What it says after its status is for people to read; that it breaks off changes nothing.
        while read.len() < BODY
            && let Ok(Some(chunk)) = response.chunk().await
        {
            read.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Outcome::Taken;
        }
        if status == StatusCode::GONE {
            return Outcome::Gone;
        }
        let text: String = String::from_utf8_lossy(&read)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(TOLD)
            .collect();
        let is_overloaded = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        let told = format!("it answered {status}: {text}");
        let told = told.trim_end_matches(": ").to_owned();
        Outcome::Refused { status, told, asked, is_overloaded }
    }
}
