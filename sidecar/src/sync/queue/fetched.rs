//! Notes how updates went.
//!
//! What follows from an update is noted before the update itself, in a transaction of its own: whoever is stopped between
//! the two does it again. So no transaction locks updates of models that another has locked in another order.

use std::sync::LazyLock;

use deadpool_postgres::Client;
use futures_util::future::try_join;
use tokio_postgres::types::ToSql;

use super::claim::Claimed;
use super::retry::Retry;
use crate::seal::Sealer;
use crate::sync::error::SyncError;
use crate::sync::ids::TenantId;
use crate::sync::source::{Derived, FetchError, Fetched};
use crate::sync::work::{Fetch, Named, Notified};
use crate::sync::{accept, integrations, log};

/// An update that has ended.
#[derive(Debug)]
pub(in crate::sync) struct FetchDone {
    pub(in crate::sync) claimed: Claimed<Fetch>,
    /// Nothing if it was not begun.
    pub(in crate::sync) result: Option<Result<Fetched, FetchError>>,
}

/// Children of models that are gone now: they may be gone too, and then are deleted before.
const CHILDREN: &str = "
SELECT u.model_id
FROM integratedb.sync_model m
JOIN integratedb.sync_update mu ON mu.model_id = m.id AND NOT mu.is_gone
JOIN integratedb.sync_record c ON c.parent_id = m.record_id AND c.id <> m.record_id
JOIN integratedb.sync_model cm ON cm.record_id = c.id
JOIN integratedb.sync_update u ON u.model_id = cm.id AND u.entry_id IS NOT NULL AND NOT u.is_gone
WHERE m.id = ANY ($1::bigint[])";

/// The parents that models have by what was fetched; none where it says that there is none.
const PARENTS: &str = "
WITH said AS (
    SELECT r.id, p.id AS parent_id
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
         n (tenant, class, key, model_id, lease)
    JOIN integratedb.sync_update u ON u.model_id = n.model_id AND u.lease = n.lease
    JOIN integratedb.sync_model m ON m.id = n.model_id
    JOIN integratedb.sync_record r ON r.id = m.record_id
    LEFT JOIN integratedb.sync_record p ON p.tenant_id = n.tenant AND p.class = n.class AND p.key = n.key
    WHERE p.id IS DISTINCT FROM r.parent_id
    ORDER BY r.id
    FOR NO KEY UPDATE OF r
)
UPDATE integratedb.sync_record r SET parent_id = s.parent_id FROM said s WHERE r.id = s.id
RETURNING r.id";

/// Appends entries, ends updates, and makes them due at the integrations whose scope they are in.
static SETTLE: LazyLock<String> =
    LazyLock::new(|| include_str!("settle.sql").replace("{IN_SCOPE}", integrations::IN_SCOPE));

/// Ends updates that have failed.
const FAIL: &str = "
WITH held AS (
    SELECT u.model_id, d.error, d.wait
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::float8[]) d (model_id, lease, error, wait)
    JOIN integratedb.sync_update u USING (model_id)
    WHERE u.lease = d.lease
    ORDER BY u.model_id
    FOR NO KEY UPDATE OF u
)
UPDATE integratedb.sync_update u
SET lease = NULL, success = false, error = h.error, finished_at = clock_timestamp(),
    -- Somebody has said meanwhile that it is another by now.
    due_at = clock_timestamp() + make_interval(secs => CASE WHEN u.notified > u.taken THEN 0 ELSE h.wait END)
FROM held h WHERE u.model_id = h.model_id";

/// Unlocks what was not begun.
const GIVE_BACK: &str = "
UPDATE integratedb.sync_update u SET lease = NULL, due_at = clock_timestamp(), attempts = u.attempts - 1
FROM unnest($1::bigint[], $2::bigint[]) d (model_id, lease)
WHERE u.model_id = d.model_id AND u.lease = d.lease";

/// Notes how these updates went. What is no longer held by whoever did it is as if it had not happened. An integration that
/// comes of it makes at most `concurrency` requests at once.
pub(in crate::sync) async fn settle_fetches(
    client: &mut Client,
    sealer: Option<&Sealer>,
    retry: Retry,
    concurrency: i32,
    done: &[FetchDone],
) -> Result<(), SyncError> {
    follow(client, sealer, concurrency, done).await?;
    let mut entries = Entries::default();
    let mut failed = Failed::default();
    let mut given_back: (Vec<i64>, Vec<i64>) = Default::default();
    for FetchDone { claimed, result } in done {
        let outcome = match result {
            None => {
                given_back.0.push(claimed.work.id.0);
                given_back.1.push(claimed.lease.0);
                continue;
            }
            Some(Ok(fetched)) => {
                entries.push(claimed, fetched, sealer).map_err(|error| (error.to_string(), None))
            }
            Some(Err(error)) => Err((error.message.clone(), error.retry_after)),
        };
        if let Err((message, asked)) = outcome {
            failed.models.push(claimed.work.id.0);
            failed.leases.push(claimed.lease.0);
            failed.errors.push(message);
            failed.waits.push(retry.after(claimed.work.attempts, asked));
        }
    }
    let transaction = client.transaction().await?;
    if !entries.models.is_empty() {
        let e = &entries;
        let share = transaction.prepare_cached(integrations::SHARE_SCOPES).await?;
        let settle = transaction.prepare_cached(&SETTLE).await?;
        let row: [&(dyn ToSql + Sync); 5] = [&e.models, &e.leases, &e.gone, &e.data, &e.sealed];
        // One after the other, in one round trip.
        let scopes: [&(dyn ToSql + Sync); 2] = [&integrations::SCOPES, &e.tenants];
        let shared = transaction.execute(&share, &scopes);
        try_join(shared, transaction.execute(&settle, &row)).await?;
    }
    if !failed.models.is_empty() {
        let f = &failed;
        let statement = transaction.prepare_cached(FAIL).await?;
        transaction.execute(&statement, &[&f.models, &f.leases, &f.errors, &f.waits]).await?;
    }
    if !given_back.0.is_empty() {
        let statement = transaction.prepare_cached(GIVE_BACK).await?;
        transaction.execute(&statement, &[&given_back.0, &given_back.1]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// What a batch of updates has to note besides.
async fn follow(
    client: &mut Client,
    sealer: Option<&Sealer>,
    concurrency: i32,
    done: &[FetchDone],
) -> Result<(), SyncError> {
    let went_well =
        || done.iter().filter_map(|done| Some((done, done.result.as_ref()?.as_ref().ok()?)));
    let notified: Vec<Notified> =
        went_well().flat_map(|(_, fetched)| fetched.notified.iter().cloned()).collect();
    let derived: Vec<(TenantId, &Derived)> = went_well()
        .filter_map(|(done, fetched)| {
            Some((done.claimed.work.tenant, fetched.integration.as_ref()?))
        })
        .collect();
    let gone: Vec<i64> = went_well()
        .filter(|(_, fetched)| fetched.data.is_none())
        .map(|(done, _)| done.claimed.work.id.0)
        .collect();
    let mut parents = Parents::default();
    for (done, fetched) in went_well() {
        if let Some(parent) = &fetched.parent {
            parents.push(&done.claimed, parent.as_ref());
        }
    }
    parents.store(client).await?;
    if !notified.is_empty() {
        let transaction = client.transaction().await?;
        accept::accept(&transaction, &notified).await?;
        transaction.commit().await?;
    }
    for (tenant, derived) in derived {
        let transaction = client.transaction().await?;
        integrations::store_derived(&transaction, sealer, tenant, derived, concurrency).await?;
        transaction.commit().await?;
    }
    if !gone.is_empty() {
        let transaction = client.transaction().await?;
        let statement = transaction.prepare_cached(CHILDREN).await?;
        let children = transaction.query(&statement, &[&gone]).await?;
        let children: Vec<i64> = children.iter().map(|row| row.get(0)).collect();
        accept::make_due(&transaction, &children).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// Parents that models have by what was fetched.
#[derive(Default)]
struct Parents<'a> {
    tenants: Vec<i64>,
    classes: Vec<Option<&'a str>>,
    keys: Vec<Option<&'a str>>,
    models: Vec<i64>,
    leases: Vec<i64>,
}

impl<'a> Parents<'a> {
    fn push(&mut self, claimed: &'a Claimed<Fetch>, parent: Option<&'a Named>) {
        // As a rule it is the one that is known.
        if claimed.work.parent.as_ref() == parent {
            return;
        }
        self.tenants.push(claimed.work.tenant.0);
        self.classes.push(parent.map(|parent| parent.class.as_str()));
        self.keys.push(parent.map(|parent| parent.key.as_str()));
        self.models.push(claimed.work.id.0);
        self.leases.push(claimed.lease.0);
    }

    async fn store(&self, client: &mut Client) -> Result<(), SyncError> {
        if self.models.is_empty() {
            return Ok(());
        }
        let transaction = client.transaction().await?;
        accept::make_records(&transaction, &self.tenants, &self.classes, &self.keys).await?;
        let statement = transaction.prepare_cached(PARENTS).await?;
        let (models, leases) = (&self.models, &self.leases);
        let said: [&(dyn ToSql + Sync); 5] =
            [&self.tenants, &self.classes, &self.keys, models, leases];
        let moved = transaction.query(&statement, &said).await?;
        let moved: Vec<i64> = moved.iter().map(|row| row.get(0)).collect();
        accept::fetch_below(&transaction, &moved).await?;
        transaction.commit().await?;
        Ok(())
    }
}

#[derive(Default)]
struct Entries<'a> {
    tenants: Vec<i64>,
    models: Vec<i64>,
    leases: Vec<i64>,
    gone: Vec<bool>,
    data: Vec<Option<&'a str>>,
    sealed: Vec<Option<Vec<u8>>>,
}

impl<'a> Entries<'a> {
    fn push(
        &mut self,
        claimed: &Claimed<Fetch>,
        fetched: &'a Fetched,
        sealer: Option<&Sealer>,
    ) -> Result<(), SyncError> {
        let (model, tenant) = (claimed.work.id, claimed.work.tenant);
        let (data, sealed) = match &fetched.data {
            None => (None, None),
            Some(data) if tenant.is_stakeholder() => (Some(data.get()), None),
            Some(data) => (None, Some(log::seal(data, tenant, model, sealer)?)),
        };
        self.tenants.push(tenant.0);
        self.models.push(model.0);
        self.leases.push(claimed.lease.0);
        self.gone.push(fetched.data.is_none());
        self.data.push(data);
        self.sealed.push(sealed);
        Ok(())
    }
}

#[derive(Default)]
struct Failed {
    models: Vec<i64>,
    leases: Vec<i64>,
    errors: Vec<String>,
    waits: Vec<f64>,
}
