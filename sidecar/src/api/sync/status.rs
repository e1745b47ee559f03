//! `/api/v1/sync/status`: how much there is to do, and who does it.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::Authenticated;
use crate::sync::status::{self, Queue};

/// How sync is.
#[derive(Serialize, ToSchema)]
pub(super) struct SyncStatus {
    /// Whether this sidecar fetches and pushes.
    enabled: bool,
    workers: WorkersView,
    /// What there is to do, for all sidecars of the database.
    queue: Queue,
    follower: FollowerView,
}

/// The workers of this sidecar.
#[derive(Serialize, ToSchema)]
struct WorkersView {
    /// As many as there are.
    max: usize,
    fetching: i64,
    pushing: i64,
}

/// How far the changes of stakeholders' tables are followed.
#[derive(Serialize, ToSchema)]
struct FollowerView {
    /// Seconds since the oldest change was stored that is not followed yet; 0 if all are, null if no table is.
    lag_seconds: Option<f64>,
}

/// How much there is to do, how long it has been waiting, and how far changes of tables are followed.
#[utoipa::path(get, path = "/api/v1/sync/status", tag = "sync", security(("token" = [])),
    responses((status = 200, body = Data<SyncStatus>)))]
pub(super) async fn show_sync(
    State(app): State<App>,
    _: Authenticated,
) -> Result<Data<SyncStatus>, ApiError> {
    let client = app.client().await?;
    let queue = status::queue(&client).await?;
    let lag_seconds = status::follower_lag(&client).await?;
    let (fetching, pushing) = app.sync().figures.under_way();
    let settings = &app.sync().settings;
    let workers = WorkersView { max: settings.workers, fetching, pushing };
    let follower = FollowerView { lag_seconds };
    Ok(Data { data: SyncStatus { enabled: settings.enabled, workers, queue, follower } })
}
