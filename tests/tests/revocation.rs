//! What is taken away counts for requests that are under way just then, too; and of two that take and use it at once, none is
//! turned away because they waited for each other.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;
use support::{Browser, Partnered, Sidecar, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PASSWORD: &str = Partnered::PASSWORD;

/// Waits until so many connections wait for a lock that another has.
async fn waiting(world: &Partnered, count: i64) -> Result<()> {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("somebody waits for a lock", || async { Ok(world.count(sql, &[]).await? >= count) }).await
}

/// A request whose body its client holds back.
struct HeldBack {
    stream: TcpStream,
    body: &'static str,
}

impl HeldBack {
    /// Sends the headers, and waits for what is answered before a body comes: "100 Continue" once the body is asked for.
    async fn begin(
        api: &Sidecar,
        (method, path): (Method, &str),
        token: Option<&str>,
        body: &'static str,
    ) -> Result<(Self, String)> {
        let mut stream = TcpStream::connect(api.address()).await?;
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\nexpect: 100-continue\r\n{}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            token.unwrap_or_default(),
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        Ok((Self { stream, body }, String::from_utf8(answer)?))
    }

    /// Begins a request that is let through as far as its headers go.
    async fn let_in(
        api: &Sidecar,
        to: (Method, &str),
        token: &str,
        body: &'static str,
    ) -> Result<Self> {
        let (held, answer) = Self::begin(api, to, Some(token), body).await?;
        ensure!(answer.starts_with("HTTP/1.1 100"), "{answer}");
        Ok(held)
    }

    /// Sends the body; gives the whole answer.
    async fn finish(mut self) -> Result<String> {
        self.stream.write_all(self.body.as_bytes()).await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<String> {
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

async fn log_in(api: &Sidecar, username: &str, password: &str) -> Result<Option<String>> {
    let body = json!({"data": {"username": username, "password": password}});
    let reply = api.post("/api/v1/auth/login", body).await?;
    Ok(reply.body["data"]["token"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn a_token_that_was_revoked_before_the_body_came_does_nothing() -> Result<()> {
    let world = Partnered::start().await?;
    let stolen = log_in(&world.api, "root", PASSWORD).await?.context("no token")?;
    let evil = r#"{"user": {"password": "of a thief's own"}}"#;
    let held =
        HeldBack::let_in(&world.api, (Method::PUT, "/api/v1/users/1"), &stolen, evil).await?;
    let changed = json!({"user": {"password": "another password"}});
    assert_eq!(world.api.put("/api/v1/users/1", changed).await?.status, StatusCode::OK);
    let answer = held.finish().await?;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(log_in(&world.api, "root", "another password").await?.is_some());
    Ok(())
}

#[tokio::test]
async fn a_role_that_was_taken_before_the_body_came_does_nothing() -> Result<()> {
    let world = Partnered::start().await?;
    let token = world.user("ann").await?;
    world.join(world.workspace, "ann", "member").await?;
    let sql = "INSERT INTO integratedb.cache (id, workspace_id, name, type, hostname, port) \
               VALUES ('c1', $1, 'c', 'postgres', 'db.example', 5432) RETURNING 1::bigint";
    world.count(sql, &[&world.workspace]).await?;
    let purge = (Method::POST, "/api/v1/caches/c1/purge");
    let held = HeldBack::let_in(&world.api, purge, &token, "{}").await?;
    let path = format!("/api/v1/workspaces/{}/members/2", world.workspace);
    let demoted = world.api.put(&path, json!({"member": {"role": "viewer"}})).await?;
    assert_eq!(demoted.status, StatusCode::OK, "{}", demoted.text);
    let answer = held.finish().await?;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_body_is_not_waited_for_without_a_token_and_not_for_ever_with_one() -> Result<()> {
    let world = Partnered::start().await?;
    let path = "/api/v1/workspaces";
    for token in [None, Some("made up")] {
        let (_, answer) = HeldBack::begin(&world.api, (Method::POST, path), token, "never").await?;
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    let mut impatient = Sidecar::start_with(&world.database.url(), |config| {
        config.request_timeout_secs = 5;
        config.max_body_bytes = 1024;
    })
    .await?;
    impatient.set_token(world.api.token());
    let token = world.api.token().context("no token")?;
    let mut held = HeldBack::let_in(&impatient, (Method::POST, path), token, "never").await?;
    let answer = held.answer().await?;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let large = json!({"workspace": {"name": "x".repeat(1024)}});
    assert_eq!(impatient.post(path, large).await?.status, StatusCode::PAYLOAD_TOO_LARGE);
    Ok(())
}

#[tokio::test]
async fn tokens_that_are_revoked_while_they_are_refreshed_have_no_successor() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read").await?;
    let code = partner.code(&world.api, "root", PASSWORD, world.workspace).await?;
    let first = partner.trade(&world.api, &code).await?;
    let refresh_token = first.body["refresh_token"].as_str().context("no refresh_token")?;

    let mut holder = world.database.connect().await?;
    let held = holder.transaction().await?;
    held.execute("SELECT FROM integratedb.oauth_token FOR UPDATE", &[]).await?;
    let revoke = async {
        waiting(&world, 1).await?;
        world.api.delete("/api/v1/users/1/tokens").await
    };
    let let_go = async {
        waiting(&world, 2).await?;
        Ok(held.commit().await?)
    };
    let (renewed, revoked, ()) =
        tokio::try_join!(partner.refresh(&world.api, refresh_token), revoke, let_go)?;
    assert_eq!(renewed.status, StatusCode::OK, "{}", renewed.text);
    assert_eq!(revoked.status, StatusCode::NO_CONTENT, "{}", revoked.text);
    let token = renewed.body["access_token"].as_str().context("no access_token")?;
    assert_eq!(world.caches(token).await?, StatusCode::UNAUTHORIZED);
    assert_eq!(world.count("SELECT count(*) FROM integratedb.oauth_token", &[]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_user_can_be_changed_while_another_is_deleted() -> Result<()> {
    let world = Partnered::start().await?;
    world.user("ann").await?;
    world.user("bob").await?;
    let mut holder = world.database.connect().await?;
    let held = holder.transaction().await?;
    held.execute("SELECT FROM integratedb.users WHERE id = 2 FOR UPDATE", &[]).await?;
    let delete = async {
        waiting(&world, 1).await?;
        world.api.delete("/api/v1/users/3").await
    };
    let let_go = async {
        waiting(&world, 2).await?;
        Ok(held.commit().await?)
    };
    let user = json!({"user": {"username": "anna"}});
    let (renamed, deleted, ()) =
        tokio::try_join!(world.api.put("/api/v1/users/2", user), delete, let_go)?;
    assert_eq!(renamed.status, StatusCode::OK, "{}", renamed.text);
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.text);
    Ok(())
}

#[tokio::test]
async fn a_member_can_be_changed_while_the_user_is_deleted() -> Result<()> {
    let world = Partnered::start().await?;
    world.user("ann").await?;
    world.join(world.workspace, "ann", "viewer").await?;
    let mut holder = world.database.connect().await?;
    let held = holder.transaction().await?;
    held.execute("SELECT FROM integratedb.workspace FOR UPDATE", &[]).await?;
    let delete = async {
        waiting(&world, 1).await?;
        world.api.delete("/api/v1/users/2").await
    };
    let let_go = async {
        waiting(&world, 2).await?;
        Ok(held.commit().await?)
    };
    let path = format!("/api/v1/workspaces/{}/members/2", world.workspace);
    let change = world.api.put(&path, json!({"member": {"role": "admin"}}));
    let (changed, deleted, ()) = tokio::try_join!(change, delete, let_go)?;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_eq!(deleted.status, StatusCode::NO_CONTENT, "{}", deleted.text);
    Ok(())
}

#[tokio::test]
async fn a_user_can_agree_while_the_password_is_changed_or_the_membership_ends() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read").await?;
    world.user("ann").await?;
    world.join(world.workspace, "ann", "viewer").await?;
    let member = format!("/api/v1/workspaces/{}/members/2", world.workspace);
    let user = json!({"user": {"password": "another password"}});
    for (take, with) in [
        (world.api.send(Method::PUT, "/api/v1/users/2", Some(user.to_string())), PASSWORD),
        (world.api.send(Method::DELETE, &member, None), "another password"),
    ] {
        let mut browser = Browser::new(&world.api.url(""))?;
        let page = browser.get(&partner.address()).await?;
        let page = browser.log_in(page, "ann", with).await?;
        let form = page.form("/oauth2/consent")?.with("decision", "allow");
        let form = form.with("workspace", &world.workspace.to_string());
        let mut holder = world.database.connect().await?;
        let held = holder.transaction().await?;
        held.execute("SELECT FROM integratedb.workspace_member FOR UPDATE", &[]).await?;
        let take = async {
            waiting(&world, 1).await?;
            take.await
        };
        let let_go = async {
            waiting(&world, 2).await?;
            Ok(held.commit().await?)
        };
        let (agreed, taken, ()) = tokio::try_join!(browser.submit(&form), take, let_go)?;
        assert!(agreed.location()?.contains("code="), "{}", agreed.text);
        assert!(taken.status.is_success(), "{}", taken.text);
    }
    let granted = "SELECT count(*) FROM integratedb.oauth_grant";
    assert_eq!(world.count(granted, &[]).await?, 0, "the membership has ended");
    Ok(())
}

#[tokio::test]
async fn of_two_new_passwords_at_once_that_of_a_token_that_the_other_revoked_is_none() -> Result<()>
{
    let world = Partnered::start().await?;
    let stolen = log_in(&world.api, "root", PASSWORD).await?.context("no token")?;
    let mut holder = world.database.connect().await?;
    let held = holder.transaction().await?;
    held.execute("SELECT FROM integratedb.users FOR UPDATE", &[]).await?;
    let password = |text: &str| json!({"user": {"password": text}});
    let right = world.api.put("/api/v1/users/1", password("another password"));
    let evil = async {
        waiting(&world, 1).await?;
        let evil = Some(password("of a thief's own"));
        world.send_as(&stolen, Method::PUT, "/api/v1/users/1", evil).await
    };
    let let_go = async {
        waiting(&world, 2).await?;
        Ok(held.commit().await?)
    };
    let (right, evil, ()) = tokio::try_join!(right, evil, let_go)?;
    assert_eq!(right.status, StatusCode::OK, "{}", right.text);
    assert_eq!(evil.status, StatusCode::UNAUTHORIZED, "{}", evil.text);
    assert!(log_in(&world.api, "root", "another password").await?.is_some());
    Ok(())
}
