//! An authorization server with a user who has a workspace, and what tests of applications ask of it.

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;

use crate::{Cluster, Database, Partner, Reply, Sidecar, be_issuer};

/// A sidecar whose first user, `root`, owns a workspace.
pub struct Partnered {
    /// The server.
    pub cluster: Cluster,
    /// Its database.
    pub database: Database,
    /// The sidecar, with the token of `root`.
    pub api: Sidecar,
    /// The workspace.
    pub workspace: i64,
}

impl Partnered {
    /// The password of all users.
    pub const PASSWORD: &str = "correct horse";

    /// Starts all of it.
    pub async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let api = Sidecar::start_as_root_with(&database.url(), be_issuer).await?;
        let mut world = Self { cluster, database, api, workspace: 0 };
        world.workspace = world.workspace_of("root", "Shop").await?;
        Ok(world)
    }

    /// A registered application that may ask for this.
    pub async fn partner(&self, scope: &str) -> Result<Partner> {
        Partner::register(&self.api, "Partner", scope).await
    }

    /// Another user; gives a token of theirs.
    pub async fn user(&self, username: &str) -> Result<String> {
        let user = json!({"user": {"username": username, "password": Self::PASSWORD}});
        let reply = self.api.post("/api/v1/users", user).await?;
        let token = reply.body["data"]["token"].as_str();
        Ok(token.with_context(|| reply.text.clone())?.to_owned())
    }

    /// Another workspace, of this user.
    pub async fn workspace_of(&self, username: &str, name: &str) -> Result<i64> {
        let sql = "INSERT INTO integratedb.workspace (name) VALUES ($1) RETURNING id";
        let workspace = self.database.connect().await?.query_one(sql, &[&name]).await?.get(0);
        self.join(workspace, username, "owner").await?;
        Ok(workspace)
    }

    /// Makes a user a member of a workspace.
    pub async fn join(&self, workspace: i64, username: &str, role: &str) -> Result<()> {
        let sql = "INSERT INTO integratedb.workspace_member (workspace_id, user_id, role) \
                   SELECT $1, id, $3 FROM integratedb.users WHERE username = $2";
        self.database.connect().await?.execute(sql, &[&workspace, &username, &role]).await?;
        Ok(())
    }

    /// What the caches answer to a token.
    pub async fn caches(&self, token: &str) -> Result<StatusCode> {
        Ok(self.send_as(token, Method::GET, "/api/v1/caches", None).await?.status)
    }

    /// Sends a request with a token.
    pub async fn send_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Reply> {
        let mut request = self.api.http().request(method, self.api.url(path)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        Reply::of(request.send().await?).await
    }

    /// A number that the database gives.
    pub async fn count(&self, sql: &str, with: &[&(dyn ToSql + Sync)]) -> Result<i64> {
        Ok(self.database.connect().await?.query_one(sql, with).await?.get(0))
    }

    /// What was done to applications and authorizations, in its order.
    pub async fn audited(&self) -> Result<Vec<String>> {
        let sql = "SELECT action FROM integratedb.audit_event \
                   WHERE action ~ '^(application|authorization)' ORDER BY id";
        let rows = self.database.connect().await?.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}
