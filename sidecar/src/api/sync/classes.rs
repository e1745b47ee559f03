//! `/api/v1/sync/tenants/{id}/classes`: the classes that a tenant has beside those of Zync.

use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::record;
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::{Authenticated, Id, Json, number};
use crate::api::page::{Asked, Names, limit_of_short};
use crate::api::tag::{IfMatch, Tagged};
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

/// Which of what has names.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those after the one with this name.
    pub(super) after: Option<String>,
    /// At most so many: 1 to 1000, 1000 unless told.
    pub(super) limit: Option<i64>,
}

/// The classes that a tenant has defined itself, by their names.
#[utoipa::path(get, path = "/api/v1/sync/tenants/{id}/classes", tag = "sync", params(("id" = i64, Path), Which),
    security(("token" = [])), responses((status = 200, body = Names<TenantClass>), (status = 400), (status = 404)))]
pub(super) async fn list_classes(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
    Asked(which): Asked<Which>,
) -> Result<Names<TenantClass>, ApiError> {
    let client = app.client().await?;
    let sql = "SELECT FROM integratedb.sync_tenant WHERE id = $1";
    client.query_opt(sql, &[&id]).await?.ok_or(ApiError::NotFound)?;
    let limit = limit_of_short(which.limit);
    let found = tenants::classes(&client, TenantId(id), which.after.as_deref(), limit).await?;
    Ok(Names::new(found, limit, |class| class.name.clone()))
}

/// A class that a tenant has defined itself.
#[utoipa::path(get, path = "/api/v1/sync/tenants/{id}/classes/{name}", tag = "sync",
    params(("id" = i64, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<TenantClass>, headers(("ETag" = String))), (status = 304), (status = 404)))]
pub(super) async fn show_class(
    State(app): State<App>,
    _: Authenticated,
    Named(id, name): Named,
) -> Result<Tagged<TenantClass>, ApiError> {
    let found = tenants::class(&*app.client().await?, TenantId(id), &name).await?;
    Ok(Tagged::new(found.ok_or(ApiError::NotFound)?))
}

/// Defines a class of a tenant. One of Zync's with the same name counts no more for this tenant.
#[utoipa::path(put, path = "/api/v1/sync/tenants/{id}/classes/{name}", tag = "sync", request_body = ClassBody,
    params(("id" = i64, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<TenantClass>, headers(("ETag" = String))),
        (status = 201, body = Data<TenantClass>, headers(("ETag" = String))), (status = 404), (status = 412),
        (status = 422)))]
pub(super) async fn put_class(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
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
    let tenant = TenantId(id);
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    if !tenants::hold_classes(&transaction, tenant).await? {
        return Err(ApiError::NotFound);
    }
    let before = tenants::class(transaction.client(), tenant, &name).await?;
    if_match.check(before.as_ref())?;
    let is_changed = tenants::put_class(&transaction, tenant, &name, &body.class).await?;
    let after = tenants::class(transaction.client(), tenant, &name).await?;
    if is_changed {
        let subject = path(id, &name);
        record(&transaction, &access, "class.put", &subject, before.as_ref(), after.as_ref())
            .await?;
    }
    transaction.commit().await?;
    app.sync().wake.notify_one();
    let status = if before.is_none() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Tagged::new(after.ok_or(ApiError::NotFound)?)).into_response())
}

fn path(id: i64, name: &str) -> String {
    format!("/api/v1/sync/tenants/{id}/classes/{}", super::segment(name))
}

/// Forgets a class. Models that are of it stay as they are.
#[utoipa::path(delete, path = "/api/v1/sync/tenants/{id}/classes/{name}", tag = "sync",
    params(("id" = i64, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 204), (status = 404), (status = 412)))]
pub(super) async fn delete_class(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Named(id, name): Named,
) -> Result<StatusCode, ApiError> {
    let tenant = TenantId(id);
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    tenants::hold_classes(&transaction, tenant).await?;
    let before = tenants::class(transaction.client(), tenant, &name).await?;
    let before = before.ok_or(ApiError::NotFound)?;
    if_match.check(Some(&before))?;
    tenants::remove_class(&transaction, tenant, &name).await?;
    record(&transaction, &access, "class.delete", &path(id, &name), Some(&before), None).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
