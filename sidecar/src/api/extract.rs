//! What handlers take from a request, with rejections in the API's own error shape.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::json;

use super::access::Access;
use super::app::App;
use super::error::ApiError;
use super::objects;
use crate::auth::Token;
use crate::secret::Secret;

/// From this size on, a body takes long enough to parse that other requests would wait for it.
const LARGE: usize = 256 << 10;

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &App) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let (_, bytes) = whole_body(request).await?;
        let parsed = if bytes.len() < LARGE {
            objects::read(&bytes)
        } else {
            tokio::task::spawn_blocking(move || objects::read(&bytes))
                .await
                .map_err(|error| ApiError::Internal(error.to_string()))?
        };
        parsed.map(Self).map_err(|error| match error.classify() {
            Category::Data => ApiError::Unprocessable(json!({ "detail": error.to_string() })),
            _ => ApiError::BadRequest(format!("Bad Request: {error}")),
        })
    }
}

/// A body, if it is not larger than `max_body_bytes`, and the rest of its request.
pub(super) async fn whole_body(request: Request) -> Result<(Parts, Bytes), ApiError> {
    let (parts, body) = request.into_parts();
    // The limit is among the extensions.
    let mut of_body = Request::new(body);
    of_body.extensions_mut().clone_from(&parts.extensions);
    let bytes = Bytes::from_request(of_body, &()).await.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge,
        _ => ApiError::BadRequest("Bad Request: the body ended too early".to_owned()),
    })?;
    Ok((parts, bytes))
}

/// Whether the body is said to be `application/json` or `application/….+json` (RFC 6839).
fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

/// The `:id` of a path. What is not a number names nothing.
pub(super) struct Id(pub(super) i64);

impl FromRequestParts<App> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path: Result<Path<String>, _> = Path::from_request_parts(parts, app).await;
        path.ok().and_then(|Path(id)| number(&id)).map(Self).ok_or(ApiError::NotFound)
    }
}

/// The `:id` of a path, and that of something that belongs to it.
pub(super) struct Ids(pub(super) i64, pub(super) i64);

impl FromRequestParts<App> for Ids {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path: Result<Path<(String, String)>, _> = Path::from_request_parts(parts, app).await;
        let numbers =
            |Path((of, id)): Path<(String, String)>| Some(Self(number(&of)?, number(&id)?));
        path.ok().and_then(numbers).ok_or(ApiError::NotFound)
    }
}

/// Digits only: "+1" would name the same thing twice.
pub(super) fn number(id: &str) -> Option<i64> {
    id.parse().ok().filter(|_| id.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whoever calls, whom the rules have let through. Whoever takes this refuses everybody else.
pub(super) struct Authenticated {
    /// The token the request came with.
    pub(super) token: Token,
}

impl FromRequestParts<App> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let access = Access::from_request_parts(parts, app).await?;
        access.principal()?;
        Ok(Self { token: bearer(&parts.headers).ok_or(ApiError::Unauthorized)? })
    }
}

/// The token of an `Authorization: Bearer` header, if there is one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Token> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim().to_owned()))
}
