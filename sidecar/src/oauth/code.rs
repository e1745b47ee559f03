//! Codes: what a browser carries from the user's consent to the application, to be traded for tokens once.

use std::net::IpAddr;

use deadpool_postgres::Transaction;
use tokio_postgres::GenericClient;

use super::application::{Application, scopes};
use super::pkce;
use super::request::Request;
use super::settings::OAuthSettings;
use super::token::{self, Family, Issued, TokenError};
use crate::auth::{Token, hash_token, random_secret};
use crate::db::DbError;

/// Makes one, the first of a family.
pub(super) async fn issue(
    transaction: &impl GenericClient,
    grant: i64,
    request: &Request,
    secs: u32,
) -> Result<Token, DbError> {
    let code = random_secret()?;
    let scopes: Vec<&str> = request.scopes.iter().map(|scope| scope.as_str()).collect();
    // A few at a time, and none that others are removing.
    transaction
        .execute(
            "DELETE FROM integratedb.oauth_code WHERE code_hash IN ( \
                 SELECT code_hash FROM integratedb.oauth_code WHERE expires_at < now() \
                 LIMIT 100 FOR UPDATE SKIP LOCKED)",
            &[],
        )
        .await?;
    transaction
        .execute(
            "INSERT INTO integratedb.oauth_code \
                 (code_hash, grant_id, redirect_uri, code_challenge, scopes, family, expires_at) \
             VALUES ($1, $2, $3, $4, $5, gen_random_uuid(), now() + make_interval(secs => $6))",
            &[
                &hash_token(&code),
                &grant,
                &request.redirect_uri,
                &request.code_challenge,
                &scopes,
                &f64::from(secs),
            ],
        )
        .await?;
    Ok(code)
}

/// Trades a code for tokens. Whatever the outcome, what `transaction` did has to be committed: a code that its application
/// came with is used, even if the rest was wrong, so that nobody can try twice.
pub(crate) async fn exchange(
    transaction: &Transaction<'_>,
    application: &Application,
    code: &Token,
    redirect_uri: &str,
    verifier: &str,
    settings: &OAuthSettings,
    address: IpAddr,
) -> Result<Issued, TokenError> {
    let invalid = |why| Err(TokenError::Grant(why));
    const UNKNOWN: &str = "the code is not known, has run out or was taken back";
    let hash = hash_token(code);
    let sql = "SELECT grant_id FROM integratedb.oauth_code WHERE code_hash = $1";
    let Some(row) = transaction.query_opt(sql, &[&hash]).await? else { return invalid(UNKNOWN) };
    let Some(grant) = Family::lock(transaction, row.get(0), application).await? else {
        return invalid(UNKNOWN);
    };
    // Read once more under the lock: another may have come first. It stays until it is marked as used.
    let row = transaction
        .query_opt(
            "SELECT redirect_uri, code_challenge, scopes, family::text, used_at IS NOT NULL, expires_at > now() \
             FROM integratedb.oauth_code WHERE code_hash = $1 FOR UPDATE",
            &[&hash],
        )
        .await?;
    let Some(row) = row else { return invalid(UNKNOWN) };
    let family: String = row.get(3);
    if row.get(4) {
        grant.reused(transaction, &family, address, "code").await?;
        return invalid("the code was used before");
    }
    let sql = "UPDATE integratedb.oauth_code SET used_at = now() WHERE code_hash = $1";
    transaction.execute(sql, &[&hash]).await?;
    if !row.get::<_, bool>(5) {
        return invalid(UNKNOWN);
    }
    if row.get::<_, &str>(0) != redirect_uri {
        return invalid("redirect_uri is not that of the code");
    }
    if !pkce::matches(row.get(1), verifier) {
        return invalid("code_verifier is not that of the code");
    }
    let scopes = scopes(&row.get::<_, Vec<String>>(2));
    token::issue(transaction, &grant, &family, &scopes, &scopes, settings).await
}
