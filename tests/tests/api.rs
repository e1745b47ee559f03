//! The REST API under bad input, bad tokens, races and a database that goes away: a clear error in the one
//! shape each time, nothing half-done, no secret in a log.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Cluster, Database, Reply, Sidecar};

async fn world() -> Result<(Cluster, Database, Sidecar)> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    database.connect().await?.batch_execute("CREATE TABLE public.t (a int)").await?;
    let api = Sidecar::start_as_root(&database.url()).await?;
    let reply =
        api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "reader"}})).await?;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    Ok((cluster, database, api))
}

/// The one shape: an object `errors` with `detail`, or with fields that each have messages.
fn assert_error(reply: &Reply, status: StatusCode) {
    assert_eq!(reply.status, status, "{}", reply.text);
    let errors = reply.body["errors"].as_object().expect("errors");
    let is_problem = reply.headers["content-type"] == "application/problem+json";
    let members = if is_problem { 5 } else { 1 };
    assert_eq!(reply.body.as_object().map(serde_json::Map::len), Some(members));
    assert!(!errors.is_empty());
    for (name, value) in errors {
        let is_fine = match name.as_str() {
            "detail" => value.is_string() || value.is_array(),
            _ => value.is_array() || name == "total",
        };
        assert!(is_fine, "{name}: {value}");
    }
}

/// Waits until some session waits for a lock.
async fn until_a_session_waits(database: &Database) -> Result<()> {
    let observer = database.connect().await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while observer
        .query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'", &[])
        .await?
        .is_empty()
    {
        anyhow::ensure!(Instant::now() < deadline, "nobody waits for a lock");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

const CLAIMS: &str = "/api/v1/stakeholders/1/claims";

#[tokio::test]
async fn malformed_requests_are_told_what_is_wrong() -> Result<()> {
    let (_cluster, _, api) = world().await?;
    let bad = api.send(Method::PUT, CLAIMS, Some("{\"data\": {".into())).await?;
    assert_error(&bad, StatusCode::BAD_REQUEST);
    assert!(bad.text.contains("line 1 column"), "{}", bad.text);
    let token = "x".repeat(64);
    let plain = api.http().put(api.url(CLAIMS)).bearer_auth(&token).body("{}").send().await?;
    assert_error(&Reply::of(plain).await?, StatusCode::UNAUTHORIZED);
    for (method, path, status) in [
        (Method::GET, "/nowhere", StatusCode::NOT_FOUND),
        (Method::GET, "/api/v1/users/abc", StatusCode::NOT_FOUND),
        (Method::GET, "/api/v1/stakeholders/99", StatusCode::NOT_FOUND),
        (Method::GET, "/api/v1/stakeholders/99/claims", StatusCode::NOT_FOUND),
        (Method::PATCH, "/api/v1/users", StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, "/api/v1/stakeholders/1?all_or_nothing=perhaps", StatusCode::BAD_REQUEST),
    ] {
        assert_error(&api.send(method, path, None).await?, status);
    }
    let unknown = api.put("/api/v1/stakeholders/99/claims", json!({"data": {"match": []}})).await?;
    assert_error(&unknown, StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn fields_have_errors_of_their_own() -> Result<()> {
    let (_cluster, _, api) = world().await?;
    let cases = [
        (
            "/api/v1/users",
            json!({"user": {}}),
            json!({
            "username": ["can't be blank"], "password": ["can't be blank"]}),
        ),
        (
            "/api/v1/users",
            json!({"user": {"username": "a b", "password": "short"}}),
            json!({
            "username": ["has invalid format"], "password": ["should be at least 10 character(s)"]}),
        ),
        (
            "/api/v1/users",
            json!({"user": {"username": "ROOT ", "password": "long enough"}}),
            json!({
            "username": ["has already been taken"]}),
        ),
        (
            "/api/v1/users",
            json!({"user": {"username": 7, "password": "long enough"}}),
            json!({
            "username": ["is invalid"]}),
        ),
        (
            "/api/v1/auth/login",
            json!({"data": {}}),
            json!({
            "username": ["can't be blank"], "password": ["can't be blank"]}),
        ),
        ("/api/v1/stakeholders", json!({"stakeholder": {}}), json!({"name": ["can't be blank"]})),
        (
            "/api/v1/stakeholders",
            json!({"stakeholder": {"name": "x\"; DROP ROLE reader; --"}}),
            json!({"name": ["has invalid format"]}),
        ),
        (
            "/api/v1/stakeholders",
            json!({"stakeholder": {"name": "Reader"}}),
            json!({"name": ["has already been taken"]}),
        ),
        (
            "/api/v1/stakeholders",
            json!({"stakeholder": {"name": "postgres"}}),
            json!({"name": ["has already been taken"]}),
        ),
    ];
    for (path, body, errors) in cases {
        let reply = api.post(path, body).await?;
        assert_error(&reply, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(reply.body["errors"], errors);
    }
    let reserved =
        api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "pg_x"}})).await?;
    assert_error(&reserved, StatusCode::UNPROCESSABLE_ENTITY);
    let schema =
        api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "integratedb"}})).await?;
    assert_error(&schema, StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}

#[tokio::test]
async fn bad_specs_are_refused_with_pointers_and_store_nothing() -> Result<()> {
    let (_cluster, _, api) = world().await?;
    for (document, pointer) in [
        (json!(null), "#"),
        (json!([]), "#"),
        (json!({"match": 7}), "#/match"),
        (json!({"match": [{"path": "t", "fields": ["a"]}]}), "#/match/0/path"),
        (json!({"match": [{"path": "public.t", "fields": ["a", "a"]}]}), "#/match/0/fields"),
        (
            json!({"match": [{"path": "public.t", "fields": [{"name": "a", "type": 7}]}]}),
            "#/match/0/fields/0/type",
        ),
        (
            json!({"match": [{"path": "public.t", "fields": [{"name": "a", "nope": 1}]}]}),
            "#/match/0/fields/0/nope",
        ),
    ] {
        let reply = api.put(CLAIMS, json!({"data": document})).await?;
        assert_error(&reply, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(reply.body["errors"]["detail"][0][1], pointer, "{}", reply.text);
    }
    let unknown = api
        .put(CLAIMS, json!({"data": {"match": [{"path": "public.T", "fields": ["a"]}]}}))
        .await?;
    assert_error(&unknown, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        unknown.body["errors"]["unmet"][0]["hint"],
        "Did you mean public.t? Names are compared letter for letter."
    );
    assert_eq!(api.get(CLAIMS).await?.body["data"]["match"], json!([]));
    Ok(())
}

#[tokio::test]
async fn a_spec_of_ten_megabytes_is_refused_by_its_size_or_by_its_content() -> Result<()> {
    let (_cluster, database, api) = world().await?;
    let matches: Vec<Value> = (0..130_000)
        .map(|n| json!({"path": format!("public.no_table_{n}"), "fields": ["a", "b", "c"]}))
        .collect();
    let body = json!({"data": {"match": matches}});
    assert!(body.to_string().len() > 7_000_000);
    assert_error(&api.put(CLAIMS, body.clone()).await?, StatusCode::PAYLOAD_TOO_LARGE);

    let mut large = Sidecar::start_with(&database.url(), |c| c.max_body_bytes = 16 << 20).await?;
    let login = json!({"data": {"username": "root", "password": "correct horse"}});
    let login = large.post("/api/v1/auth/login", login).await?;
    large.set_token(login.body["data"]["token"].as_str());
    let reply = large.put(CLAIMS, body).await?;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.body["errors"]["total"], 130_000);
    assert_eq!(reply.body["errors"]["unmet"].as_array().map(Vec::len), Some(100));
    assert!(reply.text.len() < 1 << 20, "the answer stays small: {}", reply.text.len());
    Ok(())
}

#[tokio::test]
async fn only_a_valid_token_opens_the_door() -> Result<()> {
    let (_cluster, database, mut api) = world().await?;
    let login = json!({"data": {"username": "root", "password": "correct horse"}});
    let pair = api.post("/api/v1/auth/login", login.clone()).await?.body["data"].clone();
    let token = pair["token"].as_str().expect("a token");
    for forged in
        [None, Some(""), Some("x"), Some(&token[1..]), pair["refreshToken"].as_str(), Some("é")]
    {
        api.set_token(forged);
        let reply = api.get("/api/v1/users").await?;
        assert_error(&reply, StatusCode::UNAUTHORIZED);
        let is_none = forged.is_none_or(|token| matches!(token, "" | "é"));
        let challenge = if is_none { "Bearer" } else { "Bearer error=\"invalid_token\"" };
        assert_eq!(reply.headers["www-authenticate"], challenge);
    }
    for not_a_refresh_token in [json!(null), json!(7), json!("x"), json!(token), json!({})] {
        let reply = api.post("/api/v1/auth/renew", json!({"data": not_a_refresh_token})).await?;
        assert_error(&reply, StatusCode::FORBIDDEN);
    }
    let wrong = json!({"data": {"username": "root", "password": "wrong wrong wrong"}});
    assert_error(&api.post("/api/v1/auth/login", wrong).await?, StatusCode::FORBIDDEN);

    api.set_token(Some(token));
    assert_eq!(api.get("/api/v1/users").await?.status, StatusCode::OK);
    database
        .connect()
        .await?
        .batch_execute("UPDATE integratedb.token_pairs SET token_expires_at = now()")
        .await?;
    assert_error(&api.get("/api/v1/users").await?, StatusCode::UNAUTHORIZED);

    // Logging out and a new password revoke.
    let fresh = api.post("/api/v1/auth/login", login.clone()).await?;
    api.set_token(fresh.body["data"]["token"].as_str());
    assert_eq!(api.post("/api/v1/auth/logout", json!({})).await?.status, StatusCode::NO_CONTENT);
    assert_error(&api.get("/api/v1/users").await?, StatusCode::UNAUTHORIZED);
    let fresh = api.post("/api/v1/auth/login", login).await?;
    api.set_token(fresh.body["data"]["token"].as_str());
    let change = json!({"user": {"password": "another password"}});
    assert_eq!(api.put("/api/v1/users/1", change).await?.status, StatusCode::OK);
    assert_error(&api.get("/api/v1/users").await?, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn of_many_first_users_exactly_one_gets_in() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let api = Sidecar::start(&database.url()).await?;
    let requests: Vec<_> = (0..12)
        .map(|n| {
            let body = json!({"user": {"username": format!("user{n}"), "password": "long enough"}});
            let request = api.http().post(api.url("/api/v1/users")).json(&body);
            tokio::spawn(async move { request.send().await.map(|r| r.status()) })
        })
        .collect();
    let mut created = 0;
    for request in requests {
        match request.await?? {
            StatusCode::CREATED => created += 1,
            status => assert_eq!(status, StatusCode::UNAUTHORIZED),
        }
    }
    assert_eq!(created, 1);
    Ok(())
}

#[tokio::test]
async fn control_characters_are_bad_input_not_a_fault() -> Result<()> {
    let (_cluster, _, api) = world().await?;
    let nul = "a\u{0}b";
    let login = json!({"data": {"username": nul, "password": "long enough"}});
    assert_error(&api.post("/api/v1/auth/login", login).await?, StatusCode::FORBIDDEN);
    let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
    let user = json!({"user": {"username": nul, "password": "long enough"}});
    assert_error(&api.post("/api/v1/users", user).await?, unprocessable);
    let stakeholder = json!({"stakeholder": {"name": nul}});
    assert_error(&api.post("/api/v1/stakeholders", stakeholder).await?, unprocessable);
    for item in [
        json!({"path": format!("public.{nul}"), "fields": ["a"]}),
        json!({"path": format!("public.\"{nul}\""), "fields": ["a"]}),
        json!({"path": "public.t", "fields": [nul]}),
        json!({"path": "public.t", "fields": [{"name": "a", "type": nul}]}),
        json!({"path": "public.t", nul: 1}),
    ] {
        assert_error(&api.put(CLAIMS, json!({"data": {"match": [item]}})).await?, unprocessable);
    }
    Ok(())
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_server_stops() -> Result<()> {
    let (_cluster, database, api) = world().await?;
    let blocker = database.connect().await?;
    let login = json!({"data": {"username": "root", "password": "correct horse"}});
    let token = api.post("/api/v1/auth/login", login).await?.body["data"]["token"].clone();
    blocker.batch_execute("BEGIN; LOCK TABLE integratedb.contract_lock").await?;
    let claim = json!({"data": {"match": [{"path": "public.t", "fields": ["a"]}]}});
    let put = api.http().put(api.url(CLAIMS)).json(&claim);
    let request = tokio::spawn(put.bearer_auth(token.as_str().expect("a token")).send());
    until_a_session_waits(&database).await?;
    let stopping = tokio::spawn(api.stop());
    blocker.batch_execute("COMMIT").await?;
    assert_eq!(request.await??.status(), StatusCode::OK);
    stopping.await?
}

#[tokio::test]
async fn the_last_user_stays() -> Result<()> {
    let (_cluster, _, api) = world().await?;
    assert_error(&api.delete("/api/v1/users/1").await?, StatusCode::UNPROCESSABLE_ENTITY);
    let ann = json!({"user": {"username": "ann", "password": "long enough"}});
    api.post("/api/v1/users", ann).await?;
    assert_eq!(api.delete("/api/v1/users/2").await?.status, StatusCode::NO_CONTENT);
    Ok(())
}

#[tokio::test]
async fn guessing_passwords_is_limited() -> Result<()> {
    let (_cluster, database, _) = world().await?;
    let api =
        Sidecar::start_with(&database.url(), |config| config.login_attempts_per_user = 3).await?;
    let guess = |name: &str| json!({"data": {"username": name, "password": "a guess or two"}});
    for _ in 0..3 {
        assert_error(&api.post("/api/v1/auth/login", guess("root")).await?, StatusCode::FORBIDDEN);
    }
    let limited = api.post("/api/v1/auth/login", guess("root")).await?;
    assert_error(&limited, StatusCode::TOO_MANY_REQUESTS);
    assert!(limited.headers["retry-after"].to_str()?.parse::<u32>()? >= 1);
    assert_error(&api.post("/api/v1/auth/login", guess("ann")).await?, StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn a_stakeholder_is_renamed_and_deleted_over_rest() -> Result<()> {
    let (_cluster, database, api) = world().await?;
    let renamed =
        api.put("/api/v1/stakeholders/1", json!({"stakeholder": {"name": "writer"}})).await?;
    assert_eq!(renamed.status, StatusCode::OK, "{}", renamed.text);
    let password = renamed.body["data"]["credentials"]["password"].as_str().expect("a new one");
    let writer = database.connect_as("writer", password).await?;
    writer.batch_execute("CREATE TABLE writer.kept (a int)").await?;
    let refused = api.delete("/api/v1/stakeholders/1?all_or_nothing=true").await?;
    assert_error(&refused, StatusCode::CONFLICT);
    let kept = api.delete("/api/v1/stakeholders/1").await?;
    assert_eq!(kept.status, StatusCode::OK);
    let objects: Vec<_> = kept.body["data"]["kept"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["object"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(objects, ["schema writer", "role writer"]);
    assert_error(&api.get("/api/v1/stakeholders/1").await?, StatusCode::NOT_FOUND);
    let clean = api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "clean"}})).await?;
    let location = clean.headers["location"].to_str()?;
    assert_eq!(api.delete(location).await?.status, StatusCode::NO_CONTENT);
    Ok(())
}

#[tokio::test]
async fn a_database_that_goes_away_is_told_and_waited_for() -> Result<()> {
    let (mut cluster, _, api) = world().await?;
    cluster.stop_immediately();
    for path in ["/api/v1/users", "/health/ready"] {
        let reply = api.get(path).await?;
        assert_error(&reply, StatusCode::SERVICE_UNAVAILABLE);
        assert!(reply.headers.contains_key("retry-after"));
    }
    assert_eq!(api.get("/health/live").await?.status, StatusCode::OK);
    cluster.restart().await?;
    assert_eq!(api.get("/health/ready").await?.status, StatusCode::OK);
    assert_eq!(api.get("/api/v1/users").await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_request_cut_off_in_the_middle_leaves_nothing_behind() -> Result<()> {
    let (mut cluster, database, api) = world().await?;
    let blocker = database.connect().await?;
    blocker.batch_execute("BEGIN; LOCK TABLE integratedb.contract_lock").await?;
    let claim = json!({"data": {"match": [{"path": "public.t", "fields": ["a"]}]}});
    let put = api.http().put(api.url(CLAIMS)).json(&claim);
    let token = api
        .post(
            "/api/v1/auth/login",
            json!({"data": {"username": "root", "password": "correct horse"}}),
        )
        .await?
        .body["data"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let request = tokio::spawn(put.bearer_auth(token).send());
    until_a_session_waits(&database).await?;
    cluster.stop_immediately();
    assert_error(&Reply::of(request.await??).await?, StatusCode::SERVICE_UNAVAILABLE);
    cluster.restart().await?;
    let after = api.get(CLAIMS).await?;
    assert_eq!(after.body["data"]["match"], json!([]), "{}", after.text);
    Ok(())
}

#[tokio::test]
async fn a_claim_waits_for_a_migration_and_gives_up_in_time() -> Result<()> {
    let (_cluster, database, api) = world().await?;
    let migrator = database.connect().await?;
    migrator
        .batch_execute("BEGIN; ALTER TABLE t ADD b int; SELECT integratedb_validate_migration()")
        .await?;
    let claim = json!({"data": {"match": [{"path": "public.t", "fields": ["a"]}]}});
    let busy = api.put(CLAIMS, claim.clone()).await?;
    assert_error(&busy, StatusCode::SERVICE_UNAVAILABLE);
    assert!(busy.text.contains("migration"), "{}", busy.text);
    migrator.batch_execute("COMMIT").await?;
    assert_eq!(api.put(CLAIMS, claim).await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn no_secret_is_in_the_log_or_the_database() -> Result<()> {
    let (cluster, database, api) = world().await?;
    let stakeholder =
        api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "other"}})).await?;
    let password =
        stakeholder.body["data"]["credentials"]["password"].as_str().expect("a password");
    let pair = api
        .post(
            "/api/v1/auth/login",
            json!({"data": {"username": "root", "password": "correct horse"}}),
        )
        .await?;
    let secrets = [
        "correct horse",
        password,
        pair.body["data"]["token"].as_str().expect("a token"),
        pair.body["data"]["refreshToken"].as_str().expect("a refresh token"),
    ];
    // pg_test.conf logs every statement with its parameters.
    let log = cluster.log();
    assert!(log.contains("create_stakeholder"), "the log is the one we mean");
    let dump = cluster.program("pg_dump").arg(database.url()).output()?;
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.contains("argon2id"));
    for secret in secrets {
        assert!(!log.contains(secret) && !dump.contains(secret));
    }
    Ok(())
}

#[tokio::test]
async fn the_api_describes_itself() -> Result<()> {
    let (_cluster, _, api) = world().await?;
    let document = api.get("/api/v1/openapi.json").await?;
    let paths: BTreeSet<_> =
        document.body["paths"].as_object().expect("paths").keys().cloned().collect();
    for path in [
        "/api/v1/users",
        "/api/v1/users/{id}",
        "/api/v1/auth/login",
        "/api/v1/auth/renew",
        "/api/v1/stakeholders/{id}/claims",
        "/health/ready",
        "/metrics",
    ] {
        assert!(paths.contains(path), "{path}");
    }
    let schema = api.get("/api/v1/spec.schema.json").await?;
    assert_eq!(schema.body["title"], "IntegrateDB claims spec");
    api.get("/api/v1/users/12345").await?;
    let metrics = api.get("/metrics").await?.text;
    assert!(metrics.contains(r#"integratedb_http_requests_total{method="GET",route="/api/v1/users/{id}",status="404"} 1"#), "{metrics}");
    assert!(!metrics.contains("12345"));
    Ok(())
}

#[tokio::test]
async fn the_sidecar_needs_no_superuser() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let admin = database.connect().await?;
    admin.batch_execute("CREATE TABLE t (a int); CREATE ROLE sidecar LOGIN PASSWORD 's'").await?;
    let url = database.url_as("sidecar", "s");
    let told = Sidecar::start_with(&url, |config| config.database_wait_secs = 1).await;
    assert!(told.is_err(), "without its grant it does not start");
    admin.batch_execute("SELECT integratedb.grant_sidecar('sidecar')").await?;
    let api = Sidecar::start_as_root(&url).await?;
    let created =
        api.post("/api/v1/stakeholders", json!({"stakeholder": {"name": "reader"}})).await?;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
    let claim = json!({"data": {"match": [{"path": "public.t", "fields": ["a"]}]}});
    assert_eq!(api.put(CLAIMS, claim).await?.status, StatusCode::OK);
    assert_eq!(
        api.put("/api/v1/stakeholders/1", json!({"stakeholder": {"name": "r2"}})).await?.status,
        StatusCode::OK
    );
    assert_eq!(api.delete("/api/v1/stakeholders/1").await?.status, StatusCode::NO_CONTENT);
    api.stop().await
}
