//! A client of OAuth, as 3scale's API and Zync describe it.

use serde::Deserialize;

use super::super::PushError;
use crate::sync::work::{Data, Push};

/// What the data says of a client. Members that are not there are not known.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Client {
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<String>,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) redirect_url: Option<String>,
    /// `Some(None)`: it is there, and null.
    #[serde(deserialize_with = "present")]
    pub(super) enabled: Option<Option<bool>>,
    pub(super) oidc_configuration: Option<Flows>,
}

/// Which flows it may use.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names, reason = "they are called so")]
pub(super) struct Flows {
    pub(super) standard_flow_enabled: Option<bool>,
    pub(super) implicit_flow_enabled: Option<bool>,
    pub(super) service_accounts_enabled: Option<bool>,
    pub(super) direct_access_grants_enabled: Option<bool>,
    pub(super) token_exchange_enabled: Option<bool>,
}

fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<bool>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Client {
    /// Reads the data.
    pub(super) fn read(data: &Data) -> Result<Self, PushError> {
        // What serde says of a value quotes it.
        serde_json::from_str(data.get()).map_err(|error| {
            PushError::new(format!(
                "the model's data can't be read as a client of OAuth (line {}, column {}): client_id, client_secret, \
                 name and redirect_url are strings, enabled is true or false",
                error.line(),
                error.column()
            ))
        })
    }

    /// The redirect URLs, of which there is at most one.
    pub(super) fn redirect_urls(&self) -> Vec<&str> {
        self.redirect_url.as_deref().into_iter().collect()
    }

    /// Its secret, unless it is empty.
    pub(super) fn secret(&self) -> Option<&str> {
        self.client_secret.as_deref().filter(|secret| !secret.trim().is_empty())
    }
}

/// What the client of a push is called: as the data says, or the last data there was, or else by the model's key.
pub(super) fn id(push: &Push, client: Option<&Client>) -> String {
    let known = client.and_then(|client| client.client_id.clone());
    let last = || Client::read(push.last_data.as_ref()?).ok()?.client_id;
    let named = |id: &String| !id.is_empty();
    known.filter(named).or_else(|| last().filter(named)).unwrap_or_else(|| {
        // Of a key of several parts, the first: a client's name, before its service's.
        match serde_json::from_str::<Vec<String>>(&push.model.key) {
            Ok(parts) => parts.into_iter().next().unwrap_or_default(),
            Err(_) => push.model.key.clone(),
        }
    })
}
