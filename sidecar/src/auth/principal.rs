//! Who is behind a token: a user, by a token of a login, or an application that acts for a user in one workspace.

use tokio_postgres::GenericClient;

use super::scope::Scope;
use super::token::{Token, hash};
use crate::db::DbError;

/// Who is behind a token that is valid now.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The user, or the one that the application acts for.
    pub user: i64,
    /// The user's name.
    pub username: String,
    /// Whether the user may steer the installation. An application never may.
    pub operator: bool,
    /// The application, if it is one.
    pub application: Option<Application>,
}

/// An application that acts for a user.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The one workspace that the user has let it into.
    pub workspace: i64,
    /// What the user has let it do there.
    pub scopes: Vec<Scope>,
}

impl Principal {
    /// Whoever is behind a token; `None` if it is not valid.
    pub async fn of(client: &impl GenericClient, token: &Token) -> Result<Option<Self>, DbError> {
        let row = client
            .query_opt(
                "SELECT u.id, u.username, u.operator, NULL::bigint, NULL::text, NULL::bigint, NULL::text[]
                 FROM integratedb.token_pairs p JOIN integratedb.users u ON u.id = p.user_id
                 WHERE p.token_hash = $1 AND p.token_expires_at > now()
                 UNION ALL
                 SELECT u.id, u.username, false, a.id, a.name, g.workspace_id,
                        -- The application may have given up some since.
                        ARRAY(SELECT unnest(t.scopes) INTERSECT SELECT unnest(a.scopes))
                 FROM integratedb.oauth_token t
                 JOIN integratedb.oauth_grant g ON g.id = t.grant_id
                 JOIN integratedb.oauth_application a ON a.id = g.application_id
                 JOIN integratedb.users u ON u.id = g.user_id
                 WHERE t.token_hash = $1 AND t.token_expires_at > now()",
                &[&hash(token)],
            )
            .await?;
        Ok(row.map(|row| {
            let scopes: Option<Vec<String>> = row.get(6);
            let scopes = scopes.unwrap_or_default();
            let application = row.get::<_, Option<i64>>(3).map(|id| Application {
                id,
                name: row.get(4),
                workspace: row.get(5),
                // A scope of another version is one that nobody here asks for.
                scopes: scopes.iter().filter_map(|scope| Scope::parse(scope)).collect(),
            });
            Self { user: row.get(0), username: row.get(1), operator: row.get(2), application }
        }))
    }
}
