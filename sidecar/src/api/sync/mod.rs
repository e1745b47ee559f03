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

use serde_json::{Value, json};

use super::app::App;
use super::error::ApiError;
use crate::seal::Sealer;
use crate::sync::SyncError;

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

/// What secrets are sealed with, if there is a key file.
fn sealer(app: &App) -> Result<Option<Sealer>, ApiError> {
    app.sync().settings.sealer().map_err(ApiError::Internal)
}
