//! Sources and targets as they are configured in the database.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::error::SyncError;
use super::ids::{IntegrationId, TenantId};
use super::outside::{OpenError, Outside};
use super::settings::SyncSettings;
use super::source::http::HttpSource;
use super::source::table::{self, TableSource};
use super::source::{Source, classes};
use super::target::{self, Target};
use super::{integrations, tenants};
use crate::db::Pool;
use crate::reach::{self, Reach};
use crate::seal::Sealer;

/// Opens what is configured in the database.
pub struct Configured {
    pool: Pool,
    settings: SyncSettings,
    sealer: Option<Sealer>,
    reach: Reach,
    /// Asks all sources that are APIs: it keeps connections to each.
    http: reach::Client,
}

impl Configured {
    /// With these settings; the error says what is wrong with them.
    pub fn new(pool: Pool, settings: SyncSettings) -> Result<Arc<Self>, String> {
        let sealer = settings.sealer()?;
        let reach = Reach::from(&settings);
        let http = reach.client(settings.timeout(), settings.workers_per_tenant.max(1))?;
        Ok(Arc::new(Self { pool, settings, sealer, reach, http }))
    }

    async fn open_source(
        &self,
        tenant: TenantId,
        class: &str,
    ) -> Result<Arc<dyn Source>, OpenError> {
        let client = self.pool.get().await.map_err(SyncError::from)?;
        if tenant.is_stakeholder() {
            // Its models are still there, so this is no reason to try again at once.
            let withdrawn = || {
                OpenError::Unusable(format!(
                    "the class {class} is withdrawn: declare it to have it fetched again"
                ))
            };
            let (table, stakeholder, _) =
                table::load(&client, tenant, class).await?.ok_or_else(withdrawn)?;
            return Ok(Arc::new(TableSource::new(table, stakeholder, self.pool.clone())));
        }
        let sealer = self.sealer.as_ref().ok_or_else(|| {
            let what = "the tenant's access token can't be read without a key: set sync.key_file";
            OpenError::Unusable(what.to_owned())
        })?;
        let known = tenants::load(&client, sealer, tenant).await?.ok_or(OpenError::Removed)?;
        let classes = Arc::new(classes::load(&client, tenant).await?);
        let source = HttpSource::new(&known.endpoint, &known.token, classes, self.http.clone());
        Ok(Arc::new(source.map_err(OpenError::Unusable)?))
    }

    async fn open_target(&self, id: IntegrationId) -> Result<Arc<dyn Target>, OpenError> {
        let client = self.pool.get().await.map_err(SyncError::from)?;
        let loaded = integrations::load(&client, self.sealer.as_ref(), id).await?;
        let loaded = loaded.ok_or(OpenError::Removed)?;
        let timeout = self.settings.timeout();
        target::open(&loaded.kind, &loaded.settings, &loaded.hidden, &self.reach, timeout)
            .map_err(OpenError::Unusable)
    }
}

impl Outside for Configured {
    fn source<'a>(
        &'a self,
        tenant: TenantId,
        class: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Source>, OpenError>> {
        Box::pin(self.open_source(tenant, class))
    }

    fn target(
        &self,
        integration: IntegrationId,
    ) -> BoxFuture<'_, Result<Arc<dyn Target>, OpenError>> {
        Box::pin(self.open_target(integration))
    }
}
