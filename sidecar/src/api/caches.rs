//! `/api/v1/caches`: the caches of the proxy, their connections, and the queries they have seen.
//!
//! A cache is of the configuration file, which only a reload changes, or of a workspace, and made over REST: `list` shows
//! both, `change` and `settings` are about the second.

pub(super) mod change;
pub(super) mod list;
pub(super) mod settings;
mod view;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::{Path, State};
use integratedb_template::Access;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::caching::KeptView;
use super::error::ApiError;
use super::extract::Authenticated;
use super::page::{Asked, Names, limit};
use crate::cache::Engine;
use crate::proxy::CacheId;
use crate::proxy::cache::Cache;
use crate::proxy::observe::{Figures, Template};

/// A template and its figures since the process started.
#[derive(Serialize, ToSchema)]
pub(super) struct QueryView {
    /// The same in every process.
    id: String,
    /// The query with `?` in place of its constants.
    template: String,
    /// `dql`, `dml`, `ddl` or `other`.
    class: &'static str,
    /// The tables it names; null where it could not be parsed, or is not yet.
    tables: Option<Vec<TableView>>,
    calls: u64,
    errors: u64,
    /// Bytes of all answers.
    bytes: u64,
    /// Milliseconds from a query to the end of its answer.
    mean_ms: f64,
    /// Estimated from a histogram: at most the bound of the bucket above.
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    total_ms: f64,
    /// Seconds since 1970.
    last_seen: u64,
    /// What the cache makes of it; null where nothing is kept.
    cache: Option<KeptView>,
}

#[derive(Serialize, ToSchema)]
struct TableView {
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    name: String,
    /// `read` or `write`.
    access: &'static str,
}

/// Which queries, and in what order.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// What to sort by, the greatest first; or `id`, for all of them page by page.
    #[serde(default)]
    #[param(inline)]
    sort: Sort,
    /// Only this class: `dql`, `dml`, `ddl` or `other`.
    #[param(inline)]
    class: Option<ClassName>,
    /// Only templates that name this table, as `name` or `schema.name`.
    table: Option<String>,
    /// Only templates that contain this text, in any case.
    text: Option<String>,
    /// Only templates run at least so often.
    #[serde(default)]
    min_calls: u64,
    /// Those after the one with this id. Only with `sort=id`: figures move, and with them whoever is next.
    after: Option<String>,
    /// At most so many: 1 to 1000, 100 unless told.
    limit: Option<i64>,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Sort {
    #[default]
    Total,
    Calls,
    Errors,
    Bytes,
    Mean,
    P95,
    Max,
    LastSeen,
    /// What the cache has answered.
    Hits,
    /// What it has saved the origin.
    Saved,
    /// The id, the least first.
    Id,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ClassName {
    Dql,
    Dml,
    Ddl,
    Other,
}

impl ClassName {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Dql => "dql",
            Self::Dml => "dml",
            Self::Ddl => "ddl",
            Self::Other => "other",
        }
    }
}

pub(super) fn find(app: &App, id: &str) -> Result<Arc<Cache>, ApiError> {
    let id = CacheId::try_from(id.to_owned()).map_err(|_| ApiError::NotFound)?;
    let proxy = app.proxy().ok_or(ApiError::NotFound)?;
    proxy.cache(&id).ok_or_else(|| match proxy.error(&id) {
        Some(error) => ApiError::Conflict(format!("The cache serves nobody: {error}.")),
        None => ApiError::NotFound,
    })
}

/// The queries that passed through a cache, by template.
#[utoipa::path(get, path = "/api/v1/caches/{id}/queries", tag = "caches",
    params(("id" = String, Path), Filter),
    responses((status = 200, body = Names<QueryView>), (status = 400), (status = 401), (status = 404), (status = 422)))]
pub(super) async fn queries(
    _: Authenticated,
    State(app): State<App>,
    Path(id): Path<String>,
    Asked(filter): Asked<Filter>,
) -> Result<Names<QueryView>, ApiError> {
    let is_by_id = matches!(filter.sort, Sort::Id);
    if filter.after.is_some() && !is_by_id {
        let why = "goes with sort=id: figures move, and with them whoever is next";
        return Err(ApiError::field("after", why));
    }
    let cache = find(&app, &id)?;
    let templates = cache.queries().all();
    let engine = cache.following().map(|following| &**following.engine());
    let mut views: Vec<QueryView> = templates
        .iter()
        .map(|template| QueryView::of(template, engine))
        .filter(|view| filter.takes(view))
        .collect();
    views.sort_by(|a, b| {
        filter.sort.of(b).total_cmp(&filter.sort.of(a)).then_with(|| a.id.cmp(&b.id))
    });
    let limit = limit(filter.limit);
    views.truncate(usize::try_from(limit).unwrap_or_default());
    Ok(if is_by_id { Names::new(views, limit, |view| view.id.clone()) } else { Names::only(views) })
}

impl Filter {
    fn takes(&self, view: &QueryView) -> bool {
        let has_table = |wanted: &str| {
            let (schema, name) =
                wanted.split_once('.').map_or((None, wanted), |(s, n)| (Some(s), n));
            view.tables.iter().flatten().any(|table| {
                table.name == name && (schema.is_none() || table.schema.as_deref() == schema)
            })
        };
        view.calls >= self.min_calls
            && self.after.as_ref().is_none_or(|after| view.id > *after)
            && self.class.is_none_or(|class| view.class == class.as_str())
            && self.table.as_deref().is_none_or(has_table)
            && self
                .text
                .as_deref()
                .is_none_or(|text| view.template.to_lowercase().contains(&text.to_lowercase()))
    }
}

impl Sort {
    fn of(self, view: &QueryView) -> f64 {
        match self {
            Self::Total => view.total_ms,
            Self::Calls => view.calls as f64,
            Self::Errors => view.errors as f64,
            Self::Bytes => view.bytes as f64,
            Self::Mean => view.mean_ms,
            Self::P95 => view.p95_ms,
            Self::Max => view.max_ms,
            Self::LastSeen => view.last_seen as f64,
            Self::Hits => view.cache.as_ref().map_or(0.0, |cache| cache.hits as f64),
            Self::Saved => view.cache.as_ref().map_or(0.0, |cache| cache.saved_ms),
            // All alike, so that ids decide.
            Self::Id => 0.0,
        }
    }
}

impl QueryView {
    fn of(template: &Template, engine: Option<&Engine>) -> Self {
        let Figures { calls, errors, bytes, micros, most_micros, .. } = &template.figures;
        let millis = |micros: u64| micros as f64 / 1000.0;
        let (calls, total) = (calls.load(Relaxed), millis(micros.load(Relaxed)));
        let quantile = |part| millis(template.figures.quantile(part));
        let tables = template.analysis().filter(|analysis| analysis.parsed).map(|analysis| {
            let tables = analysis.tables.iter().map(|table| TableView {
                schema: table.schema.clone(),
                name: table.name.clone(),
                access: match table.access {
                    Access::Read => "read",
                    Access::Write => "write",
                },
            });
            tables.collect()
        });
        Self {
            id: format!("{:016x}", template.id),
            template: template.text.to_string(),
            class: template.class().as_str(),
            tables,
            calls,
            errors: errors.load(Relaxed),
            bytes: bytes.load(Relaxed),
            mean_ms: if calls == 0 { 0.0 } else { total / calls as f64 },
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            max_ms: millis(most_micros.load(Relaxed)),
            total_ms: total,
            last_seen: template.last_seen(),
            cache: engine.map(|engine| KeptView::of(template, engine)),
        }
    }
}
