//! The JSON Schema of specs: served, and the first stage of their validation.

use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use integratedb_claims::{NOTIFICATIONS_SCHEMA, SPEC_SCHEMA};
use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

/// Beyond this many mistakes nobody reads on.
const MAX_MISTAKES: usize = 100;

/// A message and a JSON pointer in fragment form, relative to the document.
pub(super) type Mistake = (String, String);

/// The compiled schema.
#[derive(Clone)]
pub(super) struct SpecSchema(Arc<Validator>);

impl SpecSchema {
    /// Of claims.
    pub(super) fn claims() -> Self {
        Self::new(SPEC_SCHEMA)
    }

    /// Of notifications.
    pub(super) fn notifications() -> Self {
        Self::new(NOTIFICATIONS_SCHEMA)
    }

    fn new(schema: &str) -> Self {
        let schema = serde_json::from_str(schema).expect("the shipped schema is JSON");
        let validator = jsonschema::validator_for(&schema).expect("the shipped schema is a schema");
        Self(Arc::new(validator))
    }

    /// What is wrong with a document, at most 100 mistakes.
    pub(super) fn mistakes(&self, document: &Value) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        for error in self.0.iter_errors(document) {
            let pointer = format!("#{}", error.instance_path());
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected } => {
                    mistakes.extend(unexpected.iter().map(|name| {
                        let name = name.replace('~', "~0").replace('/', "~1");
                        let message = "Schema does not allow additional properties.".to_owned();
                        (message, format!("{pointer}/{name}"))
                    }));
                }
                kind => mistakes.push((message(kind, error.instance()), pointer)),
            }
            if mistakes.len() >= MAX_MISTAKES {
                break;
            }
        }
        mistakes.truncate(MAX_MISTAKES);
        mistakes
    }
}

/// The wording that clients of the first IntegrateDB know.
fn message(kind: &ValidationErrorKind, instance: &Value) -> String {
    match kind {
        ValidationErrorKind::Required { property } => {
            format!("Required property {} was not present.", property.as_str().unwrap_or("?"))
        }
        ValidationErrorKind::Type { kind } => {
            let expected = match kind {
                TypeKind::Single(one) => capital(&one.to_string()),
                TypeKind::Multiple(all) => {
                    let mut all: Vec<_> = all.iter().map(|one| capital(&one.to_string())).collect();
                    all.sort();
                    all.join(", ")
                }
            };
            format!("Type mismatch. Expected {expected} but got {}.", name_of(instance))
        }
        ValidationErrorKind::UniqueItems => {
            "Expected items to be unique but they were not.".to_owned()
        }
        ValidationErrorKind::MinLength { limit } => format!(
            "Expected value to have a minimum length of {limit} but was {}.",
            instance.as_str().map_or(0, |text| text.chars().count()),
        ),
        ValidationErrorKind::MaxLength { limit } => format!(
            "Expected value to have a maximum length of {limit} but was {}.",
            instance.as_str().map_or(0, |text| text.chars().count()),
        ),
        ValidationErrorKind::MinItems { limit } => format!(
            "Expected a minimum of {limit} items but got {}.",
            instance.as_array().map_or(0, Vec::len),
        ),
        ValidationErrorKind::Minimum { limit } => format!("Expected the value to be >= {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("Expected the value to be <= {limit}"),
        ValidationErrorKind::Pattern { pattern } => {
            format!("Does not match pattern \"{pattern}\".")
        }
        ValidationErrorKind::Enum { .. } => "Value is not allowed in enum.".to_owned(),
        _ => "The value is not valid here.".to_owned(),
    }
}

fn capital(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "Null",
        Value::Bool(_) => "Boolean",
        Value::Number(number) if number.is_f64() => "Number",
        Value::Number(_) => "Integer",
        Value::String(_) => "String",
        Value::Array(_) => "Array",
        Value::Object(_) => "Object",
    }
}

/// The JSON Schema of a spec document.
#[utoipa::path(get, path = "/api/v1/spec.schema.json", tag = "claims",
    responses((status = 200, body = Object, content_type = "application/schema+json")))]
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], SPEC_SCHEMA).into_response()
}

/// The JSON Schema of a document of notifications.
#[utoipa::path(get, path = "/api/v1/notifications.schema.json", tag = "notifications",
    responses((status = 200, body = Object, content_type = "application/schema+json")))]
pub(super) async fn notifications() -> Response {
    ([(header::CONTENT_TYPE, "application/schema+json")], NOTIFICATIONS_SCHEMA).into_response()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mistakes(document: Value) -> Vec<(String, String)> {
        SpecSchema::claims().mistakes(&document)
    }

    #[test]
    fn the_guides_example_is_answered_as_the_guide_says() {
        assert_eq!(
            mistakes(json!({"name": "x"})),
            [
                ("Schema does not allow additional properties.".into(), "#/name".into()),
                ("Required property match was not present.".into(), "#".into()),
            ]
        );
    }

    #[test]
    fn a_mistake_deep_inside_is_told_where_it_is() {
        let document = json!({"match": [{"path": "a.b", "fields": [
            {"name": "x", "min_length": "no", "is_nullable": "false"}, {"alternatives": []}, 7]}]});
        assert_eq!(
            mistakes(document),
            [
                (
                    "Type mismatch. Expected Integer, Null but got String.".to_owned(),
                    "#/match/0/fields/0/min_length".to_owned()
                ),
                (
                    "Expected a minimum of 1 items but got 0.".to_owned(),
                    "#/match/0/fields/1/alternatives".to_owned()
                ),
                (
                    "Type mismatch. Expected Object, String but got Integer.".to_owned(),
                    "#/match/0/fields/2".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn one_match_object_is_as_good_as_a_list() {
        assert_eq!(mistakes(json!({"match": {"path": "a.b", "fields": ["*"]}})), []);
        assert_eq!(mistakes(json!({"match": {"alternatives": [{"path": "a.b"}]}})), []);
    }

    #[test]
    fn a_document_of_mistakes_gives_a_short_answer() {
        assert_eq!(mistakes(json!({"match": (0..5000).collect::<Vec<_>>()})).len(), MAX_MISTAKES);
    }
}
