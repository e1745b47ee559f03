//! Creating, changing and deleting the caches of workspaces.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use deadpool_postgres::Transaction;
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::GenericClient;
use utoipa::ToSchema;

use super::find;
use super::list::tagged;
use super::view::{CacheView, Settable};
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::body::Data;
use crate::api::error::ApiError;
use crate::api::extract::Json;
use crate::api::tag::{IfMatch, Tagged};
use crate::audit::{self, Change};
use crate::auth::{Application, Principal, Scope};
use crate::proxy::CacheId;
use crate::workspaces::caches::{Mistake, Row, check_hostname, store};
use crate::workspaces::{self, Role};

/// `{"cache": {…}}`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewCache {
    cache: NewFields,
}

/// What a cache is made of. There is no user and no password: clients bring theirs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewFields {
    /// May be left out by an application, and by a user who is an owner of just one workspace.
    #[schema(example = 1)]
    workspace: Option<i64>,
    /// 1 to 63 characters, unique in the workspace.
    #[schema(example = "shop", min_length = 1, max_length = 63)]
    name: Option<String>,
    /// `postgres`. The types `mysql`, `mariadb` and `mssql` are known, and refused until they exist.
    #[serde(rename = "type")]
    #[schema(example = "postgres")]
    kind: Option<String>,
    /// A DNS name or an IP address.
    #[schema(example = "db.example.com")]
    hostname: Option<String>,
    #[schema(example = 5432, minimum = 1, maximum = 65535)]
    port: Option<i64>,
}

/// `{"cache": {…}}`
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ChangedCache {
    cache: ChangedFields,
}

/// What can be changed of a cache. What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangedFields {
    /// 1 to 63 characters, unique in the workspace.
    #[schema(example = "shop", min_length = 1, max_length = 63)]
    name: Option<String>,
    /// A DNS name or an IP address. It can't be changed while the settings have passwords, which are for the present one.
    #[schema(example = "db.example.com")]
    hostname: Option<String>,
    /// As the hostname.
    #[schema(example = 5432, minimum = 1, maximum = 65535)]
    port: Option<i64>,
}

fn check_name(name: &str, mistakes: &mut Vec<Mistake>) {
    if name.trim().is_empty() {
        mistakes.push(("name", "can't be blank".to_owned()));
    } else if name.chars().count() > 63 || name.chars().any(char::is_control) {
        mistakes
            .push(("name", "has to have 1 to 63 characters, none of them a control".to_owned()));
    }
}

fn check_type(kind: Option<&str>, mistakes: &mut Vec<Mistake>) {
    let why = match kind {
        Some("postgres") => return,
        Some(known @ ("mysql" | "mariadb" | "mssql")) => {
            format!("{known} is not there yet: the only type is postgres")
        }
        Some(_) => "is not known: the only type is postgres".to_owned(),
        None => "can't be blank".to_owned(),
    };
    mistakes.push(("type", why));
}

fn check_host(hostname: &str, mistakes: &mut Vec<Mistake>) {
    if let Err(why) = check_hostname(hostname) {
        mistakes.push(("hostname", why.to_owned()));
    }
}

fn check_port(port: i64, mistakes: &mut Vec<Mistake>) -> u16 {
    let port = u16::try_from(port).unwrap_or_default();
    if port == 0 {
        mistakes.push(("port", "has to be 1 to 65535".to_owned()));
    }
    port
}

fn mistaken(mistakes: Vec<Mistake>) -> Result<(), ApiError> {
    if mistakes.is_empty() { Ok(()) } else { Err(ApiError::Fields(mistakes)) }
}

/// What there is, for a cache that has no row: none, or one that only the configuration file changes.
pub(super) fn no_row(app: &App, id: &str) -> ApiError {
    let of_file = "The cache is of the configuration file, and is changed there.";
    find(app, id).map_or_else(|error| error, |_| ApiError::Conflict(of_file.to_owned()))
}

/// The workspace that a new cache is to belong to, and that the caller may add it to.
async fn workspace(
    client: &impl GenericClient,
    access: &Access,
    asked: Option<i64>,
) -> Result<i64, ApiError> {
    let principal = access.principal()?;
    let workspace = match (&principal.application, asked) {
        (Some(application), asked) => {
            asked
                .filter(|asked| *asked != application.workspace)
                .map_or(Ok(()), |_| Err(ApiError::NotFound))?;
            application.workspace
        }
        (None, Some(asked)) => asked,
        (None, None) => {
            // Others can make a user a member of their workspace unasked: what is meant to be the user's own is not made there.
            let sql = "SELECT workspace_id FROM integratedb.workspace_member \
                       WHERE user_id = $1 AND role = 'owner' LIMIT 2";
            let rows = client.query(sql, &[&principal.user]).await?;
            let [only] = rows.as_slice() else {
                let why = "can't be blank, unless you are an owner of just one";
                return Err(ApiError::field("workspace", why));
            };
            only.get(0)
        }
    };
    may_write(workspaces::role(client, workspace, principal.user).await?)?;
    Ok(workspace)
}

/// Whether somebody with this role in a workspace may write its caches.
fn may_write(role: Option<Role>) -> Result<(), ApiError> {
    match role {
        Some(role) if role >= Role::Member => Ok(()),
        Some(_) => Err(ApiError::Forbidden),
        // Whoever is no member does not hear whether it exists.
        None => Err(ApiError::NotFound),
    }
}

/// Holds a workspace until the end of the transaction: which caches it has, their names, and that the caller may still write
/// them. To ask an origin takes a while, in which that may have changed.
async fn hold(
    transaction: &Transaction<'_>,
    access: &Access,
    workspace: i64,
) -> Result<(), ApiError> {
    let user = access.principal()?.user;
    may_write(workspaces::lock(transaction, workspace, user).await?)?;
    // And that it has not been taken back what the caller comes with.
    let still = Principal::of(&**transaction, access.token()?).await?;
    let Principal { application, .. } = still.ok_or(ApiError::Unauthorized)?;
    let may = |application: Application| application.scopes.contains(&Scope::CachesWrite);
    if application.is_none_or(may) { Ok(()) } else { Err(ApiError::Forbidden) }
}

/// Creates a cache. The host has to resolve, and a Postgres has to answer there. Clients can use it at once.
#[utoipa::path(post, path = "/api/v1/caches", tag = "caches", request_body = NewCache, security(("token" = [])),
    responses((status = 201, body = Data<CacheView>, headers(
            ("Location" = String, description = "The path of the cache."),
            ("ETag" = String, description = "Of name, hostname and port, for `If-Match`."))),
        (status = 401), (status = 403), (status = 404), (status = 409), (status = 422)))]
pub(in crate::api) async fn create(
    State(app): State<App>,
    access: Access,
    Json(NewCache { cache: fields }): Json<NewCache>,
) -> Result<Response, ApiError> {
    let mut mistakes = Vec::new();
    let name = fields.name.unwrap_or_default();
    check_name(&name, &mut mistakes);
    check_type(fields.kind.as_deref(), &mut mistakes);
    let hostname = fields.hostname.unwrap_or_default();
    check_host(&hostname, &mut mistakes);
    let port = match fields.port {
        Some(port) => check_port(port, &mut mistakes),
        None => {
            mistakes.push(("port", "can't be blank".to_owned()));
            0
        }
    };
    let owner = workspace(&**app.client().await?, &access, fields.workspace).await?;
    mistaken(mistakes)?;
    let id = CacheId::random();
    if app.caches().connection_string(id.as_str()).is_none() {
        let why = "Nobody has said where clients connect: this takes proxy.listen, or workspaces.hostname and \
                   workspaces.port.";
        return Err(ApiError::Conflict(why.to_owned()));
    }
    // Without a connection to the database, which may take seconds.
    app.caches().probe(&hostname, port).await.map_err(|mistake| ApiError::Fields(vec![mistake]))?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    hold(&transaction, &access, owner).await?;
    if store::count(&*transaction, owner).await? >= i64::from(app.caches().most()) {
        let most = app.caches().most();
        return Err(ApiError::Conflict(format!(
            "The workspace has {most} caches, which is the most."
        )));
    }
    // Those that are added at the same moment elsewhere may come on top: it bounds what a process has to hold.
    let most = app.caches().most_in_all();
    if store::count_all(&*transaction).await? >= i64::from(most) {
        return Err(ApiError::Conflict(format!(
            "All workspaces together have {most} caches, which is the most."
        )));
    }
    let row = store::insert(&*transaction, &id, owner, &name, &hostname, port).await?;
    let row = row.ok_or_else(|| taken(&name))?;
    let subject = path(&row.id);
    let change = Change {
        action: "cache.create",
        subject: &subject,
        workspace: Some(owner),
        before: Value::Null,
        after: Change::view(&Settable::of(&row)),
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    drop(client);
    app.caches().take(&id).await;
    Ok((StatusCode::CREATED, [(header::LOCATION, subject)], tagged(&app, &row)).into_response())
}

fn taken(name: &str) -> ApiError {
    ApiError::Conflict(format!("The workspace has a cache {name} already."))
}

pub(super) fn path(id: &str) -> String {
    format!("/api/v1/caches/{id}")
}

/// Changes name, hostname or port of a cache. With another origin, clients that share connections go there from their next
/// transaction on; those with a connection of their own keep it.
#[utoipa::path(put, path = "/api/v1/caches/{id}", tag = "caches", request_body = ChangedCache,
    params(("id" = String, Path, description = "The cache's id.", example = "cache-6f1d0c2b9a8e4f37b5d0a1c2e3f40516"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of what is to be changed.")),
    security(("token" = [])),
    responses((status = 200, body = Data<CacheView>,
            headers(("ETag" = String, description = "Of name, hostname and port, for `If-Match`."))),
        (status = 401), (status = 403), (status = 404), (status = 409), (status = 412), (status = 422)))]
pub(in crate::api) async fn update(
    State(app): State<App>,
    access: Access,
    Path(id): Path<String>,
    if_match: IfMatch,
    Json(ChangedCache { cache: fields }): Json<ChangedCache>,
) -> Result<Tagged<CacheView>, ApiError> {
    let mut mistakes = Vec::new();
    if let Some(name) = &fields.name {
        check_name(name, &mut mistakes);
    }
    if let Some(hostname) = &fields.hostname {
        check_host(hostname, &mut mistakes);
    }
    let port = fields.port.map(|port| check_port(port, &mut mistakes));
    mistaken(mistakes)?;
    let row = store::find(&**app.client().await?, &id).await?;
    let before = row.ok_or_else(|| no_row(&app, &id))?;
    let changed =
        |before: &Row| before.changed(fields.name.as_deref(), fields.hostname.as_deref(), port);
    let after = changed(&before);
    if !after.is_where(&before) {
        let probed = app.caches().probe(&after.hostname, after.port).await;
        probed.map_err(|mistake| ApiError::Fields(vec![mistake]))?;
    }
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    hold(&transaction, &access, before.workspace).await?;
    let before = store::lock(&*transaction, &id).await?.ok_or(ApiError::NotFound)?;
    if_match.check(Some(&Settable::of(&before)))?;
    let after = changed(&before);
    if !after.is_where(&before) && before.has_passwords() {
        let why = "The settings of the cache have passwords for its present origin, which must not go to another one: \
                   take verifiers and caching out of the settings first, and give them again afterwards.";
        return Err(ApiError::Conflict(why.to_owned()));
    }
    if store::is_taken(&*transaction, &before, &after.name).await? {
        return Err(taken(&after.name));
    }
    let after = store::update(&*transaction, &after).await?;
    let change = Change {
        action: "cache.update",
        subject: &path(&id),
        workspace: access.workspace(),
        before: Change::view(&Settable::of(&before)),
        after: Change::view(&Settable::of(&after)),
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    drop(client);
    take(&app, &id).await;
    Ok(tagged(&app, &after))
}

/// Tells the proxy of a change.
pub(super) async fn take(app: &App, id: &str) {
    if let Ok(id) = CacheId::try_from(id.to_owned()) {
        app.caches().take(&id).await;
    }
}

/// Deletes a cache and its rules. New clients are refused, and sessions end between transactions.
#[utoipa::path(delete, path = "/api/v1/caches/{id}", tag = "caches", security(("token" = [])),
    params(("id" = String, Path, description = "The cache's id.", example = "cache-6f1d0c2b9a8e4f37b5d0a1c2e3f40516"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of what is to be deleted.")),
    responses((status = 204), (status = 401), (status = 403), (status = 404), (status = 409), (status = 412)))]
pub(in crate::api) async fn delete(
    State(app): State<App>,
    access: Access,
    Path(id): Path<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let row = store::lock(&*transaction, &id).await?.ok_or_else(|| no_row(&app, &id))?;
    if_match.check(Some(&Settable::of(&row)))?;
    store::delete(&*transaction, &id).await?;
    let change = Change {
        action: "cache.delete",
        subject: &path(&id),
        workspace: access.workspace(),
        before: Change::view(&Settable::of(&row)),
        after: Value::Null,
    };
    audit::record(&*transaction, &access.actor(), change).await?;
    transaction.commit().await?;
    drop(client);
    take(&app, &id).await;
    Ok(StatusCode::NO_CONTENT)
}
