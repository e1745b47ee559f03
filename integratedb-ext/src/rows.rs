//! The shapes in which SQL and this library exchange rows, as JSON.

use std::fmt;

use integratedb_claims::{
    Catalog, Claim, Identifier, Problem, Relation, RelationName, Spec, Target,
};
use pgrx::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A schema (empty table name) or relation with a fingerprint that is not the remembered one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Changed {
    pub(crate) schema_name: String,
    pub(crate) table_name: String,
    /// `None` when it is gone.
    pub(crate) fingerprint: Option<i64>,
    /// `None` when no notification names it.
    log_fingerprint: Option<i64>,
    /// Whether what differs was not remembered at all.
    pub(crate) is_new: bool,
}

impl Changed {
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.schema_name == other.schema_name && self.table_name == other.table_name
    }
}

/// A path of a spec; an empty table name stands for the whole schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TargetRow {
    pub(crate) schema_name: String,
    pub(crate) table_name: String,
}

impl TargetRow {
    pub(crate) fn is(&self, other: &Changed) -> bool {
        self.schema_name == other.schema_name && self.table_name == other.table_name
    }
}

impl fmt::Display for TargetRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema_name, self.table_name)
    }
}

/// The targets of a spec.
pub(crate) fn targets(spec: &Spec) -> Vec<TargetRow> {
    spec.matches
        .iter()
        .flat_map(|item| &item.alternatives)
        .map(|alternative| match &alternative.path {
            Target::Table(name) => target(name),
            Target::AllTables(schema) => {
                TargetRow { schema_name: schema.as_str().to_owned(), table_name: String::new() }
            }
        })
        .collect()
}

/// The target that names one relation.
pub(crate) fn target(name: &RelationName) -> TargetRow {
    TargetRow {
        schema_name: name.schema.as_str().to_owned(),
        table_name: name.table.as_str().to_owned(),
    }
}

/// A stored claim.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StoredClaim {
    pub(crate) id: i64,
    pub(crate) met: bool,
    #[serde(flatten)]
    pub(crate) claim: Claim,
}

/// What a spec is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Kind {
    Claims,
    Notifications,
}

impl Kind {
    /// Reads a document.
    pub(crate) fn parse(self, document: &Value) -> Result<Spec, Vec<Problem>> {
        match self {
            Self::Claims => Spec::parse(document),
            Self::Notifications => Spec::parse_notifications(document),
        }
    }
}

/// A stored spec that has to be expanded again.
#[derive(Debug, Deserialize)]
pub(crate) struct StoredSpec {
    pub(crate) id: i64,
    pub(crate) kind: Kind,
    pub(crate) stakeholder_id: i64,
    pub(crate) stakeholder: String,
    pub(crate) document: Value,
    pub(crate) targets: Option<Vec<TargetRow>>,
    pub(crate) claims: Vec<StoredClaim>,
}

impl StoredSpec {
    pub(crate) fn is_of_notifications(&self) -> bool {
        self.kind == Kind::Notifications
    }

    /// The document, read again.
    pub(crate) fn spec(&self) -> Spec {
        self.kind.parse(&self.document).unwrap_or_else(|problems| {
            let problem = problems.first().map_or("", |problem| problem.message.as_str());
            error!("the stored spec {} can't be read: {problem}", self.id)
        })
    }
}

/// A claim that could be unmet, and whose it is.
#[derive(Debug, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) stakeholder: String,
    pub(crate) claim: StoredClaim,
}

/// What `catalog.sql` answers.
#[derive(Debug, Deserialize)]
pub(crate) struct CatalogRows {
    schemas: Vec<Identifier>,
    relations: Vec<RelationRow>,
}

#[derive(Debug, Deserialize)]
struct RelationRow {
    #[serde(flatten)]
    name: RelationName,
    #[serde(flatten)]
    relation: Relation,
}

impl From<CatalogRows> for Catalog {
    fn from(rows: CatalogRows) -> Self {
        Self {
            schemas: rows.schemas.into_iter().collect(),
            relations: rows.relations.into_iter().map(|row| (row.name, row.relation)).collect(),
        }
    }
}

/// The rows of claims that are to be written, as `store_claims.sql` takes them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ClaimRows<'a> {
    claims: Vec<Value>,
    alternatives: Vec<Value>,
    columns: Vec<ColumnRow<'a>>,
}

#[derive(Debug, Serialize)]
struct ColumnRow<'a> {
    spec_id: i64,
    item: usize,
    claim_table: &'a str,
    alternative: usize,
    position: usize,
    shape: usize,
    field: usize,
    column_name: &'a Identifier,
    data_type: Option<&'a str>,
    min_length: Option<i32>,
    is_nullable: Option<bool>,
    optional: bool,
}

impl<'a> ClaimRows<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    pub(crate) fn push(&mut self, spec_id: i64, claim: &'a Claim, met: bool) {
        let item = claim.key.item;
        let claim_table = claim.key.table.as_str();
        self.claims.push(serde_json::json!({
            "spec_id": spec_id, "item": item, "claim_table": claim_table,
            "optional": claim.optional, "met": met,
        }));
        for (alternative, wanted) in claim.alternatives.iter().enumerate() {
            self.alternatives.push(serde_json::json!({
                "spec_id": spec_id, "item": item, "claim_table": claim_table, "position": alternative,
                "schema_name": wanted.relation.schema, "table_name": wanted.relation.table,
            }));
            for (position, column) in wanted.columns.iter().enumerate() {
                for (shape, one) in column.alternatives.iter().enumerate() {
                    self.columns.push(ColumnRow {
                        spec_id,
                        item,
                        claim_table,
                        alternative,
                        position,
                        shape,
                        field: column.field,
                        column_name: &one.name,
                        data_type: one.data_type.as_deref(),
                        min_length: one.min_length,
                        is_nullable: one.is_nullable,
                        optional: column.optional,
                    });
                }
            }
        }
    }
}
