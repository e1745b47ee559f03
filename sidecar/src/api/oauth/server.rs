//! What the handlers of OAuth share.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::pages::Pages;
use crate::auth::LoginLimit;
use crate::oauth::{Issuer, OAuthSettings};

/// Wrong secrets of one application from one address before it is told to wait. The right one is never refused: nobody can
/// lock another out.
const WRONG_SECRETS: u32 = 10;

/// The authorization server.
pub(in crate::api) struct AuthServer {
    pub(super) settings: OAuthSettings,
    pub(super) failures: LoginLimit,
    pub(super) pages: Pages,
}

impl AuthServer {
    pub(in crate::api) fn new(settings: &OAuthSettings) -> Self {
        Self {
            settings: settings.clone(),
            failures: LoginLimit::new(WRONG_SECRETS, u32::MAX),
            pages: Pages::new(),
        }
    }

    /// Its name; without one there is none.
    pub(super) fn issuer(&self) -> Result<&Issuer, NoServer> {
        self.settings.issuer.as_ref().ok_or(NoServer)
    }
}

/// 404: nothing says under which URL this is reached.
pub(super) struct NoServer;

impl IntoResponse for NoServer {
    fn into_response(self) -> Response {
        let why = "Not Found: there is no authorization server here; the setting issuer of [oauth] makes one";
        (StatusCode::NOT_FOUND, Json(json!({ "errors": { "detail": why } }))).into_response()
    }
}
