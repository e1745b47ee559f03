//! Notes how pushes went.

use deadpool_postgres::Client;

use super::claim::Claimed;
use super::retry::Retry;
use super::waiting;
use crate::sync::error::SyncError;
use crate::sync::target::PushError;
use crate::sync::work::Push;

/// A push that has ended.
#[derive(Debug)]
pub(in crate::sync) struct PushDone {
    pub(in crate::sync) claimed: Claimed<Push>,
    /// Nothing if it was not begun.
    pub(in crate::sync) result: Option<Result<(), PushError>>,
}

/// Ends pushes. A state for which a later entry came meanwhile, or whose integration is another by now, is due at once,
/// however this one went.
///
/// Each is looked up by its whole key, in order, as OFFSET and the locks within have it: joined, Postgres may read all states
/// of an integration for each of its pushes.
const SETTLE: &str = "
WITH held AS (
    SELECT s.integration_id, s.model_id, d.entry, d.is_gone, d.error, d.wait, i.version <> d.version AS is_elsewhere
    FROM (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[], $6::text[],
                               $7::float8[], $8::bigint[])
              d (integration_id, model_id, lease, entry, is_gone, error, wait, version)
          ORDER BY integration_id, model_id) d
    CROSS JOIN LATERAL (
        SELECT i.version FROM integratedb.sync_integration i WHERE i.id = d.integration_id OFFSET 0) i
    CROSS JOIN LATERAL (
        SELECT s.integration_id, s.model_id FROM integratedb.sync_state s
        WHERE s.integration_id = d.integration_id AND s.model_id = d.model_id AND s.lease = d.lease
        FOR NO KEY UPDATE) s
),
ended AS (
    UPDATE integratedb.sync_state s
    SET lease = NULL, finished_at = clock_timestamp(), success = h.error IS NULL, error = h.error,
        entry_id = CASE WHEN h.error IS NULL AND NOT h.is_elsewhere THEN h.entry ELSE s.entry_id END,
        attempts = CASE WHEN h.error IS NULL THEN 0 ELSE s.attempts END,
        succeeded_at = CASE WHEN h.error IS NULL THEN clock_timestamp() ELSE s.succeeded_at END,
        presence = CASE WHEN h.error IS NOT NULL OR h.is_elsewhere THEN s.presence WHEN h.is_gone THEN 'absent' ELSE 'present' END,
        due_at = CASE WHEN s.wanted > h.entry OR h.is_elsewhere THEN clock_timestamp()
                      WHEN h.error IS NOT NULL THEN clock_timestamp() + make_interval(secs => h.wait) END
    FROM held h WHERE s.integration_id = h.integration_id AND s.model_id = h.model_id
    RETURNING s.integration_id, s.model_id, s.success AND NOT h.is_elsewhere AS is_done
)
SELECT integration_id, model_id FROM ended WHERE is_done";

/// Unlocks what was not begun.
const GIVE_BACK: &str = "
UPDATE integratedb.sync_state s SET lease = NULL, due_at = clock_timestamp(), attempts = s.attempts - 1
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) d (integration_id, model_id, lease)
WHERE s.integration_id = d.integration_id AND s.model_id = d.model_id AND s.lease = d.lease";

/// Notes how these pushes went. What is no longer held by whoever did it is as if it had not happened.
pub(in crate::sync) async fn settle_pushes(
    client: &mut Client,
    retry: Retry,
    done: &[PushDone],
) -> Result<(), SyncError> {
    let mut ended = Columns::default();
    let (mut integrations, mut models, mut leases) = (Vec::new(), Vec::new(), Vec::new());
    for PushDone { claimed, result } in done {
        match result {
            Some(result) => ended.push(claimed, result, retry),
            None => {
                integrations.push(claimed.work.integration.0);
                models.push(claimed.work.id.0);
                leases.push(claimed.lease.0);
            }
        }
    }
    let transaction = client.transaction().await?;
    let settle = transaction.prepare_cached(SETTLE).await?;
    let e = &ended;
    let went_well = transaction
        .query(
            &settle,
            &[
                &e.integrations,
                &e.models,
                &e.leases,
                &e.entries,
                &e.gone,
                &e.errors,
                &e.waits,
                &e.versions,
            ],
        )
        .await?;
    if !models.is_empty() {
        let give_back = transaction.prepare_cached(GIVE_BACK).await?;
        transaction.execute(&give_back, &[&integrations, &models, &leases]).await?;
    }
    transaction.commit().await?;
    let (integrations, models): (Vec<i64>, Vec<i64>) =
        went_well.iter().map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1))).unzip();
    waiting::call_after_pushes(client, &integrations, &models).await;
    Ok(())
}

#[derive(Default)]
struct Columns<'a> {
    integrations: Vec<i64>,
    models: Vec<i64>,
    leases: Vec<i64>,
    entries: Vec<i64>,
    gone: Vec<bool>,
    errors: Vec<Option<&'a str>>,
    waits: Vec<f64>,
    versions: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, claimed: &Claimed<Push>, result: &'a Result<(), PushError>, retry: Retry) {
        let error = result.as_ref().err();
        self.integrations.push(claimed.work.integration.0);
        self.models.push(claimed.work.id.0);
        self.leases.push(claimed.lease.0);
        self.entries.push(claimed.work.entry.0);
        self.gone.push(claimed.work.data.is_none());
        self.errors.push(error.map(|error| error.message.as_str()));
        self.versions.push(claimed.version.0);
        self.waits
            .push(retry.after(claimed.work.attempts, error.and_then(|error| error.retry_after)));
    }
}
