//! Entity tags: whoever has read something changes it only if nobody else has meanwhile (RFC 9110, 8.8.3 and 13.1.1).

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
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
}

impl<T: Serialize> Tagged<T> {
    /// Something all of which can be changed.
    pub(super) fn new(data: T) -> Self {
        let tag = tag(&data);
        Self { data, tag }
    }

    /// Something that also tells what nobody has set: its tag is that of `settable`.
    pub(super) fn of(data: T, settable: &impl Serialize) -> Self {
        Self { data, tag: tag(settable) }
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(Data { data: self.data }).into_response();
        // A tag is letters, digits, hyphens and underscores in quotes.
        if let Ok(tag) = HeaderValue::from_str(&self.tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

fn tag(settable: &impl Serialize) -> String {
    // What can't be written as JSON can't be answered either.
    let text = serde_json::to_vec(settable).unwrap_or_default();
    format!("\"{}\"", BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(text)[..16]))
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
