//! Applications as they are registered, and by whom.

use serde::{Deserialize, Serialize};
use tokio_postgres::{GenericClient, Row};
use utoipa::ToSchema;

use super::redirect;
use crate::auth::{Scope, hash_token, random_secret};
use crate::db::DbError;
use crate::plain::is_plain;
use crate::secret::Secret;

/// A third party that may ask users for access.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Application {
    /// Its id.
    #[schema(example = 1)]
    pub(crate) id: i64,
    /// What it calls itself at the authorization server.
    #[schema(example = "5f0c6f0e6a3b4d2f9c1e8a7b6d5c4e3f")]
    pub(crate) client_id: String,
    /// What users are shown.
    #[schema(example = "Example Partner")]
    pub(crate) name: String,
    /// Whether it runs where it can keep no secret, such as on a user's machine.
    pub(crate) public: bool,
    /// The most that it may ask for.
    pub(crate) scopes: Vec<Scope>,
    /// Where browsers may be sent back to.
    #[schema(example = json!(["https://app.example.com/callback"]))]
    pub(crate) redirect_uris: Vec<String>,
    /// Where users find out more about it.
    #[schema(example = "https://app.example.com")]
    pub(crate) homepage_url: Option<String>,
    /// A picture that users are shown.
    #[schema(example = "https://app.example.com/logo.png")]
    pub(crate) logo_url: Option<String>,
    /// When it was registered.
    #[schema(example = "2026-01-01T12:00:00.000000Z")]
    pub(crate) inserted_at: String,
    /// When it was last changed.
    #[schema(example = "2026-01-01T12:00:00.000000Z")]
    pub(crate) updated_at: String,
}

/// Whose an application is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The user's alone.
    User(i64),
    /// That of all admins of a workspace.
    Workspace(i64),
}

/// What an application is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ApplicationFields)]
pub(crate) struct Wanted {
    /// What users are shown, 1 to 100 characters.
    #[schema(example = "Example Partner")]
    name: String,
    /// The most that it may ask for; at least one.
    #[schema(example = json!(["caches:read", "caches:write"]))]
    scopes: Vec<Scope>,
    /// Where browsers may be sent back to, 1 to 10: https, http on the user's own machine, or a scheme of the application's
    /// own that has a dot. They are compared letter by letter.
    #[schema(example = json!(["https://app.example.com/callback"]))]
    redirect_uris: Vec<String>,
    /// Where users find out more about it, https.
    #[serde(default)]
    #[schema(example = "https://app.example.com")]
    homepage_url: Option<String>,
    /// A picture that users are shown, https.
    #[serde(default)]
    #[schema(example = "https://app.example.com/logo.png")]
    logo_url: Option<String>,
    /// Whether it runs where it can keep no secret; then it gets none. This can't be changed later.
    #[serde(default)]
    public: Option<bool>,
}

impl Wanted {
    /// What is wrong with it, by fields. `before`: what is to be changed.
    pub(crate) fn check(&mut self, before: Option<&Application>) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        self.name = self.name.trim().to_owned();
        match self.name.chars().count() {
            0 => wrong.push(("name", "can't be blank".to_owned())),
            101.. => wrong.push(("name", "should be at most 100 character(s)".to_owned())),
            _ if !is_plain(&self.name) => {
                wrong.push(("name", "has invalid format".to_owned()));
            }
            _ => {}
        }
        self.scopes.sort_unstable();
        self.scopes.dedup();
        if self.scopes.is_empty() {
            wrong.push(("scopes", "can't be empty".to_owned()));
        }
        if !(1..=10).contains(&self.redirect_uris.len()) {
            wrong.push(("redirect_uris", "should be 1 to 10".to_owned()));
        }
        for (n, uri) in self.redirect_uris.iter().enumerate().take(10) {
            if let Err(message) = redirect::check(uri) {
                wrong.push(("redirect_uris", format!("number {} {message}", n + 1)));
            }
        }
        let pages = [("homepage_url", &self.homepage_url), ("logo_url", &self.logo_url)];
        for (field, url) in pages {
            if let Some(Err(message)) = url.as_deref().map(redirect::check_page) {
                wrong.push((field, message.to_owned()));
            }
        }
        if before.is_some_and(|before| self.public.is_some_and(|public| public != before.public)) {
            wrong.push(("public", "can't be changed; register another application".to_owned()));
        }
        wrong
    }

    fn scopes(&self) -> Vec<&'static str> {
        self.scopes.iter().map(|scope| scope.as_str()).collect()
    }
}

/// The columns that [`read`] reads.
pub(super) const COLUMNS: &str = "a.id, a.client_id, a.name, a.secret_hash IS NULL, a.scopes, a.redirect_uris, a.homepage_url, \
     a.logo_url, to_char(a.inserted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), \
     to_char(a.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

pub(super) fn read(row: &Row) -> Application {
    Application {
        id: row.get(0),
        client_id: row.get(1),
        name: row.get(2),
        public: row.get(3),
        scopes: scopes(&row.get::<_, Vec<String>>(4)),
        redirect_uris: row.get(5),
        homepage_url: row.get(6),
        logo_url: row.get(7),
        inserted_at: row.get(8),
        updated_at: row.get(9),
    }
}

/// A scope of another version is one that nobody here asks for.
pub(super) fn scopes(texts: &[String]) -> Vec<Scope> {
    texts.iter().filter_map(|text| Scope::parse(text)).collect()
}

impl Owner {
    /// The column that names it, and its id.
    const fn column(self) -> (&'static str, i64) {
        match self {
            Self::User(id) => ("user_id", id),
            Self::Workspace(id) => ("workspace_id", id),
        }
    }

    /// Its workspace, if it is one.
    pub(crate) const fn workspace(self) -> Option<i64> {
        match self {
            Self::User(_) => None,
            Self::Workspace(id) => Some(id),
        }
    }

    /// Where its applications are in REST.
    pub(crate) fn path(self) -> String {
        match self {
            Self::User(_) => "/api/v1/oauth/applications".to_owned(),
            Self::Workspace(id) => format!("/api/v1/workspaces/{id}/oauth/applications"),
        }
    }

    /// Its applications after one, in the order of their ids.
    pub(crate) async fn list(
        self,
        client: &impl GenericClient,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Application>, DbError> {
        let (column, id) = self.column();
        let sql = format!(
            "SELECT {COLUMNS} FROM integratedb.oauth_application a \
             WHERE a.{column} = $1 AND a.id > $2 ORDER BY a.id LIMIT $3"
        );
        let rows = client.query(&sql, &[&id, &after, &limit]).await?;
        Ok(rows.iter().map(read).collect())
    }

    /// One of its applications; `None` also if it is somebody else's.
    pub(crate) async fn find(
        self,
        client: &impl GenericClient,
        application: i64,
    ) -> Result<Option<Application>, DbError> {
        self.one(client, application, "").await
    }

    /// The same; nobody else changes it until the transaction ends.
    pub(crate) async fn lock(
        self,
        transaction: &impl GenericClient,
        application: i64,
    ) -> Result<Option<Application>, DbError> {
        self.one(transaction, application, "FOR UPDATE").await
    }

    async fn one(
        self,
        client: &impl GenericClient,
        application: i64,
        lock: &str,
    ) -> Result<Option<Application>, DbError> {
        let (column, id) = self.column();
        let sql = format!(
            "SELECT {COLUMNS} FROM integratedb.oauth_application a \
             WHERE a.{column} = $1 AND a.id = $2 {lock}"
        );
        Ok(client.query_opt(&sql, &[&id, &application]).await?.as_ref().map(read))
    }

    /// Registers one; gives its secret with it, which nobody sees again.
    /// How many there are.
    pub(crate) async fn count(self, client: &impl GenericClient) -> Result<i64, DbError> {
        let (column, id) = self.column();
        let sql = format!("SELECT count(*) FROM integratedb.oauth_application WHERE {column} = $1");
        Ok(client.query_one(&sql, &[&id]).await?.get(0))
    }

    pub(crate) async fn create(
        self,
        client: &impl GenericClient,
        wanted: &Wanted,
    ) -> Result<(Application, Option<Secret<String>>), DbError> {
        let (column, id) = self.column();
        let secret = match wanted.public {
            Some(true) => None,
            _ => Some(random_secret()?),
        };
        // Half of it is enough for a name.
        let client_id = random_secret()?.expose_secret()[..32].to_owned();
        let sql = format!(
            "INSERT INTO integratedb.oauth_application AS a \
                 ({column}, client_id, name, secret_hash, scopes, redirect_uris, homepage_url, logo_url) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING {COLUMNS}"
        );
        let row = client
            .query_one(
                &sql,
                &[
                    &id,
                    &client_id,
                    &wanted.name,
                    &secret.as_ref().map(hash_token),
                    &wanted.scopes(),
                    &wanted.redirect_uris,
                    &wanted.homepage_url,
                    &wanted.logo_url,
                ],
            )
            .await?;
        Ok((read(&row), secret))
    }
}

impl Application {
    /// Changes it, as it was locked.
    pub(crate) async fn update(
        &self,
        transaction: &impl GenericClient,
        wanted: &Wanted,
    ) -> Result<Self, DbError> {
        let sql = format!(
            "UPDATE integratedb.oauth_application a \
             SET name = $2, scopes = $3, redirect_uris = $4, homepage_url = $5, logo_url = $6, updated_at = now() \
             WHERE a.id = $1 RETURNING {COLUMNS}"
        );
        let row = transaction
            .query_one(
                &sql,
                &[
                    &self.id,
                    &wanted.name,
                    &wanted.scopes(),
                    &wanted.redirect_uris,
                    &wanted.homepage_url,
                    &wanted.logo_url,
                ],
            )
            .await?;
        Ok(read(&row))
    }

    /// Deletes it, and with it all that users have agreed to.
    pub(crate) async fn delete(&self, transaction: &impl GenericClient) -> Result<(), DbError> {
        let sql = "DELETE FROM integratedb.oauth_application WHERE id = $1";
        transaction.execute(sql, &[&self.id]).await?;
        Ok(())
    }

    /// Gives it another secret; the one before is void.
    pub(crate) async fn rotate(
        &self,
        transaction: &impl GenericClient,
    ) -> Result<(Self, Secret<String>), DbError> {
        let secret = random_secret()?;
        let sql = format!(
            "UPDATE integratedb.oauth_application a SET secret_hash = $2, updated_at = now() \
             WHERE a.id = $1 RETURNING {COLUMNS}"
        );
        let row = transaction.query_one(&sql, &[&self.id, &hash_token(&secret)]).await?;
        Ok((read(&row), secret))
    }
}
