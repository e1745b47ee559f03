//! Attacks on the authorization server, as RFC 9700 and RFC 6819 name them: each is refused, and gets nothing.

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Browser, Page, Partner, Partnered, Reply, encoded};
use tokio::task::JoinSet;

const PASSWORD: &str = Partnered::PASSWORD;

fn text<'a>(reply: &'a Reply, name: &str) -> Result<&'a str> {
    reply.body[name].as_str().with_context(|| format!("no {name}: {}", reply.text))
}

fn assert_refused(reply: &Reply, status: StatusCode, error: &str) {
    assert_eq!((reply.status, &reply.body["error"]), (status, &json!(error)), "{}", reply.text);
}

/// The request of a partner with other parameters; `None` leaves one out.
fn changed(partner: &Partner, changes: &[(&str, Option<&str>)]) -> String {
    let mut fields = partner.request();
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.extend(value.map(|value| ((*name).to_owned(), value.to_owned())));
    }
    format!("/oauth2/auth?{}", encoded(&fields))
}

async fn consent(world: &Partnered, partner: &Partner, username: &str) -> Result<(Browser, Page)> {
    let mut browser = Browser::new(&world.api.url(""))?;
    let page = browser.get(&partner.address()).await?;
    let page = browser.log_in(page, username, PASSWORD).await?;
    Ok((browser, page))
}

async fn grants(world: &Partnered) -> Result<i64> {
    world.count("SELECT count(*) FROM integratedb.oauth_grant", &[]).await
}

#[tokio::test]
async fn a_code_that_is_used_twice_ends_what_it_gave() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read").await?;
    let code = partner.code(&world.api, "root", PASSWORD, world.workspace).await?;
    let first = partner.trade(&world.api, &code).await?;
    let renewed = partner.refresh(&world.api, text(&first, "refresh_token")?).await?;
    assert_refused(
        &partner.trade(&world.api, &code).await?,
        StatusCode::BAD_REQUEST,
        "invalid_grant",
    );
    assert_eq!(world.caches(text(&renewed, "access_token")?).await?, StatusCode::UNAUTHORIZED);
    let refused = partner.refresh(&world.api, text(&renewed, "refresh_token")?).await?;
    assert_refused(&refused, StatusCode::BAD_REQUEST, "invalid_grant");
    assert_eq!(world.audited().await?.last().map(String::as_str), Some("authorization.reuse"));
    Ok(())
}

/// Trades the same thing many times at once; gives the answers.
async fn at_once(
    world: &Partnered,
    partner: &Partner,
    form: Vec<(&'static str, String)>,
) -> Result<Vec<Reply>> {
    let mut all = JoinSet::new();
    for _ in 0..8 {
        let request = world.api.http().post(world.api.url("/oauth2/token"));
        let request = request.basic_auth(&partner.client_id, partner.secret.as_ref());
        let kind = "application/x-www-form-urlencoded";
        let request = request.header("content-type", kind).body(encoded(&form));
        all.spawn(async move { Reply::of(request.send().await?).await });
    }
    all.join_all().await.into_iter().collect()
}

#[tokio::test]
async fn of_many_at_once_with_one_code_or_refresh_token_one_wins_and_keeps_nothing() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read").await?;
    let of_code = |code: String| {
        vec![
            ("grant_type", "authorization_code".to_owned()),
            ("code", code),
            ("redirect_uri", Partner::REDIRECT.to_owned()),
            ("code_verifier", partner.verifier.clone()),
        ]
    };
    let of_refresh = |token: &str| {
        vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", token.to_owned())]
    };
    let code = partner.code(&world.api, "root", PASSWORD, world.workspace).await?;
    let by_code = at_once(&world, &partner, of_code(code)).await?;
    let code = partner.code(&world.api, "root", PASSWORD, world.workspace).await?;
    let first = partner.trade(&world.api, &code).await?;
    let by_refresh = at_once(&world, &partner, of_refresh(text(&first, "refresh_token")?)).await?;
    for answers in [by_code, by_refresh] {
        let won: Vec<&Reply> = answers.iter().filter(|reply| reply.status == 200).collect();
        assert_eq!(won.len(), 1);
        for lost in answers.iter().filter(|reply| reply.status != 200) {
            assert_refused(lost, StatusCode::BAD_REQUEST, "invalid_grant");
        }
        let token = text(won[0], "access_token")?;
        assert_eq!(world.caches(token).await?, StatusCode::UNAUTHORIZED, "it was used twice");
    }
    assert_eq!(world.count("SELECT count(*) FROM integratedb.oauth_token", &[]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_refresh_token_that_is_used_twice_ends_its_family_and_no_other() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let partner = world.partner("caches:read").await?;
    let first =
        partner.trade(api, &partner.code(api, "root", PASSWORD, world.workspace).await?).await?;
    let other = partner.token(api, "root", PASSWORD, world.workspace).await?;
    let second = partner.refresh(api, text(&first, "refresh_token")?).await?;
    let third = partner.refresh(api, text(&second, "refresh_token")?).await?;
    let reused = partner.refresh(api, text(&first, "refresh_token")?).await?;
    assert_refused(&reused, StatusCode::BAD_REQUEST, "invalid_grant");
    assert_eq!(world.caches(text(&third, "access_token")?).await?, StatusCode::UNAUTHORIZED);
    let refused = partner.refresh(api, text(&third, "refresh_token")?).await?;
    assert_refused(&refused, StatusCode::BAD_REQUEST, "invalid_grant");
    assert_eq!(world.caches(&other).await?, StatusCode::OK, "of another consent");
    assert_eq!(world.audited().await?.last().map(String::as_str), Some("authorization.reuse"));
    Ok(())
}

#[tokio::test]
async fn nobody_is_sent_to_an_address_that_is_not_registered() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read").await?;
    let mut browser = Browser::new(&world.api.url(""))?;
    let mut addresses: Vec<String> = [
        "https://partner.example/back/",
        "https://partner.example/back?next=https://evil.example",
        "https://partner.example/bac",
        "https://partner.example/backs",
        "https://partner.example/Back",
        "https://Partner.example/back",
        "https://partner.example:443/back",
        "https://partner.example:8443/back",
        "https://partner.example/%62ack",
        "https://partner.example/./back",
        "https://partner.example/back#fragment",
        "https://partner.example/back%0d%0aset-cookie: x=1",
        "http://partner.example/back",
        "https://partner.example.evil.example/back",
        "https://partner.example@evil.example/back",
        "https://evil.example/https://partner.example/back",
        "//evil.example/back",
        "javascript:alert(1)",
        " https://partner.example/back",
    ]
    .iter()
    .map(|uri| changed(&partner, &[("redirect_uri", Some(uri))]))
    .collect();
    addresses.push(changed(&partner, &[("redirect_uri", None)]));
    addresses.push(changed(&partner, &[("client_id", Some("0123456789abcdef0123456789abcdef"))]));
    addresses.push(changed(&partner, &[("client_id", Some("'; DROP TABLE users"))]));
    addresses.push(changed(&partner, &[("client_id", Some("\0"))]));
    addresses.push(format!("{}&redirect_uri=https%3A%2F%2Fevil.example%2F", partner.address()));
    addresses.push(format!("{}&client_id=x", partner.address()));
    for address in addresses {
        let page = browser.get(&address).await?;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{address}");
        assert_eq!(page.header("location"), "", "{address}");
        assert!(page.header("content-type").starts_with("text/html"));
    }
    // Nor at the token endpoint; and the code is void then.
    for uri in ["https://evil.example/back", "https://partner.example/back/", ""] {
        let code = partner.code(&world.api, "root", PASSWORD, world.workspace).await?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", uri),
            ("code_verifier", &partner.verifier),
        ];
        let refused = partner.ask(&world.api, "/oauth2/token", &form).await?;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        if !uri.is_empty() {
            let late = partner.trade(&world.api, &code).await?;
            assert_refused(&late, StatusCode::BAD_REQUEST, "invalid_grant");
        }
    }
    Ok(())
}

#[tokio::test]
async fn who_makes_up_applications_has_to_wait() -> Result<()> {
    let world = Partnered::start().await?;
    let mut partner = world.partner("caches:read").await?;
    for n in 0..11 {
        partner.client_id = format!("{n:032}");
        let status = match n {
            10 => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::UNAUTHORIZED,
        };
        assert_refused(&partner.refresh(&world.api, "x").await?, status, "invalid_client");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_is_sent_anywhere_by_a_link_alone() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read").await?;
    let mut browser = Browser::new(&world.api.url(""))?;
    let wrong = changed(&partner, &[("response_type", Some("token")), ("state", Some("\"><b>"))]);
    let page = browser.get(&wrong).await?;
    assert_eq!((page.status, page.header("location")), (StatusCode::BAD_REQUEST, ""));
    assert!(!page.text.contains("<b>"), "{}", page.text);
    assert!(
        page.text.contains("<strong>https:&#x2f;&#x2f;partner.example</strong>"),
        "{}",
        page.text
    );
    let link = page.link()?;
    assert!(link.starts_with(&format!("{}?error=unsupported", Partner::REDIRECT)), "{link}");
    assert_eq!(support::parameter(&link, "state").as_deref(), Some("\"><b>"));
    assert_eq!(support::parameter(&link, "iss"), Some(world.api.url("")));
    // Nor by a form of somebody else's, whoever has logged in.
    let login = browser.get(&partner.address()).await?;
    let forged = login.form("/oauth2/login")?.with("response_type", "token");
    let page = browser.submit(&forged).await?;
    assert_eq!((page.status, page.header("location")), (StatusCode::BAD_REQUEST, ""));
    let consent = browser.log_in(login, "root", PASSWORD).await?;
    for action in ["/oauth2/consent", "/oauth2/logout"] {
        let forged = consent.form(action)?.with("response_type", "token").without("form_token");
        let page = browser.submit(&forged).await?;
        assert_eq!((page.status, page.header("location")), (StatusCode::BAD_REQUEST, ""));
    }
    Ok(())
}

#[tokio::test]
async fn pkce_can_not_be_left_out_or_weakened() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let partner = world.partner("caches:read").await?;
    let (mut browser, _) = consent(&world, &partner, "root").await?;
    for changes in [
        vec![("code_challenge", None), ("code_challenge_method", None)],
        vec![("code_challenge", None)],
        vec![("code_challenge_method", None)],
        vec![("code_challenge_method", Some("plain"))],
        vec![("code_challenge", Some("short"))],
        vec![
            ("code_challenge_method", Some("plain")),
            ("code_challenge", Some(&*partner.verifier)),
        ],
    ] {
        let to = browser.get(&changed(&partner, &changes)).await?.location()?;
        let wanted = format!("{}?error=invalid_request&", Partner::REDIRECT);
        assert!(to.starts_with(&wanted), "{changes:?}: {to}");
        assert!(to.contains("&iss=http"), "{to}");
    }
    let challenge = partner.challenge();
    for verifier in ["", "wrong-wrong-wrong-wrong-wrong-wrong-wrong-wrong", &challenge, "short"] {
        let code = partner.code(api, "root", PASSWORD, world.workspace).await?;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &*code),
            ("redirect_uri", Partner::REDIRECT),
            ("code_verifier", verifier),
        ];
        let refused = partner.ask(api, "/oauth2/token", &form).await?;
        let error = if verifier.is_empty() { "invalid_request" } else { "invalid_grant" };
        assert_refused(&refused, StatusCode::BAD_REQUEST, error);
        if !verifier.is_empty() {
            let late = partner.trade(api, &code).await?;
            assert_refused(&late, StatusCode::BAD_REQUEST, "invalid_grant");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_one_applications_is_of_no_use_to_another() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let (mine, thief) = (world.partner("caches:read").await?, world.partner("caches:read").await?);
    let code = mine.code(api, "root", PASSWORD, world.workspace).await?;
    assert_refused(&thief.trade(api, &code).await?, StatusCode::BAD_REQUEST, "invalid_grant");
    let traded = mine.trade(api, &code).await?;
    let refresh = text(&traded, "refresh_token")?;
    assert_refused(&thief.refresh(api, refresh).await?, StatusCode::BAD_REQUEST, "invalid_grant");
    let ended = thief.ask(api, "/oauth2/revoke", &[("token", refresh)]).await?;
    assert_eq!(ended.status, StatusCode::OK, "of what is not its own, nothing is said");
    assert_eq!(world.caches(text(&traded, "access_token")?).await?, StatusCode::OK);
    assert_eq!(mine.refresh(api, refresh).await?.status, StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn an_application_has_to_be_who_it_says() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let partner = world.partner("caches:read").await?;
    let secret = partner.secret.clone().context("no secret")?;
    let id = &partner.client_id;
    let ask = async |basic: Option<(&str, &str)>, form: &[(&str, &str)]| {
        let mut request = api.http().post(api.url("/oauth2/token"));
        if let Some((id, secret)) = basic {
            request = request.basic_auth(id, Some(secret));
        }
        let mut form = form.to_vec();
        form.extend([("grant_type", "refresh_token"), ("refresh_token", "x")]);
        let kind = "application/x-www-form-urlencoded";
        Reply::of(request.header("content-type", kind).body(encoded(&form)).send().await?).await
    };
    let invalid = StatusCode::BAD_REQUEST;
    let by_form = [("client_id", id.as_str()), ("client_secret", secret.as_str())];
    assert_refused(&ask(Some((id, &secret)), &[]).await?, invalid, "invalid_grant");
    assert_refused(&ask(None, &by_form).await?, invalid, "invalid_grant");
    assert_refused(&ask(Some((id, &secret)), &by_form).await?, invalid, "invalid_request");
    let twice = [by_form[0], by_form[1], by_form[1]];
    assert_refused(&ask(None, &twice).await?, invalid, "invalid_request");
    let unknown = StatusCode::UNAUTHORIZED;
    assert_refused(&ask(None, &by_form[..1]).await?, unknown, "invalid_client");
    assert_refused(&ask(Some(("nobody", &secret)), &[]).await?, unknown, "invalid_client");
    let wrong = ask(Some((id, "wrong")), &[]).await?;
    assert_refused(&wrong, unknown, "invalid_client");
    assert!(wrong.headers["www-authenticate"].to_str()?.starts_with("Basic"));
    // Who tries by the header is told by the header (RFC 6749, 5.2), whatever it has.
    let request = api.http().post(api.url("/oauth2/token")).bearer_auth("x");
    let form = encoded(&[("grant_type", "refresh_token"), ("refresh_token", "x")]);
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
    let odd = Reply::of(request.send().await?).await?;
    assert_refused(&odd, unknown, "invalid_client");
    assert!(odd.headers["www-authenticate"].to_str()?.starts_with("Basic"));
    let json = api.post("/oauth2/token", json!({"grant_type": "refresh_token"})).await?;
    assert_refused(&json, invalid, "invalid_request");
    // Who guesses has to wait; who knows has not.
    let mut last = wrong;
    for _ in 0..12 {
        last = ask(Some((id, "wrong")), &[]).await?;
    }
    assert_refused(&last, StatusCode::TOO_MANY_REQUESTS, "invalid_client");
    assert!(last.headers.contains_key("retry-after"));
    assert_refused(&ask(Some((id, &secret)), &[]).await?, invalid, "invalid_grant");
    Ok(())
}

#[tokio::test]
async fn consent_is_given_only_by_the_users_own_page() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read caches:write").await?;
    world.user("mallory").await?;
    let narrow = Partner { scope: "caches:read".to_owned(), ..partner.clone() };
    let (mut browser, page) = consent(&world, &narrow, "root").await?;
    let (_, of_mallory) = consent(&world, &narrow, "mallory").await?;
    let form = page.form("/oauth2/consent")?;
    let form = form.with("workspace", &world.workspace.to_string()).with("decision", "allow");
    let tokens = of_mallory.form("/oauth2/consent")?.fields;
    let theirs = tokens.iter().find(|(name, _)| name == "form_token").context("no token")?;
    let logout = page.form("/oauth2/logout")?.fields;
    let of_logout = logout.iter().find(|(name, _)| name == "form_token").context("no token")?;
    let forged = [
        form.without("form_token"),
        form.with("form_token", "00"),
        form.with("form_token", &theirs.1),
        form.with("form_token", &of_logout.1),
        form.with("scope", "caches:read caches:write"),
        form.with("state", "another"),
        form.with("code_challenge", &"A".repeat(43)),
        form.without("decision"),
    ];
    for form in forged {
        let page = browser.submit(&form).await?;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{form:?}");
        assert_eq!(page.header("location"), "");
    }
    let elsewhere = browser.submit(&form.with("redirect_uri", "https://evil.example/")).await?;
    assert_eq!(elsewhere.status, StatusCode::BAD_REQUEST);
    for headers in [
        [("origin", "https://evil.example")],
        [("origin", "null")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "same-site")],
    ] {
        let page = browser.submit_from(&form, &headers).await?;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    let mut without_cookie = Browser::new(&world.api.url(""))?;
    assert_eq!(without_cookie.submit(&form).await?.status, StatusCode::FORBIDDEN);
    assert_eq!(grants(&world).await?, 0);
    // A GET agrees to nothing.
    let query = format!("/oauth2/consent?{}", encoded(&form.fields));
    assert_eq!(browser.get(&query).await?.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(browser.submit(&form).await?.location()?.contains("code="), "the right one is taken");
    Ok(())
}

#[tokio::test]
async fn nobody_is_logged_in_unawares_or_under_a_cookie_that_others_know() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read").await?;
    let mut mallory = Browser::new(&world.api.url(""))?;
    let form = mallory.get(&partner.address()).await?.form("/oauth2/login")?;
    let form = form.with("username", "root").with("password", PASSWORD);
    let mut victim = Browser::new(&world.api.url(""))?;
    assert_eq!(victim.submit(&form).await?.status, StatusCode::FORBIDDEN, "without a cookie");
    victim.get(&partner.address()).await?;
    assert_eq!(victim.submit(&form).await?.status, StatusCode::FORBIDDEN, "a token of another's");
    let headers = [("origin", "https://evil.example")];
    assert_eq!(mallory.submit_from(&form, &headers).await?.status, StatusCode::FORBIDDEN);
    // What was the cookie before the login stands for nobody after it.
    let planted = mallory.cookies().clone();
    mallory.submit(&form).await?.location()?;
    assert_ne!(*mallory.cookies(), planted);
    let mut other = Browser::new(&world.api.url(""))?;
    *other.cookies() = planted;
    other.get(&partner.address()).await?.form("/oauth2/login")?;
    // A new password ends what the old one has opened.
    mallory.get(&partner.address()).await?.form("/oauth2/consent")?;
    let user = json!({"user": {"password": "another password"}});
    assert_eq!(world.api.put("/api/v1/users/1", user).await?.status, StatusCode::OK);
    mallory.get(&partner.address()).await?.form("/oauth2/login")?;
    Ok(())
}

#[tokio::test]
async fn passwords_can_not_be_guessed_at_the_page_either() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read").await?;
    let mut browser = Browser::new(&world.api.url(""))?;
    let form = browser.get(&partner.address()).await?.form("/oauth2/login")?;
    let form = form.with("username", "root").with("password", "wrong");
    for _ in 0..10 {
        let page = browser.submit(&form).await?;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.text);
    }
    let page = browser.submit(&form.with("password", PASSWORD)).await?;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(page.headers.contains_key("retry-after"));
    Ok(())
}

#[tokio::test]
async fn the_pages_are_in_no_frame_and_run_nothing_that_others_wrote() -> Result<()> {
    let world = Partnered::start().await?;
    let evil = "<script>alert(1)</script>\"'><img src=x>";
    let body = json!({"application": {"name": evil, "scopes": ["caches:read"],
        "redirect_uris": [Partner::REDIRECT], "homepage_url": "https://a.example/?\'--&x=1",
        "logo_url": "https://img.example/logo.png"}});
    let partner = Partner::of(&world.api.post("/api/v1/oauth/applications", body).await?)?;
    world.workspace_of("root", evil).await?;
    let evil_state = changed(&partner, &[("state", Some(evil))]);
    let mut browser = Browser::new(&world.api.url(""))?;
    let login = browser.get(&evil_state).await?;
    let named = login.form("/oauth2/login")?.with("username", evil).with("password", "wrong");
    let again = browser.submit(&named).await?;
    let consent = browser.log_in(login, "root", PASSWORD).await?;
    let message = browser.get("/oauth2/auth?client_id=<script>").await?;
    for page in [&again, &consent, &message] {
        assert!(
            !page.text.contains("<script") && !page.text.contains("<img src=x"),
            "{}",
            page.text
        );
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("script-src") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-frame-options"), "DENY");
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(page.header("referrer-policy"), "same-origin");
    }
    assert!(consent.text.contains("&lt;script&gt;"), "the name is shown");
    let policy = consent.header("content-security-policy");
    assert!(policy.contains("form-action 'self' https://partner.example;"), "{policy}");
    assert!(policy.contains("img-src https://img.example"), "{policy}");
    Ok(())
}

#[tokio::test]
async fn nobody_lets_anyone_into_a_workspace_of_others() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read caches:write").await?;
    world.user("mallory").await?;
    let own = world.workspace_of("mallory", "Own").await?;
    let (mut browser, page) = consent(&world, &partner, "mallory").await?;
    assert!(!page.text.contains("Shop"), "{}", page.text);
    let form = page.form("/oauth2/consent")?.with("decision", "allow");
    for workspace in [&*world.workspace.to_string(), "0", "-1", "", "x", "99999999999999999999"] {
        let page = browser.submit(&form.with("workspace", workspace)).await?;
        assert_eq!((page.status, page.header("location")), (StatusCode::OK, ""), "{workspace}");
        assert!(page.text.contains("Choose one of your workspaces"), "{}", page.text);
    }
    assert_eq!(grants(&world).await?, 0);
    let to = browser.submit(&form.with("workspace", &own.to_string())).await?.location()?;
    assert!(to.contains("code="), "{to}");
    Ok(())
}

#[tokio::test]
async fn an_application_can_do_no_more_than_its_user() -> Result<()> {
    let world = Partnered::start().await?;
    let partner = world.partner("caches:read caches:write").await?;
    world.user("viewer").await?;
    world.join(world.workspace, "viewer", "viewer").await?;
    let sql = "INSERT INTO integratedb.cache (id, workspace_id, name, type, hostname, port) \
               VALUES ('c1', $1, 'c', 'postgres', 'db.example', 5432) RETURNING 1::bigint";
    world.count(sql, &[&world.workspace]).await?;
    let token = partner.token(&world.api, "viewer", PASSWORD, world.workspace).await?;
    let purge =
        world.send_as(&token, Method::POST, "/api/v1/caches/c1/purge", Some(json!({}))).await?;
    assert_eq!(purge.status, StatusCode::FORBIDDEN, "{}", purge.text);
    // None of what is a user's own is an application's.
    for path in [
        "/api/v1/users".to_owned(),
        "/api/v1/users/1".to_owned(),
        "/api/v1/stakeholders".to_owned(),
        "/api/v1/oauth/applications".to_owned(),
        "/api/v1/oauth/authorizations".to_owned(),
        format!("/api/v1/workspaces/{}/oauth/applications", world.workspace),
    ] {
        let reply = world.send_as(&token, Method::GET, &path, None).await?;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{path}: {}", reply.text);
    }
    Ok(())
}

#[tokio::test]
async fn no_more_is_set_of_an_application_than_may_be() -> Result<()> {
    let world = Partnered::start().await?;
    let right =
        json!({"name": "Partner", "scopes": ["caches:read"], "redirect_uris": [Partner::REDIRECT]});
    let partner = world.partner("caches:read").await?;
    let path = format!("/api/v1/oauth/applications/{}", partner.id);
    for (field, value) in [
        ("id", json!(7)),
        ("client_id", json!("0123456789abcdef0123456789abcdef")),
        ("client_secret", json!("mine")),
        ("secret_hash", json!("00")),
        ("user_id", json!(1)),
        ("workspace_id", json!(1)),
        ("inserted_at", json!("2000-01-01")),
        ("scopes", json!(["caches:admin"])),
        ("scopes", json!([])),
        ("name", json!("\u{202e}evil")),
        ("name", json!("  ")),
        ("name", json!("x".repeat(101))),
        ("redirect_uris", json!([])),
        ("redirect_uris", json!(vec![Partner::REDIRECT; 11])),
        ("redirect_uris", json!(["http://partner.example/"])),
        ("redirect_uris", json!(["https://*.partner.example/"])),
        ("homepage_url", json!("javascript:alert(1)")),
        ("logo_url", json!("http://img.example/x.png")),
        ("logo_url", json!("https://img.example;script-src 'unsafe-inline'/x.png")),
    ] {
        let mut wrong = right.clone();
        wrong[field] = value;
        let body = json!({"application": wrong});
        let created = world.api.post("/api/v1/oauth/applications", body.clone()).await?;
        assert_eq!(created.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {}", created.text);
        let changed = world.api.put(&path, body).await?;
        assert_eq!(changed.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {}", changed.text);
    }
    let mut public = right.clone();
    public["public"] = json!(true);
    let changed = world.api.put(&path, json!({"application": public})).await?;
    assert_eq!(changed.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", changed.text);
    let beside = json!({"application": right, "user_id": 2});
    let created = world.api.post("/api/v1/oauth/applications", beside).await?;
    assert_eq!(created.status, StatusCode::UNPROCESSABLE_ENTITY);
    Ok(())
}

#[tokio::test]
async fn what_is_anothers_is_not_there() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let partner = world.partner("caches:read").await?;
    let token = partner.token(api, "root", PASSWORD, world.workspace).await?;
    let fields = json!({"application": {"name": "Ours", "scopes": ["caches:read"], "redirect_uris": [Partner::REDIRECT]}});
    let base = format!("/api/v1/workspaces/{}/oauth/applications", world.workspace);
    let ours = Partner::of(&api.post(&base, fields.clone()).await?)?;
    let grant = api.get("/api/v1/oauth/authorizations").await?.body["data"][0]["id"].clone();

    let mallory = world.user("mallory").await?;
    let member = world.user("member").await?;
    world.join(world.workspace, "member", "member").await?;
    let own = world.workspace_of("mallory", "Own").await?;
    let of_own = format!("/api/v1/workspaces/{own}/oauth/applications/{}", ours.id);
    let by_number = format!("/api/v1/oauth/applications/{}", ours.id);
    let of_root = format!("/api/v1/oauth/applications/{}", partner.id);
    let of_ours = format!("{base}/{}", ours.id);
    let authorization = format!("/api/v1/oauth/authorizations/{grant}");
    for path in [&of_own, &by_number, &of_root, &of_ours] {
        let secret = format!("{path}/secret");
        for (method, path, body) in [
            (Method::GET, path, None),
            (Method::PUT, path, Some(fields.clone())),
            (Method::DELETE, path, None),
            (Method::POST, &secret, None::<Value>),
        ] {
            let reply = world.send_as(&mallory, method.clone(), path, body).await?;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{method} {path}: {}", reply.text);
        }
    }
    // A member who is no admin sees that the workspace is there, and no more.
    let reply = world.send_as(&member, Method::GET, &of_ours, None).await?;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    let reply = world.send_as(&mallory, Method::DELETE, &authorization, None).await?;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    let all = world.send_as(&mallory, Method::DELETE, "/api/v1/oauth/authorizations", None).await?;
    assert_eq!(all.status, StatusCode::NO_CONTENT);
    let listed = world.send_as(&mallory, Method::GET, "/api/v1/oauth/applications", None).await?;
    assert_eq!(listed.body["data"], json!([]));
    assert_eq!(world.caches(&token).await?, StatusCode::OK, "nothing of root's has changed");
    assert_eq!(api.get(&of_ours).await?.body["data"]["name"], "Ours");
    Ok(())
}

#[tokio::test]
async fn nothing_secret_is_at_rest_or_in_the_log_of_the_database() -> Result<()> {
    let world = Partnered::start().await?;
    let api = &world.api;
    let partner = world.partner("caches:read").await?;
    let mut browser = Browser::new(&api.url(""))?;
    let to = browser.allow(&partner.address(), "root", PASSWORD, world.workspace).await?;
    let code = support::parameter(&to, "code").context("no code")?;
    let first = partner.trade(api, &code).await?;
    let second = partner.refresh(api, text(&first, "refresh_token")?).await?;
    let unused = partner.code(api, "root", PASSWORD, world.workspace).await?;
    let mut secrets = vec![PASSWORD.to_owned(), code, unused, partner.verifier.clone()];
    secrets.extend(partner.secret.clone());
    secrets.extend(browser.cookies().values().cloned());
    for reply in [&first, &second] {
        secrets.push(text(reply, "access_token")?.to_owned());
        secrets.push(text(reply, "refresh_token")?.to_owned());
    }
    // pg_test.conf logs every statement with its parameters.
    let log = world.cluster.log();
    assert!(log.contains("oauth_token"), "the log is the one we mean");
    let dump = world.cluster.program("pg_dump").arg(world.database.url()).output()?;
    let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.contains(&partner.client_id) && dump.contains("authorization.create"));
    for secret in secrets {
        let in_hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        for text in [&log, &dump] {
            assert!(!text.contains(&secret) && !text.contains(&in_hex), "a secret is kept");
        }
    }
    Ok(())
}
