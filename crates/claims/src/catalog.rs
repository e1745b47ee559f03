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
    /// How the log tells its changes; `None` where nobody asked.
    #[serde(default)]
    pub log: Option<Log>,
}

/// How the log of a database tells the changes of a relation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Log {
    /// By their oids, the tables that the changes are told of: itself, or the leaves of a partitioned table.
    pub leaves: Vec<u32>,
    /// Why it does not tell them; of several leaves, the first with a reason.
    pub obstacle: Option<Obstacle>,
    /// Whether it is a partition of a table in its own schema, which tells its changes too.
    pub is_partition: bool,
}

/// A table whose changes the log does not tell, with what shows why.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Obstacle {
    /// The leaf that it is about, of a partitioned table.
    pub leaf: Option<RelationName>,
    /// `pg_class.relkind`
    pub kind: char,
    /// `pg_class.relpersistence`
    pub persistence: char,
    /// `pg_class.relreplident`
    pub identity: char,
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
    /// Why the log does not tell its changes; `None` when it does, or when nobody asked.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        self.log.as_ref()?.obstacle.as_ref()
    }

    /// The column of that name, if there is one.
    pub fn column(&self, name: &Identifier) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == *name)
    }
}

impl Obstacle {
    /// Whether it is a table at all, if not one that is told.
    pub fn is_table(&self) -> bool {
        self.leaf.is_some() || self.kind == 'r'
    }

    /// `replica_identity` when that is all that is missing, else `kind`.
    pub fn property(&self) -> &'static str {
        if self.kind == 'r' && self.persistence == 'p' { "replica_identity" } else { "kind" }
    }

    /// What a notification needs.
    pub fn expected(&self) -> &'static str {
        match self.property() {
            "kind" => "a permanent table",
            _ => "a replica identity",
        }
    }

    /// What is there: `a view`, `none, for it has no primary key`.
    pub fn actual(&self) -> String {
        let what = match (self.kind, self.persistence, self.identity) {
            ('v', ..) => "a view",
            ('m', ..) => "a materialized view",
            ('f', ..) => "a foreign table",
            (_, 'u', _) => "an unlogged table",
            (_, 't', _) => "a temporary table",
            (.., 'n') => "NOTHING",
            (.., 'i') => "an index that is gone or not valid",
            _ => "none, for it has no primary key, or one that is deferrable",
        };
        match &self.leaf {
            Some(leaf) => format!("{what} (the partition {leaf})"),
            None => what.to_owned(),
        }
    }

    /// What can be done about it; `path` is the table that was asked for.
    pub fn hint(&self, path: &str) -> String {
        let table = self.leaf.as_ref().map_or_else(|| path.to_owned(), ToString::to_string);
        match (self.kind, self.persistence) {
            ('v' | 'm', _) => {
                format!("Changes are told of tables: name those that {table} reads instead.")
            }
            ('f', _) => format!("Changes of {table} are known only to the server that holds it."),
            (_, 'u') => format!("Changes of {table} are told once it is SET LOGGED."),
            (_, 't') => format!("{table} is temporary, and its changes are not told."),
            _ => format!(
                "Give {table} a primary key that is not deferrable, with REPLICA IDENTITY DEFAULT; or another \
                 replica identity: ALTER TABLE … REPLICA IDENTITY USING INDEX … or FULL."
            ),
        }
    }
}
