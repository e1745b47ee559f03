//! `/api/v1/sync/tenants/{id}/classes`: the classes that a tenant has beside those of Zync.

use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::{Authenticated, Id, Json, number};
use crate::sync::TenantId;
use crate::sync::source::classes;
use crate::sync::tenants::{self, TenantClass};

/// A number and the name of a class that belongs to it, from the path.
pub(super) struct Named(pub(super) i64, pub(super) String);

impl FromRequestParts<App> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path: Result<Path<(String, String)>, _> = Path::from_request_parts(parts, app).await;
        // Nothing has a name that no text of the database can have.
        let named = path.ok().filter(|Path((_, name))| !name.contains('\0'));
        let Path((id, name)) = named.ok_or(ApiError::NotFound)?;
        Ok(Self(number(&id).ok_or(ApiError::NotFound)?, name))
    }
}

/// `{"class": {…}}`
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"class": {"key": "id", "parent": {"class": "Service", "field": "service_id"},
        "path": "/admin/api/services/{service_id}/plans/{id}.json", "member": "plan"}}))]
pub(super) struct ClassBody {
    /// `key`, the field of a notification that tells its models apart, or a list of fields; `parent` with its `class` and
    /// the `field` that is its key; further `fields`; `path`, `query` and the `member` of the answer, for GET at the
    /// tenant's API.
    #[schema(value_type = Object)]
    #[serde(default)]
    class: Value,
}

/// The classes that a tenant has defined itself, by their names.
#[utoipa::path(get, path = "/api/v1/sync/tenants/{id}/classes", tag = "sync", params(("id" = i64, Path)),
    security(("token" = [])), responses((status = 200, body = Data<Vec<TenantClass>>), (status = 404)))]
pub(super) async fn list_classes(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Data<Vec<TenantClass>>, ApiError> {
    let client = app.client().await?;
    let sql = "SELECT FROM integratedb.sync_tenant WHERE id = $1";
    client.query_opt(sql, &[&id]).await?.ok_or(ApiError::NotFound)?;
    Ok(Data { data: tenants::classes(&client, TenantId(id), None).await? })
}

async fn one(
    client: &tokio_postgres::Client,
    id: i64,
    name: &str,
) -> Result<TenantClass, ApiError> {
    let found = tenants::classes(client, TenantId(id), Some(name)).await?;
    found.into_iter().next().ok_or(ApiError::NotFound)
}

/// A class that a tenant has defined itself.
#[utoipa::path(get, path = "/api/v1/sync/tenants/{id}/classes/{name}", tag = "sync",
    params(("id" = i64, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<TenantClass>), (status = 404)))]
pub(super) async fn show_class(
    State(app): State<App>,
    _: Authenticated,
    Named(id, name): Named,
) -> Result<Data<TenantClass>, ApiError> {
    Ok(Data { data: one(&*app.client().await?, id, &name).await? })
}

/// Defines a class of a tenant. One of Zync's with the same name counts no more for this tenant.
#[utoipa::path(put, path = "/api/v1/sync/tenants/{id}/classes/{name}", tag = "sync", request_body = ClassBody,
    params(("id" = i64, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<TenantClass>), (status = 201, body = Data<TenantClass>), (status = 404),
        (status = 422)))]
pub(super) async fn put_class(
    State(app): State<App>,
    _: Authenticated,
    Named(id, name): Named,
    Json(body): Json<ClassBody>,
) -> Result<Response, ApiError> {
    let wrong = |mistakes: Vec<(String, String)>| {
        let below = |(message, pointer)| (message, format!("#/class{pointer}"));
        let mistakes: Vec<(String, String)> = mistakes.into_iter().map(below).collect();
        ApiError::Unprocessable(json!({ "detail": mistakes }))
    };
    if super::has_zero(&body.class) {
        let what = "there is a text with the character 0".to_owned();
        return Err(wrong(vec![(what, String::new())]));
    }
    classes::define(&name, &body.class).map_err(wrong)?;
    let mut client = app.client().await?;
    let put = tenants::put_class(&mut client, TenantId(id), &name, &body.class).await?;
    let status = match put.ok_or(ApiError::NotFound)? {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    app.sync().wake.notify_one();
    Ok((status, Data { data: one(&client, id, &name).await? }).into_response())
}

/// Forgets a class. Models that are of it stay as they are.
#[utoipa::path(delete, path = "/api/v1/sync/tenants/{id}/classes/{name}", tag = "sync",
    params(("id" = i64, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 204), (status = 404)))]
pub(super) async fn delete_class(
    State(app): State<App>,
    _: Authenticated,
    Named(id, name): Named,
) -> Result<StatusCode, ApiError> {
    match tenants::remove_class(&*app.client().await?, TenantId(id), &name).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::NotFound),
    }
}
