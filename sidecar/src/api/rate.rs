//! How many requests one caller may send, and the headers that say so (draft-ietf-httpapi-ratelimit-headers).
//!
//! A caller is a token that was found to be valid; all others share what their address has. So nobody gets more by
//! making up tokens. In memory, and of this sidecar alone: a restart forgives.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::app::App;
use super::error::ApiError;
use super::extract::address;
use crate::auth::{Buckets, Left, Token, hash_token, lock, network};

pub(super) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(super) const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Who sends requests.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Caller {
    /// The hash of a token that is valid.
    Token(Vec<u8>),
    Address(IpAddr),
}

/// What callers have left.
pub(super) struct Rates {
    buckets: Mutex<Buckets<Caller>>,
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
        Some(Self { buckets: Mutex::new(Buckets::new(burst, forget)), policy })
    }
}

/// Where a request keeps what its caller has left, for the headers of the answer. A request without is not counted.
#[derive(Clone, Default)]
struct Meter(Arc<OnceLock<Left>>);

/// Has the requests to `/api/v1` counted, and says in the answer what is left.
pub(super) async fn limit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let Some(rates) = app.rates().filter(|_| request.uri().path().starts_with("/api/v1/")) else {
        return next.run(request).await;
    };
    let meter = Meter::default();
    request.extensions_mut().insert(meter.clone());
    let mut response = next.run(request).await;
    if let Some(left) = meter.0.get() {
        tell(response.headers_mut(), &rates.policy, *left);
    }
    response
}

/// Counts a request, once however often this is asked, to the account of a token that is valid, or else of its address.
/// Errors if there is nothing left.
pub(super) fn charge(
    app: &App,
    request: &Extensions,
    valid: Option<&Token>,
) -> Result<(), ApiError> {
    let (Some(rates), Some(Meter(meter))) = (app.rates(), request.get()) else { return Ok(()) };
    if meter.get().is_some() {
        return Ok(());
    }
    let caller = match valid {
        Some(token) => Caller::Token(hash_token(token)),
        None => Caller::Address(network(address(request))),
    };
    let taken = lock(&rates.buckets).take(&caller, Instant::now());
    let left = taken.unwrap_or_else(|wait| Left { count: 0, clear_in: wait });
    // One request is judged by nobody else meanwhile.
    let _ = meter.set(left);
    taken.map(drop).map_err(ApiError::TooOften)
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
}
