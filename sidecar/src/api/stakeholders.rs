//! `/api/v1/stakeholders`: the applications. The database makes their roles and schemas; their passwords are
//! made here, shown once, and leave this process otherwise only as SCRAM verifiers.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use postgres_protocol::password::scram_sha_256;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Transaction;
use utoipa::{IntoParams, ToSchema};

use super::access::Access;
use super::app::App;
use super::body::Data;
use super::error::ApiError;
use super::extract::{Authenticated, Id, Json};
use super::page::{Asked, Listed, limit_of_short};
use super::tag::{IfMatch, Tagged};
use super::users::is_name;
use crate::audit::{self, Change};
use crate::auth::Token;
use crate::db::{self, DbError};

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
pub(super) struct Stakeholder {
    id: i64,
    name: String,
}

/// A stakeholder with what its application logs in to Postgres with, shown this once.
#[derive(Serialize, ToSchema)]
pub(super) struct StakeholderWithCredentials {
    id: i64,
    name: String,
    credentials: DatabaseCredentials,
}

#[derive(Serialize, ToSchema)]
struct DatabaseCredentials {
    username: String,
    password: String,
}

/// What a deletion left behind.
#[derive(Serialize, ToSchema)]
pub(super) struct Left {
    kept: Vec<Kept>,
}

/// A schema or role that something else depends on.
#[derive(Serialize, ToSchema)]
struct Kept {
    object: String,
    reason: String,
}

/// Which stakeholders.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The one with this name.
    name: Option<String>,
    /// Those after the one with this id.
    after: Option<i64>,
    /// At most so many: 1 to 1000, 1000 unless told.
    limit: Option<i64>,
}

/// How to delete.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
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

/// The tag is that of the stakeholder alone, as it is shown later.
fn with_credentials(id: i64, name: String, password: &Token) -> Tagged<StakeholderWithCredentials> {
    let credentials =
        DatabaseCredentials { username: name.clone(), password: password.expose_secret().clone() };
    let shown = Stakeholder { id, name: name.clone() };
    Tagged::of(StakeholderWithCredentials { id, name, credentials }, &shown)
}

/// Lists all stakeholders, by their ids.
#[utoipa::path(get, path = "/api/v1/stakeholders", tag = "stakeholders", security(("token" = [])), params(Which),
    responses((status = 200, body = Data<Vec<Stakeholder>>, headers(("Link" = String))), (status = 400)))]
pub(super) async fn list(
    State(app): State<App>,
    _: Authenticated,
    Asked(which): Asked<Which>,
) -> Result<Listed<Stakeholder>, ApiError> {
    let client = app.client().await?;
    let limit = limit_of_short(which.limit);
    let name = which.name.map(|name| name.to_lowercase());
    let sql = "SELECT id, name FROM integratedb.stakeholder
               WHERE ($1::text IS NULL OR name = $1) AND id > coalesce($2::bigint, 0) ORDER BY id LIMIT $3";
    let rows = client.query(sql, &[&name, &which.after, &limit]).await?;
    let all = rows.iter().map(|row| Stakeholder { id: row.get(0), name: row.get(1) }).collect();
    Ok(Listed::new(all, limit, |stakeholder| stakeholder.id))
}

/// Shows a stakeholder.
#[utoipa::path(get, path = "/api/v1/stakeholders/{id}", tag = "stakeholders",
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<Stakeholder>, headers(("ETag" = String))), (status = 304), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Tagged<Stakeholder>, ApiError> {
    let client = app.client().await?;
    let row = client
        .query_opt("SELECT name FROM integratedb.stakeholder WHERE id = $1", &[&id])
        .await?
        .ok_or(ApiError::NotFound)?;
    Ok(Tagged::new(Stakeholder { id, name: row.get(0) }))
}

/// Creates a stakeholder with its role and schema. The password is shown here and nowhere else.
#[utoipa::path(post, path = "/api/v1/stakeholders", tag = "stakeholders",
    request_body = StakeholderBody, security(("token" = [])),
    responses((status = 201, body = Data<StakeholderWithCredentials>,
            headers(("Location" = String), ("ETag" = String))),
        (status = 422)))]
pub(super) async fn create(
    State(app): State<App>,
    access: Access,
    Json(body): Json<StakeholderBody>,
) -> Result<Response, ApiError> {
    let name = name(body.stakeholder.name)?;
    let (password, verifier) = credentials()?;
    let actor = access.actor();
    let id = db::patiently(|| async {
        let mut client = app.pool().get().await?;
        let tx = db::begin(&mut client).await?;
        let sql = "SELECT integratedb.create_stakeholder($1, $2, $3)";
        let row = tx.query_one(sql, &[&name, &verifier, &body.stakeholder.adopt_schema]).await?;
        let id: i64 = row.get(0);
        let change = Change {
            action: "stakeholder.create",
            subject: &path(id),
            workspace: None,
            before: Value::Null,
            after: audited(id, &name),
        };
        audit::record(&tx, &actor, change).await?;
        tx.commit().await?;
        Ok(id)
    })
    .await
    .map_err(about_name)?;
    let location = [(header::LOCATION, path(id))];
    Ok((StatusCode::CREATED, location, with_credentials(id, name, &password)).into_response())
}

/// Renames a stakeholder, its role and its schema, and gives it a new password, shown here once.
#[utoipa::path(put, path = "/api/v1/stakeholders/{id}", tag = "stakeholders",
    request_body = StakeholderBody, params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<StakeholderWithCredentials>, headers(("ETag" = String))), (status = 404),
        (status = 409), (status = 412), (status = 422)))]
pub(super) async fn update(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Id(id): Id,
    Json(body): Json<StakeholderBody>,
) -> Result<Tagged<StakeholderWithCredentials>, ApiError> {
    let name = name(body.stakeholder.name)?;
    let (password, verifier) = credentials()?;
    let actor = access.actor();
    db::patiently(|| async {
        let mut client = app.pool().get().await?;
        let tx = db::begin(&mut client).await?;
        db::hold_stakeholder(&tx, id).await?;
        let before = present(&tx, id).await?;
        if let Err(changed) = if_match.check_found(before.as_ref()) {
            return Ok(Err(changed));
        }
        let sql = "SELECT integratedb.rename_stakeholder($1, $2, $3)";
        tx.execute(sql, &[&id, &name, &verifier]).await?;
        let mut after = audited(id, &name);
        after["password_changed"] = true.into();
        let (action, subject) = ("stakeholder.update", &path(id));
        let before = Change::view(&before);
        let change = Change { action, subject, workspace: None, before, after };
        audit::record(&tx, &actor, change).await?;
        tx.commit().await?;
        Ok(Ok(()))
    })
    .await
    .map_err(about_name)??;
    Ok(with_credentials(id, name, &password))
}

/// Deletes a stakeholder. 204 when its role and schema went too; otherwise 200 and what was kept.
#[utoipa::path(delete, path = "/api/v1/stakeholders/{id}", tag = "stakeholders",
    params(("id" = i64, Path), Deletion), security(("token" = [])),
    responses((status = 200, body = Data<Left>), (status = 204), (status = 400), (status = 404),
        (status = 409), (status = 412)))]
pub(super) async fn delete(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Id(id): Id,
    deletion: Result<Query<Deletion>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(Deletion { all_or_nothing }) = deletion.map_err(|_| {
        ApiError::BadRequest("Bad Request: all_or_nothing is true or false".to_owned())
    })?;
    let actor = access.actor();
    let rows = db::patiently(|| async {
        let mut client = app.pool().get().await?;
        let tx = db::begin(&mut client).await?;
        db::hold_stakeholder(&tx, id).await?;
        let before = present(&tx, id).await?;
        if let Err(changed) = if_match.check_found(before.as_ref()) {
            return Ok(Err(changed));
        }
        let sql = "SELECT kept, reason FROM integratedb.drop_stakeholder($1, $2)";
        let rows = tx.query(sql, &[&id, &all_or_nothing]).await?;
        let (action, subject) = ("stakeholder.delete", &path(id));
        let before = Change::view(&before);
        let change = Change { action, subject, workspace: None, before, after: Value::Null };
        audit::record(&tx, &actor, change).await?;
        tx.commit().await?;
        Ok(Ok(rows))
    })
    .await??;
    app.notifications().look();
    app.sockets().look();
    if rows.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let kept = rows.iter().map(|row| Kept { object: row.get(0), reason: row.get(1) }).collect();
    Ok(Data { data: Left { kept } }.into_response())
}

/// Where a stakeholder is.
fn path(id: i64) -> String {
    format!("/api/v1/stakeholders/{id}")
}

/// A stakeholder for the audit log.
fn audited(id: i64, name: &str) -> Value {
    json!({ "id": id, "name": name })
}

/// What a stakeholder is before a change, which finds out itself if there is none.
async fn present(tx: &Transaction<'_>, id: i64) -> Result<Option<Stakeholder>, DbError> {
    let row =
        tx.query_opt("SELECT name FROM integratedb.stakeholder WHERE id = $1", &[&id]).await?;
    Ok(row.map(|row| Stakeholder { id, name: row.get(0) }))
}
