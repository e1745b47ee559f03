//! Takes what is due.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use deadpool_postgres::Client;
use serde_json::Value;
use tokio_postgres::Row;

use super::waiting::{LOOK_AGAIN, PutOff};
use super::{Lease, MARGIN};
use crate::seal::Sealer;
use crate::sync::error::SyncError;
use crate::sync::ids::{EntryId, IntegrationId, ModelId, TenantId};
use crate::sync::log;
use crate::sync::outside::Version;
use crate::sync::work::{Data, Fetch, Named, Push};

/// How many are at work for each, and with whom to begin.
#[derive(Debug)]
pub(in crate::sync) struct Busy<T> {
    at_work: HashMap<T, i32>,
    last: i64,
}

impl<T> Default for Busy<T> {
    fn default() -> Self {
        // Before the first.
        Self { at_work: HashMap::new(), last: i64::MAX }
    }
}

impl<T: Copy + Eq + Hash> Busy<T> {
    pub(in crate::sync) fn begin(&mut self, one: T) {
        *self.at_work.entry(one).or_default() += 1;
    }

    pub(in crate::sync) fn end(&mut self, one: T) {
        if let Some(count) = self.at_work.get_mut(&one) {
            *count -= 1;
            if *count <= 0 {
                self.at_work.remove(&one);
            }
        }
    }

    fn columns(&self, id: impl Fn(T) -> i64) -> (Vec<i64>, Vec<i32>) {
        self.at_work.iter().map(|(one, count)| (id(*one), *count)).unzip()
    }
}

/// Work that was taken, and the lease it was taken under.
#[derive(Debug)]
pub(in crate::sync) struct Claimed<T> {
    pub(in crate::sync) work: T,
    pub(in crate::sync) lease: Lease,
    /// When it was asked for: the lease is no longer than from here.
    pub(in crate::sync) asked_at: Instant,
    /// Another number whenever where it goes, or comes from, is another: that of a tenant and its class, or of an integration.
    pub(in crate::sync) version: Version,
    /// Why it can't even be begun.
    pub(in crate::sync) fault: Option<String>,
}

/// Takes at most `free` updates. Locks last for `timeout` and a margin.
pub(in crate::sync) async fn claim_fetches(
    client: &Client,
    sealer: Option<&Sealer>,
    free: usize,
    per_tenant: usize,
    busy: &mut Busy<TenantId>,
    timeout: Duration,
) -> Result<Vec<Claimed<Fetch>>, SyncError> {
    let (lease, asked_at) = (Lease::new(), Instant::now());
    let (tenants, counts) = busy.columns(|tenant| tenant.0);
    let seconds = (timeout + MARGIN).as_secs_f64();
    let statement = client.prepare_cached(include_str!("fetches.sql")).await?;
    let rows = client
        .query(
            &statement,
            &[
                &number(free),
                &number(per_tenant),
                &tenants,
                &counts,
                &busy.last,
                &lease.0,
                &seconds,
            ],
        )
        .await?;
    let claimed = rows.iter().map(|row| {
        let (id, tenant) = (ModelId(row.get(0)), TenantId(row.get(2)));
        busy.last = tenant.0;
        let mut fault = None;
        let work = Fetch {
            id,
            tenant,
            model: Named { class: row.get(3), key: row.get(4) },
            parent: parent(row, 6),
            data: row.get::<_, Value>(5).as_object().cloned().unwrap_or_default(),
            last_data: data(row, 10, tenant, id, sealer, &mut fault),
            attempts: row.get(1),
        };
        Claimed { work, lease, asked_at, version: (row.get(8), row.get(9)), fault }
    });
    Ok(claimed.collect())
}

/// Takes at most `free` states. Locks last for `timeout` and a margin. Says too whether some were put off, since they wait for
/// other models: then there may be more to take.
pub(in crate::sync) async fn claim_pushes(
    client: &Client,
    sealer: Option<&Sealer>,
    free: usize,
    busy: &mut Busy<IntegrationId>,
    timeout: Duration,
) -> Result<(Vec<Claimed<Push>>, bool), SyncError> {
    let (lease, asked_at) = (Lease::new(), Instant::now());
    let (integrations, counts) = busy.columns(|integration| integration.0);
    let seconds = (timeout + MARGIN).as_secs_f64();
    let statement = client.prepare_cached(include_str!("pushes.sql")).await?;
    let rows = client
        .query(
            &statement,
            &[&number(free), &integrations, &counts, &busy.last, &lease.0, &seconds, &LOOK_AGAIN],
        )
        .await?;
    let (waiting, taken): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| row.get::<_, Option<i64>>("waits_for").is_some());
    let mut put_off = PutOff::default();
    waiting.into_iter().for_each(|row| put_off.push(row));
    put_off.call(client).await;
    if let Some(last) = rows.last() {
        busy.last = last.get(0);
    }
    let claimed = taken.into_iter().map(|row| {
        let integration = IntegrationId(row.get(0));
        let (id, tenant) = (ModelId(row.get(2)), TenantId(row.get(4)));
        let is_seen = row.get::<_, Option<i64>>(10).is_some();
        let mut fault = (!is_seen).then(|| "its entry can't be read yet".to_owned());
        let work = Push {
            integration,
            id,
            tenant,
            model: Named { class: row.get(5), key: row.get(6) },
            parent: parent(row, 7),
            entry: EntryId(row.get(9)),
            data: data(row, 10, tenant, id, sealer, &mut fault),
            last_data: data(row, 13, tenant, id, sealer, &mut fault),
            attempts: row.get(3),
        };
        Claimed { work, lease, asked_at, version: (row.get(1), 0), fault }
    });
    Ok((claimed.collect(), !put_off.is_empty()))
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn parent(row: &Row, at: usize) -> Option<Named> {
    Some(Named {
        class: row.get::<_, Option<String>>(at)?,
        key: row.get::<_, Option<String>>(at + 1)?,
    })
}

/// The data of an entry whose number, data and sealed data these three columns are; none if there is no such entry, or if
/// it says that the model is gone.
fn data(
    row: &Row,
    at: usize,
    tenant: TenantId,
    model: ModelId,
    sealer: Option<&Sealer>,
    fault: &mut Option<String>,
) -> Option<Data> {
    row.get::<_, Option<i64>>(at)?;
    log::open(row.get(at + 1), row.get(at + 2), tenant, model, sealer).unwrap_or_else(|error| {
        *fault = Some(error.to_string());
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_at_work_is_counted() {
        let mut busy = Busy::default();
        busy.begin(TenantId(3));
        busy.begin(TenantId(3));
        busy.end(TenantId(3));
        assert_eq!(busy.columns(|tenant| tenant.0), (vec![3], vec![1]));
        busy.end(TenantId(3));
        busy.end(TenantId(3));
        assert_eq!(busy.columns(|tenant| tenant.0), (vec![], vec![]));
    }
}
