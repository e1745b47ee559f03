//! Shapes of tables as the stream tells them.

use std::collections::HashMap;
use std::sync::Arc;

use integratedb_wire::pgoutput;

/// Which columns of an old row come with an UPDATE or DELETE (pg_class.relreplident).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// None.
    Nothing,
    /// All.
    Full,
    /// Those of an index.
    Index,
}

/// A table as it was when the changes that follow were made.
///
/// Columns are known by name, not by number: the stream does not tell numbers, and those of the catalog may be of
/// another time. A name is of the right time, since every DDL that gives it to another column waits for the
/// transactions that changed the table before, and is told in the stream after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// pg_class.oid
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What old rows hold.
    pub identity: ReplicaIdentity,
    /// Its published columns in the order of rows.
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// pg_type.oid
    pub type_oid: u32,
    /// pg_attribute.atttypmod
    pub modifier: i32,
    /// Whether it is part of the replica identity.
    pub is_key: bool,
}

impl Relation {
    fn new(told: pgoutput::Relation<'_>) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let schema = if told.schema.is_empty() { b"pg_catalog" } else { told.schema };
        Self {
            oid: told.oid,
            schema: text(schema),
            name: text(told.name),
            identity: match told.identity {
                b'f' => ReplicaIdentity::Full,
                b'i' => ReplicaIdentity::Index,
                b'd' => ReplicaIdentity::Default,
                _ => ReplicaIdentity::Nothing,
            },
            columns: told
                .columns
                .iter()
                .map(|column| Column {
                    name: text(column.name),
                    type_oid: column.type_oid,
                    modifier: column.modifier,
                    is_key: column.is_key,
                })
                .collect(),
        }
    }
}

/// The tables told of since the connection began.
#[derive(Debug, Default)]
pub(super) struct Relations(HashMap<u32, Arc<Relation>>);

impl Relations {
    pub(super) fn learn(&mut self, told: pgoutput::Relation<'_>) {
        self.0.insert(told.oid, Arc::new(Relation::new(told)));
    }

    pub(super) fn get(&self, oid: u32) -> Option<&Arc<Relation>> {
        self.0.get(&oid)
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}
