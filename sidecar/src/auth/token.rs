//! Opaque tokens of 256 random bits. The database keeps only their SHA-256: what has that much entropy needs
//! no slow hash, and a stolen table opens nothing.
//!
//! Invariant: no pair outlives a change of its user's password. Whoever issues a pair holds a share lock on the
//! user's row until the pair is committed; whoever revokes all of them has updated or locked that row before.
//! So of the two, one sees what the other did.

use std::time::Duration;

use deadpool_postgres::Transaction;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use tokio_postgres::GenericClient;

use crate::db::DbError;
use crate::secret::Secret;

/// A token as its holder has it.
pub type Token = Secret<String>;

/// What a login hands out.
#[derive(Debug)]
pub struct Pair {
    /// For requests.
    pub token: Token,
    /// For the next pair.
    pub refresh_token: Token,
}

/// Issues and checks tokens.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    /// Seconds a token is valid.
    pub token_secs: u32,
    /// Seconds a refresh token is valid.
    pub refresh_token_secs: u32,
}

impl Tokens {
    /// A new pair for a user whose row `transaction` has locked or made; pairs of anyone that have run out are
    /// removed on the way.
    pub async fn issue(
        &self,
        transaction: &Transaction<'_>,
        user_id: i64,
    ) -> Result<Pair, DbError> {
        let pair = Pair { token: random()?, refresh_token: random()? };
        // A few at a time, and none that others are removing: no login waits for another one's clean-up.
        transaction
            .execute(
                "DELETE FROM integratedb.token_pairs WHERE id IN ( \
                     SELECT id FROM integratedb.token_pairs WHERE refresh_expires_at < now() \
                     LIMIT 100 FOR UPDATE SKIP LOCKED)",
                &[],
            )
            .await?;
        transaction
            .execute(
                "INSERT INTO integratedb.token_pairs \
                     (user_id, token_hash, token_expires_at, refresh_hash, refresh_expires_at) \
                 VALUES ($1, $2, now() + make_interval(secs => $3), \
                         $4, now() + make_interval(secs => $5))",
                &[
                    &user_id,
                    &hash(&pair.token),
                    &f64::from(self.token_secs),
                    &hash(&pair.refresh_token),
                    &f64::from(self.refresh_token_secs),
                ],
            )
            .await?;
        Ok(pair)
    }

    /// For how long a token is valid yet; `None` if it is not.
    pub async fn remaining(
        client: &impl GenericClient,
        token: &Token,
    ) -> Result<Option<Duration>, DbError> {
        let row = client
            .query_opt(
                "SELECT extract(epoch FROM token_expires_at - now())::float8 FROM integratedb.token_pairs \
                 WHERE token_hash = $1 AND token_expires_at > now()",
                &[&hash(token)],
            )
            .await?;
        Ok(row.and_then(|row| Duration::try_from_secs_f64(row.get(0)).ok()))
    }

    /// Uses up a refresh token, and with it the pair it belongs to. `None` if it is not valid.
    pub async fn redeem(
        transaction: &Transaction<'_>,
        refresh: &Token,
    ) -> Result<Option<i64>, DbError> {
        // The user first, as in a change of the password: two that lock in one order never deadlock.
        transaction
            .execute(
                "SELECT FROM integratedb.users u JOIN integratedb.token_pairs p ON p.user_id = u.id \
                 WHERE p.refresh_hash = $1 FOR SHARE OF u",
                &[&hash(refresh)],
            )
            .await?;
        let row = transaction
            .query_opt(
                "DELETE FROM integratedb.token_pairs WHERE refresh_hash = $1 \
                 RETURNING user_id, refresh_expires_at > now()",
                &[&hash(refresh)],
            )
            .await?;
        Ok(row.filter(|row| row.get(1)).map(|row| row.get(0)))
    }

    /// Revokes the pair of a token.
    pub async fn revoke(client: &impl GenericClient, token: &Token) -> Result<(), DbError> {
        client
            .execute("DELETE FROM integratedb.token_pairs WHERE token_hash = $1", &[&hash(token)])
            .await?;
        Ok(())
    }

    /// Revokes every pair of a user whose row `transaction` has locked or changed, and logs its browsers out.
    pub async fn revoke_all(transaction: &Transaction<'_>, user_id: i64) -> Result<(), DbError> {
        for sql in [
            "DELETE FROM integratedb.token_pairs WHERE user_id = $1",
            "DELETE FROM integratedb.browser_session WHERE user_id = $1",
        ] {
            transaction.execute(sql, &[&user_id]).await?;
        }
        Ok(())
    }

    /// Revokes what applications hold that act for a user whose row `transaction` has locked. What the user has agreed to
    /// stays: the application may ask again.
    pub async fn revoke_granted(
        transaction: &Transaction<'_>,
        user_id: i64,
    ) -> Result<(), DbError> {
        for sql in [
            // A pair that is being issued is one that a DELETE does not see yet: whoever issues it holds the grant.
            "SELECT FROM integratedb.oauth_grant WHERE user_id = $1 ORDER BY id FOR NO KEY UPDATE",
            "DELETE FROM integratedb.oauth_code c USING integratedb.oauth_grant g \
             WHERE g.id = c.grant_id AND g.user_id = $1",
            "DELETE FROM integratedb.oauth_token t USING integratedb.oauth_grant g \
             WHERE g.id = t.grant_id AND g.user_id = $1",
        ] {
            transaction.execute(sql, &[&user_id]).await?;
        }
        Ok(())
    }
}

/// 256 bits of the operating system's randomness, in hex.
pub(crate) fn random() -> Result<Secret<String>, DbError> {
    let mut bytes = [0_u8; 32];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| DbError::Unexpected(format!("no randomness: {error}")))?;
    Ok(Secret::new(hex::encode(bytes)))
}

/// What the database keeps of a token.
pub(crate) fn hash(token: &Token) -> Vec<u8> {
    Sha256::digest(token.expose_secret().as_bytes()).to_vec()
}
