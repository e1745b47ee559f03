//! Asks a target what a replay would change there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Object;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Row};

use super::lease::{Held, Stop};
use super::scope::{Scope, Wanted};
use crate::db::{DbError, Pool};
use crate::seal::Sealer;
use crate::sync::ids::{ModelId, TenantId};
use crate::sync::log;
use crate::sync::target::{Comparison, Target};
use crate::sync::work::{Data, Push};

/// How many models are compared before that is written.
pub(super) const PAGE: i64 = 100;

/// Why nothing is known of one whose latest entry was removed by hand.
const NO_ENTRY: &str = "its entry is not in the log";

/// How often a model that gets a new entry meanwhile is compared again.
const ROUNDS: usize = 3;

/// Compares pages of models.
pub(super) struct Comparer {
    pub(super) target: Arc<dyn Target>,
    pub(super) timeout: Duration,
    pub(super) sealer: Option<Arc<Sealer>>,
}

impl Comparer {
    /// What the target says of these models, each by the entry that is its latest.
    pub(super) async fn compare(
        &self,
        pool: &Pool,
        scope: &Scope,
        page: &[i64],
    ) -> Result<HashMap<i64, Comparison>, Stop> {
        let mut found = HashMap::new();
        let mut left = page.to_vec();
        for _ in 0..ROUNDS {
            let (wanted, mut entries) = {
                // Not held while the target is asked.
                let client = pool.get().await?;
                let wanted = scope.wanted(&client, &left).await?;
                let ids: Vec<i64> = wanted.iter().map(|wanted| wanted.id.0).collect();
                let entries = contents(&client, self.sealer.as_deref(), scope.tenant, &ids).await?;
                (wanted, entries)
            };
            let mut pushes = Vec::with_capacity(wanted.len());
            for wanted in &wanted {
                match self.push(scope, wanted, entries.remove(&wanted.id.0)) {
                    Ok(push) => pushes.push(push),
                    Err(why) => {
                        found.insert(wanted.id.0, Comparison::Unknown(why));
                    }
                }
            }
            found.extend(self.ask(pushes, scope.concurrency).await);
            left = overtaken(&*pool.get().await?, &wanted).await?;
            if left.is_empty() {
                break;
            }
            left.iter().for_each(|id| drop(found.remove(id)));
        }
        let why = "it changes faster than it can be compared";
        found.extend(left.into_iter().map(|id| (id, Comparison::Unknown(why.to_owned()))));
        Ok(found)
    }

    /// What would be pushed of a model; or why that can't be told.
    fn push(
        &self,
        scope: &Scope,
        wanted: &Wanted,
        content: Option<Result<Data, String>>,
    ) -> Result<Push, String> {
        let content = content.transpose()?;
        let (data, last_data) = match (wanted.is_gone, content) {
            (true, last) => (None, last),
            (false, Some(data)) => (Some(data), None),
            (false, None) => return Err(NO_ENTRY.to_owned()),
        };
        Ok(Push {
            integration: scope.integration,
            id: wanted.id,
            tenant: scope.tenant,
            model: wanted.model.clone(),
            parent: wanted.parent.clone(),
            entry: wanted.entry,
            data,
            last_data,
            attempts: 1,
        })
    }

    /// Asks the target, about as many at once as it takes.
    async fn ask(&self, pushes: Vec<Push>, at_once: usize) -> HashMap<i64, Comparison> {
        let broken =
            || Comparison::Unknown("the comparison broke off, by a fault of ours".to_owned());
        let mut found: HashMap<i64, Comparison> =
            pushes.iter().map(|push| (push.id.0, broken())).collect();
        let mut left = pushes.into_iter();
        let mut tasks = JoinSet::new();
        loop {
            while tasks.len() < at_once
                && let Some(push) = left.next()
            {
                let (target, timeout) = (Arc::clone(&self.target), self.timeout);
                tasks.spawn(async move {
                    let answer = tokio::time::timeout(timeout, target.compare(&push)).await;
                    let comparison = match answer {
                        Ok(Ok(comparison)) => comparison,
                        Ok(Err(error)) => Comparison::Unknown(error.message),
                        Err(_) => Comparison::Unknown(format!(
                            "the target has not answered within {} s",
                            timeout.as_secs()
                        )),
                    };
                    (push.id.0, comparison)
                });
            }
            match tasks.join_next().await {
                None => return found,
                Some(Ok((id, comparison))) => {
                    found.insert(id, comparison);
                }
                Some(Err(error)) => tracing::error!(%error, "a comparison has panicked"),
            }
        }
    }
}

/// The latest data of each of these models; or why they can't be read.
async fn contents(
    client: &Client,
    sealer: Option<&Sealer>,
    tenant: TenantId,
    models: &[i64],
) -> Result<HashMap<i64, Result<Data, String>>, DbError> {
    let sql = "
        SELECT u.model_id, e.data::text, e.sealed
        FROM integratedb.sync_update u CROSS JOIN LATERAL (
            SELECT e.data, e.sealed FROM integratedb.sync_entry e
            WHERE e.model_id = u.model_id AND NOT e.is_gone ORDER BY e.id DESC LIMIT 1) e
        WHERE u.model_id = ANY (ARRAY(SELECT unnest($1::bigint[])))";
    let rows = client.query(sql, &[&models]).await?;
    Ok(rows.iter().map(|row| (row.get(0), open(row, sealer, tenant))).collect())
}

fn open(row: &Row, sealer: Option<&Sealer>, tenant: TenantId) -> Result<Data, String> {
    let opened = log::open(row.get(1), row.get(2), tenant, ModelId(row.get(0)), sealer);
    opened.map_err(|error| error.to_string())?.ok_or_else(|| NO_ENTRY.to_owned())
}

/// Those whose latest entry is another one by now.
async fn overtaken(client: &Client, compared: &[Wanted]) -> Result<Vec<i64>, DbError> {
    let ids: Vec<i64> = compared.iter().map(|wanted| wanted.id.0).collect();
    let entries: Vec<i64> = compared.iter().map(|wanted| wanted.entry.0).collect();
    let sql = "SELECT u.model_id FROM unnest($1::bigint[], $2::bigint[]) c (model_id, entry_id)
               JOIN integratedb.sync_update u ON u.model_id = c.model_id
               WHERE u.entry_id IS DISTINCT FROM c.entry_id";
    Ok(client.query(sql, &[&ids, &entries]).await?.iter().map(|row| row.get(0)).collect())
}

/// Writes what was found, and how far that is.
pub(super) async fn store(
    client: &mut Object,
    held: &mut Held,
    found: HashMap<i64, Comparison>,
    last_model: i64,
) -> Result<(), Stop> {
    let mut next = held.clone();
    next.last_model = last_model;
    let (mut ids, mut actions, mut details) = (Vec::new(), Vec::new(), Vec::new());
    for (id, comparison) in found {
        let (count, action, detail) = match comparison {
            Comparison::Same => {
                next.counts.same += 1;
                continue;
            }
            Comparison::Create => (&mut next.counts.create, "create", None),
            Comparison::Update(fields) => (&mut next.counts.update, "update", Some(json!(fields))),
            Comparison::Delete => (&mut next.counts.delete, "delete", None),
            Comparison::Unknown(why) => (&mut next.counts.unknown, "unknown", Some(json!(why))),
        };
        *count += 1;
        ids.push(id);
        actions.push(action);
        details.push(detail);
    }
    // One that was pruned meanwhile is nobody's concern.
    let sql = "
        INSERT INTO integratedb.sync_difference (replay_id, model_id, action, detail)
        SELECT $1, m.id, f.action, f.detail
        FROM unnest($2::bigint[], $3::text[], $4::jsonb[]) f (model_id, action, detail)
        JOIN integratedb.sync_model m ON m.id = f.model_id";
    let details: &Vec<Option<Value>> = &details;
    let transaction = client.transaction().await?;
    transaction.execute(sql, &[&held.id, &ids, &actions, details]).await?;
    next.save(transaction.client()).await?;
    transaction.commit().await?;
    *held = next;
    Ok(())
}
