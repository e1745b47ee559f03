//! `/api/v1/workspaces`

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::members::audit_member;
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::page::{Asked, Page, limit};
use crate::api::tag::{IfMatch, Tagged};
use crate::audit::{self, Change};
use crate::plain::is_plain;
use crate::workspaces::{self, Role, Workspace};

/// The most characters of a name.
const MOST: usize = 100;

/// `{"workspace": {"name": "shop"}}`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"workspace": {"name": "Shop"}}))]
pub(super) struct WorkspaceBody {
    workspace: WorkspaceFields,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WorkspaceFields {
    /// 1 to 100 characters, none of them a control character or one that turns the direction of writing. Several workspaces may have one name.
    #[schema(value_type = String, min_length = 1, max_length = 100, example = "Shop",
        pattern = r"^[^\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]*[^\s\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff][^\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]*$")]
    #[serde(default)]
    name: Option<Value>,
}

/// A workspace, as one of its members sees it.
#[derive(Serialize, ToSchema)]
pub(super) struct WorkspaceView {
    #[schema(example = 1)]
    id: i64,
    #[schema(example = "Shop")]
    name: String,
    /// What whoever asks may do in it.
    role: Role,
    /// When it was made, in RFC 3339.
    #[schema(format = DateTime, example = "2026-05-01T12:00:00.000000Z")]
    inserted_at: String,
    /// When it was last renamed.
    #[schema(format = DateTime, example = "2026-05-01T12:00:00.000000Z")]
    updated_at: String,
}

/// Which workspaces.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those after the one with this id.
    #[serde(default)]
    after: i64,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
}

impl From<Workspace> for WorkspaceView {
    fn from(of: Workspace) -> Self {
        Self {
            id: of.id,
            name: of.name,
            role: of.role,
            inserted_at: of.inserted_at,
            updated_at: of.updated_at,
        }
    }
}

impl WorkspaceView {
    fn tagged(self) -> Tagged<Self> {
        let settable = settable(&self.name);
        Tagged::of(self, &settable)
    }
}

/// What can be set of a workspace.
fn settable(name: &str) -> Value {
    json!({ "name": name })
}

/// A workspace for the audit log: what it is to all of its members.
fn audited(id: i64, name: &str) -> Value {
    json!({ "id": id, "name": name })
}

fn name(body: WorkspaceBody) -> Result<String, ApiError> {
    let name = match body.workspace.name {
        None | Some(Value::Null) => return Err(ApiError::field("name", "can't be blank")),
        Some(Value::String(name)) => name.trim().to_owned(),
        Some(_) => return Err(ApiError::field("name", "is invalid")),
    };
    if name.is_empty() {
        return Err(ApiError::field("name", "can't be blank"));
    }
    if !is_plain(&name) {
        return Err(ApiError::field("name", "has invalid format"));
    }
    if name.chars().count() > MOST {
        return Err(ApiError::field("name", "should be at most 100 character(s)"));
    }
    Ok(name)
}

/// Lists the workspaces that the caller is a member of, by their ids.
#[utoipa::path(get, path = "/api/v1/workspaces", tag = "workspaces", params(Which),
    security(("token" = [])),
    responses((status = 200, body = Page<WorkspaceView>), (status = 400), (status = 403)))]
pub(super) async fn list_workspaces(
    State(app): State<App>,
    access: Access,
    Asked(which): Asked<Which>,
) -> Result<Page<WorkspaceView>, ApiError> {
    let limit = limit(which.limit);
    let client = app.client().await?;
    let found = workspaces::list(&**client, access.principal()?.user, which.after, limit).await?;
    let is_full = i64::try_from(found.len()).is_ok_and(|len| len == limit);
    let next = found.last().filter(|_| is_full).map(|workspace| workspace.id);
    Ok(Page { data: found.into_iter().map(WorkspaceView::from).collect(), next })
}

/// Creates a workspace. The caller becomes its owner.
#[utoipa::path(post, path = "/api/v1/workspaces", tag = "workspaces", request_body = WorkspaceBody,
    security(("token" = [])),
    responses((status = 201, body = Data<WorkspaceView>,
        headers(("Location" = String, description = "The path of the new workspace."),
            ("ETag" = String, description = "For If-Match."))),
        (status = 403), (status = 409, description = "The caller owns as many workspaces as one may.")))]
pub(super) async fn create_workspace(
    State(app): State<App>,
    access: Access,
    Json(body): Json<WorkspaceBody>,
) -> Result<Response, ApiError> {
    let name = name(body)?;
    let user = access.principal()?.user;
    let mut client = app.client().await?;
    let tx = client.transaction().await?;
    workspaces::hold_owner(&tx, user).await?;
    let most = app.max_workspaces();
    if workspaces::owned(&*tx, user).await? >= i64::from(most) {
        let why = format!("You own {most} workspaces, which is the most.");
        return Err(ApiError::Conflict(why));
    }
    let id = workspaces::create(&tx, &name).await?;
    let owner = workspaces::put_member(&tx, id, user, Role::Owner).await?;
    // Whoever was deleted just now has no workspaces to make.
    let owner = owner.ok_or(ApiError::Unauthorized)?;
    let made = workspaces::find(&*tx, id, user).await?.ok_or(ApiError::Unauthorized)?;
    let subject = format!("/api/v1/workspaces/{id}");
    let change = Change {
        action: "workspace.create",
        subject: &subject,
        workspace: Some(id),
        before: Value::Null,
        after: audited(id, &name),
    };
    audit::record(&*tx, &access.actor(), change).await?;
    audit_member(&tx, &access, id, (None, Some(&owner))).await?;
    tx.commit().await?;
    let location = [(header::LOCATION, subject)];
    Ok((StatusCode::CREATED, location, WorkspaceView::from(made).tagged()).into_response())
}

/// Shows a workspace.
#[utoipa::path(get, path = "/api/v1/workspaces/{workspace}", tag = "workspaces",
    params(("workspace" = i64, Path, description = "The id of a workspace.")), security(("token" = [])),
    responses((status = 200, body = Data<WorkspaceView>,
        headers(("ETag" = String, description = "For If-Match."))), (status = 403), (status = 404)))]
pub(super) async fn show_workspace(
    State(app): State<App>,
    access: Access,
) -> Result<Tagged<WorkspaceView>, ApiError> {
    let workspace = access.workspace().ok_or(ApiError::NotFound)?;
    let found =
        workspaces::find(&**app.client().await?, workspace, access.principal()?.user).await?;
    Ok(WorkspaceView::from(found.ok_or(ApiError::NotFound)?).tagged())
}

/// Renames a workspace.
#[utoipa::path(put, path = "/api/v1/workspaces/{workspace}", tag = "workspaces",
    request_body = WorkspaceBody, security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of a workspace."),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is to be changed.")),
    responses((status = 200, body = Data<WorkspaceView>,
        headers(("ETag" = String, description = "For If-Match."))), (status = 403), (status = 404),
        (status = 412)))]
pub(super) async fn put_workspace(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Json(body): Json<WorkspaceBody>,
) -> Result<Tagged<WorkspaceView>, ApiError> {
    let name = name(body)?;
    let (workspace, user) =
        (access.workspace().ok_or(ApiError::NotFound)?, access.principal()?.user);
    let mut client = app.client().await?;
    let tx = client.transaction().await?;
    let role = workspaces::lock(&tx, workspace, user).await?.ok_or(ApiError::NotFound)?;
    if role < Role::Admin {
        return Err(ApiError::Forbidden);
    }
    let before = workspaces::find(&*tx, workspace, user).await?.ok_or(ApiError::NotFound)?;
    if_match.check(Some(&settable(&before.name)))?;
    workspaces::rename(&tx, workspace, &name).await?;
    let after = workspaces::find(&*tx, workspace, user).await?.ok_or(ApiError::NotFound)?;
    let change = Change {
        action: "workspace.update",
        subject: &format!("/api/v1/workspaces/{workspace}"),
        workspace: Some(workspace),
        before: audited(workspace, &before.name),
        after: audited(workspace, &after.name),
    };
    audit::record(&*tx, &access.actor(), change).await?;
    tx.commit().await?;
    Ok(WorkspaceView::from(after).tagged())
}

/// Deletes a workspace that has no caches, with its applications and all that was granted in it.
#[utoipa::path(delete, path = "/api/v1/workspaces/{workspace}", tag = "workspaces",
    security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of a workspace."),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is to be deleted.")),
    responses((status = 204), (status = 403), (status = 404),
        (status = 409, description = "It still has caches."), (status = 412)))]
pub(super) async fn delete_workspace(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let (workspace, user) =
        (access.workspace().ok_or(ApiError::NotFound)?, access.principal()?.user);
    let mut client = app.client().await?;
    let tx = client.transaction().await?;
    let role = workspaces::lock(&tx, workspace, user).await?.ok_or(ApiError::NotFound)?;
    if role < Role::Owner {
        return Err(ApiError::Forbidden);
    }
    let before = workspaces::find(&*tx, workspace, user).await?.ok_or(ApiError::NotFound)?;
    if_match.check(Some(&settable(&before.name)))?;
    let caches = workspaces::cache_names(&tx, workspace).await?;
    if !caches.is_empty() {
        return Err(ApiError::Conflict(format!(
            "The workspace has caches: {}. Delete them first.",
            caches.join(", ")
        )));
    }
    workspaces::delete(&tx, workspace).await?;
    let change = Change {
        action: "workspace.delete",
        subject: &format!("/api/v1/workspaces/{workspace}"),
        workspace: Some(workspace),
        before: audited(workspace, &before.name),
        after: Value::Null,
    };
    audit::record(&*tx, &access.actor(), change).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
