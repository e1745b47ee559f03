//! `/api/v1/users`: accounts. The first one needs no login; after that everything does.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use deadpool_postgres::Transaction;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use utoipa::{IntoParams, ToSchema};

use super::access::Access;
use super::app::App;
use super::body::{Data, Session};
use super::error::ApiError;
use super::extract::{Authenticated, Id, Json};
use super::page::{Asked, Listed, limit_of_short};
use super::tag::{IfMatch, Tagged};
use super::workspaces::audit_member;
use crate::audit::{self, Change};
use crate::auth::Tokens;
use crate::secret::Secret;
use crate::workspaces;

/// `{"user": {…}}`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserBody {
    user: UserFields,
}

/// The fields of a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserFields {
    /// 1 to 32 letters, digits and underscores, no digit first; folded to lower case.
    #[schema(value_type = Option<String>, example = "example")]
    #[serde(default)]
    username: Option<Value>,
    /// 10 to 16,384 characters.
    #[schema(value_type = Option<String>, example = "correct horse battery")]
    #[serde(default)]
    password: Option<Value>,
    /// Whether the user may steer the installation; a new one may unless this says false. Only an operator says so.
    #[schema(value_type = Option<bool>, example = false)]
    #[serde(default)]
    operator: Option<Value>,
}

/// A user as others see it.
#[derive(Serialize, ToSchema)]
pub(super) struct User {
    #[schema(example = 1)]
    id: i64,
    #[schema(example = "example")]
    username: String,
    /// Whether the user may steer the installation: users, stakeholders, sync, the caches of the configuration file.
    operator: bool,
}

impl User {
    /// Where it is.
    fn path(&self) -> String {
        format!("/api/v1/users/{}", self.id)
    }
}

/// What is shown of a user, and when it was changed last: of a password that is another, only the time tells.
const SHOWN: &str = "id, username, operator, extract(epoch FROM updated_at)::text";

/// What can be set of a user, from a row of [`SHOWN`].
fn settable(row: &Row) -> (i64, &str, bool, &str) {
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

/// Which users.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The one with this name.
    username: Option<String>,
    /// Those after the one with this id.
    after: Option<i64>,
    /// At most so many: 1 to 1000, 1000 unless told.
    limit: Option<i64>,
}

impl From<&Row> for User {
    fn from(row: &Row) -> Self {
        Self { id: row.get(0), username: row.get(1), operator: row.get(2) }
    }
}

/// What a request says of a user.
struct Wanted {
    username: Option<String>,
    password: Option<Secret<String>>,
    operator: Option<bool>,
}

/// Reads and checks the fields; with `required`, name and password have to be there.
fn check(fields: UserFields, required: bool) -> Result<Wanted, ApiError> {
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
    let operator = fields.operator.filter(|operator| !operator.is_null());
    if operator.as_ref().is_some_and(|operator| !operator.is_boolean()) {
        errors.push(("operator", "is true or false".to_owned()));
    }
    if errors.is_empty() {
        let operator = operator.and_then(|operator| operator.as_bool());
        Ok(Wanted { username, password: password.map(Secret::new), operator })
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

/// Lists all users, by their ids.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", security(("token" = [])), params(Which),
    responses((status = 200, body = Data<Vec<User>>, headers(("Link" = String))), (status = 400)))]
pub(super) async fn list(
    State(app): State<App>,
    _: Authenticated,
    Asked(which): Asked<Which>,
) -> Result<Listed<User>, ApiError> {
    let client = app.client().await?;
    let limit = limit_of_short(which.limit);
    let username = which.username.map(|name| name.to_lowercase());
    let sql = "SELECT id, username, operator FROM integratedb.users
               WHERE ($1::text IS NULL OR username = $1) AND id > coalesce($2::bigint, 0) ORDER BY id LIMIT $3";
    let rows = client.query(sql, &[&username, &which.after, &limit]).await?;
    Ok(Listed::new(rows.iter().map(User::from).collect(), limit, |user| user.id))
}

/// Shows a user.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "users", security(("token" = [])),
    params(("id" = i64, Path)),
    responses((status = 200, body = Data<User>, headers(("ETag" = String))), (status = 304), (status = 404)))]
pub(super) async fn show(
    State(app): State<App>,
    _: Authenticated,
    Id(id): Id,
) -> Result<Tagged<User>, ApiError> {
    let client = app.client().await?;
    let sql = format!("SELECT {SHOWN} FROM integratedb.users WHERE id = $1");
    let row = client.query_opt(&sql, &[&id]).await?.ok_or(ApiError::NotFound)?;
    Ok(Tagged::with(User::from(&row), &settable(&row)))
}

/// Creates a user, who is an operator unless told otherwise. The first needs no token.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", request_body = UserBody,
    security((), ("token" = [])),
    responses((status = 201, body = Data<Session>, headers(("Location" = String))),
        (status = 401), (status = 422)))]
pub(super) async fn create(
    State(app): State<App>,
    access: Access,
    Json(body): Json<UserBody>,
) -> Result<Response, ApiError> {
    let wanted = check(body.user, true)?;
    let (Some(username), Some(password)) = (wanted.username, wanted.password) else {
        return Err(ApiError::field("username", "can't be blank"));
    };
    let operator = wanted.operator.unwrap_or(true);
    let hash = hash(&app, password).await?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    if let Some(caller) = &access.principal {
        hold(&transaction, caller.user, &access).await?;
    } else {
        // As far as a glance could tell, nobody is there yet. Of many first users at once, the lock lets one through; the others then see it.
        transaction.batch_execute(ALONE).await?;
        let row =
            transaction.query_one("SELECT EXISTS (SELECT FROM integratedb.users)", &[]).await?;
        if row.get(0) {
            return Err(ApiError::Unauthorized);
        }
        if !operator {
            return Err(ApiError::field("operator", "is true of the first user"));
        }
    }
    let row = transaction
        .query_one(
            "INSERT INTO integratedb.users (username, password_hash, operator) VALUES ($1, $2, $3) \
             RETURNING id, username, operator",
            &[&username, &hash, &operator],
        )
        .await
        .map_err(taken)?;
    let user = User::from(&row);
    let pair = app.tokens().issue(&transaction, user.id).await?;
    let subject = user.path();
    let change = Change {
        action: "user.create",
        subject: &subject,
        workspace: None,
        before: Value::Null,
        after: Change::view(&user),
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    let location = [(header::LOCATION, subject)];
    Ok((StatusCode::CREATED, location, Data { data: Session::new(user.id, &pair) }).into_response())
}

/// Changes a user's name or password, or whether it is an operator. A new password revokes the user's tokens.
///
/// Whether a user is an operator is changed by operators only, and one stays.
#[utoipa::path(put, path = "/api/v1/users/{id}", tag = "users", request_body = UserBody,
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 200, body = Data<User>, headers(("ETag" = String))), (status = 403), (status = 404),
        (status = 412), (status = 422)))]
pub(super) async fn update(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Id(id): Id,
    Json(body): Json<UserBody>,
) -> Result<Tagged<User>, ApiError> {
    let wanted = check(body.user, false)?;
    let caller = access.principal()?;
    if wanted.operator.is_some() && !caller.operator {
        return Err(ApiError::Forbidden);
    }
    let hash = match wanted.password {
        None => None,
        Some(password) => Some(hash(&app, password).await?),
    };
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    if wanted.operator == Some(false) {
        // Two operators who end each other's being one must not both succeed.
        transaction.batch_execute(ALONE).await?;
    }
    let before = hold(&transaction, id, &access).await?;
    if_match.check(Some(&settable(&before)))?;
    let before = User::from(&before);
    let sql = format!(
        "UPDATE integratedb.users \
         SET username = coalesce($2, username), password_hash = coalesce($3, password_hash), \
             operator = coalesce($4, operator), updated_at = now() \
         WHERE id = $1 RETURNING {SHOWN}"
    );
    let row = transaction
        .query_one(&sql, &[&id, &wanted.username, &hash, &wanted.operator])
        .await
        .map_err(taken)?;
    let user = User::from(&row);
    if before.operator && !user.operator && !has_operator(&transaction).await? {
        return Err(ApiError::field("operator", "is true of the last operator"));
    }
    let mut after = Change::view(&user);
    if hash.is_some() {
        Tokens::revoke_all(&transaction, id).await?;
        after["password_changed"] = true.into();
    }
    let change = Change {
        action: "user.update",
        subject: &user.path(),
        workspace: None,
        before: Change::view(&before),
        after,
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    app.sockets().look();
    Ok(Tagged::with(user, &settable(&row)))
}

/// Deletes a user, its tokens, its applications and its memberships.
///
/// The last operator stays: without a user, anybody could become the first. So does the only owner of a workspace.
#[utoipa::path(delete, path = "/api/v1/users/{id}", tag = "users", params(("id" = i64, Path)),
    security(("token" = [])), responses((status = 204), (status = 403), (status = 404),
        (status = 409, description = "The user is the only owner of a workspace."), (status = 412), (status = 422)))]
pub(super) async fn delete(
    State(app): State<App>,
    access: Access,
    if_match: IfMatch,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    // Two users who delete each other at once must not both succeed.
    transaction.batch_execute(ALONE).await?;
    // From here on nobody makes the user a member of anything.
    let user = hold(&transaction, id, &access).await?;
    if_match.check(Some(&settable(&user)))?;
    let user = User::from(&user);
    leave_workspaces(&transaction, &access, id).await?;
    transaction.execute("DELETE FROM integratedb.users WHERE id = $1", &[&id]).await?;
    if !has_operator(&transaction).await? {
        return Err(ApiError::Unprocessable(
            json!({"detail": "The last operator can't be deleted; make another user one first."}),
        ));
    }
    let change = Change {
        action: "user.delete",
        subject: &user.path(),
        workspace: None,
        before: Change::view(&user),
        after: Value::Null,
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    app.sockets().look();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Ends all memberships of a user who is held; errors if a workspace would be left without an owner.
async fn leave_workspaces(
    transaction: &Transaction<'_>,
    access: &Access,
    id: i64,
) -> Result<(), ApiError> {
    let mut left_alone = Vec::new();
    for membership in workspaces::of_user(transaction, id).await? {
        let workspace = membership.workspace;
        if membership.member.role == workspaces::Role::Owner
            && workspaces::owners_besides(transaction, workspace, id).await? == 0
        {
            left_alone.push(membership.name);
            continue;
        }
        workspaces::remove_member(transaction, workspace, id).await?;
        audit_member(transaction, access, workspace, (Some(&membership.member), None)).await?;
    }
    if left_alone.is_empty() {
        return Ok(());
    }
    Err(ApiError::Conflict(format!(
        "The user is the only owner of {}; make another member an owner, or delete the workspace, first.",
        left_alone.join(", ")
    )))
}

/// Revokes all tokens of a user: those of logins, and those of applications that act for the user.
#[utoipa::path(delete, path = "/api/v1/users/{id}/tokens", tag = "users",
    params(("id" = i64, Path)), security(("token" = [])),
    responses((status = 204), (status = 403), (status = 404)))]
pub(super) async fn revoke_tokens(
    State(app): State<App>,
    access: Access,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    transaction
        .query_opt("SELECT FROM integratedb.users WHERE id = $1 FOR NO KEY UPDATE", &[&id])
        .await?
        .ok_or(ApiError::NotFound)?;
    Tokens::revoke_all(&transaction, id).await?;
    Tokens::revoke_granted(&transaction, id).await?;
    let change = Change {
        action: "user.revoke_tokens",
        subject: &format!("/api/v1/users/{id}"),
        workspace: None,
        before: Value::Null,
        after: Value::Null,
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    app.sockets().look();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Keeps everybody else from changing users until the end of the transaction.
const ALONE: &str = "LOCK TABLE integratedb.users IN SHARE ROW EXCLUSIVE MODE";

/// Holds a user until the end of the transaction, and whoever wants to change it: an operator may have been made none, or
/// deleted, or have had its tokens revoked, since the request was let through.
async fn hold(transaction: &Transaction<'_>, id: i64, access: &Access) -> Result<Row, ApiError> {
    // The table before its rows, as whoever is to be alone takes it: a change of a row takes this lock anyway, but later.
    transaction.batch_execute("LOCK TABLE integratedb.users IN ROW EXCLUSIVE MODE").await?;
    let caller = access.principal()?;
    // In one order, so that two who change each other never wait for each other.
    let sql = format!(
        "SELECT {SHOWN} FROM integratedb.users WHERE id IN ($1, $2) ORDER BY id FOR UPDATE"
    );
    let mut held = transaction.query(&sql, &[&id, &caller.user]).await?;
    let at = |id: i64| held.iter().position(|row| row.get::<_, i64>(0) == id);
    let is_operator: bool = held[at(caller.user).ok_or(ApiError::Unauthorized)?].get(2);
    // Whoever revokes all tokens of a user holds the user meanwhile.
    Tokens::remaining(&**transaction, access.token()?).await?.ok_or(ApiError::InvalidToken)?;
    if caller.operator && !is_operator {
        return Err(ApiError::Forbidden);
    }
    let at = at(id).ok_or(ApiError::NotFound)?;
    Ok(held.swap_remove(at))
}

async fn hash(app: &App, password: Secret<String>) -> Result<String, ApiError> {
    let hash = app.passwords().hash(password).await;
    hash.ok_or_else(|| ApiError::Internal("a password could not be hashed".to_owned()))
}

async fn has_operator(transaction: &Transaction<'_>) -> Result<bool, ApiError> {
    let sql = "SELECT EXISTS (SELECT FROM integratedb.users WHERE operator)";
    Ok(transaction.query_one(sql, &[]).await?.get(0))
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
