//! A certified OpenID provider stands in for Keycloak, and for what takes Zync's REST contract: clients that were pushed
//! there get tokens, and those that were deleted don't.

use anyhow::{Result, ensure};
use integratedb_sidecar::sync::target::Comparison;
use serde_json::{Value, json};
use support::OpenIdProvider;

use crate::{gone, target, upsert};

fn client(id: &str, secret: &str) -> Value {
    json!({
        "client_id": id, "client_secret": secret, "name": "an app", "redirect_url": "https://app.example/back", "enabled": true,
        "oidc_configuration": {"standard_flow_enabled": true, "service_accounts_enabled": true},
    })
}

async fn goes_through(kind: &str, method: &str) -> Result<()> {
    let provider = OpenIdProvider::start(method).await?;
    let target = target(kind, &json!({"endpoint": provider.endpoint()}))?;
    let (first, second) = ("a first secret", "a second secret");
    let push = |entry, secret| upsert("Client", "x", entry, &client("app-1", secret));

    ensure!(target.compare(&push(1, first)).await? == Comparison::Create);
    target.push(&push(1, first)).await?;
    ensure!(provider.knows("app-1", first).await?, "it has not been registered");
    ensure!(target.compare(&push(1, first)).await? == Comparison::Same);
    // The same again changes nothing.
    target.push(&push(1, first)).await?;
    ensure!(provider.knows("app-1", first).await?);

    let differs = target.compare(&push(2, second)).await?;
    ensure!(matches!(&differs, Comparison::Update(names) if names.len() == 1), "{differs:?}");
    target.push(&push(2, second)).await?;
    ensure!(provider.knows("app-1", second).await? && !provider.knows("app-1", first).await?);

    // All of this with one token, and one more when that is refused.
    ensure!(provider.tokens().await? == 1, "{}", provider.tokens().await?);
    provider.revoke().await?;
    let gone = gone("Client", "x", 3, Some(&client("app-1", second)));
    ensure!(target.compare(&gone).await? == Comparison::Delete);
    ensure!(provider.tokens().await? == 2);
    target.push(&gone).await?;
    ensure!(!provider.knows("app-1", second).await?, "it is still there");
    ensure!(target.compare(&gone).await? == Comparison::Same);
    target.push(&gone).await?;
    Ok(())
}

#[tokio::test]
async fn keycloaks_protocol_registers_clients() -> Result<()> {
    goes_through("keycloak", "client_secret_post").await
}

#[tokio::test]
async fn zyncs_rest_contract_registers_clients() -> Result<()> {
    goes_through("rest", "client_secret_basic").await
}

#[tokio::test]
async fn wrong_credentials_are_told_without_being_shown() -> Result<()> {
    let provider = OpenIdProvider::start("client_secret_post").await?;
    let settings = json!({"endpoint": provider.endpoint(), "client_secret": "another secret"});
    let target = target("keycloak", &settings)?;
    let error = target
        .push(&upsert("Client", "x", 1, &client("app-1", "s")))
        .await
        .expect_err("it is wrong");
    ensure!(error.message.contains("invalid_client"), "{error}");
    ensure!(!error.message.contains("another secret"), "{error}");
    Ok(())
}
