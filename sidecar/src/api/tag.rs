//! Entity tags: whoever has read something changes it only if nobody else has meanwhile, and does not get again what it has
//! (RFC 9110, 8.8.3, 13.1.1 and 13.1.2).
//!
//! A tag is of what can be set. Something that also tells figures is told in full each time, whatever its tag.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::app::App;
use super::body::Data;
use super::error::ApiError;

/// `{"data": …}` with the tag of what can be changed of it.
pub(super) struct Tagged<T> {
    data: T,
    tag: String,
    /// Whether nothing of it becomes another while the tag stays.
    is_whole: bool,
}

/// Of an answer whose tag does not say that all of it is as it was.
#[derive(Clone)]
struct Moving;

impl<T: Serialize> Tagged<T> {
    /// Something all of which can be changed.
    pub(super) fn new(data: T) -> Self {
        let tag = tag(&data);
        Self { data, tag, is_whole: true }
    }

    /// Something of which more can be changed than is shown: its tag is that of `settable`, which has all that is shown.
    pub(super) fn with(data: T, settable: &impl Serialize) -> Self {
        Self { data, tag: tag(settable), is_whole: true }
    }

    /// Something that also tells what nobody has set: its tag is that of `settable`.
    pub(super) fn of(data: T, settable: &impl Serialize) -> Self {
        Self { data, tag: tag(settable), is_whole: false }
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(Data { data: self.data }).into_response();
        // A tag is letters, digits, hyphens and underscores in quotes.
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        if !self.is_whole {
            response.extensions_mut().insert(Moving);
        }
        response
    }
}

fn tag(settable: &impl Serialize) -> String {
    // What can't be written as JSON can't be answered either.
    let text = serde_json::to_vec(settable).unwrap_or_default();
    format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..16]))
}

/// Answers 304 to whoever asks for something that it has.
pub(super) async fn not_modified(request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let known = if is_read { listed(request.headers(), header::IF_NONE_MATCH) } else { Vec::new() };
    let response = next.run(request).await;
    let Some(tag) = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()) else {
        return response;
    };
    // Which of two tags is weak does not matter here.
    let is_known = known.iter().any(|known| known == "*" || known.trim_start_matches("W/") == tag);
    if !is_known
        || response.status() != StatusCode::OK
        || response.extensions().get::<Moving>().is_some()
    {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    parts.status = StatusCode::NOT_MODIFIED;
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::empty())
}

/// The tags that a header lists. Ours have no comma.
fn listed(headers: &HeaderMap, name: header::HeaderName) -> Vec<String> {
    let all = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect()
}

/// What a request says in `If-Match`.
pub(super) struct IfMatch(Option<String>);

impl IfMatch {
    /// Errors if `current` is not what the request wants to change; `None` is what is not there. To be asked in the
    /// transaction of the change, once nobody else can change it.
    pub(super) fn check(&self, current: Option<&impl Serialize>) -> Result<(), ApiError> {
        let Some(wanted) = &self.0 else { return Ok(()) };
        let current = current.map(|current| tag(current));
        let is_met = wanted.split(',').map(str::trim).any(|wanted| match &current {
            Some(current) => wanted == "*" || wanted == current,
            None => false,
        });
        if is_met { Ok(()) } else { Err(ApiError::Changed) }
    }

    /// The same, of something that a change does not make: whoever changes it says itself if it is not there.
    pub(super) fn check_found(&self, current: Option<&impl Serialize>) -> Result<(), ApiError> {
        current.map_or(Ok(()), |current| self.check(Some(current)))
    }
}

impl FromRequestParts<App> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let all = parts.headers.get_all(header::IF_MATCH).iter();
        let all: Result<Vec<&str>, _> = all.map(HeaderValue::to_str).collect();
        let all = all.map_err(|_| ApiError::BadRequest("Bad Request: If-Match".to_owned()))?;
        Ok(Self((!all.is_empty()).then(|| all.join(","))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_read_is_changed() {
        let given = |text: &str| IfMatch(Some(text.to_owned()));
        let right = tag(&1);
        assert!(IfMatch(None).check(Some(&2)).is_ok());
        assert!(given(&right).check(Some(&1)).is_ok());
        assert!(given(&format!("\"other\", {right}")).check(Some(&1)).is_ok());
        assert!(given("*").check(Some(&1)).is_ok());
        assert!(given(&right).check(Some(&2)).is_err());
        assert!(given("*").check(None::<&i32>).is_err());
        assert!(given(&format!("W/{right}")).check(Some(&1)).is_err(), "a weak one never matches");
    }
}
