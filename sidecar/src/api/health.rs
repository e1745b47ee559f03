//! Liveness, readiness and metrics; open to all, like the probes that ask.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::body::{Data, Status};
use super::error::ApiError;
use crate::db::{check_extension, check_migrations};
use crate::notify::{Role, figures};
use crate::{proxy, replication, sync};

/// The process runs.
#[utoipa::path(get, path = "/health/live", tag = "operations",
    responses((status = 200, body = Data<Status>)))]
pub(super) async fn live() -> Data<Status> {
    Data { data: Status { status: "live" } }
}

/// The database answers and has the extension and the sidecar's tables.
#[utoipa::path(get, path = "/health/ready", tag = "operations",
    responses((status = 200, body = Data<Status>), (status = 503)))]
pub(super) async fn ready(State(app): State<App>) -> Result<Data<Status>, ApiError> {
    let not_ready = |cause: String| {
        tracing::warn!(cause, "not ready");
        ApiError::Unavailable(
            "Not ready: the database does not answer, or lacks the extension or the sidecar's tables.",
        )
    };
    let client = app.pool().get().await.map_err(|error| not_ready(error.to_string()))?;
    check_extension(&client).await.map_err(|error| not_ready(error.to_string()))?;
    check_migrations(&client).await.map_err(|error| not_ready(error.to_string()))?;
    Ok(Data { data: Status { status: "ready" } })
}

/// Metrics in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(app): State<App>) -> Response {
    let status = app.pool().status();
    app.metrics().gauge("integratedb_database_connections", status.size);
    app.metrics().gauge("integratedb_database_connections_idle", status.available);
    app.metrics().gauge("integratedb_database_connections_max", status.max_size);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let mut text = app.metrics().render();
    if let Some(proxy) = app.proxy() {
        proxy::metrics::render(proxy, &mut text);
    }
    let mut readers = app.proxy().map(proxy::metrics::readers).unwrap_or_default();
    let notifications = app.notifications();
    if *notifications.role().borrow() == Role::Leads {
        readers.push(("notifications".to_owned(), notifications.reader().borrow().clone()));
    }
    if !readers.is_empty() {
        replication::render(&readers, &mut text);
    }
    figures::render(notifications, app.sockets(), &mut text).await;
    sync::metrics::render(&app.sync().figures, app.pool(), &mut text).await;
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
