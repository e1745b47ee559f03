//! Grants that follow claims: SELECT on the claimed columns, USAGE on their schemas, and their revocation.

use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};

use crate::rows::TargetRow;
use crate::snapshot;

const PLAN: &str = include_str!("../../sql/queries/privileges.sql");
const RECORD: &str = include_str!("../../sql/queries/record_grants.sql");
const FORGET: &str = include_str!("../../sql/queries/forget_grants.sql");

/// What has to be granted and revoked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    grant_columns: Vec<Columns>,
    revoke_columns: Vec<Columns>,
    grant_schemas: Vec<Schema>,
    revoke_schemas: Vec<Schema>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Columns {
    stakeholder_id: i64,
    role: String,
    relation: u32,
    schema_name: String,
    table_name: String,
    columns: Vec<String>,
    numbers: Vec<i16>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Schema {
    stakeholder_id: i64,
    role: String,
    schema_oid: u32,
    schema_name: String,
}

impl Plan {
    /// The plan for the roles of these stakeholders.
    pub(crate) fn of(stakeholders: &[i64]) -> Self {
        snapshot::read(PLAN, &[&snapshot::json(stakeholders)])
    }

    /// Waits until nobody is altering a relation of the plan. Returns whether any was not locked before: then
    /// the catalog may have changed meanwhile and the plan has to be made again.
    ///
    /// A GRANT itself does not wait for a concurrent ALTER, it fails ("tuple concurrently updated").
    pub(crate) fn lock(&self, locked: &mut Vec<u32>) -> bool {
        let mut relations: Vec<u32> = self.columns().map(|columns| columns.relation).collect();
        relations.sort_unstable();
        relations.dedup();
        relations.retain(|relation| !locked.contains(relation));
        for relation in &relations {
            // SAFETY: any oid may be locked; the lock is released at the end of the transaction.
            unsafe {
                pg_sys::LockRelationOid(
                    pg_sys::Oid::from(*relation),
                    pg_sys::AccessShareLock as pg_sys::LOCKMODE,
                );
            }
        }
        let is_more = !relations.is_empty();
        locked.append(&mut relations);
        is_more
    }

    /// Grants, revokes and records both. Returns the relations and schemas whose privileges it changed.
    pub(crate) fn execute(&self) -> Vec<TargetRow> {
        if self.columns().next().is_none() && self.schemas().next().is_none() {
            return Vec::new();
        }
        let plan = snapshot::json(self);
        for one in &self.grant_schemas {
            one.run("GRANT", "TO");
        }
        for one in &self.grant_columns {
            one.run("GRANT", "TO");
        }
        for one in &self.revoke_columns {
            one.run("REVOKE", "FROM");
        }
        for one in &self.revoke_schemas {
            one.run("REVOKE", "FROM");
        }
        snapshot::run(FORGET, &[&plan]);
        snapshot::run(RECORD, &[&plan]);
        let relations = self.columns().map(|one| TargetRow {
            schema_name: one.schema_name.clone(),
            table_name: one.table_name.clone(),
        });
        let schemas = self.schemas().map(|one| TargetRow {
            schema_name: one.schema_name.clone(),
            table_name: String::new(),
        });
        relations.chain(schemas).collect()
    }

    fn columns(&self) -> impl Iterator<Item = &Columns> {
        self.grant_columns.iter().chain(&self.revoke_columns)
    }

    fn schemas(&self) -> impl Iterator<Item = &Schema> {
        self.grant_schemas.iter().chain(&self.revoke_schemas)
    }
}

impl Columns {
    fn run(&self, verb: &str, preposition: &str) {
        let columns: Vec<String> = self.columns.iter().map(spi::quote_identifier).collect();
        let statement = format!(
            "{verb} SELECT ({}) ON {}.{} {preposition} {}",
            columns.join(", "),
            spi::quote_identifier(&self.schema_name),
            spi::quote_identifier(&self.table_name),
            spi::quote_identifier(&self.role),
        );
        snapshot::run(&statement, &[]);
    }
}

impl Schema {
    fn run(&self, verb: &str, preposition: &str) {
        let statement = format!(
            "{verb} USAGE ON SCHEMA {} {preposition} {}",
            spi::quote_identifier(&self.schema_name),
            spi::quote_identifier(&self.role),
        );
        snapshot::run(&statement, &[]);
    }
}
