//! What handlers take from a request, with rejections in the API's own error shape.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Request};
use axum::http::header;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::app::App;
use super::error::ApiError;
use crate::auth::{Token, Tokens};
use crate::secret::Secret;

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        match axum::Json::from_request(request, app).await {
            Ok(axum::Json(value)) => Ok(Self(value)),
            Err(JsonRejection::JsonSyntaxError(error)) => {
                Err(ApiError::BadRequest(format!("Bad Request: {}", innermost(&error))))
            }
            Err(JsonRejection::JsonDataError(error)) => {
                Err(ApiError::Unprocessable(serde_json::json!({"detail": innermost(&error)})))
            }
            Err(JsonRejection::MissingJsonContentType(_)) => Err(ApiError::UnsupportedMediaType),
            Err(error) if error.status() == 413 => Err(ApiError::TooLarge),
            Err(error) => Err(ApiError::BadRequest(format!("Bad Request: {}", innermost(&error)))),
        }
    }
}

/// serde's own words, with line and column, without the wrappers' around them.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The `:id` of a path. What is not a number names nothing.
pub(super) struct Id(pub(super) i64);

impl FromRequestParts<App> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path: Result<Path<String>, _> = Path::from_request_parts(parts, app).await;
        path.ok().and_then(|Path(id)| id.parse().ok()).map(Self).ok_or(ApiError::NotFound)
    }
}

/// The user behind the request's token. Whoever takes this refuses everybody else.
pub(super) struct Authenticated {
    /// The token the request came with.
    pub(super) token: Token,
}

impl FromRequestParts<App> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let token = bearer(parts).ok_or(ApiError::Unauthorized)?;
        let client = app.client().await?;
        match Tokens::user(&**client, &token).await? {
            Some(_) => Ok(Self { token }),
            None => Err(ApiError::Unauthorized),
        }
    }
}

/// The token of an `Authorization: Bearer` header, if there is one.
fn bearer(parts: &Parts) -> Option<Token> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim().to_owned()))
}

/// The address of whoever is connected.
pub(super) struct Client(pub(super) IpAddr);

impl FromRequestParts<App> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let info = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        Ok(Self(info.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(a)| a.ip())))
    }
}
