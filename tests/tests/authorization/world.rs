//! Two workspaces, and everybody who may call.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::{Cluster, Database, Sidecar};
use tokio_postgres::Client;

/// What everything is called that workspace 2 must not see.
pub(crate) const HIDDEN: &str = "hidden";

const SCOPES: [&str; 4] = ["caches:read", "caches:write", "cacheRules:read", "cacheRules:write"];

/// A method and a path, with the path's parameters in braces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operation {
    path: String,
    method: String,
}

impl Operation {
    pub(crate) fn new(method: Method, path: &str) -> Self {
        Self { path: path.to_owned(), method: method.to_string() }
    }

    /// As the page writes it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (method, path) = text.split_once(' ')?;
        Some(Self { path: path.to_owned(), method: method.to_owned() })
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn is(&self, method: &str) -> bool {
        self.method == method
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// Whose things a call is about, where they are a user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Callers,
    Anybodys,
}

/// Who calls. Each call is by somebody new, so that none ruins another's rights.
pub(crate) struct Caller {
    pub(crate) token: Option<String>,
    pub(crate) user: Option<i64>,
}

/// What a call is answered with.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    /// WWW-Authenticate
    pub(crate) challenge: Option<String>,
}

/// A workspace and what is in it.
pub(crate) struct Workspace {
    pub(crate) id: i64,
    pub(crate) cache: String,
}

/// A running sidecar with two workspaces.
pub(crate) struct World {
    pub(crate) sidecar: Sidecar,
    pub(crate) client: Client,
    /// What the page's paths are about.
    pub(crate) one: Workspace,
    pub(crate) two: Workspace,
    next: AtomicI64,
    database: Database,
    _cluster: Cluster,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("world").await?;
        let here = "127.0.0.0/8".parse()?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            // The origin is on this machine.
            config.workspaces.allow_networks.push(here);
        })
        .await?;
        let client = database.connect().await?;
        let next = AtomicI64::new(1);
        let nothing = || Workspace { id: 0, cache: String::new() };
        let (one, two) = (nothing(), nothing());
        let mut world = Self { sidecar, client, one, two, next, database, _cluster: cluster };
        world.one = world.workspace(HIDDEN).await?;
        world.two = world.workspace("open").await?;
        Ok(world)
    }

    /// A workspace with a cache, both of this name.
    async fn workspace(&self, name: &str) -> Result<Workspace> {
        let sql = "INSERT INTO integratedb.workspace (name) VALUES ($1) RETURNING id";
        let id: i64 = self.client.query_one(sql, &[&name]).await?.get(0);
        let user = self.user(false).await?;
        self.member(id, user, "owner").await?;
        let owner = self.login(user).await?;
        let cache = json!({"workspace": id, "name": name, "type": "postgres",
            "hostname": "127.0.0.1", "port": self.database.address().port()});
        let create = Operation::new(Method::POST, "/api/v1/caches");
        let body = Some(json!({ "cache": cache }));
        let answer = self.send(&create, "/api/v1/caches", body, &owner).await?;
        ensure!(answer.status == StatusCode::CREATED, "{} {}", answer.status, answer.body);
        let made: Value = serde_json::from_str(&answer.body)?;
        let cache = made["data"]["id"].as_str().context("no id")?.to_owned();
        Ok(Workspace { id, cache })
    }

    /// Every operation that the API describes.
    pub(crate) async fn operations(&self) -> Result<Vec<Operation>> {
        let document = self.sidecar.get("/api/v1/openapi.json").await?.body;
        let paths = document["paths"].as_object().context("no paths")?;
        let mut operations = Vec::new();
        for (path, item) in paths {
            for method in item.as_object().context("no operations")?.keys() {
                if matches!(method.as_str(), "get" | "put" | "post" | "delete" | "patch") {
                    let method = method.to_uppercase();
                    operations.push(Operation { path: path.clone(), method });
                }
            }
        }
        Ok(operations)
    }

    fn number(&self) -> i64 {
        self.next.fetch_add(1, Relaxed)
    }

    /// Somebody whom a column of the page speaks of.
    pub(crate) async fn caller(&self, title: &str) -> Result<Caller> {
        let (one, two) = (self.one.id, self.two.id);
        if let Some(scope) = title.strip_prefix("app `").and_then(|rest| rest.strip_suffix('`')) {
            let user = self.user(false).await?;
            self.member(one, user, "owner").await?;
            return self.application(user, one, &[scope]).await;
        }
        Ok(match title {
            "nobody" => Caller { token: None, user: None },
            "operator" => self.login(self.user(true).await?).await?,
            "viewer" | "member" | "admin" | "owner" => {
                let user = self.user(false).await?;
                self.member(one, user, title).await?;
                self.login(user).await?
            }
            "stranger" => {
                let user = self.user(false).await?;
                self.member(two, user, "owner").await?;
                self.login(user).await?
            }
            "app elsewhere" => {
                let user = self.user(false).await?;
                self.member(one, user, "owner").await?;
                self.member(two, user, "owner").await?;
                self.application(user, two, &SCOPES).await?
            }
            "app of viewer" => {
                let user = self.user(false).await?;
                self.member(one, user, "viewer").await?;
                self.application(user, one, &SCOPES).await?
            }
            other => bail!("the page has a column {other:?}"),
        })
    }

    pub(crate) async fn user(&self, operator: bool) -> Result<i64> {
        let name = format!("user-{}", self.number());
        let sql = "INSERT INTO integratedb.users (username, password_hash, operator)
                   VALUES ($1, 'none', $2) RETURNING id";
        Ok(self.client.query_one(sql, &[&name, &operator]).await?.get(0))
    }

    pub(crate) async fn member(&self, workspace: i64, user: i64, role: &str) -> Result<()> {
        let sql = "INSERT INTO integratedb.workspace_member (workspace_id, user_id, role)
                   VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        self.client.execute(sql, &[&workspace, &user, &role]).await?;
        Ok(())
    }

    /// A token and its hash, and another hash.
    fn token(&self) -> (String, Vec<u8>, Vec<u8>) {
        let hash = |text: &str| Sha256::digest(text.as_bytes()).to_vec();
        let (token, refresh) = (format!("{:064}", self.number()), format!("{:064}", self.number()));
        let hashes = (hash(&token), hash(&refresh));
        (token, hashes.0, hashes.1)
    }

    pub(crate) async fn login(&self, user: i64) -> Result<Caller> {
        let (token, hash, refresh) = self.token();
        let sql = "INSERT INTO integratedb.token_pairs
                       (user_id, token_hash, token_expires_at, refresh_hash, refresh_expires_at)
                   VALUES ($1, $2, now() + interval '1 hour', $3, now() + interval '1 hour')";
        self.client.execute(sql, &[&user, &hash, &refresh]).await?;
        Ok(Caller { token: Some(token), user: Some(user) })
    }

    /// An application that belongs to a user or a workspace.
    pub(crate) async fn registered(
        &self,
        user: Option<i64>,
        workspace: Option<i64>,
    ) -> Result<i64> {
        let name = format!("application-{}", self.number());
        let sql = "INSERT INTO integratedb.oauth_application
                       (client_id, user_id, workspace_id, name, scopes, redirect_uris)
                   VALUES ($1, $2, $3, $1, $4, '{https://partner.example/back}') RETURNING id";
        let scopes = SCOPES.as_slice();
        Ok(self.client.query_one(sql, &[&name, &user, &workspace, &scopes]).await?.get(0))
    }

    /// What a user has agreed to.
    pub(crate) async fn grant(&self, user: i64, workspace: i64, scopes: &[&str]) -> Result<i64> {
        let application = self.registered(Some(user), None).await?;
        let sql =
            "INSERT INTO integratedb.oauth_grant (application_id, user_id, workspace_id, scopes)
                   VALUES ($1, $2, $3, $4) RETURNING id";
        let row = self.client.query_one(sql, &[&application, &user, &workspace, &scopes]).await?;
        Ok(row.get(0))
    }

    /// An application that acts for a user.
    pub(crate) async fn application(
        &self,
        user: i64,
        workspace: i64,
        scopes: &[&str],
    ) -> Result<Caller> {
        let grant = self.grant(user, workspace, scopes).await?;
        let (token, hash, refresh) = self.token();
        let sql = "INSERT INTO integratedb.oauth_token (grant_id, family, scopes, refresh_scopes,
                       token_hash, token_expires_at, refresh_hash, refresh_expires_at)
                   VALUES ($1, gen_random_uuid(), $2, $2, $3, now() + interval '1 hour', $4,
                       now() + interval '1 hour')";
        self.client.execute(sql, &[&grant, &scopes, &hash, &refresh]).await?;
        Ok(Caller { token: Some(token), user: Some(user) })
    }

    /// Calls an operation about workspace 1.
    pub(crate) async fn call(
        &self,
        operation: &Operation,
        caller: &Caller,
        whose: Whose,
    ) -> Result<Answer> {
        self.call_about(&self.one, &self.one, operation, caller, whose).await
    }

    /// Calls an operation about a workspace, and what is in one that may be another.
    pub(crate) async fn call_about(
        &self,
        workspace: &Workspace,
        things: &Workspace,
        operation: &Operation,
        caller: &Caller,
        whose: Whose,
    ) -> Result<Answer> {
        let owner = match (whose, caller.user) {
            (Whose::Callers, Some(user)) => user,
            _ => self.user(false).await?,
        };
        let mut path = operation.path.clone();
        while let (Some(begin), Some(end)) = (path.find('{'), path.find('}')) {
            let value = match &path[begin + 1..end] {
                "workspace" => workspace.id.to_string(),
                name => self.thing(operation, name, owner, things).await?,
            };
            path.replace_range(begin..=end, &value);
        }
        let has_body = operation.is("POST") || operation.is("PUT");
        let body = has_body.then(|| body(operation, workspace));
        self.send(operation, &path, body, caller).await
    }

    /// Sends a request. What never ends is not read.
    pub(crate) async fn send(
        &self,
        operation: &Operation,
        path: &str,
        body: Option<Value>,
        caller: &Caller,
    ) -> Result<Answer> {
        let method = Method::from_bytes(operation.method.as_bytes())?;
        let mut request = self.sidecar.http().request(method, self.sidecar.url(path));
        if let Some(token) = &caller.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let header = |name: &str| {
            answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let challenge = header("www-authenticate");
        let is_stream = header("content-type").is_some_and(|kind| kind == "text/event-stream");
        let body = if is_stream { String::new() } else { answer.text().await? };
        Ok(Answer { status, body, challenge })
    }

    /// Something in a workspace that nobody else needs where the operation takes it away.
    async fn thing(
        &self,
        operation: &Operation,
        name: &str,
        owner: i64,
        workspace: &Workspace,
    ) -> Result<String> {
        let path = operation.path.as_str();
        let of_workspace = path.starts_with("/api/v1/workspaces/");
        Ok(match name {
            "id" if path.starts_with("/api/v1/users/") => owner.to_string(),
            "id" if path == "/api/v1/caches/{id}" && operation.is("DELETE") => {
                self.cache(workspace.id).await?
            }
            "id" if path.starts_with("/api/v1/caches/") => workspace.cache.clone(),
            "user" if of_workspace => {
                self.member(workspace.id, owner, "viewer").await?;
                owner.to_string()
            }
            "application" if of_workspace => {
                self.registered(None, Some(workspace.id)).await?.to_string()
            }
            "application" => self.registered(Some(owner), None).await?.to_string(),
            "authorization" => self.grant(owner, workspace.id, &SCOPES).await?.to_string(),
            "kind" => "table".to_owned(),
            "name" if path.starts_with("/api/v1/caches/") => {
                let sql = "INSERT INTO integratedb.cache_rules (cache_id, kind, name, rule)
                           VALUES ($1, 'table', 'public.t', '{}') ON CONFLICT DO NOTHING";
                self.client.execute(sql, &[&workspace.cache]).await?;
                "public.t".to_owned()
            }
            // What an operator is answered with does not depend on whether there is one.
            "id" | "name" | "backfill" | "integration" | "replay" | "model" | "class" => {
                "1".to_owned()
            }
            other => bail!("{operation} has a parameter {other:?} that this test knows nothing of"),
        })
    }

    /// A cache that somebody may delete.
    pub(crate) async fn cache(&self, workspace: i64) -> Result<String> {
        let id = format!("cache-{}", self.number());
        let sql = "INSERT INTO integratedb.cache (id, workspace_id, name, type, hostname, port)
                   VALUES ($1, $2, $1, 'postgres', '127.0.0.1', 5432)";
        self.client.execute(sql, &[&id, &workspace]).await?;
        Ok(id)
    }
}

/// A body that is enough to be judged by, and mostly valid for nothing else.
fn body(operation: &Operation, workspace: &Workspace) -> Value {
    match operation.path.as_str() {
        "/api/v1/caches" => json!({"cache": {"workspace": workspace.id, "name": "new",
            "type": "postgres", "hostname": "no host", "port": 5432}}),
        // What it is for is looked up after what it says.
        path if path.ends_with("/oauth/applications/{application}") => json!({"application": {
            "name": "new", "scopes": SCOPES, "redirect_uris": ["https://partner.example/back"]}}),
        _ => json!({}),
    }
}
