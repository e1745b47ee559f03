//! `/api/v1/notifications`: how far this sidecar is with what it tells others.

use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::body::Data;
use super::error::ApiError;
use super::extract::Authenticated;
use crate::notify::Role;
use crate::notify::sockets::Kind;
use crate::replication;

/// Notifications of this sidecar.
#[derive(Serialize, ToSchema)]
pub(super) struct NotifyStatus {
    /// `starting`, `follows` (another one leads), `idle` (nobody subscribes) or `leads`: it reads, stores and delivers.
    role: &'static str,
    enabled: bool,
    /// The reader of this sidecar; null unless it leads.
    reader: Option<ReaderView>,
    log: LogView,
    sockets: SocketsView,
}

#[derive(Serialize, ToSchema)]
#[schema(as = NotificationsReader)]
struct ReaderView {
    /// `connecting`, `streaming` or `suspended`.
    state: &'static str,
    slot: String,
    /// Bytes of WAL that are not delivered.
    lag_bytes: u64,
    /// Since when it is not certain that all is delivered.
    lag_seconds: Option<f64>,
    changes: u64,
    transactions: u64,
    reconnects: u64,
    last_error: Option<String>,
    wal_status: Option<String>,
    /// Bytes that may be written before the slot can be lost.
    safe_wal_size: Option<i64>,
}

#[derive(Serialize, ToSchema)]
struct LogView {
    /// The last change.
    head: String,
    /// The first change that is kept comes after this one.
    pruned: String,
    /// Bytes of changes, compressed.
    bytes: i64,
    /// Seconds since the oldest that is kept was stored.
    oldest_seconds: Option<f64>,
}

#[derive(Serialize, ToSchema)]
struct SocketsView {
    websocket: usize,
    sse: usize,
    /// The most at once.
    max: usize,
}

const LOG: &str = "
    SELECT s.pruned_epoch, s.pruned_lsn, s.pruned_index,
           coalesce((SELECT max(total) FROM integratedb.event_log), 0)
               - coalesce((SELECT total - octet_length(body) FROM integratedb.event_log ORDER BY total LIMIT 1), 0),
           (SELECT extract(epoch FROM now() - min(stored_at))::float8 FROM integratedb.event_log)
    FROM integratedb.event_log_state s";

/// How far notifications of this sidecar are.
#[utoipa::path(get, path = "/api/v1/notifications", tag = "notifications", security(("token" = [])),
    responses((status = 200, body = Data<NotifyStatus>)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Authenticated,
) -> Result<Data<NotifyStatus>, ApiError> {
    let notifications = app.notifications();
    let role = *notifications.role().borrow();
    let reader = notifications.reader().borrow().clone();
    let row = app.client().await?.query_one(LOG, &[]).await?;
    let (pruned, bytes, oldest_seconds) =
        (crate::notify::id_of(row.get(0), row.get(1), row.get(2)), row.get(3), row.get(4));
    let open = |kind| app.sockets().figures(kind).open.load(Relaxed);
    Ok(Data {
        data: NotifyStatus {
            role: match role {
                Role::Starting => "starting",
                Role::Follows => "follows",
                Role::Idle => "idle",
                Role::Leads => "leads",
            },
            enabled: notifications.settings().enabled,
            reader: (role == Role::Leads).then(|| ReaderView::from(reader)),
            log: LogView {
                head: notifications.log().head().to_string(),
                pruned: pruned.to_string(),
                bytes,
                oldest_seconds,
            },
            sockets: SocketsView {
                websocket: open(Kind::WebSocket),
                sse: open(Kind::Sse),
                max: notifications.settings().max_sockets,
            },
        },
    })
}

impl From<replication::Status> for ReaderView {
    fn from(status: replication::Status) -> Self {
        Self {
            state: status.state.as_str(),
            slot: status.slot,
            lag_bytes: status.lag_bytes,
            lag_seconds: status.lag.map(|lag| lag.as_secs_f64()),
            changes: status.changes,
            transactions: status.transactions,
            reconnects: status.reconnects,
            last_error: status.last_error,
            wal_status: status.wal_status,
            safe_wal_size: status.safe_wal_size,
        }
    }
}
