//! Users of the API beside the first.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Reply, Sidecar};

/// A user who has logged in.
#[derive(Clone, Debug)]
pub struct Person {
    /// The user's id.
    pub id: i64,
    /// What the user logs in with.
    pub name: String,
    /// What the user logs in with.
    pub password: String,
    /// For requests.
    pub token: String,
}

impl Person {
    /// Makes a user, as whoever the sidecar's token is of.
    pub async fn new(sidecar: &Sidecar, name: &str, operator: bool) -> Result<Self> {
        let password = format!("the password of {name}");
        let user = json!({"user": {"username": name, "password": password, "operator": operator}});
        let made = sidecar.post("/api/v1/users", user).await?;
        let id = made.body["data"]["id"].as_i64().with_context(|| made.text.clone())?;
        let token = made.body["data"]["token"].as_str().context("no token")?.to_owned();
        Ok(Self { id, name: name.to_owned(), password, token })
    }

    /// Sends a request with the user's token.
    pub async fn send(
        &self,
        sidecar: &Sidecar,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Reply> {
        let request = sidecar.http().request(method, sidecar.url(path)).bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        Reply::of(request.send().await?).await
    }

    /// GET
    pub async fn get(&self, sidecar: &Sidecar, path: &str) -> Result<Reply> {
        self.send(sidecar, Method::GET, path, None).await
    }

    /// POST
    pub async fn post(&self, sidecar: &Sidecar, path: &str, body: Value) -> Result<Reply> {
        self.send(sidecar, Method::POST, path, Some(body)).await
    }

    /// PUT
    pub async fn put(&self, sidecar: &Sidecar, path: &str, body: Value) -> Result<Reply> {
        self.send(sidecar, Method::PUT, path, Some(body)).await
    }

    /// DELETE
    pub async fn delete(&self, sidecar: &Sidecar, path: &str) -> Result<Reply> {
        self.send(sidecar, Method::DELETE, path, None).await
    }

    /// Makes a workspace, and gives its path.
    pub async fn workspace(&self, sidecar: &Sidecar, name: &str) -> Result<String> {
        let body = json!({"workspace": {"name": name}});
        let made = self.post(sidecar, "/api/v1/workspaces", body).await?;
        let location = made.headers.get("location").with_context(|| made.text.clone())?;
        Ok(location.to_str()?.to_owned())
    }

    /// Makes a user a member of a workspace.
    pub async fn lets_in(
        &self,
        sidecar: &Sidecar,
        workspace: &str,
        other: &Self,
        role: &str,
    ) -> Result<()> {
        let path = format!("{workspace}/members/{}", other.id);
        let put = self.put(sidecar, &path, json!({"member": {"role": role}})).await?;
        anyhow::ensure!(put.status == 200, put.text);
        Ok(())
    }
}
