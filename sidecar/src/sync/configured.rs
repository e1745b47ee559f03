//! Sources and targets as they are configured in the database.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::error::SyncError;
use super::ids::{IntegrationId, TenantId};
use super::integrations;
use super::outside::{OpenError, Outside};
use super::settings::SyncSettings;
use super::source::Source;
use super::source::table::{self, TableSource};
use super::target::Target;
use crate::db::Pool;
use crate::seal::Sealer;

/// Opens what is configured in the database.
pub struct Configured {
    pool: Pool,
    settings: SyncSettings,
    sealer: Option<Sealer>,
}

impl Configured {
    /// With these settings; the error says what is wrong with them.
    pub fn new(pool: Pool, settings: SyncSettings) -> Result<Arc<Self>, String> {
        let sealer = settings.sealer()?;
        Ok(Arc::new(Self { pool, settings, sealer }))
    }

    /// The source of a class that a stakeholder has declared.
    async fn open_table(
        &self,
        tenant: TenantId,
        class: &str,
    ) -> Result<Arc<dyn Source>, OpenError> {
        let client = self.pool.get().await.map_err(SyncError::from)?;
        let Some((table, stakeholder, _)) = table::load(&client, tenant, class).await? else {
            let why = format!(
                "there is no class {class} any more: declare it, and its rows are fetched again"
            );
            return Err(OpenError::Unusable(why));
        };
        Ok(Arc::new(TableSource::new(table, stakeholder, self.pool.clone())))
    }

    async fn open_target(&self, id: IntegrationId) -> Result<Arc<dyn Target>, OpenError> {
        let client = self.pool.get().await.map_err(SyncError::from)?;
        let loaded = integrations::load(&client, self.sealer.as_ref(), id)
            .await?
            .ok_or(OpenError::Removed)?;
        let _ = self.settings.timeout();
        Err(OpenError::Unusable(format!("there is no kind {:?} of integration", loaded.kind)))
    }
}

impl Outside for Configured {
    fn source<'a>(
        &'a self,
        tenant: TenantId,
        class: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Source>, OpenError>> {
        Box::pin(async move {
            if tenant.is_stakeholder() {
                return self.open_table(tenant, class).await;
            }
            Err(OpenError::Unusable(format!("tenant {tenant} has no class {class:?}")))
        })
    }

    fn target(
        &self,
        integration: IntegrationId,
    ) -> BoxFuture<'_, Result<Arc<dyn Target>, OpenError>> {
        Box::pin(self.open_target(integration))
    }
}
