//! What passes between queue, sources and targets.

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::ids::{EntryId, IntegrationId, ModelId, TenantId};

/// A model's data, as its source wrote it.
pub type Data = Arc<RawValue>;

/// A model by what its source calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// Its class.
    pub class: String,
    /// Its key, unique in its class. Of several columns, a JSON array of their texts.
    pub key: String,
}

/// Somebody says that a model may have changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Notified {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which.
    pub model: Named,
    /// Its parent. `None`: nothing is said about it, so what was known stays.
    pub parent: Option<Named>,
    /// What else is needed to fetch it. `None`: what was known stays.
    pub data: Option<Map<String, Value>>,
}

/// An update that is to be done: the model is locked for whoever has this.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// Which.
    pub id: ModelId,
    /// Whose.
    pub tenant: TenantId,
    /// What its source calls it.
    pub model: Named,
    /// Its parent, if one is known.
    pub parent: Option<Named>,
    /// What else the notification said.
    pub data: Map<String, Value>,
    /// What the latest entry said, if the model was not gone.
    pub last_data: Option<Data>,
    /// How many attempts were made since one went well, this one with them.
    pub attempts: i32,
}

/// A push that is to be done: the model is locked at the integration for whoever has this.
#[derive(Clone, Debug)]
pub struct Push {
    /// To where.
    pub integration: IntegrationId,
    /// Which.
    pub id: ModelId,
    /// Whose.
    pub tenant: TenantId,
    /// What its source calls it.
    pub model: Named,
    /// Its parent, if one is known.
    pub parent: Option<Named>,
    /// The entry.
    pub entry: EntryId,
    /// What the entry says: the data; nothing if the model is gone.
    pub data: Option<Data>,
    /// Of a model that is gone, its last data, if there were any.
    pub last_data: Option<Data>,
    /// How many attempts were made since one went well, this one with them.
    pub attempts: i32,
}
