//! What a request can fail with. What stands under `errors` has one shape: `{"detail": …}`, or `{FIELD: [MESSAGE, …]}` where
//! a field of the request is to blame. `problem` writes what stands around it.

use std::time::Duration;

use axum::Extension;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::auth::Scope;
use crate::db::DbError;

use super::problem::{Kind, Told};
use super::rate::whole_seconds;

/// What a request can fail with.
#[derive(Debug)]
pub enum ApiError {
    /// 400: the body or path can't be read.
    BadRequest(String),
    /// 401: no token.
    Unauthorized,
    /// 401: a token that is not valid, or not any more (RFC 6750, 3.1).
    InvalidToken,
    /// 401, where Zync's token is asked for: none, or another one.
    WrongToken,
    /// 403
    Forbidden,
    /// 403: the application was not given this scope (RFC 6750, 3.1).
    InsufficientScope(Scope),
    /// 403: nobody may, until something is set.
    Closed(&'static str),
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 409: something else is in the way.
    Conflict(String),
    /// 412: it is not any more what `If-Match` says.
    Changed,
    /// 413
    TooLarge,
    /// 415: the body is not said to be JSON.
    UnsupportedMediaType,
    /// 422: fields with their messages.
    Fields(Vec<(&'static str, String)>),
    /// 422: whatever stands under `errors`.
    Unprocessable(Value),
    /// 429, of logins: and how long to wait.
    TooManyRequests(Duration),
    /// 429, of requests at all: and how long to wait.
    TooOften(Duration),
    /// 422: an idempotency key that came with another request before.
    KeyReused,
    /// 409: the first request with this idempotency key has not been answered yet.
    KeyInUse,
    /// 409: the first request with this idempotency key was never answered.
    OutcomeUnknown,
    /// 500; the cause is logged, not told.
    Internal(String),
    /// 503: the database or the contract can't be had now.
    Unavailable(&'static str),
}

impl ApiError {
    /// One field's mistake.
    pub(super) fn field(name: &'static str, message: impl Into<String>) -> Self {
        Self::Fields(vec![(name, message.into())])
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Fields(_) | Self::Unprocessable(_) => Kind::Invalid,
            Self::InsufficientScope(_) => Kind::InsufficientScope,
            Self::Changed => Kind::Changed,
            Self::TooManyRequests(_) | Self::TooOften(_) => Kind::TooManyRequests,
            Self::Unavailable(_) => Kind::Unavailable,
            Self::KeyReused => Kind::KeyReused,
            Self::KeyInUse => Kind::KeyInUse,
            Self::OutcomeUnknown => Kind::OutcomeUnknown,
            _ => Kind::Plain,
        }
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Refused(refusal) => match refusal.code.as_str() {
                "P0002" => Self::NotFound,
                "2BP01" | "IDB01" | "P0001" => {
                    let detail = refusal.detail.map(|d| format!(": {d}")).unwrap_or_default();
                    Self::Conflict(format!("{}{detail}", refusal.message))
                }
                _ => Self::Unprocessable(json!({ "detail": refusal.message })),
            },
            DbError::Busy => Self::Unavailable(
                "Another transaction is in the way, such as a migration; try again shortly.",
            ),
            DbError::Unavailable(cause) => {
                tracing::warn!(cause, "the database does not answer");
                Self::Unavailable("The database does not answer; try again shortly.")
            }
            DbError::TooSlow(cause) => {
                tracing::warn!(cause, "a statement was stopped");
                Self::Unavailable("This took too long in the database; nothing was changed.")
            }
            DbError::Unreadable(cause) | DbError::Unexpected(cause) => Self::Internal(cause),
        }
    }
}

impl From<tokio_postgres::Error> for ApiError {
    fn from(error: tokio_postgres::Error) -> Self {
        DbError::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let detail = |text: &str| json!({ "detail": text });
        let (status, errors) = match &self {
            Self::BadRequest(text) => (StatusCode::BAD_REQUEST, detail(text)),
            Self::Unauthorized | Self::InvalidToken | Self::WrongToken => {
                (StatusCode::UNAUTHORIZED, detail("Unauthorized"))
            }
            Self::Closed(text) => (StatusCode::FORBIDDEN, detail(text)),
            Self::Forbidden => (StatusCode::FORBIDDEN, detail("Forbidden")),
            Self::InsufficientScope(scope) => {
                let text = format!("Forbidden: this takes the scope {scope}");
                (StatusCode::FORBIDDEN, detail(&text))
            }
            Self::NotFound => (StatusCode::NOT_FOUND, detail("Not Found")),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, detail("Method Not Allowed"))
            }
            Self::Conflict(text) => (StatusCode::CONFLICT, detail(text)),
            Self::Changed => (
                StatusCode::PRECONDITION_FAILED,
                detail("Precondition Failed: it has changed since; read it again"),
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                detail("Payload Too Large: the limit is the setting max_body_bytes"),
            ),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                detail("Unsupported Media Type: send Content-Type: application/json"),
            ),
            Self::Fields(fields) => {
                let mut errors = serde_json::Map::new();
                for (name, message) in fields {
                    if let Value::Array(list) =
                        errors.entry((*name).to_owned()).or_insert_with(|| json!([]))
                    {
                        list.push(json!(message));
                    }
                }
                (StatusCode::UNPROCESSABLE_ENTITY, Value::Object(errors))
            }
            Self::Unprocessable(errors) => (StatusCode::UNPROCESSABLE_ENTITY, errors.clone()),
            Self::TooManyRequests(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                detail("Too Many Requests: too many logins; Retry-After says when to try again"),
            ),
            Self::TooOften(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                detail("Too Many Requests: Retry-After says when to try again"),
            ),
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                detail(
                    "This Idempotency-Key came with another request before, or with another token; nothing was done. \
                     Send a new key with a new request.",
                ),
            ),
            Self::KeyInUse => (
                StatusCode::CONFLICT,
                detail(
                    "A request with this Idempotency-Key is under way; Retry-After says when to ask for its answer.",
                ),
            ),
            Self::OutcomeUnknown => (
                StatusCode::CONFLICT,
                detail(
                    "A request with this Idempotency-Key began and was never answered; it may or may not have had an \
                     effect. Look, and send a new key if it had none.",
                ),
            ),
            Self::Internal(cause) => {
                tracing::error!(cause, "a request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, detail("Internal Server Error"))
            }
            Self::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, detail(text)),
        };
        let told = Told::new(self.kind(), errors);
        let mut response = (status, Extension(told)).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::InvalidToken => {
                let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Self::InsufficientScope(scope) => {
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
                // Scopes are visible letters, which a header can have.
                if let Ok(challenge) = HeaderValue::from_str(&challenge) {
                    headers.insert(header::WWW_AUTHENTICATE, challenge);
                }
            }
            Self::WrongToken => {
                let realm = HeaderValue::from_static("Token realm=\"Application\"");
                headers.insert(header::WWW_AUTHENTICATE, realm);
            }
            Self::TooManyRequests(wait) | Self::TooOften(wait) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1)));
            }
            Self::Unavailable(_) | Self::KeyInUse => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(1));
            }
            _ => {}
        }
        response
    }
}
