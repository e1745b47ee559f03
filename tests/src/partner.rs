//! An application of a third party that users let into a workspace.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use integratedb_sidecar::Config;
use integratedb_sidecar::oauth::Issuer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::browser::{Browser, encoded};
use crate::{Reply, Sidecar};

/// A registered application, as it knows itself.
#[derive(Clone, Debug)]
pub struct Partner {
    /// Its id in REST.
    pub id: i64,
    /// What it calls itself.
    pub client_id: String,
    /// Its secret; none if it is public.
    pub secret: Option<String>,
    /// What it may ask for, with blanks between.
    pub scope: String,
    /// What its challenges are made of.
    pub verifier: String,
}

/// Has a sidecar of a test be an authorization server, under the address that it listens on.
pub fn be_issuer(config: &mut Config) {
    let issuer = Issuer::try_from(format!("http://{}", config.listen));
    config.oauth.issuer = Some(issuer.expect("the address is this machine's"));
}

impl Partner {
    /// Where it wants browsers to come back to. Nobody listens there.
    pub const REDIRECT: &str = "https://partner.example/back";

    /// Registers it as an application of whoever the sidecar's token is of. `scope`: with blanks between.
    pub async fn register(api: &Sidecar, name: &str, scope: &str) -> Result<Self> {
        let scopes: Vec<&str> = scope.split(' ').collect();
        let body = json!({"name": name, "scopes": scopes, "redirect_uris": [Self::REDIRECT]});
        let reply = api.post("/api/v1/oauth/applications", json!({"application": body})).await?;
        Self::of(&reply)
    }

    /// The one that was registered.
    pub fn of(reply: &Reply) -> Result<Self> {
        let data = &reply.body["data"];
        let text = |name: &str| data[name].as_str().map(str::to_owned);
        let scopes = data["scopes"].as_array().with_context(|| reply.text.clone())?;
        let scopes: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
        Ok(Self {
            id: data["id"].as_i64().context("no id")?,
            client_id: text("client_id").context("no client_id")?,
            secret: text("client_secret"),
            scope: scopes.join(" "),
            verifier: "a-verifier-of-the-tests-with-43-signs-or-more".to_owned(),
        })
    }

    /// What its verifier has to match.
    pub fn challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&self.verifier))
    }

    /// The parameters that it sends users with.
    pub fn request(&self) -> Vec<(String, String)> {
        let fields = [
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", Self::REDIRECT),
            ("scope", &self.scope),
            ("state", "a state & more"),
            ("code_challenge", &self.challenge()),
            ("code_challenge_method", "S256"),
        ];
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    /// The address that it sends users to.
    pub fn address(&self) -> String {
        format!("/oauth2/auth?{}", encoded(&self.request()))
    }

    /// A code that a user has agreed to.
    pub async fn code(
        &self,
        api: &Sidecar,
        username: &str,
        password: &str,
        workspace: i64,
    ) -> Result<String> {
        let mut browser = Browser::new(&api.url(""))?;
        let to = browser.allow(&self.address(), username, password, workspace).await?;
        parameter(&to, "code").with_context(|| format!("no code in {to}"))
    }

    /// Asks for what the form says, as this application.
    pub async fn ask(&self, api: &Sidecar, path: &str, form: &[(&str, &str)]) -> Result<Reply> {
        let mut form = form.to_vec();
        let mut request = api.http().post(api.url(path));
        match &self.secret {
            Some(secret) => request = request.basic_auth(&self.client_id, Some(secret)),
            None => form.push(("client_id", &self.client_id)),
        }
        let kind = "application/x-www-form-urlencoded";
        Reply::of(request.header("content-type", kind).body(encoded(&form)).send().await?).await
    }

    /// Trades a code.
    pub async fn trade(&self, api: &Sidecar, code: &str) -> Result<Reply> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", Self::REDIRECT),
            ("code_verifier", &self.verifier),
        ];
        self.ask(api, "/oauth2/token", &form).await
    }

    /// Trades a refresh token.
    pub async fn refresh(&self, api: &Sidecar, refresh_token: &str) -> Result<Reply> {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        self.ask(api, "/oauth2/token", &form).await
    }

    /// The whole way to a token for a workspace of a user.
    pub async fn token(
        &self,
        api: &Sidecar,
        username: &str,
        password: &str,
        workspace: i64,
    ) -> Result<String> {
        let code = self.code(api, username, password, workspace).await?;
        let reply = self.trade(api, &code).await?;
        let token = reply.body["access_token"].as_str();
        Ok(token.with_context(|| reply.text.clone())?.to_owned())
    }
}

/// A parameter of an address.
pub fn parameter(address: &str, name: &str) -> Option<String> {
    let (_, query) = address.split_once('?')?;
    let found = form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name);
    found.map(|(_, value)| value.into_owned())
}
