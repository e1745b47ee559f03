//! Requests to a target, and what its answers say to people: the status, and the error of OAuth if there is one. What else
//! an answer says may have the model in it, or a secret.

use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::PushError;
use crate::http::{retry_after, told};
use crate::reach::{Client, Reach};
use crate::sync::work::Push;

/// What is read of an answer.
const BODY: usize = 4 << 20;

/// What is told of an error of OAuth.
const TOLD: usize = 200;

/// What stays as it is in a segment of a path and in a form: the unreserved characters of RFC 3986, 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Sends requests to where they may go.
pub(super) struct Caller {
    client: Client,
}

impl Caller {
    /// The error says what is wrong with this machine's TLS.
    pub(super) fn new(reach: &Reach, timeout: Duration) -> Result<Self, String> {
        /// Connections that are kept; more are made when they are needed.
        const KEPT: usize = 32;
        Ok(Self { client: reach.client(timeout, KEPT)? })
    }

    /// Asks. `what` begins the error, and says what was asked for.
    pub(super) async fn ask(
        &self,
        what: &str,
        method: Method,
        url: Url,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, PushError> {
        let failed = |why: String| PushError::new(format!("{what}: {why}"));
        let request = self.client.request(method, url).map_err(failed)?;
        let mut response = fill(request).send().await.map_err(|error| failed(told(&error)))?;
        let header = |name| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let mut answer = Answer {
            status: response.status(),
            retry_after: header(RETRY_AFTER)
                .and_then(|value| retry_after(&value, SystemTime::now())),
            is_page: header(CONTENT_TYPE).is_some_and(|value| is_page(&value)),
            body: Vec::new(),
        };
        while answer.body.len() < BODY {
            match response.chunk().await {
                Ok(Some(chunk)) => answer.body.extend_from_slice(&chunk),
                Ok(None) => break,
                // The status is all that counts of most answers; a document that breaks off can't be read.
                Err(_) => {
                    answer.body.clear();
                    break;
                }
            }
        }
        Ok(answer)
    }
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    retry_after: Option<Duration>,
    is_page: bool,
    body: Vec<u8>,
}

/// Whether a content type is that of a web page.
fn is_page(content_type: &str) -> bool {
    content_type.trim_start().to_ascii_lowercase().starts_with("text/html")
}

impl Answer {
    /// Whether the target says that it has no such thing. A page for people may be of something before the target, such as a
    /// load balancer that knows no way to it.
    pub(super) fn says_missing(&self) -> bool {
        matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GONE) && !self.is_page
    }

    /// What it says, as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The `error` of OAuth (RFC 6749, 5.2).
    pub(super) fn oauth_error(&self) -> Option<String> {
        self.member("error")
    }

    fn member(&self, name: &str) -> Option<String> {
        match self.json::<Map<String, Value>>()?.remove(name)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The error that it is.
    pub(super) fn refused(&self, what: &str) -> PushError {
        let mut message = format!("{what}: it answered {}", self.status);
        if self.status.is_redirection() {
            message.push_str(", and redirects are not followed: the URL has to be the final one");
        }
        if self.is_page && matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            message.push_str(" with a web page, which may be of something before it, so nothing is taken for missing");
        }
        let said = [self.oauth_error(), self.member("error_description")];
        let said: Vec<_> = said.into_iter().flatten().filter(|text| !text.is_empty()).collect();
        if !said.is_empty() {
            message.push_str(": ");
            let said = said.join(": ");
            let printable = said.chars().map(|c| if c.is_control() { ' ' } else { c });
            message.extend(printable.take(TOLD));
        }
        PushError { message, retry_after: self.retry_after }
    }
}

/// What tells a target which of two requests is the later one, and that it has seen one before.
pub(super) fn headers(push: &Push) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("integratedb-entry", HeaderValue::from(push.entry.0));
    let key = format!("{}-{}-{}", push.integration, push.id, push.entry);
    let key = HeaderValue::try_from(key).expect("numbers and hyphens may be in a header");
    headers.insert("idempotency-key", key);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

/// A text as it is written in one segment of a path, or as a value of a query or a form.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A URL with a further segment, whatever is in it.
pub(super) fn below(base: &Url, path: &str, segment: &str) -> Result<Url, PushError> {
    // These two mean other folders however they are written (WHATWG URL, "double-dot URL path segment").
    if matches!(segment, "" | "." | "..") {
        return Err(PushError::new(format!("{segment:?} can't be the last part of a URL")));
    }
    base.join(&format!("{path}/{}", encoded(segment)))
        .map_err(|error| PushError::new(format!("no URL can be made: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_one() {
        let base: Url = "https://a.example/realm/".parse().expect("a URL");
        let url = |segment| below(&base, "clients", segment).map(|url| url.to_string());
        assert_eq!(url("a").as_deref(), Ok("https://a.example/realm/clients/a"));
        assert_eq!(
            url("../x?y#z%2f\u{e9}").as_deref(),
            Ok("https://a.example/realm/clients/..%2Fx%3Fy%23z%252f%C3%A9")
        );
        assert!(url("..").is_err() && url(".").is_err() && url("").is_err());
    }

    #[test]
    fn an_error_says_nothing_but_the_status_and_the_error_of_oauth() {
        let answer = |status: u16, body: &str| Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            retry_after: Some(Duration::from_secs(3)),
            is_page: body.starts_with('<'),
            body: body.as_bytes().to_vec(),
        };
        let told = |status, body: &str| answer(status, body).refused("the push").message;
        assert_eq!(told(500, "secret"), "the push: it answered 500 Internal Server Error");
        assert_eq!(
            told(400, r#"{"error": "invalid_client", "error_description": "a\nb", "x": "secret"}"#),
            "the push: it answered 400 Bad Request: invalid_client: a b"
        );
        let long = format!(r#"{{"error": "{}"}}"#, "x".repeat(1000));
        assert_eq!(told(400, &long).matches('x').count(), 200);
        assert!(told(308, "").contains("redirects are not followed"));
        assert!(told(404, "<html>").contains("may be of something before it"));
        assert!(is_page("Text/HTML; charset=utf-8") && !is_page("application/json"));
        assert!(answer(404, "{}").says_missing() && answer(410, "").says_missing());
        assert!(!answer(404, "<html>").says_missing() && !answer(500, "").says_missing());
        assert_eq!(answer(429, "").refused("").retry_after, Some(Duration::from_secs(3)));
    }
}
