//! The log of a model.

use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::Client;
use utoipa::ToSchema;

use crate::db::DbError;
use crate::sync::ids::{ModelId, TenantId};
use crate::sync::time::rfc3339;

/// An entry of the log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Entry {
    /// Its id. The later of two has the larger one.
    pub id: i64,
    /// Whether the source said that the model is gone.
    pub is_gone: bool,
    /// Whether its data is encrypted and not shown.
    pub is_sealed: bool,
    /// The data, where it may be shown.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// When it was fetched.
    pub inserted_at: String,
}

/// The entries of a model with ids below `before`, the latest first; none if the tenant has no such model.
pub async fn entries(
    client: &Client,
    tenant: TenantId,
    model: ModelId,
    before: Option<i64>,
    limit: i64,
) -> Result<Option<Vec<Entry>>, DbError> {
    let sql = "SELECT FROM integratedb.sync_model WHERE id = $1 AND tenant_id = $2";
    if client.query_opt(sql, &[&model.0, &tenant.0]).await?.is_none() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT id, is_gone, sealed IS NOT NULL, data::text, {}
         FROM integratedb.sync_entry WHERE model_id = $1 AND id < coalesce($2, 9223372036854775807)
         ORDER BY id DESC LIMIT $3",
        rfc3339("inserted_at")
    );
    let rows = client.query(&sql, &[&model.0, &before, &limit]).await?;
    rows.iter()
        .map(|row| {
            let data: Option<String> = row.get(3);
            let data = data.map(RawValue::from_string).transpose().map_err(|error| {
                DbError::Unexpected(format!("an entry's data is no JSON: {error}"))
            })?;
            Ok(Entry {
                id: row.get(0),
                is_gone: row.get(1),
                is_sealed: row.get(2),
                data,
                inserted_at: row.get(4),
            })
        })
        .collect::<Result<_, _>>()
        .map(Some)
}
