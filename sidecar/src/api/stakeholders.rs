//! `/api/v1/stakeholders`: the applications. The database makes their roles and schemas; their passwords are
//! made here, shown once, and leave this process otherwise only as SCRAM verifiers.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use postgres_protocol::password::scram_sha_256;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::app::App;
use super::error::ApiError;
use super::extract::{Authenticated, Id, Json};
use super::users::is_name;
use crate::auth::Token;
use crate::db::{DbError, call_contract};

/// `{"stakeholder": {…}}`
#[derive(Deserialize, ToSchema)]
pub(super) struct StakeholderBody {
    stakeholder: StakeholderFields,
}

#[derive(Deserialize, ToSchema)]
struct StakeholderFields {
    /// 1 to 32 letters, digits and underscores, no digit first; folded to lower case.
    #[schema(value_type = String, example = "reporting")]
    #[serde(default)]
    name: Option<Value>,
    /// Take over a schema of that name that exists already.
    #[serde(default)]
    adopt_schema: bool,
}

/// A stakeholder as others see it.
#[derive(Serialize, ToSchema)]
struct Stakeholder {
    id: i64,
    name: String,
}

/// How to delete.
#[derive(Deserialize, IntoParams)]
pub(super) struct Deletion {
    /// Delete nothing at all when the role or schema can't go.
    #[serde(default)]
    all_or_nothing: bool,
}

fn name(value: Option<Value>) -> Result<String, ApiError> {
    let name = match value {
        None | Some(Value::Null) => return Err(ApiError::field("name", "can't be blank")),
        Some(Value::String(name)) => name.trim().to_lowercase(),
        Some(_) => return Err(ApiError::field("name", "is invalid")),
    };
    match name.as_str() {
        "" => Err(ApiError::field("name", "can't be blank")),
        text if !is_name(text) => Err(ApiError::field("name", "has invalid format")),
        _ => Ok(name),
    }
}

/// A refusal that is about the name.
fn about_name(error: DbError) -> ApiError {
    match error {
        DbError::Refused(refusal) => match refusal.code.as_str() {
            "42710" => ApiError::field("name", "has already been taken"),
            "42P06" => ApiError::field(
                "name",
                "is the name of an existing schema; pass adopt_schema to take it over",
            ),
            "22023" | "42939" => ApiError::field("name", refusal.message),
            _ => DbError::Refused(refusal).into(),
        },
        other => other.into(),
    }
}

/// A password and the verifier to store for it.
fn credentials() -> Result<(Token, String), ApiError> {
    let password = crate::auth::random_secret()?;
    let verifier = scram_sha_256(password.expose_secret().as_bytes());
    Ok((password, verifier))
}

fn with_credentials(id: i64, name: &str, password: &Token) -> Value {
    json!({"data": {
        "id": id,
        "name": name,
        "credentials": {"username": name, "password": password.expose_secret()},
    }})
}

/// Lists all stakeholders.
#[utoipa::path(get, path = "/api/v1/stakeholders", tag = "stakeholders", security(("token" = [])),
    responses((status = 200, body = Vec<Stakeholder>), (status = 401)))]
pub(super) async fn list(State(app): State<App>, _: Authenticated) -> Result<Response, ApiError> {
    let client = app.client().await?;
    let rows =
        client.query("SELECT id, name FROM integratedb.stakeholder ORDER BY id", &[]).await?;
    let all: Vec<Stakeholder> =
        rows.iter().map(|row| Stakeholder { id: row.get(0), name: row.get(1) }).collect();
    Ok(axum::Json(json!({ "data": all })).into_response())
}

/// Shows a stakeholder.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}", tag = "stakeholders",
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Stakeholder), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let client = app.client().await?;
    let row = client
        .query_opt("SELECT name FROM integratedb.stakeholder WHERE id = $1", &[&id])
        .await?
        .ok_or(ApiError::NotFound)?;
    Ok(axum::Json(json!({ "data": Stakeholder { id, name: row.get(0) } })).into_response())
}

/// Creates a stakeholder with its role and schema. The password is shown here and nowhere else.
#[utoipa::path(post, path = "/api/v1/stakeholders", tag = "stakeholders",
    request_body = StakeholderBody, security(("token" = [])),
    responses((status = 201), (status = 422), (status = 503)))]
pub(super) async fn create(
    State(app): State<App>,
    _: Authenticated,
    Json(body): Json<StakeholderBody>,
) -> Result<Response, ApiError> {
    let name = name(body.stakeholder.name)?;
    let (password, verifier) = credentials()?;
    let rows = call_contract(
        app.pool(),
        "SELECT integratedb.create_stakeholder($1, $2, $3)",
        &[&name, &verifier, &body.stakeholder.adopt_schema],
    )
    .await
    .map_err(about_name)?;
    let id: i64 = single(&rows)?.get(0);
    let location = [(header::LOCATION, format!("/api/v1/stakeholders/{id}"))];
    let body = axum::Json(with_credentials(id, &name, &password));
    Ok((StatusCode::CREATED, location, body).into_response())
}

/// Renames a stakeholder, its role and its schema, and gives it a new password, shown here once.
#[utoipa::path(put, path = "/api/v1/stakeholders/{id}", tag = "stakeholders",
    request_body = StakeholderBody, params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200), (status = 404), (status = 409), (status = 422), (status = 503)))]
pub(super) async fn update(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
    Json(body): Json<StakeholderBody>,
) -> Result<Response, ApiError> {
    let name = name(body.stakeholder.name)?;
    let (password, verifier) = credentials()?;
    call_contract(
        app.pool(),
        "SELECT integratedb.rename_stakeholder($1, $2, $3)",
        &[&id, &name, &verifier],
    )
    .await
    .map_err(about_name)?;
    Ok(axum::Json(with_credentials(id, &name, &password)).into_response())
}

/// Deletes a stakeholder. 204 when its role and schema went too; otherwise 200 and what was kept.
#[utoipa::path(delete, path = "/api/v1/stakeholders/{id}", tag = "stakeholders",
    params(("id" = i64, Path), Deletion), security(("token" = [])),
    responses((status = 200), (status = 204), (status = 404), (status = 409), (status = 503)))]
pub(super) async fn delete(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
    deletion: Result<Query<Deletion>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(Deletion { all_or_nothing }) = deletion.map_err(|_| {
        ApiError::BadRequest("Bad Request: all_or_nothing is true or false".to_owned())
    })?;
    let rows = call_contract(
        app.pool(),
        "SELECT kept, reason FROM integratedb.drop_stakeholder($1, $2)",
        &[&id, &all_or_nothing],
    )
    .await?;
    if rows.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let kept: Vec<Value> = rows
        .iter()
        .map(|row| json!({"object": row.get::<_, String>(0), "reason": row.get::<_, String>(1)}))
        .collect();
    Ok(axum::Json(json!({"data": {"kept": kept}})).into_response())
}

fn single(rows: &[tokio_postgres::Row]) -> Result<&tokio_postgres::Row, ApiError> {
    rows.first().ok_or_else(|| ApiError::Internal("a function returned no row".to_owned()))
}
