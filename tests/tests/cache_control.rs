//! Caches that are made over REST: from nothing to a query and back, what is refused, and who may touch what.

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::config::Config;
use serde_json::{Value, json};
use support::{Cluster, Database, Reply, Sidecar, connect, loopback, until};
use tokio_postgres::error::SqlState;

/// An origin, a sidecar beside it, and a workspace of its first user.
struct Setup {
    _cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
    workspace: i64,
}

const SCHEMA: &str = "
    CREATE ROLE app LOGIN PASSWORD 'secret';
    CREATE TABLE items (id int PRIMARY KEY, name text);
    INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 10) n;
    GRANT ALL ON items TO app";

impl Setup {
    async fn new() -> Result<Self> {
        Self::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut Config)) -> Result<Self> {
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

    fn body(&self, name: &str) -> Value {
        let address = self.database.address();
        json!({"cache": {"workspace": self.workspace, "name": name, "type": "postgres",
            "hostname": address.ip().to_string(), "port": address.port()}})
    }

    async fn create(&self, name: &str) -> Result<String> {
        let reply = self.sidecar.post("/api/v1/caches", self.body(name)).await?;
        ensure!(reply.status == 201, "{}", reply.text);
        Ok(reply.body["data"]["id"].as_str().context("no id")?.to_owned())
    }

    async fn client(&self, cache: &str) -> Result<tokio_postgres::Client> {
        let url = self.database.url_through(self.sidecar.proxy(), "app", "secret");
        connect(&format!("{url}&application_name={cache}")).await
    }

    async fn put(&self, cache: &str, settings: Value) -> Result<Reply> {
        let body = json!({ "settings": settings });
        self.sidecar.put(&format!("/api/v1/caches/{cache}/settings"), body).await
    }
}

/// A workspace with these members.
async fn workspace(database: &Database, name: &str, members: &[(&str, &str)]) -> Result<i64> {
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

#[tokio::test]
async fn a_cache_is_made_used_and_deleted() -> Result<()> {
    let setup = Setup::new().await?;
    let reply = setup.sidecar.post("/api/v1/caches", setup.body("main")).await?;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let cache = &reply.body["data"];
    let id = cache["id"].as_str().context("no id")?;
    assert_eq!(reply.headers["location"], format!("/api/v1/caches/{id}"));
    let proxy = setup.sidecar.proxy();
    let expected =
        format!("postgres://[USERNAME]:[PASSWORD]@{proxy}/[DATABASE]?application_name={id}");
    assert_eq!(cache["connection_string"], expected);
    let url = expected.replace("[USERNAME]", "app").replace("[PASSWORD]", "secret");
    let client = connect(&url.replace("[DATABASE]", "shop")).await?;
    assert_eq!(client.query_one("SELECT count(*) FROM items", &[]).await?.get::<_, i64>(0), 10);
    let shown = setup.sidecar.get(&format!("/api/v1/caches/{id}")).await?;
    assert_eq!(
        (&shown.body["data"]["clients"], &shown.body["data"]["error"]),
        (&json!(1), &Value::Null)
    );

    let reply = setup.sidecar.delete(&format!("/api/v1/caches/{id}")).await?;
    assert_eq!(reply.status, 204, "{}", reply.text);
    until("the session ends", async || Ok(client.is_closed())).await?;
    let refused = setup.client(id).await.err().context("it was let in")?;
    let refused = refused.downcast::<tokio_postgres::Error>()?;
    assert_eq!(refused.code(), Some(&SqlState::INVALID_CATALOG_NAME), "{refused:?}");
    assert_eq!(setup.sidecar.get(&format!("/api/v1/caches/{id}")).await?.status, 404);
    Ok(())
}
