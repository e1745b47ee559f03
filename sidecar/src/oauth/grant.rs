//! What users have agreed to.

use serde::Serialize;
use tokio_postgres::{GenericClient, Row};
use utoipa::ToSchema;

use super::application::scopes;
use super::code;
use super::request::Request;
use super::settings::OAuthSettings;
use crate::audit::{Actor, Change, record};
use crate::auth::{Scope, Token};
use crate::db::DbError;

/// What a user has let an application do in a workspace.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Authorization {
    /// Its id.
    #[schema(example = 1)]
    pub(crate) id: i64,
    application: Authorized,
    workspace: Named,
    /// All that the user has agreed to.
    scopes: Vec<Scope>,
    /// When the user agreed first.
    #[schema(example = "2026-01-01T12:00:00.000000Z")]
    inserted_at: String,
    /// And when last.
    #[schema(example = "2026-01-01T12:00:00.000000Z")]
    updated_at: String,
}

/// The application that was let in.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Authorized {
    #[schema(example = 1)]
    id: i64,
    #[schema(example = "Example Partner")]
    name: String,
    #[schema(example = "https://app.example.com")]
    homepage_url: Option<String>,
    #[schema(example = "https://app.example.com/logo.png")]
    logo_url: Option<String>,
}

/// The workspace that it was let into.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct Named {
    #[schema(example = 1)]
    id: i64,
    #[schema(example = "Production")]
    name: String,
}

const SELECT: &str = "SELECT g.id, a.id, a.name, a.homepage_url, a.logo_url, w.id, w.name, g.scopes, \
     to_char(g.inserted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
     to_char(g.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
     FROM integratedb.oauth_grant g \
     JOIN integratedb.oauth_application a ON a.id = g.application_id \
     JOIN integratedb.workspace w ON w.id = g.workspace_id";

fn read(row: &Row) -> Authorization {
    Authorization {
        id: row.get(0),
        application: Authorized {
            id: row.get(1),
            name: row.get(2),
            homepage_url: row.get(3),
            logo_url: row.get(4),
        },
        workspace: Named { id: row.get(5), name: row.get(6) },
        scopes: scopes(&row.get::<_, Vec<String>>(7)),
        inserted_at: row.get(8),
        updated_at: row.get(9),
    }
}

fn subject(grant: i64) -> String {
    format!("/api/v1/oauth/authorizations/{grant}")
}

/// Notes that `user`, who is logged in as long as `transaction` lasts, agrees; gives the code for the application. `None` if
/// the user is no member of the workspace.
pub(crate) async fn allow(
    transaction: &impl GenericClient,
    request: &Request,
    actor: &Actor,
    user: i64,
    workspace: i64,
    settings: &OAuthSettings,
) -> Result<Option<Token>, DbError> {
    // Whoever ends the membership waits, and then sees what it has to end with it.
    let is_member = transaction
        .query_opt(
            "SELECT FROM integratedb.workspace_member WHERE workspace_id = $1 AND user_id = $2 FOR SHARE",
            &[&workspace, &user],
        )
        .await?;
    if is_member.is_none() {
        return Ok(None);
    }
    let of = "WHERE g.application_id = $1 AND g.user_id = $2 AND g.workspace_id = $3";
    let sql = format!("{SELECT} {of} FOR UPDATE OF g");
    let before = transaction.query_opt(&sql, &[&request.application.id, &user, &workspace]).await?;
    let before = before.as_ref().map(read);
    let scopes: Vec<&str> = request.scopes.iter().map(|scope| scope.as_str()).collect();
    let row = transaction
        .query_one(
            "INSERT INTO integratedb.oauth_grant AS g (application_id, user_id, workspace_id, scopes) \
             VALUES ($1, $2, $3, $4) \
             ON CONFLICT (application_id, user_id, workspace_id) DO UPDATE \
             SET scopes = ARRAY(SELECT DISTINCT unnest(g.scopes || excluded.scopes) ORDER BY 1), \
                 updated_at = now() \
             RETURNING g.id",
            &[&request.application.id, &user, &workspace, &scopes],
        )
        .await?;
    let grant: i64 = row.get(0);
    let after =
        read(&transaction.query_one(&format!("{SELECT} WHERE g.id = $1"), &[&grant]).await?);
    let change = Change {
        action: if before.is_some() { "authorization.update" } else { "authorization.create" },
        subject: &subject(grant),
        workspace: Some(workspace),
        before: Change::view(&before),
        after: Change::view(&after),
    };
    record(transaction, actor, change).await?;
    code::issue(transaction, grant, request, settings.code_secs).await.map(Some)
}

/// Those of a user after one, in the order of their ids; only of one application if one is named.
pub(crate) async fn list(
    client: &impl GenericClient,
    user: i64,
    application: Option<i64>,
    after: i64,
    limit: i64,
) -> Result<Vec<Authorization>, DbError> {
    let sql = format!(
        "{SELECT} WHERE g.user_id = $1 AND ($2::bigint IS NULL OR a.id = $2) AND g.id > $3 ORDER BY g.id LIMIT $4"
    );
    let rows = client.query(&sql, &[&user, &application, &after, &limit]).await?;
    Ok(rows.iter().map(read).collect())
}

/// Takes back what a user has agreed to, all of it or one, or that of one application; gives how many that were.
pub(crate) async fn revoke(
    transaction: &impl GenericClient,
    actor: &Actor,
    user: i64,
    one: Option<i64>,
    application: Option<i64>,
) -> Result<usize, DbError> {
    let sql = format!(
        "{SELECT} WHERE g.user_id = $1 AND ($2::bigint IS NULL OR g.id = $2) \
         AND ($3::bigint IS NULL OR a.id = $3) ORDER BY g.id FOR UPDATE OF g"
    );
    let rows = transaction.query(&sql, &[&user, &one, &application]).await?;
    for before in rows.iter().map(read) {
        let sql = "DELETE FROM integratedb.oauth_grant WHERE id = $1";
        transaction.execute(sql, &[&before.id]).await?;
        let change = Change {
            action: "authorization.revoke",
            subject: &subject(before.id),
            workspace: Some(before.workspace.id),
            before: Change::view(&before),
            after: serde_json::Value::Null,
        };
        record(transaction, actor, change).await?;
    }
    Ok(rows.len())
}
