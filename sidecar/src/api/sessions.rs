//! `/api/v1/auth`: logging in, renewing, logging out.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::app::App;
use super::body::{Data, Session};
use super::error::ApiError;
use super::extract::{Authenticated, Client, Json};
use super::users::is_name;
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
    responses((status = 200, body = Data<Session>), (status = 403), (status = 422), (status = 429)))]
pub(super) async fn login(
    State(app): State<App>,
    Client(address): Client,
    Json(body): Json<LoginBody>,
) -> Result<Data<Session>, ApiError> {
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
    // Taken before the password is looked at: many guesses at once then count like many in a row.
    let attempt = app.logins().attempt(&username, address).map_err(ApiError::TooManyRequests)?;
    let failed = || {
        app.metrics().count("integratedb_login_failures_total");
        ApiError::Forbidden
    };
    let known = find(&app, &username).await?;
    let stored = known.as_ref().map(|(_, hash)| hash.clone());
    let matches = app.passwords().verify(password, stored).await;
    let Some((id, hash)) = known.filter(|_| matches) else { return Err(failed()) };
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    // While the guess was hashed, the password may have been changed or the user deleted.
    transaction
        .query_opt(
            "SELECT FROM integratedb.users WHERE id = $1 AND password_hash = $2 FOR SHARE",
            &[&id, &hash],
        )
        .await?
        .ok_or_else(failed)?;
    let pair = app.tokens().issue(&transaction, id).await?;
    transaction.commit().await?;
    attempt.succeeded();
    Ok(Data { data: Session::new(id, &pair) })
}

/// Id and password hash of a user. What could be nobody's name is not asked for.
async fn find(app: &App, username: &str) -> Result<Option<(i64, String)>, ApiError> {
    if !is_name(username) {
        return Ok(None);
    }
    let row = app
        .client()
        .await?
        .query_opt(
            "SELECT id, password_hash FROM integratedb.users WHERE username = $1",
            &[&username],
        )
        .await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Trades a refresh token for a new pair. The old pair is void.
#[utoipa::path(post, path = "/api/v1/auth/renew", tag = "auth", request_body = RenewBody,
    responses((status = 200, body = Data<Session>), (status = 403)))]
pub(super) async fn renew(
    State(app): State<App>,
    Json(body): Json<RenewBody>,
) -> Result<Data<Session>, ApiError> {
    let Some(Value::String(refresh)) = body.data else { return Err(ApiError::Forbidden) };
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let id =
        Tokens::redeem(&transaction, &Secret::new(refresh)).await?.ok_or(ApiError::Forbidden)?;
    let pair = app.tokens().issue(&transaction, id).await?;
    transaction.commit().await?;
    Ok(Data { data: Session::new(id, &pair) })
}

/// Revokes the pair of the token that the request came with.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "auth", security(("token" = [])),
    responses((status = 204), (status = 401)))]
pub(super) async fn logout(
    State(app): State<App>,
    Authenticated { token }: Authenticated,
) -> Result<Response, ApiError> {
    Tokens::revoke(&**app.client().await?, &token).await?;
    app.sockets().look();
    Ok(StatusCode::NO_CONTENT.into_response())
}
