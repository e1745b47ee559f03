//! `/api/v1/stakeholders/:id/backfills`: present rows of a table, for the channels of a stakeholder.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::access::Access;
use super::app::App;
use super::body::Data;
use super::error::ApiError;
use super::extract::{Authenticated, Id, Ids, Json};
use super::page::{Asked, Latest, limit_of_short};
use super::tag::Tagged;
use crate::audit::{self, Change};
use crate::notify::backfill::{self, Backfill, BackfillState, Request};
use crate::notify::{NotifyError, Subscriptions};

/// Rows of a chunk, if nothing is said, and at most.
const ROWS: i32 = 5000;
const MOST_ROWS: i32 = 50_000;

/// `{"backfill": {"table": "public.orders", "chunk_rows": 5000}}`
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"backfill": {"table": "public.orders", "chunk_rows": 5000}}))]
pub(super) struct BackfillBody {
    /// `table` as the notification spec has it, with its schema; `chunk_rows`, at most so many rows are read at once: 1 to
    /// 50000, by default 5000.
    #[schema(value_type = Object)]
    #[serde(default)]
    backfill: Value,
}

/// A backfill, and how far it is.
#[derive(Serialize, ToSchema)]
pub(super) struct BackfillView {
    id: i64,
    stakeholder_id: i64,
    /// With its schema.
    table: String,
    /// `pending`, `running`, `paused`, `done`, `failed` or `cancelled`.
    state: String,
    chunk_rows: i32,
    /// Rows that were gone through.
    rows_done: i64,
    /// About how many there were when it was asked for.
    rows_estimated: i64,
    /// What is wrong, or what it waits for, and what to do about it.
    error: Option<String>,
    inserted_at: String,
    started_at: Option<String>,
    updated_at: String,
    finished_at: Option<String>,
}

impl From<Backfill> for BackfillView {
    fn from(of: Backfill) -> Self {
        Self {
            id: of.id,
            stakeholder_id: of.stakeholder,
            table: format!("{}.{}", of.schema, of.table),
            state: of.state,
            chunk_rows: of.chunk_rows,
            rows_done: of.rows_done,
            rows_estimated: of.rows_estimated,
            error: of.error,
            inserted_at: of.inserted_at,
            started_at: of.started_at,
            updated_at: of.updated_at,
            finished_at: of.finished_at,
        }
    }
}

impl BackfillView {
    /// Where it is.
    fn path(&self) -> String {
        format!("/api/v1/stakeholders/{}/backfills/{}", self.stakeholder_id, self.id)
    }
}

impl From<NotifyError> for ApiError {
    fn from(error: NotifyError) -> Self {
        match error {
            NotifyError::Database(error) => error.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

/// What is wrong with the request, and where.
fn mistake(what: impl Into<String>, pointer: &str) -> ApiError {
    let what: String = what.into();
    ApiError::Unprocessable(json!({ "detail": [[what, pointer]] }))
}

/// The table, and the rows of a chunk.
fn read(body: &Value) -> Result<(&str, i32), ApiError> {
    let Some(fields) = body.as_object() else {
        return Err(mistake("Required property backfill was not present.", "#"));
    };
    if let Some(name) = fields.keys().find(|name| !["table", "chunk_rows"].contains(&name.as_str()))
    {
        let pointer = format!("#/backfill/{name}");
        let what = "There is no such property: rows go to all channels of the stakeholder that get the table.";
        return Err(mistake(what, &pointer));
    }
    let Some(table) = fields.get("table").and_then(Value::as_str) else {
        let what = "Name a table with its schema, such as public.orders.";
        return Err(mistake(what, "#/backfill/table"));
    };
    let rows = match fields.get("chunk_rows") {
        None => ROWS,
        Some(rows) => rows
            .as_i64()
            .and_then(|rows| i32::try_from(rows).ok())
            .filter(|rows| (1..=MOST_ROWS).contains(rows))
            .ok_or_else(|| {
                mistake(format!("It is a number from 1 to {MOST_ROWS}."), "#/backfill/chunk_rows")
            })?,
    };
    Ok((table, rows))
}

async fn check(client: &tokio_postgres::Client, stakeholder: i64) -> Result<(), ApiError> {
    let sql = "SELECT FROM integratedb.stakeholder WHERE id = $1";
    client.query_opt(sql, &[&stakeholder]).await?.map(drop).ok_or(ApiError::NotFound)
}

/// Which backfills.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Those that are so.
    #[param(inline)]
    state: Option<BackfillState>,
    /// Those before the one with this id.
    before: Option<i64>,
    /// At most so many: 1 to 1000, 1000 unless told.
    limit: Option<i64>,
}

/// Lists the backfills of a stakeholder, the latest first.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/backfills", tag = "notifications",
    params(("id" = i64, Path), Which), security(("token" = [])),
    responses((status = 200, body = Latest<BackfillView>), (status = 400), (status = 404)))]
pub(super) async fn list(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
    Asked(which): Asked<Which>,
) -> Result<Latest<BackfillView>, ApiError> {
    let client = app.client().await?;
    check(&client, id).await?;
    let limit = limit_of_short(which.limit);
    let found = backfill::list(&client, id, which.state, which.before, limit).await?;
    let found = found.into_iter().map(BackfillView::from).collect();
    Ok(Latest::new(found, limit, |backfill: &BackfillView| backfill.id))
}

/// Shows a backfill.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/backfills/{backfill}", tag = "notifications",
    params(("id" = i64, Path), ("backfill" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<BackfillView>, headers(("ETag" = String))), (status = 304), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Authenticated,
    Ids(of, id): Ids,
) -> Result<Tagged<BackfillView>, ApiError> {
    let found = backfill::show(&**app.client().await?, of, id).await?;
    Ok(Tagged::new(found.ok_or(ApiError::NotFound)?.into()))
}

/// Has the present rows of a table told to a stakeholder, between its changes. It has to have a notification subscription
/// for the table; one backfill of a table at a time.
#[utoipa::path(post, path = "/api/v1/stakeholders/{id}/backfills", tag = "notifications",
    request_body = BackfillBody, params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 201, body = Data<BackfillView>, headers(("Location" = String))), (status = 404),
        (status = 409), (status = 422)))]
pub(super) async fn create(
    State(app): State<App>,
    access: Access,
    Id(id): Id,
    Json(body): Json<BackfillBody>,
) -> Result<Response, ApiError> {
    let mut client = app.client().await?;
    check(&client, id).await?;
    let (name, rows) = read(&body.backfill)?;
    let all = Subscriptions::load(&client).await?;
    let is_meant = |(schema, table): &(&str, &str)| {
        name.strip_prefix(schema).and_then(|rest| rest.strip_prefix('.')) == Some(table)
    };
    let Some(table) = all.tables(id).into_iter().find(is_meant) else {
        let what = "The stakeholder has no notification subscription for this table.";
        return Err(mistake(what, "#/backfill/table"));
    };
    let relations: Vec<u32> = all.relations(id, table.0, table.1).into_iter().collect();
    let estimated = backfill::estimate(&client, &relations)
        .await?
        .map_err(|why| mistake(format!("It can't be read: {why}."), "#/backfill/table"))?;
    let tx = client.transaction().await?;
    let made = backfill::create(&*tx, id, table, rows, estimated).await?.ok_or_else(|| {
        ApiError::Conflict("A backfill of this table is under way for this stakeholder.".to_owned())
    })?;
    let made = BackfillView::from(made);
    let subject = made.path();
    let change = Change {
        action: "backfill.create",
        subject: &subject,
        workspace: None,
        before: Value::Null,
        after: Change::view(&made),
    };
    audit::record(&*tx, &access.actor(), change).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, subject)], Data { data: made }).into_response())
}

async fn ask(
    app: &App,
    access: &Access,
    Ids(of, id): Ids,
    request: Request,
) -> Result<Data<BackfillView>, ApiError> {
    let mut client = app.client().await?;
    let tx = client.transaction().await?;
    let before = backfill::hold(&tx, of, id).await?.ok_or(ApiError::NotFound)?;
    if let Some(asked) = backfill::ask(&*tx, of, id, request).await? {
        let asked = BackfillView::from(asked);
        let change = Change {
            action: match request {
                Request::Pause => "backfill.pause",
                Request::Resume => "backfill.resume",
                Request::Cancel => "backfill.cancel",
            },
            subject: &asked.path(),
            workspace: None,
            before: Change::view(&BackfillView::from(before)),
            after: Change::view(&asked),
        };
        audit::record(&*tx, &access.actor(), change).await?;
        tx.commit().await?;
        return Ok(Data { data: asked });
    }
    Err(ApiError::Conflict(match (request, before.state.as_str()) {
        (Request::Resume, "failed") => {
            "Another backfill of this table is under way for this stakeholder.".to_owned()
        }
        (_, state) => format!("The backfill is {state}."),
    }))
}

/// Has a backfill wait where it is.
#[utoipa::path(post, path = "/api/v1/stakeholders/{id}/backfills/{backfill}/pause", tag = "notifications",
    params(("id" = i64, Path), ("backfill" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<BackfillView>), (status = 404), (status = 409)))]
pub(super) async fn pause(
    State(app): State<App>,
    access: Access,
    ids: Ids,
) -> Result<Data<BackfillView>, ApiError> {
    ask(&app, &access, ids, Request::Pause).await
}

/// Has a paused backfill go on, or one that has failed begin again.
#[utoipa::path(post, path = "/api/v1/stakeholders/{id}/backfills/{backfill}/resume", tag = "notifications",
    params(("id" = i64, Path), ("backfill" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<BackfillView>), (status = 404), (status = 409)))]
pub(super) async fn resume(
    State(app): State<App>,
    access: Access,
    ids: Ids,
) -> Result<Data<BackfillView>, ApiError> {
    ask(&app, &access, ids, Request::Resume).await
}

/// Ends a backfill. Rows that were told stay told.
#[utoipa::path(post, path = "/api/v1/stakeholders/{id}/backfills/{backfill}/cancel", tag = "notifications",
    params(("id" = i64, Path), ("backfill" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<BackfillView>), (status = 404), (status = 409)))]
pub(super) async fn cancel(
    State(app): State<App>,
    access: Access,
    ids: Ids,
) -> Result<Data<BackfillView>, ApiError> {
    ask(&app, &access, ids, Request::Cancel).await
}
