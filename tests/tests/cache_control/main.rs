//! Caches that are made over REST: from nothing to a query and back, what is refused, and who may touch what.

mod bounds;
mod changes;
mod setup;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Reply, Sidecar, connect, loopback, until};
use tokio_postgres::error::SqlState;

use setup::{Setup, blamed, workspace};

#[tokio::test]
async fn a_cache_is_made_used_and_deleted() -> Result<()> {
    let setup = Setup::new().await?;
    let reply = setup.sidecar.post("/api/v1/caches", setup.body("main")).await?;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let cache = &reply.body["data"];
    let id = cache["id"].as_str().context("no id")?;
    assert_eq!(reply.headers["location"], format!("/api/v1/caches/{id}"));
    let proxy = setup.sidecar.proxy();
    let expected =
        format!("postgres://[USERNAME]:[PASSWORD]@{proxy}/[DATABASE]?application_name={id}");
    assert_eq!(cache["connection_string"], expected);
    let url = expected.replace("[USERNAME]", "app").replace("[PASSWORD]", "secret");
    let client = connect(&url.replace("[DATABASE]", "shop")).await?;
    assert_eq!(client.query_one("SELECT count(*) FROM items", &[]).await?.get::<_, i64>(0), 10);
    let shown = setup.sidecar.get(&format!("/api/v1/caches/{id}")).await?;
    assert_eq!(
        (&shown.body["data"]["clients"], &shown.body["data"]["error"]),
        (&json!(1), &Value::Null)
    );

    let reply = setup.sidecar.delete(&format!("/api/v1/caches/{id}")).await?;
    assert_eq!(reply.status, 204, "{}", reply.text);
    until("the session ends", async || Ok(client.is_closed())).await?;
    let refused = setup.client(id).await.err().context("it was let in")?;
    let refused = refused.downcast::<tokio_postgres::Error>()?;
    assert_eq!(refused.code(), Some(&SqlState::INVALID_CATALOG_NAME), "{refused:?}");
    assert_eq!(setup.sidecar.get(&format!("/api/v1/caches/{id}")).await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn what_can_be_no_cache_is_refused_by_its_field() -> Result<()> {
    let setup = Setup::with(|config| config.workspaces.max_caches = 2).await?;
    let sidecar = &setup.sidecar;
    setup.create("first").await?;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let web = sidecar.address().port();
    let closed = silent.local_addr()?.port();
    drop(silent);
    let long = "x".repeat(64);
    let proxy = sidecar.proxy().port();
    for (field, wrong) in [
        ("name", json!("")),
        ("name", json!(long)),
        ("name", json!("a\nb")),
        ("type", json!("mysql")),
        ("type", json!("mariadb")),
        ("type", json!("mssql")),
        ("type", json!("oracle")),
        ("hostname", json!("a,b")),
        ("hostname", json!("/run/postgresql")),
        ("hostname", json!("127.0.0.1 user=postgres")),
        ("hostname", json!("nowhere.invalid")),
        ("hostname", json!("10.0.0.1")),
        ("hostname", json!("169.254.169.254")),
        ("hostname", json!("::1")),
        ("port", json!(0)),
        ("port", json!(65536)),
        ("port", json!(-1)),
        ("port", json!(closed)),
        ("port", json!(web)),
    ] {
        let mut body = setup.body("second");
        body["cache"][field] = wrong.clone();
        let reply = sidecar.post("/api/v1/caches", body).await?;
        assert_eq!(blamed(&reply)?, field, "{wrong}");
        let is_told = !wrong.is_string() || field != "type" || reply.text.contains("postgres");
        assert!(is_told, "{}", reply.text);
    }
    for field in ["name", "type", "hostname", "port"] {
        let mut body = setup.body("second");
        body["cache"].as_object_mut().context("no object")?.remove(field);
        assert_eq!(blamed(&sidecar.post("/api/v1/caches", body).await?)?, field);
    }
    for secret in ["username", "password", "id", "workspace_id", "settings"] {
        let mut body = setup.body("second");
        body["cache"][secret] = json!("x");
        assert_eq!(sidecar.post("/api/v1/caches", body).await?.status, 422, "{secret}");
    }
    // The proxy is no origin of its own: what connects would come round again.
    let mut body = setup.body("second");
    body["cache"]["port"] = json!(proxy);
    assert_eq!(blamed(&sidecar.post("/api/v1/caches", body.clone()).await?)?, "hostname");
    body["cache"]["hostname"] = json!("localhost");
    let reply = sidecar.post("/api/v1/caches", body).await?;
    assert_eq!(blamed(&reply)?, "port");
    assert!(reply.text.contains("this proxy itself"), "{}", reply.text);
    let twice = sidecar.post("/api/v1/caches", setup.body("first")).await?;
    assert_eq!(twice.status, 409, "{}", twice.text);
    setup.create("second").await?;
    let full = sidecar.post("/api/v1/caches", setup.body("third")).await?;
    assert!(full.status == 409 && full.text.contains("most"), "{}", full.text);
    Ok(())
}

#[tokio::test]
async fn a_list_has_pages_and_a_change_needs_what_was_read() -> Result<()> {
    let setup = Setup::with(|config| {
        let file = integratedb_sidecar::proxy::CacheSettings::new("host=localhost");
        config.caches.insert(support::cache_id("of-file"), file);
    })
    .await?;
    let sidecar = &setup.sidecar;
    let (one, two) = (setup.create("one").await?, setup.create("two").await?);
    let mut seen = Vec::new();
    let mut path = "/api/v1/caches?limit=1".to_owned();
    loop {
        let reply = sidecar.get(&path).await?;
        let data = reply.body["data"].as_array().context("no list")?;
        seen.extend(data.iter().map(|cache| (cache["name"].clone(), cache["workspace"].clone())));
        let Some(next) = reply.body["next"].as_i64() else { break };
        path = format!("/api/v1/caches?limit=1&after={next}");
    }
    let workspace = json!(setup.workspace);
    let expected = [
        (json!("of-file"), Value::Null),
        (json!("one"), workspace.clone()),
        (json!("two"), workspace.clone()),
    ];
    assert_eq!(seen, expected);
    let named = sidecar.get(&format!("/api/v1/caches?workspace={workspace}&name=two")).await?;
    assert_eq!(named.body["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(named.body["data"][0]["id"], two);

    let shown = sidecar.get(&format!("/api/v1/caches/{one}")).await?;
    let tag = shown.headers["etag"].to_str()?.to_owned();
    let rename = async |name: &str, tag: &str| -> Result<Reply> {
        let request = sidecar.http().put(sidecar.url(&format!("/api/v1/caches/{one}")));
        let request =
            request.bearer_auth(sidecar.token().unwrap_or_default()).header("if-match", tag);
        Reply::of(request.json(&json!({"cache": {"name": name}})).send().await?).await
    };
    assert_eq!(rename("three", &tag).await?.status, 200);
    assert_eq!(rename("four", &tag).await?.status, 412);
    let tag =
        sidecar.get(&format!("/api/v1/caches/{one}")).await?.headers["etag"].to_str()?.to_owned();
    assert_eq!(rename("two", &tag).await?.status, 409);
    for body in [json!({"cache": {"id": "x"}}), json!({"cache": {"workspace": 7}})] {
        assert_eq!(sidecar.put(&format!("/api/v1/caches/{one}"), body).await?.status, 422);
    }
    // What the file says, only the file changes.
    let of_file = "/api/v1/caches/of-file";
    assert_eq!(sidecar.put(of_file, json!({"cache": {"name": "x"}})).await?.status, 409);
    assert_eq!(sidecar.delete(of_file).await?.status, 409);
    assert_eq!(sidecar.get(&format!("{of_file}/settings")).await?.status, 409);
    Ok(())
}

#[tokio::test]
async fn who_is_no_member_sees_and_touches_nothing() -> Result<()> {
    let mut setup = Setup::new().await?;
    let cache = setup.create("main").await?;
    let user = |name: &str| json!({"user": {"username": name, "password": "correct horse"}});
    let eve = setup.sidecar.post("/api/v1/users", user("eve")).await?;
    let eve = eve.body["data"]["token"].as_str().context("no token")?.to_owned();
    let admin = setup.database.connect().await?;
    let others = workspace(&setup.database, "others", &[("eve", "owner")]).await?;
    let body = setup.body("theirs");
    let path = format!("/api/v1/caches/{cache}");
    let calls = [
        ("GET", String::new(), Value::Null),
        ("PUT", String::new(), json!({"cache": {"name": "x"}})),
        ("GET", "/settings".to_owned(), Value::Null),
        ("PUT", "/settings".to_owned(), json!({"settings": {}})),
        ("GET", "/queries".to_owned(), Value::Null),
        ("GET", "/caching".to_owned(), Value::Null),
        ("GET", "/rules".to_owned(), Value::Null),
        ("PUT", "/mode".to_owned(), json!({"mode": "observe"})),
        ("PUT", "/rules/table/public.items".to_owned(), json!({"cache": false})),
        ("DELETE", "/rules/table/public.items".to_owned(), Value::Null),
        ("POST", "/purge".to_owned(), json!({"all": true})),
        ("POST", "/explain".to_owned(), json!({"query": "SELECT 1"})),
        ("DELETE", String::new(), Value::Null),
    ];
    setup.sidecar.set_token(Some(&eve));
    for operator in [true, false] {
        admin
            .execute(
                "UPDATE integratedb.users SET operator = $1 WHERE username = 'eve'",
                &[&operator],
            )
            .await?;
        for (method, rest, body) in &calls {
            let body = (!body.is_null()).then(|| body.to_string());
            let reply = setup.sidecar.send(method.parse()?, &format!("{path}{rest}"), body).await?;
            assert_eq!(reply.status, 404, "{method} {rest}: {}", reply.text);
        }
        assert_eq!(setup.sidecar.post("/api/v1/caches", body.clone()).await?.status, 404);
        for query in ["", "?name=main", &format!("?workspace={}", setup.workspace)] {
            let list = setup.sidecar.get(&format!("/api/v1/caches{query}")).await?;
            assert_eq!(list.body["data"], json!([]), "{query}");
        }
    }
    // As a viewer she sees all, and changes nothing.
    let sql = "INSERT INTO integratedb.workspace_member (workspace_id, user_id, role) \
               SELECT $1, id, 'viewer' FROM integratedb.users WHERE username = 'eve'";
    admin.execute(sql, &[&setup.workspace]).await?;
    for (method, rest, body) in &calls {
        let body = (!body.is_null()).then(|| body.to_string());
        let reply = setup.sidecar.send(method.parse()?, &format!("{path}{rest}"), body).await?;
        let is_refused = reply.status == 403;
        // Explaining changes nothing.
        assert_eq!(
            is_refused,
            *method != "GET" && rest != "/explain",
            "{method} {rest}: {}",
            reply.text
        );
    }
    assert_eq!(setup.sidecar.post("/api/v1/caches", body).await?.status, 403);
    // What she gives no workspace goes to the one that she owns; of two she has to say which one.
    let mut theirs = setup.body("theirs");
    theirs["cache"].as_object_mut().context("no object")?.remove("workspace");
    let made = setup.sidecar.post("/api/v1/caches", theirs.clone()).await?;
    assert_eq!((made.status.as_u16(), &made.body["data"]["workspace"]), (201, &json!(others)));
    workspace(&setup.database, "more", &[("eve", "owner")]).await?;
    theirs["cache"]["name"] = json!("more");
    let unsaid = setup.sidecar.post("/api/v1/caches", theirs).await?;
    assert_eq!(blamed(&unsaid)?, "workspace");
    Ok(())
}

#[tokio::test]
async fn other_sidecars_and_later_ones_follow_and_a_bad_row_harms_no_other() -> Result<()> {
    let setup = Setup::new().await?;
    let mut other = Sidecar::start_with(&setup.database.url(), |config| {
        config.workspaces.allow_networks = loopback();
    })
    .await?;
    other.set_token(setup.sidecar.token());
    let (good, bad) = (setup.create("good").await?, setup.create("bad").await?);
    let through = async |sidecar: &Sidecar, cache: &str| {
        let url = setup.database.url_through(sidecar.proxy(), "app", "secret");
        connect(&format!("{url}&application_name={cache}")).await
    };
    let reaches = async |cache: &str| through(&other, cache).await.is_ok();
    until("the other one knows both", async || Ok(reaches(&good).await && reaches(&bad).await))
        .await?;

    let admin = setup.database.connect().await?;
    let write = async |settings: &Value| -> Result<()> {
        let sql = "UPDATE integratedb.cache SET settings = $2, version = version + 1 WHERE id = $1";
        ensure!(admin.execute(sql, &[&bad, settings]).await? == 1, "no such row");
        Ok(())
    };
    let view = async |sidecar: &Sidecar| -> Result<Value> {
        let reply = sidecar.get(&format!("/api/v1/caches/{bad}")).await?;
        Ok(reply.body["data"].clone())
    };
    // A later version's settings, which this one knows in part.
    let login = json!({"database": "shop", "user": "app", "of_later": 1});
    write(&json!({"pool_size": 7, "of_later": {"x": 1}})).await?;
    until("it is taken", async || Ok(view(&setup.sidecar).await?["pool_size"] == 7)).await?;
    assert!(view(&setup.sidecar).await?["error"].is_null() && setup.client(&bad).await.is_ok());
    // What can't be read at all, or has no password, is told, and who is there goes on as before.
    let session = setup.client(&bad).await?;
    for (settings, why) in
        [(json!({"pool_size": "many"}), "many"), (json!({"verifiers": login}), "password")]
    {
        write(&settings).await?;
        until(why, async || {
            let error = view(&setup.sidecar).await?["error"].clone();
            Ok(error.as_str().is_some_and(|error| error.contains(why)))
        })
        .await?;
        session.simple_query("SELECT 1").await?;
        assert!(setup.client(&bad).await.is_ok() && setup.client(&good).await.is_ok());
    }
    // A sidecar that has not known it before has nothing to go on with.
    let mut later = Sidecar::start_with(&setup.database.url(), |config| {
        config.workspaces.allow_networks = loopback();
    })
    .await?;
    later.set_token(setup.sidecar.token());
    until("it is told there", async || Ok(!view(&later).await?["error"].is_null())).await?;
    until("the good one is served there", async || Ok(through(&later, &good).await.is_ok()))
        .await?;
    assert!(through(&later, &bad).await.is_err());
    let told = later.get(&format!("/api/v1/caches/{bad}/queries")).await?;
    assert_eq!(told.status, 409, "{}", told.text);
    later.stop().await?;
    assert_eq!(setup.put(&bad, json!({})).await?.status, 200);
    assert!(view(&setup.sidecar).await?["error"].is_null() && setup.client(&bad).await.is_ok());

    let staying = through(&other, &good).await?;
    assert_eq!(setup.sidecar.delete(&format!("/api/v1/caches/{good}")).await?.status, 204);
    until("sessions end there too", async || Ok(staying.is_closed())).await?;
    assert!(through(&other, &good).await.is_err());
    other.stop().await?;

    // The network of the origin is allowed no more: as if its name led elsewhere now.
    let strict = Sidecar::start_with(&setup.database.url(), |_| {}).await?;
    let refused = std::cell::RefCell::new(String::new());
    until("it is refused by its address", async || {
        let error = through(&strict, &bad).await.err().context("it was let through")?;
        let error = error.downcast::<tokio_postgres::Error>()?;
        let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default();
        *refused.borrow_mut() = detail.to_owned();
        Ok(detail.contains("workspaces.allow_networks"))
    })
    .await
    .with_context(|| refused.borrow().clone())?;
    Ok(())
}

#[tokio::test]
async fn a_stored_password_goes_nowhere_else_and_is_never_shown() -> Result<()> {
    const SECRET: &str = "un'usual\\ secret";
    let folder = tempfile::tempdir()?;
    let key = folder.path().join("key");
    std::fs::write(&key, [7; 32])?;
    let setup = Setup::with(|config| config.workspaces.key_file = Some(key)).await?;
    let admin = setup.database.connect().await?;
    admin
        .batch_execute("CREATE ROLE asker SUPERUSER LOGIN PASSWORD E'un\\'usual\\\\ secret'")
        .await?;
    let cache = setup.create("main").await?;
    let login = json!({"database": "shop", "user": "asker"});
    let settings = |password: Option<&str>| {
        let mut settings = json!({"auth": "scram", "pool_mode": "transaction", "verifiers": login, "caching": login});
        for part in ["verifiers", "caching"] {
            if let Some(password) = password {
                settings[part]["password"] = json!(password);
            }
        }
        settings
    };
    let reply = setup.put(&cache, settings(None)).await?;
    assert!(reply.status == 422 && reply.text.contains("can't be blank"), "{}", reply.text);
    let reply = setup.put(&cache, settings(Some(SECRET))).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let path = format!("/api/v1/caches/{cache}");
    until("it keeps answers", async || {
        let caching = setup.sidecar.get(&format!("{path}/caching")).await?;
        Ok(caching.body["data"]["serving"] == true)
    })
    .await?;
    let client = setup.client(&cache).await?;
    let query = "SELECT name FROM items WHERE id = 7";
    let hits = async || -> Result<i64> {
        let caching = setup.sidecar.get(&format!("{path}/caching")).await?;
        caching.body["data"]["hits"].as_i64().context("no hits")
    };
    until("an answer comes from here", async || {
        client.simple_query(query).await?;
        Ok(hits().await? > 0)
    })
    .await?;
    let rule = setup
        .sidecar
        .put(&format!("{path}/rules/table/public.items"), json!({"cache": false}))
        .await?;
    assert_eq!(rule.status, 200, "{}", rule.text);
    let purged = setup.sidecar.post(&format!("{path}/purge"), json!({"all": true})).await?;
    assert_eq!(purged.status, 200, "{}", purged.text);
    assert_eq!(
        setup.sidecar.put(&format!("{path}/mode"), json!({"mode": "manual"})).await?.status,
        200
    );

    // What is shown can be sent again, and the passwords stay.
    let shown = setup.sidecar.get(&format!("{path}/settings")).await?.body["data"].clone();
    assert_eq!(setup.put(&cache, shown.clone()).await?.status, 200);
    assert!(setup.client(&cache).await?.simple_query(query).await.is_ok());
    let rules = setup.sidecar.get(&format!("{path}/rules")).await?;
    assert_eq!(rules.body["data"]["rules"][0]["name"], "public.items", "{}", rules.text);
    // But not for another user, less protection, another host, or what else its user would be made to run.
    for (pointer, value) in [
        (
            "/verifiers/query",
            json!("SELECT rolname, rolpassword FROM pg_authid WHERE rolname <> $1"),
        ),
        ("/verifiers/database", json!("postgres")),
        ("/caching/database", json!("postgres")),
        ("/verifiers/user", json!("app")),
        ("/caching/user", json!("app")),
        ("/sslmode", json!("disable")),
    ] {
        let mut changed = shown.clone();
        *changed.pointer_mut(pointer).context("no such setting")? = value;
        let reply = setup.put(&cache, changed).await?;
        assert!(reply.status == 422 && reply.text.contains("again"), "{pointer}: {}", reply.text);
    }
    let elsewhere = Cluster::start().await?;
    let port = elsewhere.address().port();
    let moved = json!({"cache": {"port": port}});
    let reply = setup.sidecar.put(&path, moved.clone()).await?;
    assert!(reply.status == 409 && reply.text.contains("passwords"), "{}", reply.text);
    // Not even if somebody writes the row, who has not got the key.
    let update = "UPDATE integratedb.cache SET port = $2, version = version + 1 WHERE id = $1";
    admin.execute(update, &[&cache, &i32::from(port)]).await?;
    until("it is told", async || {
        let error = setup.sidecar.get(&path).await?.body["data"]["error"].clone();
        Ok(error.as_str().is_some_and(|why| why.contains("password")))
    })
    .await?;
    admin.execute(update, &[&cache, &i32::from(setup.database.address().port())]).await?;
    // Without passwords, it may go elsewhere.
    assert_eq!(setup.put(&cache, json!({})).await?.status, 200);
    let reply = setup.sidecar.put(&path, moved).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(setup.sidecar.delete(&path).await?.status, 204);

    let everything = "SELECT (SELECT coalesce(string_agg(e::text, ' '), '') FROM integratedb.audit_event e), \
                      (SELECT string_agg(action, ' ' ORDER BY id) FROM integratedb.audit_event \
                       WHERE workspace_id = $1 AND username = 'root'), \
                      (SELECT count(*) FROM integratedb.cache_rules)";
    let row = admin.query_one(everything, &[&setup.workspace]).await?;
    let (texts, actions, rules): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
    assert!(!texts.contains("usual") && !shown.to_string().contains("usual"), "{texts}");
    assert_eq!(
        actions,
        "cache.create cache.settings cache.rule.set cache.purge cache.mode cache.settings cache.settings \
         cache.update cache.delete"
    );
    assert_eq!(rules, 0);
    Ok(())
}

#[tokio::test]
async fn settings_are_checked_and_a_password_needs_a_key() -> Result<()> {
    let setup = Setup::new().await?;
    let cache = setup.create("main").await?;
    let caching = |name: &str, value: Value| {
        let mut caching = json!({"database": "shop", "user": "app", "password": "secret"});
        caching[name] = value;
        json!({ "caching": caching })
    };
    for (field, wrong) in [
        ("pool_size", json!({"pool_size": 0})),
        ("max_origin_connections", json!({"max_origin_connections": 0})),
        ("query_wait_secs", json!({"query_wait_secs": u64::MAX})),
        ("query_secs", json!({"query_secs": 86_401})),
        ("verifiers", json!({"auth": "scram"})),
        ("auth", json!({"pool_mode": "transaction"})),
        ("caching.max_bytes", caching("max_bytes", json!(1_u64 << 40))),
        ("caching.max_entry_bytes", caching("max_entry_bytes", json!(1_u64 << 40))),
        ("caching.max_lag_ms", caching("max_lag_ms", json!(0))),
        ("caching.user", caching("user", json!(""))),
        ("caching.password", caching("password", json!(""))),
        ("caching", caching("mode", json!("auto"))),
    ] {
        let reply = setup.put(&cache, wrong).await?;
        assert_eq!(blamed(&reply)?, field, "{}", reply.text);
    }
    for unknown in [
        json!({"server_reset_query": "SELECT 1"}),
        json!({"origin": "host=elsewhere"}),
        json!({"auth_url": "postgres://elsewhere"}),
        json!({"sslrootcert": "/etc/passwd"}),
        caching("disk", json!({"path": "/tmp/x"})),
        caching("slot", json!("permanent")),
        caching("url", json!("postgres://elsewhere")),
    ] {
        assert_eq!(setup.put(&cache, unknown.clone()).await?.status, 422, "{unknown}");
    }
    let reply = setup.put(&cache, json!({"pool_size": 3})).await?;
    assert_eq!((reply.status.as_u16(), &reply.body["data"]["pool_size"]), (200, &json!(3)));
    let reply = setup.put(&cache, json!({})).await?;
    assert_eq!(reply.body["data"]["pool_size"], 20);
    Ok(())
}

/// The threads of this process that parse queries.
fn parsers() -> Result<usize> {
    let mut count = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        // One that ends meanwhile is none.
        let name = std::fs::read_to_string(task?.path().join("comm")).unwrap_or_default();
        count += usize::from(name.trim_end() == "parser");
    }
    Ok(count)
}

#[tokio::test]
async fn many_caches_are_parsed_for_by_one_thread() -> Result<()> {
    let setup = Setup::new().await?;
    for number in 0..5 {
        let cache = setup.create(&format!("cache {number}")).await?;
        setup.client(&cache).await?.simple_query("SELECT name FROM items WHERE id = 7").await?;
        let path = format!("/api/v1/caches/{cache}/queries");
        until("what was asked is parsed", async || {
            let queries = setup.sidecar.get(&path).await?;
            Ok(queries.text.contains("\"public.items\"") || queries.text.contains("\"items\""))
        })
        .await?;
    }
    assert_eq!(parsers()?, 1);
    Ok(())
}

#[tokio::test]
async fn workspaces_and_caches_have_an_end() -> Result<()> {
    let setup = Setup::with(|config| {
        config.workspaces.max_workspaces = 2;
        config.workspaces.max_caches_total = 1;
    })
    .await?;
    let sidecar = &setup.sidecar;
    let make =
        async || sidecar.post("/api/v1/workspaces", json!({"workspace": {"name": "more"}})).await;
    let second = make().await?;
    assert_eq!(second.status, 201, "{}", second.text);
    let third = make().await?;
    assert!(third.status == 409 && third.text.contains("2 workspaces"), "{}", third.text);
    // Nor does anybody get there by being made an owner of others' workspaces.
    let user = |name: &str| json!({"user": {"username": name, "password": "correct horse"}});
    let eve = sidecar.post("/api/v1/users", user("eve")).await?;
    let others =
        workspace(&setup.database, "others", &[("eve", "owner"), ("root", "admin")]).await?;
    let admin = setup.database.connect().await?;
    let root: i64 = admin
        .query_one("SELECT id FROM integratedb.users WHERE username = 'root'", &[])
        .await?
        .get(0);
    let path = format!("/api/v1/workspaces/{others}/members/{root}");
    let request = sidecar.http().put(sidecar.url(&path));
    let token = eve.body["data"]["token"].as_str().context("no token")?;
    let body = json!({"member": {"role": "owner"}});
    let reply = Reply::of(request.bearer_auth(token).json(&body).send().await?).await?;
    assert!(reply.status == 409 && reply.text.contains("2 workspaces"), "{}", reply.text);

    setup.create("first").await?;
    let mut elsewhere = setup.body("second");
    elsewhere["cache"]["workspace"] = second.body["data"]["id"].clone();
    let full = sidecar.post("/api/v1/caches", elsewhere).await?;
    assert!(full.status == 409 && full.text.contains("All workspaces"), "{}", full.text);
    Ok(())
}

/// A setup that has a key for passwords, and a function that makes settings with so many bytes.
async fn keeping(
    folder: &tempfile::TempDir,
    total: usize,
) -> Result<(Setup, impl Fn(usize) -> Value + use<>)> {
    let key = folder.path().join("key");
    std::fs::write(&key, [7; 32])?;
    let setup = Setup::with(|config| {
        config.workspaces.key_file = Some(key);
        config.workspaces.max_total_bytes = total;
    })
    .await?;
    let role = "CREATE ROLE asker SUPERUSER LOGIN PASSWORD 'secret'";
    setup.database.connect().await?.batch_execute(role).await?;
    let settings = |bytes: usize| json!({"caching": {"database": "shop", "user": "asker", "password": "secret", "max_bytes": bytes}});
    Ok((setup, settings))
}

#[tokio::test]
async fn a_cache_that_is_set_anew_keeps_nothing_twice() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (setup, settings) = keeping(&folder, 100 << 20).await?;
    let cache = setup.create("main").await?;
    let path = format!("/api/v1/caches/{cache}/caching");
    let caching = async |what: &str| -> Result<Value> {
        Ok(setup.sidecar.get(&path).await?.body["data"][what].clone())
    };
    let query = "SELECT name FROM items WHERE id = 7";
    // It has its connection for itself, and stays with it.
    let client = setup.client(&cache).await?;
    let backend = async || -> Result<i32> {
        Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))
    };
    let first = backend().await?;
    let admin = setup.database.connect().await?;
    let slots = "SELECT count(*) FROM pg_replication_slots";
    // Each takes more than half of what there is.
    for megabytes in [60, 61, 62] {
        let reply = setup.put(&cache, settings(megabytes << 20)).await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let shown = setup.sidecar.get(&format!("/api/v1/caches/{cache}")).await?;
        assert!(shown.body["data"]["error"].is_null(), "{}", shown.text);
        until("it keeps answers", async || Ok(caching("serving").await? == true)).await?;
        until("what was before reads no more", async || {
            Ok(admin.query_one(slots, &[]).await?.get::<_, i64>(0) == 1)
        })
        .await?;
        let client = setup.client(&cache).await?;
        until("an answer comes from here", async || {
            client.simple_query(query).await?;
            Ok(caching("hits").await?.as_i64() > Some(0))
        })
        .await?;
    }
    assert_eq!(backend().await?, first);
    Ok(())
}

#[tokio::test]
async fn all_caches_together_have_so_much_memory() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (setup, settings) = keeping(&folder, 100 << 20).await?;
    let (one, two) = (setup.create("one").await?, setup.create("two").await?);
    assert_eq!(setup.put(&one, settings(60 << 20)).await?.status, 200);
    let reply = setup.put(&two, settings(60 << 20)).await?;
    assert_eq!(blamed(&reply)?, "caching.max_bytes", "{}", reply.text);
    assert_eq!(setup.put(&two, settings(40 << 20)).await?.status, 200);

    // Another process may have less: there one of them serves nobody, until there is room.
    let key = folder.path().join("key");
    let other = Sidecar::start_with(&setup.database.url(), |config| {
        config.workspaces.allow_networks = loopback();
        config.workspaces.key_file = Some(key);
        config.workspaces.max_total_bytes = 60 << 20;
    })
    .await?;
    let reaches = async |cache: &str| -> Result<bool> {
        let url = setup.database.url_through(other.proxy(), "app", "secret");
        Ok(connect(&format!("{url}&application_name={cache}")).await.is_ok())
    };
    let served = async || Ok::<_, anyhow::Error>((reaches(&one).await?, reaches(&two).await?));
    until("one is served there", async || {
        let (one, two) = served().await?;
        Ok(one != two)
    })
    .await?;
    let (goes, stays) = if reaches(&one).await? { (&one, &two) } else { (&two, &one) };
    assert_eq!(setup.sidecar.delete(&format!("/api/v1/caches/{goes}")).await?.status, 204);
    until("there is room for the other one", async || reaches(stays).await).await?;
    Ok(())
}
