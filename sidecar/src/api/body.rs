//! The shapes of answers. What is sent and what the OpenAPI document says of it are one type.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Pair;

/// Every success with a body: `{"data": …}`.
#[derive(Serialize, ToSchema)]
pub(super) struct Data<T> {
    pub(super) data: T,
}

impl<T: Serialize> IntoResponse for Data<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// An error, as RFC 9457 has it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"type": "about:blank", "title": "Not Found", "status": 404, "detail": "Not Found",
    "errors": {"detail": "Not Found"}}))]
pub(super) struct Problem {
    /// Its kind, for programs; `about:blank` where the status says all.
    #[serde(rename = "type")]
    #[schema(value_type = String, format = "uri-reference")]
    pub(super) kind: &'static str,
    /// The same for each of its kind.
    #[schema(value_type = String)]
    pub(super) title: &'static str,
    /// The status of the answer.
    pub(super) status: u16,
    /// What went wrong, for people.
    pub(super) detail: String,
    /// `detail`, or the fields to blame with their messages.
    #[schema(value_type = Object)]
    pub(super) errors: serde_json::Value,
}

/// An error, as the first IntegrateDB has it: `detail`, or the fields to blame with their messages.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"errors": {"detail": "Not Found"}}))]
pub(super) struct Errors {
    #[schema(value_type = Object)]
    pub(super) errors: serde_json::Value,
}

/// What a login, a renewal and a new user get.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    /// The user's id.
    id: i64,
    /// For `Authorization: Bearer`.
    token: String,
    /// For `/api/v1/auth/renew`, once.
    refresh_token: String,
}

impl Session {
    pub(super) fn new(id: i64, pair: &Pair) -> Self {
        Self {
            id,
            token: pair.token.expose_secret().clone(),
            refresh_token: pair.refresh_token.expose_secret().clone(),
        }
    }
}

/// The state of the process.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    #[schema(value_type = String)]
    pub(super) status: &'static str,
}
