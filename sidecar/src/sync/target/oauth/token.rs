//! A token by client credentials (RFC 6749, 4.4): got once for all who need one, and again before it expires.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::super::PushError;
use super::super::ask::{Caller, encoded};
use crate::secret::Secret;

/// How long a discovery document is believed.
const BELIEVED: Duration = Duration::from_secs(600);

/// What is asked for the token, for people.
const WHAT: &str = "the token endpoint";
const DISCOVERY: &str =
    "the discovery document, .well-known/openid-configuration below the endpoint";

/// Who we are there.
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: Secret<String>,
}

impl Credentials {
    /// As HTTP Basic has them; `encode` is what is done with both before.
    pub(super) fn basic(&self, encode: impl Fn(&str) -> String) -> String {
        let pair = format!("{}:{}", encode(&self.id), encode(self.secret.expose_secret()));
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }
}

/// What the discovery document says about tokens (OpenID Connect Discovery 1.0, 3).
#[derive(Deserialize)]
struct Document {
    token_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<f64>,
}

/// Where tokens are got, and how we say there who we are.
#[derive(Clone)]
struct Endpoint {
    url: Url,
    by_post: bool,
}

#[derive(Clone)]
struct Token {
    value: Secret<String>,
    until: Option<Instant>,
    /// Tells it from those before.
    number: u64,
}

#[derive(Default)]
struct State {
    /// `Some(None)`: there is none, and the issuer says so.
    endpoint: Option<(Option<Endpoint>, Instant)>,
    token: Option<Token>,
    issued: u64,
    /// The last failure, and when: whoever waited for that attempt has failed with it.
    failed: Option<(Instant, PushError)>,
}

/// What a request bears to show who sends it.
#[derive(Clone)]
pub(super) struct Bearer {
    pub(super) value: Secret<String>,
    number: u64,
}

/// The tokens of one issuer.
pub(super) struct Tokens {
    issuer: Url,
    credentials: Credentials,
    /// Held while one asks, so that the others wait and find what it got.
    state: Mutex<State>,
}

impl Tokens {
    pub(super) fn new(issuer: Url, credentials: Credentials) -> Self {
        Self { issuer, credentials, state: Mutex::default() }
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// A token; `None` if the issuer names no place to get one.
    pub(super) async fn get(&self, caller: &Caller) -> Result<Option<Bearer>, PushError> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && token.until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(Some(Bearer { value: token.value.clone(), number: token.number }));
        }
        if let Some((at, error)) = &state.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let got = self.renew(&mut state, caller).await;
        state.failed = got.as_ref().err().map(|error| (Instant::now(), error.clone()));
        got
    }

    /// Says that a token was refused.
    pub(super) async fn refused(&self, bearer: &Bearer) {
        let mut state = self.state.lock().await;
        if state.token.as_ref().is_some_and(|token| token.number == bearer.number) {
            state.token = None;
            state.endpoint = None;
        }
    }

    async fn renew(&self, state: &mut State, caller: &Caller) -> Result<Option<Bearer>, PushError> {
        state.token = None;
        let known = state.endpoint.clone().filter(|(_, at)| at.elapsed() < BELIEVED);
        let endpoint = match known {
            Some((endpoint, _)) => endpoint,
            None => {
                let found = self.discover(caller).await?;
                state.endpoint = Some((found.clone(), Instant::now()));
                found
            }
        };
        let Some(endpoint) = endpoint else { return Ok(None) };
        match self.grant(endpoint, caller).await {
            Ok((value, until)) => {
                state.issued += 1;
                let number = state.issued;
                state.token = Some(Token { value: value.clone(), until, number });
                Ok(Some(Bearer { value, number }))
            }
            Err(error) => {
                // It may be elsewhere by now.
                state.endpoint = None;
                Err(error)
            }
        }
    }

    /// The discovery document's URL.
    pub(super) fn document(&self) -> Result<Url, PushError> {
        self.issuer
            .join(".well-known/openid-configuration")
            .map_err(|error| PushError::new(format!("{DISCOVERY}: {error}")))
    }

    async fn discover(&self, caller: &Caller) -> Result<Option<Endpoint>, PushError> {
        let answer =
            caller.ask(DISCOVERY, Method::GET, self.document()?, |request| request).await?;
        let status = answer.status;
        if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
            return Err(answer.refused(DISCOVERY));
        }
        let document = answer.json::<Document>().filter(|_| status.is_success());
        let Some(document) = document else { return Ok(None) };
        let Some(named) = document.token_endpoint else { return Ok(None) };
        // Some name it by a path (Zync reads it so too).
        let url = self
            .issuer
            .join(&named)
            .map_err(|error| PushError::new(format!("{DISCOVERY}: its token_endpoint: {error}")))?;
        if self.issuer.scheme() == "https" && url.scheme() != "https" {
            return Err(PushError::new(format!(
                "{DISCOVERY}: its token_endpoint begins with {}://, and credentials that were given for https:// are not \
                 sent without TLS",
                url.scheme()
            )));
        }
        let by_post = match document.token_endpoint_auth_methods_supported {
            None => true,
            Some(methods) if methods.iter().any(|method| method == "client_secret_post") => true,
            Some(methods) if methods.iter().any(|method| method == "client_secret_basic") => false,
            Some(methods) => {
                return Err(PushError::new(format!(
                    "{DISCOVERY}: clients may authenticate by {}, but only client_secret_post and client_secret_basic are \
                     known here",
                    methods.join(", ").chars().take(200).collect::<String>()
                )));
            }
        };
        Ok(Some(Endpoint { url, by_post }))
    }

    async fn grant(
        &self,
        endpoint: Endpoint,
        caller: &Caller,
    ) -> Result<(Secret<String>, Option<Instant>), PushError> {
        let Credentials { id, secret } = &self.credentials;
        let mut form = "grant_type=client_credentials".to_owned();
        let mut authorization = None;
        if endpoint.by_post {
            let (id, secret) = (encoded(id), encoded(secret.expose_secret()));
            form.push_str(&format!("&client_id={id}&client_secret={secret}"));
        } else {
            // RFC 6749, 2.3.1: encoded as in a form, and then as Basic has it.
            authorization = Some(self.credentials.basic(encoded));
        }
        let asked = Instant::now();
        let answer = caller
            .ask(WHAT, Method::POST, endpoint.url, |mut request| {
                if let Some(authorization) = authorization {
                    request = request.header(AUTHORIZATION, authorization);
                }
                request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form)
            })
            .await?;
        if !answer.status.is_success() {
            return Err(answer.refused(WHAT));
        }
        let granted: Granted = answer
            .json()
            .ok_or_else(|| PushError::new(format!("{WHAT}: its answer has no access_token")))?;
        if granted.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
            return Err(PushError::new(format!("{WHAT}: what it gives is not a bearer token")));
        }
        let until = granted.expires_in.and_then(|seconds| {
            let lasts = Duration::try_from_secs_f64(seconds).ok()?;
            // What is sent shortly before may arrive after.
            asked.checked_add(lasts - (lasts / 2).min(Duration::from_secs(30)))
        });
        Ok((Secret::new(granted.access_token), until))
    }
}
