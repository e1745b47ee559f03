//! What one channel of a stakeholder subscribes to.

use std::collections::{BTreeSet, HashMap};

use crate::Op;

/// What an item of a notification spec is about at present, as `integratedb.subscriptions()` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// pg_class.oid under which the log tells changes.
    pub relation: u32,
    /// The schema as the spec has it.
    pub schema: String,
    /// The table as the spec has it: of a partition, the table it is part of.
    pub table: String,
    /// The columns that are delivered.
    pub columns: Vec<String>,
    /// What is told.
    pub ops: Vec<Op>,
}

/// The union of a channel's subscriptions: an event is delivered once, with every column that one of those that ask
/// for it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    pub(crate) stakeholder: String,
    pub(crate) id: i64,
    pub(crate) interests: HashMap<u32, Interest>,
}

/// What is wanted of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) schema: String,
    pub(crate) table: String,
    /// The columns by what happened; without an entry it is not told.
    pub(crate) columns: HashMap<Op, BTreeSet<String>>,
}

impl View {
    /// Of a stakeholder's channel, by the subscriptions that go to it.
    pub fn new<'a>(
        id: i64,
        stakeholder: &str,
        subscriptions: impl IntoIterator<Item = &'a Subscription>,
    ) -> Self {
        let mut interests: HashMap<u32, Interest> = HashMap::new();
        for subscription in subscriptions {
            let interest = interests.entry(subscription.relation).or_default();
            interest.schema.clone_from(&subscription.schema);
            interest.table.clone_from(&subscription.table);
            // Rows of a backfill are the table as it is, whatever is told of its changes.
            for op in subscription.ops.iter().copied().chain([Op::Snapshot]) {
                let columns = interest.columns.entry(op).or_default();
                columns.extend(subscription.columns.iter().cloned());
            }
        }
        Self { stakeholder: stakeholder.to_owned(), id, interests }
    }

    /// The tables that are told of: each one's OID, schema and name.
    pub fn tables(&self) -> impl Iterator<Item = (u32, &str, &str)> {
        self.interests
            .iter()
            .map(|(oid, table)| (*oid, table.schema.as_str(), table.table.as_str()))
    }

    /// Whether nothing but gaps would ever be told.
    pub fn is_empty(&self) -> bool {
        self.interests.is_empty()
    }
}
