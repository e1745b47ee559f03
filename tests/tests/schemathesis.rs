//! The API keeps to the document that describes it, whatever is sent.

use anyhow::{Result, ensure};
use integratedb_sidecar::cache::CachingSettings;
use integratedb_sidecar::secret::Secret;
use serde_json::json;
use support::{
    Cluster, Person, Sidecar, add_caches, be_notified, cache_id, key_file, say_tenant,
    schemathesis, until,
};

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
    let key = key_file()?;
    let mut added = Ok(());
    let api = Sidecar::start_as_root_with(&url, |config| {
        added = add_caches(config, &url);
        if let Some(cache) = config.caches.get_mut(&cache_id("pass")) {
            let url = Secret::new(url.clone());
            cache.caching = Some(CachingSettings { url, ..CachingSettings::default() });
        }
        // Without, whoever sets notifications waits for somebody who tells them.
        config.notifications.enabled = true;
        be_notified(config, &key);
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
    let tester = Person::new(&api, "tester", true).await?;
    client.batch_execute("ALTER TABLE integratedb.users ALTER id RESTART WITH 3").await?;
    // Of what belongs to somebody it meets what is its own.
    let application = json!({"application": {"name": "Partner", "scopes": ["caches:read"],
        "redirect_uris": ["https://partner.example/back"]}});
    for (path, body) in [
        ("/api/v1/workspaces", json!({"workspace": {"name": "Shop"}})),
        ("/api/v1/oauth/applications", application.clone()),
        ("/api/v1/workspaces/1/oauth/applications", application),
    ] {
        let made = tester.post(&api, path, body).await?;
        ensure!(made.status == 201, "{}", made.text);
    }
    let member = json!({"member": {"role": "viewer"}});
    let put = tester.put(&api, "/api/v1/workspaces/1/members/2", member).await?;
    ensure!(put.status == 200, "{}", put.text);
    say_tenant(&api, 16, "https://127.0.0.1:1").await?;
    schemathesis(&api.url("/api/v1/openapi.json"), &tester.token).await?;
    Ok(())
}
