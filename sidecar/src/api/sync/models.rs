//! `…/models`: how the models of a tenant are at their source and at each integration.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::whose::{Model, Whose};
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::Authenticated;
use crate::api::page::{Asked, Latest, Page, limit};
use crate::api::tag::Tagged;
use crate::sync::status::{self, Entry, ModelState, ModelStatus, ModelSummary, ModelsFilter};
use crate::sync::{IntegrationId, ModelId, Named, Notified, accept};

/// Which models.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those of this class.
    class: Option<String>,
    /// Those that are so: `failing`, `waiting`, `done` or `gone`.
    state: Option<ModelState>,
    /// Those that this integration knows of; their state is that at this integration.
    integration: Option<i64>,
    /// Those after the one with this id.
    after: Option<i64>,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
}

/// Which entries.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Before {
    /// Those before the one with this id.
    before: Option<i64>,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
}

/// Models of a tenant, by their ids.
#[utoipa::path(get, path = "/models", tag = "sync", params(("id" = i64, Path), Which), security(("token" = [])),
    responses((status = 200, body = Page<ModelSummary>), (status = 400), (status = 404)))]
pub(super) async fn list_models(
    State(app): State<App>,
    _: Authenticated,
    whose: Whose,
    Asked(which): Asked<Which>,
) -> Result<Page<ModelSummary>, ApiError> {
    let Some(tenant) = whose.tenant() else {
        return Ok(Page { data: Vec::new(), next: None });
    };
    let filter = ModelsFilter {
        class: which.class,
        state: which.state,
        integration: which.integration.map(IntegrationId),
    };
    let client = app.client().await?;
    let found = status::models(&client, tenant, &filter, which.after, limit(which.limit)).await?;
    Ok(Page { data: found.models, next: found.next })
}

/// A model: how it is fetched, and at each integration when it last went well, what is wrong, when it is tried again, and
/// what it waits for.
#[utoipa::path(get, path = "/models/{model}", tag = "sync", params(("id" = i64, Path), ("model" = i64, Path)),
    security(("token" = [])), responses((status = 200, body = Data<ModelStatus>, headers(("ETag" = String))),
        (status = 304), (status = 404)))]
pub(super) async fn show_model(
    State(app): State<App>,
    _: Authenticated,
    whose: Whose,
    Model(id): Model,
) -> Result<Tagged<ModelStatus>, ApiError> {
    let client = app.client().await?;
    let found = status::model(&client, whose.found()?, ModelId(id)).await?;
    Ok(Tagged::new(found.ok_or(ApiError::NotFound)?))
}

/// What was fetched of a model, the latest first. What an API has said is encrypted and not shown.
#[utoipa::path(get, path = "/models/{model}/entries", tag = "sync",
    params(("id" = i64, Path), ("model" = i64, Path), Before), security(("token" = [])),
    responses((status = 200, body = Latest<Entry>), (status = 400), (status = 404)))]
pub(super) async fn list_entries(
    State(app): State<App>,
    _: Authenticated,
    whose: Whose,
    Model(id): Model,
    Asked(which): Asked<Before>,
) -> Result<Latest<Entry>, ApiError> {
    let client = app.client().await?;
    let (tenant, limit) = (whose.found()?, limit(which.limit));
    let found = status::entries(&client, tenant, ModelId(id), which.before, limit).await?;
    Ok(Latest::new(found.ok_or(ApiError::NotFound)?, limit, |entry| entry.id))
}

/// Has a model fetched now, as a notification would. It is pushed to where its entry is not there yet.
#[utoipa::path(post, path = "/models/{model}/notify", tag = "sync",
    params(("id" = i64, Path), ("model" = i64, Path)), security(("token" = [])),
    responses((status = 202, description = "It will be fetched."), (status = 404)))]
pub(super) async fn notify_model(
    State(app): State<App>,
    _: Authenticated,
    whose: Whose,
    Model(id): Model,
) -> Result<Response, ApiError> {
    let tenant = whose.found()?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let sql = "SELECT r.class, r.key FROM integratedb.sync_model m
               JOIN integratedb.sync_record r ON r.id = m.record_id WHERE m.id = $1 AND m.tenant_id = $2";
    let row = transaction.query_opt(sql, &[&id, &tenant.0]).await?.ok_or(ApiError::NotFound)?;
    let model = Named { class: row.get(0), key: row.get(1) };
    accept(&transaction, &[Notified { tenant, model, parent: None, data: None }]).await?;
    transaction.commit().await?;
    app.sync().wake.notify_one();
    Ok(StatusCode::ACCEPTED.into_response())
}
