//! `/api/v1/oauth/applications` and `/api/v1/workspaces/{workspace}/oauth/applications`: applications of a user, and of a
//! workspace. Both do the same; only whose they are differs.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use deadpool_postgres::Transaction;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::{Id, Ids, Json};
use crate::api::page::{Asked, Page, limit};
use crate::api::tag::{IfMatch, Tagged};
use crate::audit::{Change, record};
use crate::oauth::{Application, Owner, Wanted};
use crate::secret::Secret;

/// `{"application": {…}}`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplicationBody {
    application: Wanted,
}

/// An application with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct NewApplication {
    #[serde(flatten)]
    application: Application,
    /// What it authenticates with; null of a public one, which has none. Nobody can see it again.
    #[schema(example = "b1946ac92492d2347c6235b4d2611184a1b2c3d4e5f60718293a4b5c6d7e8f90")]
    client_secret: Option<String>,
}

/// Which applications.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those after this one; `next` of the page before.
    #[param(example = 0)]
    after: Option<i64>,
    /// At most so many: 100 unless told, 1000 at most.
    #[param(example = 100)]
    limit: Option<i64>,
}

/// The user's own.
fn mine(access: &Access) -> Result<Owner, ApiError> {
    Ok(Owner::User(access.principal()?.user))
}

/// The workspace's that the path names, of which the rules have seen to it that the user is an admin.
fn ours(access: &Access) -> Result<Owner, ApiError> {
    access.workspace().map(Owner::Workspace).ok_or(ApiError::NotFound)
}

async fn list_all(app: &App, owner: Owner, asked: Which) -> Result<Page<Application>, ApiError> {
    let limit = limit(asked.limit);
    let client = app.client().await?;
    let data = owner.list(&**client, asked.after.unwrap_or_default(), limit).await?;
    Ok(Page::new(data, limit, |application| application.id))
}

/// The most applications that a user or a workspace has.
const MOST: i64 = 100;

async fn register(
    app: &App,
    access: &Access,
    owner: Owner,
    mut wanted: Wanted,
) -> Result<Response, ApiError> {
    let wrong = wanted.check(None);
    if !wrong.is_empty() {
        return Err(ApiError::Fields(wrong));
    }
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    if owner.count(&*transaction).await? >= MOST {
        return Err(ApiError::Conflict(format!("Conflict: there are {MOST} applications already")));
    }
    let (application, secret) = owner.create(&*transaction, &wanted).await?;
    let subject = path(&owner, application.id);
    let states = (None, Some(&application));
    note(&transaction, access, &owner, application.id, "application.create", states).await?;
    transaction.commit().await?;
    let location = [(header::LOCATION, subject)];
    Ok((StatusCode::CREATED, location, shown_once(application, secret)).into_response())
}

/// Where an application is.
fn path(owner: &Owner, id: i64) -> String {
    format!("{}/{id}", owner.path())
}

/// Tells the audit log of a change; `states`: what the application was before, and is now.
async fn note(
    transaction: &Transaction<'_>,
    access: &Access,
    owner: &Owner,
    id: i64,
    action: &'static str,
    (before, after): (Option<&Application>, Option<&Application>),
) -> Result<(), ApiError> {
    let view = |application: Option<&Application>| application.map_or(Value::Null, Change::view);
    let (subject, workspace) = (&path(owner, id), owner.workspace());
    let change = Change { action, subject, workspace, before: view(before), after: view(after) };
    Ok(record(&**transaction, &access.actor(), change).await?)
}

fn shown_once(
    application: Application,
    secret: Option<Secret<String>>,
) -> ([(header::HeaderName, &'static str); 1], Data<NewApplication>) {
    let client_secret = secret.map(|secret| secret.expose_secret().clone());
    let closed = [(header::CACHE_CONTROL, "no-store")];
    (closed, Data { data: NewApplication { application, client_secret } })
}

async fn show_one(app: &App, owner: Owner, id: i64) -> Result<Tagged<Application>, ApiError> {
    let found = owner.find(&**app.client().await?, id).await?;
    Ok(Tagged::new(found.ok_or(ApiError::NotFound)?))
}

async fn change(
    app: &App,
    access: &Access,
    owner: Owner,
    id: i64,
    if_match: IfMatch,
    mut wanted: Wanted,
) -> Result<Tagged<Application>, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let before = owner.lock(&*transaction, id).await?.ok_or(ApiError::NotFound)?;
    if_match.check(Some(&before))?;
    let wrong = wanted.check(Some(&before));
    if !wrong.is_empty() {
        return Err(ApiError::Fields(wrong));
    }
    let after = before.update(&*transaction, &wanted).await?;
    let states = (Some(&before), Some(&after));
    note(&transaction, access, &owner, id, "application.update", states).await?;
    transaction.commit().await?;
    Ok(Tagged::new(after))
}

async fn remove(
    app: &App,
    access: &Access,
    owner: Owner,
    id: i64,
    if_match: IfMatch,
) -> Result<Response, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let before = owner.lock(&*transaction, id).await?.ok_or(ApiError::NotFound)?;
    if_match.check(Some(&before))?;
    before.delete(&*transaction).await?;
    let states = (Some(&before), None);
    note(&transaction, access, &owner, id, "application.delete", states).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn rotate(app: &App, access: &Access, owner: Owner, id: i64) -> Result<Response, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let before = owner.lock(&*transaction, id).await?.ok_or(ApiError::NotFound)?;
    if before.public {
        let why = "Conflict: the application is public, so it has no secret".to_owned();
        return Err(ApiError::Conflict(why));
    }
    let (after, secret) = before.rotate(&*transaction).await?;
    let states = (Some(&before), Some(&after));
    note(&transaction, access, &owner, id, "application.secret", states).await?;
    transaction.commit().await?;
    Ok(shown_once(after, Some(secret)).into_response())
}

/// Lists the user's own applications.
#[utoipa::path(get, path = "/api/v1/oauth/applications", tag = "oauth", params(Which),
    summary = "Lists the user's own applications", security(("token" = [])),
    responses((status = 200, body = Page<Application>), (status = 400), (status = 401), (status = 403)))]
pub(super) async fn list(
    State(app): State<App>,
    access: Access,
    Asked(asked): Asked<Which>,
) -> Result<Page<Application>, ApiError> {
    list_all(&app, mine(&access)?, asked).await
}

/// Registers an application of the user's own. Its secret is shown this once.
#[utoipa::path(post, path = "/api/v1/oauth/applications", tag = "oauth", request_body = ApplicationBody,
    summary = "Registers an application", security(("token" = [])),
    responses((status = 201, body = Data<NewApplication>,
            headers(("Location" = String, description = "The path of the application"))),
        (status = 401), (status = 403), (status = 409), (status = 422)))]
pub(super) async fn create(
    State(app): State<App>,
    access: Access,
    Json(body): Json<ApplicationBody>,
) -> Result<Response, ApiError> {
    register(&app, &access, mine(&access)?, body.application).await
}

/// Shows an application of the user's own.
#[utoipa::path(get, path = "/api/v1/oauth/applications/{application}", tag = "oauth",
    summary = "Shows an application", security(("token" = [])),
    params(("application" = i64, Path, description = "The id of the application", example = 1)),
    responses((status = 200, body = Data<Application>,
            headers(("ETag" = String, description = "For If-Match"))),
        (status = 401), (status = 403), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    access: Access,
    Id(id): Id,
) -> Result<Tagged<Application>, ApiError> {
    show_one(&app, mine(&access)?, id).await
}

/// Changes an application of the user's own: all of it is replaced. Tokens that were handed out keep no scope that it may not
/// ask for any more.
#[utoipa::path(put, path = "/api/v1/oauth/applications/{application}", tag = "oauth",
    summary = "Changes an application", request_body = ApplicationBody, security(("token" = [])),
    params(("application" = i64, Path, description = "The id of the application", example = 1),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is to be changed")),
    responses((status = 200, body = Data<Application>,
            headers(("ETag" = String, description = "For If-Match"))),
        (status = 401), (status = 403), (status = 404), (status = 412), (status = 422)))]
pub(super) async fn update(
    State(app): State<App>,
    access: Access,
    Id(id): Id,
    if_match: IfMatch,
    Json(body): Json<ApplicationBody>,
) -> Result<Tagged<Application>, ApiError> {
    change(&app, &access, mine(&access)?, id, if_match, body.application).await
}

/// Deletes an application of the user's own, and with it all that users have let it do.
#[utoipa::path(delete, path = "/api/v1/oauth/applications/{application}", tag = "oauth",
    summary = "Deletes an application", security(("token" = [])),
    params(("application" = i64, Path, description = "The id of the application", example = 1),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is to be deleted")),
    responses((status = 204), (status = 401), (status = 403), (status = 404), (status = 412)))]
pub(super) async fn delete(
    State(app): State<App>,
    access: Access,
    Id(id): Id,
    if_match: IfMatch,
) -> Result<Response, ApiError> {
    remove(&app, &access, mine(&access)?, id, if_match).await
}

/// Gives an application of the user's own another secret, which is shown this once. The one before is void.
#[utoipa::path(post, path = "/api/v1/oauth/applications/{application}/secret", tag = "oauth",
    summary = "Gives an application another secret", security(("token" = [])),
    params(("application" = i64, Path, description = "The id of the application", example = 1)),
    responses((status = 200, body = Data<NewApplication>), (status = 401), (status = 403),
        (status = 404), (status = 409)))]
pub(super) async fn rotate_secret(
    State(app): State<App>,
    access: Access,
    Id(id): Id,
) -> Result<Response, ApiError> {
    rotate(&app, &access, mine(&access)?, id).await
}

/// Lists the applications of a workspace.
#[utoipa::path(get, path = "/api/v1/workspaces/{workspace}/oauth/applications", tag = "oauth",
    summary = "Lists the applications of a workspace", security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of the workspace", example = 1), Which),
    responses((status = 200, body = Page<Application>), (status = 400), (status = 401), (status = 403),
        (status = 404)))]
pub(super) async fn list_of_workspace(
    State(app): State<App>,
    access: Access,
    Asked(asked): Asked<Which>,
) -> Result<Page<Application>, ApiError> {
    list_all(&app, ours(&access)?, asked).await
}

/// Registers an application of a workspace, which all its admins manage. Its secret is shown this once.
#[utoipa::path(post, path = "/api/v1/workspaces/{workspace}/oauth/applications", tag = "oauth",
    summary = "Registers an application of a workspace", request_body = ApplicationBody,
    security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of the workspace", example = 1)),
    responses((status = 201, body = Data<NewApplication>,
            headers(("Location" = String, description = "The path of the application"))),
        (status = 401), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(super) async fn create_of_workspace(
    State(app): State<App>,
    access: Access,
    Json(body): Json<ApplicationBody>,
) -> Result<Response, ApiError> {
    register(&app, &access, ours(&access)?, body.application).await
}

/// Shows an application of a workspace.
#[utoipa::path(get, path = "/api/v1/workspaces/{workspace}/oauth/applications/{application}",
    tag = "oauth", summary = "Shows an application of a workspace", security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of the workspace", example = 1),
        ("application" = i64, Path, description = "The id of the application", example = 1)),
    responses((status = 200, body = Data<Application>,
            headers(("ETag" = String, description = "For If-Match"))),
        (status = 401), (status = 403), (status = 404)))]
pub(super) async fn show_of_workspace(
    State(app): State<App>,
    access: Access,
    Ids(_, id): Ids,
) -> Result<Tagged<Application>, ApiError> {
    show_one(&app, ours(&access)?, id).await
}

/// Changes an application of a workspace: all of it is replaced.
#[utoipa::path(put, path = "/api/v1/workspaces/{workspace}/oauth/applications/{application}",
    tag = "oauth", summary = "Changes an application of a workspace",
    request_body = ApplicationBody, security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of the workspace", example = 1),
        ("application" = i64, Path, description = "The id of the application", example = 1),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is to be changed")),
    responses((status = 200, body = Data<Application>,
            headers(("ETag" = String, description = "For If-Match"))),
        (status = 401), (status = 403), (status = 404), (status = 412), (status = 422)))]
pub(super) async fn update_of_workspace(
    State(app): State<App>,
    access: Access,
    Ids(_, id): Ids,
    if_match: IfMatch,
    Json(body): Json<ApplicationBody>,
) -> Result<Tagged<Application>, ApiError> {
    change(&app, &access, ours(&access)?, id, if_match, body.application).await
}

/// Deletes an application of a workspace, and with it all that users have let it do.
#[utoipa::path(delete, path = "/api/v1/workspaces/{workspace}/oauth/applications/{application}",
    tag = "oauth", summary = "Deletes an application of a workspace", security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of the workspace", example = 1),
        ("application" = i64, Path, description = "The id of the application", example = 1),
        ("If-Match" = Option<String>, Header, description = "The ETag of what is to be deleted")),
    responses((status = 204), (status = 401), (status = 403), (status = 404), (status = 412)))]
pub(super) async fn delete_of_workspace(
    State(app): State<App>,
    access: Access,
    Ids(_, id): Ids,
    if_match: IfMatch,
) -> Result<Response, ApiError> {
    remove(&app, &access, ours(&access)?, id, if_match).await
}

/// Gives an application of a workspace another secret, which is shown this once. The one before is void.
#[utoipa::path(post, path = "/api/v1/workspaces/{workspace}/oauth/applications/{application}/secret",
    tag = "oauth", summary = "Gives an application of a workspace another secret",
    security(("token" = [])),
    params(("workspace" = i64, Path, description = "The id of the workspace", example = 1),
        ("application" = i64, Path, description = "The id of the application", example = 1)),
    responses((status = 200, body = Data<NewApplication>), (status = 401), (status = 403),
        (status = 404), (status = 409)))]
pub(super) async fn rotate_secret_of_workspace(
    State(app): State<App>,
    access: Access,
    Ids(_, id): Ids,
) -> Result<Response, ApiError> {
    rotate(&app, &access, ours(&access)?, id).await
}
