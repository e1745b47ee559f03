//! Keycloak, by the shapes of requests that Zync records in its tests, and of answers that Keycloak's server gives.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use integratedb_sidecar::sync::target::Comparison;
use serde_json::{Value, json};
use support::{Asked, Peer, Says};

use crate::{gone, refusal, target, upsert};

const REALM: &str = "/auth/realms/3scale";

fn application() -> Value {
    json!({
        "client_id": "ec2a1b", "client_secret": "hush", "redirect_url": "https://app.example/back", "state": "live",
        "enabled": true, "name": "an app", "description": "what it does",
        "oidc_configuration": {"standard_flow_enabled": true, "implicit_flow_enabled": false, "service_accounts_enabled": true,
            "direct_access_grants_enabled": false, "token_exchange_enabled": true},
    })
}

fn representation() -> Value {
    json!({
        "name": "an app", "description": "what it does", "clientId": "ec2a1b", "secret": "hush",
        "redirectUris": ["https://app.example/back"], "enabled": true,
        "attributes": {"3scale": true, "standard.token.exchange.enabled": "true"},
        "standardFlowEnabled": true, "implicitFlowEnabled": false, "serviceAccountsEnabled": true,
        "directAccessGrantsEnabled": false,
        "protocolMappers": [{
            "name": "audience-mapper", "protocol": "openid-connect", "protocolMapper": "oidc-audience-mapper",
            "config": {"included.client.audience": "ec2a1b", "id.token.claim": "false", "access.token.claim": "true"},
        }],
    })
}

/// What Keycloak says of a client that there is not, to one who may manage clients.
fn not_found() -> Says {
    (404, json!({"error": "invalid_request", "error_description": "Client not found"})).into()
}

/// A realm that gives tokens; the rest it answers as it is told.
async fn realm(answer: impl Fn(&Asked) -> Says + Send + Sync + 'static) -> Result<Peer> {
    let tokens = AtomicUsize::new(0);
    Peer::start(move |asked| {
        if asked.line == format!("GET {REALM}/.well-known/openid-configuration") {
            // Zync takes one that is relative.
            return (200, json!({"token_endpoint": "protocol/openid-connect/token"})).into();
        }
        if asked.line == format!("POST {REALM}/protocol/openid-connect/token") {
            let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
            let token = json!({"access_token": format!("token-{number}"), "expires_in": 300, "token_type": "Bearer"});
            return (200, token).into();
        }
        answer(asked)
    })
    .await
}

fn settings(peer: &Peer) -> Value {
    json!({"endpoint": format!("http://my%20id:s%26cret@{}{REALM}", peer.address())})
}

#[tokio::test]
async fn a_client_is_updated_or_else_created() -> Result<()> {
    let peer = realm(|asked| match asked.line.split(' ').next() {
        Some("PUT") => not_found(),
        Some("POST") => {
            (201, json!({"clientId": "ec2a1b", "registrationAccessToken": "not needed"})).into()
        }
        _ => 500.into(),
    })
    .await?;
    let keycloak = target("keycloak", &settings(&peer))?;
    keycloak.push(&upsert("Client", r#"["ec2a1b","5"]"#, 41, &application())).await?;
    let asked = peer.asked();
    ensure!(
        peer.lines()
            == [
                format!("GET {REALM}/.well-known/openid-configuration"),
                format!("POST {REALM}/protocol/openid-connect/token"),
                format!("PUT {REALM}/clients-registrations/default/ec2a1b"),
                format!("POST {REALM}/clients-registrations/default"),
            ],
        "{:?}",
        peer.lines()
    );
    ensure!(
        asked[1].body == "grant_type=client_credentials&client_id=my%20id&client_secret=s%26cret"
    );
    ensure!(asked[1].header("content-type") == "application/x-www-form-urlencoded");
    for asked in &asked[2..] {
        ensure!(asked.header("authorization") == "Bearer token-1", "{asked:?}");
        ensure!(asked.header("content-type") == "application/json");
        ensure!(asked.header("integratedb-entry") == "41");
        ensure!(asked.header("idempotency-key") == "7-3-41");
        ensure!(asked.json() == representation(), "{}", asked.body);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_given_is_not_said() -> Result<()> {
    let peer = realm(|_| 200.into()).await?;
    let mut settings = settings(&peer);
    settings["attributes"] = json!({"fullScopeAllowed": false});
    let keycloak = target("keycloak", &settings)?;
    keycloak
        .push(&upsert("Client", "a/b", 1, &json!({"client_secret": "s", "name": null})))
        .await?;
    let asked = peer.asked();
    let last = &asked[2];
    ensure!(
        last.line == format!("PUT {REALM}/clients-registrations/default/a%2Fb"),
        "{}",
        last.line
    );
    let body = last.json();
    ensure!(body["clientId"] == "a/b" && body["redirectUris"] == json!([]), "{body}");
    ensure!(
        body["attributes"] == json!({"3scale": true}) && body["fullScopeAllowed"] == false,
        "{body}"
    );
    ensure!(body["name"].is_null() && body["description"].is_null(), "{body}");
    for absent in ["enabled", "standardFlowEnabled", "serviceAccountsEnabled"] {
        ensure!(body.get(absent).is_none(), "{absent}: {body}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_is_gone_or_has_no_secret_is_deleted() -> Result<()> {
    let peer =
        realm(|asked| if asked.line.ends_with("/missing") { not_found() } else { 204.into() })
            .await?;
    let keycloak = target("keycloak", &settings(&peer))?;
    keycloak.push(&gone("Client", "x", 1, Some(&application()))).await?;
    keycloak
        .push(&upsert("Client", "x", 2, &json!({"client_id": "no-secret", "client_secret": ""})))
        .await?;
    keycloak.push(&gone("Client", r#"["missing","5"]"#, 3, None)).await?;
    let deleted = |id| format!("DELETE {REALM}/clients-registrations/default/{id}");
    let lines = peer.lines();
    ensure!(
        lines[2..] == [deleted("ec2a1b"), deleted("no-secret"), deleted("missing")],
        "{lines:?}"
    );
    Ok(())
}

/// Somebody before it, or a realm that is gone, answers 404 too.
#[tokio::test]
async fn only_keycloak_itself_says_that_a_client_is_missing() -> Result<()> {
    for answer in [404.into(), Says::from((404, json!({"error": "Realm does not exist"})))] {
        let peer = realm(move |_| answer.clone()).await?;
        let keycloak = target("keycloak", &settings(&peer))?;
        let told = refusal(&*keycloak, &gone("Client", "x", 1, Some(&application()))).await?;
        ensure!(told.contains("deleted: it answered 404"), "{told}");
        ensure!(keycloak.compare(&upsert("Client", "x", 1, &application())).await.is_err());
    }
    Ok(())
}

#[tokio::test]
async fn other_classes_are_none_of_its_and_a_proxy_is_a_test() -> Result<()> {
    let peer = realm(|_| 200.into()).await?;
    let keycloak = target("keycloak", &settings(&peer))?;
    for class in ["Application", "Service", "Metric"] {
        keycloak.push(&upsert(class, "1", 1, &json!({"id": 1}))).await?;
    }
    ensure!(peer.asked().is_empty());
    keycloak.push(&upsert("Proxy", "1", 1, &json!({"id": 1}))).await?;
    let lines = peer.lines();
    ensure!(lines.len() == 3 && lines[2] == lines[0] && lines[0].starts_with("GET"), "{lines:?}");
    Ok(())
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() -> Result<()> {
    let peer = realm(|asked| {
        if asked.header("authorization") == "Bearer token-1" {
            return (
                401,
                json!({"error": "invalid_token", "error_description": "Token is expired"}),
            )
                .into();
        }
        200.into()
    })
    .await?;
    let keycloak = target("keycloak", &settings(&peer))?;
    keycloak.push(&upsert("Client", "a", 1, &application())).await?;
    keycloak.push(&upsert("Client", "a", 2, &application())).await?;
    let asked = peer.asked();
    let shown: Vec<_> = asked
        .iter()
        .filter(|asked| asked.line.starts_with("PUT"))
        .map(|asked| asked.header("authorization"))
        .collect();
    ensure!(shown == ["Bearer token-1", "Bearer token-2", "Bearer token-2"], "{shown:?}");

    // An invalid token is no missing client: nothing is created.
    let said = json!({"error": "invalid_token", "error_description": "Not authorized to update client. Maybe missing token or bad token type."});
    let peer = realm(move |_| (401, said.clone()).into()).await?;
    let keycloak = target("keycloak", &settings(&peer))?;
    let told = refusal(&*keycloak, &upsert("Client", "a", 1, &application())).await?;
    ensure!(told.contains("401") && told.contains("Not authorized to update client"), "{told}");
    let lines = peer.lines();
    ensure!(!lines.iter().any(|line| line.ends_with("/default")) && lines.len() == 6, "{lines:?}");
    Ok(())
}

#[tokio::test]
async fn a_token_is_got_once_for_all_and_again_before_it_ends() -> Result<()> {
    let life = std::sync::Arc::new(AtomicUsize::new(300));
    let lasts = std::sync::Arc::clone(&life);
    let peer = Peer::start(move |asked| {
        if asked.line.starts_with("GET") {
            return (200, json!({"token_endpoint": "/token", "token_endpoint_auth_methods_supported": ["client_secret_basic"]})).into();
        }
        if asked.line == "POST /token" {
            let token = json!({"access_token": "t", "expires_in": lasts.load(Ordering::SeqCst)});
            return Says { after: Duration::from_millis(100), ..(200, token).into() };
        }
        200.into()
    })
    .await?;
    let settings = json!({"endpoint": format!("http://{}", peer.address()), "client_id": "a:b", "client_secret": "c%"});
    let tokens = |peer: &Peer| peer.lines().iter().filter(|line| *line == "POST /token").count();
    let keycloak = target("keycloak", &settings)?;
    let push = upsert("Client", "a", 1, &application());
    let all = futures_util::future::join_all((0..20).map(|_| keycloak.push(&push))).await;
    ensure!(all.iter().all(Result::is_ok), "{all:?}");
    ensure!(tokens(&peer) == 1, "{}", tokens(&peer));
    // RFC 6749, 2.3.1: both are encoded before they are joined.
    let shown = peer
        .asked()
        .into_iter()
        .find(|asked| asked.line == "POST /token")
        .map(|asked| asked.header("authorization").to_owned());
    ensure!(shown.as_deref() == Some("Basic YSUzQWI6YyUyNQ=="), "{shown:?}");

    life.store(0, Ordering::SeqCst);
    let keycloak = target("keycloak", &settings)?;
    keycloak.push(&push).await?;
    keycloak.push(&push).await?;
    ensure!(tokens(&peer) == 3, "one that has ended is not used: {}", tokens(&peer));
    Ok(())
}

#[tokio::test]
async fn errors_say_what_is_wrong_and_no_secret() -> Result<()> {
    let push = upsert("Client", "a", 1, &application());
    let told = async |peer: &Peer| refusal(&*target("keycloak", &settings(peer))?, &push).await;

    let nothing = Peer::start(|_| 404.into()).await?;
    ensure!(told(&nothing).await?.contains("realm's URL"));

    let forbidden = realm(|_| {
        (403, json!({"error": "insufficient_scope", "error_description": "Forbidden"})).into()
    })
    .await?;
    let text = told(&forbidden).await?;
    ensure!(text.contains("403") && text.contains("manage-clients"), "{text}");

    let wrong = Peer::start(|asked| match asked.line.starts_with("GET") {
        true => (200, json!({"token_endpoint": "t"})).into(),
        false => (401, json!({"error": "unauthorized_client", "error_description": "Invalid client or Invalid client credentials"})).into(),
    })
    .await?;
    let text = told(&wrong).await?;
    ensure!(
        text.contains("token endpoint") && text.contains("Invalid client credentials"),
        "{text}"
    );
    ensure!(
        !text.contains("s&cret") && !text.contains("hush") && !text.contains("my id"),
        "{text}"
    );

    let away =
        Peer::start(|_| (200, json!({"token_endpoint": "http://10.1.2.3/token"})).into()).await?;
    let text = told(&away).await?;
    ensure!(text.contains("10.1.2.3") && text.contains("sync.allow_networks"), "{text}");

    let busy =
        realm(|_| Says { headers: vec![("retry-after", "17".to_owned())], ..503.into() }).await?;
    let error = target("keycloak", &settings(&busy))?.push(&push).await.expect_err("it is busy");
    ensure!(error.retry_after == Some(Duration::from_secs(17)), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_comparison_tells_what_differs() -> Result<()> {
    // What Keycloak has more, and how it keeps attributes.
    let mut held = representation();
    held["id"] = "f0e1".into();
    held["attributes"] =
        json!({"3scale": "true", "standard.token.exchange.enabled": "true", "created": "1"});
    held["protocolMappers"].as_array_mut().expect("a list").insert(0, json!({"name": "other"}));
    held["protocolMappers"][1]["consentRequired"] = false.into();
    let peer = realm(move |asked| {
        if asked.line.ends_with("/ec2a1b") { (200, held.clone()).into() } else { not_found() }
    })
    .await?;
    let keycloak = target("keycloak", &settings(&peer))?;
    let compared = async |push| keycloak.compare(&push).await.map_err(anyhow::Error::from);
    ensure!(compared(upsert("Client", "x", 1, &application())).await? == Comparison::Same);
    let mut other = application();
    other["name"] = "another".into();
    other["oidc_configuration"]["token_exchange_enabled"] = false.into();
    let differs = compared(upsert("Client", "x", 1, &other)).await?;
    ensure!(
        differs == Comparison::Update(vec!["attributes".to_owned(), "name".to_owned()]),
        "{differs:?}"
    );
    ensure!(compared(gone("Client", "x", 1, Some(&application()))).await? == Comparison::Delete);
    other["client_id"] = "new".into();
    ensure!(compared(upsert("Client", "x", 1, &other)).await? == Comparison::Create);
    ensure!(compared(gone("Client", "x", 1, Some(&other))).await? == Comparison::Same);
    ensure!(compared(upsert("Metric", "x", 1, &other)).await? == Comparison::Same);
    let asked = peer.lines();
    ensure!(
        asked.iter().all(|line| line.starts_with("GET") || line.ends_with("/token")),
        "{asked:?}"
    );
    Ok(())
}
