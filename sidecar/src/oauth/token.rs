//! Tokens: what applications have. A pair follows another by its refresh token; all that come from one code are a family.

use std::net::IpAddr;

use deadpool_postgres::Transaction;
use serde_json::{Value, json};

use super::application::{Application, scopes};
use super::request::parse_scopes;
use super::settings::OAuthSettings;
use crate::audit::{Actor, Change, record};
use crate::auth::{self, Principal, Scope, Token, hash_token, random_secret};
use crate::db::DbError;

/// A pair as its application gets it.
#[derive(Debug)]
pub(crate) struct Issued {
    /// For requests.
    pub(crate) token: Token,
    /// For the next pair.
    pub(crate) refresh_token: Token,
    /// What it may do.
    pub(crate) scopes: Vec<Scope>,
}

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// What was to be traded is not valid.
    #[error("{0}")]
    Grant(&'static str),
    /// More is asked for than there is.
    #[error("{0}")]
    Scope(&'static str),
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl From<tokio_postgres::Error> for TokenError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// A grant that nobody else issues or ends tokens of, until the transaction ends.
pub(super) struct Family<'a> {
    grant: i64,
    workspace: i64,
    user: i64,
    username: String,
    application: &'a Application,
}

impl<'a> Family<'a> {
    /// Locks a grant; `None` if it is not this application's, or gone.
    pub(super) async fn lock(
        transaction: &Transaction<'_>,
        grant: i64,
        application: &'a Application,
    ) -> Result<Option<Self>, DbError> {
        let row = transaction
            .query_opt(
                "SELECT g.workspace_id, u.id, u.username \
                 FROM integratedb.oauth_grant g JOIN integratedb.users u ON u.id = g.user_id \
                 WHERE g.id = $1 AND g.application_id = $2 FOR NO KEY UPDATE OF g",
                &[&grant, &application.id],
            )
            .await?;
        Ok(row.map(|row| Self {
            grant,
            workspace: row.get(0),
            user: row.get(1),
            username: row.get(2),
            application,
        }))
    }

    /// Ends a family, and tells of it: something was used twice, so two have it.
    pub(super) async fn reused(
        &self,
        transaction: &Transaction<'_>,
        family: &str,
        address: IpAddr,
        what: &'static str,
    ) -> Result<(), DbError> {
        if self.end(transaction, family).await? == 0 {
            return Ok(());
        }
        tracing::warn!(
            application = self.application.id,
            user = self.user,
            workspace = self.workspace,
            %address,
            "a {what} of an application was used a second time; all tokens that came from it are void"
        );
        let what = json!({"reused": what});
        self.tell(transaction, address, "authorization.reuse", what).await
    }

    async fn end(&self, transaction: &Transaction<'_>, family: &str) -> Result<u64, DbError> {
        let sql =
            "DELETE FROM integratedb.oauth_token WHERE grant_id = $1 AND family = $2::text::uuid";
        Ok(transaction.execute(sql, &[&self.grant, &family]).await?)
    }

    async fn tell(
        &self,
        transaction: &Transaction<'_>,
        address: IpAddr,
        action: &'static str,
        after: Value,
    ) -> Result<(), DbError> {
        let principal = Principal {
            user: self.user,
            username: self.username.clone(),
            operator: false,
            application: Some(auth::Application {
                id: self.application.id,
                name: self.application.name.clone(),
                workspace: self.workspace,
                scopes: Vec::new(),
            }),
        };
        let change = Change {
            action,
            subject: &format!("/api/v1/oauth/authorizations/{}", self.grant),
            workspace: Some(self.workspace),
            before: Value::Null,
            after,
        };
        record(&**transaction, &Actor { principal: Some(principal), address }, change).await
    }
}

/// A new pair of a family. `granted`: what its refresh token stands for.
pub(super) async fn issue(
    transaction: &Transaction<'_>,
    family_of: &Family<'_>,
    family: &str,
    granted: &[Scope],
    wanted: &[Scope],
    settings: &OAuthSettings,
) -> Result<Issued, TokenError> {
    let allowed = &family_of.application.scopes;
    let scopes: Vec<Scope> =
        wanted.iter().copied().filter(|scope| allowed.contains(scope)).collect();
    if scopes.is_empty() {
        return Err(TokenError::Scope("the application may ask for none of these scopes any more"));
    }
    let issued = Issued { token: random_secret()?, refresh_token: random_secret()?, scopes };
    // A few at a time, and none that others are removing.
    transaction
        .execute(
            "DELETE FROM integratedb.oauth_token WHERE id IN ( \
                 SELECT id FROM integratedb.oauth_token WHERE refresh_expires_at < now() \
                 LIMIT 100 FOR UPDATE SKIP LOCKED)",
            &[],
        )
        .await?;
    let texts =
        |scopes: &[Scope]| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<&'static str>>();
    transaction
        .execute(
            "INSERT INTO integratedb.oauth_token \
                 (grant_id, family, scopes, refresh_scopes, token_hash, token_expires_at, refresh_hash, \
                  refresh_expires_at) \
             VALUES ($1, $2::text::uuid, $3, $4, $5, now() + make_interval(secs => $6), $7, \
                     now() + make_interval(secs => $8))",
            &[
                &family_of.grant,
                &family,
                &texts(&issued.scopes),
                &texts(granted),
                &hash_token(&issued.token),
                &f64::from(settings.token_secs),
                &hash_token(&issued.refresh_token),
                &f64::from(settings.refresh_token_secs),
            ],
        )
        .await?;
    Ok(issued)
}

/// Trades a refresh token for the next pair; the one before is void. Whatever the outcome, what `transaction` did has to be
/// committed.
pub(crate) async fn refresh(
    transaction: &Transaction<'_>,
    application: &Application,
    refresh: &Token,
    scope: Option<&str>,
    settings: &OAuthSettings,
    address: IpAddr,
) -> Result<Issued, TokenError> {
    let invalid = |why| Err(TokenError::Grant(why));
    const UNKNOWN: &str = "the refresh token is not known, has run out or was taken back";
    let hash = hash_token(refresh);
    let sql = "SELECT grant_id FROM integratedb.oauth_token WHERE refresh_hash = $1";
    let Some(row) = transaction.query_opt(sql, &[&hash]).await? else { return invalid(UNKNOWN) };
    let Some(grant) = Family::lock(transaction, row.get(0), application).await? else {
        return invalid(UNKNOWN);
    };
    // Read once more under the lock: another may have come first. It stays until it is marked as used.
    let row = transaction
        .query_opt(
            "SELECT family::text, refresh_scopes, refreshed_at IS NOT NULL, refresh_expires_at > now() \
             FROM integratedb.oauth_token WHERE refresh_hash = $1 FOR UPDATE",
            &[&hash],
        )
        .await?;
    let Some(row) = row else { return invalid(UNKNOWN) };
    let family: String = row.get(0);
    if row.get(2) {
        grant.reused(transaction, &family, address, "refresh token").await?;
        return invalid("the refresh token was used before");
    }
    if !row.get::<_, bool>(3) {
        return invalid(UNKNOWN);
    }
    let granted = scopes(&row.get::<_, Vec<String>>(1));
    let wanted = match scope.map(parse_scopes) {
        None => granted.clone(),
        Some(Some(wanted)) if wanted.iter().all(|scope| granted.contains(scope)) => wanted,
        Some(_) => return Err(TokenError::Scope("the user has not agreed to this scope")),
    };
    let issued = issue(transaction, &grant, &family, &granted, &wanted, settings).await?;
    transaction
        .execute(
            "UPDATE integratedb.oauth_token SET refreshed_at = now(), token_expires_at = now() \
             WHERE refresh_hash = $1",
            &[&hash],
        )
        .await?;
    Ok(issued)
}

/// Ends the family of a token of either kind, if it is this application's (RFC 7009).
pub(crate) async fn end(
    transaction: &Transaction<'_>,
    application: &Application,
    token: &Token,
    address: IpAddr,
) -> Result<(), DbError> {
    let hash = hash_token(token);
    let sql = "SELECT grant_id, family::text FROM integratedb.oauth_token \
               WHERE token_hash = $1 OR refresh_hash = $1";
    let Some(row) = transaction.query_opt(sql, &[&hash]).await? else { return Ok(()) };
    let Some(grant) = Family::lock(transaction, row.get(0), application).await? else {
        return Ok(());
    };
    if grant.end(transaction, row.get(1)).await? > 0 {
        grant.tell(transaction, address, "authorization.end", Value::Null).await?;
    }
    Ok(())
}
