//! Examples where nobody has written one: made of those of the properties, or of what things of such a name look like.

use serde_json::{Map, Value, json};

/// Deeper than this, examples have nothing more to tell.
const DEEPEST: usize = 12;

/// Gives an example to each body that has none.
pub(super) fn complete(operation: &mut Value, schemas: &Map<String, Value>) {
    give(&mut operation["requestBody"], schemas);
    for response in
        operation["responses"].as_object_mut().into_iter().flat_map(|all| all.values_mut())
    {
        give(response, schemas);
    }
    // Looking for what is not there has made it.
    if operation["requestBody"].is_null()
        && let Some(operation) = operation.as_object_mut()
    {
        operation.remove("requestBody");
    }
}

fn give(body: &mut Value, schemas: &Map<String, Value>) {
    let Some(content) = body.get_mut("content").and_then(Value::as_object_mut) else { return };
    for (kind, media) in content {
        if media.get("example").is_some() || media.get("examples").is_some() {
            continue;
        }
        media["example"] = match kind.as_str() {
            "text/event-stream" => {
                json!("id: 1-00000000016B3748-3\ndata: {\"type\": \"INSERT\"}\n\n")
            }
            "text/plain" => json!("integratedb_database_connections 1\n"),
            _ => of(&media["schema"], schemas, ""),
        };
    }
}

/// Something that a schema allows.
pub(super) fn of(schema: &Value, schemas: &Map<String, Value>, name: &str) -> Value {
    make(schema, schemas, name, 0)
}

fn make(schema: &Value, schemas: &Map<String, Value>, name: &str, depth: usize) -> Value {
    let go = |schema: &Value| make(schema, schemas, name, depth + 1);
    if depth > DEEPEST {
        return Value::Null;
    }
    if let Some(example) = schema.get("example").or_else(|| schema.get("const")) {
        return example.clone();
    }
    if let Some(example) = schema["examples"].get(0).or_else(|| first_of(&schema["enum"])) {
        return example.clone();
    }
    if let Some(to) =
        schema["$ref"].as_str().and_then(|to| to.strip_prefix("#/components/schemas/"))
    {
        return schemas.get(to).map(go).unwrap_or_default();
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut all = Map::new();
        for part in parts {
            all.extend(go(part).as_object().cloned().unwrap_or_default());
        }
        return Value::Object(all);
    }
    for any in ["oneOf", "anyOf"] {
        let mut choices = schema[any].as_array().into_iter().flatten();
        if let Some(choice) = choices.find(|choice| choice["type"] != "null") {
            return go(choice);
        }
    }
    let least = || json!(schema["minimum"].as_i64().unwrap_or(0).max(1));
    match type_of(schema) {
        "object" => object(schema, schemas, depth),
        "array" => json!([go(&schema["items"])]),
        "string" => known(name).filter(Value::is_string).unwrap_or_else(|| json!("…")),
        "integer" => known(name).filter(Value::is_i64).unwrap_or_else(least),
        "number" => json!(0.5),
        "boolean" => json!(false),
        _ => known(name).unwrap_or_else(|| json!({})),
    }
}

fn first_of(choices: &Value) -> Option<&Value> {
    choices.as_array()?.iter().find(|choice| !choice.is_null())
}

fn type_of(schema: &Value) -> &str {
    let first = || first_of_types(&schema["type"]);
    let is_object = schema.get("properties").is_some();
    schema["type"].as_str().or_else(first).unwrap_or(if is_object { "object" } else { "" })
}

fn first_of_types(types: &Value) -> Option<&str> {
    types.as_array()?.iter().filter_map(Value::as_str).find(|kind| *kind != "null")
}

fn object(schema: &Value, schemas: &Map<String, Value>, depth: usize) -> Value {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let all =
        properties.map(|(name, property)| (name.clone(), make(property, schemas, name, depth + 1)));
    Value::Object(all.collect())
}

/// What something of this name looks like.
fn known(name: &str) -> Option<Value> {
    Some(match name {
        "username" => json!("ann"),
        "password" => json!("correct horse battery"),
        "token" | "refreshToken" => json!("5f3a…"),
        "name" => json!("orders"),
        "class" | "record_type" => json!("orders"),
        "table" => json!("public.orders"),
        "key" => json!("7"),
        "state" => json!("running"),
        "origin" => json!("db.example:5432"),
        "user" => json!("app"),
        "database" => json!("shop"),
        "template" => json!("SELECT * FROM orders WHERE id = ?"),
        "template_id" => json!("9f86d081884c7d65"),
        "error" | "last_error" | "why" => json!("no connection"),
        "slot" => json!("integratedb_shop"),
        "applied" | "confirmed" | "durable" => json!("0/16B3748"),
        "head" | "pruned" | "next" | "cursor" | "event_id" => json!("1-00000000016B3748-3"),
        "object" => json!("schema reporting"),
        "reason" => json!("other objects depend on it"),
        "secret" => json!("whsec_…"),
        "channel" => json!("billing"),
        "kind" => json!("postgres"),
        "endpoint" => json!("https://example.com"),
        "status" => json!("live"),
        name if name.ends_with("_at") => json!("2026-01-31T12:00:00Z"),
        _ => return None,
    })
}

/// What a parameter of a path looks like.
pub(super) fn of_parameter(path: &str, name: &str) -> Option<Value> {
    Some(match name {
        "id" if path.starts_with("/api/v1/caches") => json!("shop"),
        "kind" if path.contains("/rules/") => json!("table"),
        "name" if path.contains("/rules/") => json!("public.orders"),
        "name" if path.contains("/channels/") => json!("billing"),
        _ => return None,
    })
}
