//! The audit log: who changed what, when, and what it was before and after. An event is written in the transaction of the
//! change, so there is neither without the other.

mod list;
mod prune;

use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;
use tokio_postgres::GenericClient;

use crate::auth::Principal;
use crate::db::DbError;

pub(crate) use list::{Event, Filter, list};
pub(crate) use prune::prune;

/// Who makes a change, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    /// None only of the first user, whom nobody has made.
    pub(crate) principal: Option<Principal>,
    /// The address that the request came from.
    pub(crate) address: IpAddr,
}

/// One change.
pub(crate) struct Change<'a> {
    /// What was done, as `cache.create`.
    pub(crate) action: &'static str,
    /// The path of what was changed, as `/api/v1/caches/ID`.
    pub(crate) subject: &'a str,
    /// The workspace that it belongs to; `None` where it is the installation's.
    pub(crate) workspace: Option<i64>,
    /// What it was, as REST shows it, without secrets; `Null` of what was not there.
    pub(crate) before: Value,
    /// What it is now; `Null` of what is gone.
    pub(crate) after: Value,
}

impl Change<'_> {
    /// Something as REST shows it, for [`Change::before`] and [`Change::after`].
    pub(crate) fn view(shown: &impl Serialize) -> Value {
        // Views are made to be shown as JSON; one that can't be is no reason to refuse a change.
        serde_json::to_value(shown).unwrap_or_default()
    }
}

/// Writes an event in the transaction of the change that it tells of.
pub(crate) async fn record(
    transaction: &impl GenericClient,
    actor: &Actor,
    change: Change<'_>,
) -> Result<(), DbError> {
    let principal = actor.principal.as_ref();
    let application = principal.and_then(|principal| principal.application.as_ref());
    let present = |value: Value| (!value.is_null()).then_some(value);
    transaction
        .execute(
            "INSERT INTO integratedb.audit_event (workspace_id, user_id, username, application_id, \
                 application_name, address, action, subject, before, after) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            &[
                &change.workspace,
                &principal.map(|principal| principal.user),
                &principal.map(|principal| &principal.username),
                &application.map(|application| application.id),
                &application.map(|application| &application.name),
                &actor.address,
                &change.action,
                &change.subject,
                &present(change.before),
                &present(change.after),
            ],
        )
        .await?;
    Ok(())
}
