//! Sync over REST: Zync's endpoints, tenants, integrations, models, and what must never be shown.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use integratedb_sidecar::Config;
use integratedb_sidecar::secret::Secret;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Cluster, Database, Reply, Sidecar, key_file, until};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What notifiers know.
const TOKEN: &str = "n0tifier";

/// What the API of a tenant asks for.
const ACCESS: &str = "acc3ss";

/// A database, a sidecar that has a key and a token, and what it was given.
struct World {
    cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
    _key: NamedTempFile,
}

impl World {
    /// One that fetches and pushes nothing, so that what is due stays so.
    async fn idle() -> Result<Self> {
        Self::start(|config| config.sync.enabled = false).await
    }

    async fn start(adjust: impl FnOnce(&mut Config)) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let key = key_file()?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            config.sync.token = Some(Secret::new(TOKEN.to_owned()));
            config.sync.key_file = Some(key.path().to_owned());
            config.sync.allow_networks = "127.0.0.0/8".parse().into_iter().collect();
            adjust(config);
        })
        .await?;
        Ok(Self { cluster, database, sidecar, _key: key })
    }

    /// PUT as a notifier.
    async fn say(&self, path: &str, body: Value) -> Result<Reply> {
        self.say_with(path, body, Some(&format!("Token token=\"{TOKEN}\""))).await
    }

    async fn say_with(&self, path: &str, body: Value, token: Option<&str>) -> Result<Reply> {
        let mut request = self.sidecar.http().put(self.sidecar.url(path)).json(&body);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        Reply::of(request.send().await?).await
    }

    async fn tenant(&self, id: i64, endpoint: &str) -> Result<()> {
        let tenant = json!({"tenant": {"id": id, "endpoint": endpoint, "access_token": ACCESS}});
        let set = self.say("/tenant", tenant).await?;
        ensure!(set.status.is_success(), "{set:?}");
        Ok(())
    }

    /// Notifies of an application of the service 5.
    async fn application(&self, tenant: i64, id: i64) -> Result<i64> {
        let body = json!({"type": "Application", "id": id, "service_id": 5, "tenant_id": tenant});
        let said = self.say("/notification", body).await?;
        said.body["id"].as_i64().with_context(|| format!("{said:?}"))
    }

    /// A number from the database.
    async fn count(&self, sql: &str) -> Result<i64> {
        Ok(self.database.connect().await?.query_one(sql, &[]).await?.get(0))
    }

    /// What a request with a body is answered with: status, and the pointers of what is wrong.
    async fn wrong(&self, method: Method, path: &str, body: Value) -> Result<(u16, Vec<String>)> {
        let reply = self.sidecar.send(method, path, Some(body.to_string())).await?;
        let detail = reply.body["errors"]["detail"].as_array().cloned().unwrap_or_default();
        let pointers = detail.iter().filter_map(|mistake| mistake[1].as_str().map(str::to_owned));
        Ok((reply.status.as_u16(), pointers.collect()))
    }
}

/// The API of a tenant: has any application, unless told otherwise.
#[derive(Clone)]
struct Source {
    /// Answers as many requests as there are permits.
    gate: Arc<Semaphore>,
    asked: Arc<AtomicUsize>,
    is_refusing: Arc<AtomicBool>,
}

impl Source {
    async fn start(permits: usize) -> Result<(Self, String)> {
        let source = Self {
            gate: Arc::new(Semaphore::new(permits)),
            asked: Arc::default(),
            is_refusing: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(answer).with_state(source.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((source, url))
    }
}

async fn answer(State(source): State<Source>) -> Response {
    source.asked.fetch_add(1, Ordering::SeqCst);
    let Ok(permit) = source.gate.acquire().await else {
        return StatusCode::GONE.into_response();
    };
    permit.forget();
    if source.is_refusing.load(Ordering::SeqCst) {
        return (StatusCode::FORBIDDEN, "s3cret of the source").into_response();
    }
    axum::Json(json!({"application": {"id": 3, "client_id": "c3", "user_key": "s3cret of the application"}}))
        .into_response()
}

#[tokio::test]
async fn clients_of_zync_are_answered_as_by_zync() -> Result<()> {
    let world = World::idle().await?;
    let body = json!({"type": "Application", "id": 3, "service_id": 5, "tenant_id": 16});
    for token in [None, Some("Token token=\"other\""), Some("Basic bjB0aWZpZXI="), Some("Token")] {
        for path in ["/notification", "/tenant"] {
            let refused = world.say_with(path, body.clone(), token).await?;
            assert_eq!(refused.status, 401, "{path} {token:?}: {refused:?}");
            assert_eq!(refused.headers["www-authenticate"], "Token realm=\"Application\"");
            assert!(refused.body["errors"]["detail"].is_string());
        }
    }
    assert_eq!(world.say("/notification", body.clone()).await?.status, 404, "no such tenant");

    let tenant =
        json!({"tenant": {"id": 16, "endpoint": "http://127.0.0.1:1", "access_token": ACCESS}});
    let forms =
        ["Token token=\"n0tifier\"", "Token token=n0tifier", "Token n0tifier", "Bearer n0tifier"];
    for (at, form) in forms.into_iter().enumerate() {
        let set = world.say_with("/tenant", tenant.clone(), Some(form)).await?;
        assert_eq!(
            (set.status.as_u16(), set.text.as_str()),
            (if at == 0 { 201 } else { 204 }, ""),
            "{form}"
        );
    }
    assert_eq!(
        world.count("SELECT version FROM integratedb.sync_tenant").await?,
        1,
        "nothing is another"
    );

    let said = world.say("/notification", body.clone()).await?;
    assert_eq!(said.status, 201, "{said:?}");
    let fields: BTreeSet<&str> =
        said.body.as_object().context("no object")?.keys().map(String::as_str).collect();
    let expected = ["id", "tenant_id", "record_type", "record_id", "created_at", "updated_at"];
    assert_eq!(fields, BTreeSet::from(expected));
    assert_eq!(
        (&said.body["tenant_id"], &said.body["record_type"], &said.body["record_id"]),
        (&json!(16), &json!("Application"), &json!(3))
    );
    let again = world.say("/notification", body).await?;
    assert_eq!((again.status.as_u16(), &again.body["id"]), (201, &said.body["id"]));
    assert_eq!(again.body["created_at"], said.body["created_at"]);

    for (body, field) in [
        (json!({"type": "Nothing", "id": 3, "tenant_id": 16}), "type"),
        (json!({"id": 3, "tenant_id": 16}), "type"),
        (json!({"type": "Application", "id": "x", "service_id": 5, "tenant_id": 16}), "id"),
        (json!({"type": "Application", "id": 3, "tenant_id": 16}), "service_id"),
        (json!({"type": "Application", "id": 3, "service_id": 5}), "tenant_id"),
        (json!({"type": "Application", "id": 3, "service_id": 5, "tenant_id": {}}), "tenant_id"),
        (
            json!({"type": "Application", "id": 3, "service_id": 5, "tenant_id": 16, "x": "a\0"}),
            "x",
        ),
    ] {
        let wrong = world.say("/notification", body.clone()).await?;
        assert_eq!(wrong.status, 422, "{body}: {wrong:?}");
        assert!(wrong.body["errors"][field][0].is_string(), "{body}: {wrong:?}");
    }
    for (id, endpoint, access, fields) in [
        (json!(17), json!(""), json!("t"), vec!["endpoint"]),
        (json!(17), json!("no url"), json!("t"), vec!["endpoint"]),
        (json!(17), json!("http://10.0.0.1"), json!("t"), vec!["endpoint"]),
        (json!(17), json!("http://127.0.0.1"), json!("x".repeat(256)), vec!["access_token"]),
        (json!(-1), Value::Null, Value::Null, vec!["access_token", "endpoint", "id"]),
    ] {
        let body = json!({"tenant": {"id": id, "endpoint": endpoint, "access_token": access}});
        let wrong = world.say("/tenant", body).await?;
        assert_eq!(wrong.status, 422, "{wrong:?}");
        let told = wrong.body["errors"].as_object().context("no errors")?;
        assert_eq!(told.keys().collect::<Vec<_>>(), fields, "{wrong:?}");
    }
    assert_eq!(world.sidecar.get("/status/live").await?.body, json!({"ok": true}));
    let ready = world.sidecar.get("/status/ready").await?;
    assert_eq!((ready.status.as_u16(), ready.body), (200, json!({"database": true, "ok": true})));
    Ok(())
}

#[tokio::test]
async fn who_is_not_ready_says_so_as_zync_does() -> Result<()> {
    let mut world = World::idle().await?;
    world.cluster.stop_immediately();
    let ready = world.sidecar.get("/status/ready").await?;
    assert_eq!((ready.status.as_u16(), ready.body), (503, json!({"database": false, "ok": false})));
    assert_eq!(world.sidecar.get("/status/live").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn without_a_token_and_without_a_key_it_is_said_what_to_set() -> Result<()> {
    let world = World::start(|config| config.sync.token = None).await?;
    let said = world.say("/notification", json!({})).await?;
    assert_eq!(said.status, 403);
    assert!(said.text.contains("sync.token"), "{said:?}");

    let world = World::start(|config| config.sync.key_file = None).await?;
    let tenant =
        json!({"tenant": {"id": 16, "endpoint": "https://example.com", "access_token": ACCESS}});
    let set = world.say("/tenant", tenant).await?;
    assert_eq!(set.status, 422);
    assert!(set.text.contains("sync.key_file"), "{set:?}");
    assert_eq!(world.count("SELECT count(*) FROM integratedb.sync_tenant").await?, 0);
    Ok(())
}

#[tokio::test]
async fn of_two_hundred_notifications_at_once_all_count() -> Result<()> {
    let world = Arc::new(World::idle().await?);
    world.tenant(16, "http://127.0.0.1:1").await?;
    let mut said = tokio::task::JoinSet::new();
    // More at once would wait longer for a connection than one waits.
    let turns = Arc::new(Semaphore::new(50));
    for n in 0..200 {
        let (world, turns) = (Arc::clone(&world), Arc::clone(&turns));
        // Ten models. Half are below one another, and each names its parent first or last.
        said.spawn(async move {
            let _turn = turns.acquire().await?;
            let id = n % 10;
            let body = match id % 3 {
                0 => json!({"type": "UsageLimit", "id": id, "metric_id": 1, "plan_id": n, "tenant_id": 16}),
                1 => json!({"type": "Metric", "id": id, "service_id": 5, "tenant_id": 16}),
                _ => json!({"type": "Service", "id": id, "tenant_id": 16}),
            };
            world.say("/notification", body).await
        });
    }
    while let Some(said) = said.join_next().await {
        let said = said??;
        assert_eq!(said.status, 201, "{said:?}");
    }
    for (sql, expected) in [
        ("SELECT count(*) FROM integratedb.sync_model", 10),
        ("SELECT sum(notified)::bigint FROM integratedb.sync_update WHERE due_at IS NOT NULL", 200),
        ("SELECT count(*) FROM integratedb.sync_notification", 200),
        // Service 5 is one of the ten.
        ("SELECT count(*) FROM integratedb.sync_record", 10),
        ("SELECT count(*) FROM integratedb.sync_record WHERE parent_id IS NOT NULL", 7),
    ] {
        assert_eq!(world.count(sql).await?, expected, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn tenants_and_their_classes_are_shown_defined_and_removed() -> Result<()> {
    let world = World::idle().await?;
    let api = &world.sidecar;
    let path = "/api/v1/sync/tenants/16";
    for (method, path) in [
        (Method::GET, path),
        (Method::DELETE, path),
        (Method::GET, "/api/v1/sync/tenants/x"),
        (Method::GET, "/api/v1/sync/tenants/16/classes"),
        (Method::GET, "/api/v1/sync/tenants/16/models"),
        (Method::GET, "/api/v1/sync/tenants/16/integrations"),
    ] {
        assert_eq!(api.send(method, path, None).await?.status, 404, "{path}");
    }
    world.tenant(16, "http://127.0.0.1:1").await?;
    world.tenant(17, "http://127.0.0.1:1").await?;
    let page = api.get("/api/v1/sync/tenants?limit=1").await?;
    assert_eq!((&page.body["data"][0]["id"], &page.body["next"]), (&json!(16), &json!(16)));
    let page = api.get("/api/v1/sync/tenants?after=16").await?;
    assert_eq!((&page.body["data"][0]["id"], &page.body["next"]), (&json!(17), &Value::Null));
    assert_eq!(api.get("/api/v1/sync/tenants?x=1").await?.status, 400);
    world.application(16, 3).await?;
    let shown = api.get(path).await?;
    assert_eq!(
        (&shown.body["data"]["models"], &shown.body["data"]["updates"]["due"]),
        (&json!(1), &json!(1))
    );
    assert!(!shown.text.contains(ACCESS), "{}", shown.text);

    // A class of its own.
    let class = format!("{path}/classes/Plan");
    let plan = json!({"class": {"key": "id", "parent": {"class": "Service", "field": "service_id"},
        "path": "/admin/api/services/{service_id}/plans/{id}.json", "member": "plan"}});
    let said = json!({"type": "Plan", "id": 7, "service_id": 5, "tenant_id": 16});
    assert_eq!(world.say("/notification", said.clone()).await?.status, 422);
    assert_eq!(api.get(&class).await?.status, 404);
    assert_eq!(api.put(&class, plan.clone()).await?.status, 201);
    assert_eq!(api.put(&class, plan.clone()).await?.status, 200);
    assert_eq!(api.get(&class).await?.body["data"]["definition"], plan["class"]);
    assert_eq!(api.get(&format!("{path}/classes")).await?.body["data"][0]["name"], "Plan");
    assert_eq!(world.say("/notification", said.clone()).await?.status, 201);
    assert_eq!(api.put("/api/v1/sync/tenants/99/classes/Plan", plan).await?.status, 404);
    for (wrong, pointers) in [
        (json!({"class": {"key": 7}}), vec!["#/class/key"]),
        (json!({"class": {"key": "id", "path": "/{x}"}}), vec!["#/class/path"]),
        (json!({"class": {"key": "a\0"}}), vec!["#/class"]),
    ] {
        let (status, told) = world.wrong(Method::PUT, &class, wrong.clone()).await?;
        assert_eq!(
            (status, told),
            (422, pointers.into_iter().map(str::to_owned).collect()),
            "{wrong}"
        );
    }
    assert_eq!(api.delete(&class).await?.status, 204);
    assert_eq!(api.delete(&class).await?.status, 404);
    assert_eq!(api.get(&format!("{path}/classes/%00")).await?.status, 404);
    assert_eq!(world.say("/notification", said).await?.status, 422);

    assert_eq!(api.delete(path).await?.status, 204);
    assert_eq!(api.get(path).await?.status, 404);
    assert_eq!(world.count("SELECT count(*) FROM integratedb.sync_record").await?, 0);
    assert_eq!(api.get("/api/v1/sync/tenants/17").await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn all_of_it_asks_for_a_token() -> Result<()> {
    let world = World::idle().await?;
    let document = world.sidecar.get("/api/v1/openapi.json").await?.body;
    let mut count = 0;
    for (path, item) in document["paths"].as_object().context("no paths")? {
        let is_of_sync = item.as_object().is_some_and(|item| {
            item.values().any(|operation| operation["tags"] == json!(["sync"]))
        });
        if !is_of_sync || path.starts_with("/status/") {
            continue;
        }
        for (method, operation) in item.as_object().context("no operations")? {
            let asked = path.replace("{id}", "1").replace("{name}", "x").replace("{class}", "x");
            let asked = asked
                .replace("{integration}", "1")
                .replace("{model}", "1")
                .replace("{replay}", "1");
            let url = world.sidecar.url(&asked);
            let method: Method = method.to_uppercase().parse()?;
            let request = world.sidecar.http().request(method.clone(), url);
            let refused =
                request.header("content-type", "application/json").body("{}").send().await?;
            assert_eq!(refused.status(), 401, "{method} {path}");
            assert!(operation["summary"].is_string(), "{method} {path} says what it does");
            if let Some(body) = operation.get("requestBody") {
                let name = body["content"]["application/json"]["schema"]["$ref"]
                    .as_str()
                    .context("a schema")?;
                let schema =
                    document.pointer(name.trim_start_matches('#')).context("it is there")?;
                assert!(
                    schema.to_string().contains("\"example\""),
                    "{method} {path} has an example: {schema}"
                );
            }
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
    Ok(())
}

#[tokio::test]
async fn what_comes_back_for_a_tenant_that_was_removed_is_ignored() -> Result<()> {
    let world = World::start(|_| {}).await?;
    let (source, url) = Source::start(0).await?;
    world.tenant(16, &url).await?;
    for id in 0..20 {
        world.application(16, id).await?;
    }
    until("fetches are under way", async || Ok(source.asked.load(Ordering::SeqCst) > 0)).await?;
    let removed = world.sidecar.delete("/api/v1/sync/tenants/16").await?;
    assert_eq!(removed.status, 204, "{removed:?}");
    source.gate.add_permits(1000);
    // Another tenant's work is done after it.
    world.tenant(17, &url).await?;
    let model = world.application(17, 3).await?;
    let path = format!("/api/v1/sync/tenants/17/models/{model}");
    until("the other tenant's model is fetched", async || {
        Ok(world.sidecar.get(&path).await?.body["data"]["update"]["entry_id"].is_i64())
    })
    .await?;
    for table in ["record", "model", "update", "entry", "notification"] {
        let sql = format!("SELECT count(*) FROM integratedb.sync_{table} WHERE tenant_id = 16");
        assert_eq!(world.count(&sql).await?, 0, "{table}");
    }
    let said = json!({"type": "Service", "id": 5, "tenant_id": 16});
    assert_eq!(world.say("/notification", said).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn a_model_says_what_is_wrong_and_is_fetched_when_it_is_asked_for() -> Result<()> {
    let world = World::start(|config| config.sync.retry_secs = 3600).await?;
    let (source, url) = Source::start(1000).await?;
    source.is_refusing.store(true, Ordering::SeqCst);
    world.tenant(16, &url).await?;
    let model = world.application(16, 3).await?;
    let path = format!("/api/v1/sync/tenants/16/models/{model}");
    let api = &world.sidecar;
    let failed = async || Ok(api.get(&path).await?.body["data"]["update"]["success"] == false);
    until("the fetch fails", failed).await?;
    let shown = api.get(&path).await?;
    let update = &shown.body["data"]["update"];
    assert!(update["error"].as_str().is_some_and(|why| why.contains("403")), "{}", shown.text);
    assert!(update["next_attempt_at"].is_string());
    let failing = api.get("/api/v1/sync/tenants/16/models?state=failing").await?;
    assert_eq!(failing.body["data"][0]["id"], model);
    let status = api.get("/api/v1/sync/status").await?;
    assert_eq!(status.body["data"]["queue"]["updates"]["failing"], 1, "{}", status.text);
    let metrics = api.get("/metrics").await?.text;
    for line in [
        "integratedb_sync_fetches_total{outcome=\"failed\"} 1\n",
        "integratedb_sync_failing{work=\"fetch\",kind=\"http\"} 1\n",
        "integratedb_sync_in_flight{work=\"push\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }

    // Asked for, it is fetched before its time.
    source.is_refusing.store(false, Ordering::SeqCst);
    assert_eq!(api.post(&format!("{path}/notify"), json!({})).await?.status, 202);
    until("it is fetched", async || {
        Ok(api.get(&path).await?.body["data"]["update"]["success"] == true)
    })
    .await?;
    let entries = api.get(&format!("{path}/entries")).await?;
    let entry = &entries.body["data"][0];
    assert_eq!(
        (&entry["is_sealed"], &entry["data"], &entry["is_gone"]),
        (&json!(true), &Value::Null, &json!(false))
    );
    // So is one whose source was out of reach, as soon as its tenant is another.
    let before = source.asked.load(Ordering::SeqCst);
    source.is_refusing.store(true, Ordering::SeqCst);
    assert_eq!(api.post(&format!("{path}/notify"), json!({})).await?.status, 202);
    until("the fetch fails", failed).await?;
    source.is_refusing.store(false, Ordering::SeqCst);
    let tenant = json!({"tenant": {"id": 16, "endpoint": url, "access_token": "another"}});
    assert_eq!(world.say("/tenant", tenant).await?.status, 204);
    until("it is fetched", async || {
        Ok(api.get(&path).await?.body["data"]["update"]["success"] == true)
    })
    .await?;
    assert!(source.asked.load(Ordering::SeqCst) > before + 1);
    for (method, path) in [
        (Method::GET, "/api/v1/sync/tenants/16/models/999"),
        (Method::GET, "/api/v1/sync/tenants/16/models/999/entries"),
        (Method::POST, "/api/v1/sync/tenants/16/models/999/notify"),
        (Method::GET, "/api/v1/sync/tenants/16/models/x"),
    ] {
        assert_eq!(api.send(method, path, None).await?.status, 404, "{path}");
    }
    for query in ["state=odd", "limit=x", "class=%00"] {
        assert_eq!(
            api.get(&format!("/api/v1/sync/tenants/16/models?{query}")).await?.status,
            400,
            "{query}"
        );
    }
    // Neither what the API asks for nor what it says is in the database's log, or in a dump.
    let log = world.cluster.log();
    assert!(log.contains("sync_entry"), "the log is the one we mean");
    let dump = world.cluster.program("pg_dump").arg(world.database.url()).output()?;
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.contains("sync_entry"));
    for secret in [ACCESS, "s3cret", TOKEN] {
        assert!(!log.contains(secret) && !dump.contains(secret), "{secret}");
    }
    Ok(())
}

/// A target of kind `http` that keeps what it is sent: the header `x-secret` and the path of each.
#[derive(Clone, Default)]
struct Target(Arc<Mutex<Vec<(String, String)>>>);

impl Target {
    async fn start() -> Result<(Self, String)> {
        let target = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(take).with_state(target.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((target, url))
    }

    fn taken(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn take(State(target): State<Target>, request: Request) -> StatusCode {
    let secret = request.headers().get("x-secret").and_then(|value| value.to_str().ok());
    let taken = (secret.unwrap_or_default().to_owned(), request.uri().path().to_owned());
    target.0.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
    StatusCode::NO_CONTENT
}

/// An integration for a [`Target`].
fn integration(name: &str, url: &str) -> Value {
    let request = |method: &str| json!({"method": method, "url": format!("{url}/{{{{ class }}}}/{{{{ key }}}}")});
    json!({"integration": {"name": name, "kind": "http", "classes": ["Application"], "settings": {
        "upsert": request("PUT"), "delete": request("DELETE"), "secret_headers": {"x-secret": "s3cret"}}}})
}

const INTEGRATIONS: &str = "/api/v1/sync/tenants/16/integrations";

#[tokio::test]
async fn an_integration_is_made_changed_disabled_and_removed() -> Result<()> {
    let world = World::start(|_| {}).await?;
    let api = &world.sidecar;
    let ((_, source), (target, url)) = (Source::start(1000).await?, Target::start().await?);
    world.tenant(16, &source).await?;
    let model = world.application(16, 3).await?;
    let path = format!("/api/v1/sync/tenants/16/models/{model}");
    let fetched = async || Ok(api.get(&path).await?.body["data"]["update"]["success"] == true);
    until("it is fetched", fetched).await?;

    // What is there is pushed.
    let made = api.post(INTEGRATIONS, integration("there", &url)).await?;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["data"]["id"].as_i64().context("no id")?;
    let one = format!("{INTEGRATIONS}/{id}");
    assert_eq!(made.headers["location"], one.as_str());
    let pushed = ("s3cret".to_owned(), "/Application/3".to_owned());
    until("it is pushed", async || Ok(target.taken() == [pushed.clone()])).await?;
    until("it is known to be there", async || {
        Ok(api.get(&one).await?.body["data"]["status"]["present"] == 1)
    })
    .await?;
    let shown = api.get(&one).await?;
    for reply in [&made, &shown, &api.get(INTEGRATIONS).await?, &api.get(&path).await?] {
        assert!(!reply.text.contains("s3cret"), "{}", reply.text);
    }

    // As it was shown, with another name: the secret stays, and nothing is pushed for that.
    let mut same = json!({"integration": {}});
    for member in ["kind", "classes", "model", "concurrency", "settings"] {
        same["integration"][member] = shown.body["data"][member].clone();
    }
    same["integration"]["name"] = "elsewhere".into();
    let put = api.put(&one, same.clone()).await?;
    assert_eq!(
        (put.status.as_u16(), &put.body["data"]["name"]),
        (200, &json!("elsewhere")),
        "{put:?}"
    );
    assert_eq!(put.body["data"]["status"]["pushes"]["due"], 0, "{put:?}");
    assert_eq!(api.post(&format!("{path}/notify"), Value::Null).await?.status, 202);
    until("it is pushed again", async || Ok(target.taken().len() == 2)).await?;
    assert_eq!(target.taken()[1], pushed);

    // Disabled, it waits.
    let disabled = api.post(&format!("{one}/disable"), Value::Null).await?;
    assert_eq!(
        (disabled.status.as_u16(), &disabled.body["data"]["state"]),
        (200, &json!("disabled"))
    );
    assert_eq!(api.post(&format!("{path}/notify"), Value::Null).await?.status, 202);
    let entries = format!("SELECT count(*) FROM integratedb.sync_entry WHERE model_id = {model}");
    until("it is fetched again", async || Ok(world.count(&entries).await? == 3)).await?;
    assert_eq!(target.taken().len(), 2);
    let enabled = api.post(&format!("{one}/enable"), Value::Null).await?;
    assert_eq!(enabled.body["data"]["state"], "active");
    until("it is pushed again", async || Ok(target.taken().len() == 3)).await?;

    // Another scope: only what is below service 5, of which nobody was notified; then nothing.
    let at = format!("/api/v1/sync/tenants/16/models?integration={id}");
    same["integration"]["model"] = json!({"class": "Service", "key": 5});
    assert_eq!(api.put(&one, same.clone()).await?.status, 200);
    assert_eq!(api.get(&at).await?.body["data"][0]["id"], model);
    until("it is pushed once more", async || Ok(target.taken().len() == 4)).await?;
    same["integration"]["classes"] = json!(["Metric"]);
    assert_eq!(api.put(&one, same.clone()).await?.status, 200);
    assert_eq!(api.get(&at).await?.body["data"], json!([]));

    for (change, pointer) in [
        (json!({"name": "a b"}), "name"),
        (json!({"kind": "mail"}), "kind"),
        (json!({"settings": {}}), "settings"),
        (json!({"classes": []}), "classes"),
        (json!({"model": {"class": "Service", "key": "99"}}), "model"),
        (json!({"concurrency": 0}), "concurrency"),
        (json!({"name": "elsewhere"}), "name"),
        (json!({"settings": {"a": "\0"}}), ""),
        (json!({"odd": 1}), "odd"),
    ] {
        let mut body = integration("another", &url);
        for (name, value) in change.as_object().context("an object")? {
            body["integration"][name] = value.clone();
        }
        let (status, told) = world.wrong(Method::POST, INTEGRATIONS, body).await?;
        let pointer = format!("#/integration/{pointer}");
        assert_eq!(
            (status, told.first().map(String::as_str)),
            (422, Some(pointer.trim_end_matches('/'))),
            "{change}"
        );
    }
    assert_eq!(api.delete(&one).await?.status, 204);
    for (method, path) in [
        (Method::GET, one.clone()),
        (Method::DELETE, one.clone()),
        (Method::POST, format!("{one}/enable")),
        (Method::POST, format!("{one}/disable")),
        (Method::GET, format!("{one}/replays")),
        (Method::GET, format!("{INTEGRATIONS}/x")),
    ] {
        assert_eq!(api.send(method, &path, None).await?.status, 404, "{path}");
    }
    assert_eq!(api.put(&one, same).await?.status, 404);
    assert!(!world.cluster.log().contains("s3cret"));
    Ok(())
}

#[tokio::test]
async fn an_integration_that_is_made_while_an_entry_is_appended_gets_it() -> Result<()> {
    let world = Arc::new(World::start(|_| {}).await?);
    let ((source, source_url), (target, url)) = (Source::start(0).await?, Target::start().await?);
    world.tenant(16, &source_url).await?;
    world.application(16, 3).await?;
    until("it is fetched", async || Ok(source.asked.load(Ordering::SeqCst) == 1)).await?;
    // Whoever appends the entry has looked which integrations there are, and then has to wait.
    let mut client = world.database.connect().await?;
    let held = client.transaction().await?;
    held.query("SELECT FROM integratedb.sync_update FOR UPDATE", &[]).await?;
    source.gate.add_permits(1000);
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("the entry is about to be appended", async || Ok(world.count(waiting).await? == 1))
        .await?;
    let making = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.sidecar.post(INTEGRATIONS, integration("there", &url)).await }
    });
    until("the integration is made, or waits", async || {
        Ok(making.is_finished() || world.count(waiting).await? == 2)
    })
    .await?;
    held.commit().await?;
    let made = making.await??;
    assert_eq!(made.status, 201, "{made:?}");
    until("the entry is pushed", async || Ok(target.taken().len() == 1)).await
}

#[tokio::test]
async fn replays_are_asked_for_shown_and_cancelled() -> Result<()> {
    let world = World::idle().await?;
    let api = &world.sidecar;
    world.tenant(16, "http://127.0.0.1:1").await?;
    let made = api.post(INTEGRATIONS, integration("there", "http://127.0.0.1:1")).await?;
    let id = made.body["data"]["id"].as_i64().with_context(|| format!("{made:?}"))?;
    let replays = format!("{INTEGRATIONS}/{id}/replays");
    for (body, pointer) in [
        (json!({}), "#/replay"),
        (json!({"replay": {}}), "#/replay/dry_run"),
        (json!({"replay": {"dry_run": 1}}), "#/replay/dry_run"),
        (json!({"replay": {"dry_run": true, "odd": 1}}), "#/replay/odd"),
    ] {
        let (status, told) = world.wrong(Method::POST, &replays, body.clone()).await?;
        assert_eq!((status, told.first().map(String::as_str)), (422, Some(pointer)), "{body}");
    }
    let made = api.post(&replays, json!({"replay": {"dry_run": true}})).await?;
    assert_eq!(
        (made.status.as_u16(), &made.body["data"]["is_dry_run"]),
        (201, &json!(true)),
        "{made:?}"
    );
    let one = format!("{replays}/{}", made.body["data"]["id"]);
    assert_eq!(made.headers["location"], one.as_str());
    assert_eq!(api.post(&replays, json!({"replay": {"dry_run": true}})).await?.status, 409);
    assert_eq!(api.get(&one).await?.body["data"]["state"], "pending");
    assert_eq!(api.get(&replays).await?.body["data"][0], made.body["data"]);
    let differences = api.get(&format!("{one}/differences?action=delete&limit=5")).await?;
    assert_eq!(differences.body, json!({"data": [], "next": null}));
    assert_eq!(api.get(&format!("{one}/differences?action=odd")).await?.status, 400);
    let cancelled = api.post(&format!("{one}/cancel"), Value::Null).await?;
    assert_eq!(
        (cancelled.status.as_u16(), &cancelled.body["data"]["state"]),
        (200, &json!("cancelled"))
    );
    assert_eq!(api.post(&format!("{one}/cancel"), Value::Null).await?.status, 409);
    assert_eq!(api.post(&format!("{INTEGRATIONS}/{id}/disable"), Value::Null).await?.status, 200);
    assert_eq!(api.post(&replays, json!({"replay": {"dry_run": false}})).await?.status, 409);
    for path in
        [format!("{replays}/999"), format!("{replays}/999/differences"), format!("{replays}/x")]
    {
        assert_eq!(api.get(&path).await?.status, 404, "{path}");
    }
    assert_eq!(api.post(&format!("{replays}/999/cancel"), Value::Null).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn a_stakeholders_tables_are_sources_and_what_belongs_to_it_is_at_its_own_path() -> Result<()>
{
    let world = World::idle().await?;
    let api = &world.sidecar;
    let client = world.database.connect().await?;
    client.batch_execute("CREATE TABLE items (id int PRIMARY KEY, name text)").await?;
    let made =
        api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "billing"}})).await?;
    let path = format!("/api/v1/stakeholders/{}", made.body["data"]["id"]);
    // Nobody has declared anything yet.
    for list in ["sources", "models", "integrations"] {
        let empty = api.get(&format!("{path}/{list}")).await?;
        assert_eq!((empty.status.as_u16(), &empty.body["data"]), (200, &json!([])), "{list}");
        let nobody = api.get(&format!("/api/v1/stakeholders/99/{list}")).await?;
        assert_eq!(nobody.status, 404, "{list}");
    }
    let (_, url) = Target::start().await?;
    let there = api.post(&format!("{path}/integrations"), integration("there", &url)).await?;
    assert_eq!(there.status, 201, "{there:?}");
    let one = format!("{path}/integrations/{}", there.body["data"]["id"]);
    assert_eq!(there.headers["location"], one.as_str());
    assert_eq!(api.get(&one).await?.body["data"]["name"], "there");

    let source = format!("{path}/sources/items");
    assert_eq!(api.get(&source).await?.status, 404);
    let (status, told) = world.wrong(Method::PUT, &source, json!({"source": {"odd": 1}})).await?;
    assert_eq!((status, told), (422, vec!["#/source/odd".to_owned(), "#/source/table".to_owned()]));
    let claims = json!({"data": {"match": [{"path": "public.items", "fields": ["*"]}]}});
    assert_eq!(api.put(&format!("{path}/claims"), claims).await?.status, 200);
    let told = json!({"path": "public.items", "events": ["*"], "fields": ["*"], "channels": ["*"]});
    let put = api.put(&format!("{path}/notifications"), json!({"data": {"match": [told]}})).await?;
    assert_eq!(put.status, 200, "{put:?}");
    let declared = json!({"source": {"table": "public.items"}});
    let put = api.put(&source, declared.clone()).await?;
    assert_eq!(
        (put.status.as_u16(), &put.body["data"]["class"]),
        (201, &json!("items")),
        "{put:?}"
    );
    assert_eq!(api.put(&source, declared.clone()).await?.status, 200);
    assert_eq!(api.get(&source).await?.body["data"]["source"]["table"], "public.items");
    assert_eq!(api.get(&format!("{path}/sources")).await?.body["data"][0]["class"], "items");
    assert_eq!(api.put("/api/v1/stakeholders/99/sources/items", declared).await?.status, 404);
    // It is one tenant, whoever made it, and found among the others.
    let tenants = api.get("/api/v1/sync/tenants").await?;
    let stakeholder = &made.body["data"]["id"];
    assert_eq!(
        (&tenants.body["data"][0]["stakeholder_id"], &tenants.body["data"][1]),
        (stakeholder, &Value::Null)
    );
    assert_eq!(api.delete(&source).await?.status, 204);
    assert_eq!(api.delete(&source).await?.status, 404);
    assert_eq!(api.delete(&one).await?.status, 204);
    Ok(())
}
