//! From a spec to claims: `*` becomes what exists now, and a property that was not specified is taken
//! from the database.
//!
//! Invariant: claims expanded from a catalog are met by that catalog, unless the spec itself asks for
//! what is not there (test `expansion_is_met_by_its_own_catalog`).

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{Catalog, Column, Relation};
use crate::claim::{Claim, ClaimAlternative, ClaimColumn, ClaimKey, ColumnAlternative};
use crate::identifier::{Identifier, RelationName};
use crate::spec::{Field, FieldAlternative, Match, MatchAlternative, Spec, Target};

/// Expands `spec` against `catalog`.
///
/// `previous` are the claims of the very same spec from its last expansion, none for a new one. A column that
/// is gone keeps what was known of it, so that its absence can still be told, and its return checked.
///
/// To notifications, `schema.*` means the tables of the schema whose changes can be told. A partition is left to the
/// partitioned table of the same schema, or its changes would be told twice.
pub fn expand(spec: &Spec, catalog: &Catalog, previous: &[Claim]) -> Vec<Claim> {
    let known = Known::new(previous);
    let told = spec.notifications.is_some();
    let before: BTreeSet<&ClaimKey> = previous.iter().map(|claim| &claim.key).collect();
    let mut claims = Vec::new();
    for (item, wanted) in spec.matches.iter().enumerate() {
        if let [MatchAlternative { path: Target::AllTables(schema), fields }] =
            &wanted.alternatives[..]
        {
            for name in catalog.relations_in(schema) {
                let key = ClaimKey { item, table: name.table.as_str().to_owned() };
                // A table that was told and can no longer be is claimed still, and so is found missing.
                if told && !is_own_table(name, catalog, before.contains(&key)) {
                    continue;
                }
                let alternatives = vec![alternative(name, fields, catalog, &known, item)];
                claims.push(Claim { key, optional: wanted.optional, told, alternatives });
            }
        } else {
            claims.push(table_claim(item, wanted, told, catalog, &known));
        }
    }
    claims
}

/// Whether notifications of a whole schema are about this relation of it.
fn is_own_table(name: &RelationName, catalog: &Catalog, was_told: bool) -> bool {
    catalog
        .relation(name)
        .and_then(|relation| relation.log.as_ref())
        .is_some_and(|log| !log.is_partition && (was_told || log.obstacle.is_none()))
}

fn table_claim(
    item: usize,
    wanted: &Match,
    told: bool,
    catalog: &Catalog,
    known: &Known<'_>,
) -> Claim {
    let alternatives = wanted
        .alternatives
        .iter()
        .filter_map(|one| match &one.path {
            Target::Table(name) => Some(alternative(name, &one.fields, catalog, known, item)),
            // The parser lets a schema stand only alone, and that case is the caller's.
            Target::AllTables(_) => None,
        })
        .collect();
    let key = ClaimKey { item, table: String::new() };
    Claim { key, optional: wanted.optional, told, alternatives }
}

fn alternative(
    name: &RelationName,
    fields: &[Field],
    catalog: &Catalog,
    known: &Known<'_>,
    item: usize,
) -> ClaimAlternative {
    let relation = catalog.relation(name);
    let named: BTreeSet<&Identifier> = fields
        .iter()
        .flat_map(|field| match field {
            Field::Named { alternatives, .. } => &alternatives[..],
            Field::All { .. } => &[],
        })
        .map(|one| &one.name)
        .collect();
    let mut columns = Vec::new();
    for (position, field) in fields.iter().enumerate() {
        match field {
            Field::All { optional } => columns.extend(
                relation
                    .map_or(&[][..], |relation| &relation.columns)
                    .iter()
                    .filter(|column| !named.contains(&column.name))
                    .map(|column| ClaimColumn {
                        field: position,
                        optional: *optional,
                        alternatives: vec![snapshot(column)],
                    }),
            ),
            Field::Named { alternatives, optional } => columns.push(ClaimColumn {
                field: position,
                optional: *optional,
                alternatives: alternatives
                    .iter()
                    .enumerate()
                    .map(|(shape, wanted)| {
                        let place = Place {
                            item,
                            relation: name,
                            field: position,
                            shape,
                            name: &wanted.name,
                        };
                        column(wanted, relation, known.get(&place))
                    })
                    .collect(),
            }),
        }
    }
    ClaimAlternative { relation: name.clone(), columns }
}

/// Fills what the spec left open from the database, else from what was known before.
fn column(
    wanted: &FieldAlternative,
    relation: Option<&Relation>,
    known: Option<&ColumnAlternative>,
) -> ColumnAlternative {
    let now = relation.and_then(|relation| relation.column(&wanted.name)).map(snapshot);
    let now = now.as_ref().or(known);
    ColumnAlternative {
        name: wanted.name.clone(),
        data_type: wanted.data_type.clone().or_else(|| now.and_then(|c| c.data_type.clone())),
        min_length: wanted.min_length.or_else(|| now.and_then(|c| c.min_length)),
        is_nullable: wanted.is_nullable.or_else(|| now.and_then(|c| c.is_nullable)),
    }
}

fn snapshot(column: &Column) -> ColumnAlternative {
    ColumnAlternative {
        name: column.name.clone(),
        data_type: Some(column.column_type.formatted.clone()),
        min_length: column.max_length,
        is_nullable: Some(column.is_nullable),
    }
}

/// Where a column alternative stands within its spec.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    item: usize,
    relation: &'a RelationName,
    field: usize,
    shape: usize,
    name: &'a Identifier,
}

/// What the last expansion knew of each column.
struct Known<'a>(BTreeMap<Place<'a>, &'a ColumnAlternative>);

impl<'a> Known<'a> {
    fn new(claims: &'a [Claim]) -> Self {
        let mut known = BTreeMap::new();
        for claim in claims {
            for alternative in &claim.alternatives {
                for column in &alternative.columns {
                    for (shape, one) in column.alternatives.iter().enumerate() {
                        let (item, field) = (claim.key.item, column.field);
                        let relation = &alternative.relation;
                        let place = Place { item, relation, field, shape, name: &one.name };
                        known.insert(place, one);
                    }
                }
            }
        }
        Self(known)
    }

    fn get(&self, place: &Place<'_>) -> Option<&'a ColumnAlternative> {
        self.0.get(place).copied()
    }
}
