//! `/api/v1/caches/:id/settings`: what is set of a cache of a workspace.

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::change::{no_row, path, take};
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::tag::{IfMatch, Tagged};
use crate::audit::{self, Change};
use crate::workspaces::caches::{Row, Settings, store};

/// `{"settings": {…}}`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SettingsBody {
    settings: Settings,
}

/// Those of a row. Where they can't be read, which the cache tells as its error, nothing is set.
fn settings(row: &Row) -> Settings {
    row.settings().unwrap_or_default()
}

/// What the tag of settings is of: also of the passwords, which are not shown, and of the host that they are for.
#[derive(Serialize)]
struct Settable<'a> {
    settings: Settings,
    hostname: &'a str,
    port: u16,
    sealed: Option<&'a [u8]>,
}

impl<'a> Settable<'a> {
    fn of(row: &'a Row) -> Self {
        let settings = settings(row);
        Self { settings, hostname: &row.hostname, port: row.port, sealed: row.sealed() }
    }
}

fn tagged(row: &Row) -> Tagged<Settings> {
    Tagged::with(settings(row), &Settable::of(row))
}

/// Shows all settings, without passwords.
#[utoipa::path(get, path = "/api/v1/caches/{id}/settings", tag = "caches", security(("token" = [])),
    params(("id" = String, Path, description = "The cache's id.", example = "cache-6f1d0c2b9a8e4f37b5d0a1c2e3f40516")),
    responses((status = 200, body = Data<Settings>,
            headers(("ETag" = String, description = "For `If-Match`."))),
        (status = 401), (status = 403), (status = 404), (status = 409)))]
pub(in crate::api) async fn show(
    State(app): State<App>,
    _: Access,
    Path(id): Path<String>,
) -> Result<Tagged<Settings>, ApiError> {
    let row = store::find(&**app.client().await?, &id).await?;
    Ok(tagged(&row.ok_or_else(|| no_row(&app, &id))?))
}

/// Replaces all settings: what is left out gets its default. Only a password that is left out stays, if it is for the
/// same user, database, query, hostname, port and sslmode.
#[utoipa::path(put, path = "/api/v1/caches/{id}/settings", tag = "caches", request_body = SettingsBody,
    params(("id" = String, Path, description = "The cache's id.", example = "cache-6f1d0c2b9a8e4f37b5d0a1c2e3f40516"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of what is to be changed.")),
    security(("token" = [])),
    responses((status = 200, body = Data<Settings>,
            headers(("ETag" = String, description = "For `If-Match`."))),
        (status = 401), (status = 403), (status = 404), (status = 409), (status = 412), (status = 422)))]
pub(in crate::api) async fn put(
    State(app): State<App>,
    access: Access,
    Path(id): Path<String>,
    if_match: IfMatch,
    Json(body): Json<SettingsBody>,
) -> Result<Tagged<Settings>, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let before = store::lock(&*transaction, &id).await?.ok_or_else(|| no_row(&app, &id))?;
    if_match.check(Some(&Settable::of(&before)))?;
    let after = app.caches().configured(&before, body.settings).map_err(ApiError::Fields)?;
    let after = store::update(&*transaction, &after).await?;
    let change = Change {
        action: "cache.settings",
        subject: &format!("{}/settings", path(&id)),
        workspace: access.workspace(),
        before: Change::view(&settings(&before)),
        after: Change::view(&settings(&after)),
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    drop(client);
    take(&app, &id).await;
    Ok(tagged(&after))
}
