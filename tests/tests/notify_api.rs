//! Notifications over REST: documents, mistakes, and how deliveries go.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use support::{Cluster, Database, Notified, Sidecar, key_file, until};
use tempfile::NamedTempFile;

/// A database with tables, a sidecar that has a key, and a stakeholder.
struct World {
    _cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
    _key: NamedTempFile,
    path: String,
}

impl World {
    async fn new() -> Result<Self> {
        let cluster = Cluster::start().await?;
        Self::with(cluster).await
    }

    async fn with(cluster: Cluster) -> Result<Self> {
        let database = cluster.database("shop").await?;
        let key = key_file()?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            config.notifications.key_file = Some(key.path().to_owned());
            // For examples (RFC 5737): nobody is there.
            config.notifications.allow_networks = "203.0.113.0/24".parse().into_iter().collect();
        })
        .await?;
        let schema = "CREATE TABLE orders (id int PRIMARY KEY, price numeric(10, 2) NOT NULL, note varchar(40));
            CREATE TABLE customers (id int PRIMARY KEY, user_id int NOT NULL);
            CREATE TABLE loose (a int)";
        database.connect().await?.batch_execute(schema).await?;
        let body = json!({"stakeholder": {"name": "reporting"}});
        let made = sidecar.post("/api/v1/stakeholders", body).await?;
        let id = made.body["data"]["id"].as_i64().context("no stakeholder")?;
        let path = format!("/api/v1/stakeholders/{id}");
        Ok(Self { _cluster: cluster, database, sidecar, _key: key, path })
    }

    fn at(&self, rest: &str) -> String {
        format!("{}{rest}", self.path)
    }

    /// What a document is answered with: the status and the body.
    async fn put(&self, document: Value) -> Result<(u16, Value)> {
        let put = self.sidecar.put(&self.at("/notifications"), json!({"data": document})).await?;
        Ok((put.status.as_u16(), put.body))
    }
}

#[tokio::test]
async fn the_guides_document_is_taken_and_told_back() -> Result<()> {
    let world = World::new().await?;
    let empty = world.sidecar.get(&world.at("/notifications")).await?;
    let nothing = json!({"type": "NOTIFICATIONS", "match": [], "channels": []});
    assert_eq!((empty.status.as_u16(), &empty.body["data"]), (200, &nothing));
    let (status, body) = world
        .put(json!({
            "match": [
                {"path": "public.orders", "events": ["*"], "fields": ["*"], "channels": ["*"]},
                {"path": "public.customers", "events": ["INSERT", "UPDATE", "DELETE"], "fields": ["id", "user_id"],
                 "channels": ["SOCKET", "WEBHOOK", "REDIS"]}
            ],
            "channels": [
                {"type": "SOCKET"},
                {"type": "WEBHOOK", "name": "billing", "url": "https://203.0.113.7/hook",
                 "headers": {"authorization": "Bearer s3cret"}},
                {"type": "REDIS", "url": "redis://user:s3cret@203.0.113.7/0"}
            ]
        }))
        .await?;
    assert_eq!(status, 200, "{body}");
    let data = &body["data"];
    assert_eq!((&data["active"], &data["inactive_because"]), (&json!(true), &Value::Null));
    let secrets = data["secrets"].as_array().context("no secrets")?;
    assert_eq!(secrets.len(), 1);
    assert_eq!(secrets[0]["channel"], "billing");
    assert!(secrets[0]["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")));
    let shown = world.sidecar.get(&world.at("/notifications")).await?;
    for part in ["type", "match", "channels"] {
        assert_eq!(shown.body["data"][part], data[part]);
    }
    assert_eq!(data["match"].as_array().map(Vec::len), Some(2), "{data}");
    assert_eq!(data["channels"].as_array().map(Vec::len), Some(3), "{data}");
    assert!(!shown.text.contains("s3cret") && !shown.text.contains("whsec_"), "{}", shown.text);

    let channels = world.sidecar.get(&world.at("/channels")).await?;
    let names: Vec<_> =
        channels.body["data"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
    assert_eq!(names, ["REDIS", "SOCKET", "billing"]);
    assert!(!channels.text.contains("s3cret"), "{}", channels.text);

    // Again: cursors and secrets stay.
    let (status, again) = world
        .put(json!({"match": data["match"][0], "channels": [
        {"type": "WEBHOOK", "name": "billing", "url": "https://203.0.113.7/other"}]}))
        .await?;
    assert_eq!((status, &again["data"]["secrets"]), (200, &json!([])), "{again}");
    let gone = world.sidecar.delete(&world.at("/notifications")).await?;
    assert_eq!(gone.status, 204);
    assert_eq!(world.sidecar.delete(&world.at("/notifications")).await?.status, 204);
    let shown = world.sidecar.get(&world.at("/notifications")).await?;
    assert_eq!(shown.body["data"], nothing);
    assert_eq!(world.sidecar.get(&world.at("/channels")).await?.body["data"], json!([]));
    Ok(())
}

#[tokio::test]
async fn mistakes_are_told_where_they_are() -> Result<()> {
    let world = World::new().await?;
    let item =
        |path: &str| json!({"path": path, "events": ["*"], "fields": ["id"], "channels": ["*"]});
    let webhook = |more: Value| {
        let mut webhook = json!({"type": "WEBHOOK", "url": "https://203.0.113.7/"});
        for (name, value) in more.as_object().into_iter().flatten() {
            webhook[name] = value.clone();
        }
        json!({"match": [item("public.orders")], "channels": [{"type": "SOCKET"}, webhook]})
    };
    let cases = [
        // The schema.
        (json!({"name": "x"}), "#/name"),
        (
            json!({"match": [{"path": "public.orders", "events": [], "channels": ["*"]}]}),
            "#/match/0/events",
        ),
        (json!({"match": [{"path": "public.orders", "events": ["*"]}]}), "#/match/0"),
        (json!({"match": [], "channels": [{"type": "MAIL"}]}), "#/channels/0/type"),
        // Typed reading: of channels in the sidecar, of the rest in the extension.
        (webhook(json!({"timeout_ms": 0})), "#/channels/1/timeout_ms"),
        (webhook(json!({"retry": {"schedule_secs": ["x"]}})), "#/channels/1/retry/schedule_secs/0"),
        (webhook(json!({"url": "https://127.0.0.1/"})), "#/channels/1/url"),
        (webhook(json!({"name": "SOCKET"})), "#/channels/1/name"),
        (
            json!({"match": [{"path": "public.orders", "events": ["*"], "channels": ["other"]}]}),
            "#/match/0/channels/0",
        ),
    ];
    for (document, pointer) in cases {
        let (status, body) = world.put(document.clone()).await?;
        assert_eq!(status, 422, "{document}: {body}");
        let told = body["errors"]["detail"].as_array().with_context(|| body.to_string())?;
        assert!(told.iter().any(|mistake| mistake[1] == pointer), "{document}: {body}");
        assert!(told.iter().all(|mistake| mistake[0].is_string()), "{body}");
    }
    // What the database does not provide is told as claims have it.
    let (status, body) = world.put(json!({"match": [item("public.nowhere")]})).await?;
    assert_eq!(status, 422, "{body}");
    assert!(body["errors"].to_string().contains("public.nowhere"), "{body}");
    let (status, body) = world
        .put(json!({"match": [{"path": "public.loose", "events": ["*"], "fields": ["a"], "channels": ["*"]}]}))
        .await?;
    assert_eq!(status, 422, "{body}");
    assert!(body["errors"].to_string().contains("replica"), "{body}");
    // Nothing of all that was stored.
    let shown = world.sidecar.get(&world.at("/notifications")).await?;
    assert_eq!(shown.body["data"]["match"], json!([]));
    assert_eq!(world.sidecar.get(&world.at("/channels")).await?.body["data"], json!([]));

    for path in ["/api/v1/stakeholders/99/notifications", "/api/v1/stakeholders/x/notifications"] {
        assert_eq!(world.sidecar.get(path).await?.status, 404);
        let put =
            world.sidecar.put(path, json!({"data": {"match": [item("public.orders")]}})).await?;
        assert_eq!(put.status, 404, "{put:?}");
        assert_eq!(world.sidecar.delete(path).await?.status, 404);
    }
    Ok(())
}

#[tokio::test]
async fn without_a_key_there_are_no_secrets() -> Result<()> {
    let notified = Notified::start_with(|config| {
        config.notifications.allow_networks = "203.0.113.0/24".parse().into_iter().collect();
    })
    .await?;
    let path = format!("/api/v1/stakeholders/{}/notifications", notified.stakeholder);
    let item =
        json!({"path": "public.items", "events": ["*"], "fields": ["id"], "channels": ["*"]});
    let channels = json!([{"type": "SOCKET"}, {"type": "WEBHOOK", "url": "https://203.0.113.7/"}]);
    let put = notified
        .sidecar
        .put(&path, json!({"data": {"match": [item], "channels": channels}}))
        .await?;
    assert_eq!(put.status, 422, "{put:?}");
    assert_eq!(put.body["errors"]["detail"][0][1], "#/channels/1");
    assert!(put.text.contains("notifications.key_file"), "{}", put.text);
    Ok(())
}

#[tokio::test]
async fn a_database_that_tells_no_changes_is_said_to() -> Result<()> {
    let world = World::with(Cluster::start_with(&[("wal_level", "replica")]).await?).await?;
    let item =
        json!({"path": "public.orders", "events": ["*"], "fields": ["id"], "channels": ["*"]});
    let (status, body) = world.put(json!({"match": [item]})).await?;
    assert_eq!((status, &body["data"]["active"]), (200, &json!(false)), "{body}");
    assert!(body["data"]["inactive_because"].to_string().contains("wal_level"), "{body}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_not_active() -> Result<()> {
    let world = World::new().await?;
    let item = json!({"path": "public.nowhere", "events": ["*"], "fields": ["id"], "channels": ["*"], "optional": true});
    let (status, body) = world.put(json!({"match": [item]})).await?;
    assert_eq!((status, &body["data"]["active"]), (200, &json!(false)), "{body}");
    let status = world.sidecar.get("/api/v1/notifications").await?;
    assert_eq!(
        (&status.body["data"]["role"], &status.body["data"]["reader"]),
        (&json!("idle"), &Value::Null)
    );
    Ok(())
}

#[tokio::test]
async fn channels_are_paused_and_their_secrets_rotated() -> Result<()> {
    let world = World::new().await?;
    let item =
        json!({"path": "public.orders", "events": ["*"], "fields": ["id"], "channels": ["*"]});
    let channels = json!([{"type": "SOCKET"}, {"type": "WEBHOOK", "name": "billing", "url": "https://203.0.113.7/"}]);
    let (status, body) = world.put(json!({"match": [item], "channels": channels})).await?;
    assert_eq!(status, 200, "{body}");
    let first = body["data"]["secrets"][0]["secret"].clone();
    let post = async |rest: &str, body: Value| world.sidecar.post(&world.at(rest), body).await;
    let rotated = post("/channels/billing/rotate-secret?overlap_secs=60", json!({})).await?;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert!(
        rotated.body["data"]["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_"))
    );
    assert_ne!(rotated.body["data"]["secret"], first);
    assert_eq!(post("/channels/billing/rotate-secret?overlap=1", json!({})).await?.status, 400);
    assert_eq!(post("/channels/SOCKET/rotate-secret", json!({})).await?.status, 404);
    let paused = post("/channels/billing/disable", json!({})).await?;
    assert_eq!((paused.status.as_u16(), &paused.body["data"]["state"]), (200, &json!("paused")));
    let one = world.sidecar.get(&world.at("/channels/billing")).await?;
    assert_eq!(one.body["data"]["state"], "paused");
    assert_eq!(one.body["data"]["config"]["url"], "https://203.0.113.7/");
    let on = post("/channels/billing/enable", json!({})).await?;
    assert_eq!(on.body["data"]["state"], "running");
    for rest in ["/channels/other", "/channels/other/dead-letters"] {
        assert_eq!(world.sidecar.get(&world.at(rest)).await?.status, 404, "{rest}");
    }
    for rest in ["enable", "disable", "rotate-secret"] {
        assert_eq!(
            post(&format!("/channels/other/{rest}"), json!({})).await?.status,
            404,
            "{rest}"
        );
    }

    // A dead letter, as one that delivers would leave it.
    let letter = "INSERT INTO integratedb.dead_letter (channel_id, epoch, lsn, index, keys, commit_micros, event, attempts, error)
        SELECT id, 1, '0/10', 0, '', 0, '{\"id\": \"1-0000000000000010-0\"}', 8, 'status 500' FROM integratedb.channel WHERE name = 'billing'";
    post("/channels/billing/disable", json!({})).await?;
    world.database.connect().await?.batch_execute(letter).await?;
    let letters = world.sidecar.get(&world.at("/channels/billing/dead-letters?limit=5")).await?;
    assert_eq!(letters.body["data"][0]["event"]["id"], "1-0000000000000010-0", "{letters:?}");
    let number = letters.body["data"][0]["id"].as_i64().context("no number")?;
    let later = world
        .sidecar
        .get(&world.at(&format!("/channels/billing/dead-letters?after={number}")))
        .await?;
    assert_eq!(later.body["data"], json!([]));
    let replay = "/channels/billing/dead-letters/replay";
    assert_eq!(post(replay, json!({"data": {}})).await?.status, 422);
    let none = post(replay, json!({"data": {"ids": [number + 1]}})).await?;
    assert_eq!(none.body["data"]["replayed"], 0, "{none:?}");
    let again = post(replay, json!({"data": {"all": true}})).await?;
    assert_eq!(again.body["data"]["replayed"], 1, "{again:?}");
    Ok(())
}

#[tokio::test]
async fn figures_tell_how_it_goes() -> Result<()> {
    let notified = Notified::start().await?;
    let mut socket = notified.socket("").await?;
    notified
        .database
        .connect()
        .await?
        .batch_execute("INSERT INTO items VALUES (1, 'a', 1)")
        .await?;
    socket.event().await?;
    let status = notified.sidecar.get("/api/v1/notifications").await?;
    let data = &status.body["data"];
    assert_eq!(
        (&data["role"], &data["sockets"]["websocket"]),
        (&json!("leads"), &json!(1)),
        "{data}"
    );
    assert_eq!(data["reader"]["state"], "streaming");
    assert!(data["log"]["bytes"].as_i64().is_some_and(|bytes| bytes > 0), "{data}");
    assert!(data["log"]["head"].as_str() > data["log"]["pruned"].as_str(), "{data}");
    until("the socket's event is counted", async || {
        let text = notified.sidecar.get("/metrics").await?.text;
        Ok(text.contains("integratedb_notify_socket_events_total{kind=\"websocket\"} 1\n"))
    })
    .await?;
    let text = notified.sidecar.get("/metrics").await?.text;
    for line in [
        "integratedb_notify_leads 1\n",
        "integratedb_notify_changes_total 1\n",
        "integratedb_notify_sockets{kind=\"websocket\"} 1\n",
        "integratedb_replication_lag_bytes{origin=\"notifications\"} ",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    // One unauthenticated is told nothing.
    let path = notified.sidecar.url("/api/v1/notifications");
    assert_eq!(notified.sidecar.http().get(path).send().await?.status(), 401);
    Ok(())
}
