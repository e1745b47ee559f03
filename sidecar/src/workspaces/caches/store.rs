//! The caches of workspaces, as they are stored.

use std::collections::HashMap;

use serde_json::Value;
use tokio_postgres::GenericClient;

use super::settings::Settings;
use crate::db::DbError;
use crate::proxy::CacheId;

/// A cache as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its place in lists.
    pub(crate) number: i64,
    pub(crate) id: String,
    pub(crate) workspace: i64,
    pub(crate) name: String,
    pub(crate) hostname: String,
    pub(crate) port: u16,
    pub(super) settings: Value,
    pub(super) credentials: Option<Vec<u8>>,
    pub(crate) version: i64,
}

/// Which caches are wanted.
#[derive(Default)]
pub(crate) struct Wanted<'a> {
    /// Those of workspaces that this user is a member of.
    pub(crate) member: i64,
    /// Of this workspace only.
    pub(crate) workspace: Option<i64>,
    /// With this name only.
    pub(crate) name: Option<&'a str>,
    /// After this place in the list.
    pub(crate) after: i64,
    /// At most so many.
    pub(crate) limit: i64,
}

const COLUMNS: &str = "c.number, c.id, c.workspace_id, c.name, c.hostname, c.port, c.settings, c.credentials, c.version";

impl Row {
    fn read(row: &tokio_postgres::Row) -> Self {
        Self {
            number: row.get(0),
            id: row.get(1),
            workspace: row.get(2),
            name: row.get(3),
            hostname: row.get(4),
            // The table allows no other ports.
            port: u16::try_from(row.get::<_, i32>(5)).unwrap_or_default(),
            settings: row.get(6),
            credentials: row.get(7),
            version: row.get(8),
        }
    }

    /// The same with another name, hostname or port, where one is given.
    pub(crate) fn changed(
        &self,
        name: Option<&str>,
        hostname: Option<&str>,
        port: Option<u16>,
    ) -> Self {
        let text = |text: Option<&str>, before: &str| text.unwrap_or(before).to_owned();
        Self {
            name: text(name, &self.name),
            hostname: text(hostname, &self.hostname),
            port: port.unwrap_or(self.port),
            ..self.clone()
        }
    }

    /// Whether it has the origin of another row.
    pub(crate) fn is_where(&self, other: &Self) -> bool {
        (&self.hostname, self.port) == (&other.hostname, other.port)
    }

    /// Whether its settings have passwords, which are for its present origin.
    pub(crate) const fn has_passwords(&self) -> bool {
        self.credentials.is_some()
    }

    /// Its passwords, sealed: each time they are written, they look different.
    pub(crate) fn sealed(&self) -> Option<&[u8]> {
        self.credentials.as_deref()
    }

    /// What is set of it. The error is for people: a row of a later version, perhaps.
    pub(crate) fn settings(&self) -> Result<Settings, String> {
        Settings::stored(self.settings.clone())
            .map_err(|error| format!("its settings can't be read: {error}"))
    }
}

/// The ids and versions of all caches. An id that can be none is passed over.
pub(super) async fn versions(
    client: &impl GenericClient,
) -> Result<HashMap<CacheId, i64>, DbError> {
    let rows = client.query("SELECT id, version FROM integratedb.cache", &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        Some((CacheId::try_from(row.get::<_, String>(0)).ok()?, row.get(1)))
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// One cache.
pub(crate) async fn find(client: &impl GenericClient, id: &str) -> Result<Option<Row>, DbError> {
    read(client, id, "").await
}

/// What can be no id, nothing has: it may not even be a text for Postgres.
async fn read(client: &impl GenericClient, id: &str, more: &str) -> Result<Option<Row>, DbError> {
    if CacheId::try_from(id.to_owned()).is_err() {
        return Ok(None);
    }
    let sql = format!("SELECT {COLUMNS} FROM integratedb.cache c WHERE c.id = $1 {more}");
    Ok(client.query_opt(&sql, &[&id]).await?.as_ref().map(Row::read))
}

/// One cache, which nobody else changes before the transaction ends.
pub(crate) async fn lock(client: &impl GenericClient, id: &str) -> Result<Option<Row>, DbError> {
    read(client, id, "FOR UPDATE").await
}

/// Those that are wanted, in the order in which they were made.
pub(crate) async fn list(
    client: &impl GenericClient,
    wanted: &Wanted<'_>,
) -> Result<Vec<Row>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM integratedb.cache c \
         JOIN integratedb.workspace_member m ON m.workspace_id = c.workspace_id AND m.user_id = $1 \
         WHERE ($2::bigint IS NULL OR c.workspace_id = $2) AND ($3::text IS NULL OR c.name = $3) \
             AND c.number > $4 ORDER BY c.number LIMIT $5"
    );
    let Wanted { member, workspace, name, after, limit } = wanted;
    let rows = client.query(&sql, &[member, workspace, name, after, limit]).await?;
    Ok(rows.iter().map(Row::read).collect())
}

/// How many caches a workspace has.
pub(crate) async fn count(client: &impl GenericClient, workspace: i64) -> Result<i64, DbError> {
    let sql = "SELECT count(*) FROM integratedb.cache WHERE workspace_id = $1";
    Ok(client.query_one(sql, &[&workspace]).await?.get(0))
}

/// How many caches all workspaces have together.
pub(crate) async fn count_all(client: &impl GenericClient) -> Result<i64, DbError> {
    Ok(client.query_one("SELECT count(*) FROM integratedb.cache", &[]).await?.get(0))
}

/// Adds a cache; `None` if the workspace has one of that name.
pub(crate) async fn insert(
    client: &impl GenericClient,
    id: &CacheId,
    workspace: i64,
    name: &str,
    hostname: &str,
    port: u16,
) -> Result<Option<Row>, DbError> {
    let sql = format!(
        "INSERT INTO integratedb.cache AS c (id, workspace_id, name, type, hostname, port) \
         VALUES ($1, $2, $3, 'postgres', $4, $5) \
         ON CONFLICT (workspace_id, name) DO NOTHING RETURNING {COLUMNS}"
    );
    let port = i32::from(port);
    let row = client.query_opt(&sql, &[&id.as_str(), &workspace, &name, &hostname, &port]).await?;
    Ok(row.as_ref().map(Row::read))
}

/// Whether another cache of the workspace has the name.
pub(crate) async fn is_taken(
    client: &impl GenericClient,
    row: &Row,
    name: &str,
) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT FROM integratedb.cache WHERE workspace_id = $1 AND name = $2 AND id <> $3)";
    Ok(client.query_one(sql, &[&row.workspace, &name, &row.id]).await?.get(0))
}

/// Writes name, hostname, port, settings and credentials of a row.
pub(crate) async fn update(client: &impl GenericClient, row: &Row) -> Result<Row, DbError> {
    let sql = format!(
        "UPDATE integratedb.cache AS c SET name = $2, hostname = $3, port = $4, settings = $5, credentials = $6, \
             version = version + 1, updated_at = now() WHERE id = $1 RETURNING {COLUMNS}"
    );
    let port = i32::from(row.port);
    let Row { id, name, hostname, settings, credentials, .. } = row;
    let row = client.query_one(&sql, &[id, name, hostname, &port, settings, credentials]).await?;
    Ok(Row::read(&row))
}

/// Removes a cache and its rules.
pub(crate) async fn delete(client: &impl GenericClient, id: &str) -> Result<(), DbError> {
    client.execute("DELETE FROM integratedb.cache_rules WHERE cache_id = $1", &[&id]).await?;
    client.execute("DELETE FROM integratedb.cache WHERE id = $1", &[&id]).await?;
    Ok(())
}
