//! `/api/v1/stakeholders/:id/events`: what a stakeholder is told, as it comes or page by page.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use integratedb_events::EventId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::body::Data;
use super::error::ApiError;
use super::extract::{Authenticated, Id, bearer};
use super::page::{Asked, limit};
use crate::auth::{Principal, Token, Tokens};
use crate::notify::LogError;
use crate::notify::sockets::{Kind, NotOpen, VALID};

/// The most bytes that a client's message to a WebSocket may have; it has nothing to say.
const MESSAGE: usize = 64 << 10;

/// Where to begin.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Begin {
    /// The id of the last event that is known. A socket begins with what comes if it is left out, a page with the oldest
    /// that is kept.
    #[param(
        example = "1-00000000016B3748-3",
        pattern = "^([0-9]{1,9}-[0-9A-Fa-f]{16}-[0-9]{1,9})?$"
    )]
    after: Option<String>,
    /// Of a page: at most so many events: 1 to 1000, 100 unless told.
    limit: Option<i64>,
    /// In place of a token: what `events/ticket` gave.
    ticket: Option<String>,
}

/// Some events, the oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = EventsPage, example = json!({
    "data": [{"id": "1-00000000016B3748-3", "type": "INSERT", "table": "public.orders"}],
    "next": "1-00000000016B3748-3", "more": false}))]
pub(super) struct Page {
    #[schema(value_type = Vec<Object>)]
    data: Vec<serde_json::Value>,
    /// What to give as `after` for the next page.
    next: String,
    /// Whether there may be more now.
    more: bool,
}

/// A ticket, shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct Ticket {
    ticket: String,
    /// Seconds for which it is good.
    expires_in: u64,
}

impl From<NotOpen> for ApiError {
    fn from(why: NotOpen) -> Self {
        Self::Unavailable(match why {
            NotOpen::Full => {
                "There are as many sockets as notifications.max_sockets allows; try again later."
            }
            NotOpen::Starting => "The log of changes is not open yet; try again shortly.",
        })
    }
}

impl From<LogError> for ApiError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Database(error) => error.into(),
            // Where it matters, it was told as a gap.
            LogError::Pruned(_) | LogError::Segment(..) => Self::Internal(error.to_string()),
        }
    }
}

/// A ticket for one socket of this stakeholder: for browsers, which can't send a token when they open one.
#[utoipa::path(post, path = "/api/v1/stakeholders/{id}/events/ticket", tag = "notifications",
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<Ticket>), (status = 404)))]
pub(super) async fn ticket(
    State(app): State<App>,
    Authenticated { token }: Authenticated,
    Id(id): Id,
) -> Result<Data<Ticket>, ApiError> {
    name(&app, id).await?;
    let ticket = app.sockets().tickets().issue(id, token)?;
    let ticket = ticket.expose_secret().clone();
    Ok(Data { data: Ticket { ticket, expires_in: VALID.as_secs() } })
}

/// The events of a stakeholder: a WebSocket where one is asked for, Server-Sent Events where `Accept` says
/// `text/event-stream`, otherwise a page of those that are kept.
///
/// `Last-Event-ID` is as good as `after`, and wins over it.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/events", tag = "notifications",
    params(("id" = i64, Path), Begin), security(("token" = [])),
    responses((status = 200, content((Page = "application/json"), (String = "text/event-stream"))),
        (status = 101, description = "A WebSocket."), (status = 400), (status = 404)))]
pub(super) async fn events(
    State(app): State<App>,
    Id(id): Id,
    Asked(begin): Asked<Begin>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let bad = |why: String| ApiError::BadRequest(format!("Bad Request: {why}"));
    let (token, remaining) = access(&app, &headers, begin.ticket.as_deref(), id).await?;
    let name = name(&app, id).await?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let after = last.or(begin.after.as_deref()).filter(|id| !id.is_empty());
    let after: Option<EventId> =
        after.map(|id| id.parse().map_err(|error| bad(format!("after: {error}")))).transpose()?;
    let open = |kind, name| app.sockets().open(kind, (id, name), after, (token, remaining));
    if headers.contains_key(header::UPGRADE) {
        let upgrade = upgrade.map_err(|error| bad(error.body_text()))?;
        let session = open(Kind::WebSocket, name).await?;
        let upgrade =
            upgrade.read_buffer_size(4 << 10).max_message_size(MESSAGE).max_frame_size(MESSAGE);
        return Ok(upgrade.on_upgrade(|socket| session.speak(socket)));
    }
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    if accept.into_iter().any(|accept| accept.contains("text/event-stream")) {
        return Ok(open(Kind::Sse, name).await?.stream());
    }
    // What was asked for is no more than a page has.
    let limit = usize::try_from(limit(begin.limit)).unwrap_or_default();
    page(&app, id, name, after, limit).await
}

/// The token that the request comes with, by itself or by a ticket, and how long it is valid yet.
async fn access(
    app: &App,
    headers: &HeaderMap,
    ticket: Option<&str>,
    id: i64,
) -> Result<(Token, Duration), ApiError> {
    let token = match (bearer(headers), ticket) {
        (Some(token), _) => Some(token),
        (None, Some(ticket)) => app.sockets().tickets().redeem(id, ticket),
        (None, None) => None,
    };
    let token = token.ok_or(ApiError::Unauthorized)?;
    let client = app.client().await?;
    // Whoever got a ticket may be no operator any more.
    let principal = Principal::of(&**client, &token).await?.ok_or(ApiError::Unauthorized)?;
    if !principal.operator {
        return Err(ApiError::Forbidden);
    }
    let remaining = Tokens::remaining(&**client, &token).await?;
    Ok((token, remaining.ok_or(ApiError::Unauthorized)?))
}

async fn name(app: &App, id: i64) -> Result<String, ApiError> {
    let sql = "SELECT name FROM integratedb.stakeholder WHERE id = $1";
    let row = app.client().await?.query_opt(sql, &[&id]).await?;
    Ok(row.ok_or(ApiError::NotFound)?.get(0))
}

/// [`Page`], written by hand: events are JSON already.
async fn page(
    app: &App,
    id: i64,
    name: String,
    after: Option<EventId>,
    limit: usize,
) -> Result<Response, ApiError> {
    app.sockets().head().await?;
    let mut feed = app.sockets().feed(id, name, after.unwrap_or_default());
    let (chunk, more) = feed.page(limit, after.is_none()).await?;
    let mut body = b"{\"data\":[".to_vec();
    for (at, (_, json)) in chunk.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(json);
    }
    body.extend_from_slice(
        format!("],\"next\":\"{}\",\"more\":{more}}}", feed.position()).as_bytes(),
    );
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
