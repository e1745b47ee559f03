//! What goes with a path.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::{Operation, examples, responses};
use crate::api::page;

/// Parameters that many operations have.
pub(super) fn components() -> Value {
    json!({
        "IdempotencyKey": {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Has this done once, however often it is sent: whoever sends the same again within a day gets \
                            the first answer. One to 255 visible characters, bare or as a string in quotes.",
            // The strings in quotes are left out: not each that begins with a quote is one.
            "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~][!-~]*$" },
            "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
        },
        "IfMatch": {
            "name": "If-Match",
            "in": "header",
            "description": "The ETag of what was read. Answered with 412 and without any effect if it has changed since.",
            "schema": { "type": "string" },
            "example": "\"EYcUd3Wg5Bd6Rk7wQ5xhhg\"",
        },
    })
}

/// Describes the parameters of an operation, and adds those that it shares with others.
pub(super) fn complete(of: &Operation<'_>, operation: &mut Value, schemas: &Map<String, Value>) {
    let mut all: Vec<Value> = operation["parameters"].as_array().cloned().unwrap_or_default();
    // The shared one says it whole, with an example.
    all.retain(|parameter| parameter["name"] != "If-Match");
    for parameter in &mut all {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        if name == "limit" {
            // As of all lists; `Asked` refuses any other.
            parameter["schema"] = json!({ "type": "integer", "minimum": 1, "maximum": page::MOST });
        }
        if parameter["in"] == "query" && is_any_text(&parameter["schema"]) {
            // `Asked` refuses what no text of Postgres has.
            parameter["schema"]["pattern"] = json!("^[^\\u0000]*$");
        }
        let is_described =
            parameter["description"].as_str().is_some_and(|text| !text.trim().is_empty());
        if !is_described && parameter["in"] == "path" {
            parameter["description"] = json!(of_path(of.path, &name));
        }
        if parameter.get("example").is_none() && parameter.get("examples").is_none() {
            let is_known = examples::of_parameter(of.path, &name);
            let example =
                is_known.unwrap_or_else(|| examples::of(&parameter["schema"], schemas, &name));
            // Nothing is no example of what can be left out.
            if !example.is_null() {
                parameter["example"] = example;
            }
        }
    }
    let is_there = |name: &str| all.iter().any(|one| one["name"] == name);
    let has_key = is_there("Idempotency-Key");
    if of.takes_idempotency_key() && !has_key {
        all.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
    }
    if of.method != Method::GET && responses::has(operation, "412") {
        all.push(json!({ "$ref": "#/components/parameters/IfMatch" }));
    }
    if !all.is_empty() {
        operation["parameters"] = json!(all);
    }
}

fn is_any_text(schema: &Value) -> bool {
    let is_text = |kind: &Value| kind == "string";
    let kinds = &schema["type"];
    let is_text = is_text(kinds) || kinds.as_array().is_some_and(|all| all.iter().any(is_text));
    is_text && ["enum", "pattern", "format"].iter().all(|name| schema.get(name).is_none())
}

/// What a part of a path names.
fn of_path(path: &str, name: &str) -> String {
    let collection = path.split('/').take_while(|part| *part != format!("{{{name}}}")).last();
    match (collection, name) {
        (Some("users"), _) => "The user's id.".to_owned(),
        (Some("members"), _) => "The id of the member, as a user.".to_owned(),
        (Some("stakeholders"), _) => "The stakeholder's id.".to_owned(),
        (Some("tenants"), _) => "The tenant's id; those of stakeholders are negative.".to_owned(),
        (Some("caches"), _) => "The cache's id.".to_owned(),
        (Some("channels"), _) => "The channel's name.".to_owned(),
        (Some("classes" | "sources"), _) => "The class's name.".to_owned(),
        (Some("rules"), "kind") => "`template` or `table`.".to_owned(),
        (_, "name") => "A template's id, or a table as schema.name.".to_owned(),
        (_, name) => format!("The {name}'s id."),
    }
}
