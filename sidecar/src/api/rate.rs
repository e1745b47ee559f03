//! How many requests one caller may send, and the headers that say so (draft-ietf-httpapi-ratelimit-headers).
//!
//! A caller is a user, or an application that acts for one in a workspace, whose token was found to be valid; all others share
//! what their address has. So nobody gets more by making up tokens, by new logins or by refreshing. What is under `/oauth2` is
//! counted by address, apart from the rest. In memory, and of this sidecar alone: a restart forgives.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::address::address;
use super::app::App;
use super::error::ApiError;
use crate::auth::{Buckets, Left, Principal, Token, hash_token, lock, network};

pub(super) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(super) const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Who sends requests.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Caller {
    User(i64),
    /// An application, for a user, in a workspace.
    Application(i64, i64, i64),
    Address(IpAddr),
    /// Whoever is at an address, at the pages and endpoints of OAuth.
    OAuth(IpAddr),
}

impl From<&Principal> for Caller {
    fn from(of: &Principal) -> Self {
        match &of.application {
            None => Self::User(of.user),
            Some(application) => Self::Application(application.id, of.user, application.workspace),
        }
    }
}

/// Tokens that were found to be valid, as hashes; of two ages, of which the older one is forgotten.
#[derive(Default)]
struct Known {
    young: HashSet<Vec<u8>>,
    old: HashSet<Vec<u8>>,
}

impl Known {
    /// The most of one age.
    const MOST: usize = 10_000;

    fn has(&self, hash: &[u8]) -> bool {
        self.young.contains(hash) || self.old.contains(hash)
    }

    fn add(&mut self, hash: Vec<u8>) {
        if self.young.len() >= Self::MOST && !self.young.contains(&hash) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash);
    }
}

/// What callers have left.
pub(super) struct Rates {
    buckets: Mutex<Buckets<Caller>>,
    known: Mutex<Known>,
    /// What `RateLimit-Policy` says.
    policy: HeaderValue,
}

impl Rates {
    /// So many a minute, and so many at once; `None` if any number may be sent.
    pub(super) fn new(per_minute: u32, burst: u32) -> Option<Self> {
        let forget = Duration::from_secs(60).checked_div(per_minute)?;
        let burst = burst.max(1);
        // Who sends no more than the burst in the time in which all of it comes back is never refused.
        let window = whole_seconds(forget.saturating_mul(burst));
        let policy = HeaderValue::from_str(&format!("\"default\";q={burst};w={window}")).ok()?;
        let buckets = Mutex::new(Buckets::new(burst, forget));
        Some(Self { buckets, known: Mutex::default(), policy })
    }

    fn take(&self, caller: &Caller) -> Result<Left, Duration> {
        lock(&self.buckets).take(caller, Instant::now())
    }
}

/// Where a request keeps what its caller has left, for the headers of the answer. A request without is not counted.
#[derive(Clone, Default)]
struct Meter(Arc<OnceLock<Left>>);

/// Has the requests to `/api/v1` counted, and says in the answer what is left. Counts those to `/oauth2` itself.
pub(super) async fn limit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Some(rates) = app.rates() else { return next.run(request).await };
    let path = request.uri().path();
    if path.starts_with("/oauth2/") {
        let caller = Caller::OAuth(network(address(request.extensions())));
        return match rates.take(&caller) {
            Ok(_) => next.run(request).await,
            Err(wait) => too_often(path, wait),
        };
    }
    if !path.starts_with("/api/v1/") {
        return next.run(request).await;
    }
    let meter = Meter::default();
    request.extensions_mut().insert(meter.clone());
    let mut response = next.run(request).await;
    if let Some(left) = meter.0.get() {
        tell(response.headers_mut(), &rates.policy, *left);
    }
    response
}

/// Counts a request, once however often this is asked, to the account of whoever has a valid token, or else of its
/// address. Errors if there is nothing left.
pub(super) fn charge(
    app: &App,
    request: &Extensions,
    principal: Option<&Principal>,
) -> Result<(), ApiError> {
    let (Some(rates), Some(Meter(meter))) = (app.rates(), request.get()) else { return Ok(()) };
    if meter.get().is_some() {
        return Ok(());
    }
    let nobody = || Caller::Address(network(address(request)));
    let taken = rates.take(&principal.map_or_else(nobody, Caller::from));
    let left = taken.unwrap_or_else(|wait| Left { count: 0, clear_in: wait });
    // One request is judged by nobody else meanwhile.
    let _ = meter.set(left);
    taken.map(drop).map_err(ApiError::TooOften)
}

/// Refuses a token that was never found to be valid, from an address that has nothing left: before the database is asked, so
/// that whoever makes tokens up takes no connection from those who need one.
pub(super) fn screen(app: &App, request: &Extensions, token: &Token) -> Result<(), ApiError> {
    let Some(rates) = app.rates() else { return Ok(()) };
    let caller = Caller::Address(network(address(request)));
    let is_empty = !lock(&rates.buckets).wait(&caller, Instant::now()).is_zero();
    if is_empty && !lock(&rates.known).has(&hash_token(token)) {
        return charge(app, request, None);
    }
    Ok(())
}

/// Remembers a token that was found to be valid.
pub(super) fn remember(app: &App, token: &Token) {
    if let Some(rates) = app.rates() {
        lock(&rates.known).add(hash_token(token));
    }
}

/// 429, as whoever asks OAuth reads it: an application JSON (RFC 6749, 5.2), a person text.
fn too_often(path: &str, wait: Duration) -> Response {
    let seconds = whole_seconds(wait).max(1);
    let why = format!("There were too many requests. Try again in {seconds} seconds.");
    let fixed = [
        (header::RETRY_AFTER, HeaderValue::from(seconds)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    let is_of_applications = matches!(path, "/oauth2/token" | "/oauth2/revoke");
    if is_of_applications {
        let body = Json(json!({"error": "temporarily_unavailable", "error_description": why}));
        (StatusCode::TOO_MANY_REQUESTS, fixed, body).into_response()
    } else {
        (StatusCode::TOO_MANY_REQUESTS, fixed, why).into_response()
    }
}

fn tell(headers: &mut HeaderMap, policy: &HeaderValue, left: Left) {
    headers.insert(POLICY, policy.clone());
    let text = format!("\"default\";r={};t={}", left.count, whole_seconds(left.clear_in));
    // It is digits and letters.
    if let Ok(text) = HeaderValue::from_str(&text) {
        headers.insert(LIMIT, text);
    }
}

/// Rounded up: whoever waits so long has waited long enough.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_one_that_is_kept() {
        let policy = |per_minute, burst| {
            let rates = Rates::new(per_minute, burst)?;
            rates.policy.to_str().ok().map(str::to_owned)
        };
        assert_eq!(policy(6000, 1000).as_deref(), Some("\"default\";q=1000;w=10"));
        assert_eq!(policy(60, 0).as_deref(), Some("\"default\";q=1;w=1"));
        assert_eq!(policy(7, 3).as_deref(), Some("\"default\";q=3;w=26"));
        assert_eq!(policy(0, 1000), None);
    }

    #[test]
    fn the_tokens_that_are_known_have_an_end_and_the_latest_stay() {
        let mut known = Known::default();
        for n in 0..3 * Known::MOST {
            known.add(n.to_be_bytes().to_vec());
        }
        assert!(known.young.len() + known.old.len() <= 2 * Known::MOST);
        let last = 3 * Known::MOST - 1;
        assert!(known.has(&last.to_be_bytes()) && !known.has(&0_usize.to_be_bytes()));
    }
}
