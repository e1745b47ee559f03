//! Entity tags: what was read is changed only as it was read, and not sent again to who has it.

use anyhow::{Context, Result};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use support::{Cluster, Database, Reply, Sidecar, be_notified, key_file, say_tenant};
use tempfile::NamedTempFile;

/// A database with the table `orders`, the tenant 16, and the stakeholder `reporting`, whose path is kept.
struct World {
    _cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
    _key: NamedTempFile,
    stakeholder: String,
}

impl World {
    async fn start() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let key = key_file()?;
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            config.sync.enabled = false;
            be_notified(config, &key);
            config.notifications.key_file = Some(key.path().to_owned());
            // For examples (RFC 5737): nobody is there.
            config.notifications.allow_networks = "203.0.113.0/24".parse().into_iter().collect();
        })
        .await?;
        let client = database.connect().await?;
        client.batch_execute("CREATE TABLE orders (id int PRIMARY KEY, a int, b int)").await?;
        let body = json!({"stakeholder": {"name": "reporting"}});
        let made = sidecar.post("/api/v1/stakeholders", body).await?;
        let id = made.body["data"]["id"].as_i64().with_context(|| format!("{made:?}"))?;
        let stakeholder = format!("/api/v1/stakeholders/{id}");
        let world = Self { _cluster: cluster, database, sidecar, _key: key, stakeholder };
        world.tenant("https://127.0.0.1:1").await?;
        Ok(world)
    }

    async fn tenant(&self, endpoint: &str) -> Result<()> {
        say_tenant(&self.sidecar, 16, endpoint).await
    }

    fn at(&self, rest: &str) -> String {
        format!("{}{rest}", self.stakeholder)
    }

    /// A request with a header about tags.
    async fn send(
        &self,
        method: Method,
        path: &str,
        (name, tag): (&str, &str),
        body: Option<&Value>,
    ) -> Result<Reply> {
        let mut request = self.sidecar.http().request(method, self.sidecar.url(path));
        request = request.bearer_auth(self.sidecar.token().context("a token")?).header(name, tag);
        if let Some(body) = body {
            request = request.json(body);
        }
        Reply::of(request.send().await?).await
    }

    /// The tag of what is there.
    async fn tag(&self, path: &str) -> Result<String> {
        tag(&self.sidecar.get(path).await?)
    }

    /// Changes something twice as it was read, then removes it as it was read; and tries each otherwise.
    async fn change(
        &self,
        path: &str,
        first: Value,
        second: Value,
        is_removed: bool,
    ) -> Result<()> {
        let read = self.tag(path).await?;
        assert_eq!(self.tag(path).await?, read, "{path}: it is as it was");
        let changed = self.send(Method::PUT, path, ("if-match", &read), Some(&first)).await?;
        assert_eq!(changed.status, 200, "{path}: {changed:?}");
        let now = tag(&changed)?;
        assert!(now != read, "{path}: it is another");
        assert_eq!(self.tag(path).await?, now, "{path}: an answer has the tag of what is there");

        for stale in [read.as_str(), "\"none\"", &format!("W/{now}")] {
            let refused = self.send(Method::PUT, path, ("if-match", stale), Some(&second)).await?;
            assert_eq!(refused.status, 412, "{path} {stale}: {refused:?}");
            if is_removed {
                let refused = self.send(Method::DELETE, path, ("if-match", stale), None).await?;
                assert_eq!(refused.status, 412, "{path} {stale}: {refused:?}");
            }
        }
        assert_eq!(self.tag(path).await?, now, "{path}: nothing has changed");
        let several = format!("\"none\", {now}");
        let changed = self.send(Method::PUT, path, ("if-match", &several), Some(&second)).await?;
        assert_eq!(changed.status, 200, "{path}: {changed:?}");
        let blind = self.sidecar.put(path, first).await?;
        assert_eq!(blind.status, 200, "{path}: who says nothing changes what is there: {blind:?}");
        if is_removed {
            let now = self.tag(path).await?;
            let removed = self.send(Method::DELETE, path, ("if-match", &now), None).await?;
            assert_eq!(removed.status, 204, "{path}: {removed:?}");
        }
        Ok(())
    }

    /// Many changes at once of what all have read: one is made, and the others are told.
    async fn race(&self, path: &str, bodies: Vec<Value>) -> Result<()> {
        let read = self.tag(path).await?;
        let put = |body| {
            let read = &read;
            async move { self.send(Method::PUT, path, ("if-match", read), Some(&body)).await }
        };
        let replies: Vec<Reply> =
            join_all(bodies.into_iter().map(put)).await.into_iter().collect::<Result<_>>()?;
        let (made, refused): (Vec<&Reply>, Vec<&Reply>) =
            replies.iter().partition(|reply| reply.status == 200);
        assert_eq!(made.len(), 1, "{path}: {replies:?}");
        assert!(refused.iter().all(|reply| reply.status == 412), "{path}: {refused:?}");
        assert_eq!(self.tag(path).await?, tag(made[0])?, "{path}: what is there is what was made");
        Ok(())
    }
}

fn tag(reply: &Reply) -> Result<String> {
    let tag = reply.headers.get("etag").with_context(|| format!("no tag: {reply:?}"))?;
    Ok(tag.to_str()?.to_owned())
}

fn claims(fields: &[&str]) -> Value {
    json!({"data": {"match": [{"path": "public.orders", "fields": fields}]}})
}

fn hook(secret: &str) -> Value {
    json!({"data": {"match": [], "channels": [{"type": "WEBHOOK", "name": "billing",
        "url": "https://203.0.113.7/hook", "headers": {"authorization": secret}}]}})
}

fn plan(path: &str) -> Value {
    json!({"class": {"key": "id", "path": path, "member": "plan"}})
}

fn target(name: &str, secret: &str) -> Value {
    let request = |method: &str| json!({"method": method, "url": "https://127.0.0.1:1/{{ key }}"});
    json!({"integration": {"name": name, "kind": "http", "settings": {"upsert": request("PUT"),
        "delete": request("DELETE"), "secret_headers": {"x-secret": secret}}}})
}

fn application(name: &str) -> Value {
    json!({"application": {"name": name, "scopes": ["caches:read"],
        "redirect_uris": ["https://partner.example/back"]}})
}

const CLASS: &str = "/api/v1/sync/tenants/16/classes/Plan";
const INTEGRATIONS: &str = "/api/v1/sync/tenants/16/integrations";

impl World {
    /// Makes a user, and gives its path.
    async fn user(&self) -> Result<String> {
        let body = json!({"user": {"username": "other", "password": "correct horse"}});
        let made = self.sidecar.post("/api/v1/users", body).await?;
        Ok(format!("/api/v1/users/{}", made.body["data"]["id"]))
    }

    /// Registers an application in a list, and gives its path.
    async fn application(&self, list: &str) -> Result<String> {
        let made = self.sidecar.post(list, application("first")).await?;
        Ok(format!("{list}/{}", made.body["data"]["id"]))
    }

    /// Makes an integration, and gives its path.
    async fn integration(&self) -> Result<String> {
        let made = self.sidecar.post(INTEGRATIONS, target("there", "s3cret")).await?;
        assert_eq!(made.status, 201, "{made:?}");
        let path = format!("{INTEGRATIONS}/{}", made.body["data"]["id"]);
        assert_eq!(tag(&made)?, self.tag(&path).await?);
        Ok(path)
    }
}

#[tokio::test]
async fn what_was_read_is_changed_only_as_it_was_read() -> Result<()> {
    let world = World::start().await?;
    let name = |name: &str| json!({"user": {"username": name}});
    world.change(&world.user().await?, name("one"), name("two"), true).await?;
    let path = world.application("/api/v1/oauth/applications").await?;
    world.change(&path, application("one"), application("two"), true).await?;
    let shop = json!({"workspace": {"name": "Shop"}});
    let shop = world.sidecar.post("/api/v1/workspaces", shop).await?;
    let shop = format!("/api/v1/workspaces/{}/oauth/applications", shop.body["data"]["id"]);
    let path = world.application(&shop).await?;
    world.change(&path, application("one"), application("two"), true).await?;
    let path = world.at("/claims");
    world.change(&path, claims(&["id"]), claims(&["a"]), false).await?;
    // Of the secrets only the tag tells that they are others.
    let path = world.at("/notifications");
    assert_eq!(world.sidecar.put(&path, hook("first")).await?.status, 200);
    world.change(&path, hook("second"), hook("third"), true).await?;
    let put = world.sidecar.put(CLASS, plan("/plans/{id}")).await?;
    assert_eq!((put.status.as_u16(), tag(&put)?), (201, world.tag(CLASS).await?));
    world.change(CLASS, plan("/one/{id}"), plan("/two/{id}"), true).await?;
    let path = world.integration().await?;
    world.change(&path, target("there", "one"), target("there", "two"), true).await?;

    let told = json!({"match": [{"path": "public.orders", "events": ["*"], "fields": ["*"], "channels": ["*"]}]});
    let client = world.database.connect().await?;
    let sql = "SELECT integratedb.put_spec($1, $2, $3)";
    let id: i64 = world.stakeholder.rsplit('/').next().context("an id")?.parse()?;
    for kind in ["CLAIMS", "NOTIFICATIONS"] {
        let mut spec = told.clone();
        if kind == "CLAIMS" {
            spec = json!({"match": [{"path": "public.orders", "fields": ["*"]}]});
        }
        client.execute(sql, &[&id, &kind, &spec.to_string()]).await?;
    }
    let path = world.at("/sources/orders");
    let source = |columns: Value| json!({"source": {"table": "public.orders", "columns": columns}});
    assert_eq!(world.sidecar.put(&path, source(json!(["id"]))).await?.status, 201);
    world.change(&path, source(json!(["id", "a"])), source(json!(["id", "b"])), true).await?;

    let name = |name: &str| json!({"stakeholder": {"name": name}});
    world.change(&world.stakeholder, name("one"), name("two"), true).await?;

    // A tenant is changed by notifiers, and removed as it was read.
    let path = "/api/v1/sync/tenants/16";
    let read = world.tag(path).await?;
    world.tenant("https://127.0.0.1:2").await?;
    assert_eq!(world.send(Method::DELETE, path, ("if-match", &read), None).await?.status, 412);
    let read = world.tag(path).await?;
    assert_eq!(world.send(Method::DELETE, path, ("if-match", &read), None).await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn of_many_who_change_what_they_have_read_one_does() -> Result<()> {
    let world = World::start().await?;
    let each = |body: &dyn Fn(usize) -> Value| (0..8).map(body).collect::<Vec<_>>();
    let user = world.user().await?;
    world.race(&user, each(&|n| json!({"user": {"username": format!("user{n}")}}))).await?;
    let all =
        [&["id"][..], &["a"], &["b"], &["id", "a"], &["id", "b"], &["a", "b"], &["id", "a", "b"]];
    let bodies = all.iter().map(|fields| claims(fields)).collect();
    world.race(&world.at("/claims"), bodies).await?;
    let notifications = world.at("/notifications");
    assert_eq!(world.sidecar.put(&notifications, hook("s3cret")).await?.status, 200);
    world.race(&notifications, each(&|n| hook(&format!("s3cret {n}")))).await?;
    assert_eq!(world.sidecar.put(CLASS, plan("/plans/{id}")).await?.status, 201);
    world.race(CLASS, each(&|n| plan(&format!("/plans/{n}/{{id}}")))).await?;
    let integration = world.integration().await?;
    world.race(&integration, each(&|n| target("there", &format!("s3cret {n}")))).await?;
    let name = |n| json!({"stakeholder": {"name": format!("name{n}")}});
    world.race(&world.stakeholder, each(&name)).await
}

#[tokio::test]
async fn what_is_not_there_has_no_tag() -> Result<()> {
    let world = World::start().await?;
    for tag in ["*", "\"none\""] {
        let made = world.send(Method::PUT, CLASS, ("if-match", tag), Some(&plan("/{id}"))).await?;
        assert_eq!(made.status, 412, "it would be made: {made:?}");
        for (method, path, body) in [
            (Method::DELETE, CLASS, None),
            (Method::DELETE, "/api/v1/users/999", None),
            (Method::PUT, "/api/v1/users/999", Some(json!({"user": {"username": "x"}}))),
            (Method::PUT, "/api/v1/stakeholders/999", Some(json!({"stakeholder": {"name": "x"}}))),
            (Method::DELETE, "/api/v1/stakeholders/999", None),
            (Method::PUT, "/api/v1/stakeholders/999/claims", Some(claims(&["id"]))),
            (Method::DELETE, "/api/v1/sync/tenants/999", None),
            (Method::DELETE, "/api/v1/sync/tenants/16/integrations/999", None),
        ] {
            let missing = world.send(method, path, ("if-match", tag), body.as_ref()).await?;
            assert_eq!(missing.status, 404, "{path}: {missing:?}");
        }
    }
    assert_eq!(world.sidecar.get(CLASS).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn who_has_it_is_not_sent_it_again() -> Result<()> {
    let world = World::start().await?;
    let user = world.user().await?;
    let read = world.tag(&user).await?;
    for known in [read.clone(), format!("W/{read}"), format!("\"none\", {read}"), "*".to_owned()] {
        for method in [Method::GET, Method::HEAD] {
            let same = world.send(method, &user, ("if-none-match", &known), None).await?;
            assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""), "{known}: {same:?}");
            assert_eq!(tag(&same)?, read);
        }
    }
    let other = world.send(Method::GET, &user, ("if-none-match", "\"none\""), None).await?;
    assert_eq!((other.status.as_u16(), &other.body["data"]["username"]), (200, &json!("other")));
    // A password that is another is a change too.
    let body = json!({"user": {"password": "battery staple"}});
    assert_eq!(world.sidecar.put(&user, body).await?.status, 200);
    assert_eq!(world.send(Method::GET, &user, ("if-none-match", &read), None).await?.status, 200);
    // A PUT is made, whatever its client has.
    let body = json!({"user": {"username": "another"}});
    let put = world.send(Method::PUT, &user, ("if-none-match", "*"), Some(&body)).await?;
    assert_eq!(put.status, 200, "{put:?}");
    // Of what also tells figures, the tag does not say that they are the same.
    let integration = world.integration().await?;
    let read = world.tag(&integration).await?;
    let shown = world.send(Method::GET, &integration, ("if-none-match", &read), None).await?;
    assert_eq!((shown.status.as_u16(), tag(&shown)?), (200, read));
    Ok(())
}
