//! What of a claim is there now: which of its alternatives, and which columns of it.

use crate::catalog::Catalog;
use crate::claim::{Claim, ClaimAlternative};
use crate::compare::{Nullability, is_met, mismatch};
use crate::identifier::{Identifier, RelationName};

/// The part of a claim that the database provides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present<'a> {
    /// The table.
    pub relation: &'a RelationName,
    /// Its columns in the order of the claim, each once.
    pub columns: Vec<&'a Identifier>,
}

/// The first alternative that is met, with the first met name of each column.
///
/// When none is met, for the claim is optional or the database was changed against it: the first one whose table is
/// there and can be told, with the columns that are there. So a NOT NULL that went silences nobody, nor does one
/// partition that can't be told. `None` when there
/// is no such table.
pub fn present<'a>(claim: &'a Claim, catalog: &Catalog) -> Option<Present<'a>> {
    let is_there = |one: &&ClaimAlternative| {
        catalog.relation(&one.relation).is_some_and(|relation| {
            !claim.told || relation.obstacle().is_none_or(|o| o.leaf.is_some())
        })
    };
    let alternative = claim
        .alternatives
        .iter()
        .find(|one| is_met(one, claim.told, catalog))
        .or_else(|| claim.alternatives.iter().find(is_there))?;
    let relation = catalog.relation(&alternative.relation)?;
    let mut columns: Vec<&Identifier> = Vec::with_capacity(alternative.columns.len());
    for column in &alternative.columns {
        let met = column.alternatives.iter().find(|wanted| {
            mismatch(wanted, relation.column(&wanted.name), Nullability::AtMost).is_none()
        });
        let there = || column.alternatives.iter().find(|one| relation.column(&one.name).is_some());
        if let Some(found) = met.or_else(there)
            && !columns.contains(&&found.name)
        {
            columns.push(&found.name);
        }
    }
    Some(Present { relation: &alternative.relation, columns })
}
