//! The document that describes the API is complete, and what it gives as examples is what it says is allowed.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::oauth::Issuer;
use serde_json::{Map, Value, json};
use support::{Cluster, Sidecar};

async fn document(issuer: Option<&str>) -> Result<Value> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let issuer = issuer.map(|issuer| Issuer::try_from(issuer.to_owned()).expect("it is an origin"));
    let api = Sidecar::start_with(&database.url(), |config| config.oauth.issuer = issuer).await?;
    Ok(api.get("/api/v1/openapi.json").await?.body)
}

/// Each operation with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let all = paths.flat_map(|(path, item)| {
        let operations = item.as_object().into_iter().flatten();
        operations.map(move |(method, operation)| (format!("{method} {path}"), operation))
    });
    all.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default().trim()
}

/// What a reference means; anything else means itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let to = value["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    to.and_then(|to| document.pointer(to)).unwrap_or(value)
}

/// A reference that leads nowhere.
fn dangling(document: &Value, value: &Value) -> Option<String> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| dangling(document, item)),
        Value::Object(members) => {
            let to =
                members.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'));
            let is_lost = to.filter(|to| document.pointer(to).is_none());
            is_lost
                .map(str::to_owned)
                .or_else(|| members.values().find_map(|value| dangling(document, value)))
        }
        _ => None,
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

#[tokio::test]
async fn every_operation_is_described_whole() -> Result<()> {
    let document = document(Some("https://id.example")).await?;
    let all = operations(&document);
    ensure!(all.len() > 60, "these are not all: {}", all.len());
    let described: BTreeSet<&str> = document["tags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|tag| !text(&tag["description"]).is_empty())
        .map(|tag| text(&tag["name"]))
        .collect();
    ensure!(
        dangling(&document, &document).is_none(),
        "{:?} leads nowhere",
        dangling(&document, &document)
    );
    let (mut missing, mut ids) = (Vec::new(), BTreeSet::new());
    for (of, operation) in &all {
        let mut check = |is_there: bool, what: &str| {
            if !is_there {
                missing.push(format!("{of}: {what}"));
            }
        };
        check(!text(&operation["summary"]).is_empty(), "summary");
        check(!text(&operation["description"]).is_empty(), "description");
        check(ids.insert(text(&operation["operationId"]).to_owned()), "an id of its own");
        let tags = operation["tags"].as_array().cloned().unwrap_or_default();
        check(!tags.is_empty() && tags.iter().all(|tag| described.contains(text(tag))), "tags");
        check(operation["security"].is_array(), "security");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in &parameters {
            let parameter = resolved(&document, parameter);
            let name = text(&parameter["name"]);
            check(!text(&parameter["description"]).is_empty(), &format!("what {name} is"));
        }
        if let Some(body) = operation.get("requestBody") {
            check(
                entries(&body["content"]).all(|(_, media)| media.get("example").is_some()),
                "a body's example",
            );
        }
        let is_api = of.contains(" /api/v1/");
        for (status, response) in entries(&operation["responses"]) {
            check(!text(&response["description"]).is_empty(), &format!("what {status} means"));
            let is_map = response.get("headers").is_none_or(Value::is_object);
            check(is_map, &format!("headers of {status}"));
            let has_example = |media: &Value| media.get("example").is_some();
            check(
                entries(&response["content"]).all(|(_, media)| has_example(media)),
                &format!("an example of {status}"),
            );
            for (name, header) in entries(&response["headers"]) {
                let header = resolved(&document, header);
                check(
                    !text(&header["description"]).is_empty(),
                    &format!("what {name} of {status} is"),
                );
            }
            check(
                !is_api || response["headers"].get("RateLimit").is_some(),
                &format!("RateLimit of {status}"),
            );
            check(
                status != "201"
                    || !is_api
                    || response["headers"].get("Location").is_some()
                    || of.starts_with("put"),
                "Location",
            );
            let is_error = status.starts_with('4') || status.starts_with('5');
            check(!is_error || response.get("content").is_some(), &format!("the body of {status}"));
        }
        check(!is_api || operation["responses"].get("429").is_some(), "429");
    }
    ensure!(missing.is_empty(), "these are missing:\n{}", missing.join("\n"));
    Ok(())
}

#[tokio::test]
async fn every_example_is_what_its_schema_allows() -> Result<()> {
    let document = document(None).await?;
    let mut wrong = Vec::new();
    let (mut count, mut checked) = (0, BTreeSet::new());
    let mut check = |of: String, schema: &Value, example: &Value| -> Result<()> {
        count += 1;
        // Most operations have the same errors.
        if !checked.insert((schema.to_string(), example.to_string())) {
            return Ok(());
        }
        // References lead from the root of what holds them.
        let root = json!({ "allOf": [schema], "components": document["components"] });
        let validator = jsonschema::draft202012::new(&root)?;
        let all: Vec<_> = validator
            .iter_errors(example)
            .map(|error| format!("{of}: {error} in {example}"))
            .collect();
        wrong.extend(all);
        Ok(())
    };
    for (of, operation) in operations(&document) {
        let responses =
            entries(&operation["responses"]).map(|(status, response)| (status.as_str(), response));
        for (part, body) in responses.chain([("request", &operation["requestBody"])]) {
            for (kind, media) in entries(&body["content"]).filter(|(kind, _)| kind.contains("json"))
            {
                check(format!("{of}, {part}, {kind}"), &media["schema"], &media["example"])?;
            }
        }
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = resolved(&document, parameter);
            if let Some(example) = parameter.get("example") {
                check(format!("{of}, {}", parameter["name"]), &parameter["schema"], example)?;
            }
        }
    }
    ensure!(count > 500, "these are not all: {count}");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn what_an_operation_needs_is_what_the_rules_say() -> Result<()> {
    let with_issuer = document(Some("https://id.example")).await?;
    let security = |document: &Value, of: &str| {
        let found = operations(document).into_iter().find(|(name, _)| name == of);
        found.map(|(_, operation)| operation["security"].clone()).context(of.to_owned())
    };
    let token = json!({"token": []});
    assert_eq!(security(&with_issuer, "post /api/v1/auth/login")?, json!([]));
    assert_eq!(security(&with_issuer, "post /api/v1/users")?, json!([{}, token]));
    assert_eq!(security(&with_issuer, "get /api/v1/sync/status")?, json!([token]));
    let purge = "post /api/v1/caches/{id}/purge";
    assert_eq!(security(&with_issuer, purge)?, json!([token, {"oauth2": ["caches:write"]}]));
    let flow =
        &with_issuer["components"]["securitySchemes"]["oauth2"]["flows"]["authorizationCode"];
    assert_eq!(flow["authorizationUrl"], "https://id.example/oauth2/auth");
    assert_eq!(flow["tokenUrl"], "https://id.example/oauth2/token");
    assert_eq!(flow["scopes"].as_object().map(Map::len), Some(4));
    let without = document(None).await?;
    assert_eq!(security(&without, purge)?, json!([token]));
    assert!(without["components"]["securitySchemes"].get("oauth2").is_none());
    Ok(())
}
