//! Pages of lists.

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::app::App;
use super::error::ApiError;

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    /// What to give as `after` for the next page; null after the last. A page may have few and not be the last.
    pub(super) next: Option<i64>,
}

/// How many a page has: 100 unless told, 1000 at most.
pub(super) fn limit(asked: Option<i64>) -> i64 {
    asked.unwrap_or(100).clamp(1, 1000)
}

/// What a query string says.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, app).await;
        let Query(asked) = query
            .map_err(|error| ApiError::BadRequest(format!("Bad Request: {}", error.body_text())))?;
        Ok(Self(asked))
    }
}
