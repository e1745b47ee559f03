//! Who wants to be told of what.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use integratedb_cache::{Snapshot, widen};
use integratedb_events::{Op, Subscription, View};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio_postgres::Client;

use super::error::NotifyError;

/// All subscriptions, as of one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriptions {
    stakeholders: BTreeMap<i64, Subscribed>,
    relations: HashSet<u32>,
}

/// Those of one stakeholder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// Its name.
    pub name: String,
    /// What it subscribes to, and the channels that this goes to: names, types or `*`.
    items: Vec<(Subscription, Vec<String>)>,
}

#[derive(Deserialize)]
struct Row {
    stakeholder_id: i64,
    stakeholder: String,
    schema: String,
    table: String,
    relation: u32,
    columns: Vec<String>,
    events: Vec<String>,
    channels: Vec<String>,
}

/// The longest pause before it is looked again whether a transaction is visible.
const MOST_PAUSE: Duration = Duration::from_millis(100);

impl Subscriptions {
    /// Asks the extension.
    pub async fn load(client: &Client) -> Result<Self, NotifyError> {
        Self::read(client.query_one("SELECT integratedb.subscriptions()", &[]).await?.get(0))
    }

    /// The same, once what a transaction did is visible, of whose id these are the lower 32 bits. A commit is in the
    /// stream before others see it; with a synchronous standby, long before.
    pub(super) async fn load_after(client: &Client, xid: u32) -> Result<Self, NotifyError> {
        let sql = "SELECT pg_current_snapshot()::text, integratedb.subscriptions()";
        let mut pause = Duration::from_millis(1);
        loop {
            let row = client.query_one(sql, &[]).await?;
            let snapshot: Snapshot = row.get::<_, &str>(0).parse().map_err(|error| {
                NotifyError::Unexpected(format!("pg_current_snapshot() can't be read: {error}"))
            })?;
            if snapshot.sees(widen(xid, snapshot.xmax)) {
                return Self::read(row.get(1));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MOST_PAUSE);
        }
    }

    /// Lets those who watch know of them, if they are others than before.
    pub(super) fn show(watched: &watch::Sender<Arc<Self>>, all: &Arc<Self>) {
        watched.send_if_modified(|present| {
            let is_other = present != all;
            present.clone_from(all);
            is_other
        });
    }

    fn read(rows: Value) -> Result<Self, NotifyError> {
        let rows: Vec<Row> = serde_json::from_value(rows).map_err(|error| {
            NotifyError::Unexpected(format!("integratedb.subscriptions() can't be read: {error}"))
        })?;
        Ok(Self::of(rows))
    }

    fn of(rows: Vec<Row>) -> Self {
        let mut all = Self::default();
        for row in rows {
            let Row { relation, schema, table, columns, .. } = row;
            let ops = row.events.iter().filter_map(|name| Op::named(name)).collect();
            all.relations.insert(relation);
            let subscribed = all.stakeholders.entry(row.stakeholder_id).or_default();
            subscribed.name = row.stakeholder;
            let subscription = Subscription { relation, schema, table, columns, ops };
            subscribed.items.push((subscription, row.channels));
        }
        all
    }

    /// Whether nobody subscribes to anything.
    pub fn is_empty(&self) -> bool {
        self.relations.is_empty()
    }

    /// Whether somebody subscribes to changes of this table.
    pub(super) fn concerns(&self, relation: u32) -> bool {
        self.relations.contains(&relation)
    }

    /// The tables under which the log tells changes of what a stakeholder's spec calls by this name: several where it is
    /// partitioned; none if it does not subscribe to it.
    pub fn relations(&self, stakeholder: i64, schema: &str, table: &str) -> BTreeSet<u32> {
        let items = self.stakeholders.get(&stakeholder).into_iter().flat_map(|of| &of.items);
        items
            .filter(|(item, _)| item.schema == schema && item.table == table)
            .map(|(item, _)| item.relation)
            .collect()
    }

    /// What a stakeholder subscribes to, by schema and table.
    pub fn tables(&self, stakeholder: i64) -> BTreeSet<(&str, &str)> {
        let items = self.stakeholders.get(&stakeholder).into_iter().flat_map(|of| &of.items);
        items.map(|(item, _)| (item.schema.as_str(), item.table.as_str())).collect()
    }

    /// Every table that somebody subscribes to.
    pub(super) fn all_relations(&self) -> Vec<u32> {
        self.relations.iter().copied().collect()
    }

    /// Those of a stakeholder.
    pub fn of_stakeholder(&self, id: i64) -> Option<&Subscribed> {
        self.stakeholders.get(&id)
    }

    /// What goes to a channel of a stakeholder; empty if nothing does.
    pub fn view(&self, stakeholder: i64, channel: &str, kind: &str) -> View {
        let Some(subscribed) = self.stakeholders.get(&stakeholder) else {
            return View::new(stakeholder, "", []);
        };
        let goes = |channels: &[String]| {
            channels.iter().any(|name| name == "*" || name == channel || name == kind)
        };
        let items = subscribed.items.iter().filter(|(_, channels)| goes(channels));
        View::new(stakeholder, &subscribed.name, items.map(|(subscription, _)| subscription))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_channel_gets_what_names_it() {
        let rows = json!([
            {"stakeholder_id": 1, "stakeholder": "a", "item": 0, "schema": "public", "table": "t", "relation": 7,
             "columns": ["id"], "events": ["INSERT"], "channels": ["billing"]},
            {"stakeholder_id": 1, "stakeholder": "a", "item": 1, "schema": "public", "table": "u", "relation": 8,
             "columns": [], "events": ["TRUNCATE"], "channels": ["WEBHOOK", "SOCKET"]}]);
        let all = Subscriptions::of(serde_json::from_value(rows).expect("rows"));
        assert!(all.concerns(7) && !all.concerns(9));
        let billing = all.view(1, "billing", "WEBHOOK");
        let other = all.view(1, "other", "WEBHOOK");
        assert!(billing != other && !other.is_empty());
        assert!(
            all.view(1, "REDIS", "REDIS").is_empty() && all.view(2, "SOCKET", "SOCKET").is_empty()
        );
    }
}
