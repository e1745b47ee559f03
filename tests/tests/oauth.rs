//! OAuth as applications and users go through it: from registering to a token, its use, its renewal and its end.

use anyhow::{Context, Result};
use reqwest::StatusCode;

use support::{Browser, Cluster, Database, Partner, Reply, Sidecar, be_issuer, parameter};

const PASSWORD: &str = "correct horse";

struct World {
    _cluster: Cluster,
    database: Database,
    api: Sidecar,
    workspace: i64,
}

/// A sidecar with a workspace that the first user owns.
async fn world() -> Result<World> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let api = Sidecar::start_as_root_with(&database.url(), be_issuer).await?;
    let sql = "WITH w AS (INSERT INTO integratedb.workspace (name) VALUES ('Shop') RETURNING id) \
               INSERT INTO integratedb.workspace_member (workspace_id, user_id, role) \
               SELECT w.id, u.id, 'owner' FROM w, integratedb.users u RETURNING workspace_id";
    let workspace = database.connect().await?.query_one(sql, &[]).await?.get(0);
    Ok(World { _cluster: cluster, database, api, workspace })
}

impl World {
    /// What a token gets at the caches.
    async fn caches(&self, token: &str) -> Result<StatusCode> {
        let request = self.api.http().get(self.api.url("/api/v1/caches")).bearer_auth(token);
        Ok(request.send().await?.status())
    }

    async fn actions(&self) -> Result<Vec<String>> {
        let sql = "SELECT action FROM integratedb.audit_event \
                   WHERE action ~ '^(application|authorization)' ORDER BY id";
        let rows = self.database.connect().await?.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

fn text<'a>(reply: &'a Reply, name: &str) -> Result<&'a str> {
    reply.body[name].as_str().with_context(|| format!("no {name}: {}", reply.text))
}

#[tokio::test]
async fn a_partner_gets_a_token_renews_it_and_loses_it() -> Result<()> {
    let world = world().await?;
    let api = &world.api;
    let partner = Partner::register(api, "Partner", "caches:read caches:write").await?;
    let mut browser = Browser::new(&api.url(""))?;
    let to = browser.allow(&partner.address(), "root", PASSWORD, world.workspace).await?;
    assert!(to.starts_with(&format!("{}?code=", Partner::REDIRECT)), "{to}");
    assert_eq!(parameter(&to, "state").as_deref(), Some("a state & more"));
    assert_eq!(parameter(&to, "iss"), Some(api.url("")));
    let first = partner.trade(api, &parameter(&to, "code").context("no code")?).await?;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    assert_eq!(first.headers["cache-control"], "no-store");
    assert_eq!(first.body["token_type"], "Bearer");
    assert_eq!(first.body["expires_in"], 3600);
    assert_eq!(first.body["scope"], "caches:read caches:write");
    assert_eq!(world.caches(text(&first, "access_token")?).await?, StatusCode::OK);

    let second = partner.refresh(api, text(&first, "refresh_token")?).await?;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    let token = text(&second, "access_token")?;
    assert_eq!(world.caches(token).await?, StatusCode::OK);
    assert_eq!(world.caches(text(&first, "access_token")?).await?, StatusCode::UNAUTHORIZED);

    let listed = api.get("/api/v1/oauth/authorizations").await?;
    let authorization = &listed.body["data"][0];
    assert_eq!(authorization["application"]["name"], "Partner");
    assert_eq!(authorization["workspace"]["name"], "Shop");
    let path = format!("/api/v1/oauth/authorizations/{}", authorization["id"]);
    assert_eq!(api.delete(&path).await?.status, StatusCode::NO_CONTENT);
    assert_eq!(world.caches(token).await?, StatusCode::UNAUTHORIZED);
    let refused = partner.refresh(api, text(&second, "refresh_token")?).await?;
    assert_eq!(refused.body["error"], "invalid_grant");
    assert_eq!(api.delete(&path).await?.status, StatusCode::NOT_FOUND);
    let actions = ["application.create", "authorization.create", "authorization.revoke"];
    assert_eq!(world.actions().await?, actions);
    Ok(())
}
