//! Sources and targets, opened as they are configured, and kept until they are configured otherwise.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::error::SyncError;
use super::ids::{IntegrationId, TenantId};
use super::source::Source;
use super::target::Target;

/// Why there is no source, or no target.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The tenant, class or integration was removed meanwhile: there is nothing to do.
    #[error("it was removed")]
    Removed,
    /// It can't be used as it is configured.
    #[error("{0}")]
    Unusable(String),
    /// The database.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

/// Opens sources and targets.
pub trait Outside: Send + Sync + 'static {
    /// The source of a tenant's models of this class.
    fn source<'a>(
        &'a self,
        tenant: TenantId,
        class: &'a str,
    ) -> BoxFuture<'a, Result<Arc<dyn Source>, OpenError>>;

    /// The target of an integration.
    fn target(
        &self,
        integration: IntegrationId,
    ) -> BoxFuture<'_, Result<Arc<dyn Target>, OpenError>>;
}

/// What was opened, with the number of the configuration that it was opened by.
pub(super) struct Opened<K, V>(Mutex<HashMap<K, (Version, V)>>);

/// The number of a configuration: of a tenant and its class, or of an integration and 0.
pub(super) type Version = (i64, i64);

/// More than so many are not kept: then all are opened anew, when they are asked for.
const MOST: usize = 10_000;

impl<K: Eq + Hash, V: Clone> Opened<K, V> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    pub(super) fn get(&self, key: &K, version: Version) -> Option<V> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).filter(|(of, _)| *of == version).map(|(_, value)| value.clone())
    }

    pub(super) fn put(&self, key: K, version: Version, value: V) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(key, (version, value));
    }
}
