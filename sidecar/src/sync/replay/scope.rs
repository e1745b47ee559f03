//! Which models a replay is about: those in the integration's scope that have an entry, and are there or were once.

use tokio_postgres::Client;

use crate::db::DbError;
use crate::sync::ids::{EntryId, IntegrationId, ModelId, TenantId};
use crate::sync::integrations::IN_SCOPE;
use crate::sync::work::Named;

/// Whose models an integration is for, and how many its target takes at once.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) integration: IntegrationId,
    pub(super) tenant: TenantId,
    pub(super) concurrency: usize,
}

/// A model of which the target has to have something, or nothing any more.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) id: ModelId,
    pub(super) model: Named,
    pub(super) parent: Option<Named>,
    /// Its latest entry.
    pub(super) entry: EntryId,
    /// Whether that says that it is gone.
    pub(super) is_gone: bool,
}

impl Scope {
    pub(super) async fn load(
        client: &Client,
        integration: IntegrationId,
    ) -> Result<Option<Self>, DbError> {
        let sql = "SELECT tenant_id, concurrency FROM integratedb.sync_integration WHERE id = $1";
        let row = client.query_opt(sql, &[&integration.0]).await?;
        Ok(row.map(|row| Self {
            integration,
            tenant: TenantId(row.get(0)),
            concurrency: usize::try_from(row.get::<_, i32>(1)).unwrap_or(1).max(1),
        }))
    }

    /// The next models of the tenant, by id. Whether they are in scope is for [`wanted`](Self::wanted) to say.
    pub(super) async fn page(
        &self,
        client: &Client,
        after: i64,
        limit: i64,
    ) -> Result<Vec<i64>, DbError> {
        let sql = "SELECT id FROM integratedb.sync_model WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3";
        let rows = client.query(sql, &[&self.tenant.0, &after, &limit]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Those of these models that are in scope, have an entry, and are there by the latest or were created once: an entry with
    /// data is in the log, or the target may have them. By id.
    pub(super) async fn wanted(
        &self,
        client: &Client,
        models: &[i64],
    ) -> Result<Vec<Wanted>, DbError> {
        // An array that the planner does not know keeps it to the indexes, where it would join with all there are.
        let sql = format!(
            "SELECT m.id, r.class, r.key, p.class, p.key, u.entry_id, u.is_gone
             FROM integratedb.sync_integration i
             JOIN integratedb.sync_model m ON m.tenant_id = i.tenant_id
             JOIN integratedb.sync_record r ON r.id = m.record_id
             LEFT JOIN integratedb.sync_record p ON p.id = r.parent_id
             JOIN integratedb.sync_update u ON u.model_id = m.id
             WHERE i.id = $1 AND m.id = ANY (ARRAY(SELECT unnest($2::bigint[]))) AND u.entry_id IS NOT NULL
               AND (NOT u.is_gone
                    OR EXISTS (SELECT FROM integratedb.sync_entry e WHERE e.model_id = m.id AND NOT e.is_gone)
                    OR EXISTS (SELECT FROM integratedb.sync_state s
                               WHERE s.integration_id = i.id AND s.model_id = m.id AND s.presence <> 'absent'))
               AND {IN_SCOPE}
             ORDER BY m.id"
        );
        let rows = client.query(&sql, &[&self.integration.0, &models]).await?;
        Ok(rows
            .iter()
            .map(|row| Wanted {
                id: ModelId(row.get(0)),
                model: Named { class: row.get(1), key: row.get(2) },
                parent: row
                    .get::<_, Option<String>>(3)
                    .map(|class| Named { class, key: row.get(4) }),
                entry: EntryId(row.get(5)),
                is_gone: row.get(6),
            })
            .collect())
    }
}
