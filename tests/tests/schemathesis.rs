//! The API keeps to the document that describes it, whatever is sent.

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::cache::CachingSettings;
use integratedb_sidecar::secret::Secret;
use serde_json::json;
use support::{Cluster, Sidecar, add_caches, cache_id, schemathesis, until};

#[tokio::test]
async fn the_api_is_as_its_document_says() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let url = database.url();
    database
        .connect()
        .await?
        .batch_execute("CREATE TABLE public.orders (id int PRIMARY KEY, note text)")
        .await?;
    let mut added = Ok(());
    let api = Sidecar::start_as_root_with(&url, |config| {
        added = add_caches(config, &url);
        if let Some(cache) = config.caches.get_mut(&cache_id("pass")) {
            let url = Secret::new(url.clone());
            cache.caching = Some(CachingSettings { url, ..CachingSettings::default() });
        }
        // Without, whoever sets notifications waits for somebody who tells them.
        config.notifications.enabled = true;
        config.sync.token = Some(Secret::new("what Zync's clients send".to_owned()));
        // It is all one client's, in a hurry.
        config.requests_per_minute = 10_000_000;
        config.request_burst = 1_000_000;
        config.login_attempts_per_user = 1_000_000;
        config.login_attempts_per_address = 1_000_000;
    })
    .await?;
    added?;
    // Something of each kind to meet.
    let claims = json!({"data": {"match": [{"path": "public.orders", "fields": ["id"]}]}});
    for (path, body) in [
        ("/api/v1/stakeholders", json!({"stakeholder": {"name": "reporting"}})),
        ("/api/v1/stakeholders", json!({"stakeholder": {"name": "billing"}})),
        ("/api/v1/stakeholders", json!({"stakeholder": {"name": "shipping"}})),
        ("/api/v1/users", json!({"user": {"username": "ann", "password": "long enough"}})),
    ] {
        let made = api.post(path, body).await?;
        ensure!(made.status == 201, "{}", made.text);
    }
    let put = api.put("/api/v1/stakeholders/3/claims", claims).await?;
    ensure!(put.status == 200, "{}", put.text);
    until("the cache serves", async || {
        Ok(api.get("/metrics").await?.text.contains("state=\"streaming\"} 1"))
    })
    .await?;
    // Whoever sends all this has an id that nobody meets by chance.
    let client = database.connect().await?;
    client.batch_execute("ALTER TABLE integratedb.users ALTER id RESTART WITH 912673482").await?;
    let tester = json!({"user": {"username": "tester", "password": "long enough"}});
    let tester = api.post("/api/v1/users", tester).await?;
    client.batch_execute("ALTER TABLE integratedb.users ALTER id RESTART WITH 3").await?;
    let token = tester.body["data"]["token"].as_str().context("no token")?;
    schemathesis(&api.url("/api/v1/openapi.json"), token).await?;
    Ok(())
}
