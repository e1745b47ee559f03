//! The part of a database's catalog that claims speak about.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::identifier::{Identifier, RelationName};

/// A length that a column does not limit: `text`, or `varchar` and `numeric` without a modifier.
pub const UNLIMITED: i32 = i32::MAX;

/// Schemas and relations as one snapshot shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Every schema that exists, of those asked about.
    pub schemas: BTreeSet<Identifier>,
    /// Tables, partitioned and foreign tables, views and materialized views by name.
    pub relations: BTreeMap<RelationName, Relation>,
}

/// One relation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Relation {
    /// Its live columns in their order.
    pub columns: Vec<Column>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: Identifier,
    /// Its type; of a domain, the type beneath it.
    #[serde(flatten)]
    pub column_type: ColumnType,
    /// Character length, bit length or numeric precision; of an array, its elements'. `None` where the
    /// type has no such thing, [`UNLIMITED`] where it has but the column sets none.
    pub max_length: Option<i32>,
    /// Whether it may hold NULL.
    pub is_nullable: bool,
}

/// The names a column's type goes by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ColumnType {
    /// `format_type` without modifier and independent of the search path: `integer`, `text[]`,
    /// `public.mood`.
    pub formatted: String,
    /// `information_schema.columns.data_type`: `integer`, `ARRAY`, `USER-DEFINED`.
    pub data_type: String,
    /// The type's own name without schema: `int4`, `_text`, `mood`.
    pub bare: String,
}

impl Catalog {
    /// The relation of that name, if there is one.
    pub fn relation(&self, name: &RelationName) -> Option<&Relation> {
        self.relations.get(name)
    }

    /// The names of all relations in a schema, in order.
    pub fn relations_in<'c>(
        &'c self,
        schema: &'c Identifier,
    ) -> impl Iterator<Item = &'c RelationName> + 'c {
        self.relations.keys().filter(move |name| name.schema == *schema)
    }
}

impl Relation {
    /// The column of that name, if there is one.
    pub fn column(&self, name: &Identifier) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == *name)
    }
}
