//! Whether the catalog still meets a claim, and if not, what is missing.

use serde::Serialize;

use crate::catalog::{Catalog, Column, Relation, UNLIMITED};
use crate::claim::{Claim, ClaimAlternative, ClaimColumn, ColumnAlternative};
use crate::types;

/// One way in which the database fails a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unmet {
    /// The table, as a spec writes it.
    pub path: String,
    /// The column; `None` when the table itself is missing, or not one whose changes are told.
    pub field: Option<String>,
    /// What fails: `path`, `name`, `type`, `min_length` or `is_nullable`; for a notification also `kind` or
    /// `replica_identity`.
    pub property: &'static str,
    /// What the claim depends on.
    pub expected: String,
    /// What is there.
    pub actual: String,
    /// What can be done about it.
    pub hint: String,
}

/// Compares one claim with the catalog; empty when it is met. An optional claim always is.
///
/// Of several alternatives, the nearest one's failures are reported: the one with the fewest.
pub fn compare(claim: &Claim, catalog: &Catalog) -> Vec<Unmet> {
    if claim.optional {
        return Vec::new();
    }
    let several = claim.alternatives.len() > 1;
    let mut nearest: Option<(bool, Vec<Unmet>)> = None;
    for alternative in &claim.alternatives {
        let relation = catalog.relation(&alternative.relation);
        let failures = failures(alternative, claim.told, relation, several);
        if failures.is_empty() {
            return Vec::new();
        }
        let missing = relation.is_none();
        if nearest.as_ref().is_none_or(|(m, f)| (missing, failures.len()) < (*m, f.len())) {
            nearest = Some((missing, failures));
        }
    }
    nearest.map_or_else(Vec::new, |(_, failures)| failures)
}

/// Whether one alternative is met by itself.
pub(crate) fn is_met(alternative: &ClaimAlternative, told: bool, catalog: &Catalog) -> bool {
    failures(alternative, told, catalog.relation(&alternative.relation), true).is_empty()
}

fn failures(
    alternative: &ClaimAlternative,
    told: bool,
    relation: Option<&Relation>,
    several: bool,
) -> Vec<Unmet> {
    let path = alternative.relation.to_string();
    let Some(relation) = relation else {
        let hint = if several {
            format!(
                "Keep {path}, or provide another alternative of the claim in the same migration."
            )
        } else {
            format!(
                "Keep {path}, or let the stakeholder first make the claim optional or add the new \
                 table as an alternative."
            )
        };
        return vec![Unmet {
            path,
            field: None,
            property: "path",
            expected: "a table".to_owned(),
            actual: "missing".to_owned(),
            hint,
        }];
    };
    let untold = relation.obstacle().filter(|_| told).map(|obstacle| Unmet {
        path: path.clone(),
        field: None,
        property: obstacle.property(),
        expected: obstacle.expected().to_owned(),
        actual: obstacle.actual(),
        hint: obstacle.hint(&path),
    });
    let columns = alternative.columns.iter();
    untold
        .into_iter()
        .chain(columns.filter_map(|column| column_failure(&path, column, relation)))
        .collect()
}

/// The failure of the alternative that comes closest, when none is met.
fn column_failure(path: &str, column: &ClaimColumn, relation: &Relation) -> Option<Unmet> {
    if column.optional {
        return None;
    }
    let mut nearest: Option<(bool, Unmet)> = None;
    for wanted in &column.alternatives {
        let found = relation.column(&wanted.name);
        let (property, expected, actual) = mismatch(wanted, found, Nullability::AtMost)?;
        let missing = found.is_none();
        if nearest.as_ref().is_none_or(|(m, _)| *m && !missing) {
            let hint = hint(path, property, wanted, &expected);
            let field = Some(wanted.name.to_string());
            let path = path.to_owned();
            nearest = Some((missing, Unmet { path, field, property, expected, actual, hint }));
        }
    }
    nearest.map(|(_, unmet)| unmet)
}

fn hint(path: &str, property: &str, wanted: &ColumnAlternative, expected: &str) -> String {
    let field = &wanted.name;
    match property {
        "name" => format!(
            "Keep {path}.{field}, or let the stakeholder first make the field optional or add the new \
             column as an alternative."
        ),
        "type" => format!(
            "Keep the type {expected} of {path}.{field}, or add a column of the new type and let the \
             stakeholder claim it as an alternative."
        ),
        "min_length" => format!(
            "Keep {path}.{field} at least as long, or let the stakeholder claim a smaller min_length."
        ),
        _ => format!(
            "Keep {path}.{field} NOT NULL, or let the stakeholder claim it with is_nullable true."
        ),
    }
}

/// How strictly nullability is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nullability {
    /// As a new spec is checked: what it says is what is there.
    Exact,
    /// As a stored claim is checked: NOT NULL also satisfies a claim that could bear NULL.
    AtMost,
}

/// The first property in which a column is not as wanted: its name, what was expected, what is there.
pub(crate) fn mismatch(
    wanted: &ColumnAlternative,
    found: Option<&Column>,
    nullability: Nullability,
) -> Option<(&'static str, String, String)> {
    let Some(found) = found else {
        let expected = wanted.data_type.clone().unwrap_or_else(|| "a column".to_owned());
        return Some(("name", expected, "missing".to_owned()));
    };
    if let Some(data_type) = &wanted.data_type
        && !types::matches(data_type, &found.column_type)
    {
        return Some(("type", data_type.clone(), found.column_type.formatted.clone()));
    }
    if let Some(min_length) = wanted.min_length
        && found.max_length.is_none_or(|max_length| max_length < min_length)
    {
        return Some(("min_length", length(Some(min_length)), length(found.max_length)));
    }
    let refused = match (wanted.is_nullable, nullability) {
        (None, _) => false,
        (Some(wanted), Nullability::Exact) => wanted != found.is_nullable,
        (Some(wanted), Nullability::AtMost) => !wanted && found.is_nullable,
    };
    refused.then(|| {
        let expected = wanted.is_nullable.unwrap_or_default().to_string();
        ("is_nullable", expected, found.is_nullable.to_string())
    })
}

fn length(length: Option<i32>) -> String {
    match length {
        None => "none".to_owned(),
        Some(UNLIMITED) => "unlimited".to_owned(),
        Some(n) => n.to_string(),
    }
}
