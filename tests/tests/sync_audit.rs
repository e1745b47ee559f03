//! Who has changed what of sync: an event for each change over REST, none without, and nothing secret in any.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use support::{Cluster, Database, Reply, Sidecar, be_notified, key_file, say};
use tempfile::NamedTempFile;

/// A database and a sidecar that fetches and pushes nothing.
struct World {
    _cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
    _key: NamedTempFile,
}

/// What the audit log says of a change.
#[derive(Debug)]
struct Event {
    action: String,
    subject: String,
    username: Option<String>,
    before: Value,
    after: Value,
}

impl World {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let key = key_file()?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            config.sync.enabled = false;
            be_notified(config, &key);
        })
        .await?;
        Ok(Self { _cluster: cluster, database, sidecar, _key: key })
    }

    async fn tenant(&self, endpoint: &str, token: &str) -> Result<u16> {
        let tenant = json!({"tenant": {"id": 16, "endpoint": endpoint, "access_token": token}});
        Ok(say(&self.sidecar, "/tenant", &tenant).await?.status.as_u16())
    }

    /// Makes a change, and gives the answer.
    async fn change(&self, method: Method, path: &str, body: Value) -> Result<Reply> {
        let body = (!body.is_null()).then(|| body.to_string());
        let reply = self.sidecar.send(method, path, body).await?;
        ensure!(reply.status.is_success(), "{path}: {reply:?}");
        Ok(reply)
    }

    /// What was noted of sync since it was last asked for.
    async fn events(&self) -> Result<Vec<Event>> {
        let sql = "WITH told AS (DELETE FROM integratedb.audit_event RETURNING *)
            SELECT action, subject, username, before, after, address IS NOT NULL FROM told
            WHERE action ~ '^(tenant|class|source|integration|replay)[.]' ORDER BY id";
        let rows = self.database.connect().await?.query(sql, &[]).await?;
        let read = |row: &tokio_postgres::Row| {
            assert!(row.get::<_, bool>(5), "it came from somewhere");
            Event {
                action: row.get(0),
                subject: row.get(1),
                username: row.get(2),
                before: row.get::<_, Option<Value>>(3).unwrap_or_default(),
                after: row.get::<_, Option<Value>>(4).unwrap_or_default(),
            }
        };
        let events: Vec<Event> = rows.iter().map(read).collect();
        let told = format!("{events:?}");
        for secret in ["acc3ss", "an0ther", "s3cret", "n0tifier"] {
            assert!(!told.contains(secret), "{secret} in {told}");
        }
        Ok(events)
    }

    /// The one event since it was last asked.
    async fn event(&self, action: &str, subject: &str) -> Result<Event> {
        let mut events = self.events().await?;
        ensure!(events.len() == 1, "not one: {events:?}");
        let event = events.pop().context("an event")?;
        assert_eq!((event.action.as_str(), event.subject.as_str()), (action, subject), "{event:?}");
        Ok(event)
    }
}

const TENANT: &str = "/api/v1/sync/tenants/16";

#[tokio::test]
async fn a_tenant_of_zync_is_noted_where_it_changes_and_without_its_token() -> Result<()> {
    let world = World::start().await?;
    assert_eq!(world.tenant("https://127.0.0.1:1", "acc3ss").await?, 201);
    let made = world.event("tenant.put", TENANT).await?;
    assert_eq!((&made.username, &made.before), (&None, &Value::Null), "no user has done it");
    assert_eq!(made.after["endpoint"], "https://127.0.0.1:1");

    assert_eq!(world.tenant("https://127.0.0.1:1", "acc3ss").await?, 204);
    assert_eq!(world.events().await?.len(), 0, "nothing is another");
    assert_eq!(world.tenant("https://127.0.0.1:1", "an0ther").await?, 204);
    let token = world.event("tenant.put", TENANT).await?;
    assert_eq!(token.before["endpoint"], token.after["endpoint"]);
    assert!(token.before["updated_at"] != token.after["updated_at"], "{token:?}");
    assert_eq!(world.tenant("https://127.0.0.1:2", "an0ther").await?, 204);
    let moved = world.event("tenant.put", TENANT).await?;
    assert_eq!(
        (&moved.before["endpoint"], &moved.after["endpoint"]),
        (&json!("https://127.0.0.1:1"), &json!("https://127.0.0.1:2"))
    );
    assert_eq!(world.tenant("no address", "t").await?, 422);
    assert_eq!(world.events().await?.len(), 0, "it was refused");

    world.change(Method::DELETE, TENANT, Value::Null).await?;
    let gone = world.event("tenant.delete", TENANT).await?;
    assert_eq!(gone.username.as_deref(), Some("root"));
    assert_eq!((&gone.before["id"], &gone.after), (&json!(16), &Value::Null));
    assert_eq!(world.sidecar.delete(TENANT).await?.status, 404);
    assert_eq!(world.events().await?.len(), 0, "there was none");
    Ok(())
}

#[tokio::test]
async fn classes_and_sources_are_noted_with_what_they_were_before() -> Result<()> {
    let world = World::start().await?;
    world.tenant("https://127.0.0.1:1", "acc3ss").await?;
    world.events().await?;
    let class = format!("{TENANT}/classes/Plan");
    let plan = |path: &str| json!({"class": {"key": "id", "path": path, "member": "plan"}});
    world.change(Method::PUT, &class, plan("/plans/{id}.json")).await?;
    let made = world.event("class.put", &class).await?;
    assert_eq!((made.username.as_deref(), &made.before), (Some("root"), &Value::Null));
    world.change(Method::PUT, &class, plan("/plans/{id}.json")).await?;
    assert_eq!(world.events().await?.len(), 0, "nothing is another");
    world.change(Method::PUT, &class, plan("/all/{id}.json")).await?;
    let changed = world.event("class.put", &class).await?;
    assert_eq!(changed.before, made.after);
    assert_eq!(changed.after["definition"]["path"], "/all/{id}.json");
    world.change(Method::DELETE, &class, Value::Null).await?;
    assert_eq!(world.event("class.delete", &class).await?.before, changed.after);

    let client = world.database.connect().await?;
    client.batch_execute("CREATE TABLE items (id int PRIMARY KEY, name text)").await?;
    let body = json!({"stakeholder": {"name": "billing"}});
    let made = world.change(Method::POST, "/api/v1/stakeholders", body).await?;
    let id = made.body["data"]["id"].as_i64().context("an id")?;
    let source = format!("/api/v1/stakeholders/{id}/sources/items");
    let declared =
        |columns: Value| json!({"source": {"table": "public.items", "columns": columns}});
    // It claims nothing yet.
    assert_eq!(world.sidecar.put(&source, declared(json!(["id"]))).await?.status, 422);
    assert_eq!(world.events().await?.len(), 0, "it was refused");
    let claims = json!({"match": [{"path": "public.items", "fields": ["*"]}]}).to_string();
    let told = json!({"match": [{"path": "public.items", "events": ["*"], "fields": ["*"], "channels": ["*"]}]});
    let sql = "SELECT integratedb.put_spec($1, $2, $3)";
    client.execute(sql, &[&id, &"CLAIMS", &claims]).await?;
    client.execute(sql, &[&id, &"NOTIFICATIONS", &told.to_string()]).await?;
    world.change(Method::PUT, &source, declared(json!(["id"]))).await?;
    let made = world.event("source.put", &source).await?;
    assert_eq!((&made.before, &made.after["class"]), (&Value::Null, &json!("items")));
    world.change(Method::PUT, &source, declared(json!(["id", "name"]))).await?;
    let changed = world.event("source.put", &source).await?;
    assert_eq!(changed.before["source"], made.after["source"]);
    assert_eq!(changed.after["source"]["columns"], json!(["id", "name"]));
    world.change(Method::DELETE, &source, Value::Null).await?;
    assert_eq!(
        world.event("source.delete", &source).await?.before["source"],
        changed.after["source"]
    );
    Ok(())
}

#[tokio::test]
async fn integrations_and_replays_are_noted_without_what_is_secret() -> Result<()> {
    let world = World::start().await?;
    world.tenant("https://127.0.0.1:1", "acc3ss").await?;
    world.events().await?;
    let request = |method: &str| json!({"method": method, "url": "https://127.0.0.1:1/{{ key }}"});
    let wanted = |name: &str, secret: &str| {
        json!({"integration": {"name": name, "kind": "http", "settings": {"upsert": request("PUT"),
            "delete": request("DELETE"), "secret_headers": {"x-secret": secret}}}})
    };
    let all = format!("{TENANT}/integrations");
    let made = world.change(Method::POST, &all, wanted("there", "s3cret")).await?;
    let one = format!("{all}/{}", made.body["data"]["id"]);
    let created = world.event("integration.create", &one).await?;
    assert_eq!((created.username.as_deref(), &created.before), (Some("root"), &Value::Null));
    assert_eq!(created.after["name"], "there");
    assert_eq!(world.sidecar.post(&all, wanted("there", "s3cret")).await?.status, 422);
    assert_eq!(world.events().await?.len(), 0, "its name was taken");

    world.change(Method::PUT, &one, wanted("elsewhere", "an0ther")).await?;
    let put = world.event("integration.put", &one).await?;
    assert_eq!(put.before, created.after);
    assert_eq!(put.after["name"], "elsewhere");
    for (action, state) in [("disable", "disabled"), ("enable", "active")] {
        let path = format!("{one}/{action}");
        world.change(Method::POST, &path, Value::Null).await?;
        let event = world.event(&format!("integration.{action}"), &one).await?;
        assert_eq!(event.after["state"], state);
        assert!(event.before["state"] != state, "{event:?}");
        world.change(Method::POST, &path, Value::Null).await?;
        assert_eq!(world.events().await?.len(), 0, "it was {state}");
    }

    let replays = format!("{one}/replays");
    let body = json!({"replay": {"dry_run": true}});
    let made = world.change(Method::POST, &replays, body.clone()).await?;
    let replay = format!("{replays}/{}", made.body["data"]["id"]);
    let created = world.event("replay.create", &replay).await?;
    assert_eq!((&created.before, &created.after), (&Value::Null, &made.body["data"]));
    assert_eq!(world.sidecar.post(&replays, body).await?.status, 409);
    world
        .change(Method::POST, &format!("{replay}/cancel"), Value::Null)
        .await
        .context("it is under way until it is cancelled")?;
    let cancelled = world.event("replay.cancel", &replay).await?;
    assert_eq!(
        (&cancelled.before["state"], &cancelled.after["state"]),
        (&json!("pending"), &json!("cancelled"))
    );
    assert_eq!(world.sidecar.post(&format!("{replay}/cancel"), Value::Null).await?.status, 409);
    assert_eq!(world.events().await?.len(), 0, "it was over");

    world.change(Method::DELETE, &one, Value::Null).await?;
    let gone = world.event("integration.delete", &one).await?;
    assert_eq!((&gone.before["name"], &gone.after), (&json!("elsewhere"), &Value::Null));
    Ok(())
}
