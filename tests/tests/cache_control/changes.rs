//! Changes of caches: of what was read, by who still may, and by several at once.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::Reply;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::setup::Setup;

/// One whose sidecar keeps passwords, and a user of the origin who may do anything.
async fn with_key() -> Result<Setup> {
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    std::fs::write(&key, [7; 32])?;
    let setup = Setup::with(|config| config.workspaces.key_file = Some(key)).await?;
    let roles = "CREATE ROLE asker SUPERUSER LOGIN PASSWORD 'one'";
    setup.database.connect().await?.batch_execute(roles).await?;
    Ok(setup)
}

/// Settings that keep answers and share connections.
fn shared(password: &str) -> Value {
    let login = json!({"database": "shop", "user": "asker", "password": password});
    json!({"auth": "scram", "pool_mode": "transaction", "verifiers": login, "caching": login})
}

/// What is to be changed only if it has this tag.
async fn only(
    setup: &Setup,
    method: &str,
    path: &str,
    tag: &str,
    body: Option<Value>,
) -> Result<Reply> {
    let sidecar = &setup.sidecar;
    let request = sidecar.http().request(method.parse()?, sidecar.url(path));
    let request = request.bearer_auth(sidecar.token().unwrap_or_default()).header("if-match", tag);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    Reply::of(request.send().await?).await
}

fn tag(reply: &Reply) -> Result<String> {
    let tag = reply.headers.get("etag").with_context(|| format!("no tag: {}", reply.text))?;
    Ok(tag.to_str()?.to_owned())
}

/// Answers a client as a Postgres without TLS does.
async fn answer(stream: &mut TcpStream) -> Result<()> {
    stream.read_exact(&mut [0; 8]).await?;
    Ok(stream.write_all(b"N").await?)
}

#[tokio::test]
async fn a_tag_of_settings_is_also_of_passwords_and_of_the_origin() -> Result<()> {
    let setup = with_key().await?;
    let cache = setup.create("main").await?;
    let path = format!("/api/v1/caches/{cache}/settings");
    let put = async |password: &str, tag: &str| {
        only(&setup, "PUT", &path, tag, Some(json!({"settings": shared(password)}))).await
    };
    let first = put("one", &tag(&setup.sidecar.get(&path).await?)?).await?;
    assert_eq!(first.status, 200, "{}", first.text);
    let first = tag(&first)?;
    assert_eq!(tag(&setup.sidecar.get(&path).await?)?, first, "reading changes nothing");
    let second = put("two", &first).await?;
    assert_eq!(second.status, 200, "{}", second.text);
    assert_ne!(tag(&second)?, first);
    assert_eq!(put("three", &first).await?.status, 412);

    let plain = setup.put(&cache, json!({})).await?;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await?;
    let moved = json!({"cache": {"port": elsewhere.local_addr()?.port()}});
    let of_cache = format!("/api/v1/caches/{cache}");
    let (moved, answered) = tokio::join!(setup.sidecar.put(&of_cache, moved), async {
        answer(&mut elsewhere.accept().await?.0).await
    });
    answered?;
    assert_eq!(moved?.status, 200);
    assert_eq!(put("one", &tag(&plain)?).await?.status, 412, "it would go to another host");
    Ok(())
}

#[tokio::test]
async fn rules_mode_and_deletion_need_what_was_read() -> Result<()> {
    let setup = with_key().await?;
    let cache = setup.create("main").await?;
    let reply = setup.put(&cache, shared("one")).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let path = format!("/api/v1/caches/{cache}");
    let (rules, mode) = (format!("{path}/rules"), format!("{path}/mode"));
    let rule = |table: &str| format!("{rules}/table/public.{table}");
    let body = || Some(json!({"cache": false}));
    let manual = || Some(json!({"mode": "manual"}));

    let none = tag(&setup.sidecar.get(&rules).await?)?;
    let reply = only(&setup, "PUT", &rule("items"), &none, body()).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let one = tag(&reply)?;
    assert_eq!(tag(&setup.sidecar.get(&rules).await?)?, one);
    for (method, path, body) in [
        ("PUT", rule("items"), Some(json!({"cache": true}))),
        ("PUT", rule("others"), body()),
        ("DELETE", rule("items"), None),
        ("PUT", mode.clone(), manual()),
    ] {
        let reply = only(&setup, method, &path, &none, body).await?;
        assert_eq!(reply.status, 412, "{method} {path}: {}", reply.text);
    }
    assert_eq!(tag(&setup.sidecar.get(&rules).await?)?, one, "nothing was changed");
    let reply = only(&setup, "PUT", &mode, &one, manual()).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply = only(&setup, "DELETE", &rule("items"), &tag(&reply)?, None).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);

    let read = tag(&setup.sidecar.get(&path).await?)?;
    let renamed = setup.sidecar.put(&path, json!({"cache": {"name": "other"}})).await?;
    assert_eq!(renamed.status, 200, "{}", renamed.text);
    assert_eq!(only(&setup, "DELETE", &path, &read, None).await?.status, 412);
    assert_eq!(only(&setup, "DELETE", &path, &tag(&renamed)?, None).await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn of_caches_that_want_one_name_at_once_one_gets_it() -> Result<()> {
    let setup = Setup::new().await?;
    let (one, two) = (setup.create("one").await?, setup.create("two").await?);
    for round in 0..10 {
        let name = format!("round {round}");
        let rename = |cache: &str| {
            let (path, body) =
                (format!("/api/v1/caches/{cache}"), json!({"cache": {"name": name}}));
            let sidecar = &setup.sidecar;
            async move { sidecar.put(&path, body).await }
        };
        let made = setup.sidecar.post("/api/v1/caches", setup.body(&name));
        let (first, second, made) = tokio::join!(rename(&one), rename(&two), made);
        let mut statuses = Vec::new();
        for (reply, good) in [(first?, 200), (second?, 200), (made?, 201)] {
            let is_told = reply.status == 409 && reply.text.contains("already");
            ensure!(reply.status == good || is_told, "{}: {}", reply.status, reply.text);
            statuses.push(reply.status != 409);
        }
        assert_eq!(statuses.iter().filter(|got_it| **got_it).count(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn who_is_no_member_any_more_when_the_origin_has_answered_changes_nothing() -> Result<()> {
    let setup = Setup::new().await?;
    let cache = setup.create("main").await?;
    let admin = setup.database.connect().await?;
    let origin = TcpListener::bind("127.0.0.1:0").await?;
    let port = origin.local_addr()?.port();
    let mut body = setup.body("late");
    body["cache"]["port"] = json!(port);
    let path = format!("/api/v1/caches/{cache}");
    let moved = json!({"cache": {"port": port}});
    for (role, expected) in [("viewer", 403), ("", 404)] {
        for is_new in [true, false] {
            let sql = "INSERT INTO integratedb.workspace_member (workspace_id, user_id, role) \
                       SELECT $1, id, 'member' FROM integratedb.users WHERE username = 'root' \
                       ON CONFLICT (workspace_id, user_id) DO UPDATE SET role = EXCLUDED.role";
            admin.execute(sql, &[&setup.workspace]).await?;
            let asked = async {
                let sidecar = &setup.sidecar;
                if is_new {
                    sidecar.post("/api/v1/caches", body.clone()).await
                } else {
                    sidecar.put(&path, moved.clone()).await
                }
            };
            let meanwhile = async {
                let mut stream = origin.accept().await?.0;
                if role.is_empty() {
                    let sql = "DELETE FROM integratedb.workspace_member WHERE workspace_id = $1";
                    admin.execute(sql, &[&setup.workspace]).await?;
                } else {
                    let sql =
                        "UPDATE integratedb.workspace_member SET role = $2 WHERE workspace_id = $1";
                    admin.execute(sql, &[&setup.workspace, &role]).await?;
                }
                answer(&mut stream).await
            };
            let (reply, answered) = tokio::join!(asked, meanwhile);
            answered?;
            let reply = reply?;
            assert_eq!(reply.status, expected, "new: {is_new}, then {role}: {}", reply.text);
        }
    }
    let sql = "SELECT count(*) FROM integratedb.cache WHERE port = $1";
    let there: i64 = admin.query_one(sql, &[&i32::from(port)]).await?.get(0);
    assert_eq!(there, 0);
    Ok(())
}

#[tokio::test]
async fn what_changes_nothing_for_clients_leaves_their_connections() -> Result<()> {
    let setup = with_key().await?;
    let cache = setup.create("main").await?;
    let reply = setup.put(&cache, shared("one")).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let path = format!("/api/v1/caches/{cache}");
    let client = setup.client(&cache).await?;
    // A write is not answered from here.
    let backend = async || -> Result<i32> {
        client.batch_execute("UPDATE items SET name = name WHERE id = 1").await?;
        Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))
    };
    let before = backend().await?;
    let renamed = setup.sidecar.put(&path, json!({"cache": {"name": "other"}})).await?;
    assert_eq!(renamed.status, 200, "{}", renamed.text);
    assert_eq!(backend().await?, before);
    let mut same = shared("one");
    for part in ["verifiers", "caching"] {
        same[part].as_object_mut().context("no part")?.remove("password");
    }
    assert_eq!(setup.put(&cache, same).await?.status, 200);
    assert_eq!(backend().await?, before);
    // What does change something takes another one.
    let mut fewer = shared("one");
    fewer["pool_size"] = json!(3);
    assert_eq!(setup.put(&cache, fewer).await?.status, 200);
    assert_ne!(backend().await?, before);
    Ok(())
}

#[tokio::test]
async fn a_list_of_caches_links_to_its_next_page() -> Result<()> {
    let setup = Setup::new().await?;
    setup.create("one").await?;
    setup.create("two").await?;
    let path = format!("/api/v1/caches?workspace={}&limit=1", setup.workspace);
    let page = setup.sidecar.get(&path).await?;
    let next = page.body["next"].as_i64().context("no next page")?;
    let link = page.headers.get("link").context("no link")?.to_str()?;
    assert_eq!(link, format!("<{path}&after={next}>; rel=\"next\""));
    let last =
        setup.sidecar.get(&format!("{path}&after={next}&limit=2").replace("&limit=1", "")).await?;
    assert!(last.headers.get("link").is_none(), "{}", last.text);
    Ok(())
}
