//! How far changes are followed and rows are gone through, in the sidecar's database.

use deadpool_postgres::{ClientWrapper, GenericClient, Transaction};
use integratedb_events::EventId;
use serde_json::Value;
use tokio_postgres::Client;
use tokio_postgres::types::PgLsn;

use super::changes::{Batch, ClassId};
use super::classes::{Followed, Republished};
use crate::notify::id_of;
use crate::sync::accept;
use crate::sync::error::SyncError;
use crate::sync::ids::TenantId;
use crate::sync::source::table::MOST_KEY;
use crate::sync::work::{Named, Notified};

// What a crash of the server undoes is done again: the cursor goes back with it.
pub(super) const RELAXED: &str = "SET LOCAL synchronous_commit = off";

const BEGIN: &str = "INSERT INTO integratedb.sync_follower (tenant_id, epoch, lsn, index)
    SELECT id, $1, $2, $3 FROM integratedb.sync_tenant WHERE stakeholder_id IS NOT NULL
    ON CONFLICT DO NOTHING";

const CURSOR: &str =
    "SELECT epoch, lsn, index FROM integratedb.sync_follower ORDER BY epoch, lsn, index LIMIT 1";

const ADVANCE: &str = "UPDATE integratedb.sync_follower SET epoch = $1, lsn = $2, index = $3
    WHERE (epoch, lsn, index) < ($1, $2, $3)";

/// The three columns of an id.
fn columns(id: EventId) -> (i32, PgLsn, i64) {
    // Epochs are raised by one at a time.
    (i32::try_from(id.epoch).unwrap_or(i32::MAX), PgLsn::from(id.lsn.0), i64::from(id.index))
}

/// Has tenants that are new followed after this change, and gives the first change after which some tenant is.
pub(super) async fn begin(client: &Client, head: EventId) -> Result<EventId, SyncError> {
    let (epoch, lsn, index) = columns(head);
    client.execute(BEGIN, &[&epoch, &lsn, &index]).await?;
    let row = client.query_opt(CURSOR, &[]).await?;
    Ok(row.map_or(head, |row| id_of(row.get(0), row.get(1), row.get(2))))
}

/// Moves the cursor up to this change.
pub(super) async fn advance(client: &impl GenericClient, to: EventId) -> Result<(), SyncError> {
    let (epoch, lsn, index) = columns(to);
    client.execute(ADVANCE, &[&epoch, &lsn, &index]).await?;
    Ok(())
}

const REPUBLISHED: &str = "UPDATE integratedb.sync_class
    SET published = $4, error = $5, scan = CASE WHEN $6 THEN scan ELSE '{}' END,
        scanned = CASE WHEN $6 THEN scanned ELSE 0 END
    WHERE tenant_id = $1 AND name = $2 AND version = $3";

/// Notes under which tables the log tells a class, and has its rows gone through if it told less before.
pub(super) async fn republish(client: &Client, all: &[Republished]) -> Result<(), SyncError> {
    for Republished { class, published, is_first } in all {
        let error = class.relations.is_empty().then(|| {
            format!(
                "changes of {} are not in the log for this stakeholder: add the table to its notifications spec again, or \
                 withdraw the class",
                class.class.table
            )
        });
        let Followed { tenant, name, version, .. } = &**class;
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&tenant.0, name, version, published, &error, is_first];
        client.execute(REPUBLISHED, &row).await?;
    }
    Ok(())
}

// Where rows are to be gone through, models come after them anyway.
const EMPTIED: &str = "UPDATE integratedb.sync_class
    SET scan = CASE WHEN scan IS NULL OR scan ? 'models' THEN '{\"models\": 0}' ELSE scan END
    WHERE tenant_id = $1 AND name = $2";

const UNREADABLE: &str = "UPDATE integratedb.sync_class SET scan = '{}', scanned = 0, error = $3
    WHERE tenant_id = $1 AND name = $2";

const GAP: &str = "UPDATE integratedb.sync_class c SET scan = '{}', scanned = 0
    FROM integratedb.sync_tenant t WHERE t.id = c.tenant_id AND t.stakeholder_id IS NOT NULL";

/// Notes all that some changes say.
pub(super) async fn settle(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), SyncError> {
    notify(transaction, batch.models.iter().cloned()).await?;
    for (tenant, name) in &batch.emptied {
        transaction.execute(EMPTIED, &[&tenant.0, name]).await?;
    }
    for ((tenant, name), why) in &batch.unreadable {
        transaction.execute(UNREADABLE, &[&tenant.0, name, why]).await?;
    }
    if batch.has_gap {
        transaction.execute(GAP, &[]).await?;
    }
    Ok(())
}

/// Has models fetched.
pub(super) async fn notify(
    transaction: &Transaction<'_>,
    models: impl Iterator<Item = (TenantId, Named)>,
) -> Result<(), SyncError> {
    let (known, too_long): (Vec<_>, Vec<_>) =
        models.partition(|(_, model)| model.key.len() <= MOST_KEY);
    let notified = known.into_iter().map(|(tenant, model)| Notified {
        tenant,
        model,
        parent: None,
        data: None,
    });
    let notified: Vec<Notified> = notified.collect();
    if !notified.is_empty() {
        accept(transaction, &notified).await?;
    }
    if let Some((tenant, model)) = too_long.first() {
        let class = &model.class;
        tracing::warn!(%tenant, class, rows = too_long.len(), "rows are passed over: keys may have {MOST_KEY} bytes");
    }
    Ok(())
}

/// A class that is to be gone through.
pub(super) struct Pending {
    pub(super) id: ClassId,
    pub(super) version: i64,
    pub(super) scan: Value,
    /// Another one whenever somebody has changed the row.
    state: String,
}

const PENDING: &str =
    "SELECT tenant_id, name, version, scan, xmin::text FROM integratedb.sync_class
    WHERE scan IS NOT NULL ORDER BY tenant_id, name";

/// The classes that are to be gone through.
pub(super) async fn pending(client: &ClientWrapper) -> Result<Vec<Pending>, SyncError> {
    let rows = client.query(&client.prepare_cached(PENDING).await?, &[]).await?;
    let pending = |row: &tokio_postgres::Row| Pending {
        id: (TenantId(row.get(0)), row.get(1)),
        version: row.get(2),
        scan: row.get(3),
        state: row.get(4),
    };
    Ok(rows.iter().map(pending).collect())
}

// Whoever has it gone through anew meanwhile, wins.
const PROGRESS: &str =
    "UPDATE integratedb.sync_class SET scan = $4, scanned = scanned + $5, error = NULL
    WHERE tenant_id = $1 AND name = $2 AND xmin::text = $3";

/// Notes how far a class is gone through; false if somebody has changed it meanwhile.
pub(super) async fn progress(
    transaction: &Transaction<'_>,
    of: &Pending,
    scan: Option<&Value>,
    met: i64,
) -> Result<bool, SyncError> {
    let (tenant, name) = &of.id;
    let row: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&tenant.0, name, &of.state, &scan, &met];
    Ok(transaction.execute(PROGRESS, &row).await? > 0)
}

const FAIL: &str = "UPDATE integratedb.sync_class SET error = $3
    WHERE tenant_id = $1 AND name = $2 AND error IS DISTINCT FROM $3";

/// Notes why a class can't be gone through.
pub(super) async fn fail(
    client: &Client,
    (tenant, name): &ClassId,
    why: &str,
) -> Result<(), SyncError> {
    client.execute(FAIL, &[&tenant.0, name, &why]).await?;
    Ok(())
}

const MODELS: &str = "SELECT m.id, r.key
    FROM integratedb.sync_model m JOIN integratedb.sync_record r ON r.id = m.record_id
    WHERE m.tenant_id = $1 AND r.class = $2 AND m.id > $3 ORDER BY m.id LIMIT $4";

/// Models of a class after this one: their ids and keys.
pub(super) async fn models(
    client: &Client,
    (tenant, name): &ClassId,
    after: i64,
    most: i64,
) -> Result<Vec<(i64, String)>, SyncError> {
    let rows = client.query(MODELS, &[&tenant.0, name, &after, &most]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
