//! Workspaces: who may see and change which caches and applications.

mod role;
mod settings;

pub use role::Role;
pub use settings::WorkspaceSettings;

use tokio_postgres::GenericClient;

use crate::db::DbError;

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
    let sql = "SELECT workspace_id FROM integratedb.cache WHERE id = $1";
    Ok(client.query_opt(sql, &[&cache]).await?.map(|row| row.get(0)))
}
