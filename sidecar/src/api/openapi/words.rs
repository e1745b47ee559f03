//! What operations are called, and what is said of them.

use axum::http::Method;
use serde_json::{Value, json};

use super::Operation;

/// What operations with a tag are about.
pub(super) fn of_tag(tag: &str) -> &'static str {
    match tag {
        "users" => "Who may log in.",
        "auth" => "Logging in and out.",
        "workspaces" => "Who shares caches and applications, and in which role.",
        "audit" => "Who changed what.",
        "oauth" => "Applications of third parties, and what users let them do.",
        "stakeholders" => "The applications that use the database.",
        "claims" => "What stakeholders need of the database.",
        "notifications" => "Which changes stakeholders are told, and how.",
        "caches" => "The caches of the proxy, their queries and their rules.",
        "sync" => "Models that are kept in step with other systems, with what Zync's clients call.",
        "operations" => "Health and metrics.",
        _ => "",
    }
}

/// Gives an operation an id, and a summary that is one sentence. A doc comment comes with its first line as the summary and
/// the rest as the description, wherever its sentences end.
pub(super) fn complete(of: &Operation<'_>, operation: &mut Value) {
    operation["operationId"] = json!(id(&of.method, of.path));
    let part = |name| operation[name].as_str().unwrap_or_default().trim();
    let text = format!("{} {}", part("summary"), part("description")).trim().replace('\n', " ");
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    operation["summary"] = json!(text[..end].trim_end_matches('.'));
    operation["description"] = json!(text);
}

/// Unique, and the same as long as the path is: `get_users_id`.
fn id(method: &Method, path: &str) -> String {
    let path = path.trim_start_matches("/api/v1");
    let words = path.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty()).map(str::to_owned);
    let all: Vec<String> = std::iter::once(method.as_str().to_lowercase()).chain(words).collect();
    all.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_a_sentence() {
        let of = Operation { method: Method::GET, path: "/api/v1/users/{id}/tokens", need: None };
        let mut operation = json!({"summary": "Shows it, and", "description": "more. Or not."});
        complete(&of, &mut operation);
        assert_eq!(
            operation,
            json!({"operationId": "get_users_id_tokens", "summary": "Shows it, and more",
                "description": "Shows it, and more. Or not."})
        );
    }
}
