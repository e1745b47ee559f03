//! OAuth as applications and users go through it: from registering to a token, its use, its renewal and its end.

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Browser, Cluster, Partner, Partnered, Reply, Sidecar, parameter};

const PASSWORD: &str = Partnered::PASSWORD;

fn text<'a>(reply: &'a Reply, name: &str) -> Result<&'a str> {
    reply.body[name].as_str().with_context(|| format!("no {name}: {}", reply.text))
}

#[tokio::test]
async fn a_partner_gets_a_token_renews_it_and_loses_it() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let partner = world.partner("caches:read caches:write").await?;
    let mut browser = Browser::new(&api.url(""))?;
    let to = browser.allow(&partner.address(), "root", PASSWORD, world.workspace).await?;
    assert!(to.starts_with(&format!("{}?code=", Partner::REDIRECT)), "{to}");
    assert_eq!(parameter(&to, "state").as_deref(), Some("a state & more"));
    assert_eq!(parameter(&to, "iss"), Some(api.url("")));
    let first = partner.trade(api, &parameter(&to, "code").context("no code")?).await?;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    assert_eq!(first.headers["cache-control"], "no-store");
    assert_eq!(first.body["token_type"], "Bearer");
    assert_eq!(first.body["expires_in"], 3600);
    assert_eq!(first.body["scope"], "caches:read caches:write");
    assert_eq!(world.caches(text(&first, "access_token")?).await?, StatusCode::OK);

    let second = partner.refresh(api, text(&first, "refresh_token")?).await?;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    let token = text(&second, "access_token")?;
    assert_eq!(world.caches(token).await?, StatusCode::OK);
    assert_eq!(world.caches(text(&first, "access_token")?).await?, StatusCode::UNAUTHORIZED);

    let listed = api.get("/api/v1/oauth/authorizations").await?;
    let authorization = &listed.body["data"][0];
    assert_eq!(authorization["application"]["name"], "Partner");
    assert_eq!(authorization["workspace"]["name"], "Shop");
    let path = format!("/api/v1/oauth/authorizations/{}", authorization["id"]);
    assert_eq!(api.delete(&path).await?.status, StatusCode::NO_CONTENT);
    assert_eq!(world.caches(token).await?, StatusCode::UNAUTHORIZED);
    let refused = partner.refresh(api, text(&second, "refresh_token")?).await?;
    assert_eq!(refused.body["error"], "invalid_grant");
    assert_eq!(api.delete(&path).await?.status, StatusCode::NOT_FOUND);
    let actions = ["application.create", "authorization.create", "authorization.revoke"];
    assert_eq!(world.audited().await?, actions);
    Ok(())
}

#[tokio::test]
async fn a_user_who_denies_is_sent_back_and_nothing_is_given() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read").await?;
    let mut browser = Browser::new(&world.api.url(""))?;
    let page = browser.get(&partner.address()).await?;
    let page = browser.log_in(page, "root", PASSWORD).await?;
    let form = page.form("/oauth2/consent")?.with("decision", "deny");
    let to = browser.submit(&form).await?.location()?;
    assert_eq!(parameter(&to, "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(&to, "state").as_deref(), Some("a state & more"));
    assert_eq!(parameter(&to, "iss"), Some(world.api.url("")));
    assert_eq!(world.count("SELECT count(*) FROM integratedb.oauth_grant", &[]).await?, 0);
    // Logged in, one is asked at once; logged out, not any more.
    let page = browser.get(&partner.address()).await?;
    let next = browser.submit(&page.form("/oauth2/logout")?).await?.location()?;
    browser.get(&next).await?.form("/oauth2/login")?;
    Ok(())
}

#[tokio::test]
async fn an_application_is_registered_changed_and_deleted() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let bases = [
        "/api/v1/oauth/applications".to_owned(),
        format!("/api/v1/workspaces/{}/oauth/applications", world.workspace),
    ];
    for base in bases {
        let fields = json!({"application": {"name": " Partner ", "scopes": ["caches:write", "caches:read"],
            "redirect_uris": [Partner::REDIRECT], "homepage_url": "https://partner.example"}});
        let created = api.post(&base, fields.clone()).await?;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.text);
        assert_eq!(created.body["data"]["name"], "Partner");
        let path = created.headers["location"].to_str()?.to_owned();
        let partner = Partner::of(&created)?;
        let shown = api.get(&path).await?;
        assert_eq!(shown.body["data"]["client_id"], json!(partner.client_id));
        assert_eq!(shown.body["data"].get("client_secret"), None, "it is shown once");
        assert_eq!(api.get(&base).await?.body["data"][0], shown.body["data"]);

        let mut fewer = fields.clone();
        fewer["application"]["scopes"] = json!(["caches:read"]);
        let put = |tag: String| {
            let request = api.http().put(api.url(&path)).json(&fewer).header("if-match", tag);
            request.bearer_auth(api.token().unwrap_or_default()).send()
        };
        let token = partner.token(api, "root", PASSWORD, world.workspace).await?;
        assert_eq!(put("\"other\"".to_owned()).await?.status(), StatusCode::PRECONDITION_FAILED);
        let tag = shown.headers["etag"].to_str()?.to_owned();
        assert_eq!(put(tag).await?.status(), StatusCode::OK);
        // What it may not ask for any more, it may not do either.
        assert_eq!(world.caches(&token).await?, StatusCode::OK);
        let purge = "/api/v1/caches/any/purge";
        let refused = world.send_as(&token, Method::POST, purge, Some(json!({}))).await?;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
        assert!(refused.headers["www-authenticate"].to_str()?.contains("insufficient_scope"));

        let rotated = api.post(&format!("{path}/secret"), Value::Null).await?;
        assert_eq!(rotated.status, StatusCode::OK, "{}", rotated.text);
        let old = partner.refresh(api, "x").await?;
        assert_eq!(old.status, StatusCode::UNAUTHORIZED, "{}", old.text);
        let new = Partner::of(&rotated)?.refresh(api, "x").await?;
        assert_eq!(new.body["error"], "invalid_grant");

        assert_eq!(api.delete(&path).await?.status, StatusCode::NO_CONTENT);
        assert_eq!(world.caches(&token).await?, StatusCode::UNAUTHORIZED);
        assert_eq!(api.get(&path).await?.status, StatusCode::NOT_FOUND);
    }
    Ok(())
}

#[tokio::test]
async fn a_public_application_on_a_users_machine_needs_no_secret_and_any_port() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let fields = json!({"application": {"name": "Tool", "scopes": ["caches:read"], "public": true,
        "redirect_uris": ["http://127.0.0.1/back"]}});
    let partner = Partner::of(&api.post("/api/v1/oauth/applications", fields).await?)?;
    assert_eq!(partner.secret, None);
    let back = "http://127.0.0.1:51004/back";
    let address = partner
        .address()
        .replace("https%3A%2F%2Fpartner.example%2Fback", "http%3A%2F%2F127.0.0.1%3A51004%2Fback");
    let mut browser = Browser::new(&api.url(""))?;
    let to = browser.allow(&address, "root", PASSWORD, world.workspace).await?;
    assert!(to.starts_with(back), "{to}");
    let code = parameter(&to, "code").context("no code")?;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", back),
        ("code_verifier", &partner.verifier),
    ];
    let traded = partner.ask(api, "/oauth2/token", &form).await?;
    assert_eq!(world.caches(text(&traded, "access_token")?).await?, StatusCode::OK);
    let path = format!("/api/v1/oauth/applications/{}/secret", partner.id);
    assert_eq!(api.post(&path, Value::Null).await?.status, StatusCode::CONFLICT);
    Ok(())
}

#[tokio::test]
async fn a_refresh_may_ask_for_less_and_later_for_all_again() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let partner = world.partner("caches:read caches:write").await?;
    let code = partner.code(api, "root", PASSWORD, world.workspace).await?;
    let first = partner.trade(api, &code).await?;
    let narrow = async |refresh: &str, scope: &str| {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh), ("scope", scope)];
        partner.ask(api, "/oauth2/token", &form).await
    };
    let refused = narrow(text(&first, "refresh_token")?, "caches:read cacheRules:read").await?;
    assert_eq!(refused.body["error"], "invalid_scope");
    let less = narrow(text(&first, "refresh_token")?, "caches:read").await?;
    assert_eq!(less.body["scope"], "caches:read", "{}", less.text);
    let all = partner.refresh(api, text(&less, "refresh_token")?).await?;
    assert_eq!(all.body["scope"], "caches:read caches:write", "{}", all.text);
    Ok(())
}

#[tokio::test]
async fn an_application_ends_its_own_tokens() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let partner = world.partner("caches:read").await?;
    for kind in ["access_token", "refresh_token"] {
        let code = partner.code(api, "root", PASSWORD, world.workspace).await?;
        let traded = partner.trade(api, &code).await?;
        let ended = partner.ask(api, "/oauth2/revoke", &[("token", text(&traded, kind)?)]).await?;
        assert_eq!(ended.status, StatusCode::OK, "{}", ended.text);
        assert_eq!(world.caches(text(&traded, "access_token")?).await?, StatusCode::UNAUTHORIZED);
        let refused = partner.refresh(api, text(&traded, "refresh_token")?).await?;
        assert_eq!(refused.body["error"], "invalid_grant");
    }
    let unknown = partner.ask(api, "/oauth2/revoke", &[("token", "nothing")]).await?;
    assert_eq!(unknown.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn all_is_taken_back_at_once_or_of_one_application() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let (one, other) = (world.partner("caches:read").await?, world.partner("caches:read").await?);
    let mine = one.token(api, "root", PASSWORD, world.workspace).await?;
    let others = other.token(api, "root", PASSWORD, world.workspace).await?;
    let of_one = format!("/api/v1/oauth/authorizations?application={}", one.id);
    assert_eq!(api.get(&of_one).await?.body["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(api.delete(&of_one).await?.status, StatusCode::NO_CONTENT);
    assert_eq!(world.caches(&mine).await?, StatusCode::UNAUTHORIZED);
    assert_eq!(world.caches(&others).await?, StatusCode::OK);
    let all = api.delete("/api/v1/oauth/authorizations").await?;
    assert_eq!(all.status, StatusCode::NO_CONTENT);
    assert_eq!(world.caches(&others).await?, StatusCode::UNAUTHORIZED);
    Ok(())
}

#[tokio::test]
async fn libraries_find_what_they_need() -> Result<()> {
    let world = Partnered::start().await?;
    let metadata = world.api.get("/.well-known/oauth-authorization-server").await?;
    assert_eq!(metadata.body["issuer"], json!(world.api.url("")));
    assert_eq!(metadata.body["token_endpoint"], json!(world.api.url("/oauth2/token")));
    assert_eq!(metadata.body["code_challenge_methods_supported"], json!(["S256"]));
    let style = world.api.get("/oauth2/style.css").await?;
    assert_eq!(style.headers["content-type"], "text/css; charset=utf-8");
    Ok(())
}

#[tokio::test]
async fn without_an_issuer_there_is_no_server_but_applications_are_kept() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let api = Sidecar::start_as_root(&database.url()).await?;
    let partner = Partner::register(&api, "Partner", "caches:read").await?;
    for path in [&*partner.address(), "/.well-known/oauth-authorization-server"] {
        let reply = api.get(path).await?;
        assert_eq!(reply.status, StatusCode::NOT_FOUND);
        assert!(reply.text.contains("issuer"), "{}", reply.text);
    }
    assert_eq!(partner.trade(&api, "x").await?.status, StatusCode::NOT_FOUND);
    Ok(())
}
