//! The audit log as it is shown.

use serde_json::Value;
use tokio_postgres::{GenericClient, Row};

use crate::db::DbError;

/// An event of the audit log.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: i64,
    /// When, in RFC 3339.
    pub(crate) at: String,
    /// The user who made the change, or for whom an application made it: id and name at the time.
    pub(crate) user: Option<(i64, String)>,
    /// The application: id and name at the time.
    pub(crate) application: Option<(i64, String)>,
    pub(crate) address: Option<String>,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// Which events.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// Those before the one with this number.
    pub(crate) before: Option<i64>,
    pub(crate) action: Option<String>,
    pub(crate) user: Option<i64>,
    pub(crate) application: Option<i64>,
    /// The id of a cache: it, and what belongs to it.
    pub(crate) cache: Option<String>,
}

const COLUMNS: &str = r#"id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), user_id, username,
    application_id, application_name, host(address), action, subject, before, after"#;

/// The latest events of a workspace; if `None`, of the installation and of workspaces that are gone. At most `limit`.
pub(crate) async fn list(
    client: &impl GenericClient,
    workspace: Option<i64>,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<Event>, DbError> {
    // An index is used for either, and for no comparison that takes NULL for a value.
    let of = match workspace {
        Some(_) => "workspace_id = $1",
        None => {
            "$1::bigint IS NULL AND NOT EXISTS (SELECT FROM integratedb.workspace w WHERE w.id = workspace_id)"
        }
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM integratedb.audit_event
         WHERE {of}
           AND ($2::bigint IS NULL OR id < $2) AND ($3::text IS NULL OR action = $3)
           AND ($4::bigint IS NULL OR user_id = $4) AND ($5::bigint IS NULL OR application_id = $5)
           AND ($6::text IS NULL OR subject = $6 OR starts_with(subject, $6 || '/'))
         ORDER BY id DESC LIMIT $7"
    );
    let cache = filter.cache.as_ref().map(|cache| format!("/api/v1/caches/{cache}"));
    let rows = client
        .query(
            &sql,
            &[
                &workspace,
                &filter.before,
                &filter.action,
                &filter.user,
                &filter.application,
                &cache,
                &limit,
            ],
        )
        .await?;
    Ok(rows.iter().map(event).collect())
}

fn event(row: &Row) -> Event {
    let named =
        |id, name| Some((row.get::<_, Option<i64>>(id)?, row.get::<_, Option<String>>(name)?));
    Event {
        id: row.get(0),
        at: row.get(1),
        user: named(2, 3),
        application: named(4, 5),
        address: row.get(6),
        action: row.get(7),
        subject: row.get(8),
        before: row.get(9),
        after: row.get(10),
    }
}
