//! `/api/v1/stakeholders/:id/channels`: how deliveries go, and what to do about those that don't.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use deadpool_postgres::Transaction;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::access::Access;
use super::app::App;
use super::body::Data;
use super::error::ApiError;
use super::extract::{Authenticated, Id, Json};
use super::page::{Asked, Names, Page, limit, limit_of_short};
use super::tag::Tagged;
use crate::audit::{self, Change};
use crate::notify::channels::{
    self, ChannelState, ChannelStatus, ChannelsError, DeadLetter, Replay,
};

/// A stakeholder's id and the name of one of its channels, from the path.
pub(super) struct Named(i64, String);

impl FromRequestParts<App> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let path: Result<Path<(String, String)>, _> = Path::from_request_parts(parts, app).await;
        path.ok()
            .filter(|Path((id, _))| id.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|Path((id, name))| Some(Self(id.parse().ok()?, name)))
            .ok_or(ApiError::NotFound)
    }
}

/// A new secret, shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct NewSecret {
    /// `whsec_…`
    secret: String,
}

/// How a secret is rotated.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Rotation {
    /// Seconds for which the secrets before are used beside the new one; a day unless told.
    overlap_secs: Option<u32>,
}

/// Which channels.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Those that are so: `running`, `failing`, `disabled` or `paused`.
    #[param(inline)]
    state: Option<ChannelState>,
    /// Those after the one with this name.
    after: Option<String>,
    /// At most so many: 1 to 1000, 1000 unless told.
    limit: Option<i64>,
}

/// Which dead letters.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Letters {
    /// Those after the one with this number.
    #[serde(default)]
    after: i64,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
}

/// `{"data": {"ids": [7, 8]}}` or `{"data": {"all": true}}`
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"data": {"ids": [7, 8]}}))]
pub(super) struct ReplayBody {
    data: Which,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Which {
    /// The numbers of dead letters.
    #[serde(default)]
    ids: Vec<i64>,
    /// All of the channel's.
    #[serde(default)]
    all: bool,
}

/// How many are sent again.
#[derive(Serialize, ToSchema)]
pub(super) struct Replayed {
    replayed: u64,
}

fn bad(error: &QueryRejection) -> ApiError {
    ApiError::BadRequest(format!("Bad Request: {}", error.body_text()))
}

async fn known(client: &tokio_postgres::Client, id: i64) -> Result<(), ApiError> {
    let known = "SELECT FROM integratedb.stakeholder WHERE id = $1";
    client.query_opt(known, &[&id]).await?.map(drop).ok_or(ApiError::NotFound)
}

async fn one(app: &App, id: i64, name: &str) -> Result<Data<ChannelStatus>, ApiError> {
    let client = app.client().await?;
    known(&client, id).await?;
    let found = channels::list(&client, id).await?.into_iter().find(|channel| channel.name == name);
    Ok(Data { data: found.ok_or(ApiError::NotFound)? })
}

async fn record(
    tx: &Transaction<'_>,
    access: &Access,
    (id, name): (i64, &str),
    action: &'static str,
    (before, after): (Value, Value),
) -> Result<(), ApiError> {
    let subject = &format!("/api/v1/stakeholders/{id}/channels/{name}");
    let change = Change { action, subject, workspace: None, before, after };
    Ok(audit::record(&**tx, &access.actor(), change).await?)
}

async fn set_enabled(
    app: &App,
    access: &Access,
    id: i64,
    name: &str,
    is_enabled: bool,
) -> Result<Data<ChannelStatus>, ApiError> {
    let mut client = app.client().await?;
    let tx = client.transaction().await?;
    let before = channels::hold(&tx, id, name).await?;
    channels::set_enabled(&*tx, id, name, is_enabled).await?;
    let after = channels::hold(&tx, id, name).await?;
    let action = if is_enabled { "channel.enable" } else { "channel.disable" };
    let views = (Change::view(&before), Change::view(&after));
    record(&tx, access, (id, name), action, views).await?;
    tx.commit().await?;
    drop(client);
    one(app, id, name).await
}

/// The channels of a stakeholder with their figures.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/channels", tag = "notifications",
    params(("id" = i64, Path), Filter), security(("token" = [])),
    responses((status = 200, body = Names<ChannelStatus>), (status = 400), (status = 404)))]
pub(super) async fn list(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
    Asked(filter): Asked<Filter>,
) -> Result<Names<ChannelStatus>, ApiError> {
    let client = app.client().await?;
    known(&client, id).await?;
    let (limit, after) = (limit_of_short(filter.limit), filter.after.as_deref());
    let found = channels::page(&client, id, filter.state, after, Some(limit)).await?;
    Ok(Names::new(found, limit, |channel| channel.name.clone()))
}

/// One channel.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/channels/{name}", tag = "notifications",
    params(("id" = i64, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<ChannelStatus>, headers(("ETag" = String))), (status = 304), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Authenticated,
    Named(id, name): Named,
) -> Result<Tagged<ChannelStatus>, ApiError> {
    Ok(Tagged::new(one(&app, id, &name).await?.data))
}

/// Makes a new secret for a WEBHOOK channel. For a while requests are signed with those before as well.
#[utoipa::path(post, path = "/api/v1/stakeholders/{id}/channels/{name}/rotate-secret", tag = "notifications",
    params(("id" = i64, Path), ("name" = String, Path), Rotation), security(("token" = [])),
    responses((status = 200, body = Data<NewSecret>), (status = 400), (status = 404), (status = 422)))]
pub(super) async fn rotate_secret(
    State(app): State<App>,
    access: Access,
    Named(id, name): Named,
    rotation: Result<Query<Rotation>, QueryRejection>,
) -> Result<Data<NewSecret>, ApiError> {
    let Query(rotation) = rotation.map_err(|error| bad(&error))?;
    let overlap = Duration::from_secs(rotation.overlap_secs.unwrap_or(24 * 3600).into());
    let sealer = app.notifications().settings().sealer().map_err(ChannelsError::Key)?;
    let mut client = app.client().await?;
    let tx = client.transaction().await?;
    let secret = channels::rotate_secret(&*tx, &sealer, id, &name, overlap).await?;
    let after = json!({ "overlap_secs": overlap.as_secs() });
    record(&tx, &access, (id, &name), "channel.rotate_secret", (Value::Null, after)).await?;
    tx.commit().await?;
    Ok(Data { data: NewSecret { secret } })
}

/// Has a channel go on that was paused, or given up.
#[utoipa::path(post, path = "/api/v1/stakeholders/{id}/channels/{name}/enable", tag = "notifications",
    params(("id" = i64, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<ChannelStatus>), (status = 404)))]
pub(super) async fn enable(
    State(app): State<App>,
    access: Access,
    Named(id, name): Named,
) -> Result<Data<ChannelStatus>, ApiError> {
    set_enabled(&app, &access, id, &name, true).await
}

/// Pauses a channel. It goes on where it was, as far as the log still reaches then.
#[utoipa::path(post, path = "/api/v1/stakeholders/{id}/channels/{name}/disable", tag = "notifications",
    params(("id" = i64, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<ChannelStatus>), (status = 404)))]
pub(super) async fn disable(
    State(app): State<App>,
    access: Access,
    Named(id, name): Named,
) -> Result<Data<ChannelStatus>, ApiError> {
    set_enabled(&app, &access, id, &name, false).await
}

/// Events of a channel that were given up, the oldest first.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/channels/{name}/dead-letters", tag = "notifications",
    params(("id" = i64, Path), ("name" = String, Path), Letters), security(("token" = [])),
    responses((status = 200, body = Page<DeadLetter>), (status = 400), (status = 404)))]
pub(super) async fn dead_letters(
    State(app): State<App>,
    _: Authenticated,
    Named(id, name): Named,
    Asked(letters): Asked<Letters>,
) -> Result<Page<DeadLetter>, ApiError> {
    let limit = limit(letters.limit);
    let client = app.client().await?;
    let found = channels::dead_letters(&**client, id, &name, letters.after, limit).await?;
    Ok(Page::new(found, limit, |letter| letter.id))
}

/// Sends dead letters again.
#[utoipa::path(post, path = "/api/v1/stakeholders/{id}/channels/{name}/dead-letters/replay", tag = "notifications",
    request_body = ReplayBody, params(("id" = i64, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<Replayed>), (status = 404)))]
pub(super) async fn replay(
    State(app): State<App>,
    access: Access,
    Named(id, name): Named,
    Json(body): Json<ReplayBody>,
) -> Result<Data<Replayed>, ApiError> {
    let which = match body.data {
        Which { all: true, ids } if ids.is_empty() => Replay::All,
        Which { all: false, ids } if !ids.is_empty() => Replay::Ids(ids),
        _ => return Err(ApiError::field("ids", "give the numbers of dead letters, or all: true")),
    };
    let mut client = app.client().await?;
    let tx = client.transaction().await?;
    let replayed = channels::replay(&*tx, id, &name, &which).await?;
    let after = Change::view(&Replayed { replayed });
    record(&tx, &access, (id, &name), "channel.replay", (Value::Null, after)).await?;
    tx.commit().await?;
    Ok(Data { data: Replayed { replayed } })
}
