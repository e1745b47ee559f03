//! The document that describes the API: what handlers say of themselves, and what holds for every operation alike, so that
//! no handler has to repeat it.
//!
//! What an operation needs is taken from the table that decides it ([`security`]), and how errors look from the function
//! that writes them ([`responses`]). What has no example gets one that its schema allows ([`examples`]).

mod examples;
mod parameters;
mod responses;
mod security;
mod words;

use axum::http::Method;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;
use utoipa::{PartialSchema, ToSchema};

use super::access::{Need, need};
use super::body::{Errors, Problem};
use super::problem;

/// An operation as the rest of this module looks at it.
struct Operation<'a> {
    method: Method,
    path: &'a str,
    /// What it asks for; an operation that nobody may call says nothing of it.
    need: Option<Need>,
}

impl Operation<'_> {
    /// Whether it comes under the limit of requests, and what else holds for all of `/api/v1`.
    fn is_api(&self) -> bool {
        self.path.starts_with("/api/v1/")
    }

    /// Whether somebody has to be behind it, for whom it can be done once.
    fn takes_idempotency_key(&self) -> bool {
        let is_public = matches!(self.need, None | Some(Need::Public | Need::Other));
        self.method == Method::POST && self.is_api() && !is_public
    }

    fn is_of_a_guide(&self) -> bool {
        problem::is_of_a_guide(self.path, true)
    }
}

/// The whole document. `issuer` is the URL under which the API is reached, if one is set.
pub(super) fn describe(document: &OpenApi, issuer: Option<&str>) -> Value {
    let mut document =
        serde_json::to_value(document).expect("the description of the API is made of strings");
    unsigned(&mut document);
    document["servers"] = json!([{ "url": issuer.unwrap_or("/"), "description": "This sidecar" }]);
    let components = &mut document["components"];
    components["securitySchemes"] = security::schemes(issuer);
    components["headers"] = responses::headers();
    components["parameters"] = parameters::components();
    for (name, schema) in [
        (Errors::name(), serde_json::to_value(Errors::schema())),
        (Problem::name(), serde_json::to_value(Problem::schema())),
    ] {
        components["schemas"][&*name] = schema.expect("a schema is made of strings");
    }
    for alternative in
        components["schemas"]["PurgeBody"]["oneOf"].as_array_mut().into_iter().flatten()
    {
        // An enum's alternatives are not said to have no other members, as a struct is.
        alternative["additionalProperties"] = json!(false);
    }
    let schemas = components["schemas"].as_object().cloned().unwrap_or_default();
    let mut tags = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        complete_path(path, item, issuer.is_some(), &schemas);
        for tag in
            item.as_object().into_iter().flatten().flat_map(|(_, operation)| tags_of(operation))
        {
            tags.insert(tag.to_owned());
        }
    }
    let tags =
        tags.into_iter().map(|tag| json!({ "name": tag, "description": words::of_tag(&tag) }));
    document["tags"] = tags.collect();
    document
}

/// Says how far unsigned numbers go. The formats they come with are those of signed ones.
fn unsigned(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(unsigned),
        Value::Object(members) => {
            let most = match members.get("format").and_then(Value::as_str) {
                Some("int32") => json!(u32::MAX),
                Some("int64") => json!(u64::MAX),
                _ => Value::Null,
            };
            if !most.is_null() && members.get("minimum") == Some(&json!(0)) {
                members.remove("format");
                members.entry("maximum").or_insert(most);
            }
            members.values_mut().for_each(unsigned);
        }
        _ => {}
    }
}

fn tags_of(operation: &Value) -> impl Iterator<Item = &str> {
    operation["tags"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn complete_path(path: &str, item: &mut Value, has_issuer: bool, schemas: &Map<String, Value>) {
    // Who answers If-Match with 412 also says what to send in it.
    let operations = item.as_object().into_iter().flatten();
    let is_tagged = operations.into_iter().any(|(_, operation)| responses::has(operation, "412"));
    for (method, operation) in item.as_object_mut().into_iter().flatten() {
        let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else { continue };
        let of = Operation { need: need(&method, path), method, path };
        words::complete(&of, operation);
        security::complete(&of, operation, has_issuer);
        parameters::complete(&of, operation, schemas);
        responses::complete(&of, operation, is_tagged);
        examples::complete(operation, schemas);
    }
}
