//! `/api/v1/sync/tenants`: whose models are kept in step, and the classes that they have beside those of Zync.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::record;
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::{Authenticated, Id};
use crate::api::page::{Asked, Page, limit};
use crate::api::tag::{IfMatch, Tagged};
use crate::db::{DbError, Patience};
use crate::sync::status::{self, Tenant, TenantStatus};
use crate::sync::{SyncError, TenantId, tenants};

/// Which tenants.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those after the one with this id. Ids of stakeholders' tenants are negative.
    after: Option<i64>,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
}

/// All tenants, those of stakeholders too, by their ids.
#[utoipa::path(get, path = "/api/v1/sync/tenants", tag = "sync", params(Which), security(("token" = [])),
    responses((status = 200, body = Page<Tenant>), (status = 400)))]
pub(super) async fn list_tenants(
    State(app): State<App>,
    _: Authenticated,
    Asked(which): Asked<Which>,
) -> Result<Page<Tenant>, ApiError> {
    let limit = limit(which.limit);
    let data = status::tenants(&*app.client().await?, which.after, limit).await?;
    Ok(Page::new(data, limit, |tenant| tenant.id))
}

/// A tenant with its counts.
#[utoipa::path(get, path = "/api/v1/sync/tenants/{id}", tag = "sync", params(("id" = i64, Path)),
    security(("token" = [])),
    responses((status = 200, body = Data<TenantStatus>, headers(("ETag" = String))), (status = 404)))]
pub(super) async fn show_tenant(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Tagged<TenantStatus>, ApiError> {
    let found = status::tenant(&*app.client().await?, TenantId(id)).await?;
    let found = found.ok_or(ApiError::NotFound)?;
    let tenant = found.tenant.clone();
    Ok(Tagged::of(found, &tenant))
}

/// Forgets a tenant with its models, entries and integrations. Nothing is deleted at the targets, and what is under way
/// changes nothing any more when it comes back.
#[utoipa::path(delete, path = "/api/v1/sync/tenants/{id}", tag = "sync", params(("id" = i64, Path)),
    security(("token" = [])), responses((status = 204), (status = 404), (status = 412)))]
pub(super) async fn delete_tenant(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Id(id): Id,
) -> Result<StatusCode, ApiError> {
    let mut client = app.client().await?;
    let mut patience = Patience::new();
    loop {
        let transaction = client.transaction().await?;
        let before = match tenants::begin_removal(&transaction, TenantId(id)).await {
            Ok(before) => before.ok_or(ApiError::NotFound)?,
            Err(SyncError::Database(DbError::Busy)) if patience.again().await => continue,
            Err(error) => return Err(error.into()),
        };
        if_match.check(Some(&before))?;
        match tenants::remove(&transaction, TenantId(id)).await {
            Ok(()) => {}
            // What is under way for it was in the way.
            Err(SyncError::Database(DbError::Busy)) if patience.again().await => continue,
            Err(error) => return Err(error.into()),
        }
        let subject = format!("/api/v1/sync/tenants/{id}");
        record(&transaction, &access, "tenant.delete", &subject, Some(&before), None).await?;
        transaction.commit().await?;
        return Ok(StatusCode::NO_CONTENT);
    }
}
