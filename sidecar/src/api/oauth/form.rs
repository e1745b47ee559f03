//! Forms, which browsers and applications send alike.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};

use crate::api::app::App;
use crate::oauth::Params;

/// The largest.
pub(super) const LARGEST: usize = 64 << 10;

/// A form; or what is wrong with what came in its place, which each kind of sender is told in its own way.
pub(super) struct Form(pub(super) Result<Params, &'static str>);

impl FromRequest<App> for Form {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, app: &App) -> Result<Self, Self::Rejection> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Ok(Self(Err("the body has to be application/x-www-form-urlencoded")));
        }
        let read = Bytes::from_request(request, app).await.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => "the body is too large",
            _ => "the body ended too early",
        });
        Ok(Self(
            read.map(|body| Params::read(&body))
                .and_then(|params| params.fault().map_or(Ok(params), Err)),
        ))
    }
}
