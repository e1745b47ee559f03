//! What is declared, and which tables of the log that concerns.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use serde_json::{Value, json};

use crate::notify::Subscriptions;
use crate::sync::error::SyncError;
use crate::sync::ids::TenantId;
use crate::sync::source::table::{TableClass, read_definition};

/// A class that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Followed {
    pub(super) tenant: TenantId,
    pub(super) stakeholder: i64,
    pub(super) name: String,
    pub(super) version: i64,
    pub(super) class: TableClass,
    /// The tables under which the log tells its changes: several if it is partitioned; none if it does not.
    pub(super) relations: BTreeSet<u32>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Classes {
    pub(super) all: Vec<Arc<Followed>>,
    by_relation: HashMap<u32, Vec<Arc<Followed>>>,
}

/// Whether a class is followed otherwise than was noted.
pub(super) struct Republished {
    pub(super) class: Arc<Followed>,
    pub(super) published: Value,
    /// None but that it is noted for the first time.
    pub(super) is_first: bool,
}

const CLASSES: &str =
    "SELECT c.tenant_id, t.stakeholder_id, c.name, c.version, c.definition, c.published
    FROM integratedb.sync_class c JOIN integratedb.sync_tenant t ON t.id = c.tenant_id
    WHERE t.stakeholder_id IS NOT NULL ORDER BY c.tenant_id, c.name";

/// A table that leaves the publication and joins it again has another number there.
const MEMBERS: &str = "SELECT m.prrelid, m.oid
    FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel m ON m.prpubid = p.oid
    WHERE p.pubname = 'integratedb' AND m.prrelid = ANY ($1)";

impl Classes {
    pub(super) fn new(all: Vec<Arc<Followed>>) -> Self {
        let mut by_relation: HashMap<u32, Vec<Arc<Followed>>> = HashMap::new();
        for class in &all {
            for relation in &class.relations {
                by_relation.entry(*relation).or_default().push(Arc::clone(class));
            }
        }
        Self { all, by_relation }
    }

    /// Those that are declared now, by these subscriptions; and those that are told otherwise than before.
    pub(super) async fn load(
        client: &ClientWrapper,
        subscriptions: &Subscriptions,
    ) -> Result<(Self, Vec<Republished>), SyncError> {
        let mut all = Vec::new();
        let mut before = Vec::new();
        for row in client.query(&client.prepare_cached(CLASSES).await?, &[]).await? {
            let (stakeholder, name): (i64, String) = (row.get(1), row.get(2));
            // Others are followed all the same.
            let class = match read_definition(&name, row.get(4)) {
                Ok(class) => class,
                Err(error) => {
                    tracing::warn!(%error, "a class is not followed");
                    continue;
                }
            };
            let (schema, table) = (class.table.schema.as_str(), class.table.table.as_str());
            let relations = subscriptions.relations(stakeholder, schema, table);
            let tenant = TenantId(row.get(0));
            let version = row.get(3);
            all.push(Arc::new(Followed { tenant, stakeholder, name, version, class, relations }));
            before.push(row.get::<_, Option<Value>>(5));
        }
        let relations: BTreeSet<u32> =
            all.iter().flat_map(|c| c.relations.iter().copied()).collect();
        let relations: Vec<u32> = relations.into_iter().collect();
        let mut members: BTreeMap<u32, u32> = BTreeMap::new();
        if !relations.is_empty() {
            let rows = client.query(MEMBERS, &[&relations]).await?;
            members.extend(rows.iter().map(|row| (row.get::<_, u32>(0), row.get::<_, u32>(1))));
        }
        let mut republished = Vec::new();
        for (class, before) in all.iter().zip(before) {
            let told =
                class.relations.iter().map(|relation| json!([relation, members.get(relation)]));
            let published = Value::Array(told.collect());
            if before.as_ref() != Some(&published) {
                let class = Arc::clone(class);
                republished.push(Republished { class, published, is_first: before.is_none() });
            }
        }
        Ok((Self::new(all), republished))
    }

    /// Those whose table has this OID in the log.
    pub(super) fn of(&self, relation: u32) -> &[Arc<Followed>] {
        self.by_relation.get(&relation).map_or(&[], Vec::as_slice)
    }

    pub(super) fn tenants(&self) -> BTreeSet<TenantId> {
        self.all.iter().map(|class| class.tenant).collect()
    }
}
