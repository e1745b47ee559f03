//! A spec as its author meant it: matches, alternatives and options, before any database is looked at.

use serde::Serialize;
use serde_json::Value;

use crate::identifier::{Identifier, RelationName};
use crate::notification::Notifications;
use crate::parse::Kind;

/// A whole spec document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What is claimed, in the order written.
    pub matches: Vec<Match>,
    /// What is told of it, and where; `None` for a spec of claims alone.
    pub notifications: Option<Notifications>,
}

/// One item of `match`: met when any of its alternatives is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// At least one. Only a sole alternative may name a whole schema.
    pub alternatives: Vec<MatchAlternative>,
    /// Whether the database may do without it.
    pub optional: bool,
}

/// A table (or a schema of tables) and the columns wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchAlternative {
    /// What is claimed.
    pub path: Target,
    /// The columns; empty claims only that the table exists.
    pub fields: Vec<Field>,
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `schema.table`
    Table(RelationName),
    /// `schema.*`
    AllTables(Identifier),
}

/// One item of `fields`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `"*"`: every column that is not named beside it.
    All {
        /// Whether the table may lose any of them.
        optional: bool,
    },
    /// A column, under one or several names or shapes.
    Named {
        /// At least one.
        alternatives: Vec<FieldAlternative>,
        /// Whether the table may do without it.
        optional: bool,
    },
}

/// A column and the properties demanded of it. What is `None` is taken from the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldAlternative {
    /// The column's name.
    pub name: Identifier,
    /// A type's name in any spelling of [`crate::types::matches`].
    pub data_type: Option<String>,
    /// The least character length or numeric precision.
    pub min_length: Option<i32>,
    /// Whether the column may hold NULL.
    pub is_nullable: Option<bool>,
}

/// A mistake in a document and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong, as a sentence.
    pub message: String,
    /// A JSON pointer in fragment form, relative to the document: `#/match/0/path`.
    pub pointer: String,
}

impl Spec {
    /// Reads a document of claims. It reports every mistake it can find, at most 100, each with its pointer.
    pub fn parse(document: &Value) -> Result<Self, Vec<Problem>> {
        crate::parse::spec(Kind::Claims, document)
    }

    /// Reads a document of notifications, likewise.
    pub fn parse_notifications(document: &Value) -> Result<Self, Vec<Problem>> {
        crate::parse::spec(Kind::Notifications, document)
    }

    /// The schemas the spec speaks about, each once, in order.
    pub fn schemas(&self) -> Vec<&Identifier> {
        let mut schemas: Vec<_> = self
            .matches
            .iter()
            .flat_map(|item| &item.alternatives)
            .map(|alternative| alternative.path.schema())
            .collect();
        schemas.sort();
        schemas.dedup();
        schemas
    }
}

impl Target {
    /// The schema the target is in.
    pub fn schema(&self) -> &Identifier {
        match self {
            Self::Table(name) => &name.schema,
            Self::AllTables(schema) => schema,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Table(name) => name.fmt(f),
            Self::AllTables(schema) => write!(f, "{schema}.*"),
        }
    }
}
