//! Calls those who wait for another model, as soon as they need wait no more.
//!
//! Who is put off is written down as waiting by the statement that has read what it waits for. If that ends in between, whoever
//! notes it finds nobody to call. So what was waited for is read again once the waiting is written. Whoever is not called all
//! the same looks again by itself, after [`LOOK_AGAIN`].

use std::time::SystemTime;

use deadpool_postgres::Client;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::again::again;

/// Seconds after which a model that waits for another is looked at again. As a rule it is called before.
pub(super) const LOOK_AGAIN: f64 = 30.0;

/// Calls those who have waited for what was pushed.
const AFTER_PUSHES: &str = "
WITH waiting AS (
    SELECT s.integration_id, s.model_id
    FROM unnest($1::bigint[], $2::bigint[]) d (integration_id, model_id)
    JOIN integratedb.sync_state s ON s.integration_id = d.integration_id AND s.waits_for = d.model_id
    WHERE s.lease IS NULL
    ORDER BY s.integration_id, s.model_id
    FOR NO KEY UPDATE OF s
)
UPDATE integratedb.sync_state s SET due_at = clock_timestamp(), waits_for = NULL
FROM waiting w WHERE s.integration_id = w.integration_id AND s.model_id = w.model_id";

/// Calls those of these who were put off for what was pushed since it was read. Nobody is waited for: whoever has locked one
/// of them is about to call it, to judge it again or to make it due. Who is locked depends on `o`: none is that is not
/// to be called.
const AFTER_PUTTING_OFF: &str = "
WITH waiting AS (
    SELECT s.integration_id, s.model_id
    FROM (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
              d (integration_id, model_id, waits_for, succeeded_at)
          ORDER BY integration_id, model_id) d
    CROSS JOIN LATERAL (
        SELECT o.model_id FROM integratedb.sync_state o
        WHERE o.integration_id = d.integration_id AND o.model_id = d.waits_for
          AND o.succeeded_at IS DISTINCT FROM d.succeeded_at OFFSET 0) o
    CROSS JOIN LATERAL (
        SELECT s.integration_id, s.model_id FROM integratedb.sync_state s
        WHERE s.integration_id = d.integration_id AND s.model_id = d.model_id AND s.waits_for = o.model_id
        FOR NO KEY UPDATE SKIP LOCKED) s
)
UPDATE integratedb.sync_state s SET due_at = clock_timestamp(), waits_for = NULL
FROM waiting w WHERE s.integration_id = w.integration_id AND s.model_id = w.model_id";

/// Those who were put off, what each waits for, and when that was pushed the last time, as it was read then.
#[derive(Debug, Default)]
pub(super) struct PutOff {
    integrations: Vec<i64>,
    models: Vec<i64>,
    waits_for: Vec<i64>,
    succeeded_at: Vec<Option<SystemTime>>,
}

impl PutOff {
    /// Keeps a row of pushes.sql that has to wait.
    pub(super) fn push(&mut self, row: &Row) {
        self.integrations.push(row.get("integration_id"));
        self.models.push(row.get("model_id"));
        self.waits_for.push(row.get("waits_for"));
        self.succeeded_at.push(row.get("waited_for_at"));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Calls those who were put off too late. What has put them off has to be committed.
    pub(super) async fn call(&self, client: &Client) {
        if !self.is_empty() {
            let Self { integrations, models, waits_for, succeeded_at } = self;
            call(client, AFTER_PUTTING_OFF, &[integrations, models, waits_for, succeeded_at]).await;
        }
    }
}

/// Calls those who have waited for these pushes, which are noted and committed.
pub(super) async fn call_after_pushes(client: &Client, integrations: &[i64], models: &[i64]) {
    if !models.is_empty() {
        call(client, AFTER_PUSHES, &[&integrations, &models]).await;
    }
}

/// An error is none of who calls: what it did is noted. Those who are not called wait for longer than they need.
async fn call(client: &Client, sql: &str, parameters: &[&(dyn ToSql + Sync)]) {
    let called = again(|| async {
        let statement = client.prepare_cached(sql).await?;
        Ok(client.execute(&statement, parameters).await?)
    });
    if let Err(error) = called.await {
        tracing::warn!(%error, "sync can't call who waits for a model");
    }
}
