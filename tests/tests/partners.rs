//! A partner's application gets a user a cache, start to end, as `docs/partners` tells it: consent in a browser, tokens, a
//! cache, a query through it, and the end of it all. Run with public OAuth libraries of two languages.

use anyhow::{Context, Result, ensure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{
    Browser, Cluster, Database, PartnerApp, PartnerSettings, Sidecar, be_issuer, free_address, http,
};

const PASSWORD: &str = "correct horse";

/// Who ends it.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Partner,
    User,
}

struct World {
    sidecar: Sidecar,
    database: Database,
    _cluster: Cluster,
}

impl World {
    /// An authorization server, a database that a user has with the partner, and that user with two workspaces.
    async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let sql =
            "CREATE ROLE app LOGIN PASSWORD 'se cret'; CREATE TABLE products (id int PRIMARY KEY);
                   INSERT INTO products VALUES (1), (2), (3); GRANT SELECT ON products TO app";
        database.connect().await?.batch_execute(sql).await?;
        let here = "127.0.0.0/8".parse()?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            be_issuer(config);
            // The origin is on this machine.
            config.workspaces.allow_networks.push(here);
        })
        .await?;
        let user = json!({"user": {"username": "dev", "password": PASSWORD, "operator": false}});
        let reply = sidecar.post("/api/v1/users", user).await?;
        ensure!(reply.status == StatusCode::CREATED, "{}", reply.text);
        let mut world = Self { sidecar, database, _cluster: cluster };
        world.login().await?;
        for name in ["Garden", "Shop"] {
            let reply = world
                .sidecar
                .post("/api/v1/workspaces", json!({"workspace": {"name": name}}))
                .await?;
            ensure!(reply.status == StatusCode::CREATED, "{}", reply.text);
        }
        Ok(world)
    }

    /// Acts as the user from here on.
    async fn login(&mut self) -> Result<()> {
        let login = json!({"data": {"username": "dev", "password": PASSWORD}});
        let reply = self.sidecar.post("/api/v1/auth/login", login).await?;
        let token = reply.body["data"]["token"].as_str().context("no token")?;
        self.sidecar.set_token(Some(token));
        Ok(())
    }

    /// What the user sees at a path.
    async fn see(&self, path: &str) -> Result<Value> {
        let reply = self.sidecar.get(path).await?;
        ensure!(reply.status == StatusCode::OK, "{path}: {} {}", reply.status, reply.text);
        Ok(reply.body)
    }

    async fn workspace(&self, name: &str) -> Result<i64> {
        let all = self.see("/api/v1/workspaces").await?;
        let all = all["data"].as_array().context("no list")?.clone();
        let one = all.into_iter().find(|workspace| workspace["name"] == name);
        one.and_then(|workspace| workspace["id"].as_i64()).context("no such workspace")
    }

    /// Registers the partner's application, and gives its id and secret.
    async fn register(&self, redirect_uri: &str) -> Result<(String, String)> {
        let application = json!({"application": {"name": "Partner", "redirect_uris": [redirect_uri],
            "scopes": ["caches:read", "caches:write"]}});
        let reply = self.sidecar.post("/api/v1/oauth/applications", application).await?;
        ensure!(reply.status == StatusCode::CREATED, "{}", reply.text);
        let told =
            |name: &str| reply.body["data"][name].as_str().map(str::to_owned).context("no id");
        Ok((told("client_id")?, told("client_secret")?))
    }
}

async fn gets_its_user_a_cache(app: PartnerApp, ends: Ends) -> Result<()> {
    let world = World::start().await?;
    let redirect_uri = format!("http://{}/callback", free_address()?);
    let issuer = world.sidecar.url("");
    let (client_id, client_secret) = world.register(&redirect_uri).await?;
    let mut partner = app.start(&PartnerSettings {
        issuer: &issuer,
        client_id: &client_id,
        client_secret: &client_secret,
        redirect_uri: &redirect_uri,
        origin: &world.database.url_as("app", "se%20cret"),
    })?;
    let url = partner.tells("Please open").await?;
    // What the user does in the browser.
    let shop = world.workspace("Shop").await?;
    let mut browser = Browser::new(&issuer)?;
    let callback = browser.allow(&url, "dev", PASSWORD, shop).await?;
    let shown = http()?.get(&callback).send().await?.text().await?;
    ensure!(shown.contains("You can close this window"), "{callback}: {shown}");
    assert_eq!(partner.tells("Access to").await?, "caches:read caches:write");

    let cache = partner.tells("Cache").await?;
    let address = world.sidecar.proxy();
    let expected =
        format!("postgres://[USERNAME]:[PASSWORD]@{address}/[DATABASE]?application_name={cache}");
    assert_eq!(partner.tells("Connection string").await?, expected);
    assert_eq!(partner.tells("Answer through the cache").await?, "3");
    assert_eq!(partner.tells("New token").await?.to_lowercase(), "true");
    assert_eq!(partner.tells("With it").await?, "200");
    partner.tells("Disconnect").await?;

    // The user sees what was done, by whom, and in the workspace that was picked.
    let seen = world.see(&format!("/api/v1/caches/{cache}")).await?;
    assert_eq!(seen["data"]["workspace"], shop, "{seen}");
    let audit = world.see(&format!("/api/v1/workspaces/{shop}/audit")).await?.to_string();
    ensure!(audit.contains(&cache) && audit.contains("Partner"), "the log lacks it: {audit}");
    let queries = world.see(&format!("/api/v1/caches/{cache}/queries")).await?.to_string();
    ensure!(queries.contains("products"), "the query went elsewhere: {queries}");

    let authorizations = world.see("/api/v1/oauth/authorizations").await?;
    assert_eq!(authorizations["data"].as_array().map(Vec::len), Some(1), "{authorizations}");
    if ends == Ends::User {
        let id = authorizations["data"][0]["id"].as_i64().context("no id")?;
        let path = format!("/api/v1/oauth/authorizations/{id}");
        assert_eq!(world.sidecar.delete(&path).await?.status, StatusCode::NO_CONTENT);
    }
    partner.press_enter()?;
    let before = partner.tells("Before disconnecting").await?;
    assert_eq!(before, if ends == Ends::User { "401" } else { "200" });
    assert_eq!(partner.tells("Disconnecting").await?, "200");
    assert_eq!(partner.tells("After disconnecting").await?, "401");
    assert_eq!(partner.tells("Refreshing").await?, "invalid_grant");
    let told = partner.ends().await?.join("\n");
    ensure!(
        !told.contains("se%20cret") && !told.contains(&client_secret),
        "it tells secrets: {told}"
    );
    Ok(())
}

#[tokio::test]
async fn authlib_and_the_partner_ends_it() -> Result<()> {
    gets_its_user_a_cache(PartnerApp::Python, Ends::Partner).await
}

#[tokio::test]
async fn authlib_and_the_user_ends_it() -> Result<()> {
    gets_its_user_a_cache(PartnerApp::Python, Ends::User).await
}

#[tokio::test]
async fn openid_client_and_the_partner_ends_it() -> Result<()> {
    gets_its_user_a_cache(PartnerApp::Node, Ends::Partner).await
}

#[tokio::test]
async fn openid_client_and_the_user_ends_it() -> Result<()> {
    gets_its_user_a_cache(PartnerApp::Node, Ends::User).await
}
