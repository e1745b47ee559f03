//! `/api/v1/users`: accounts. The first one needs no login; after that everything does.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use utoipa::ToSchema;

use super::access::Access;
use super::app::App;
use super::body::{Data, Session};
use super::error::ApiError;
use super::extract::{Authenticated, Id, Json};
use crate::auth::Tokens;
use crate::secret::Secret;

/// `{"user": {…}}`
#[derive(Deserialize, ToSchema)]
pub(super) struct UserBody {
    user: UserFields,
}

/// The fields of a user.
#[derive(Deserialize, ToSchema)]
struct UserFields {
    /// 1 to 32 letters, digits and underscores, no digit first; folded to lower case.
    #[schema(value_type = Option<String>, example = "example")]
    #[serde(default)]
    username: Option<Value>,
    /// 10 to 16,384 characters.
    #[schema(value_type = Option<String>, example = "correct horse battery")]
    #[serde(default)]
    password: Option<Value>,
}

/// A user as others see it.
#[derive(Serialize, ToSchema)]
pub(super) struct User {
    id: i64,
    username: String,
}

/// Reads and checks the fields; with `required`, both have to be there.
fn check(
    fields: UserFields,
    required: bool,
) -> Result<(Option<String>, Option<Secret<String>>), ApiError> {
    let mut errors = Vec::new();
    let mut text = |name, value: Option<Value>| match value {
        None | Some(Value::Null) => {
            if required {
                errors.push((name, "can't be blank".to_owned()));
            }
            None
        }
        Some(Value::String(text)) if text.trim().is_empty() => {
            errors.push((name, "can't be blank".to_owned()));
            None
        }
        Some(Value::String(text)) => Some(text),
        Some(_) => {
            errors.push((name, "is invalid".to_owned()));
            None
        }
    };
    let username = text("username", fields.username).map(|name| name.trim().to_lowercase());
    let password = text("password", fields.password);
    if username.as_ref().is_some_and(|name| !is_name(name)) {
        errors.push(("username", "has invalid format".to_owned()));
    }
    match password.as_ref().map(|password| password.chars().count()) {
        Some(..10) => errors.push(("password", "should be at least 10 character(s)".to_owned())),
        Some(16_385..) => {
            errors.push(("password", "should be at most 16384 character(s)".to_owned()));
        }
        _ => {}
    }
    if errors.is_empty() {
        Ok((username, password.map(Secret::new)))
    } else {
        Err(ApiError::Fields(errors))
    }
}

/// The rule for names of users and stakeholders.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 32
        && bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

/// The error of a unique name that is taken, or any other.
fn taken(error: tokio_postgres::Error) -> ApiError {
    if error.code() == Some(&SqlState::UNIQUE_VIOLATION) {
        ApiError::field("username", "has already been taken")
    } else {
        error.into()
    }
}

/// Lists all users.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", security(("token" = [])),
    responses((status = 200, body = Data<Vec<User>>)))]
pub(super) async fn list(
    State(app): State<App>,
    _: Authenticated,
) -> Result<Data<Vec<User>>, ApiError> {
    let client = app.client().await?;
    let rows = client.query("SELECT id, username FROM integratedb.users ORDER BY id", &[]).await?;
    let users: Vec<User> =
        rows.iter().map(|row| User { id: row.get(0), username: row.get(1) }).collect();
    Ok(Data { data: users })
}

/// Shows a user.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "users", security(("token" = [])),
    params(("id" = i64, Path)), responses((status = 200, body = Data<User>), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Data<User>, ApiError> {
    let client = app.client().await?;
    let row = client
        .query_opt("SELECT username FROM integratedb.users WHERE id = $1", &[&id])
        .await?
        .ok_or(ApiError::NotFound)?;
    Ok(Data { data: User { id, username: row.get(0) } })
}

/// Creates a user. The first needs no token.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", request_body = UserBody,
    security((), ("token" = [])),
    responses((status = 201, body = Data<Session>, headers(("Location" = String))),
        (status = 401), (status = 422)))]
pub(super) async fn create(
    State(app): State<App>,
    access: Access,
    Json(body): Json<UserBody>,
) -> Result<Response, ApiError> {
    let (username, password) = check(body.user, true)?;
    let (Some(username), Some(password)) = (username, password) else {
        return Err(ApiError::field("username", "can't be blank"));
    };
    let hash = app
        .passwords()
        .hash(password)
        .await
        .ok_or_else(|| ApiError::Internal("a password could not be hashed".to_owned()))?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    if access.principal.is_none() {
        // As far as a glance could tell, nobody is there yet. Of many first users at once, the lock lets one through; the others then see it.
        transaction
            .batch_execute("LOCK TABLE integratedb.users IN SHARE ROW EXCLUSIVE MODE")
            .await?;
        let row =
            transaction.query_one("SELECT EXISTS (SELECT FROM integratedb.users)", &[]).await?;
        if row.get(0) {
            return Err(ApiError::Unauthorized);
        }
    }
    let row = transaction
        .query_one(
            "INSERT INTO integratedb.users (username, password_hash) VALUES ($1, $2) RETURNING id",
            &[&username, &hash],
        )
        .await
        .map_err(taken)?;
    let id: i64 = row.get(0);
    let pair = app.tokens().issue(&transaction, id).await?;
    transaction.commit().await?;
    let location = [(header::LOCATION, format!("/api/v1/users/{id}"))];
    Ok((StatusCode::CREATED, location, Data { data: Session::new(id, &pair) }).into_response())
}

/// Changes a user's name or password. A new password revokes the user's tokens.
#[utoipa::path(put, path = "/api/v1/users/{id}", tag = "users", request_body = UserBody,
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<User>), (status = 404), (status = 422)))]
pub(super) async fn update(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
    Json(body): Json<UserBody>,
) -> Result<Data<User>, ApiError> {
    let (username, password) = check(body.user, false)?;
    let hash = match password {
        None => None,
        Some(password) => Some(
            app.passwords()
                .hash(password)
                .await
                .ok_or_else(|| ApiError::Internal("a password could not be hashed".to_owned()))?,
        ),
    };
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let row = transaction
        .query_opt(
            "UPDATE integratedb.users \
             SET username = coalesce($2, username), password_hash = coalesce($3, password_hash), \
                 updated_at = now() \
             WHERE id = $1 RETURNING username",
            &[&id, &username, &hash],
        )
        .await
        .map_err(taken)?
        .ok_or(ApiError::NotFound)?;
    if hash.is_some() {
        Tokens::revoke_all(&transaction, id).await?;
    }
    transaction.commit().await?;
    app.sockets().look();
    Ok(Data { data: User { id, username: row.get(0) } })
}

/// Deletes a user and its tokens. The last user stays: without one, anybody could become the first.
#[utoipa::path(delete, path = "/api/v1/users/{id}", tag = "users", params(("id" = i64, Path)),
    security(("token" = [])), responses((status = 204), (status = 404), (status = 422)))]
pub(super) async fn delete(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    // Two users who delete each other at once must not both succeed.
    transaction.batch_execute("LOCK TABLE integratedb.users IN SHARE ROW EXCLUSIVE MODE").await?;
    if transaction.execute("DELETE FROM integratedb.users WHERE id = $1", &[&id]).await? == 0 {
        return Err(ApiError::NotFound);
    }
    let row = transaction.query_one("SELECT EXISTS (SELECT FROM integratedb.users)", &[]).await?;
    if !row.get::<_, bool>(0) {
        return Err(ApiError::Unprocessable(
            json!({"detail": "The last user can't be deleted; create another one first."}),
        ));
    }
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Revokes all tokens of a user.
#[utoipa::path(delete, path = "/api/v1/users/{id}/tokens", tag = "users",
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 204), (status = 404)))]
pub(super) async fn revoke_tokens(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    transaction
        .query_opt("SELECT FROM integratedb.users WHERE id = $1 FOR NO KEY UPDATE", &[&id])
        .await?
        .ok_or(ApiError::NotFound)?;
    Tokens::revoke_all(&transaction, id).await?;
    transaction.commit().await?;
    app.sockets().look();
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_underscores() {
        assert!(is_name("a") && is_name("_x9") && is_name(&"a".repeat(32)));
        assert!(!is_name("") && !is_name("9a") && !is_name("ä") && !is_name("a b"));
        assert!(!is_name(&"a".repeat(33)) && !is_name("a;drop"));
    }
}
