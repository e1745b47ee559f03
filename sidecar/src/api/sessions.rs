//! `/api/v1/auth`: logging in, renewing, logging out.

use std::net::IpAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use deadpool_postgres::Transaction;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::address::Client;
use super::app::App;
use super::body::{Data, Session};
use super::error::ApiError;
use super::extract::{Authenticated, Json};
use super::users::is_name;
use crate::auth::{Attempt, Tokens};
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
    let known = verify(&app, &username, password, address).await?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let id = known.hold(&app, &transaction).await?;
    let pair = app.tokens().issue(&transaction, id).await?;
    transaction.commit().await?;
    known.succeeded();
    Ok(Data { data: Session::new(id, &pair) })
}

/// A user whose password was right when it was looked at.
pub(super) struct Known<'a> {
    id: i64,
    hash: String,
    attempt: Attempt<'a>,
}

/// Looks at a password. Errors with `Forbidden` if it is wrong, or `TooManyRequests`.
pub(super) async fn verify<'a>(
    app: &'a App,
    username: &str,
    password: Secret<String>,
    address: IpAddr,
) -> Result<Known<'a>, ApiError> {
    // Taken before the password is looked at: many guesses at once then count like many in a row.
    let attempt = app.logins().attempt(username, address).map_err(ApiError::TooManyRequests)?;
    let known = find(app, username).await?;
    let stored = known.as_ref().map(|(_, hash)| hash.clone());
    let matches = app.passwords().verify(password, stored).await;
    let (id, hash) = known.filter(|_| matches).ok_or_else(|| failed(app))?;
    Ok(Known { id, hash, attempt })
}

impl Known<'_> {
    /// Locks the user's row until the transaction ends; gives the user's id. While the guess was hashed, the password may have
    /// been changed or the user deleted.
    pub(super) async fn hold(
        &self,
        app: &App,
        transaction: &Transaction<'_>,
    ) -> Result<i64, ApiError> {
        transaction
            .query_opt(
                "SELECT FROM integratedb.users WHERE id = $1 AND password_hash = $2 FOR SHARE",
                &[&self.id, &self.hash],
            )
            .await?
            .ok_or_else(|| failed(app))?;
        Ok(self.id)
    }

    /// The login is done: the attempt does not count.
    pub(super) fn succeeded(self) {
        self.attempt.succeeded();
    }
}

fn failed(app: &App) -> ApiError {
    app.metrics().count("integratedb_login_failures_total");
    ApiError::Forbidden
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
