//! `/api/v1/workspaces/:workspace/members`

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use deadpool_postgres::Transaction;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::{Ids, Json};
use crate::api::page::{Asked, Page, limit};
use crate::api::tag::{IfMatch, Tagged};
use crate::api::users::is_name;
use crate::audit::{self, Change};
use crate::workspaces::{self, Member, Role};

/// `{"member": {"username": "ann", "role": "member"}}`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"member": {"username": "ann", "role": "member"}}))]
pub(super) struct NewMemberBody {
    member: NewMember,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMember {
    /// The name of a user.
    #[schema(example = "ann")]
    username: String,
    role: Role,
}

/// `{"member": {"role": "admin"}}`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"member": {"role": "admin"}}))]
pub(super) struct MemberBody {
    member: MemberFields,
}

#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MemberFields {
    role: Role,
}

/// A member of a workspace.
#[derive(Serialize, ToSchema)]
pub(super) struct MemberView {
    /// The user's id.
    #[schema(example = 2)]
    id: i64,
    #[schema(example = "ann")]
    username: String,
    role: Role,
    /// Since when, in RFC 3339.
    #[schema(format = DateTime, example = "2026-05-01T12:00:00.000000Z")]
    inserted_at: String,
}

/// Which members.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those after the user with this id.
    #[serde(default)]
    after: i64,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
}

impl From<&Member> for MemberView {
    fn from(of: &Member) -> Self {
        Self {
            id: of.user,
            username: of.username.clone(),
            role: of.role,
            inserted_at: of.inserted_at.clone(),
        }
    }
}

impl MemberView {
    fn tagged(self) -> Tagged<Self> {
        let settable = MemberFields { role: self.role };
        Tagged::of(self, &settable)
    }
}

/// Tells the audit log how a member has changed, from what to what; `None` is no member.
pub(in crate::api) async fn audit_member(
    tx: &Transaction<'_>,
    access: &Access,
    workspace: i64,
    (before, after): (Option<&Member>, Option<&Member>),
) -> Result<(), ApiError> {
    let action = match (before, after) {
        (None, _) => "member.create",
        (Some(_), Some(_)) => "member.update",
        (Some(_), None) => "member.delete",
    };
    let user = before.or(after).map(|member| member.user).unwrap_or_default();
    let view = |member: Option<&Member>| Change::view(&member.map(MemberView::from));
    let change = Change {
        action,
        subject: &format!("/api/v1/workspaces/{workspace}/members/{user}"),
        workspace: Some(workspace),
        before: view(before),
        after: view(after),
    };
    Ok(audit::record(&**tx, &access.actor(), change).await?)
}

/// What a change of members asks for.
enum Wish {
    /// This user is to be a member with this role and was none.
    Add(Role),
    /// This user is to be a member with this role.
    Put(Role),
    /// This user is to be no member.
    Remove,
}

/// Changes whether a user is a member and what it may do; gives what it is then.
async fn change(
    (app, tx): (&App, &Transaction<'_>),
    access: &Access,
    user: i64,
    wish: Wish,
    if_match: Option<&IfMatch>,
) -> Result<Option<Member>, ApiError> {
    let workspace = access.workspace().ok_or(ApiError::NotFound)?;
    let caller = access.principal()?.user;
    workspaces::hold_user(tx, user).await?;
    let role = workspaces::lock(tx, workspace, caller).await?.ok_or(ApiError::NotFound)?;
    let before = workspaces::member(&**tx, workspace, user).await?;
    let from = before.as_ref().map(|member| member.role);
    let to = match wish {
        Wish::Add(role) | Wish::Put(role) => Some(role),
        Wish::Remove => None,
    };
    if !role.may_change_member(caller == user, from, to) {
        return Err(ApiError::Forbidden);
    }
    match wish {
        Wish::Add(_) if from.is_some() => {
            return Err(ApiError::Conflict("The user is a member already.".to_owned()));
        }
        Wish::Remove if from.is_none() => return Err(ApiError::NotFound),
        _ => {}
    }
    if let Some(if_match) = if_match {
        if_match.check(from.map(|role| MemberFields { role }).as_ref())?;
    }
    if from == Some(Role::Owner)
        && to != Some(Role::Owner)
        && workspaces::owners_besides(tx, workspace, user).await? == 0
    {
        return Err(ApiError::Conflict(
            "The workspace has no other owner; make another member one first.".to_owned(),
        ));
    }
    let becomes_owner = to == Some(Role::Owner) && from != to;
    let most = app.max_workspaces();
    if becomes_owner && workspaces::owned(&**tx, user).await? >= i64::from(most) {
        let why = format!("The user owns {most} workspaces, which is the most.");
        return Err(ApiError::Conflict(why));
    }
    let after = match to {
        Some(role) => {
            let member = workspaces::put_member(tx, workspace, user, role).await?;
            Some(member.ok_or(ApiError::NotFound)?)
        }
        None => {
            workspaces::remove_member(tx, workspace, user).await?;
            None
        }
    };
    audit_member(tx, access, workspace, (before.as_ref(), after.as_ref())).await?;
    Ok(after)
}

/// Lists the members of a workspace, by the ids of the users.
#[utoipa::path(get, path = "/api/v1/workspaces/{workspace}/members", tag = "workspaces",
    params(("workspace" = i64, Path, description = "The id of a workspace."), Which),
    security(("token" = [])),
    responses((status = 200, body = Page<MemberView>), (status = 400), (status = 403), (status = 404)))]
pub(super) async fn list_members(
    State(app): State<App>,
    access: Access,
    Asked(which): Asked<Which>,
) -> Result<Page<MemberView>, ApiError> {
    let workspace = access.workspace().ok_or(ApiError::NotFound)?;
    let limit = limit(which.limit);
    let client = app.client().await?;
    let found = workspaces::members(&**client, workspace, which.after, limit).await?;
    let is_full = i64::try_from(found.len()).is_ok_and(|len| len == limit);
    let next = found.last().filter(|_| is_full).map(|member| member.user);
    Ok(Page { data: found.iter().map(MemberView::from).collect(), next })
}

/// Makes a user a member, by name. Only an owner makes an owner.
#[utoipa::path(post, path = "/api/v1/workspaces/{workspace}/members", tag = "workspaces",
    request_body = NewMemberBody, security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of a workspace.")),
    responses((status = 201, body = Data<MemberView>,
        headers(("Location" = String, description = "The path of the new member."),
            ("ETag" = String, description = "For If-Match."))),
        (status = 403), (status = 404),
        (status = 409, description = "The user is a member already, or is to be an owner and owns as many as one may.")))]
pub(super) async fn add_member(
    State(app): State<App>,
    access: Access,
    Json(body): Json<NewMemberBody>,
) -> Result<Response, ApiError> {
    let workspace = access.workspace().ok_or(ApiError::NotFound)?;
    let NewMember { username, role } = body.member;
    let username = username.trim().to_lowercase();
    let mut client = app.client().await?;
    let tx = client.transaction().await?;
    let sql = "SELECT id FROM integratedb.users WHERE username = $1";
    let user = match is_name(&username) {
        true => tx.query_opt(sql, &[&username]).await?,
        false => None,
    };
    let user: i64 =
        user.ok_or_else(|| ApiError::field("username", "is the name of no user"))?.get(0);
    let member = change((&app, &tx), &access, user, Wish::Add(role), None).await?;
    let member = member.as_ref().ok_or(ApiError::NotFound)?;
    tx.commit().await?;
    let location = [(header::LOCATION, format!("/api/v1/workspaces/{workspace}/members/{user}"))];
    Ok((StatusCode::CREATED, location, MemberView::from(member).tagged()).into_response())
}

/// Makes a user a member, or gives a member another role. Only an owner makes an owner or another of one, and one stays.
#[utoipa::path(put, path = "/api/v1/workspaces/{workspace}/members/{user}", tag = "workspaces",
    request_body = MemberBody, security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of a workspace."),
        ("user" = i64, Path, description = "The id of a user."),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is to be changed.")),
    responses((status = 200, body = Data<MemberView>,
        headers(("ETag" = String, description = "For If-Match."))), (status = 403),
        (status = 404, description = "There is no such workspace or user."),
        (status = 409, description = "The workspace has no other owner, or the user owns as many as one may."),
        (status = 412)))]
pub(super) async fn put_member(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Ids(_, user): Ids,
    Json(body): Json<MemberBody>,
) -> Result<Tagged<MemberView>, ApiError> {
    let mut client = app.client().await?;
    let tx = client.transaction().await?;
    let member =
        change((&app, &tx), &access, user, Wish::Put(body.member.role), Some(&if_match)).await?;
    let member = member.as_ref().ok_or(ApiError::NotFound)?;
    tx.commit().await?;
    Ok(MemberView::from(member).tagged())
}

/// Removes a member, and revokes what it let applications do in the workspace. Members may remove themselves; the only owner
/// stays.
#[utoipa::path(delete, path = "/api/v1/workspaces/{workspace}/members/{user}", tag = "workspaces",
    security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of a workspace."),
        ("user" = i64, Path, description = "The id of a user."),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is to be deleted.")),
    responses((status = 204), (status = 403), (status = 404),
        (status = 409, description = "The workspace has no other owner."), (status = 412)))]
pub(super) async fn remove_member(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Ids(_, user): Ids,
) -> Result<StatusCode, ApiError> {
    let mut client = app.client().await?;
    let tx = client.transaction().await?;
    change((&app, &tx), &access, user, Wish::Remove, Some(&if_match)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
