//! A claim: one table and its columns as a spec expanded to them, with the properties it depends on.

use serde::{Deserialize, Serialize};

use crate::identifier::{Identifier, RelationName};

/// What a match of a spec came to: one claim, or one for each table of a `schema.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Which match of the spec it stems from, and for `schema.*` which table: it names the claim within
    /// its spec and stays the same when the spec is expanded again.
    pub key: ClaimKey,
    /// Whether the database may do without it.
    pub optional: bool,
    /// Whether the log has to tell the table's changes, because a notification is about them.
    pub told: bool,
    /// Met when any of them is.
    pub alternatives: Vec<ClaimAlternative>,
}

/// The name of a claim within its spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClaimKey {
    /// The position in `match`.
    pub item: usize,
    /// The table, where the path was `schema.*`; otherwise empty.
    pub table: String,
}

/// A table, and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimAlternative {
    /// The table.
    pub relation: RelationName,
    /// The columns; empty claims only that the table exists.
    pub columns: Vec<ClaimColumn>,
}

/// A column, under one or several names or shapes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimColumn {
    /// The position in `fields`.
    pub field: usize,
    /// Whether the table may do without it.
    pub optional: bool,
    /// Met when any of them is.
    pub alternatives: Vec<ColumnAlternative>,
}

/// A column's name and the properties depended on. What is `None` is not known yet, because the column
/// was not there when the spec was expanded, or does not apply to its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnAlternative {
    /// The column's name.
    pub name: Identifier,
    /// Its type, in a spelling of [`crate::types::matches`].
    pub data_type: Option<String>,
    /// The length it must at least have.
    pub min_length: Option<i32>,
    /// False: NULL must stay impossible. True: either way will do.
    pub is_nullable: Option<bool>,
}
