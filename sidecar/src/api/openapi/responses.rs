//! What operations answer with: the errors that any may answer with, and the headers that answers have.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Operation;
use crate::api::access::Need;
use crate::api::problem::{self, Kind};

/// Headers that many answers have.
pub(super) fn headers() -> Value {
    let text = |description: &str, example: &str| json!({ "description": description, "schema": { "type": "string" }, "example": example });
    json!({
        "RateLimitPolicy": text(
            "As many requests (q) may be sent in as many seconds (w).",
            "\"default\";q=1000;w=10"
        ),
        "RateLimit": text(
            "As many requests (r) may be sent now, and all of them again in as many seconds (t).",
            "\"default\";r=999;t=1"
        ),
        "ETag": text("What to send in If-Match, to change only what was read.", "\"EYcUd3Wg5Bd6Rk7wQ5xhhg\""),
        "Link": text(
            "Where the next page is, if there may be one (RFC 8288).",
            "</api/v1/users?after=1000>; rel=\"next\""
        ),
        "Location": text("The path of what was made.", "/api/v1/stakeholders/1"),
        "WWWAuthenticate": text("How to say who calls (RFC 6750).", "Bearer"),
        "RetryAfter": {
            "description": "When to try again, in seconds.",
            "schema": { "type": "integer", "minimum": 1 },
            "example": 1,
        },
        "IdempotencyReplayed": {
            "description": "There if this is the answer to the same request, sent before.",
            "schema": { "type": "string", "enum": ["true"] },
            "example": "true",
        },
    })
}

/// Whether an operation says that it may answer with a status.
pub(super) fn has(operation: &Value, status: &str) -> bool {
    operation["responses"].get(status).is_some()
}

/// Adds what the operation did not say itself. With `is_tagged`, what the path is about has an ETag.
pub(super) fn complete(of: &Operation<'_>, operation: &mut Value, is_tagged: bool) {
    let needs_token = !matches!(of.need, None | Some(Need::Public));
    let can_be_refused = needs_token && of.need != Some(Need::Other);
    let (has_body, has_parameters) =
        (operation.get("requestBody").is_some(), operation.get("parameters").is_some());
    let has_key = of.takes_idempotency_key();
    let asks_the_database = of.is_api() && !of.path.ends_with(".schema.json");
    for (_, status) in [
        (asks_the_database || has_body, "500"),
        (asks_the_database || has_body, "503"),
        (needs_token, "401"),
        (can_be_refused, "403"),
        (of.path.contains('{'), "404"),
        (of.is_api(), "429"),
        (has_body || has_parameters || has_key, "400"),
        (has_body || has_key, "413"),
        (has_body, "415"),
        (has_body || has_key, "422"),
        (has_key, "409"),
    ]
    .into_iter()
    .filter(|(applies, _)| *applies)
    {
        if !has(operation, status) {
            operation["responses"][status] = json!({ "description": "" });
        }
    }
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        complete_response(of, status, response, is_tagged);
    }
}

fn complete_response(of: &Operation<'_>, status: &str, response: &mut Value, is_tagged: bool) {
    if response["description"].as_str().unwrap_or_default().is_empty() {
        response["description"] = json!(meaning(status));
    }
    let is_error = status.starts_with('4') || status.starts_with('5');
    let is_empty = response["content"].as_object().is_none_or(serde_json::Map::is_empty);
    if is_error && is_empty {
        response["content"] = error(of, status);
    }
    let headers = response.get_mut("headers").and_then(Value::as_object_mut);
    for (name, header) in headers.into_iter().flatten() {
        let is_known = matches!(name.as_str(), "Location" | "ETag" | "Link");
        if is_known && header["description"].is_null() {
            *header = json!({ "$ref": format!("#/components/headers/{name}") });
        }
    }
    let has_key = of.takes_idempotency_key();
    let is_done = status.starts_with('2');
    let has_tag = is_tagged && is_done && matches!(of.method, Method::GET | Method::PUT);
    for (_, name, component) in [
        (of.is_api(), "RateLimit-Policy", "RateLimitPolicy"),
        (of.is_api(), "RateLimit", "RateLimit"),
        (
            matches!(status, "429" | "503") || (has_key && status == "409"),
            "Retry-After",
            "RetryAfter",
        ),
        (status == "401", "WWW-Authenticate", "WWWAuthenticate"),
        (has_key && is_done, "Idempotency-Replayed", "IdempotencyReplayed"),
        (has_tag && status != "204", "ETag", "ETag"),
    ]
    .into_iter()
    .filter(|(applies, ..)| *applies)
    {
        if response["headers"].get(name).is_none() {
            response["headers"][name] =
                json!({ "$ref": format!("#/components/headers/{component}") });
        }
    }
}

/// An error as it is written at this path.
fn error(of: &Operation<'_>, status: &str) -> Value {
    let errors = match status {
        "422" => json!({ "name": ["can't be blank"] }),
        _ => json!({ "detail": reason(status) }),
    };
    if of.is_of_a_guide() {
        let schema = json!({ "$ref": "#/components/schemas/Errors" });
        return json!({ "application/json": { "schema": schema, "example": { "errors": errors } } });
    }
    let kind = match status {
        "412" => Kind::Changed,
        "422" => Kind::Invalid,
        "429" => Kind::TooManyRequests,
        "503" => Kind::Unavailable,
        _ => Kind::Plain,
    };
    let example = problem::details(kind, code(status), &errors);
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    json!({ problem::CONTENT_TYPE: { "schema": schema, "example": example } })
}

fn code(status: &str) -> StatusCode {
    StatusCode::from_bytes(status.as_bytes()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn reason(status: &str) -> &'static str {
    code(status).canonical_reason().unwrap_or("Error")
}

/// What a status means in this API.
fn meaning(status: &str) -> &'static str {
    match status {
        "200" => "Done.",
        "201" => "Created.",
        "202" => "It will be done.",
        "204" => "Done; there is nothing to tell.",
        "400" => "The request can't be read.",
        "401" => "There is no token, or one that is not valid.",
        "403" => "Whoever calls may not do this, or the credentials are wrong.",
        "404" => "There is no such thing, or whoever calls may not know of it.",
        "409" => "Something else is in the way.",
        "412" => "It is not any more what If-Match says.",
        "413" => "The body is larger than the setting max_body_bytes.",
        "415" => "The body is not said to be JSON.",
        "422" => "The request is understood and not valid.",
        "429" => "Too many requests, or failed logins; Retry-After says when to try again.",
        "500" => "A fault of the server.",
        _ => "The database can't be had now; Retry-After says when to try again.",
    }
}
