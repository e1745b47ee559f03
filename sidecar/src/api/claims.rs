//! `/api/v1/stakeholders/:id/claims`: the spec of a stakeholder.
//!
//! Three stages: the JSON Schema here, then typed parsing and comparison with the database in the extension.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::app::App;
use super::body::Data;
use super::error::ApiError;
use super::extract::{Authenticated, Id, Json};
use super::schema::{Mistake, SpecSchema};
use crate::db::{DbError, call_contract};

/// The type of the specs here.
const TYPE: &str = "CLAIMS";

/// `{"data": {"match": […]}}`
#[derive(Deserialize, ToSchema)]
pub(super) struct SpecBody {
    #[schema(value_type = Object,
        example = json!({"match": [{"path": "public.orders", "fields": ["id", "note"]}]}))]
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

/// Shows the claims spec, as terse as it can be written; `match` is empty when none was set.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}/claims", tag = "claims",
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<Spec>), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Data<Spec>, ApiError> {
    let client = app.client().await?;
    let row = client.query_one("SELECT integratedb.get_spec($1, $2)", &[&id, &TYPE]).await?;
    let spec: Value = row.get::<_, Option<Value>>(0).ok_or(ApiError::NotFound)?;
    Ok(Data { data: Spec { r#type: TYPE.to_owned(), r#match: matches(spec) } })
}

/// Replaces the claims spec. Claims and grants follow at once, or nothing changes.
#[utoipa::path(put, path = "/api/v1/stakeholders/{id}/claims", tag = "claims",
    request_body = SpecBody, params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<Spec>), (status = 404), (status = 422)))]
pub(super) async fn put(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
    Json(body): Json<SpecBody>,
) -> Result<Data<Spec>, ApiError> {
    let document = check(app.claims_schema(), body.data, |data| Ok(data.to_string())).await?;
    let rows = call_contract(
        app.pool(),
        "SELECT integratedb.put_spec($1, $2, $3)",
        &[&id, &TYPE, &document],
    )
    .await
    .map_err(refused)?;
    let stored: Value = rows.first().map(|row| row.get(0)).unwrap_or_default();
    Ok(Data { data: Spec { r#type: TYPE.to_owned(), r#match: matches(stored) } })
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

fn matches(mut spec: Value) -> Value {
    spec.get_mut("match").map(Value::take).unwrap_or_default()
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
