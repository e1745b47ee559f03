//! A source that is an API over HTTP, as 3scale's.
//!
//! `endpoint` is where it is and what to ask it for a model. `answer` judges what it says: whether that is a model, the
//! word that it is gone, or a fault. `derived` knows what else follows from the data of some classes.

mod answer;
mod derived;
mod endpoint;

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, Url};
use serde_json::value::to_raw_value;

use self::answer::Answer;
pub use self::endpoint::check_endpoint;
use super::classes::{Class, Classes, Request};
use super::{FetchError, Fetched, Source};
use crate::http::{retry_after, told};
use crate::reach::Client;
use crate::secret::Secret;
use crate::sync::work::{Data, Fetch};

/// Bytes of an answer, at most.
const MOST: usize = 4 << 20;

/// What is read of an answer that nobody looks at, so that the connection can be used again.
const UNREAD: usize = 64 << 10;

/// An API that models are fetched from.
#[derive(Debug)]
pub struct HttpSource {
    client: Client,
    endpoint: Url,
    authorization: HeaderValue,
    classes: Arc<Classes>,
    most: usize,
}

impl HttpSource {
    /// The API at this URL, which takes the token as the password of HTTP Basic, with an empty user name. Sources may
    /// share a client. The error says what is wrong with the URL.
    pub fn new(
        endpoint: &str,
        token: &Secret<String>,
        classes: Arc<Classes>,
        client: Client,
    ) -> Result<Self, String> {
        let endpoint = check_endpoint(endpoint)?;
        let authorization = endpoint::authorization(token);
        Ok(Self { client, endpoint, authorization, classes, most: MOST })
    }

    /// Takes answers of so many bytes at most, other than 4 MiB.
    pub fn with_most(self, bytes: usize) -> Self {
        Self { most: bytes, ..self }
    }

    async fn ask(&self, class: &Class, fetch: &Fetch) -> Result<Option<Data>, FetchError> {
        let Some(request) = &class.request else {
            let said = to_raw_value(&class.said(fetch)).expect("texts and numbers are JSON");
            return Ok(Some(said.into()));
        };
        self.get(request, endpoint::url(&self.endpoint, request, &class.values(fetch))?).await
    }

    async fn get(&self, request: &Request, url: Url) -> Result<Option<Data>, FetchError> {
        let asked = self
            .client
            .request(Method::GET, url)?
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(AUTHORIZATION, self.authorization.clone());
        let response = asked.send().await.map_err(|error| FetchError::of(&error))?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = self.body(response, answer::matters(status)).await?;
        let text = |name| header(&headers, name);
        let answer = Answer {
            status,
            content_type: text(CONTENT_TYPE),
            retry_after: text(RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now())),
            body: &body,
        };
        answer.judge(request.member.as_deref())
    }

    /// The body, if it matters; otherwise nothing.
    async fn body(&self, mut response: Response, matters: bool) -> Result<Vec<u8>, FetchError> {
        let mut read = Vec::new();
        let most = if matters { self.most } else { UNREAD };
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if read.len() + chunk.len() <= most => {
                    read.extend_from_slice(&chunk)
                }
                Ok(None) => break,
                _ if !matters => break,
                Ok(Some(_)) => {
                    let message = format!("the source's answer has more than {most} bytes");
                    return Err(message.into());
                }
                Err(error) => return Err(FetchError::of(&error)),
            }
        }
        Ok(if matters { read } else { Vec::new() })
    }
}

impl Source for HttpSource {
    fn fetch<'a>(&'a self, fetch: &'a Fetch) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        async move {
            let class = self.classes.get(&fetch.model.class).ok_or_else(|| {
                FetchError::from(format!("the tenant has no class {} any more", fetch.model.class))
            })?;
            let data = self.ask(class, fetch).await?;
            let (notified, integration) = derived::of(class, fetch, data.as_deref());
            Ok(Fetched { data, parent: None, notified, integration })
        }
        .boxed()
    }
}

impl FetchError {
    /// Of a request that got no answer, or not all of it.
    fn of(error: &reqwest::Error) -> Self {
        format!("the source can't be asked: {}", told(error)).into()
    }
}

fn header(headers: &HeaderMap, name: reqwest::header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
