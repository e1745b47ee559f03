//! Pages of a tenant's models.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;

use crate::db::DbError;
use crate::sync::ids::{IntegrationId, TenantId};
use crate::sync::time::rfc3339;

/// The most models that a page with a filter looks at.
const MOST_LOOKED_AT: i64 = 1000;

/// How a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelState {
    /// The last attempt to fetch it, or to push it somewhere, failed. It is tried again.
    Failing,
    /// It is to be fetched or pushed.
    Waiting,
    /// Everybody has it as it was fetched last.
    Done,
    /// It is no more, and everybody knows.
    Gone,
}

impl ModelState {
    /// As REST has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Gone => "gone",
        }
    }

    fn read(text: &str) -> Self {
        match text {
            "failing" => Self::Failing,
            "waiting" => Self::Waiting,
            "gone" => Self::Gone,
            _ => Self::Done,
        }
    }
}

/// Which models are listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelsFilter {
    /// Only those of this class.
    pub class: Option<String>,
    /// Only those that are so. With an integration: what counts is how they are there.
    pub state: Option<ModelState>,
    /// Only those that this integration knows of.
    pub integration: Option<IntegrationId>,
}

/// A record that another one is below.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Parent {
    /// Its model, unless nobody was ever notified of it.
    pub model_id: Option<i64>,
    /// Its class.
    pub class: String,
    /// Its key.
    pub key: String,
}

/// A model in a list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ModelSummary {
    /// Its id.
    pub id: i64,
    /// Its class.
    pub class: String,
    /// Its key, unique in its class.
    pub key: String,
    /// How it is.
    pub state: ModelState,
    /// Its last entry, if it was ever fetched.
    pub entry_id: Option<i64>,
    /// Why the last attempt to fetch it, or else to push it, failed.
    pub error: Option<String>,
    /// When the next attempt of something that is due for it is made.
    pub next_attempt_at: Option<String>,
    /// When it was first told of.
    pub inserted_at: String,
}

/// A page of models.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Models {
    /// Those of the page, by id.
    pub models: Vec<ModelSummary>,
    /// After which id the next page begins; none if this is the last one. A page may have few models, or none, and not be
    /// the last.
    pub next: Option<i64>,
}

/// The models that are looked at: $1 tenant, $2 after, $3 integration, $4 how many.
const ALL: &str = "SELECT m.id FROM integratedb.sync_model m
    WHERE m.tenant_id = $1 AND m.id > $2 AND $3::bigint IS NULL ORDER BY m.id LIMIT $4";
const AT_INTEGRATION: &str = "SELECT s.model_id AS id
    FROM integratedb.sync_integration i JOIN integratedb.sync_state s ON s.integration_id = i.id
    WHERE i.id = $3 AND i.tenant_id = $1 AND s.model_id > $2 ORDER BY s.model_id LIMIT $4";
/// Few of many are failing: they have indexes of their own.
const FAILING: &str = "SELECT id FROM (
        (SELECT u.model_id AS id FROM integratedb.sync_update u
         WHERE u.tenant_id = $1 AND NOT u.success AND u.model_id > $2
           AND ($3::bigint IS NULL OR EXISTS (
               SELECT FROM integratedb.sync_state s WHERE s.integration_id = $3 AND s.model_id = u.model_id))
         ORDER BY u.model_id LIMIT $4)
        UNION
        (SELECT s.model_id FROM integratedb.sync_integration i CROSS JOIN LATERAL (
             SELECT s.model_id FROM integratedb.sync_state s
             WHERE s.integration_id = i.id AND NOT s.success AND s.model_id > $2 ORDER BY s.model_id LIMIT $4) s
         WHERE i.tenant_id = $1 AND ($3::bigint IS NULL OR i.id = $3))) f
    ORDER BY id LIMIT $4";

/// The models of a tenant with ids above `after`, by id.
pub async fn models(
    client: &Client,
    tenant: TenantId,
    filter: &ModelsFilter,
    after: Option<i64>,
    limit: i64,
) -> Result<Models, DbError> {
    let (source, is_exact) = match (filter.state, filter.integration) {
        (Some(ModelState::Failing), _) => (FAILING, filter.class.is_none()),
        (state, None) => (ALL, state.is_none() && filter.class.is_none()),
        (state, Some(_)) => (AT_INTEGRATION, state.is_none() && filter.class.is_none()),
    };
    let looked_at = if is_exact { limit } else { limit.max(MOST_LOOKED_AT) };
    let sql = format!(
        "WITH looked AS MATERIALIZED ({source}),
         -- Model by model, along the indexes; LIMIT keeps the planner from joining with all there are.
         page AS (
             SELECT m.*, coalesce(m.fetch_error, s.error) AS error,
                 least(m.due_at, s.due_at) AS next_attempt_at,
                 CASE WHEN NOT m.success OR s.is_failing THEN 'failing'
                      WHEN m.is_gone IS NULL OR m.due_at IS NOT NULL OR s.is_waiting THEN 'waiting'
                      WHEN m.is_gone THEN 'gone' ELSE 'done' END AS state
             FROM looked CROSS JOIN LATERAL (
                 SELECT m.id, r.class, r.key, u.entry_id, u.is_gone, u.success, u.due_at, u.error AS fetch_error, m.inserted_at
                 FROM integratedb.sync_model m JOIN integratedb.sync_record r ON r.id = m.record_id
                 LEFT JOIN integratedb.sync_update u ON u.model_id = m.id
                 WHERE m.id = looked.id LIMIT 1) m
             CROSS JOIN LATERAL (
                 SELECT coalesce(bool_or(NOT s.success), false) AS is_failing,
                     coalesce(bool_or(s.due_at IS NOT NULL OR s.waits_for IS NOT NULL), false) AS is_waiting,
                     min(s.due_at) AS due_at, min(s.error) FILTER (WHERE NOT s.success) AS error
                 FROM integratedb.sync_state s JOIN integratedb.sync_integration i ON i.id = s.integration_id
                 WHERE s.model_id = m.id AND i.state = 'active' AND ($3::bigint IS NULL OR i.id = $3)) s
             WHERE $5::text IS NULL OR m.class = $5
         )
         SELECT n.count, n.last, p.id, p.class, p.key, p.state, p.entry_id, p.error, {}, {}
         FROM (SELECT count(*) AS count, max(id) AS last FROM looked) n
         LEFT JOIN (SELECT * FROM page WHERE $6::text IS NULL OR state = $6 ORDER BY id LIMIT $7) p ON true
         ORDER BY p.id",
        rfc3339("p.next_attempt_at"),
        rfc3339("p.inserted_at"),
    );
    let (after, state) = (after.unwrap_or(0), filter.state.map(ModelState::as_str));
    let integration = filter.integration.map(|id| id.0);
    let values: [&(dyn ToSql + Sync); 7] =
        [&tenant.0, &after, &integration, &looked_at, &filter.class, &state, &limit];
    let rows = client.query(&sql, &values).await?;
    let models: Vec<ModelSummary> =
        rows.iter().filter(|row| row.get::<_, Option<i64>>(2).is_some()).map(read).collect();
    let all_looked_at = rows.first().is_none_or(|row| row.get::<_, i64>(0) < looked_at);
    let next = if i64::try_from(models.len()).is_ok_and(|len| len == limit) {
        models.last().map(|model| model.id)
    } else if all_looked_at {
        None
    } else {
        rows.first().and_then(|row| row.get(1))
    };
    Ok(Models { models, next })
}

fn read(row: &Row) -> ModelSummary {
    ModelSummary {
        id: row.get(2),
        class: row.get(3),
        key: row.get(4),
        state: ModelState::read(row.get(5)),
        entry_id: row.get(6),
        error: row.get(7),
        next_attempt_at: row.get(8),
        inserted_at: row.get(9),
    }
}
