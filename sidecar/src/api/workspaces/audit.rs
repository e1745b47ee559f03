//! `/api/v1/audit` and `/api/v1/workspaces/:workspace/audit`: who changed what.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::api::access::Access;
use crate::api::app::App;
use crate::api::error::ApiError;
use crate::api::extract::Authenticated;
use crate::api::page::{Asked, Latest, limit};
use crate::audit::{self, Event, Filter};

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those before the one with this id.
    before: Option<i64>,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
    /// Only what did this, such as `cache.create`.
    action: Option<String>,
    /// Only what the user with this id did, or an application for the user.
    user: Option<i64>,
    /// Only what the application with this id did.
    application: Option<i64>,
    /// Only what was done to the cache with this id, and to what belongs to it.
    cache: Option<String>,
}

/// A change.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"id": 7, "at": "2026-05-01T12:00:00.000000Z", "user": {"id": 1, "name": "root"},
    "application": null, "address": "192.0.2.1", "action": "member.update",
    "subject": "/api/v1/workspaces/1/members/2",
    "before": {"id": 2, "username": "ann", "role": "viewer", "inserted_at": "2026-05-01T11:00:00.000000Z"},
    "after": {"id": 2, "username": "ann", "role": "member", "inserted_at": "2026-05-01T11:00:00.000000Z"}}))]
pub(super) struct EventView {
    id: i64,
    /// When, in RFC 3339.
    #[schema(format = DateTime)]
    at: String,
    /// Who made it, or for whom an application made it; null where nobody had logged in.
    user: Option<Who>,
    /// The application that made it.
    application: Option<Who>,
    /// Where the request came from.
    address: Option<String>,
    /// What was done.
    action: String,
    /// The path of what was changed.
    subject: String,
    /// What it was, without secrets; null of what was not there.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// What it is since; null of what is gone.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
}

/// A user or an application, by the name it had then.
#[derive(Serialize, ToSchema)]
struct Who {
    id: i64,
    name: String,
}

impl From<Event> for EventView {
    fn from(of: Event) -> Self {
        let who = |(id, name)| Who { id, name };
        Self {
            id: of.id,
            at: of.at,
            user: of.user.map(who),
            application: of.application.map(who),
            address: of.address,
            action: of.action,
            subject: of.subject,
            before: of.before,
            after: of.after,
        }
    }
}

async fn page(
    app: &App,
    workspace: Option<i64>,
    which: Which,
) -> Result<Latest<EventView>, ApiError> {
    let limit = limit(which.limit);
    let filter = Filter {
        before: which.before,
        action: which.action,
        user: which.user,
        application: which.application,
        cache: which.cache,
    };
    let found = audit::list(&**app.client().await?, workspace, &filter, limit).await?;
    let found = found.into_iter().map(EventView::from).collect();
    Ok(Latest::new(found, limit, |event: &EventView| event.id))
}

/// The changes of a workspace, its members, caches and applications, the newest first.
#[utoipa::path(get, path = "/api/v1/workspaces/{workspace}/audit", tag = "audit",
    params(("workspace" = i64, Path, description = "The id of a workspace."), Which),
    security(("token" = [])),
    responses((status = 200, body = Latest<EventView>), (status = 400), (status = 403), (status = 404)))]
pub(super) async fn list_workspace_audit(
    State(app): State<App>,
    access: Access,
    Asked(which): Asked<Which>,
) -> Result<Latest<EventView>, ApiError> {
    let workspace = access.workspace().ok_or(ApiError::NotFound)?;
    page(&app, Some(workspace), which).await
}

/// The changes of what belongs to no workspace, the newest first: users, stakeholders, sync, the caches of the configuration
/// file; and those of workspaces that were deleted.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Which), security(("token" = [])),
    responses((status = 200, body = Latest<EventView>), (status = 400), (status = 403)))]
pub(super) async fn list_audit(
    State(app): State<App>,
    _: Authenticated,
    Asked(which): Asked<Which>,
) -> Result<Latest<EventView>, ApiError> {
    page(&app, None, which).await
}
