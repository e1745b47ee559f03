//! Members in the sidecar's database. Whoever changes them holds the workspace ([`super::lock`]).

use deadpool_postgres::Transaction;
use tokio_postgres::{GenericClient, Row};

use super::role::Role;
use crate::db::DbError;

/// A member of a workspace.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) user: i64,
    pub(crate) username: String,
    pub(crate) role: Role,
    /// Since when, in RFC 3339.
    pub(crate) inserted_at: String,
}

const COLUMNS: &str = r#"u.id, u.username, m.role,
    to_char(m.inserted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;

const FROM: &str = "integratedb.workspace_member m JOIN integratedb.users u ON u.id = m.user_id";

impl Member {
    fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self {
            user: row.get(0),
            username: row.get(1),
            role: Role::stored(row.get(2))?,
            inserted_at: row.get(3),
        })
    }
}

/// The members of a workspace by their ids; those after one, at most `limit`.
pub(crate) async fn members(
    client: &impl GenericClient,
    workspace: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<Member>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {FROM} WHERE m.workspace_id = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3"
    );
    client.query(&sql, &[&workspace, &after, &limit]).await?.iter().map(Member::read).collect()
}

/// One member.
pub(crate) async fn member(
    client: &impl GenericClient,
    workspace: i64,
    user: i64,
) -> Result<Option<Member>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE m.workspace_id = $1 AND m.user_id = $2");
    client.query_opt(&sql, &[&workspace, &user]).await?.as_ref().map(Member::read).transpose()
}

/// How many owners a workspace has besides a user.
pub(crate) async fn owners_besides(
    tx: &Transaction<'_>,
    workspace: i64,
    user: i64,
) -> Result<i64, DbError> {
    let sql = "SELECT count(*) FROM integratedb.workspace_member
               WHERE workspace_id = $1 AND role = 'owner' AND user_id <> $2";
    Ok(tx.query_one(sql, &[&workspace, &user]).await?.get(0))
}

/// How many workspaces a user owns.
pub(crate) async fn owned(client: &impl GenericClient, user: i64) -> Result<i64, DbError> {
    let sql =
        "SELECT count(*) FROM integratedb.workspace_member WHERE user_id = $1 AND role = 'owner'";
    Ok(client.query_one(sql, &[&user]).await?.get(0))
}

/// Keeps a user from being deleted until the end of the transaction: for whoever is about to hold a workspace and to make the
/// user a member of it.
pub(crate) async fn hold_user(tx: &Transaction<'_>, user: i64) -> Result<(), DbError> {
    tx.execute("SELECT FROM integratedb.users WHERE id = $1 FOR KEY SHARE", &[&user]).await?;
    Ok(())
}

/// Makes a user a member, or gives a member another role. `None` if there is no such user.
pub(crate) async fn put_member(
    tx: &Transaction<'_>,
    workspace: i64,
    user: i64,
    role: Role,
) -> Result<Option<Member>, DbError> {
    let sql = "INSERT INTO integratedb.workspace_member (workspace_id, user_id, role)
        SELECT $1, id, $3 FROM integratedb.users WHERE id = $2 FOR KEY SHARE
        ON CONFLICT (workspace_id, user_id) DO UPDATE SET role = EXCLUDED.role, updated_at = now()";
    tx.execute(sql, &[&workspace, &user, &role.as_str()]).await?;
    member(&**tx, workspace, user).await
}

/// Removes a member, and what the member had granted to applications in the workspace.
pub(crate) async fn remove_member(
    tx: &Transaction<'_>,
    workspace: i64,
    user: i64,
) -> Result<(), DbError> {
    let grants = "DELETE FROM integratedb.oauth_grant WHERE workspace_id = $1 AND user_id = $2";
    tx.execute(grants, &[&workspace, &user]).await?;
    let sql = "DELETE FROM integratedb.workspace_member WHERE workspace_id = $1 AND user_id = $2";
    tx.execute(sql, &[&workspace, &user]).await?;
    Ok(())
}

/// A workspace that a user is a member of.
pub(crate) struct Membership {
    pub(crate) workspace: i64,
    /// The workspace's name.
    pub(crate) name: String,
    pub(crate) member: Member,
}

/// The workspaces that a user is a member of, held until the end of the transaction: for whoever deletes the user.
pub(crate) async fn of_user(tx: &Transaction<'_>, user: i64) -> Result<Vec<Membership>, DbError> {
    // In one order, so that two who do this never wait for each other.
    let lock = "SELECT FROM integratedb.workspace
        WHERE id IN (SELECT workspace_id FROM integratedb.workspace_member WHERE user_id = $1)
        ORDER BY id FOR UPDATE";
    tx.execute(lock, &[&user]).await?;
    let sql = format!(
        "SELECT {COLUMNS}, w.id, w.name FROM {FROM} JOIN integratedb.workspace w ON w.id = m.workspace_id
         WHERE m.user_id = $1 ORDER BY w.id"
    );
    let membership = |row: &Row| {
        Ok(Membership { workspace: row.get(4), name: row.get(5), member: Member::read(row)? })
    };
    tx.query(&sql, &[&user]).await?.iter().map(membership).collect()
}
