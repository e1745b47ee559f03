//! What follows from notifications beside claims: their tables join the publication, and the sidecar is told what they
//! are about.

use std::collections::BTreeMap;

use integratedb_claims::{EventKind, present};
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};

use crate::contract::{AFFECTED, catalog};
use crate::rows::{StoredSpec, TargetRow, targets};
use crate::snapshot::{self, read, run};

const UNPUBLISHED: &str = include_str!("../../sql/queries/unpublished.sql");
const PUBLISH: &str = include_str!("../../sql/queries/publish.sql");

/// A table, or leaf of one, that is not published yet.
#[derive(Deserialize)]
struct Leaf {
    #[serde(flatten)]
    table: TargetRow,
    leaf: u32,
}

/// A table whose changes are not told although they could be.
pub(crate) struct Unpublished {
    pub(crate) table: TargetRow,
    pub(crate) why: String,
}

/// One object of `integratedb.subscriptions()`.
#[derive(Serialize)]
struct Subscription<'a> {
    stakeholder_id: i64,
    stakeholder: &'a str,
    item: usize,
    schema: &'a str,
    table: &'a str,
    relation: u32,
    columns: Vec<&'a str>,
    events: Vec<EventKind>,
    channels: &'a [String],
}

/// Locks what will join the publication, as joining does, before the contract's lock is taken: a migration takes them in
/// this order too, so that neither can deadlock the other.
pub(crate) fn lock(targets: &[TargetRow]) {
    for leaf in unpublished(targets) {
        // SAFETY: any oid may be locked; the lock is released at the end of the transaction.
        unsafe {
            pg_sys::LockRelationOid(
                pg_sys::Oid::from(leaf.leaf),
                pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE,
            );
        }
    }
}

/// Has the tables join the publication that can and have not. Returns those that could not, such as for a lock.
pub(crate) fn publish(targets: &[TargetRow]) -> Vec<Unpublished> {
    let leaves = unpublished(targets);
    if leaves.is_empty() {
        return Vec::new();
    }
    let oids: Vec<u32> = leaves.iter().map(|leaf| leaf.leaf).collect();
    let refused: BTreeMap<u32, String> = read(PUBLISH, &[&snapshot::json(&oids)]);
    leaves
        .into_iter()
        .filter_map(|Leaf { table, leaf }| {
            refused.get(&leaf).map(|why| Unpublished { table, why: why.clone() })
        })
        .collect()
}

fn unpublished(targets: &[TargetRow]) -> Vec<Leaf> {
    read(UNPUBLISHED, &[&snapshot::json(targets)])
}

/// Tells the readers of the WAL that the answer of `integratedb.subscriptions()` may be another one.
pub(crate) fn tell() {
    run("SELECT integratedb.tell_subscriptions()", &[]);
}

/// What notifications are about now, as a JSON array. Reads only, and takes no lock.
///
/// A partitioned table is told by its leaves: one object for each, with the oid of the leaf and the name of the
/// partitioned table.
#[pg_extern(schema = "integratedb")]
pub(crate) fn contract_subscriptions() -> String {
    let ids: Vec<i64> = read(
        "SELECT coalesce(jsonb_agg(id), '[]')::text FROM integratedb.spec WHERE type = 'NOTIFICATIONS'",
        &[],
    );
    let mut stored: Vec<StoredSpec> = read(AFFECTED, &["[]", &snapshot::json(&ids)]);
    stored.sort_by_key(|one| one.stakeholder_id);
    for one in &mut stored {
        one.claims.sort_by(|a, b| a.claim.key.cmp(&b.claim.key));
    }
    let specs: Vec<_> = stored.iter().map(|one| (one, one.spec())).collect();
    let named: Vec<TargetRow> = specs.iter().flat_map(|(_, spec)| targets(spec)).collect();
    let catalog = catalog(&named, &named);
    let mut subscriptions = Vec::new();
    for (one, spec) in &specs {
        for claim in &one.claims {
            let item = claim.claim.key.item;
            let notification =
                spec.notifications.as_ref().and_then(|notifications| notifications.items.get(item));
            let Some(notification) = notification else { continue };
            let Some(found) = present(&claim.claim, &catalog) else { continue };
            let log = catalog.relation(found.relation).and_then(|relation| relation.log.as_ref());
            for relation in log.map_or(&[][..], |log| &log.leaves) {
                subscriptions.push(Subscription {
                    stakeholder_id: one.stakeholder_id,
                    stakeholder: &one.stakeholder,
                    item,
                    schema: found.relation.schema.as_str(),
                    table: found.relation.table.as_str(),
                    relation: *relation,
                    columns: found.columns.iter().map(|name| name.as_str()).collect(),
                    events: notification.events.iter().copied().collect(),
                    channels: &notification.channels,
                });
            }
        }
    }
    snapshot::json(&subscriptions)
}
