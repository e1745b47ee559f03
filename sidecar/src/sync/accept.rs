//! Takes notifications: a model that is named is due to be fetched.
//!
//! Whoever calls this names models in any number and order, at the same time as others. So that nobody waits in a circle,
//! each statement takes its rows in one order, records come before updates, and what is known already is not locked at all.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use serde_json::{Map, Value};
use tokio_postgres::types::ToSql;

use super::error::SyncError;
use super::ids::{ModelId, TenantId};
use super::look_ups;
use super::work::{Named, Notified};

/// Which of these are known as they are, and which models they are.
const KNOWN: &str = "
SELECT n.place, m.id
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[])
     WITH ORDINALITY n (tenant, class, key, parent_class, parent_key, data, place)
JOIN integratedb.sync_record r ON r.tenant_id = n.tenant AND r.class = n.class AND r.key = n.key
JOIN integratedb.sync_model m ON m.record_id = r.id
LEFT JOIN integratedb.sync_record p ON p.id = r.parent_id
WHERE (n.parent_class IS NULL OR (p.class = n.parent_class AND p.key = n.parent_key))
  AND (n.data IS NULL OR n.data = r.data)";

/// Records that are missing.
const MISSING: &str = "
INSERT INTO integratedb.sync_record (tenant_id, class, key)
SELECT DISTINCT n.tenant, n.class, n.key
FROM unnest($1::bigint[], $2::text[], $3::text[]) n (tenant, class, key)
WHERE n.class IS NOT NULL
  AND NOT EXISTS (SELECT FROM integratedb.sync_record r
                  WHERE r.tenant_id = n.tenant AND r.class = n.class AND r.key = n.key)
ORDER BY 1, 2, 3
ON CONFLICT DO NOTHING";

/// What is said of records, where it is something else than before.
const SAID: &str = "
WITH said AS (
    SELECT r.id, coalesce(p.id, r.parent_id) AS parent_id, coalesce(n.data, r.data) AS data,
           coalesce(p.id, r.parent_id) IS DISTINCT FROM r.parent_id AS is_moved
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[])
         n (tenant, class, key, parent_class, parent_key, data)
    JOIN integratedb.sync_record r ON r.tenant_id = n.tenant AND r.class = n.class AND r.key = n.key
    LEFT JOIN integratedb.sync_record p
           ON p.tenant_id = n.tenant AND p.class = n.parent_class AND p.key = n.parent_key
    WHERE coalesce(p.id, r.parent_id) IS DISTINCT FROM r.parent_id OR coalesce(n.data, r.data) <> r.data
    ORDER BY r.id
    FOR NO KEY UPDATE OF r
)
UPDATE integratedb.sync_record r SET parent_id = s.parent_id, data = s.data FROM said s WHERE r.id = s.id
RETURNING CASE WHEN s.is_moved THEN r.id END";

/// Models below these records, where an integration's scope is a model and those below it: they may be in one now.
const BELOW: &str = "
WITH RECURSIVE below (id, depth) AS (
    SELECT c.id, 1 FROM integratedb.sync_record c WHERE c.parent_id = ANY ($1::bigint[])
    UNION ALL
    SELECT c.id, b.depth + 1 FROM below b JOIN integratedb.sync_record c ON c.parent_id = b.id WHERE b.depth < 32
)
SELECT m.id
FROM (SELECT DISTINCT id FROM below) b
JOIN integratedb.sync_model m ON m.record_id = b.id
WHERE EXISTS (SELECT FROM integratedb.sync_integration i WHERE i.tenant_id = m.tenant_id AND i.model_id IS NOT NULL)";

/// Models that are missing, each with its update.
const MODELS: &str = "
WITH made AS (
    INSERT INTO integratedb.sync_model (tenant_id, record_id)
    SELECT r.tenant_id, r.id
    FROM unnest($1::bigint[], $2::text[], $3::text[]) n (tenant, class, key)
    JOIN integratedb.sync_record r ON r.tenant_id = n.tenant AND r.class = n.class AND r.key = n.key
    ORDER BY r.id
    ON CONFLICT DO NOTHING
    RETURNING id, tenant_id
)
INSERT INTO integratedb.sync_update (model_id, tenant_id, notified) SELECT id, tenant_id, 0 FROM made";

/// Which models these are.
const FIND: &str = "
SELECT n.place, m.id
FROM unnest($1::bigint[], $2::text[], $3::text[]) WITH ORDINALITY n (tenant, class, key, place)
JOIN integratedb.sync_record r ON r.tenant_id = n.tenant AND r.class = n.class AND r.key = n.key
JOIN integratedb.sync_model m ON m.record_id = r.id";

/// Makes updates due. One that is under way becomes due when it ends, since it may have asked too early.
const DUE: &str = "
WITH noted AS (
    SELECT u.model_id FROM integratedb.sync_update u WHERE u.model_id = ANY ($1::bigint[])
    ORDER BY u.model_id FOR NO KEY UPDATE
)
UPDATE integratedb.sync_update u
SET notified = u.notified + 1,
    due_at = CASE WHEN u.lease IS NULL THEN clock_timestamp() ELSE u.due_at END
FROM noted n WHERE u.model_id = n.model_id";

/// How often it is tried to find models that are removed meanwhile.
const ATTEMPTS: usize = 5;

/// What is said of a model.
type Said<'a> = (Option<&'a Named>, Option<&'a Map<String, Value>>);

/// The arguments of the statements above.
#[derive(Default)]
struct Columns<'a> {
    tenants: Vec<i64>,
    classes: Vec<&'a str>,
    keys: Vec<&'a str>,
    parent_classes: Vec<Option<&'a str>>,
    parent_keys: Vec<Option<&'a str>>,
    data: Vec<Option<Value>>,
}

impl<'a> Columns<'a> {
    fn of(all: impl IntoIterator<Item = (&'a (TenantId, &'a Named), &'a Said<'a>)>) -> Self {
        let mut columns = Self::default();
        for ((tenant, model), (parent, data)) in all {
            columns.tenants.push(tenant.0);
            columns.classes.push(&model.class);
            columns.keys.push(&model.key);
            columns.parent_classes.push(parent.map(|parent| parent.class.as_str()));
            columns.parent_keys.push(parent.map(|parent| parent.key.as_str()));
            columns.data.push(data.map(|data| Value::Object(data.clone())));
        }
        columns
    }
}

/// Makes these models due to be fetched, whether they were known or not, and says which they are, in the order of the
/// notifications. The tenants have to be there. What is notified twice is due once.
pub async fn accept(
    transaction: &Transaction<'_>,
    notified: &[Notified],
) -> Result<Vec<ModelId>, SyncError> {
    let mut all: BTreeMap<(TenantId, &Named), Said<'_>> = BTreeMap::new();
    for one in notified {
        let said = all.entry((one.tenant, &one.model)).or_default();
        // The later knows better.
        said.0 = one.parent.as_ref().or(said.0);
        said.1 = one.data.as_ref().or(said.1);
    }
    for _ in 0..ATTEMPTS {
        let models = find_or_make(transaction, &all, true).await?;
        let ids: Vec<i64> = models.values().map(|id| id.0).collect();
        if make_due(transaction, &ids).await? == ids.len() as u64 {
            let of = |one: &Notified| models.get(&(one.tenant, &one.model)).copied();
            return Ok(notified.iter().filter_map(of).collect());
        }
    }
    Err(SyncError::Unexpected("models are removed faster than they can be notified".to_owned()))
}

/// The model of this name, which is made if there is none. It is not due because of this.
pub(super) async fn ensure(
    transaction: &Transaction<'_>,
    tenant: TenantId,
    named: &Named,
) -> Result<ModelId, SyncError> {
    let all = BTreeMap::from([((tenant, named), (None, None))]);
    let found = find_or_make(transaction, &all, false).await?;
    let missing = || SyncError::Unexpected("a model that was made is not there".to_owned());
    found.into_values().next().ok_or_else(missing)
}

/// Has models below these records fetched again, since the records have other parents now.
pub(super) async fn fetch_below(
    transaction: &Transaction<'_>,
    moved: &[i64],
) -> Result<(), SyncError> {
    if !moved.is_empty() {
        let below = transaction.query(&prepare(transaction, BELOW).await?, &[&moved]).await?;
        let below: Vec<i64> = below.iter().map(|row| row.get(0)).collect();
        make_due(transaction, &below).await?;
    }
    Ok(())
}

/// Makes the updates of these models due, and says of how many: some may be removed meanwhile.
pub(super) async fn make_due(
    transaction: &Transaction<'_>,
    models: &[i64],
) -> Result<u64, SyncError> {
    Ok(transaction.execute(&prepare(transaction, DUE).await?, &[&models]).await?)
}

/// Makes those of these records that are missing. Who has no class is none.
pub(super) async fn make_records(
    transaction: &Transaction<'_>,
    tenants: &[i64],
    classes: &[Option<&str>],
    keys: &[Option<&str>],
) -> Result<(), SyncError> {
    let missing = prepare(transaction, MISSING).await?;
    transaction.execute(&missing, &[&tenants, &classes, &keys]).await?;
    Ok(())
}

/// `looks_up` where nothing follows in the transaction that takes more than some rows.
async fn find_or_make<'a>(
    transaction: &Transaction<'_>,
    all: &BTreeMap<(TenantId, &'a Named), Said<'_>>,
    looks_up: bool,
) -> Result<BTreeMap<(TenantId, &'a Named), ModelId>, SyncError> {
    let mut models = BTreeMap::new();
    let names: Vec<(TenantId, &Named)> = all.keys().copied().collect();
    let c = Columns::of(all);
    let known = prepare(transaction, KNOWN).await?;
    let said: [&(dyn ToSql + Sync); 6] =
        [&c.tenants, &c.classes, &c.keys, &c.parent_classes, &c.parent_keys, &c.data];
    let rows = match looks_up {
        true => look_ups::query(transaction, &known, &said).await?,
        false => transaction.query(&known, &said).await?,
    };
    note(&mut models, &names, &rows);
    if models.len() == all.len() {
        return Ok(models);
    }
    let unknown: Vec<_> = all.iter().filter(|(name, _)| !models.contains_key(name)).collect();
    let names: Vec<(TenantId, &Named)> = unknown.iter().map(|(name, _)| **name).collect();
    let c = Columns::of(unknown);
    // In one statement, parents with them, so that all take them in one order.
    let tenants = [c.tenants.as_slice(), &c.tenants].concat();
    let classes: Vec<_> =
        c.classes.iter().copied().map(Some).chain(c.parent_classes.clone()).collect();
    let keys: Vec<_> = c.keys.iter().copied().map(Some).chain(c.parent_keys.clone()).collect();
    make_records(transaction, &tenants, &classes, &keys).await?;
    let said = prepare(transaction, SAID).await?;
    let moved = transaction
        .query(
            &said,
            &[&c.tenants, &c.classes, &c.keys, &c.parent_classes, &c.parent_keys, &c.data],
        )
        .await?;
    let moved: Vec<i64> = moved.iter().filter_map(|row| row.get(0)).collect();
    fetch_below(transaction, &moved).await?;
    let make = prepare(transaction, MODELS).await?;
    transaction.execute(&make, &[&c.tenants, &c.classes, &c.keys]).await?;
    let find = prepare(transaction, FIND).await?;
    let rows = transaction.query(&find, &[&c.tenants, &c.classes, &c.keys]).await?;
    note(&mut models, &names, &rows);
    Ok(models)
}

fn note<'a>(
    models: &mut BTreeMap<(TenantId, &'a Named), ModelId>,
    names: &[(TenantId, &'a Named)],
    rows: &[tokio_postgres::Row],
) {
    for row in rows {
        // Places count from one.
        let place = usize::try_from(row.get::<_, i64>(0) - 1).ok();
        if let Some(name) = place.and_then(|place| names.get(place)) {
            models.insert(*name, ModelId(row.get(1)));
        }
    }
}

async fn prepare(
    transaction: &Transaction<'_>,
    sql: &str,
) -> Result<tokio_postgres::Statement, SyncError> {
    Ok(transaction.prepare_cached(sql).await?)
}
