//! What the tests of this binary begin with.

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::config::Config;
use serde_json::{Value, json};
use support::{Cluster, Database, Reply, Sidecar, connect, loopback};

/// An origin, a sidecar beside it, and a workspace of its first user.
pub(crate) struct Setup {
    _cluster: Cluster,
    pub(crate) database: Database,
    pub(crate) sidecar: Sidecar,
    pub(crate) workspace: i64,
}

const SCHEMA: &str = "
    CREATE ROLE app LOGIN PASSWORD 'secret';
    CREATE TABLE items (id int PRIMARY KEY, name text);
    INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 10) n;
    GRANT ALL ON items TO app";

impl Setup {
    pub(crate) async fn new() -> Result<Self> {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(adjust: impl FnOnce(&mut Config)) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        database.connect().await?.batch_execute(SCHEMA).await?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            config.workspaces.allow_networks = loopback();
            adjust(config);
        })
        .await?;
        let workspace = workspace(&database, "shop", &[("root", "owner")]).await?;
        Ok(Self { _cluster: cluster, database, sidecar, workspace })
    }

    /// The same, with another workspace to create caches in.
    pub(crate) fn of(self, workspace: i64) -> Self {
        Self { workspace, ..self }
    }

    pub(crate) fn body(&self, name: &str) -> Value {
        let address = self.database.address();
        json!({"cache": {"workspace": self.workspace, "name": name, "type": "postgres",
            "hostname": address.ip().to_string(), "port": address.port()}})
    }

    pub(crate) async fn create(&self, name: &str) -> Result<String> {
        let reply = self.sidecar.post("/api/v1/caches", self.body(name)).await?;
        ensure!(reply.status == 201, "{}", reply.text);
        Ok(reply.body["data"]["id"].as_str().context("no id")?.to_owned())
    }

    pub(crate) async fn client(&self, cache: &str) -> Result<tokio_postgres::Client> {
        let url = self.database.url_through(self.sidecar.proxy(), "app", "secret");
        connect(&format!("{url}&application_name={cache}")).await
    }

    pub(crate) async fn put(&self, cache: &str, settings: Value) -> Result<Reply> {
        let body = json!({ "settings": settings });
        self.sidecar.put(&format!("/api/v1/caches/{cache}/settings"), body).await
    }
}

/// A workspace with these members.
pub(crate) async fn workspace(
    database: &Database,
    name: &str,
    members: &[(&str, &str)],
) -> Result<i64> {
    let client = database.connect().await?;
    let sql = "INSERT INTO integratedb.workspace (name) VALUES ($1) RETURNING id";
    let workspace: i64 = client.query_one(sql, &[&name]).await?.get(0);
    for (user, role) in members {
        let sql = "INSERT INTO integratedb.workspace_member (workspace_id, user_id, role) \
                   SELECT $1, id, $3 FROM integratedb.users WHERE username = $2";
        ensure!(client.execute(sql, &[&workspace, user, role]).await? == 1, "no user {user}");
    }
    Ok(workspace)
}

/// The one field that an answer blames.
pub(crate) fn blamed(reply: &Reply) -> Result<String> {
    ensure!(reply.status == 422, "{}: {}", reply.status, reply.text);
    let errors = reply.body["errors"].as_object().context("no errors")?;
    ensure!(errors.len() == 1, "{}", reply.text);
    Ok(errors.keys().next().cloned().unwrap_or_default())
}
