//! `/api/v1/caches/:id/caching` and what belongs to it: what a cache keeps of its origin's answers, why not, and what
//! people decide about it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;
use utoipa::ToSchema;

use super::access::Access;
use super::app::App;
use super::body::Data;
use super::caches::find;
use super::error::ApiError;
use super::extract::{Authenticated, Json};
use super::tag::{IfMatch, Tagged};
use crate::audit::{self, Change};
use crate::cache::{Consistency, DESCRIPTION, Decision, Engine, Mode, Plan, Rule, Rules};
use crate::db::{DbError, rules};
use crate::proxy::LOOKED_INTO;
use crate::proxy::observe::Template;
use crate::workspaces::caches::store;

/// What the cache makes of a template.
#[derive(Serialize, ToSchema)]
pub(super) struct KeptView {
    /// `kept`: until what it depends on changes. `aged`: for the time a rule gives. `passed`: not at all. `unknown`: no
    /// statement of it was described yet.
    state: &'static str,
    /// Why it is not kept, or why its last answer was not.
    why: Option<String>,
    /// What it depends on.
    tables: Vec<DependencyView>,
    /// Answers given from here.
    pub(super) hits: u64,
    /// Answers fetched to be kept.
    misses: u64,
    /// Those of them that were.
    stored: u64,
    /// Milliseconds that the origin did not have to work.
    pub(super) saved_ms: f64,
    /// The longest time to live, in milliseconds, at which an answer is expected to be stale for at most a hundredth
    /// of its time, by how often answers to the same question were seen to differ; null where none was asked twice.
    recommended_ttl_ms: Option<u64>,
}

/// A table that a template depends on.
#[derive(Serialize, ToSchema)]
struct DependencyView {
    table: String,
    /// `row`: a change drops only answers about the same values of these columns. `table`: any change drops all.
    invalidation: &'static str,
    columns: Vec<String>,
    /// Why any change drops all.
    why: Option<String>,
    /// `ok`, or why the origin's log does not tell of its changes.
    replication: Option<String>,
}

/// How a cache that keeps answers is.
#[derive(Serialize, ToSchema)]
pub(super) struct CachingView {
    mode: Mode,
    consistency: Consistency,
    /// Whether anything may be answered from here now; if not, why.
    serving: bool,
    why: Option<&'static str>,
    entries: usize,
    /// All that they take, in bytes.
    bytes: usize,
    /// Of them, the answers themselves.
    answer_bytes: usize,
    max_bytes: usize,
    /// What recent transactions take that are remembered for what is under way.
    journal_bytes: usize,
    hits: u64,
    misses: u64,
    /// Not answered because of a write that is on its way here.
    fenced: u64,
    /// Not answered, or later, because the session had seen more than had arrived here.
    behind: u64,
    /// Not answered because the reader was not up to date.
    off: u64,
    stored: u64,
    refused: std::collections::BTreeMap<&'static str, u64>,
    invalidated_by_row: u64,
    invalidated_by_table: u64,
    invalidated_by_schema: u64,
    evicted: u64,
    purged: u64,
    reader: Option<ReaderView>,
    disk: Option<DiskView>,
}

/// What is kept beyond a restart.
#[derive(Serialize, ToSchema)]
struct DiskView {
    /// Whether what is kept goes to the file. If not, the memory goes on alone.
    on: bool,
    /// Why not.
    why: Option<String>,
    entries: u64,
    /// What they take, in bytes.
    bytes: u64,
    /// What the file takes.
    file_bytes: u64,
    /// Entries that were brought back when the process began.
    restored: u64,
    /// Entries that found no room in the file.
    passed_over: u64,
    /// Entries whose answers are on disk only.
    only: usize,
    /// How long these answers are, in bytes.
    only_bytes: usize,
    /// Hits whose answers came from disk.
    hits: u64,
    /// How often an answer left memory to make room.
    spilled: u64,
    /// How often one came back to memory.
    promoted: u64,
    /// Entries dropped because their answer could not be read.
    lost: u64,
    /// Answers wanted from disk that did not come in time.
    late: u64,
    /// Answers wanted from disk that are not there yet.
    under_way: usize,
    /// Answers read.
    reads: u64,
    /// How long a read took from the question to the answer, on average and at most.
    mean_read_ms: f64,
    /// See `mean_read_ms`.
    longest_read_ms: f64,
    /// Up to where in the origin's log the file is complete.
    durable: String,
}

/// The reader of the origin's log.
#[derive(Serialize, ToSchema)]
struct ReaderView {
    /// `connecting`, `streaming` or `suspended`.
    state: &'static str,
    slot: String,
    applied: String,
    confirmed: String,
    lag_bytes: u64,
    lag_seconds: Option<f64>,
    reconnects: u64,
    /// How often transactions may have been missed, and all was dropped.
    lost: u64,
    wal_status: Option<String>,
    last_error: Option<String>,
}

impl KeptView {
    pub(super) fn of(template: &Template, engine: &Engine) -> Self {
        let cached = &template.cached;
        let plan = cached.plan();
        let (state, why) = match plan.as_deref().map(|plan| engine.decide(template, plan)) {
            None => ("unknown", None),
            Some(Decision::Keep(_)) => ("kept", cached.refusal().map(str::to_owned)),
            Some(Decision::Age(_)) => ("aged", cached.refusal().map(str::to_owned)),
            Some(Decision::No(why)) => ("passed", Some(why)),
        };
        Self {
            state,
            why,
            tables: plan.as_deref().map(dependencies).unwrap_or_default(),
            hits: cached.hits.load(Relaxed),
            misses: cached.misses.load(Relaxed),
            stored: cached.stored.load(Relaxed),
            saved_ms: cached.saved_micros.load(Relaxed) as f64 / 1000.0,
            recommended_ttl_ms: cached
                .recommended_ttl()
                .map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

fn dependencies(plan: &Plan) -> Vec<DependencyView> {
    let tables = plan.description.tables.iter().map(|table| DependencyView {
        table: format!("{}.{}", table.schema, table.name),
        invalidation: if table.pins.is_empty() { "table" } else { "row" },
        columns: table.pins.iter().map(|pin| pin.name.clone()).collect(),
        why: table.whole.clone(),
        replication: table.replication.clone(),
    });
    tables.collect()
}

fn engine(app: &App, id: &str) -> Result<Arc<Engine>, ApiError> {
    let cache = find(app, id)?;
    let following = cache.following().ok_or_else(|| {
        ApiError::Conflict("The cache keeps no answers: it has no section caching.".to_owned())
    })?;
    Ok(Arc::clone(following.engine()))
}

/// What a cache keeps, and how far it has followed its origin.
#[utoipa::path(get, path = "/api/v1/caches/{id}/caching", tag = "caches", params(("id" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = Data<CachingView>), (status = 404), (status = 409)))]
pub(super) async fn show(
    _: Authenticated,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Data<CachingView>, ApiError> {
    let engine = engine(&app, &id)?;
    let cache = find(&app, &id)?;
    let figures = engine.store().figures();
    let off = engine.store().off(std::time::Instant::now());
    let refused = integratedb_cache::Refusal::ALL.into_iter().filter_map(|why| {
        let count = figures.refused(why);
        (count > 0).then(|| (why.as_str(), count))
    });
    let reader =
        cache.following().and_then(|following| following.status()).map(|status| ReaderView {
            state: status.state.as_str(),
            slot: status.slot,
            applied: status.applied.to_string(),
            confirmed: status.confirmed.to_string(),
            lag_bytes: status.lag_bytes,
            lag_seconds: status.lag.map(|lag| lag.as_secs_f64()),
            reconnects: status.reconnects,
            lost: status.lost,
            wal_status: status.wal_status,
            last_error: status.last_error,
        });
    let disk = engine.disk().map(|disk| {
        let (kept, figures, reads) = (&figures, disk.figures(), disk.reads());
        DiskView {
            on: figures.off.is_none(),
            why: figures.off,
            entries: figures.entries,
            bytes: figures.bytes,
            file_bytes: figures.file_bytes,
            restored: figures.restored,
            passed_over: figures.passed_over,
            only: kept.on_disk,
            only_bytes: kept.disk_bytes,
            hits: kept.disk_hits,
            spilled: kept.spilled,
            promoted: kept.promoted,
            lost: kept.lost,
            late: figures.late,
            under_way: figures.under_way,
            reads: reads.calls.load(Relaxed),
            mean_read_ms: reads.mean(0).as_secs_f64() * 1000.0,
            longest_read_ms: reads.most_micros.load(Relaxed) as f64 / 1000.0,
            durable: figures.durable.to_string(),
        }
    });
    let settings = engine.settings();
    Ok(Data {
        data: CachingView {
            mode: engine.mode(),
            consistency: settings.consistency,
            serving: off.is_none(),
            why: off,
            entries: figures.entries,
            bytes: figures.bytes,
            answer_bytes: figures.answer_bytes,
            max_bytes: settings.max_bytes,
            journal_bytes: figures.journal_bytes,
            hits: figures.hits,
            misses: figures.misses,
            fenced: figures.fenced,
            behind: figures.behind,
            off: figures.off,
            stored: figures.stored,
            refused: refused.collect(),
            invalidated_by_row: figures.invalidated_by_row,
            invalidated_by_table: figures.invalidated_by_table,
            invalidated_by_schema: figures.invalidated_by_schema,
            evicted: figures.evicted,
            purged: figures.purged,
            reader,
            disk,
        },
    })
}

/// The rules of a cache.
#[derive(Serialize, ToSchema)]
pub(super) struct RulesView {
    /// What is kept without a rule.
    mode: Mode,
    rules: Vec<RuleView>,
}

/// A rule, and what it is about.
#[derive(Serialize, ToSchema)]
struct RuleView {
    /// `template` or `table`.
    kind: &'static str,
    /// A template's id, or a table as `schema.name`.
    name: String,
    rule: Rule,
}

/// All rules.
#[utoipa::path(get, path = "/api/v1/caches/{id}/rules", tag = "caches", params(("id" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = Data<RulesView>,
            headers(("ETag" = String, description = "Of all rules and the mode, for `If-Match`."))),
        (status = 404), (status = 409)))]
pub(super) async fn rules(
    _: Authenticated,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Tagged<RulesView>, ApiError> {
    let engine = engine(&app, &id)?;
    Ok(Tagged::new(RulesView::of(&engine, &engine.rules())))
}

impl RulesView {
    /// These rules, in a cache with the settings of this one.
    fn of(engine: &Engine, rules: &Rules) -> Self {
        let templates = rules.templates.iter().map(|(id, rule)| RuleView {
            kind: "template",
            name: format!("{id:016x}"),
            rule: rule.clone(),
        });
        let tables = rules.tables.iter().map(|(name, rule)| RuleView {
            kind: "table",
            name: name.clone(),
            rule: rule.clone(),
        });
        let mut all: Vec<RuleView> = templates.chain(tables).collect();
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Self { mode: rules.mode.unwrap_or(engine.settings().mode), rules: all }
    }
}

/// Sets the rule of a template or a table. It takes effect at once: answers that it forbids are dropped.
#[utoipa::path(put, path = "/api/v1/caches/{id}/rules/{kind}/{name}", tag = "caches", request_body = Rule,
    params(("id" = String, Path), ("kind" = String, Path, description = "`template` or `table`"),
        ("name" = String, Path, description = "a template's id, or a table as schema.name"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the rules that were read.")),
    security(("token" = [])),
    responses((status = 200, body = Data<RulesView>,
            headers(("ETag" = String, description = "Of all rules and the mode, for `If-Match`."))),
        (status = 404), (status = 409), (status = 412)))]
pub(super) async fn put_rule(
    access: Access,
    State(app): State<App>,
    Path((id, kind, name)): Path<(String, String, String)>,
    if_match: IfMatch,
    Json(rule): Json<Rule>,
) -> Result<Tagged<RulesView>, ApiError> {
    let engine = engine(&app, &id)?;
    let kind = kind_of(&kind, &name)?;
    if rule.cache == Some(false) && rule.ttl_ms.is_some() {
        return Err(ApiError::field("ttl_ms", "can't be given with \"cache\": false"));
    }
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    hold(&transaction, &access, &id).await?;
    let read = rules::of(&*transaction, &id).await?;
    if_match.check(Some(&RulesView::of(&engine, &read)))?;
    let before = rules::lock(&*transaction, &id, kind, &name).await?;
    if before.is_none() && read.len() >= RULES {
        return Err(ApiError::Conflict(format!("Conflict: the cache has {RULES} rules already")));
    }
    rules::set(&*transaction, &id, kind, &name, &rule).await?;
    let change = Change {
        action: "cache.rule.set",
        subject: &format!("/api/v1/caches/{id}/rules/{kind}/{name}"),
        workspace: access.workspace(),
        before: before.unwrap_or_default(),
        after: Change::view(&rule),
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    drop(client);
    take(&app, &id, &engine).await
}

/// Takes the rule of a template or a table away.
#[utoipa::path(delete, path = "/api/v1/caches/{id}/rules/{kind}/{name}", tag = "caches",
    params(("id" = String, Path), ("kind" = String, Path), ("name" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the rules that were read.")),
    security(("token" = [])),
    responses((status = 200, body = Data<RulesView>,
            headers(("ETag" = String, description = "Of all rules and the mode, for `If-Match`."))),
        (status = 404), (status = 409), (status = 412), (status = 422)))]
pub(super) async fn delete_rule(
    access: Access,
    State(app): State<App>,
    Path((id, kind, name)): Path<(String, String, String)>,
    if_match: IfMatch,
) -> Result<Tagged<RulesView>, ApiError> {
    let engine = engine(&app, &id)?;
    let kind = kind_of(&kind, &name)?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    hold(&transaction, &access, &id).await?;
    let read = rules::of(&*transaction, &id).await?;
    if_match.check(Some(&RulesView::of(&engine, &read)))?;
    let before = rules::lock(&*transaction, &id, kind, &name).await?.ok_or(ApiError::NotFound)?;
    rules::remove(&*transaction, &id, kind, &name).await?;
    let change = Change {
        action: "cache.rule.delete",
        subject: &format!("/api/v1/caches/{id}/rules/{kind}/{name}"),
        workspace: access.workspace(),
        before,
        after: Value::Null,
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    drop(client);
    take(&app, &id, &engine).await
}

/// What is kept without a rule.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ModeBody {
    mode: Mode,
}

/// Sets what is kept without a rule; it overrides the configuration file.
#[utoipa::path(put, path = "/api/v1/caches/{id}/mode", tag = "caches", request_body = ModeBody,
    params(("id" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the rules that were read.")),
    security(("token" = [])),
    responses((status = 200, body = Data<RulesView>,
            headers(("ETag" = String, description = "Of all rules and the mode, for `If-Match`."))),
        (status = 404), (status = 409), (status = 412)))]
pub(super) async fn put_mode(
    access: Access,
    State(app): State<App>,
    Path(id): Path<String>,
    if_match: IfMatch,
    Json(body): Json<ModeBody>,
) -> Result<Tagged<RulesView>, ApiError> {
    let engine = engine(&app, &id)?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    hold(&transaction, &access, &id).await?;
    let read = rules::of(&*transaction, &id).await?;
    if_match.check(Some(&RulesView::of(&engine, &read)))?;
    let before = rules::lock(&*transaction, &id, "mode", "").await?;
    rules::set_mode(&*transaction, &id, body.mode).await?;
    let change = Change {
        action: "cache.mode",
        subject: &format!("/api/v1/caches/{id}/mode"),
        workspace: access.workspace(),
        before: before.unwrap_or_default(),
        after: Change::view(&body),
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    drop(client);
    take(&app, &id, &engine).await
}

/// Sees to it that nobody else changes rules of the cache before the transaction ends, nor deletes it if it is one of a
/// workspace: its rules go with it.
async fn hold(transaction: &Transaction<'_>, access: &Access, id: &str) -> Result<(), ApiError> {
    if access.workspace().is_some() {
        store::lock(transaction, id).await?.ok_or(ApiError::NotFound)?;
    } else {
        // One of the configuration file has no row.
        rules::lock_all(transaction).await?;
    }
    Ok(())
}

async fn take(app: &App, id: &str, engine: &Engine) -> Result<Tagged<RulesView>, ApiError> {
    engine.take_rules(app.pool(), id).await?;
    Ok(Tagged::new(RulesView::of(engine, &engine.rules())))
}

/// The most rules that a cache has.
const RULES: usize = 1000;

/// The longest name of a table with that of its schema: 63 bytes each, and a dot.
const NAME: usize = 2 * 63 + 1;

fn kind_of(kind: &str, name: &str) -> Result<&'static str, ApiError> {
    match kind {
        "template" if name.len() == 16 && u64::from_str_radix(name, 16).is_ok() => Ok("template"),
        "template" => {
            Err(ApiError::field("name", "is not the id of a template: 16 hexadecimal digits"))
        }
        "table" if name.len() > NAME => Err(ApiError::field("name", "is too long for a table")),
        "table" if name.contains('.') && !name.contains('\0') => Ok("table"),
        "table" => Err(ApiError::field("name", "is not a table as schema.name")),
        _ => Err(ApiError::NotFound),
    }
}

/// What to drop: all, what depends on a table, or the answers of a template. Just one of them.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
#[schema(example = json!({"table": "public.orders"}))]
pub(super) enum PurgeBody {
    /// Everything.
    All(bool),
    /// As `schema.name`.
    Table(String),
    /// A template's id.
    Template(String),
}

/// How much was dropped.
#[derive(Serialize, ToSchema)]
pub(super) struct PurgeView {
    entries: usize,
}

/// Drops entries, here and now.
#[utoipa::path(post, path = "/api/v1/caches/{id}/purge", tag = "caches", request_body = PurgeBody,
    params(("id" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<PurgeView>), (status = 404), (status = 409)))]
pub(super) async fn purge(
    access: Access,
    State(app): State<App>,
    Path(id): Path<String>,
    Json(body): Json<PurgeBody>,
) -> Result<Data<PurgeView>, ApiError> {
    let engine = engine(&app, &id)?;
    let template = match &body {
        PurgeBody::Template(id) => u64::from_str_radix(id, 16)
            .map_err(|_| ApiError::field("template", "is not the id of a template"))?,
        PurgeBody::All(false) => return Err(ApiError::field("all", "has to be true")),
        PurgeBody::Table(name) if name.contains('\0') => {
            return Err(ApiError::field("table", "is not a table as schema.name"));
        }
        PurgeBody::All(true) | PurgeBody::Table(_) => 0,
    };
    // It is noted first: what was dropped can't be put back.
    let change = Change {
        action: "cache.purge",
        subject: &format!("/api/v1/caches/{id}"),
        workspace: access.workspace(),
        before: Value::Null,
        after: Change::view(&body),
    };
    audit::record(&**app.client().await?, &access.actor(), change).await?;
    let entries = match body {
        PurgeBody::All(_) => engine.store().purge_all(),
        PurgeBody::Table(name) => engine.purge_table(&name),
        PurgeBody::Template(_) => engine.store().purge_where(|label| label.template.id == template),
    };
    Ok(Data { data: PurgeView { entries } })
}

/// How long the origin may take to describe a query.
const EXPLAIN: Duration = Duration::from_secs(10);

/// A query to be explained.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"query": "SELECT * FROM orders WHERE id = $1", "types": [23]}))]
pub(super) struct ExplainBody {
    #[schema(example = "SELECT * FROM orders WHERE id = $1", max_length = 65536)]
    query: String,
    /// Declared types of its parameters, as OIDs; 0 or none leaves them to the origin.
    #[serde(default)]
    types: Vec<u32>,
}

/// What the cache would do with a query.
#[derive(Serialize, ToSchema)]
pub(super) struct ExplainView {
    /// The query with `?` in place of its constants.
    template: String,
    /// Of the template; what rules are given by.
    template_id: String,
    /// `kept`, `aged` or `passed`.
    state: &'static str,
    why: Option<String>,
    tables: Vec<DependencyView>,
    /// What the origin said of it, as the user of the cache's url, with that user's search_path.
    #[schema(value_type = Object)]
    description: serde_json::Value,
}

/// Tells what the cache would do with a query, and why. The query is not run.
#[utoipa::path(post, path = "/api/v1/caches/{id}/explain", tag = "caches", request_body = ExplainBody,
    params(("id" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Data<ExplainView>), (status = 404), (status = 409), (status = 503)))]
pub(super) async fn explain(
    _: Authenticated,
    State(app): State<App>,
    Path(id): Path<String>,
    Json(body): Json<ExplainBody>,
) -> Result<Data<ExplainView>, ApiError> {
    let engine = engine(&app, &id)?;
    let cache = find(&app, &id)?;
    if body.query.contains('\0') {
        return Err(ApiError::field("query", "has a zero byte"));
    }
    if body.query.len() > LOOKED_INTO {
        let why = format!("has more than {LOOKED_INTO} bytes: such a query is passed");
        return Err(ApiError::field("query", &why));
    }
    // Each takes a connection to the origin, which may take its time.
    let Ok(_turn) = engine.explaining().try_acquire() else {
        return Err(ApiError::Unavailable("The origin is being asked already; try again shortly."));
    };
    let settings = engine.settings();
    // What the origin refuses is no fault of this server's.
    let refused =
        |error: DbError| ApiError::Conflict(format!("The origin can't be asked: {error}."));
    let client = crate::db::connect_within(&settings.url, settings.reach.as_ref());
    let client = client.await.map_err(refused)?;
    let sql = "SELECT integratedb.describe_query($1, $2)";
    let parameters: [&(dyn ToSql + Sync); 2] = [&body.query, &body.types];
    let asked = tokio::time::timeout(EXPLAIN, client.query_one(sql, &parameters)).await;
    let late = |_| refused(DbError::Unavailable("it does not answer".to_owned()));
    let row = asked.map_err(late)?.map_err(|error| refused(error.into()))?;
    let text: String = row.try_get(0).map_err(|error| refused(error.into()))?;
    if text.len() > DESCRIPTION {
        let why = format!("its answer has more than {DESCRIPTION} bytes");
        return Err(refused(DbError::Unexpected(why)));
    }
    let outline = integratedb_template::Outline::of(body.query.as_bytes());
    let plan = Plan::read(text.as_bytes(), &outline, 0).map_err(ApiError::Internal)?;
    let seen = cache.queries().see(body.query.as_bytes());
    let description: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| ApiError::Internal(error.to_string()))?;
    // Who asks has written the constants that a message may quote.
    let message = description["message"].as_str();
    let (state, why) = match engine.decide(&seen.template, &plan) {
        Decision::Keep(_) => ("kept", None),
        Decision::Age(_) => ("aged", None),
        Decision::No(why) => (
            "passed",
            Some(message.map_or(why, |message| format!("the origin refuses it: {message}"))),
        ),
    };
    Ok(Data {
        data: ExplainView {
            template: seen.template.text.to_string(),
            template_id: format!("{:016x}", seen.template.id),
            state,
            why,
            tables: dependencies(&plan),
            description,
        },
    })
}
