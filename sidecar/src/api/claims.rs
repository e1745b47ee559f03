//! `/api/v1/stakeholders/:id/claims`: the spec of a stakeholder.
//!
//! Three stages: the JSON Schema here, then typed parsing and comparison with the database in the extension.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::access::Access;
use super::app::App;
use super::body::Data;
use super::error::ApiError;
use super::extract::{Authenticated, Id, Json};
use super::schema::{Mistake, SpecSchema};
use super::tag::{IfMatch, Tagged};
use crate::audit::{self, Change};
use crate::db::{self, DbError};

/// The type of the specs here.
const TYPE: &str = "CLAIMS";

/// `{"data": {"match": […]}}`
#[derive(Deserialize, ToSchema)]
#[schema(example = json!({"data": {"match": [{"path": "public.orders", "fields": ["id", "note"]}]}}))]
pub(super) struct SpecBody {
    #[schema(value_type = Object)]
    #[serde(default)]
    data: Value,
}

/// A spec as it is stored.
#[derive(Serialize, ToSchema)]
pub(super) struct Spec {
    /// `CLAIMS`
    #[schema(example = "CLAIMS")]
    r#type: String,
    /// As terse as it can be written; empty when none was set.
    #[schema(value_type = Vec<Object>,
        example = json!([{"path": "public.orders", "fields": ["id", "note"]}]))]
    r#match: Value,
}

impl Spec {
    fn of(mut stored: Value) -> Self {
        let matches = stored.get_mut("match").map(Value::take).unwrap_or_default();
        Self { r#type: TYPE.to_owned(), r#match: matches }
    }
}

/// Shows the claims spec, as terse as it can be written; `match` is empty when none was set.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/claims", tag = "claims",
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<Spec>, headers(("ETag" = String))), (status = 304), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Tagged<Spec>, ApiError> {
    let client = app.client().await?;
    let row = client.query_one("SELECT integratedb.get_spec($1, $2)", &[&id, &TYPE]).await?;
    let spec: Value = row.get::<_, Option<Value>>(0).ok_or(ApiError::NotFound)?;
    Ok(Tagged::new(Spec::of(spec)))
}

/// Replaces the claims spec. Claims and grants follow at once, or nothing changes.
#[utoipa::path(put, path = "/api/v1/stakeholders/{id}/claims", tag = "claims",
    request_body = SpecBody, params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<Spec>, headers(("ETag" = String))), (status = 404), (status = 412),
        (status = 422)))]
pub(super) async fn put(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Id(id): Id,
    Json(body): Json<SpecBody>,
) -> Result<Tagged<Spec>, ApiError> {
    let document = check(app.claims_schema(), body.data, |data| Ok(data.to_string())).await?;
    let actor = access.actor();
    let stored = db::patiently(|| async {
        let mut client = app.pool().get().await?;
        let tx = db::begin(&mut client).await?;
        db::hold_stakeholder(&tx, id).await?;
        let sql = "SELECT integratedb.get_spec($1, $2)";
        let before: Option<Value> = tx.query_one(sql, &[&id, &TYPE]).await?.get(0);
        let before = before.map(Spec::of);
        if let Err(changed) = if_match.check_found(before.as_ref()) {
            return Ok(Err(changed));
        }
        let sql = "SELECT integratedb.put_spec($1, $2, $3)";
        let stored = Spec::of(tx.query_one(sql, &[&id, &TYPE, &document]).await?.get(0));
        let change = Change {
            action: "claims.put",
            subject: &format!("/api/v1/stakeholders/{id}/claims"),
            workspace: None,
            before: Change::view(&before),
            after: Change::view(&stored),
        };
        audit::record(&tx, &actor, change).await?;
        tx.commit().await?;
        Ok(Ok(stored))
    })
    .await
    .map_err(refused)??;
    Ok(Tagged::new(stored))
}

/// Checks a document against its schema, and reads it if it fits. A large one takes long enough that other requests
/// would wait for it.
pub(super) async fn check<T: Send + 'static>(
    schema: SpecSchema,
    document: Value,
    read: impl FnOnce(Value) -> Result<T, Vec<Mistake>> + Send + 'static,
) -> Result<T, ApiError> {
    let work = move || match schema.mistakes(&document) {
        mistakes if mistakes.is_empty() => read(document),
        mistakes => Err(mistakes),
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ApiError::Internal(error.to_string()))?
        .map_err(|mistakes| ApiError::Unprocessable(json!({ "detail": mistakes })))
}

/// The extension's verdicts carry their answer as JSON.
pub(super) fn refused(error: DbError) -> ApiError {
    let DbError::Refused(refusal) = &error else { return error.into() };
    let detail: Option<Value> =
        refusal.detail.as_deref().and_then(|text| serde_json::from_str(text).ok());
    match (refusal.code.as_str(), detail) {
        ("IDB02", Some(verdict)) => ApiError::Unprocessable(verdict),
        ("IDB03", Some(mistakes)) => ApiError::Unprocessable(json!({ "detail": mistakes })),
        _ => error.into(),
    }
}
