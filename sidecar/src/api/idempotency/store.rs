//! The table of keys.

use std::time::Duration;

use tokio_postgres::GenericClient;

use crate::db::DbError;

/// What a key is about.
pub(super) enum Found {
    /// Nothing so far: it is this request's from now on.
    New,
    /// Another request than this one.
    Other,
    /// This request, whose answer is not there yet.
    UnderWay,
    /// This request, which has not been answered in the time it had.
    Lost,
    /// This request, with its answer.
    Answered(Vec<u8>),
}

/// Takes a key, unless it is somebody's. `longest` is how long a request can be under way.
pub(super) async fn take(
    client: &impl GenericClient,
    name: &[u8],
    request: &[u8],
    longest: Duration,
) -> Result<Found, DbError> {
    // A few at a time, and none that others are removing: no request waits for another one's clean-up.
    client
        .execute(
            "DELETE FROM integratedb.idempotency_key WHERE key_hash IN (
                 SELECT key_hash FROM integratedb.idempotency_key WHERE expires_at < now()
                 LIMIT 100 FOR UPDATE SKIP LOCKED)",
            &[],
        )
        .await?;
    loop {
        let taken = client
            .execute(
                "INSERT INTO integratedb.idempotency_key AS k (key_hash, request_hash, expires_at)
                 VALUES ($1, $2, now() + interval '24 hours')
                 ON CONFLICT (key_hash) DO UPDATE
                 SET request_hash = excluded.request_hash, answer = NULL, started_at = excluded.started_at,
                     expires_at = excluded.expires_at
                 WHERE k.expires_at < now()",
                &[&name, &request],
            )
            .await?;
        if taken > 0 {
            return Ok(Found::New);
        }
        let found = client
            .query_opt(
                "SELECT request_hash, answer, extract(epoch FROM now() - started_at)::float8
                 FROM integratedb.idempotency_key WHERE key_hash = $1",
                &[&name],
            )
            .await?;
        // Otherwise it was freed in between.
        if let Some(row) = found {
            return Ok(match row.get::<_, Option<Vec<u8>>>(1) {
                _ if row.get::<_, &[u8]>(0) != request => Found::Other,
                Some(answer) => Found::Answered(answer),
                None if row.get::<_, f64>(2) > longest.as_secs_f64() => Found::Lost,
                None => Found::UnderWay,
            });
        }
    }
}

/// Keeps the answer to the request that has taken the key.
pub(super) async fn keep(
    client: &impl GenericClient,
    name: &[u8],
    answer: &[u8],
) -> Result<(), DbError> {
    let sql = "UPDATE integratedb.idempotency_key SET answer = $2 WHERE key_hash = $1";
    client.execute(sql, &[&name, &answer]).await?;
    Ok(())
}

/// Gives the key back that a request had taken: it has had no effect.
pub(super) async fn free(client: &impl GenericClient, name: &[u8]) -> Result<(), DbError> {
    let sql = "DELETE FROM integratedb.idempotency_key WHERE key_hash = $1";
    client.execute(sql, &[&name]).await?;
    Ok(())
}
