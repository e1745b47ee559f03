//! A class as a tenant defines it, in JSON:
//!
//! ```json
//! {
//!   "key": "id",
//!   "parent": {"class": "project", "field": "project_id"},
//!   "fields": [],
//!   "path": "/api/projects/{project_id}/issues/{id}",
//!   "query": {"with": "labels"},
//!   "member": "issue"
//! }
//! ```

use serde_json::Value;

use super::class::{Class, Field, Kind, LONGEST_TEXT, LeadsTo, Parent, Request};
use super::template::Template;
use crate::fields::{Fields, Mistake};

/// Fields that one key has at most.
const KEY: usize = 4;

/// Other fields that a class has at most.
const OTHERS: usize = 32;

/// What a notification says of any model.
const TAKEN: [&str; 2] = ["type", "tenant_id"];

/// A class by its definition. The errors are messages, each with a JSON pointer to what it is about in the definition.
pub fn define(name: &str, definition: &Value) -> Result<Class, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut fields = Fields::of(definition, "", &mut mistakes);
    if let Some(what) = wrong_name(name) {
        fields.wrong_here(format!("the name of the class {what}"));
    }
    let key = key(&mut fields, "key");
    let parent = fields.take("parent").map(|value| {
        let mut parent = Fields::of(&value, "/parent", fields.mistakes);
        let class = parent.needed_text("class").unwrap_or_default();
        if class == name {
            parent.wrong("class", "a model can't be below one of its own class");
        } else if let Some(what) = wrong_name(&class).filter(|_| !class.is_empty()) {
            parent.wrong("class", format!("the name of a class {what}"));
        }
        let key = self::key(&mut parent, "field");
        parent.end();
        Parent { class, key }
    });
    let others = names(&mut fields, "fields", OTHERS);
    let mut known: Vec<String> = key.clone();
    for field in parent.iter().flat_map(|parent| &parent.key).chain(&others) {
        if !known.contains(field) {
            known.push(field.clone());
        }
    }
    let request = request(&mut fields, &known);
    fields.end();
    let text = |name| Field { name, kind: Kind::Text, is_required: true };
    let class = Class {
        name: name.to_owned(),
        fields: known.into_iter().map(text).collect(),
        key,
        parent,
        request,
        leads_to: LeadsTo::Nothing,
    };
    if mistakes.is_empty() { Ok(class) } else { Err(mistakes) }
}

fn wrong_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("is empty"),
        name if name.len() > LONGEST_TEXT => Some("has more than 255 bytes"),
        name if name.contains(char::is_control) => Some("has control characters"),
        _ => None,
    }
}

/// The names of fields that are a key. There has to be one at least.
fn key(fields: &mut Fields<'_>, member: &str) -> Vec<String> {
    let before = fields.mistakes.len();
    let names = names(fields, member, KEY);
    if names.is_empty() && fields.mistakes.len() == before {
        fields.wrong_here(format!("{member} is missing: the name of a field, or a list of names"));
    }
    names
}

/// The name of a field, or a list of names.
fn names(fields: &mut Fields<'_>, member: &str, most: usize) -> Vec<String> {
    let listed = match fields.take(member) {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    if listed.len() > most {
        fields.wrong(member, format!("there may be {most} at most"));
    }
    let mut names = Vec::new();
    for value in listed {
        match value {
            Value::String(name) if TAKEN.contains(&name.as_str()) => {
                fields.wrong(member, format!("{name} has its own meaning in notifications"));
            }
            Value::String(name) if names.contains(&name) => {
                fields.wrong(member, format!("{name} is there twice"));
            }
            Value::String(name) => match wrong_name(&name) {
                Some(what) => fields.wrong(member, format!("the name of a field {what}")),
                None => names.push(name),
            },
            _ => fields.wrong(member, "this has to be the name of a field, or a list of names"),
        }
    }
    names
}

fn request(fields: &mut Fields<'_>, known: &[String]) -> Option<Request> {
    let path = fields.text("path");
    let query: Vec<(String, Value)> =
        fields.object("query", |mut query| query.rest().into_iter().collect());
    let member = fields.text("member");
    let Some(path) = path else {
        // A path that is there and wrong is a mistake already.
        for name in ["query", "member"] {
            let is_there = if name == "query" { !query.is_empty() } else { member.is_some() };
            if is_there && fields.mistakes.is_empty() {
                fields.wrong(name, format!("{name} is of no use without a path"));
            }
        }
        return None;
    };
    if member.as_deref() == Some("") {
        fields.wrong("member", "this is empty: without a member the whole answer is the model");
    }
    let read = match Template::parse_path(&path) {
        Ok(template) => Some(known_only(fields, "path", template, known)),
        Err(message) => {
            fields.wrong("path", message);
            None
        }
    };
    let mut pairs = Vec::new();
    for (name, value) in query {
        let pointer = format!("query/{}", name.replace('~', "~0").replace('/', "~1"));
        match value.as_str().map(Template::parse) {
            Some(Ok(template)) => {
                pairs.push((name, known_only(fields, &pointer, template, known)));
            }
            Some(Err(message)) => fields.wrong_at(&pointer, message),
            None => fields.wrong_at(&pointer, "this has to be a string"),
        }
    }
    Some(Request { path: read?, query: pairs, member })
}

/// Notes what a template takes that no notification says.
fn known_only(
    fields: &mut Fields<'_>,
    pointer: &str,
    template: Template,
    known: &[String],
) -> Template {
    for field in template.fields().filter(|field| known.iter().all(|name| name != field)) {
        fields.wrong_at(
            pointer,
            format!("{field} is neither in the key nor the parent's field: list it in `fields`"),
        );
    }
    template
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::class::Classes;
    use super::*;
    use crate::sync::ids::TenantId;

    fn pointers(definition: &Value) -> Vec<String> {
        let mistakes = define("issue", definition).expect_err("it is wrong");
        mistakes.into_iter().map(|(_, pointer)| pointer).collect()
    }

    #[test]
    fn a_class_of_ones_own_is_as_good_as_zyncs() {
        let issue = define(
            "issue",
            &json!({
                "key": ["project_id", "iid"],
                "parent": {"class": "project", "field": "project_id"},
                "fields": ["language"],
                "path": "/api/projects/{project_id}/issues/{iid}",
                "query": {"lang": "{language}", "all": "1"},
                "member": "issue"
            }),
        )
        .expect("it is right");
        let classes = Classes::with([issue]);
        assert!(classes.get("Application").is_some());
        let body = json!({"type": "issue", "project_id": 5, "iid": "a", "language": "en"});
        let read = classes.read(TenantId(1), body.as_object().expect("an object"));
        let read = read.expect("it is right");
        assert_eq!(read.model.key, r#"["5","a"]"#);
        assert_eq!(read.parent.expect("it has one").key, "5");
        assert_eq!(read.data.map(Value::Object), Some(json!({"language": "en"})));
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        assert_eq!(pointers(&json!([])), ["", ""]);
        assert_eq!(pointers(&json!({})), [""]);
        assert_eq!(pointers(&json!({"key": 5})), ["/key"]);
        assert_eq!(pointers(&json!({"key": ["a", "a"]})), ["/key"]);
        assert_eq!(pointers(&json!({"key": "type"})), ["/key"]);
        assert_eq!(pointers(&json!({"key": ["a", "b", "c", "d", "e"]})), ["/key"]);
        assert_eq!(pointers(&json!({"key": "id", "paht": "/"})), ["/paht"]);
        assert_eq!(pointers(&json!({"key": "id", "path": "http://other/"})), ["/path"]);
        assert_eq!(pointers(&json!({"key": "id", "path": 5})), ["/path"]);
        assert_eq!(pointers(&json!({"key": "id", "path": "/{other}"})), ["/path"]);
        assert_eq!(pointers(&json!({"key": "id", "member": "x"})), ["/member"]);
        let query = json!({"key": "id", "path": "/", "query": {"a/b": 1, "c": "{", "d": "{id}"}});
        assert_eq!(pointers(&query), ["/query/a~1b", "/query/c"]);
        let parent = json!({"key": "id", "parent": {"class": "issue"}});
        assert_eq!(pointers(&parent), ["/parent/class", "/parent"]);
        assert_eq!(pointers(&json!({"key": "id", "parent": "project"}))[0], "/parent");
        assert!(define("", &json!({"key": "id"})).is_err());
    }
}
