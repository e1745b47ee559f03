//! Zync's generic REST contract, by the shapes that its tests record.

use anyhow::{Result, ensure};
use integratedb_sidecar::sync::target::Comparison;
use serde_json::{Value, json};
use support::{Peer, Says};

use crate::{gone, refusal, target, upsert};

fn application() -> Value {
    json!({
        "client_id": "foo", "client_secret": "bar", "name": "an app", "redirect_url": "https://app.example/back", "enabled": true,
        "oidc_configuration": {"standard_flow_enabled": true, "implicit_flow_enabled": true,
            "direct_access_grants_enabled": true, "service_accounts_enabled": false},
    })
}

fn metadata() -> Value {
    json!({
        "client_id": "foo", "client_secret": "bar", "client_name": "an app", "redirect_uris": ["https://app.example/back"],
        "grant_types": ["authorization_code", "implicit", "password"],
    })
}

fn settings(peer: &Peer) -> Value {
    json!({"endpoint": format!("http://id:secret@{}/some/api", peer.address())})
}

#[tokio::test]
async fn a_client_is_put_with_the_credentials_where_there_are_no_tokens() -> Result<()> {
    for document in
        [Says::from(404), (200, json!({})).into(), Says { body: "<html>".to_owned(), ..200.into() }]
    {
        let peer =
            Peer::start(
                move |asked| {
                    if asked.line.starts_with("GET") { document.clone() } else { 201.into() }
                },
            )
            .await?;
        let rest = target("rest", &settings(&peer))?;
        rest.push(&upsert("Client", "x", 9, &application())).await?;
        let asked = peer.asked();
        ensure!(
            asked[0].line == "GET /some/api/.well-known/openid-configuration",
            "{}",
            asked[0].line
        );
        ensure!(asked[0].header("authorization").is_empty(), "nobody asked for credentials there");
        ensure!(asked[1].line == "PUT /some/api/clients/foo", "{}", asked[1].line);
        ensure!(asked[1].header("authorization") == "Basic aWQ6c2VjcmV0");
        ensure!(
            asked[1].header("integratedb-entry") == "9"
                && asked[1].header("idempotency-key") == "7-3-9"
        );
        ensure!(asked[1].json() == metadata(), "{}", asked[1].body);
    }
    // One that fails is not one that is missing.
    let peer = Peer::start(|_| 502.into()).await?;
    let told =
        refusal(&*target("rest", &settings(&peer))?, &upsert("Client", "x", 9, &application()))
            .await?;
    ensure!(told.contains("502") && peer.asked().len() == 1, "{told}");
    Ok(())
}

#[tokio::test]
async fn a_client_that_is_gone_or_not_enabled_is_deleted() -> Result<()> {
    for status in [200, 204, 404] {
        let peer =
            Peer::start(
                move |asked| if asked.line.starts_with("GET") { 404.into() } else { status.into() },
            )
            .await?;
        let rest = target("rest", &settings(&peer))?;
        rest.push(&gone("Client", "x", 1, Some(&application()))).await?;
        let mut disabled = application();
        disabled["enabled"] = false.into();
        rest.push(&upsert("Client", "x", 2, &disabled)).await?;
        ensure!(
            peer.lines()[1..] == ["DELETE /some/api/clients/foo", "DELETE /some/api/clients/foo"],
            "{:?}",
            peer.lines()
        );
        if status == 404 {
            ensure!(
                rest.push(&upsert("Client", "x", 3, &application())).await.is_err(),
                "nothing takes it"
            );
        }
    }
    let peer =
        Peer::start(|asked| if asked.line.starts_with("GET") { 404.into() } else { 500.into() })
            .await?;
    ensure!(target("rest", &settings(&peer))?.push(&gone("Client", "foo", 1, None)).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_comparison_tells_what_differs() -> Result<()> {
    let held = |mut held: Value| {
        held["grant_types"].as_array_mut().expect("a list").reverse();
        held["created"] = 1.into();
        held
    };
    let compared = async |has: Says| {
        let peer = Peer::start(move |asked| {
            if asked.line.ends_with("configuration") { 404.into() } else { has.clone() }
        })
        .await?;
        let rest = target("rest", &settings(&peer))?;
        let upsert = rest.compare(&upsert("Client", "x", 1, &application())).await?;
        let gone = rest.compare(&gone("Client", "x", 1, Some(&application()))).await?;
        ensure!(peer.lines()[1] == "GET /some/api/clients/foo");
        Ok((upsert, gone))
    };
    ensure!(
        compared((200, held(metadata())).into()).await? == (Comparison::Same, Comparison::Delete)
    );
    let mut without = metadata();
    without.as_object_mut().expect("an object").remove("client_secret");
    ensure!(
        compared((200, held(without.clone())).into()).await?.0 == Comparison::Same,
        "secrets may be kept"
    );
    without["client_name"] = "another".into();
    without["redirect_uris"] = json!([]);
    let names = vec!["client_name".to_owned(), "redirect_uris".to_owned()];
    ensure!(compared((200, held(without)).into()).await?.0 == Comparison::Update(names));
    ensure!(compared(404.into()).await? == (Comparison::Create, Comparison::Same));
    ensure!(matches!(compared(405.into()).await?.0, Comparison::Unknown(_)));
    Ok(())
}
