//! `/api/v1/oauth/authorizations`: what a user has let applications do.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::access::Access;
use crate::api::app::App;
use crate::api::error::ApiError;
use crate::api::extract::Id;
use crate::api::page::{Asked, Page, limit};
use crate::oauth::{self, Authorization};

/// Which authorizations.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those of the application with this id.
    #[param(example = 1)]
    application: Option<i64>,
    /// Only those after this one; `next` of the page before.
    #[param(example = 0)]
    after: Option<i64>,
    /// At most so many: 100 unless told, 1000 at most.
    #[param(example = 100)]
    limit: Option<i64>,
}

/// Which authorizations to take back.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// Only those of the application with this id, in whatever workspaces.
    #[param(example = 1)]
    application: Option<i64>,
}

/// Lists what the user has let applications do.
#[utoipa::path(get, path = "/api/v1/oauth/authorizations", tag = "oauth", params(Which),
    summary = "Lists what the user has let applications do", security(("token" = [])),
    responses((status = 200, body = Page<Authorization>), (status = 400), (status = 401), (status = 403)))]
pub(super) async fn list(
    State(app): State<App>,
    access: Access,
    Asked(asked): Asked<Which>,
) -> Result<Page<Authorization>, ApiError> {
    let (user, limit) = (access.principal()?.user, limit(asked.limit));
    let after = asked.after.unwrap_or_default();
    let client = app.client().await?;
    let data = oauth::list(&**client, user, asked.application, after, limit).await?;
    Ok(Page::new(data, limit, |authorization| authorization.id))
}

/// Takes back all that the user has let applications do. Their tokens are void at once.
#[utoipa::path(delete, path = "/api/v1/oauth/authorizations", tag = "oauth", params(Whose),
    summary = "Takes back what the user has let applications do", security(("token" = [])),
    responses((status = 204), (status = 400), (status = 401), (status = 403)))]
pub(super) async fn revoke_all(
    State(app): State<App>,
    access: Access,
    Asked(asked): Asked<Whose>,
) -> Result<Response, ApiError> {
    take_back(&app, &access, None, asked.application).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Takes back what the user has let an application do in a workspace. Its tokens are void at once.
#[utoipa::path(delete, path = "/api/v1/oauth/authorizations/{authorization}", tag = "oauth",
    summary = "Takes one authorization back", security(("token" = [])),
    params(("authorization" = i64, Path, description = "The id of the authorization", example = 1)),
    responses((status = 204), (status = 401), (status = 403), (status = 404)))]
pub(super) async fn revoke(
    State(app): State<App>,
    access: Access,
    Id(id): Id,
) -> Result<Response, ApiError> {
    match take_back(&app, &access, Some(id), None).await? {
        0 => Err(ApiError::NotFound),
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

async fn take_back(
    app: &App,
    access: &Access,
    one: Option<i64>,
    application: Option<i64>,
) -> Result<usize, ApiError> {
    let user = access.principal()?.user;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let count = oauth::revoke(&*transaction, &access.actor(), user, one, application).await?;
    transaction.commit().await?;
    Ok(count)
}
