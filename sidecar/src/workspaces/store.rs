//! Workspaces in the sidecar's database.

use deadpool_postgres::Transaction;
use tokio_postgres::{GenericClient, Row};

use super::role::Role;
use crate::db::DbError;
use crate::proxy::CacheId;

/// A workspace, as one of its members sees it.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    pub(crate) id: i64,
    pub(crate) name: String,
    /// What the member may do.
    pub(crate) role: Role,
    /// When it was made, in RFC 3339.
    pub(crate) inserted_at: String,
    /// When it was last renamed.
    pub(crate) updated_at: String,
}

const COLUMNS: &str = r#"w.id, w.name, m.role,
    to_char(w.inserted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    to_char(w.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;

impl Workspace {
    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            id: row.get(0),
            name: row.get(1),
            role: Role::stored(row.get(2))?,
            inserted_at: row.get(3),
            updated_at: row.get(4),
        })
    }
}

/// The role of a user in a workspace; `None` if the user is no member, or there is no such workspace.
pub(crate) async fn role(
    client: &impl GenericClient,
    workspace: i64,
    user: i64,
) -> Result<Option<Role>, DbError> {
    let sql =
        "SELECT role FROM integratedb.workspace_member WHERE workspace_id = $1 AND user_id = $2";
    let row = client.query_opt(sql, &[&workspace, &user]).await?;
    Ok(row.and_then(|row| Role::parse(row.get(0))))
}

/// The workspace that a cache belongs to; `None` if it is none that was made over REST.
pub(crate) async fn of_cache(
    client: &impl GenericClient,
    cache: &str,
) -> Result<Option<i64>, DbError> {
    if CacheId::try_from(cache.to_owned()).is_err() {
        return Ok(None);
    }
    let sql = "SELECT workspace_id FROM integratedb.cache WHERE id = $1";
    Ok(client.query_opt(sql, &[&cache]).await?.map(|row| row.get(0)))
}

/// The workspaces that a user is a member of, by their ids; those after one, at most `limit`.
pub(crate) async fn list(
    client: &impl GenericClient,
    user: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<Workspace>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM integratedb.workspace_member m JOIN integratedb.workspace w ON w.id = m.workspace_id
         WHERE m.user_id = $1 AND w.id > $2 ORDER BY w.id LIMIT $3"
    );
    client.query(&sql, &[&user, &after, &limit]).await?.iter().map(Workspace::read).collect()
}

/// A workspace, as this member sees it; `None` if the user is no member.
pub(crate) async fn find(
    client: &impl GenericClient,
    workspace: i64,
    user: i64,
) -> Result<Option<Workspace>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM integratedb.workspace_member m JOIN integratedb.workspace w ON w.id = m.workspace_id
         WHERE w.id = $1 AND m.user_id = $2"
    );
    client.query_opt(&sql, &[&workspace, &user]).await?.as_ref().map(Workspace::read).transpose()
}

/// Holds a user until the end of the transaction, so that of the workspaces it makes one comes after the other.
pub(crate) async fn hold_owner(tx: &Transaction<'_>, user: i64) -> Result<(), DbError> {
    let sql = "SELECT FROM integratedb.users WHERE id = $1 FOR NO KEY UPDATE";
    tx.execute(sql, &[&user]).await?;
    Ok(())
}

/// Makes a workspace that has no member yet, and gives its id.
pub(crate) async fn create(tx: &Transaction<'_>, name: &str) -> Result<i64, DbError> {
    let sql = "INSERT INTO integratedb.workspace (name) VALUES ($1) RETURNING id";
    Ok(tx.query_one(sql, &[&name]).await?.get(0))
}

/// Holds a workspace until the end of the transaction, so that nobody else changes it, its members or which caches it has.
/// Gives the role that the user has then: it may have been another one when the request was let through.
pub(crate) async fn lock(
    tx: &Transaction<'_>,
    workspace: i64,
    user: i64,
) -> Result<Option<Role>, DbError> {
    tx.execute("SELECT FROM integratedb.workspace WHERE id = $1 FOR UPDATE", &[&workspace]).await?;
    role(&**tx, workspace, user).await
}

/// Renames a workspace.
pub(crate) async fn rename(
    tx: &Transaction<'_>,
    workspace: i64,
    name: &str,
) -> Result<(), DbError> {
    let sql = "UPDATE integratedb.workspace SET name = $2, updated_at = now() WHERE id = $1";
    tx.execute(sql, &[&workspace, &name]).await?;
    Ok(())
}

/// The names of a workspace's caches.
pub(crate) async fn cache_names(
    tx: &Transaction<'_>,
    workspace: i64,
) -> Result<Vec<String>, DbError> {
    let sql = "SELECT name FROM integratedb.cache WHERE workspace_id = $1 ORDER BY name";
    Ok(tx.query(sql, &[&workspace]).await?.iter().map(|row| row.get(0)).collect())
}

/// Deletes a workspace that has no caches, with its members, its applications and what was granted in it.
pub(crate) async fn delete(tx: &Transaction<'_>, workspace: i64) -> Result<(), DbError> {
    tx.execute("DELETE FROM integratedb.workspace WHERE id = $1", &[&workspace]).await?;
    Ok(())
}
