//! Keycloak's client registration, in its own representation of a client (Keycloak, "Securing applications: client
//! registration service"). With a service account's token no registration access token is needed, so nothing is kept.

use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode, Url};
use serde_json::{Map, Value, json};

use super::super::ask::{Answer, below, headers};
use super::super::{Comparison, PushError, Target};
use super::client::{self, Client};
use super::issuer::Issuer;
use crate::reach::Reach;
use crate::sync::work::Push;

const CLIENTS: &str = "clients-registrations/default";

/// A realm of Keycloak.
pub(in super::super) struct Keycloak {
    issuer: Issuer,
}

impl Keycloak {
    pub(in super::super) fn new(
        settings: &Value,
        hidden: &Value,
        reach: &Reach,
        timeout: Duration,
    ) -> Result<Self, String> {
        Ok(Self { issuer: Issuer::new(settings, hidden, reach, timeout, false)? })
    }

    async fn bring(&self, push: &Push) -> Result<(), PushError> {
        // 3scale tells of the proxy when the endpoint is changed.
        if push.model.class == "Proxy" && push.data.is_some() {
            return self.issuer.test().await;
        }
        if push.model.class != self.issuer.class {
            return Ok(());
        }
        let (url, wanted) = self.read(push)?;
        let Some(body) = wanted else { return self.delete(push, url).await };
        let what = "the client";
        let answer = self.issuer.ask(what, Method::PUT, url, headers(push), Some(&body)).await?;
        if answer.status != StatusCode::NOT_FOUND {
            return took(&answer, what);
        }
        let url = self.issuer.endpoint.join(CLIENTS);
        let url = url.map_err(|error| PushError::new(format!("no URL can be made: {error}")))?;
        let what = "the new client";
        let answer = self.issuer.ask(what, Method::POST, url, headers(push), Some(&body)).await?;
        took(&answer, what)
    }

    async fn delete(&self, push: &Push, url: Url) -> Result<(), PushError> {
        let what = "the client that is to be deleted";
        let answer = self.issuer.ask(what, Method::DELETE, url, headers(push), None).await?;
        if is_missing(&answer) { Ok(()) } else { took(&answer, what) }
    }

    async fn differs(&self, push: &Push) -> Result<Comparison, PushError> {
        if push.model.class != self.issuer.class {
            return Ok(Comparison::Same);
        }
        let (url, wanted) = self.read(push)?;
        let what = "the client";
        let answer = self.issuer.ask(what, Method::GET, url, headers(push), None).await?;
        if is_missing(&answer) {
            let wanted = wanted.map_or(Comparison::Same, |_| Comparison::Create);
            return Ok(wanted);
        }
        took(&answer, what)?;
        let Some(has) = answer.json::<Value>().filter(Value::is_object) else {
            return Err(PushError::new(format!("{what}: what it answered is not a JSON object")));
        };
        let Some(wanted) = wanted else { return Ok(Comparison::Delete) };
        let members = wanted.as_object().into_iter().flatten();
        let names: Vec<String> = members
            .filter(|(name, value)| !is_held(value, &has[name.as_str()]))
            .map(|(name, _)| name.clone())
            .collect();
        Ok(Comparison::of(names))
    }

    /// Where the client is, and what it should be there.
    fn read(&self, push: &Push) -> Result<(Url, Option<Value>), PushError> {
        let client = push.data.as_ref().map(Client::read).transpose()?;
        let id = client::id(push, client.as_ref());
        let url = below(&self.issuer.endpoint, CLIENTS, &id)?;
        // One without a secret could not do anything there.
        let client = client.filter(|client| client.secret().is_some());
        Ok((url, client.map(|client| representation(&id, &client, &self.issuer.attributes))))
    }
}

impl Target for Keycloak {
    fn push<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<(), PushError>> {
        Box::pin(self.bring(push))
    }

    fn compare<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<Comparison, PushError>> {
        Box::pin(self.differs(push))
    }
}

fn took(answer: &Answer, what: &str) -> Result<(), PushError> {
    if answer.status.is_success() {
        return Ok(());
    }
    let mut error = answer.refused(what);
    if answer.status == StatusCode::FORBIDDEN {
        error.message.push_str(
            " (the endpoint's client has to have a service account with the role manage-clients of realm-management)",
        );
    }
    Err(error)
}

/// Keycloak itself says that there is no such client, to one who may know. Somebody before it, or a realm that is gone,
/// says something else.
fn is_missing(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND
        && answer.oauth_error().is_some_and(|error| error == "invalid_request")
}

fn representation(id: &str, client: &Client, more: &Map<String, Value>) -> Value {
    let flows = client.oidc_configuration.clone().unwrap_or_default();
    let mut attributes = json!({"3scale": true});
    if let Some(exchange) = flows.token_exchange_enabled {
        attributes["standard.token.exchange.enabled"] = exchange.to_string().into();
    }
    let mut body = json!({
        "name": client.name,
        "description": client.description,
        "clientId": id,
        "secret": client.client_secret,
        "redirectUris": client.redirect_urls(),
        "attributes": attributes,
        "protocolMappers": [{
            "name": "audience-mapper",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {
                "included.client.audience": id,
                "id.token.claim": "false",
                "access.token.claim": "true",
            },
        }],
    });
    let given = [
        ("enabled", client.enabled.flatten()),
        ("standardFlowEnabled", flows.standard_flow_enabled),
        ("implicitFlowEnabled", flows.implicit_flow_enabled),
        ("serviceAccountsEnabled", flows.service_accounts_enabled),
        ("directAccessGrantsEnabled", flows.direct_access_grants_enabled),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            body[name] = value.into();
        }
    }
    for (name, value) in more {
        body[name.as_str()] = value.clone();
    }
    body
}

/// Whether what is wanted is there. Keycloak adds members of its own, keeps attributes as texts, and takes null for nothing
/// to change.
fn is_held(wanted: &Value, has: &Value) -> bool {
    match (wanted, has) {
        (Value::Null, _) => true,
        (Value::Object(wanted), _) => {
            wanted.iter().all(|(name, value)| is_held(value, &has[name.as_str()]))
        }
        (Value::Array(wanted), Value::Array(has)) if wanted.iter().any(Value::is_object) => {
            wanted.iter().all(|wanted| {
                has.iter().any(|has| has["name"] == wanted["name"] && is_held(wanted, has))
            })
        }
        (Value::Array(wanted), Value::Array(has)) => {
            wanted.len() == has.len() && wanted.iter().all(|value| has.contains(value))
        }
        (Value::Bool(wanted), Value::String(has)) => wanted.to_string() == *has,
        _ => wanted == has,
    }
}
