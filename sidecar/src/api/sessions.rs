//! `/api/v1/auth`: logging in, renewing, logging out.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::app::App;
use super::error::ApiError;
use super::extract::{Authenticated, Client, Json};
use super::users::{is_name, pair_body};
use crate::auth::Tokens;
use crate::secret::Secret;

/// `{"data": {"username", "password"}}`
#[derive(Deserialize, ToSchema)]
pub(super) struct LoginBody {
    data: Credentials,
}

#[derive(Deserialize, ToSchema)]
struct Credentials {
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    username: Option<Value>,
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    password: Option<Value>,
}

/// `{"data": "REFRESH TOKEN"}`
#[derive(Deserialize, ToSchema)]
pub(super) struct RenewBody {
    #[schema(value_type = String)]
    #[serde(default)]
    data: Option<Value>,
}

/// Logs in.
#[utoipa::path(post, path = "/api/v1/auth/login", tag = "auth", request_body = LoginBody,
    responses((status = 200), (status = 403), (status = 422), (status = 429)))]
pub(super) async fn login(
    State(app): State<App>,
    Client(address): Client,
    Json(body): Json<LoginBody>,
) -> Result<Response, ApiError> {
    let mut blank = Vec::new();
    let mut text = |name, value: Option<Value>| match value {
        Some(Value::String(text)) if !text.is_empty() => text,
        _ => {
            blank.push((name, "can't be blank".to_owned()));
            String::new()
        }
    };
    let username = text("username", body.data.username).trim().to_lowercase();
    let password = Secret::new(text("password", body.data.password));
    if !blank.is_empty() {
        return Err(ApiError::Fields(blank));
    }
    // Taken before the password is looked at: a guess costs an attempt whatever comes of it.
    app.logins().attempt(&username, address).map_err(ApiError::TooManyRequests)?;
    let client = app.client().await?;
    let find = "SELECT id, password_hash FROM integratedb.users WHERE username = $1";
    // What could not be anybody's name is not worth a question, and may not even be text to Postgres.
    let row = if is_name(&username) { client.query_opt(find, &[&username]).await? } else { None };
    // Hashing takes long; the connection is of more use to others meanwhile.
    drop(client);
    let stored = row.as_ref().map(|row| row.get(1));
    let matches = app.passwords().verify(password, stored).await;
    let Some(row) = row.filter(|_| matches) else {
        app.metrics().count("integratedb_login_failures_total");
        return Err(ApiError::Forbidden);
    };
    let id: i64 = row.get(0);
    let pair = app.tokens().issue(&**app.client().await?, id).await?;
    Ok(axum::Json(pair_body(id, &pair)).into_response())
}

/// Trades a refresh token for a new pair. The old pair is void.
#[utoipa::path(post, path = "/api/v1/auth/renew", tag = "auth", request_body = RenewBody,
    responses((status = 200), (status = 403)))]
pub(super) async fn renew(
    State(app): State<App>,
    Json(body): Json<RenewBody>,
) -> Result<Response, ApiError> {
    let Some(Value::String(refresh)) = body.data else { return Err(ApiError::Forbidden) };
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let id =
        Tokens::redeem(&*transaction, &Secret::new(refresh)).await?.ok_or(ApiError::Forbidden)?;
    let pair = app.tokens().issue(&*transaction, id).await?;
    transaction.commit().await?;
    Ok(axum::Json(pair_body(id, &pair)).into_response())
}

/// Revokes the pair of the token that the request came with.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "auth", security(("token" = [])),
    responses((status = 204), (status = 401)))]
pub(super) async fn logout(
    State(app): State<App>,
    Authenticated { token }: Authenticated,
) -> Result<Response, ApiError> {
    Tokens::revoke(&**app.client().await?, &token).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
