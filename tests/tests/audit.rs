//! The audit log: one event for each change, with who, what, when, before and after; none without a change, and no secret in
//! any of them.

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Cluster, Database, Person, Sidecar, key_file, until};
use tempfile::NamedTempFile;

struct World {
    _cluster: Cluster,
    _key: NamedTempFile,
    database: Database,
    api: Sidecar,
}

/// An event as the log shows it: action, subject, before and after.
type Told = (String, String, Value, Value);

impl World {
    async fn new() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let schema = "CREATE TABLE orders (id int PRIMARY KEY, note text); CREATE TABLE other (id int PRIMARY KEY)";
        database.connect().await?.batch_execute(schema).await?;
        let key = key_file()?;
        let api = Sidecar::start_as_root_with(&database.url(), |config| {
            config.notifications.key_file = Some(key.path().to_owned());
            // For examples (RFC 5737): nobody is there.
            config.notifications.allow_networks = "203.0.113.0/24".parse().into_iter().collect();
        })
        .await?;
        Ok(Self { _cluster: cluster, _key: key, database, api })
    }

    async fn count(&self) -> Result<i64> {
        let sql = "SELECT count(*) FROM integratedb.audit_event";
        Ok(self.database.connect().await?.query_one(sql, &[]).await?.get(0))
    }

    /// The latest event of the installation's log.
    async fn latest(&self) -> Result<Value> {
        let list = self.api.get("/api/v1/audit?limit=1").await?;
        Ok(list.body["data"][0].clone())
    }

    /// What a change is answered with, and the one event that it leaves.
    async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(Value, Told)> {
        let before = self.count().await?;
        let reply = self.api.send(method.clone(), path, body.map(|body| body.to_string())).await?;
        anyhow::ensure!(reply.status.is_success(), "{method} {path}: {}", reply.text);
        anyhow::ensure!(self.count().await? == before + 1, "{method} {path} leaves one event");
        let event = self.latest().await?;
        assert_eq!(event["user"], json!({"id": 1, "name": "root"}));
        assert_eq!((&event["application"], &event["address"]), (&Value::Null, &json!("127.0.0.1")));
        assert!(event["at"].as_str().is_some_and(|at| at.ends_with('Z')));
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let told =
            (text("action"), text("subject"), event["before"].clone(), event["after"].clone());
        Ok((reply.body["data"].clone(), told))
    }
}

fn told(action: &str, subject: &str, before: Value, after: Value) -> Told {
    (action.to_owned(), subject.to_owned(), before, after)
}

const NULL: Value = Value::Null;
const READER: &str = "/api/v1/stakeholders/1";

#[tokio::test]
async fn users_leave_events() -> Result<()> {
    let world = World::new().await?;
    // The first user, whom nobody has made.
    let first = world.latest().await?;
    assert_eq!((&first["action"], &first["user"]), (&json!("user.create"), &NULL));
    assert_eq!(first["after"], json!({"id": 1, "username": "root", "operator": true}));

    let ann = "/api/v1/users/2";
    let body = json!({"user": {"username": "ann", "password": "long enough", "operator": false}});
    let (_, event) = world.change(Method::POST, "/api/v1/users", Some(body)).await?;
    let mut view = json!({"id": 2, "username": "ann", "operator": false});
    assert_eq!(event, told("user.create", ann, NULL, view.clone()));
    let body = json!({"user": {"username": "anna", "operator": true}});
    let (_, event) = world.change(Method::PUT, ann, Some(body)).await?;
    let after = json!({"id": 2, "username": "anna", "operator": true});
    assert_eq!(event, told("user.update", ann, view, after.clone()));
    let body = json!({"user": {"password": "even longer"}});
    let (_, event) = world.change(Method::PUT, ann, Some(body)).await?;
    view = after.clone();
    view["password_changed"] = true.into();
    assert_eq!(event, told("user.update", ann, after.clone(), view));
    let tokens = format!("{ann}/tokens");
    let (_, event) = world.change(Method::DELETE, &tokens, None).await?;
    assert_eq!(event, told("user.revoke_tokens", ann, NULL, NULL));
    let (_, event) = world.change(Method::DELETE, ann, None).await?;
    assert_eq!(event, told("user.delete", ann, after, NULL));
    // Logging in, well or not, changes nothing.
    let before = world.count().await?;
    for password in ["correct horse", "wrong horse"] {
        let login = json!({"data": {"username": "root", "password": password}});
        world.api.post("/api/v1/auth/login", login).await?;
    }
    assert_eq!(world.count().await?, before);
    Ok(())
}

#[tokio::test]
async fn stakeholders_and_their_claims_leave_events() -> Result<()> {
    let world = World::new().await?;
    let body = json!({"stakeholder": {"name": "reader"}});
    let (_, event) = world.change(Method::POST, "/api/v1/stakeholders", Some(body)).await?;
    let reader = json!({"id": 1, "name": "reader"});
    assert_eq!(event, told("stakeholder.create", READER, NULL, reader.clone()));

    let claims = format!("{READER}/claims");
    let empty = json!({"type": "CLAIMS", "match": []});
    let body = json!({"data": {"match": {"path": "public.orders", "fields": ["id"]}}});
    let (first, event) = world.change(Method::PUT, &claims, Some(body)).await?;
    assert_eq!(event, told("claims.put", &claims, empty, first.clone()));
    let body = json!({"data": {"match": {"path": "public.orders", "fields": ["note"]}}});
    let (second, event) = world.change(Method::PUT, &claims, Some(body)).await?;
    assert_ne!(first, second);
    assert_eq!(event, told("claims.put", &claims, first, second));

    let body = json!({"stakeholder": {"name": "writer"}});
    let (_, event) = world.change(Method::PUT, READER, Some(body)).await?;
    let after = json!({"id": 1, "name": "writer", "password_changed": true});
    assert_eq!(event, told("stakeholder.update", READER, reader, after));
    let (_, event) = world.change(Method::DELETE, READER, None).await?;
    let writer = json!({"id": 1, "name": "writer"});
    assert_eq!(event, told("stakeholder.delete", READER, writer, NULL));
    Ok(())
}

#[tokio::test]
async fn notifications_channels_and_backfills_leave_events() -> Result<()> {
    let world = World::new().await?;
    world.api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "reader"}})).await?;
    let path = format!("{READER}/notifications");
    let body = json!({"data": {
        "match": [{"path": "public.orders", "events": ["*"], "fields": ["*"], "channels": ["*"]}],
        "channels": [{"type": "WEBHOOK", "name": "billing", "url": "https://203.0.113.7/hook",
            "headers": {"authorization": "Bearer s3cret"}}]}});
    let (stored, event) = world.change(Method::PUT, &path, Some(body)).await?;
    let view =
        |of: &Value| json!({"type": of["type"], "match": of["match"], "channels": of["channels"]});
    let empty = json!({"type": "NOTIFICATIONS", "match": [], "channels": []});
    assert_eq!(event, told("notifications.put", &path, empty, view(&stored)));

    let billing = format!("{READER}/channels/billing");
    let rotate = format!("{billing}/rotate-secret");
    let (_, event) = world.change(Method::POST, &rotate, None).await?;
    let overlap = json!({"overlap_secs": 86400});
    assert_eq!(event, told("channel.rotate_secret", &billing, NULL, overlap));
    let state = |paused| json!({"name": "billing", "paused": paused, "disabled_because": null});
    let (_, event) = world.change(Method::POST, &format!("{billing}/disable"), None).await?;
    assert_eq!(event, told("channel.disable", &billing, state(false), state(true)));
    let (_, event) = world.change(Method::POST, &format!("{billing}/enable"), None).await?;
    assert_eq!(event, told("channel.enable", &billing, state(true), state(false)));
    let all = Some(json!({"data": {"all": true}}));
    let replay = format!("{billing}/dead-letters/replay");
    let (_, event) = world.change(Method::POST, &replay, all).await?;
    assert_eq!(event, told("channel.replay", &billing, NULL, json!({"replayed": 0})));

    let body = json!({"backfill": {"table": "public.orders"}});
    let (_, event) = world.change(Method::POST, &format!("{READER}/backfills"), Some(body)).await?;
    let backfill = format!("{READER}/backfills/1");
    assert_eq!((event.0.as_str(), event.1.as_str()), ("backfill.create", backfill.as_str()));
    assert_eq!((&event.2, &event.3["table"]), (&NULL, &json!("public.orders")));

    let (_, event) = world.change(Method::DELETE, &path, None).await?;
    assert_eq!(event, told("notifications.delete", &path, view(&stored), NULL));
    Ok(())
}

#[tokio::test]
async fn a_backfill_that_is_asked_something_leaves_events() -> Result<()> {
    let world = World::new().await?;
    world.api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "reader"}})).await?;
    // Nobody runs it: what is asked of it stays as it was asked.
    let insert = "INSERT INTO integratedb.backfill
            (stakeholder_id, schema_name, table_name, chunk_rows, rows_estimated, state)
        VALUES (1, 'public', 'orders', 1, 1, 'paused')";
    world.database.connect().await?.batch_execute(insert).await?;
    let path = format!("{READER}/backfills/1");
    let refused = world.count().await?;
    assert_eq!(world.api.post(&format!("{path}/pause"), NULL).await?.status, StatusCode::CONFLICT);
    assert_eq!(world.count().await?, refused);
    let (view, event) = world.change(Method::POST, &format!("{path}/cancel"), None).await?;
    assert_eq!((event.0.as_str(), event.1), ("backfill.cancel", path));
    assert_eq!((&event.2["state"], event.3), (&json!("paused"), view));
    Ok(())
}

#[tokio::test]
async fn workspaces_have_a_log_of_their_own() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let (ann, bob) = (Person::new(api, "ann", false).await?, Person::new(api, "bob", false).await?);
    let installation = api.get("/api/v1/audit").await?.text;
    let path = ann.workspace(api, "shop").await?;
    let other = bob.workspace(api, "other").await?;
    ann.lets_in(api, &path, &bob, "viewer").await?;
    ann.lets_in(api, &path, &bob, "admin").await?;
    bob.put(api, &path, json!({"workspace": {"name": "store"}})).await?;
    bob.delete(api, &format!("{path}/members/{}", bob.id)).await?;
    assert_eq!(api.get("/api/v1/audit").await?.text, installation, "the operators' has none of it");

    let log = format!("{path}/audit");
    let list = ann.get(api, &log).await?;
    let events = list.body["data"].as_array().context("events")?;
    let of_bob = format!("{path}/members/{}", bob.id);
    let of_ann = format!("{path}/members/{}", ann.id);
    let got: Vec<_> = events
        .iter()
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            (text("action"), text("subject"), event["user"]["name"].clone())
        })
        .collect();
    let expected = [
        ("member.delete", &of_bob, "bob"),
        ("workspace.update", &path, "bob"),
        ("member.update", &of_bob, "ann"),
        ("member.create", &of_bob, "ann"),
        ("member.create", &of_ann, "ann"),
        ("workspace.create", &path, "ann"),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(action, subject, who)| (action.to_owned(), subject.to_owned(), json!(who)))
        .collect();
    assert_eq!(got, expected);
    assert_eq!(
        (&events[1]["before"]["name"], &events[1]["after"]["name"]),
        (&json!("shop"), &json!("store"))
    );
    assert_eq!(
        (&events[2]["before"]["role"], &events[2]["after"]["role"]),
        (&json!("viewer"), &json!("admin"))
    );

    // Pages and filters.
    let page = ann.get(api, &format!("{log}?limit=4")).await?;
    let next = page.body["next"].as_i64().context("there are more")?;
    let rest = ann.get(api, &format!("{log}?before={next}")).await?;
    assert_eq!(rest.body["data"].as_array().map(Vec::as_slice), Some(&events[4..]));
    assert_eq!(rest.body["next"], NULL);
    for (filter, count) in [
        ("action=member.create".to_owned(), 2),
        ("action=nothing".to_owned(), 0),
        (format!("user={}", bob.id), 2),
        (format!("user={}&action=member.delete", bob.id), 1),
        ("application=1".to_owned(), 0),
        ("cache=abc".to_owned(), 0),
    ] {
        let some = ann.get(api, &format!("{log}?{filter}")).await?;
        assert_eq!(some.body["data"].as_array().map(Vec::len), Some(count), "{filter}");
    }
    for wrong in ["colour=red", "user=ann", "action=%00", "before=x"] {
        let refused = ann.get(api, &format!("{log}?{wrong}")).await?;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}: {}", refused.text);
    }
    // A cache's own and what belongs to it, and not one with a longer name.
    let insert = "INSERT INTO integratedb.audit_event (workspace_id, action, subject)
        SELECT 1, 'x', '/api/v1/caches/' || s FROM unnest('{abc,abc/rules/table/t,abcd}'::text[]) s";
    world.database.connect().await?.batch_execute(insert).await?;
    let some = ann.get(api, &format!("{log}?cache=abc")).await?;
    assert_eq!(some.body["data"].as_array().map(Vec::len), Some(2), "{}", some.text);

    // The log of a workspace outlives it, for operators.
    let gone = "/api/v1/audit?action=workspace.delete";
    assert_eq!(api.get(gone).await?.body["data"], json!([]));
    assert_eq!(bob.delete(api, &other).await?.status, StatusCode::NO_CONTENT);
    let sql = "SELECT count(*) FROM integratedb.audit_event WHERE subject = $1 AND action = 'workspace.delete'";
    let row = world.database.connect().await?.query_one(sql, &[&other]).await?;
    assert_eq!(row.get::<_, i64>(0), 1);
    assert_eq!(api.get(gone).await?.body["data"][0]["subject"], *other);
    Ok(())
}

#[tokio::test]
async fn no_change_leaves_no_event() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let ann = Person::new(api, "ann", false).await?;
    let path = ann.workspace(api, "shop").await?;
    api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "reader"}})).await?;
    // The schema can't go while there is something in it.
    world.database.connect().await?.batch_execute("CREATE TABLE reader.t ()").await?;
    let before = world.count().await?;
    let user = |name: &str| json!({"user": {"username": name, "password": "long enough"}});
    let claim = |table: &str| json!({"data": {"match": {"path": table, "fields": ["id"]}}});
    let of_ann = format!("{path}/members/{}", ann.id);
    for (method, path, body) in [
        (Method::POST, "/api/v1/users", user("ann")),
        (Method::PUT, "/api/v1/users/1", user("ann")),
        (Method::PUT, "/api/v1/users/99", user("nobody")),
        (Method::PUT, "/api/v1/users/1", json!({"user": {"operator": false}})),
        (Method::DELETE, "/api/v1/users/1", NULL),
        (Method::DELETE, &format!("/api/v1/users/{}", ann.id), NULL),
        (Method::DELETE, "/api/v1/users/99/tokens", NULL),
        (Method::POST, "/api/v1/stakeholders", json!({"stakeholder": {"name": "reader"}})),
        (Method::PUT, "/api/v1/stakeholders/99", json!({"stakeholder": {"name": "x"}})),
        (Method::DELETE, "/api/v1/stakeholders/1?all_or_nothing=true", NULL),
        (Method::PUT, "/api/v1/stakeholders/1/claims", claim("public.nothing")),
        (Method::PUT, "/api/v1/stakeholders/99/claims", claim("public.orders")),
        (
            Method::PUT,
            "/api/v1/stakeholders/1/notifications",
            json!({"data": {"match": [{"path": "public.nothing", "events": ["*"], "fields": ["*"], "channels": ["*"]}]}}),
        ),
        (Method::POST, "/api/v1/stakeholders/1/channels/none/enable", NULL),
        (Method::POST, "/api/v1/stakeholders/1/channels/none/rotate-secret", NULL),
        (
            Method::POST,
            "/api/v1/stakeholders/1/backfills",
            json!({"backfill": {"table": "public.other"}}),
        ),
        (Method::POST, "/api/v1/stakeholders/1/backfills/1/pause", NULL),
    ] {
        let reply = api.send(method.clone(), path, Some(body.to_string())).await?;
        assert!(reply.status.is_client_error(), "{method} {path}: {}", reply.text);
    }
    for (method, path, body) in [
        (Method::DELETE, &of_ann, NULL),
        (Method::PUT, &of_ann, json!({"member": {"role": "viewer"}})),
        (Method::PUT, &format!("{path}/members/99"), json!({"member": {"role": "viewer"}})),
        (Method::PUT, &path, json!({"workspace": {"name": ""}})),
    ] {
        let reply = ann.send(api, method.clone(), path, Some(body)).await?;
        assert!(reply.status.is_client_error(), "{method} {path}: {}", reply.text);
    }
    assert_eq!(world.count().await?, before);
    Ok(())
}

#[tokio::test]
async fn no_change_goes_without_its_event() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let ann = Person::new(api, "ann", false).await?;
    let path = ann.workspace(api, "shop").await?;
    api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "reader"}})).await?;
    let client = world.database.connect().await?;
    client
        .batch_execute(
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room' USING ERRCODE = 'XX000'; END $$;
             CREATE TRIGGER no_room BEFORE INSERT ON integratedb.audit_event EXECUTE FUNCTION no_room()",
        )
        .await?;
    let state = "SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM (
        SELECT u::text FROM integratedb.users u UNION ALL SELECT s::text FROM integratedb.stakeholder s
        UNION ALL SELECT s::text FROM integratedb.spec s UNION ALL SELECT w::text FROM integratedb.workspace w
        UNION ALL SELECT m::text FROM integratedb.workspace_member m UNION ALL SELECT rolname FROM pg_roles) t";
    let before: String = client.query_one(state, &[]).await?.get(0);
    let root = Person { token: api.token().context("a token")?.to_owned(), ..ann.clone() };
    let claim = json!({"data": {"match": {"path": "public.orders", "fields": ["id"]}}});
    let told = json!({"data": {"match": [{"path": "public.orders", "events": ["*"], "fields": ["*"], "channels": ["*"]}]}});
    for (who, method, path, body) in [
        (
            &root,
            Method::POST,
            "/api/v1/users".to_owned(),
            json!({"user": {"username": "eve", "password": "long enough"}}),
        ),
        (
            &root,
            Method::PUT,
            "/api/v1/users/1".to_owned(),
            json!({"user": {"username": "toor", "password": "long enough"}}),
        ),
        (&ann, Method::DELETE, format!("/api/v1/users/{}/tokens", ann.id), NULL),
        (
            &root,
            Method::POST,
            "/api/v1/stakeholders".to_owned(),
            json!({"stakeholder": {"name": "new"}}),
        ),
        (&root, Method::PUT, READER.to_owned(), json!({"stakeholder": {"name": "other"}})),
        (&root, Method::PUT, format!("{READER}/claims"), claim),
        (&root, Method::PUT, format!("{READER}/notifications"), told),
        (&root, Method::DELETE, READER.to_owned(), NULL),
        (&ann, Method::POST, "/api/v1/workspaces".to_owned(), json!({"workspace": {"name": "x"}})),
        (&ann, Method::PUT, path.clone(), json!({"workspace": {"name": "x"}})),
        (&ann, Method::PUT, format!("{path}/members/1"), json!({"member": {"role": "viewer"}})),
        (&ann, Method::DELETE, path.clone(), NULL),
    ] {
        let reply = who.send(api, method.clone(), &path, Some(body)).await?;
        assert_eq!(
            reply.status,
            StatusCode::INTERNAL_SERVER_ERROR,
            "{method} {path}: {}",
            reply.text
        );
        let after: String = client.query_one(state, &[]).await?.get(0);
        assert_eq!(after, before, "{method} {path}");
    }
    assert_eq!(ann.get(api, &path).await?.status, StatusCode::OK, "her token still counts");
    Ok(())
}

#[tokio::test]
async fn no_event_holds_a_secret() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let mut secrets =
        vec!["correct horse".to_owned(), "s3cret".to_owned(), "a new password".to_owned()];
    let ann = Person::new(api, "ann", false).await?;
    secrets.extend([ann.password.clone(), ann.token.clone()]);
    secrets.push(api.token().context("a token")?.to_owned());
    ann.put(
        api,
        &format!("/api/v1/users/{}", ann.id),
        json!({"user": {"password": "a new password"}}),
    )
    .await?;
    let secret = |value: &Value| value.as_str().map(str::to_owned).context("a secret");
    for name in ["reader", "renamed"] {
        let body = json!({"stakeholder": {"name": name}});
        let reply = match name {
            "reader" => api.post("/api/v1/stakeholders", body).await?,
            _ => api.put(READER, body).await?,
        };
        secrets.push(secret(&reply.body["data"]["credentials"]["password"])?);
    }
    let body = json!({"data": {
        "match": [{"path": "public.orders", "events": ["*"], "fields": ["*"], "channels": ["*"]}],
        "channels": [{"type": "WEBHOOK", "name": "billing", "url": "https://203.0.113.7/hook",
            "headers": {"authorization": "Bearer s3cret"}},
            {"type": "REDIS", "url": "redis://user:s3cret@203.0.113.7/0"}]}});
    let put = api.put(&format!("{READER}/notifications"), body).await?;
    secrets.push(secret(&put.body["data"]["secrets"][0]["secret"])?);
    let rotated = api.post(&format!("{READER}/channels/billing/rotate-secret"), NULL).await?;
    secrets.push(secret(&rotated.body["data"]["secret"])?);
    assert_eq!(api.delete(&format!("{READER}/notifications")).await?.status, 204);

    let sql = "SELECT string_agg(e::text, E'\\n'), count(*) FROM integratedb.audit_event e";
    let row = world.database.connect().await?.query_one(sql, &[]).await?;
    let (all, count): (String, i64) = (row.get(0), row.get(1));
    assert!(count >= 7 && all.contains("billing"), "{all}");
    for secret in secrets.iter().map(String::as_str).chain(["SCRAM-SHA-256", "argon2"]) {
        assert!(!all.contains(secret), "{secret} is in {all}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_old_is_removed_and_nothing_else() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let api = Sidecar::start_as_root(&database.url()).await?;
    let client = database.connect().await?;
    let insert = "INSERT INTO integratedb.audit_event (action, subject, at)
        SELECT 'old', n::text, now() - interval '31 days' FROM generate_series(1, 2500) n
        UNION ALL SELECT 'young', 'x', now() - interval '29 days'";
    client.batch_execute(insert).await?;
    // Two at once.
    let start = async |days| {
        Sidecar::start_with(&database.url(), |config| config.workspaces.audit_days = days).await
    };
    let _two = tokio::try_join!(start(30), start(30))?;
    until("old events are gone", || async {
        let sql = "SELECT count(*) FROM integratedb.audit_event WHERE action = 'old'";
        Ok(client.query_one(sql, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await?;
    let left = api.get("/api/v1/audit").await?;
    let actions: Vec<_> =
        left.body["data"].as_array().into_iter().flatten().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["young", "user.create"]);
    Ok(())
}

/// From behind a proxy that is trusted, and from anywhere else.
#[tokio::test]
async fn where_a_change_comes_from_is_said_by_who_is_trusted() -> Result<()> {
    let cluster = Cluster::start().await?;
    for (name, network, address) in
        [("behind", "127.0.0.0/8", "192.0.2.7"), ("before", "10.0.0.0/8", "127.0.0.1")]
    {
        let database = cluster.database(name).await?;
        let api = Sidecar::start_as_root_with(&database.url(), |config| {
            config.trusted_proxies = network.parse().into_iter().collect();
        })
        .await?;
        let request = api.http().post(api.url("/api/v1/workspaces"));
        let made = request
            .bearer_auth(api.token().context("a token")?)
            .header("x-forwarded-for", "198.51.100.1, 192.0.2.7")
            .json(&json!({"workspace": {"name": "Shop"}}))
            .send()
            .await?;
        assert_eq!(made.status(), 201);
        let path = made.headers()["location"].to_str()?;
        let told = api.get(&format!("{path}/audit?limit=1")).await?;
        assert_eq!(told.body["data"][0]["address"], address, "{network}: {told:?}");
    }
    Ok(())
}
