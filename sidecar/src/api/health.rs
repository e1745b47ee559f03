//! Liveness, readiness and metrics; open to all, like the probes that ask.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::app::App;
use super::error::ApiError;
use crate::db::check_extension;

/// The process runs.
#[utoipa::path(get, path = "/health/live", tag = "operations", responses((status = 200)))]
pub(super) async fn live() -> Response {
    axum::Json(json!({"data": {"status": "live"}})).into_response()
}

/// The database answers and has the extension.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    responses((status = 200), (status = 503)))]
pub(super) async fn ready(State(app): State<App>) -> Result<Response, ApiError> {
    let not_ready = |cause: String| {
        tracing::warn!(cause, "not ready");
        ApiError::Unavailable("Not ready: the database does not answer or lacks the extension.")
    };
    let client = app.pool().get().await.map_err(|error| not_ready(error.to_string()))?;
    check_extension(&client).await.map_err(|error| not_ready(error.to_string()))?;
    Ok(axum::Json(json!({"data": {"status": "ready"}})).into_response())
}

/// Metrics in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200)))]
pub(super) async fn metrics(State(app): State<App>) -> Response {
    let status = app.pool().status();
    app.metrics().gauge("integratedb_database_connections", status.size);
    app.metrics().gauge("integratedb_database_connections_idle", status.available);
    app.metrics().gauge("integratedb_database_connections_max", status.max_size);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics().render()).into_response()
}
