//! Zync's generic REST contract: `PUT`, `GET` and `DELETE` of `clients/ID`, with metadata of RFC 7591.

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};

use super::super::ask::{below, headers};
use super::super::{Comparison, PushError, Target};
use super::client::{self, Client};
use super::issuer::Issuer;
use crate::reach::Reach;
use crate::sync::work::Push;

/// Something that takes clients of OAuth.
pub(in super::super) struct Rest {
    issuer: Issuer,
}

impl Rest {
    pub(in super::super) fn new(
        settings: &Value,
        hidden: &Value,
        reach: &Reach,
        timeout: Duration,
    ) -> Result<Self, String> {
        Ok(Self { issuer: Issuer::new(settings, hidden, reach, timeout, true)? })
    }

    async fn bring(&self, push: &Push) -> Result<(), PushError> {
        if push.model.class != self.issuer.class {
            return Ok(());
        }
        let (url, wanted) = self.read(push)?;
        let (what, method) = match wanted {
            Some(_) => ("the client", Method::PUT),
            None => ("the client that is to be deleted", Method::DELETE),
        };
        let answer = self.issuer.ask(what, method, url, headers(push), wanted.as_ref()).await?;
        if answer.status.is_success() || (wanted.is_none() && answer.says_missing()) {
            return Ok(());
        }
        Err(answer.refused(what))
    }

    async fn differs(&self, push: &Push) -> Result<Comparison, PushError> {
        if push.model.class != self.issuer.class {
            return Ok(Comparison::Same);
        }
        let (url, wanted) = self.read(push)?;
        let what = "the client";
        let answer = self.issuer.ask(what, Method::GET, url, headers(push), None).await?;
        if answer.says_missing() {
            return Ok(wanted.map_or(Comparison::Same, |_| Comparison::Create));
        }
        match answer.status.as_u16() {
            405 | 501 => {
                return Ok(Comparison::Unknown(
                    "the target does not tell what it has: it takes no GET of clients/ID"
                        .to_owned(),
                ));
            }
            200..=299 => {}
            _ => return Err(answer.refused(what)),
        }
        let Some(wanted) = wanted else { return Ok(Comparison::Delete) };
        let Some(has) = answer.json::<Map<String, Value>>() else {
            return Ok(Comparison::Unknown(
                "what the target tells is not a JSON object".to_owned(),
            ));
        };
        let members = wanted.as_object().into_iter().flatten();
        let names: Vec<String> = members
            // Many don't tell secrets.
            .filter(|(name, _)| {
                name.as_str() != "client_secret" || has.contains_key("client_secret")
            })
            .filter(|(name, value)| !is_same(value, has.get(name.as_str()).unwrap_or(&Value::Null)))
            .map(|(name, _)| name.clone())
            .collect();
        Ok(Comparison::of(names))
    }

    /// Where the client is, and what it should be there.
    fn read(&self, push: &Push) -> Result<(Url, Option<Value>), PushError> {
        let client = push.data.as_ref().map(Client::read).transpose()?;
        let id = client::id(push, client.as_ref());
        let url = below(&self.issuer.endpoint, "clients", &id)?;
        // As Zync has it: the contract has no word for a client that is not enabled.
        let client = client.filter(|client| matches!(client.enabled, None | Some(Some(true))));
        Ok((url, client.map(|client| metadata(&id, &client, &self.issuer.attributes))))
    }
}

impl Target for Rest {
    fn push<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<(), PushError>> {
        Box::pin(self.bring(push))
    }

    fn compare<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<Comparison, PushError>> {
        Box::pin(self.differs(push))
    }
}

fn metadata(id: &str, client: &Client, more: &Map<String, Value>) -> Value {
    let flows = client.oidc_configuration.clone().unwrap_or_default();
    let grants = [
        ("authorization_code", flows.standard_flow_enabled),
        ("implicit", flows.implicit_flow_enabled),
        ("password", flows.direct_access_grants_enabled),
        ("client_credentials", flows.service_accounts_enabled),
    ];
    let grants: Vec<_> =
        grants.into_iter().filter(|(_, on)| *on == Some(true)).map(|(name, _)| name).collect();
    let mut body = json!({
        "client_id": id,
        "client_secret": client.client_secret,
        "client_name": client.name,
        "redirect_uris": client.redirect_urls(),
        "grant_types": grants,
    });
    for (name, value) in more {
        body[name.as_str()] = value.clone();
    }
    body
}

/// Whether two values mean the same; the lists of the contract have no order.
fn is_same(wanted: &Value, has: &Value) -> bool {
    match (wanted, has) {
        (Value::Array(wanted), Value::Array(has)) => {
            wanted.len() == has.len() && wanted.iter().all(|value| has.contains(value))
        }
        _ => wanted == has,
    }
}
