//! Judging and syncing the contract.
//!
//! Invariants:
//! - Whoever writes claims or judges a migration holds the lock on `integratedb.contract_lock` until the
//!   transaction ends, and reads everything after taking it. Hence of two migrations that are valid only
//!   alone, the second to judge sees the first one's work, or waits for it.
//! - A claim marked as met, on relations whose fingerprints are the remembered ones, is met. Hence only what
//!   changed is looked at, and the cost follows the size of the migration, not the number of claims.

use std::collections::{BTreeMap, BTreeSet};

use integratedb_claims::{Catalog, Claim, Spec, Unmet, compare, contract, expand, review};
use pgrx::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use crate::notifications::{self, Unpublished};
use crate::privileges::Plan;
use crate::rows::{
    Candidate, CatalogRows, Changed, ClaimRows, Kind, StoredClaim, StoredSpec, TargetRow, target,
    targets,
};
use crate::snapshot::{self, read, run};

const CHANGED: &str = include_str!("../../sql/queries/changed.sql");
const REMEMBER: &str = include_str!("../../sql/queries/remember.sql");
const FORGET_UNNAMED: &str = include_str!("../../sql/queries/forget_unnamed.sql");
const CATALOG: &str = include_str!("../../sql/queries/catalog.sql");
const NEAR: &str = include_str!("../../sql/queries/near.sql");
pub(crate) const AFFECTED: &str = include_str!("../../sql/queries/affected_specs.sql");
const CANDIDATES: &str = include_str!("../../sql/queries/candidates.sql");
const STORE_CLAIMS: &str = include_str!("../../sql/queries/store_claims.sql");
const CLEAR_COLUMNS: &str = include_str!("../../sql/queries/clear_columns.sql");
const CLEAR_ALTERNATIVES: &str = include_str!("../../sql/queries/clear_alternatives.sql");
const CLEAR_CLAIMS: &str = include_str!("../../sql/queries/clear_claims.sql");
const STORED_DOCUMENT: &str = "SELECT coalesce(\
    (SELECT document FROM integratedb.spec WHERE stakeholder_id = $1::bigint AND type = $2), 'null')::text";
const SPECS_OF: &str = "SELECT coalesce(jsonb_agg(id), '[]')::text FROM integratedb.spec \
    WHERE stakeholder_id = $1::bigint AND type IN (SELECT jsonb_array_elements_text($2::jsonb))";
const STORE_SPEC: &str = include_str!("../../sql/queries/store_spec.sql");
const CLEAR_TARGETS: &str = include_str!("../../sql/queries/clear_targets.sql");
const STORE_TARGETS: &str = include_str!("../../sql/queries/store_targets.sql");

/// One failure, with the claim and its stakeholder.
#[derive(Serialize)]
struct Failure {
    claim_id: i64,
    stakeholder: String,
    #[serde(flatten)]
    unmet: Unmet,
}

/// The claims that are unmet now, as a JSON array of failures. Reads only, and takes no lock.
#[pg_extern(schema = "integratedb")]
pub(crate) fn contract_unmet(max_results: i32) -> String {
    snapshot::json(&unmet(&changed(), limit(max_results)))
}

/// The claims that are unmet now, as a JSON array of failures; if there are none, syncs.
#[pg_extern(schema = "integratedb")]
pub(crate) fn contract_validate(max_results: i32) -> String {
    lock();
    let changed = changed();
    let failures = unmet(&changed, limit(max_results));
    if failures.is_empty() {
        sync(changed);
    }
    snapshot::json(&failures)
}

/// Expands what changed again and brings claims and grants in line.
#[pg_extern(schema = "integratedb")]
pub(crate) fn contract_sync() {
    lock();
    sync(changed());
}

/// Stores a spec of the type `CLAIMS` or `NOTIFICATIONS`. Answers `{"stored": document}`, `{"malformed": [[message, pointer]…]}` or
/// `{"refused": {"claims", "unmet", "total"}}`; in the latter two cases nothing was written.
#[pg_extern(schema = "integratedb")]
pub(crate) fn contract_put(stakeholder_id: i64, kind: &str, document: &str) -> String {
    let is_of_notifications = kind == "NOTIFICATIONS";
    let spec =
        match parse(if is_of_notifications { Kind::Notifications } else { Kind::Claims }, document)
        {
            Ok(spec) => spec,
            Err(problems) => return json!({ "malformed": problems }).to_string(),
        };
    let targets = targets(&spec);
    let told = if is_of_notifications { &targets[..] } else { &[] };
    notifications::lock(told);
    lock();
    let mut catalog = catalog(&targets, told);
    let claims = expand(&spec, &catalog, &[]);
    if review(&spec, &claims, &catalog).is_err() {
        // Tables whose names differ only in case are looked for only now, to be suggested.
        let near: CatalogRows = read(NEAR, &[&snapshot::json(&targets)]);
        for (name, relation) in Catalog::from(near).relations {
            catalog.relations.entry(name).or_insert(relation);
        }
    }
    if let Err(refusal) = review(&spec, &claims, &catalog) {
        return json!({ "refused": refusal }).to_string();
    }
    let document = contract(&spec);
    let stakeholder = stakeholder_id.to_string();
    let previous: Option<Value> = read(STORED_DOCUMENT, &[&stakeholder, kind]);
    let spec_id: i64 = read(STORE_SPEC, &[&stakeholder, kind, &document.to_string()]);
    let id = spec_id.to_string();
    run(CLEAR_TARGETS, &[&id]);
    run(STORE_TARGETS, &[&id, &snapshot::json(&targets)]);
    let before = changed();
    let synced = sync_specs(&[], &[spec_id]);
    if let Some(Unpublished { table, why }) = synced.unpublished.first() {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            format!("the table {table} could not join the publication integratedb: {why}"),
            "Its changes are told by way of the publication. Nothing was stored."
        );
    }
    if is_of_notifications && (synced.is_rewritten || previous.as_ref() != Some(&document)) {
        notifications::tell();
    }
    remember_own(&synced.touched, before);
    json!({ "stored": document }).to_string()
}

/// Removes a stakeholder's spec of one type, or with NULL all its specs, with their claims, and revokes what was granted
/// for them. Returns whether there was any.
#[pg_extern(schema = "integratedb")]
pub(crate) fn contract_drop(stakeholder_id: i64, kind: Option<&str>) -> bool {
    lock();
    let kinds = kind.map_or_else(|| vec!["CLAIMS", "NOTIFICATIONS"], |kind| vec![kind]);
    let specs: Vec<StoredSpec> = {
        let (stakeholder, kinds) = (stakeholder_id.to_string(), snapshot::json(&kinds));
        let ids: Vec<i64> = read(SPECS_OF, &[&stakeholder, &kinds]);
        read(AFFECTED, &["[]", &snapshot::json(&ids)])
    };
    if specs.is_empty() && kind.is_some() {
        return false;
    }
    let claims: Vec<i64> =
        specs.iter().flat_map(|spec| &spec.claims).map(|claim| claim.id).collect();
    let before = changed();
    clear(&claims, &claims);
    for spec in &specs {
        let id = spec.id.to_string();
        run(CLEAR_TARGETS, &[&id]);
        run("DELETE FROM integratedb.spec WHERE id = $1::bigint", &[&id]);
    }
    if specs.iter().any(StoredSpec::is_of_notifications) {
        notifications::tell();
    }
    let mut locked = Vec::new();
    let mut plan = Plan::of(&[stakeholder_id]);
    while plan.lock(&mut locked) {
        plan = Plan::of(&[stakeholder_id]);
    }
    remember_own(&plan.execute(), before);
    !specs.is_empty()
}

/// Reads a document, telling mistakes as `[message, pointer]`.
fn parse(kind: Kind, document: &str) -> Result<Spec, Vec<Value>> {
    let value: Value = serde_json::from_str(document)
        .map_err(|e| vec![json!([format!("Not a JSON document: {e}."), "#"])])?;
    kind.parse(&value).map_err(|problems| {
        problems.into_iter().map(|problem| json!([problem.message, problem.pointer])).collect()
    })
}

/// Serialises all judgements and changes of the contract until the transaction ends. Reads pass freely.
fn lock() {
    run("LOCK TABLE integratedb.contract_lock IN EXCLUSIVE MODE", &[]);
}

/// A bound on what is told. Zero would look like "nothing is unmet", so it is refused.
fn limit(max_results: i32) -> usize {
    let limit = usize::try_from(max_results).unwrap_or(0);
    if limit == 0 {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "max_results must be at least 1",
            "NULL stands for all."
        );
    }
    limit
}

fn changed() -> Vec<Changed> {
    read(CHANGED, &[])
}

fn remember(changed: &[Changed]) {
    if !changed.is_empty() {
        run(REMEMBER, &[&snapshot::json(changed)]);
    }
}

/// The catalog of what `targets` name; of what `told` names, also how the log tells its changes.
pub(crate) fn catalog(targets: &[TargetRow], told: &[TargetRow]) -> Catalog {
    read::<CatalogRows>(CATALOG, &[&snapshot::json(targets), &snapshot::json(told)]).into()
}

/// The failures of all claims that could be unmet, at most `limit`.
fn unmet(changed: &[Changed], limit: usize) -> Vec<Failure> {
    let candidates: Vec<Candidate> = read(CANDIDATES, &[&snapshot::json(changed)]);
    if candidates.is_empty() {
        return Vec::new();
    }
    let relations = |told: bool| -> Vec<TargetRow> {
        let claims = candidates.iter().map(|candidate| &candidate.claim.claim);
        let found: BTreeSet<TargetRow> = claims
            .filter(|claim| claim.told || !told)
            .flat_map(|claim| &claim.alternatives)
            .map(|alternative| target(&alternative.relation))
            .collect();
        found.into_iter().collect()
    };
    let catalog = catalog(&relations(false), &relations(true));
    candidates
        .into_iter()
        .flat_map(|Candidate { stakeholder, claim }| {
            compare(&claim.claim, &catalog).into_iter().map(move |unmet| Failure {
                claim_id: claim.id,
                stakeholder: stakeholder.clone(),
                unmet,
            })
        })
        .take(limit)
        .collect()
}

fn sync(changed: Vec<Changed>) {
    if changed.is_empty() {
        return;
    }
    let synced = sync_specs(&changed, &[]);
    if synced.is_of_notifications {
        notifications::tell();
    }
    for Unpublished { table, why } in &synced.unpublished {
        ereport!(
            WARNING,
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE,
            format!("changes of the table {table} are not told yet: {why}"),
            "It could not join the publication integratedb. The next integratedb_sync() tries again."
        );
    }
    let mut seen = touched_now(&synced.touched);
    let rest = changed.into_iter().filter(|one| !seen.iter().any(|s| s.is(one)));
    let rest: Vec<Changed> = rest.collect();
    seen.extend(rest);
    // Remembered, it would not be looked at again.
    seen.retain(|one| !synced.unpublished.iter().any(|other| other.table.is(one)));
    remember(&seen);
}

/// After a change of the contract itself: remembers what it looked at for the first time, what it granted on
/// and what no spec names any more. What had drifted `before` is left for its own validation.
fn remember_own(touched: &[TargetRow], before: Vec<Changed>) {
    let (new, drifted): (Vec<_>, Vec<_>) = before.into_iter().partition(|one| one.is_new);
    let mut seen = touched_now(touched);
    seen.retain(|one| !drifted.iter().any(|d| d.is(one)));
    let rest: Vec<Changed> =
        new.into_iter().filter(|one| !seen.iter().any(|s| s.is(one))).collect();
    seen.extend(rest);
    remember(&seen);
    run(FORGET_UNNAMED, &[]);
}

/// The fingerprints, as they are now, of what was granted on.
///
/// Anything else keeps the fingerprint read before it was judged: it may have changed since.
fn touched_now(touched: &[TargetRow]) -> Vec<Changed> {
    let mut now = changed();
    now.retain(|one| touched.iter().any(|touched| touched.is(one)));
    now
}

/// What bringing specs in line did.
struct Synced {
    /// The relations and schemas whose privileges changed.
    touched: Vec<TargetRow>,
    /// Whether any claim was written or removed.
    is_rewritten: bool,
    /// Whether any of the specs is one of notifications.
    is_of_notifications: bool,
    /// Tables of notifications that could not join the publication.
    unpublished: Vec<Unpublished>,
}

/// Expands the specs that `changed` concerns, and the `new` ones, and brings claims, grants and the publication in line.
fn sync_specs(changed: &[Changed], new: &[i64]) -> Synced {
    let mut locked = Vec::new();
    let mut is_rewritten = false;
    loop {
        let specs: Vec<StoredSpec> =
            read(AFFECTED, &[&snapshot::json(changed), &snapshot::json(new)]);
        is_rewritten |= write_claims(&specs, new);
        let stakeholders: Vec<i64> = specs.iter().map(|spec| spec.stakeholder_id).collect();
        let plan = Plan::of(&stakeholders);
        if !plan.lock(&mut locked) {
            let told = named(specs.iter().filter(|spec| spec.is_of_notifications()));
            return Synced {
                touched: plan.execute(),
                is_rewritten,
                is_of_notifications: specs.iter().any(StoredSpec::is_of_notifications),
                unpublished: notifications::publish(&told),
            };
        }
    }
}

/// The paths that specs name, each once.
fn named<'a>(specs: impl Iterator<Item = &'a StoredSpec>) -> Vec<TargetRow> {
    let found: BTreeSet<&TargetRow> =
        specs.flat_map(|spec| spec.targets.iter().flatten()).collect();
    found.into_iter().cloned().collect()
}

/// Expands specs and writes the claims that came out differently; returns whether any did. What was known of a column
/// counts only while the document stays the same.
fn write_claims(specs: &[StoredSpec], new: &[i64]) -> bool {
    let told = named(specs.iter().filter(|spec| spec.is_of_notifications()));
    let catalog = catalog(&named(specs.iter()), &told);
    let expanded: Vec<(i64, &[StoredClaim], Vec<Claim>)> = specs
        .iter()
        .map(|stored| {
            let known = if new.contains(&stored.id) { &[][..] } else { &stored.claims[..] };
            let previous: Vec<Claim> = known.iter().map(|c| c.claim.clone()).collect();
            (stored.id, &stored.claims[..], expand(&stored.spec(), &catalog, &previous))
        })
        .collect();
    let (mut rewritten, mut dropped) = (Vec::new(), Vec::new());
    let mut rows = ClaimRows::default();
    for (spec_id, stored, claims) in &expanded {
        let mut old: BTreeMap<_, _> = stored.iter().map(|c| (&c.claim.key, c)).collect();
        for claim in claims {
            let met = compare(claim, &catalog).is_empty();
            match old.remove(&claim.key) {
                Some(same) if same.claim == *claim && same.met == met => continue,
                Some(other) => rewritten.push(other.id),
                None => {}
            }
            rows.push(*spec_id, claim, met);
        }
        dropped.extend(old.values().map(|claim| claim.id));
    }
    rewritten.extend(&dropped);
    clear(&rewritten, &dropped);
    if !rows.is_empty() {
        run(STORE_CLAIMS, &[&snapshot::json(&rows)]);
    }
    !rewritten.is_empty() || !rows.is_empty()
}

/// Removes the rows below the claims `rewritten`, and the claims `dropped` themselves.
fn clear(rewritten: &[i64], dropped: &[i64]) {
    if !rewritten.is_empty() {
        let ids = snapshot::json(rewritten);
        run(CLEAR_COLUMNS, &[&ids]);
        run(CLEAR_ALTERNATIVES, &[&ids]);
    }
    if !dropped.is_empty() {
        run(CLEAR_CLAIMS, &[&snapshot::json(dropped)]);
    }
}
