//! Where models come from.

pub mod classes;
pub mod http;
pub mod table;

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::work::{Data, Fetch, Named, Notified};

/// What a fetch has got.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The data; nothing if the source itself says that the model is gone.
    pub data: Option<Data>,
    /// The parent, as the data say, if they say that there is one or none. `None`: what was known stays.
    pub parent: Option<Option<Named>>,
    /// Other models that are to be fetched because of this.
    pub notified: Vec<Notified>,
    /// What is to be pushed where because of this.
    pub integration: Option<Derived>,
}

/// What an entry says about an integration for a model above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Derived {
    /// Models below this one go to this target, and to no other.
    Push {
        /// `keycloak` or `rest`.
        kind: String,
        /// The target, with its credentials.
        endpoint: crate::secret::Secret<String>,
        /// Which model it is for.
        model: Named,
    },
    /// Models below this one go nowhere.
    Nowhere {
        /// Which model.
        model: Named,
    },
}

/// Why a fetch failed. The model is neither there nor gone: it is tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    /// What went wrong, for people, without secrets.
    pub message: String,
    /// The source asks for so much time.
    pub retry_after: Option<Duration>,
}

/// One that says nothing about when to come again.
impl From<String> for FetchError {
    fn from(message: String) -> Self {
        Self { message, retry_after: None }
    }
}

/// A source of models.
pub trait Source: Send + Sync {
    /// Asks for the present data of a model. May be dropped while it runs.
    fn fetch<'a>(&'a self, fetch: &'a Fetch) -> BoxFuture<'a, Result<Fetched, FetchError>>;
}
