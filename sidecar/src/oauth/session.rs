//! Who is logged in at the pages of `/oauth2`: what a browser's cookie leads to. The database keeps only its SHA-256.

use tokio_postgres::GenericClient;

use crate::auth::{Principal, Token, hash_token, random_secret};
use crate::db::DbError;

/// A browser that somebody has logged in with.
#[derive(Debug)]
pub(crate) struct Session {
    /// Who.
    pub(crate) principal: Principal,
}

impl Session {
    /// Opens one for a user whose row `transaction` has locked, under a cookie that nobody has seen before.
    pub(crate) async fn open(
        transaction: &impl GenericClient,
        user: i64,
        secs: u32,
    ) -> Result<Token, DbError> {
        let cookie = random_secret()?;
        transaction
            .execute(
                "DELETE FROM integratedb.browser_session WHERE cookie_hash IN ( \
                     SELECT cookie_hash FROM integratedb.browser_session WHERE expires_at < now() \
                     LIMIT 100 FOR UPDATE SKIP LOCKED)",
                &[],
            )
            .await?;
        transaction
            .execute(
                "INSERT INTO integratedb.browser_session (cookie_hash, user_id, expires_at) \
                 VALUES ($1, $2, now() + make_interval(secs => $3))",
                &[&hash_token(&cookie), &user, &f64::from(secs)],
            )
            .await?;
        Ok(cookie)
    }

    /// That of a cookie.
    pub(crate) async fn of(
        client: &impl GenericClient,
        cookie: &Token,
    ) -> Result<Option<Self>, DbError> {
        Self::read(client, cookie, "").await
    }

    /// That of a cookie, which stays until `transaction` ends. So do its user and this workspace, which are taken before it: in
    /// the order in which a new password or the end of a membership takes them.
    pub(crate) async fn hold(
        transaction: &impl GenericClient,
        cookie: &Token,
        workspace: Option<i64>,
    ) -> Result<Option<Self>, DbError> {
        let sql = "SELECT FROM integratedb.browser_session s JOIN integratedb.users u ON u.id = s.user_id \
                   WHERE s.cookie_hash = $1 FOR KEY SHARE OF u";
        transaction.execute(sql, &[&hash_token(cookie)]).await?;
        let sql = "SELECT FROM integratedb.workspace WHERE id = $1 FOR KEY SHARE";
        transaction.execute(sql, &[&workspace]).await?;
        Self::read(transaction, cookie, "FOR SHARE OF s").await
    }

    async fn read(
        client: &impl GenericClient,
        cookie: &Token,
        lock: &str,
    ) -> Result<Option<Self>, DbError> {
        let sql = format!(
            "SELECT u.id, u.username, u.operator \
             FROM integratedb.browser_session s JOIN integratedb.users u ON u.id = s.user_id \
             WHERE s.cookie_hash = $1 AND s.expires_at > now() {lock}"
        );
        let row = client.query_opt(&sql, &[&hash_token(cookie)]).await?;
        Ok(row.map(|row| Self {
            principal: Principal {
                user: row.get(0),
                username: row.get(1),
                operator: row.get(2),
                application: None,
            },
        }))
    }

    /// Ends that of a cookie.
    pub(crate) async fn close(client: &impl GenericClient, cookie: &Token) -> Result<(), DbError> {
        let sql = "DELETE FROM integratedb.browser_session WHERE cookie_hash = $1";
        client.execute(sql, &[&hash_token(cookie)]).await?;
        Ok(())
    }
}
