//! Sync over REST: what Zync's clients call, and what people set and see.

mod classes;
mod integrations;
mod models;
mod replays;
mod routes;
mod sources;
mod status;
mod tenants;
mod token;
mod whose;
mod zync;

pub(super) use routes::routes;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::Transaction;

use super::access::Access;
use super::app::App;
use super::error::ApiError;
use crate::audit::{self, Change};
use crate::seal::Sealer;
use crate::sync::SyncError;

/// What a part of a path has for itself.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

impl From<SyncError> for ApiError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Database(error) => error.into(),
            SyncError::Refused(why) => Self::Conflict(why),
            SyncError::Key(why) => Self::Unprocessable(json!({ "detail": why })),
            SyncError::Unexpected(why) => Self::Internal(why),
        }
    }
}

/// Whether some text in it has the character that no text of the database can have.
fn has_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_zero),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name.contains('\0') || has_zero(value))
        }
        _ => false,
    }
}

/// A name as a part of a path.
fn segment(name: &str) -> String {
    utf8_percent_encode(name, PLAIN).to_string()
}

/// Notes a change of sync, which belongs to no workspace, in its transaction.
async fn record<T: Serialize>(
    transaction: &Transaction<'_>,
    access: &Access,
    action: &'static str,
    subject: &str,
    before: Option<&T>,
    after: Option<&T>,
) -> Result<(), ApiError> {
    let (before, after) = (Change::view(&before), Change::view(&after));
    let change = Change { action, subject, workspace: None, before, after };
    Ok(audit::record(transaction, &access.actor(), change).await?)
}

/// What secrets are sealed with, if there is a key file.
fn sealer(app: &App) -> Result<Option<Sealer>, ApiError> {
    app.sync().settings.sealer().map_err(ApiError::Internal)
}
