//! What all of the REST API has in common: how errors are written, how often one may call, and what may be sent again.

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Cluster, Database, Reply, Sidecar, until};

const STAKEHOLDERS: &str = "/api/v1/stakeholders";

async fn world() -> Result<(Cluster, Database, Sidecar)> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let api = Sidecar::start_as_root(&database.url()).await?;
    Ok((cluster, database, api))
}

fn content_type(reply: &Reply) -> &str {
    reply.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

#[track_caller]
fn assert_problem(reply: &Reply, status: StatusCode, kind: &str) {
    assert_eq!(
        (reply.status, content_type(reply)),
        (status, "application/problem+json"),
        "{reply:?}"
    );
    assert_eq!(reply.body["type"], kind, "{}", reply.text);
    assert_eq!(reply.body["status"], status.as_u16());
    assert!(reply.body["title"].is_string() && reply.body["detail"].is_string());
    assert!(reply.body["errors"].is_object(), "as before problem details came");
    assert_eq!(reply.body.as_object().map(serde_json::Map::len), Some(5));
}

#[tokio::test]
async fn errors_are_problem_details_but_where_the_guide_says_otherwise() -> Result<()> {
    let (_cluster, _, mut api) = world().await?;
    let not_found = StatusCode::NOT_FOUND;
    for path in
        ["/api/v1/caches/none", "/api/v1/stakeholders/7/channels", "/nothing", "/api/v1/usersx"]
    {
        let reply = api.get(path).await?;
        assert_problem(&reply, not_found, "about:blank");
        assert_eq!(
            (&reply.body["title"], &reply.body["detail"]),
            (&json!("Not Found"), &json!("Not Found"))
        );
    }
    assert_problem(
        &api.put("/api/v1/caches", json!({})).await?,
        StatusCode::METHOD_NOT_ALLOWED,
        "about:blank",
    );
    assert_problem(&api.get("/api/v1/caches/%ff").await?, StatusCode::BAD_REQUEST, "about:blank");
    let unknown = api.get("/api/v1/sync/tenants?nothing=1").await?;
    assert_problem(&unknown, StatusCode::BAD_REQUEST, "about:blank");

    let made = api.post(STAKEHOLDERS, json!({"stakeholder": {"name": "reader"}})).await?;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let wrong = json!({"backfill": {"table": 7}});
    let wrong = api.post("/api/v1/stakeholders/1/backfills", wrong).await?;
    assert_problem(&wrong, StatusCode::UNPROCESSABLE_ENTITY, "/problems/invalid");
    assert_eq!(wrong.body["errors"]["detail"][0][1], "#/backfill/table");
    let detail = "Name a table with its schema, such as public.orders, at #/backfill/table.";
    assert_eq!(wrong.body["detail"], detail);

    for path in [
        "/api/v1/users/77",
        "/api/v1/stakeholders/77/claims",
        "/api/v1/stakeholders/1/nothing",
        "/tenant/x",
    ] {
        let reply = api.get(path).await?;
        assert_eq!((reply.status, content_type(&reply)), (not_found, "application/json"), "{path}");
        assert_eq!(reply.body, json!({"errors": {"detail": "Not Found"}}), "{path}");
    }
    api.set_token(None);
    let nobody = api.get("/api/v1/caches").await?;
    assert_problem(&nobody, StatusCode::UNAUTHORIZED, "about:blank");
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
    let nobody = api.get("/api/v1/users").await?;
    assert_eq!(nobody.body, json!({"errors": {"detail": "Unauthorized"}}));
    api.set_token(Some("made up"));
    let refused = api.get("/api/v1/caches").await?;
    assert_eq!(refused.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    Ok(())
}

fn left(reply: &Reply) -> Result<u32> {
    let text = reply.headers.get("ratelimit").context("no RateLimit")?.to_str()?;
    let rest = text.strip_prefix("\"default\";r=").with_context(|| text.to_owned())?;
    Ok(rest.split(';').next().unwrap_or_default().parse()?)
}

#[tokio::test]
async fn each_user_has_a_limit_and_all_others_that_of_their_address() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    // So slow that none comes back meanwhile.
    let mut api = Sidecar::start_as_root_with(&database.url(), |config| {
        config.requests_per_minute = 1;
        config.request_burst = 5;
    })
    .await?;
    let root = api.token().context("no token")?.to_owned();
    let ann = json!({"user": {"username": "ann", "password": "long enough"}});
    let made = api.post("/api/v1/users", ann).await?;
    assert_eq!(made.headers["ratelimit-policy"], "\"default\";q=5;w=300");
    assert_eq!(left(&made)?, 4);
    let ann = made.body["data"]["token"].as_str().context("no token")?;
    // What is not found, or not allowed, counts too.
    assert_eq!(left(&api.get("/api/v1/users/77").await?)?, 3);
    assert_eq!(
        left(&api.send(Method::PATCH, "/api/v1/users", None).await?)?,
        3,
        "nobody looks whose it is"
    );
    for expected in (0..3).rev() {
        assert_eq!(left(&api.get("/api/v1/users").await?)?, expected);
    }
    let refused = api.get("/api/v1/caches").await?;
    assert_problem(&refused, StatusCode::TOO_MANY_REQUESTS, "/problems/too-many-requests");
    assert_eq!(left(&refused)?, 0);
    assert!((1..=60).contains(&refused.headers["retry-after"].to_str()?.parse::<u32>()?));
    // Nothing is done.
    let other = api.post(STAKEHOLDERS, json!({"stakeholder": {"name": "reader"}})).await?;
    assert_eq!(other.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(content_type(&other), "application/json");
    api.set_token(Some(ann));
    assert_eq!(left(&api.get("/api/v1/users").await?)?, 4);

    // The first user was made without a token, and the PATCH was nobody's. Tokens that are made up are nobody's too.
    for (made_up, expected) in [("a", 2), ("b", 1), ("c", 0)] {
        api.set_token(Some(made_up));
        let reply = api.get("/api/v1/users").await?;
        assert_eq!((reply.status, left(&reply)?), (StatusCode::UNAUTHORIZED, expected));
    }
    api.set_token(Some("d"));
    let asked = cluster.log().matches("integratedb.token_pairs").count();
    assert!(asked > 0, "statements are logged");
    assert_eq!(api.get("/api/v1/users").await?.status, StatusCode::TOO_MANY_REQUESTS);
    let asked_since = cluster.log().matches("integratedb.token_pairs").count();
    assert_eq!(asked_since, asked, "the database is not asked whose it is");
    assert_eq!(api.get("/api/v1/openapi.json").await?.status, StatusCode::TOO_MANY_REQUESTS);
    for path in ["/health/live", "/health/ready", "/metrics"] {
        let reply = api.get(path).await?;
        assert_eq!(reply.status, StatusCode::OK);
        assert!(!reply.headers.contains_key("ratelimit"));
    }
    api.set_token(Some(ann));
    assert_eq!(left(&api.get("/api/v1/users").await?)?, 3);
    api.set_token(Some(&root));
    assert_eq!(api.get("/api/v1/users").await?.status, StatusCode::TOO_MANY_REQUESTS);
    Ok(())
}

#[tokio::test]
async fn a_new_login_gives_no_new_account_and_oauth_has_one_by_address() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let mut api = Sidecar::start_as_root_with(&database.url(), |config| {
        config.requests_per_minute = 1;
        config.request_burst = 4;
        support::be_issuer(config);
    })
    .await?;
    let credentials = json!({"data": {"username": "root", "password": "correct horse"}});
    let other = api.post("/api/v1/auth/login", credentials).await?;
    assert_eq!(left(&api.get("/api/v1/users").await?)?, 3);
    api.set_token(Some(other.body["data"]["token"].as_str().context("no token")?));
    assert_eq!(left(&api.get("/api/v1/users").await?)?, 2, "it is of the same user");

    for _ in 0..4 {
        assert_eq!(api.get("/oauth2/style.css").await?.status, StatusCode::OK);
    }
    let page = api.get("/oauth2/auth").await?;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(content_type(&page).starts_with("text/plain"), "{}", content_type(&page));
    assert!(page.headers.contains_key("retry-after"));
    let token = api.post("/oauth2/token", json!({})).await?;
    assert_eq!(token.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(token.body["error"], "temporarily_unavailable");
    assert_eq!(left(&api.get("/api/v1/users").await?)?, 1, "REST is counted apart");
    Ok(())
}

fn keyed(api: &Sidecar, path: &str, key: &str, body: &Value) -> Result<reqwest::RequestBuilder> {
    let token = api.token().context("no token")?;
    let post = api.http().post(api.url(path)).bearer_auth(token);
    Ok(post.header("idempotency-key", key).json(body))
}

async fn post(api: &Sidecar, path: &str, key: &str, body: &Value) -> Result<Reply> {
    Reply::of(keyed(api, path, key, body)?.send().await?).await
}

fn is_replayed(reply: &Reply) -> bool {
    reply.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
}

async fn names(api: &Sidecar) -> Result<Vec<String>> {
    let all = api.get(STAKEHOLDERS).await?.body["data"].as_array().cloned().unwrap_or_default();
    Ok(all.iter().filter_map(|one| Some(one["name"].as_str()?.to_owned())).collect())
}

#[tokio::test]
async fn what_is_sent_again_is_done_once_and_answered_alike() -> Result<()> {
    let (cluster, database, mut api) = world().await?;
    let reader = json!({"stakeholder": {"name": "reader"}});
    let first = post(&api, STAKEHOLDERS, "key-one", &reader).await?;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    assert!(!is_replayed(&first));
    for key in ["key-one", "\"key-one\""] {
        let again = post(&api, STAKEHOLDERS, key, &reader).await?;
        assert!(is_replayed(&again), "{again:?}");
        assert_eq!((again.status, &again.text), (first.status, &first.text));
        for name in ["location", "content-type"] {
            assert_eq!(again.headers[name], first.headers[name]);
        }
        assert!(again.headers.contains_key("ratelimit"), "of now");
    }
    // The password is in neither the database nor its log, and neither are the key and the token.
    let password = first.body["data"]["credentials"]["password"].as_str().context("no password")?;
    let token = api.token().context("no token")?.to_owned();
    let dump = cluster.program("pg_dump").arg(database.url()).output()?;
    let (dump, log) = (String::from_utf8_lossy(&dump.stdout).into_owned(), cluster.log());
    assert!(dump.contains("idempotency_key") && log.contains("idempotency_key"));
    for secret in [password, "key-one", &token] {
        for hidden in [secret.to_owned(), hex(secret)] {
            assert!(!dump.contains(&hidden) && !log.contains(&hidden));
        }
    }

    let other = json!({"stakeholder": {"name": "other"}});
    let reused = post(&api, STAKEHOLDERS, "key-one", &other).await?;
    assert_eq!(reused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let elsewhere = post(&api, "/api/v1/stakeholders/1/backfills", "key-one", &reader).await?;
    assert_problem(&elsewhere, StatusCode::UNPROCESSABLE_ENTITY, "/problems/key-reused");
    assert_eq!(names(&api).await?, ["reader"]);

    // A refusal is an answer as good as another, and is written as it was.
    let wrong = json!({"backfill": {"table": 7}});
    let refused = post(&api, "/api/v1/stakeholders/1/backfills", "key-two", &wrong).await?;
    assert_problem(&refused, StatusCode::UNPROCESSABLE_ENTITY, "/problems/invalid");
    let again = post(&api, "/api/v1/stakeholders/1/backfills", "key-two", &wrong).await?;
    assert_problem(&again, StatusCode::UNPROCESSABLE_ENTITY, "/problems/invalid");
    assert!(is_replayed(&again) && again.text == refused.text);

    // With a new token nobody can read the answer, but nothing is done a second time either.
    let login = json!({"data": {"username": "root", "password": "correct horse"}});
    let login = api.post("/api/v1/auth/login", login).await?;
    api.set_token(login.body["data"]["token"].as_str());
    let renewed = post(&api, STAKEHOLDERS, "key-one", &reader).await?;
    assert_eq!(renewed.status, StatusCode::UNPROCESSABLE_ENTITY);
    // What another user calls the same is something else.
    let ann = json!({"user": {"username": "ann", "password": "long enough"}});
    let ann = api.post("/api/v1/users", ann).await?;
    api.set_token(ann.body["data"]["token"].as_str());
    let made = post(&api, STAKEHOLDERS, "key-one", &other).await?;
    assert_eq!((made.status, is_replayed(&made)), (StatusCode::CREATED, false));

    // After a day it is forgotten.
    let sql = "UPDATE integratedb.idempotency_key SET expires_at = now() - interval '1 second'";
    database.connect().await?.batch_execute(sql).await?;
    let taken = post(&api, STAKEHOLDERS, "key-one", &other).await?;
    assert_eq!(taken.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(taken.body["errors"]["name"][0], "has already been taken");
    let count = "SELECT count(*) FROM integratedb.idempotency_key";
    let count: i64 = database.connect().await?.query_one(count, &[]).await?.get(0);
    assert_eq!(count, 1, "what has run out is removed on the way");

    for key in ["", "a b", "\"open", &"x".repeat(256)] {
        let bad = post(&api, STAKEHOLDERS, key, &json!({"stakeholder": {"name": "third"}})).await?;
        assert_eq!(bad.status, StatusCode::BAD_REQUEST, "{key}");
    }
    assert_eq!(names(&api).await?, ["reader", "other"]);
    Ok(())
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn of_many_at_once_one_is_done() -> Result<()> {
    let (_cluster, _, api) = world().await?;
    let reader = json!({"stakeholder": {"name": "reader"}});
    let requests = (0..8)
        .map(|_| Ok(tokio::spawn(keyed(&api, STAKEHOLDERS, "one", &reader)?.send())))
        .collect::<Result<Vec<_>>>()?;
    let mut done = 0;
    for request in requests {
        let reply = Reply::of(request.await??).await?;
        match reply.status {
            StatusCode::CREATED => done += usize::from(!is_replayed(&reply)),
            status => assert_eq!(status, StatusCode::CONFLICT, "{}", reply.text),
        }
    }
    assert_eq!(done, 1);
    assert_eq!(names(&api).await?, ["reader"]);
    Ok(())
}

#[tokio::test]
async fn a_request_whose_client_goes_away_is_answered_when_it_is_sent_again() -> Result<()> {
    let (_cluster, database, api) = world().await?;
    let blocker = database.connect().await?;
    blocker.batch_execute("BEGIN; LOCK TABLE integratedb.stakeholder").await?;
    let reader = json!({"stakeholder": {"name": "reader"}});
    let first = tokio::spawn(keyed(&api, STAKEHOLDERS, "one", &reader)?.send());
    let observer = database.connect().await?;
    until("the request waits", async || {
        let sql = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        Ok(!observer.query(sql, &[]).await?.is_empty())
    })
    .await?;
    let second = post(&api, STAKEHOLDERS, "one", &reader).await?;
    assert_eq!(second.status, StatusCode::CONFLICT, "{}", second.text);
    assert_eq!(second.headers["retry-after"], "1");
    first.abort();
    blocker.batch_execute("COMMIT").await?;
    until("it is answered", async || {
        Ok(post(&api, STAKEHOLDERS, "one", &reader).await?.status != StatusCode::CONFLICT)
    })
    .await?;
    let last = post(&api, STAKEHOLDERS, "one", &reader).await?;
    assert_eq!((last.status, is_replayed(&last)), (StatusCode::CREATED, true), "{}", last.text);
    assert_eq!(names(&api).await?, ["reader"]);
    Ok(())
}

#[tokio::test]
async fn what_was_never_answered_is_not_done_again_and_what_failed_is() -> Result<()> {
    let (_cluster, database, api) = world().await?;
    let reader = json!({"stakeholder": {"name": "reader"}});
    post(&api, STAKEHOLDERS, "one", &reader).await?;
    // As a sidecar leaves it that dies between the change and its answer.
    let client = database.connect().await?;
    client.batch_execute("UPDATE integratedb.idempotency_key SET answer = NULL").await?;
    let under_way = post(&api, STAKEHOLDERS, "one", &reader).await?;
    assert_eq!(under_way.status, StatusCode::CONFLICT);
    assert!(under_way.headers.contains_key("retry-after"));
    let sql = "UPDATE integratedb.idempotency_key SET started_at = now() - interval '126 seconds'";
    client.batch_execute(sql).await?;
    let lost = post(&api, STAKEHOLDERS, "one", &reader).await?;
    assert_eq!(lost.status, StatusCode::CONFLICT);
    assert!(
        !lost.headers.contains_key("retry-after") && lost.text.contains("may or may not"),
        "{lost:?}"
    );

    // A 503 is no last word: the contract is busy, then it is not.
    let other = json!({"stakeholder": {"name": "other"}});
    let migrator = database.connect().await?;
    migrator.batch_execute("BEGIN; LOCK TABLE integratedb.contract_lock").await?;
    let busy = post(&api, STAKEHOLDERS, "two", &other).await?;
    assert_eq!(busy.status, StatusCode::SERVICE_UNAVAILABLE, "{}", busy.text);
    migrator.batch_execute("COMMIT").await?;
    let made = post(&api, STAKEHOLDERS, "two", &other).await?;
    assert_eq!((made.status, is_replayed(&made)), (StatusCode::CREATED, false), "{}", made.text);
    Ok(())
}
