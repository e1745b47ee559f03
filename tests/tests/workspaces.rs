//! Workspaces: what each role may do, that one member never sees another's workspace, and that no race leaves one
//! without an owner.

use std::sync::Arc;

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Cluster, Database, Person, Sidecar, until};

struct World {
    _cluster: Cluster,
    database: Database,
    api: Arc<Sidecar>,
}

impl World {
    async fn new() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let api = Arc::new(Sidecar::start_as_root(&database.url()).await?);
        Ok(Self { _cluster: cluster, database, api })
    }

    /// A user who is no operator.
    async fn person(&self, name: &str) -> Result<Person> {
        Person::new(&self.api, name, false).await
    }

    /// Waits until so many sessions wait for a lock.
    async fn until_waiting(&self, sessions: i64) -> Result<()> {
        let observer = self.database.connect().await?;
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("sessions wait for a lock", || async {
            Ok(observer.query_one(sql, &[]).await?.get::<_, i64>(0) == sessions)
        })
        .await
    }

    /// What is answered to requests that all wait for one lock before any of them goes on.
    async fn at_once(
        &self,
        lock: &str,
        requests: Vec<(&Person, Method, String, Option<Value>)>,
    ) -> Result<Vec<u16>> {
        let holder = self.database.connect().await?;
        holder.batch_execute(&format!("BEGIN; {lock}")).await?;
        let count = i64::try_from(requests.len())?;
        let sent: Vec<_> = requests
            .into_iter()
            .map(|(who, method, path, body)| {
                let (who, api) = (who.clone(), Arc::clone(&self.api));
                tokio::spawn(async move { who.send(&api, method, &path, body).await })
            })
            .collect();
        self.until_waiting(count).await?;
        holder.batch_execute("COMMIT").await?;
        let mut statuses = Vec::new();
        for request in sent {
            statuses.push(request.await??.status.as_u16());
        }
        statuses.sort_unstable();
        Ok(statuses)
    }

    async fn count(&self, sql: &str) -> Result<i64> {
        Ok(self.database.connect().await?.query_one(sql, &[]).await?.get(0))
    }
}

fn role(role: &str) -> Option<Value> {
    Some(json!({ "member": { "role": role } }))
}

fn name(name: &str) -> Option<Value> {
    Some(json!({ "workspace": { "name": name } }))
}

#[tokio::test]
async fn who_makes_a_workspace_owns_it() -> Result<()> {
    let world = World::new().await?;
    let (api, ann) = (&world.api, world.person("ann").await?);
    let path = ann.workspace(api, " Shop ").await?;
    let shown = ann.get(api, &path).await?;
    assert_eq!(
        (&shown.body["data"]["name"], &shown.body["data"]["role"]),
        (&json!("Shop"), &json!("owner"))
    );
    let list = ann.get(api, "/api/v1/workspaces").await?;
    assert_eq!(list.body, json!({"data": [shown.body["data"]], "next": null}));

    // Changes of what somebody else has changed meanwhile are refused.
    let tag = shown.headers["etag"].clone();
    let rename = |to: &str| {
        let request = api.http().put(api.url(&path)).bearer_auth(&ann.token);
        request.header("if-match", tag.clone()).json(&name(to)).send()
    };
    let renamed = rename("Store").await?;
    assert_eq!(renamed.status(), StatusCode::OK);
    assert_ne!(renamed.headers()["etag"], tag);
    assert_eq!(rename("Boutique").await?.status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(ann.get(api, &path).await?.body["data"]["name"], "Store");

    for (wrong, message) in [
        (json!(""), "can't be blank"),
        (json!(7), "is invalid"),
        (json!("a\u{0}b"), "has invalid format"),
        (json!("a\u{202e}b"), "has invalid format"),
        (json!("x".repeat(101)), "should be at most 100 character(s)"),
    ] {
        let body = json!({"workspace": {"name": wrong}});
        let refused = ann.post(api, "/api/v1/workspaces", body).await?;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.body["errors"]["name"], json!([message]));
    }

    for n in 0..3 {
        ann.workspace(api, &format!("w{n}")).await?;
    }
    let page = ann.get(api, "/api/v1/workspaces?limit=2").await?;
    let after = page.body["next"].as_i64().context("there are more")?;
    let rest = ann.get(api, &format!("/api/v1/workspaces?after={after}&limit=3")).await?;
    let names = |of: &Value| {
        let all = of["data"].as_array().into_iter().flatten();
        all.map(|one| one["name"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (names(&page.body), names(&rest.body)),
        (vec!["Store".into(), "w0".into()], vec!["w1".into(), "w2".into()])
    );

    assert_eq!(ann.delete(api, &path).await?.status, StatusCode::NO_CONTENT);
    assert_eq!(ann.get(api, &path).await?.status, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn a_role_may_do_what_it_may_and_no_more() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let owner = world.person("olga").await?;
    let path = owner.workspace(api, "shop").await?;
    let (viewer, member) = (world.person("vic").await?, world.person("mia").await?);
    let (admin, dave) = (world.person("abe").await?, world.person("dave").await?);
    for (who, role) in [(&viewer, "viewer"), (&member, "member"), (&admin, "admin")] {
        owner.lets_in(api, &path, who, role).await?;
    }
    let (members, of_dave) = (format!("{path}/members"), format!("{path}/members/{}", dave.id));
    let of_owner = format!("{path}/members/{}", owner.id);
    let audit = format!("{path}/audit");
    let add = Some(json!({"member": {"username": "Dave", "role": "viewer"}}));
    // What viewer, member, admin and owner are answered.
    let table = [
        (Method::GET, &path, None, [200, 200, 200, 200]),
        (Method::PUT, &path, name("shop"), [403, 403, 200, 200]),
        (Method::GET, &members, None, [200, 200, 200, 200]),
        (Method::GET, &audit, None, [403, 403, 200, 200]),
        (Method::POST, &members, add.clone(), [403, 403, 201, 409]),
        (Method::PUT, &of_dave, role("admin"), [403, 403, 200, 200]),
        (Method::PUT, &of_dave, role("owner"), [403, 403, 403, 200]),
        // Dave is an owner now.
        (Method::PUT, &of_dave, role("viewer"), [403, 403, 403, 200]),
        (Method::DELETE, &of_owner, None, [403, 403, 403, 409]),
        (Method::DELETE, &of_dave, None, [403, 403, 204, 404]),
        (Method::DELETE, &path, None, [403, 403, 403, 204]),
    ];
    for (method, path, body, expected) in table {
        for (who, expected) in [&viewer, &member, &admin, &owner].into_iter().zip(expected) {
            let reply = who.send(api, method.clone(), path, body.clone()).await?;
            assert_eq!(reply.status, expected, "{} {method} {path}: {}", who.name, reply.text);
        }
    }
    Ok(())
}

#[tokio::test]
async fn anybody_may_leave_and_add_only_users_that_there_are() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let (owner, guest) = (world.person("olga").await?, world.person("gus").await?);
    let path = owner.workspace(api, "shop").await?;
    owner.lets_in(api, &path, &guest, "viewer").await?;
    let listed = guest.get(api, &format!("{path}/members?limit=1")).await?;
    assert_eq!(listed.body["data"][0]["username"], "olga");
    assert_eq!(listed.body["next"], owner.id);
    let of_guest = format!("{path}/members/{}", guest.id);
    assert_eq!(guest.delete(api, &of_guest).await?.status, StatusCode::NO_CONTENT);
    assert_eq!(guest.get(api, &path).await?.status, StatusCode::NOT_FOUND);
    assert_eq!(guest.delete(api, &of_guest).await?.status, StatusCode::NOT_FOUND);

    let nobody = json!({"member": {"username": "nobody", "role": "viewer"}});
    let refused = owner.post(api, &format!("{path}/members"), nobody).await?;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.body["errors"]["username"], json!(["is the name of no user"]));
    let of_nobody = format!("{path}/members/999");
    let unknown = owner.put(api, &of_nobody, json!({"member": {"role": "viewer"}})).await?;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    let god = owner.put(api, &of_guest, json!({"member": {"role": "god"}})).await?;
    assert_eq!(god.status, StatusCode::UNPROCESSABLE_ENTITY);

    // One who was read as a viewer is not changed by whoever has read that, if somebody else was first.
    owner.lets_in(api, &path, &guest, "viewer").await?;
    let put = |role: &str, tag: Option<&reqwest::header::HeaderValue>| {
        let mut request = api.http().put(api.url(&of_guest)).bearer_auth(&owner.token);
        if let Some(tag) = tag {
            request = request.header("if-match", tag);
        }
        request.json(&json!({"member": {"role": role}})).send()
    };
    let tag = put("viewer", None).await?.headers()["etag"].clone();
    assert_eq!(put("member", Some(&tag)).await?.status(), StatusCode::OK);
    assert_eq!(put("admin", Some(&tag)).await?.status(), StatusCode::PRECONDITION_FAILED);
    Ok(())
}

/// Two owners who leave, or make each other less, at once.
#[tokio::test]
async fn no_race_leaves_a_workspace_without_an_owner() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let (ann, bob) = (world.person("ann").await?, world.person("bob").await?);
    let of = |path: &str, who: &Person| format!("{path}/members/{}", who.id);
    let lock = "SELECT FROM integratedb.workspace FOR UPDATE";
    let owners = "SELECT count(*) FROM integratedb.workspace_member WHERE role = 'owner'";

    let path = ann.workspace(api, "shop").await?;
    ann.lets_in(api, &path, &bob, "owner").await?;
    let requests = vec![
        (&ann, Method::DELETE, of(&path, &ann), None),
        (&bob, Method::DELETE, of(&path, &bob), None),
    ];
    assert_eq!(world.at_once(lock, requests).await?, [204, 409]);
    assert_eq!(world.count(owners).await?, 1);
    world.database.connect().await?.batch_execute("DELETE FROM integratedb.workspace").await?;

    let path = ann.workspace(api, "shop").await?;
    ann.lets_in(api, &path, &bob, "owner").await?;
    let requests = vec![
        (&ann, Method::PUT, of(&path, &bob), role("viewer")),
        (&bob, Method::PUT, of(&path, &ann), role("viewer")),
    ];
    // The second one is no owner any more.
    assert_eq!(world.at_once(lock, requests).await?, [200, 403]);
    assert_eq!(world.count(owners).await?, 1);
    world.database.connect().await?.batch_execute("DELETE FROM integratedb.workspace").await?;

    // One leaves while the other is deleted.
    let path = ann.workspace(api, "shop").await?;
    ann.lets_in(api, &path, &bob, "owner").await?;
    let requests = vec![
        (&ann, Method::DELETE, of(&path, &ann), None),
        (&bob, Method::DELETE, format!("/api/v1/users/{}", bob.id), None),
    ];
    assert_eq!(world.at_once(lock, requests).await?, [204, 409]);
    assert_eq!(world.count(owners).await?, 1);
    Ok(())
}

#[tokio::test]
async fn who_lost_the_right_while_waiting_changes_nothing() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let (ann, bob) = (world.person("ann").await?, world.person("bob").await?);
    let path = ann.workspace(api, "shop").await?;
    ann.lets_in(api, &path, &bob, "admin").await?;
    let lock = format!(
        "SELECT FROM integratedb.workspace FOR UPDATE; DELETE FROM integratedb.workspace_member WHERE user_id = {}",
        bob.id
    );
    let requests = vec![
        (&bob, Method::PUT, path.clone(), name("mine")),
        (&bob, Method::PUT, format!("{path}/members/{}", bob.id), role("admin")),
    ];
    assert_eq!(world.at_once(&lock, requests).await?, [404, 404]);
    assert_eq!(ann.get(api, &path).await?.body["data"]["name"], "shop");
    assert_eq!(world.count("SELECT count(*) FROM integratedb.workspace_member").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_member_of_one_workspace_never_sees_another() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let (ann, bob) = (world.person("ann").await?, world.person("bob").await?);
    let (hers, his) = (ann.workspace(api, "hers").await?, bob.workspace(api, "his").await?);
    let calls = |path: &str| {
        let members = format!("{path}/members");
        vec![
            (Method::GET, path.to_owned(), None),
            (Method::PUT, path.to_owned(), name("taken")),
            (Method::DELETE, path.to_owned(), None),
            (Method::GET, members.clone(), None),
            (
                Method::POST,
                members.clone(),
                Some(json!({"member": {"username": "bob", "role": "owner"}})),
            ),
            (Method::PUT, format!("{members}/{}", bob.id), role("owner")),
            (Method::DELETE, format!("{members}/{}", ann.id), None),
            (Method::GET, format!("{path}/audit"), None),
        ]
    };
    let nowhere = "/api/v1/workspaces/4711";
    let pairs = calls(&hers).into_iter().zip(calls(nowhere));
    for ((method, path, body), (_, unknown, _)) in pairs {
        for token in [Some(&bob.token), api.token().map(str::to_owned).as_ref()] {
            let token = token.context("root has a token")?;
            let who = Person { token: token.clone(), ..bob.clone() };
            let there = who.send(api, method.clone(), &path, body.clone()).await?;
            let nowhere = who.send(api, method.clone(), &unknown, body.clone()).await?;
            assert_eq!(there.status, StatusCode::NOT_FOUND, "{method} {path}");
            // Nor by a different answer.
            assert_eq!(
                (there.status, there.text),
                (nowhere.status, nowhere.text),
                "{method} {path}"
            );
        }
    }
    let list = bob.get(api, "/api/v1/workspaces").await?;
    assert_eq!(list.body["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(list.body["data"][0]["name"], "his");
    for path in ["/api/v1/audit", &format!("{his}/audit")] {
        let root = api.token().context("root has a token")?.to_owned();
        let token = if path == "/api/v1/audit" { root } else { bob.token.clone() };
        let seen = Person { token, ..bob.clone() }.get(api, path).await?;
        assert_eq!(seen.status, StatusCode::OK);
        assert!(!seen.text.contains("hers") && !seen.text.contains(&hers), "{}", seen.text);
    }
    assert_eq!(ann.get(api, &hers).await?.body["data"]["name"], "hers");
    assert_eq!(world.count("SELECT count(*) FROM integratedb.workspace_member").await?, 2);
    Ok(())
}

#[tokio::test]
async fn fields_that_are_not_ones_own_to_set_are_refused() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let (ann, bob) = (world.person("ann").await?, world.person("bob").await?);
    let path = ann.workspace(api, "shop").await?;
    let (of_ann, members) = (format!("/api/v1/users/{}", ann.id), format!("{path}/members"));
    let of_bob = format!("{members}/{}", bob.id);
    let invalid = StatusCode::UNPROCESSABLE_ENTITY;
    for (method, path, body, status) in [
        (
            Method::PUT,
            &of_ann,
            json!({"user": {"username": "ann", "operator": true}}),
            StatusCode::FORBIDDEN,
        ),
        (Method::PUT, &of_ann, json!({"user": {"username": "ann", "id": 1}}), invalid),
        (Method::PUT, &of_ann, json!({"user": {"username": "ann", "password_hash": "x"}}), invalid),
        (Method::PUT, &of_ann, json!({"user": {"username": "ann"}, "operator": true}), invalid),
        (Method::PUT, &path, json!({"workspace": {"name": "x", "id": 7}}), invalid),
        (Method::PUT, &path, json!({"workspace": {"name": "x", "role": "owner"}}), invalid),
        (Method::PUT, &of_bob, json!({"member": {"role": "viewer", "workspace_id": 2}}), invalid),
        (Method::PUT, &of_bob, json!({"member": {"role": "viewer", "user_id": 1}}), invalid),
        (
            Method::POST,
            &members,
            json!({"member": {"username": "bob", "role": "viewer", "id": 1}}),
            invalid,
        ),
        (
            Method::POST,
            &"/api/v1/workspaces".to_owned(),
            json!({"workspace": {"name": "x", "owner": 1}}),
            invalid,
        ),
    ] {
        let reply = ann.send(api, method.clone(), path, Some(body.clone())).await?;
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.text);
    }
    assert_eq!(world.count("SELECT count(*) FROM integratedb.users WHERE operator").await?, 1);
    assert_eq!(world.count("SELECT count(*) FROM integratedb.workspace_member").await?, 1);
    assert_eq!(ann.get(api, &path).await?.body["data"]["name"], "shop");
    Ok(())
}

#[tokio::test]
async fn only_operators_steer_the_installation() -> Result<()> {
    let world = World::new().await?;
    let (api, ann) = (&world.api, world.person("ann").await?);
    let new = json!({"user": {"username": "eve", "password": "long enough"}});
    for (method, path, body) in [
        (Method::GET, "/api/v1/users", None),
        (Method::POST, "/api/v1/users", Some(new)),
        (Method::GET, "/api/v1/users/1", None),
        (Method::PUT, "/api/v1/users/1", Some(json!({"user": {"password": "taken over"}}))),
        (Method::DELETE, "/api/v1/users/1", None),
        (Method::DELETE, "/api/v1/users/1/tokens", None),
        (Method::GET, "/api/v1/stakeholders", None),
        (Method::POST, "/api/v1/stakeholders", Some(json!({"stakeholder": {"name": "x"}}))),
        (Method::GET, "/api/v1/audit", None),
    ] {
        let reply = ann.send(api, method.clone(), path, body).await?;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{method} {path}: {}", reply.text);
    }
    let of_ann = format!("/api/v1/users/{}", ann.id);
    let shown = ann.get(api, &of_ann).await?;
    assert_eq!(shown.body["data"], json!({"id": ann.id, "username": "ann", "operator": false}));
    let renamed = ann.put(api, &of_ann, json!({"user": {"username": "anna"}})).await?;
    assert_eq!(
        (renamed.status, &renamed.body["data"]["username"]),
        (StatusCode::OK, &json!("anna"))
    );

    let made = api.put(&of_ann, json!({"user": {"operator": true}})).await?;
    assert_eq!(made.body["data"]["operator"], true);
    assert_eq!(ann.get(api, "/api/v1/users").await?.status, StatusCode::OK);
    let wrong = api.put(&of_ann, json!({"user": {"operator": "yes"}})).await?;
    assert_eq!(wrong.body["errors"]["operator"], json!(["is true or false"]));
    Ok(())
}

#[tokio::test]
async fn an_operator_stays() -> Result<()> {
    let world = World::new().await?;
    let (api, ann) = (&world.api, world.person("ann").await?);
    let less = Some(json!({"user": {"operator": false}}));
    let refused = api.put("/api/v1/users/1", json!({"user": {"operator": false}})).await?;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.body["errors"]["operator"], json!(["is true of the last operator"]));
    let refused = api.delete("/api/v1/users/1").await?;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(api.get("/api/v1/users/1").await?.body["data"]["operator"], true);

    // Two operators who stop to be one at once, and two who end each other's being one.
    let of_ann = format!("/api/v1/users/{}", ann.id);
    let client = world.database.connect().await?;
    let root = Person { token: api.token().context("a token")?.to_owned(), ..ann.clone() };
    let lock = "LOCK TABLE integratedb.users IN SHARE ROW EXCLUSIVE MODE";
    let of_root = "/api/v1/users/1".to_owned();
    for (of_first, of_second, statuses) in
        [(&of_root, &of_ann, [200, 422]), (&of_ann, &of_root, [200, 403])]
    {
        client.batch_execute("UPDATE integratedb.users SET operator = true").await?;
        let requests = vec![
            (&root, Method::PUT, of_first.clone(), less.clone()),
            (&ann, Method::PUT, of_second.clone(), less.clone()),
        ];
        assert_eq!(world.at_once(lock, requests).await?, statuses);
        assert_eq!(world.count("SELECT count(*) FROM integratedb.users WHERE operator").await?, 1);
    }

    // One who stops to be an operator while requests of hers wait changes nothing by them any more.
    let client = world.database.connect().await?;
    client.batch_execute("UPDATE integratedb.users SET operator = true").await?;
    let lock =
        format!("{lock}; UPDATE integratedb.users SET operator = false WHERE id = {}", ann.id);
    let again = Some(json!({"user": {"operator": true}}));
    let friend = Some(json!({"user": {"username": "friend", "password": "long enough"}}));
    let password = Some(json!({"user": {"password": "taken over"}}));
    let requests = vec![
        (&ann, Method::PUT, of_ann, again),
        (&ann, Method::POST, "/api/v1/users".to_owned(), friend),
        (&ann, Method::PUT, "/api/v1/users/1".to_owned(), password),
        (&ann, Method::DELETE, "/api/v1/users/1".to_owned(), None),
    ];
    assert_eq!(world.at_once(&lock, requests).await?, [403, 403, 403, 403]);
    assert_eq!(world.count("SELECT count(*) FROM integratedb.users WHERE operator").await?, 1);

    // The first user can't be less either.
    let cluster = Cluster::start().await?;
    let database = cluster.database("empty").await?;
    let empty = Sidecar::start(&database.url()).await?;
    let user = json!({"user": {"username": "first", "password": "long enough", "operator": false}});
    let refused = empty.post("/api/v1/users", user).await?;
    assert_eq!(refused.body["errors"]["operator"], json!(["is true of the first user"]));
    Ok(())
}

#[tokio::test]
async fn who_alone_owns_a_workspace_can_not_be_deleted() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let (ann, bob) = (world.person("ann").await?, world.person("bob").await?);
    let path = ann.workspace(api, "shop").await?;
    let shared = bob.workspace(api, "shared").await?;
    bob.lets_in(api, &shared, &ann, "viewer").await?;
    let of_ann = format!("/api/v1/users/{}", ann.id);
    let refused = api.delete(&of_ann).await?;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    let told = refused.body["errors"]["detail"].as_str().context("a reason")?;
    assert!(told.contains("shop") && !told.contains("shared"), "{told}");
    assert_eq!(ann.get(api, &shared).await?.status, StatusCode::OK, "nothing has changed");

    ann.lets_in(api, &path, &bob, "owner").await?;
    assert_eq!(api.delete(&of_ann).await?.status, StatusCode::NO_CONTENT);
    let left = bob.get(api, &format!("{path}/members")).await?;
    assert_eq!(left.body["data"].as_array().map(Vec::len), Some(1));
    // Each workspace is told that it has a member less.
    for path in [path, shared] {
        let told = bob.get(api, &format!("{path}/audit?action=member.delete")).await?;
        assert_eq!(told.body["data"][0]["before"]["username"], "ann", "{}", told.text);
    }
    Ok(())
}

/// An application of bob's with a grant of ann in a workspace, its code and tokens, and a browser that ann is logged in
/// with; as the pages of OAuth leave them.
async fn grant(world: &World, ann: &Person, bob: &Person, workspace: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO integratedb.oauth_application (client_id, workspace_id, name, scopes, redirect_uris)
             VALUES ('of workspace', {workspace}, 'a', '{{}}', '{{}}') ON CONFLICT DO NOTHING;
         INSERT INTO integratedb.oauth_application (client_id, user_id, name, scopes, redirect_uris)
             VALUES ('of bob', {bob}, 'b', '{{}}', '{{}}') ON CONFLICT DO NOTHING;
         INSERT INTO integratedb.oauth_grant (application_id, user_id, workspace_id, scopes)
             SELECT id, {ann}, {workspace}, '{{}}' FROM integratedb.oauth_application ON CONFLICT DO NOTHING;
         INSERT INTO integratedb.oauth_code
             SELECT sha256(id::text::bytea), id, 'x', 'x', '{{}}', gen_random_uuid(), NULL, now() + '1 min'
             FROM integratedb.oauth_grant ON CONFLICT DO NOTHING;
         INSERT INTO integratedb.oauth_token
             (grant_id, family, scopes, refresh_scopes, token_hash, token_expires_at, refresh_hash, refresh_expires_at)
             SELECT id, gen_random_uuid(), '{{}}', '{{}}', sha256(('t' || id)::bytea), now() + '1 h', sha256(('r' || id)::bytea), now() + '1 h'
             FROM integratedb.oauth_grant ON CONFLICT DO NOTHING;
         INSERT INTO integratedb.browser_session VALUES ('x', {ann}, now() + '1 h') ON CONFLICT DO NOTHING",
        ann = ann.id,
        bob = bob.id,
    );
    Ok(world.database.connect().await?.batch_execute(&sql).await?)
}

/// Applications, grants, codes, tokens and browsers.
async fn granted(world: &World) -> Result<Vec<i64>> {
    let mut counts = Vec::new();
    for table in
        ["oauth_application", "oauth_grant", "oauth_code", "oauth_token", "browser_session"]
    {
        counts.push(world.count(&format!("SELECT count(*) FROM integratedb.{table}")).await?);
    }
    Ok(counts)
}

#[tokio::test]
async fn what_was_handed_out_goes_with_what_it_was_handed_out_for() -> Result<()> {
    let world = World::new().await?;
    let api = &world.api;
    let (mut ann, bob) = (world.person("ann").await?, world.person("bob").await?);
    let path = bob.workspace(api, "shop").await?;
    let id = path.rsplit('/').next().context("an id")?;
    bob.lets_in(api, &path, &ann, "member").await?;
    grant(&world, &ann, &bob, id).await?;
    assert_eq!(granted(&world).await?, [2, 2, 2, 2, 1]);

    // A new password logs browsers out; applications were not logged in with it.
    let of_ann = format!("/api/v1/users/{}", ann.id);
    let renamed = ann.put(api, &of_ann, json!({"user": {"username": "ann"}})).await?;
    assert_eq!((renamed.status.as_u16(), granted(&world).await?[4]), (200, 1));
    let changed = ann.put(api, &of_ann, json!({"user": {"password": "another password"}})).await?;
    assert_eq!(changed.status, StatusCode::OK);
    assert_eq!(granted(&world).await?, [2, 2, 2, 2, 0]);

    // All tokens: what was agreed to stays, what was handed out for it goes.
    grant(&world, &ann, &bob, id).await?;
    let login = json!({"data": {"username": "ann", "password": "another password"}});
    let login = api.post("/api/v1/auth/login", login).await?;
    ann.token = login.body["data"]["token"].as_str().context("a token")?.to_owned();
    assert_eq!(ann.delete(api, &format!("{of_ann}/tokens")).await?.status, StatusCode::NO_CONTENT);
    assert_eq!(granted(&world).await?, [2, 2, 0, 0, 0]);

    // A member who goes takes along what it had agreed to in the workspace.
    grant(&world, &ann, &bob, id).await?;
    assert_eq!(
        bob.delete(api, &format!("{path}/members/{}", ann.id)).await?.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(granted(&world).await?, [2, 0, 0, 0, 1]);

    // A workspace stays while it has caches, and then goes with its applications.
    grant(&world, &bob, &bob, id).await?;
    let insert = format!(
        "INSERT INTO integratedb.cache (id, workspace_id, name, type, hostname, port)
         VALUES ('c1', {id}, 'orders', 'postgres', 'db.example.com', 5432)"
    );
    let client = world.database.connect().await?;
    client.batch_execute(&insert).await?;
    let refused = bob.delete(api, &path).await?;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text.contains("orders"), "{}", refused.text);
    assert_eq!(granted(&world).await?[..2], [2, 2]);
    client.batch_execute("DELETE FROM integratedb.cache").await?;
    assert_eq!(bob.delete(api, &path).await?.status, StatusCode::NO_CONTENT);
    assert_eq!(granted(&world).await?[..4], [1, 0, 0, 0]);
    Ok(())
}

/// Whether an answer is what the documentation says, where `…` stands for anything.
fn is_as_told(answer: &Value, told: &Value) -> bool {
    match (answer, told) {
        (_, Value::String(told)) if told == "…" => true,
        (Value::Object(answer), Value::Object(told)) => {
            answer.len() == told.len()
                && told.iter().all(|(name, told)| {
                    answer.get(name).is_some_and(|answer| is_as_told(answer, told))
                })
        }
        (Value::Array(answer), Value::Array(told)) => {
            answer.len() == told.len() && answer.iter().zip(told).all(|(a, t)| is_as_told(a, t))
        }
        _ => answer == told,
    }
}

#[tokio::test]
async fn the_walk_of_the_documentation_goes_as_told() -> Result<()> {
    let world = World::new().await?;
    let (api, ann, bob) = (&world.api, world.person("ann").await?, world.person("bob").await?);
    let document = include_str!("../../docs/workspaces/README.md").replace("\\\n", "");
    let mut walked = 0;
    for block in document.split("```").skip(1).step_by(2) {
        for call in block.split("curl ").skip(1) {
            let (command, told) = call.split_once('\n').context("an answer")?;
            let command = command.split('#').next().unwrap_or_default();
            let body = command.split('\'').nth(1).map(serde_json::from_str).transpose()?;
            let who = if command.contains("$ANN") { &ann } else { &bob };
            let method = match command.split_once("-X ").map(|(_, rest)| &rest[..3]) {
                None => Method::GET,
                Some("POS") => Method::POST,
                Some("PUT") => Method::PUT,
                Some(_) => Method::DELETE,
            };
            let (_, path) = command.split_once("$ENDPOINT").context("a path")?;
            let reply = who.send(api, method, path.trim_matches(['"', ' ']), body).await?;
            let told: Value = serde_json::from_str(told)?;
            // Times, addresses and numbers of events are others each time.
            let mut answer = reply.body;
            let mut told = told;
            for value in [&mut answer, &mut told] {
                if let Some(event) =
                    value["data"].get_mut(0).filter(|event| event["at"].is_string())
                {
                    event["at"] = "…".into();
                    event["id"] = "…".into();
                    event["address"] = "…".into();
                    value["next"] = "…".into();
                }
            }
            assert!(is_as_told(&answer, &told), "{command}: {answer}");
            walked += 1;
        }
    }
    assert_eq!(walked, 6);
    Ok(())
}
