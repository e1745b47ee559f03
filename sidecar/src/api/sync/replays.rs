//! `…/integrations/{integration}/replays`: a target compared with the log, and rebuilt from it.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::record;
use super::whose::{self, Whose};
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::{Authenticated, Json};
use crate::api::page::{Asked, Latest, Page, limit};
use crate::api::tag::Tagged;
use crate::fields::Fields;
use crate::sync::replay::{self, Difference, Replay};
use crate::sync::{IntegrationId, TenantId, integrations};

/// `{"replay": {"dry_run": true}}`
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"replay": {"dry_run": true}}))]
pub(super) struct SyncReplayBody {
    /// `dry_run`: true to have it said what would be done, and nothing changed.
    #[schema(value_type = Object)]
    #[serde(default)]
    replay: Value,
}

/// Which replays.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Before {
    /// Those before the one with this id.
    before: Option<i64>,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
}

/// Which differences.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those about which this would be done: `create`, `update` or `delete`; `unknown` if that can't be told.
    #[param(inline)]
    action: Option<Action>,
    /// Those of models after the one with this id.
    after: Option<i64>,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Create,
    Update,
    Delete,
    Unknown,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Unknown => "unknown",
        }
    }
}

/// The integration, if it is the tenant's.
async fn check(
    client: &tokio_postgres::Client,
    tenant: TenantId,
    id: i64,
) -> Result<IntegrationId, ApiError> {
    let id = IntegrationId(id);
    let found = integrations::show(client, tenant, id).await?;
    found.map(|_| id).ok_or(ApiError::NotFound)
}

/// Compares a target with the log, or rebuilds it: what it should have is pushed, what was there and is gone is deleted.
/// One at a time of an integration.
#[utoipa::path(post, path = "/integrations/{integration}/replays", tag = "sync", request_body = SyncReplayBody,
    params(("id" = i64, Path), ("integration" = i64, Path)), security(("token" = [])),
    responses((status = 201, body = Data<Replay>, headers(("Location" = String))), (status = 404), (status = 409),
        (status = 422)))]
pub(super) async fn create_replay(
    State(app): State<App>,
    access: Access,
    whose: Whose,
    whose::Integration(id): whose::Integration,
    Json(body): Json<SyncReplayBody>,
) -> Result<Response, ApiError> {
    let is_dry_run = read(&body.replay)?;
    let (tenant, mut client) = (whose.found()?, app.client().await?);
    let transaction = client.transaction().await?;
    let integration = check(transaction.client(), tenant, id).await?;
    let made = replay::create(transaction.client(), integration, is_dry_run).await?;
    let made = made.ok_or(ApiError::NotFound)?;
    let path = path(&whose, tenant, id, made.id);
    record(&transaction, &access, "replay.create", &path, None, Some(&made)).await?;
    transaction.commit().await?;
    app.sync().wake.notify_one();
    Ok((StatusCode::CREATED, [(header::LOCATION, path)], Data { data: made }).into_response())
}

fn path(whose: &Whose, tenant: TenantId, integration: i64, replay: i64) -> String {
    whose.path(tenant, &format!("integrations/{integration}/replays/{replay}"))
}

/// Whether it is to be a dry run. That has to be said: without, everything is pushed again.
fn read(asked: &Value) -> Result<bool, ApiError> {
    let mut wrong = Vec::new();
    let mut fields = Fields::of(asked, "", &mut wrong);
    let is_dry_run = match fields.take("dry_run") {
        Some(Value::Bool(is_dry_run)) => is_dry_run,
        _ => {
            fields.wrong("dry_run", "say true or false: true changes nothing at the target");
            true
        }
    };
    fields.end();
    if wrong.is_empty() {
        return Ok(is_dry_run);
    }
    let wrong: Vec<(String, String)> = wrong
        .into_iter()
        .map(|(message, pointer)| (message, format!("#/replay{pointer}")))
        .collect();
    Err(ApiError::Unprocessable(json!({ "detail": wrong })))
}

/// The replays of an integration, the latest first.
#[utoipa::path(get, path = "/integrations/{integration}/replays", tag = "sync",
    params(("id" = i64, Path), ("integration" = i64, Path), Before), security(("token" = [])),
    responses((status = 200, body = Latest<Replay>), (status = 400), (status = 404)))]
pub(super) async fn list_replays(
    State(app): State<App>,
    _: Authenticated,
    whose: Whose,
    whose::Integration(id): whose::Integration,
    Asked(which): Asked<Before>,
) -> Result<Latest<Replay>, ApiError> {
    let (tenant, client) = (whose.found()?, app.client().await?);
    let integration = check(&client, tenant, id).await?;
    let limit = limit(which.limit);
    let data = replay::list(&client, integration, which.before, limit).await?;
    Ok(Latest::new(data, limit, |replay| replay.id))
}

/// A replay, and how far it is.
#[utoipa::path(get, path = "/integrations/{integration}/replays/{replay}", tag = "sync",
    params(("id" = i64, Path), ("integration" = i64, Path), ("replay" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<Replay>, headers(("ETag" = String))), (status = 304), (status = 404)))]
pub(super) async fn show_replay(
    State(app): State<App>,
    _: Authenticated,
    whose: Whose,
    whose::Integration(id): whose::Integration,
    whose::Replay(replay): whose::Replay,
) -> Result<Tagged<Replay>, ApiError> {
    let (tenant, client) = (whose.found()?, app.client().await?);
    let integration = check(&client, tenant, id).await?;
    let found = replay::show(&client, integration, replay).await?;
    Ok(Tagged::new(found.ok_or(ApiError::NotFound)?))
}

/// What a dry run has found so far, by model.
#[utoipa::path(get, path = "/integrations/{integration}/replays/{replay}/differences", tag = "sync",
    params(("id" = i64, Path), ("integration" = i64, Path), ("replay" = i64, Path), Which), security(("token" = [])),
    responses((status = 200, body = Page<Difference>), (status = 400), (status = 404)))]
pub(super) async fn list_differences(
    State(app): State<App>,
    _: Authenticated,
    whose: Whose,
    whose::Integration(id): whose::Integration,
    whose::Replay(replay): whose::Replay,
    Asked(which): Asked<Which>,
) -> Result<Page<Difference>, ApiError> {
    let (tenant, client) = (whose.found()?, app.client().await?);
    let integration = check(&client, tenant, id).await?;
    let (action, limit) = (which.action.map(Action::as_str), limit(which.limit));
    let found =
        replay::differences(&client, integration, replay, action, which.after, limit).await?;
    let data = found.ok_or(ApiError::NotFound)?;
    Ok(Page::new(data, limit, |difference| difference.model_id))
}

/// Ends a replay. What it has made due so far is pushed all the same.
#[utoipa::path(post, path = "/integrations/{integration}/replays/{replay}/cancel", tag = "sync",
    params(("id" = i64, Path), ("integration" = i64, Path), ("replay" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<Replay>), (status = 404), (status = 409)))]
pub(super) async fn cancel_replay(
    State(app): State<App>,
    access: Access,
    whose: Whose,
    whose::Integration(id): whose::Integration,
    whose::Replay(replay): whose::Replay,
) -> Result<Data<Replay>, ApiError> {
    let (tenant, mut client) = (whose.found()?, app.client().await?);
    let transaction = client.transaction().await?;
    let integration = check(transaction.client(), tenant, id).await?;
    let before = replay::hold(&transaction, integration, replay).await?;
    let cancelled = replay::cancel(transaction.client(), integration, replay).await?;
    let cancelled = cancelled.ok_or(ApiError::NotFound)?;
    let path = path(&whose, tenant, id, replay);
    record(&transaction, &access, "replay.cancel", &path, before.as_ref(), Some(&cancelled))
        .await?;
    transaction.commit().await?;
    Ok(Data { data: cancelled })
}
