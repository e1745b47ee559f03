//! Showing caches.

use axum::extract::{Path, State};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::find;
use super::view::{CacheView, Settable};
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::page::{Asked, Page, limit};
use crate::api::tag::Tagged;
use crate::proxy::registry::Registry;
use crate::workspaces::caches::{Row, store};

/// Which caches.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Filter {
    /// Only those of this workspace.
    #[param(example = 1)]
    workspace: Option<i64>,
    /// Only those of this name.
    #[param(example = "shop")]
    name: Option<String>,
    /// Only those after this one: `next` of the page before.
    after: Option<i64>,
    /// At most so many, 100 unless told, 1000 at most.
    #[param(example = 100)]
    limit: Option<i64>,
}

/// Caches of the configuration file have places before all others in the list. So many of them can be told apart.
const OF_FILE: i64 = 1 << 30;

/// Lists the caches that the caller may see: those of the workspaces that a user is a member of, or of the one that an
/// application was let into; to operators also those of the configuration file.
#[utoipa::path(get, path = "/api/v1/caches", tag = "caches", params(Filter), security(("token" = [])),
    responses((status = 200, body = Page<CacheView>), (status = 400), (status = 401), (status = 403)))]
pub(in crate::api) async fn list(
    State(app): State<App>,
    access: Access,
    Asked(filter): Asked<Filter>,
) -> Result<Page<CacheView>, ApiError> {
    let principal = access.principal()?;
    if filter.name.as_deref().is_some_and(|name| name.contains('\0')) {
        return Err(ApiError::BadRequest("Bad Request: no name has a zero byte".to_owned()));
    }
    let most = limit(filter.limit);
    let mut after = filter.after.unwrap_or(i64::MIN);
    let mut data: Vec<(i64, CacheView)> = Vec::new();
    if principal.operator && filter.workspace.is_none() {
        let of_file = app.proxy().map(Registry::of_file).unwrap_or_default();
        let wanted = (-OF_FILE..)
            .zip(&of_file)
            .filter(|(number, _)| *number > after)
            .filter(|(_, cache)| filter.name.as_deref().is_none_or(|n| n == cache.id().as_str()));
        let size = usize::try_from(most).unwrap_or_default();
        data.extend(wanted.map(|(at, cache)| (at, CacheView::of_file(cache))).take(size));
    }
    let left = most - i64::try_from(data.len()).unwrap_or_default();
    after = after.max(0);
    let of_application = principal.application.as_ref().map(|application| application.workspace);
    if of_application.is_none() || filter.workspace.is_none() || filter.workspace == of_application
    {
        let wanted = store::Wanted {
            member: principal.user,
            workspace: of_application.or(filter.workspace),
            name: filter.name.as_deref(),
            after,
            limit: left,
        };
        let rows = store::list(&**app.client().await?, &wanted).await?;
        data.extend(rows.iter().map(|row| (row.number, CacheView::of_workspace(&app, row))));
    }
    let is_full = i64::try_from(data.len()).unwrap_or_default() == most;
    let next = data.last().filter(|_| is_full).map(|(number, _)| *number);
    Ok(Page { data: data.into_iter().map(|(_, view)| view).collect(), next })
}

/// Shows a cache.
#[utoipa::path(get, path = "/api/v1/caches/{id}", tag = "caches", security(("token" = [])),
    params(("id" = String, Path, description = "The cache's id.", example = "cache-6f1d0c2b9a8e4f37b5d0a1c2e3f40516")),
    responses((status = 200, body = Data<CacheView>,
            headers(("ETag" = String, description = "Of name, hostname and port, for `If-Match`."))),
        (status = 401), (status = 403), (status = 404)))]
pub(in crate::api) async fn show(
    State(app): State<App>,
    _: Access,
    Path(id): Path<String>,
) -> Result<Tagged<CacheView>, ApiError> {
    let row = store::find(&**app.client().await?, &id).await?;
    match row {
        Some(row) => Ok(tagged(&app, &row)),
        None => Ok(Tagged::of(CacheView::of_file(&*find(&app, &id)?), &())),
    }
}

/// A cache of a workspace, with the tag of what can be changed of it.
pub(super) fn tagged(app: &App, row: &Row) -> Tagged<CacheView> {
    Tagged::of(CacheView::of_workspace(app, row), &Settable::of(row))
}
