//! JSON to [`Spec`]. Written by hand rather than derived, so that every mistake carries a pointer and
//! one bad field does not hide the next.

mod notifications;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::identifier::{Identifier, RelationName, parse_path};
use crate::notification::Notifications;
use crate::spec::{Field, FieldAlternative, Match, MatchAlternative, Problem, Spec, Target};

/// Beyond this many mistakes nobody reads on, and the answer must stay small.
const MAX_PROBLEMS: usize = 100;

/// Schemas whose tables must not be granted to anyone by a claim.
fn is_reserved(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema" || schema == "integratedb"
}

/// What a document is read as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Claims,
    Notifications,
}

pub(crate) fn spec(kind: Kind, document: &Value) -> Result<Spec, Vec<Problem>> {
    let mut reader = Reader {
        kind,
        pointer: String::from("#"),
        problems: Vec::new(),
        known_channels: BTreeSet::new(),
    };
    let spec = reader.document(document);
    if reader.problems.is_empty() { Ok(spec) } else { Err(reader.problems) }
}

/// Walks the document; `pointer` is where it stands.
struct Reader {
    kind: Kind,
    pointer: String,
    problems: Vec<Problem>,
    /// The names and types of the channels configured in the document.
    known_channels: BTreeSet<String>,
}

impl Reader {
    fn problem(&mut self, message: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { message: message.into(), pointer: self.pointer.clone() });
        }
    }

    /// Runs `read` one step deeper.
    fn at<T>(&mut self, key: impl std::fmt::Display, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.pointer.len();
        let key = key.to_string().replace('~', "~0").replace('/', "~1");
        self.pointer.push('/');
        self.pointer.push_str(&key);
        let result = read(self);
        self.pointer.truncate(length);
        result
    }

    fn object<'v>(&mut self, value: &'v Value, allowed: &[&str]) -> Option<&'v Map<String, Value>> {
        let Some(map) = value.as_object() else {
            self.problem(format!("Type mismatch. Expected Object but got {}.", kind(value)));
            return None;
        };
        for key in map.keys().filter(|key| !allowed.contains(&key.as_str())) {
            self.at(key, |r| r.problem("Schema does not allow additional properties."));
        }
        Some(map)
    }

    /// The first `plain` of the properties; with notifications all of them.
    fn known<'k>(&self, all: &'k [&'k str], plain: usize) -> &'k [&'k str] {
        if self.kind == Kind::Notifications { all } else { &all[..plain] }
    }

    fn document(&mut self, value: &Value) -> Spec {
        let nothing = Spec { matches: Vec::new(), notifications: None };
        // `type` is what a GET answers with, so that an answer can be PUT again.
        let known = self.known(&["match", "type", "channels"], 2);
        let Some(map) = self.object(value, known) else { return nothing };
        if self.kind == Kind::Claims {
            let matches = self.matches(map, Self::match_item);
            return Spec { matches, notifications: None };
        }
        let channels = self.configured_channels(map);
        let (matches, items) = self
            .matches(map, |r, item| {
                let wanted = r.match_item(item);
                let notification = item.as_object().and_then(|map| r.notification(map));
                Some((wanted?, notification?))
            })
            .into_iter()
            .unzip();
        Spec { matches, notifications: Some(Notifications { items, channels }) }
    }

    fn matches<T>(
        &mut self,
        map: &Map<String, Value>,
        mut read: impl FnMut(&mut Self, &Value) -> Option<T>,
    ) -> Vec<T> {
        match map.get("match") {
            None => {
                self.problem("Required property match was not present.");
                Vec::new()
            }
            Some(Value::Array(items)) => self.at("match", |r| r.items(items, read)),
            Some(single @ Value::Object(_)) => {
                self.at("match", |r| read(r, single)).into_iter().collect()
            }
            Some(other) => {
                let got = kind(other);
                self.at("match", |r| {
                    r.problem(format!("Type mismatch. Expected Array or Object but got {got}."));
                });
                Vec::new()
            }
        }
    }

    fn items<T>(
        &mut self,
        items: &[Value],
        mut read: impl FnMut(&mut Self, &Value) -> Option<T>,
    ) -> Vec<T> {
        let mut result = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            result.extend(self.at(index, |r| read(r, item)));
        }
        result
    }

    fn match_item(&mut self, value: &Value) -> Option<Match> {
        if value.get("alternatives").is_none() {
            let known = self.known(&["path", "fields", "optional", "events", "channels"], 3);
            let map = self.object(value, known)?;
            let optional = self.flag(map, "optional")?.unwrap_or(false);
            let alternative = self.match_alternative(map)?;
            return Some(Match { alternatives: vec![alternative], optional });
        }
        let known = self.known(&["alternatives", "optional", "events", "channels"], 2);
        let map = self.object(value, known)?;
        let optional = self.flag(map, "optional")?.unwrap_or(false);
        let items = self.non_empty(map, "alternatives")?;
        let several = items.len() > 1;
        let alternatives = self.at("alternatives", |r| {
            r.items(items, |r, item| {
                let map = r.object(item, &["path", "fields"])?;
                let alternative = r.match_alternative(map)?;
                if several && matches!(alternative.path, Target::AllTables(_)) {
                    r.at("path", |r| {
                        r.problem("A whole schema can't be one of several alternatives.")
                    });
                }
                Some(alternative)
            })
        });
        (alternatives.len() == items.len()).then_some(Match { alternatives, optional })
    }

    fn match_alternative(&mut self, map: &Map<String, Value>) -> Option<MatchAlternative> {
        let path = match map.get("path") {
            None => {
                self.problem("Required property path was not present.");
                None
            }
            Some(path) => self.at("path", |r| r.path(path)),
        };
        let fields = match map.get("fields") {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::Array(items)) => self.at("fields", |r| r.fields(items)),
            Some(other) => {
                let got = kind(other);
                self.at("fields", |r| {
                    r.problem(format!("Type mismatch. Expected Array but got {got}."));
                });
                None
            }
        };
        let (path, fields) = (path?, fields?);
        if matches!(path, Target::AllTables(_)) && !matches!(fields[..], [Field::All { .. }]) {
            self.at("fields", |r| {
                r.problem("A path of the form schema_name.* goes only with the fields [\"*\"].");
            });
            return None;
        }
        Some(MatchAlternative { path, fields })
    }

    fn path(&mut self, value: &Value) -> Option<Target> {
        let text = self.string(value)?;
        match parse_path(text) {
            Ok((schema, _)) if is_reserved(schema.as_str()) => {
                self.problem(format!("Tables of the schema {schema} can't be claimed."));
                None
            }
            Ok((schema, None)) => Some(Target::AllTables(schema)),
            Ok((schema, Some(table))) => Some(Target::Table(RelationName { schema, table })),
            Err(error) => {
                self.problem(format!("Not a path: {error}."));
                None
            }
        }
    }

    fn fields(&mut self, items: &[Value]) -> Option<Vec<Field>> {
        let fields = self.items(items, Self::field);
        let before = self.problems.len();
        let mut names = std::collections::BTreeSet::new();
        let mut star = false;
        for (index, field) in fields.iter().enumerate() {
            match field {
                Field::All { .. } if std::mem::replace(&mut star, true) => {
                    self.at(index, |r| r.problem("The field `*` is given twice."));
                }
                Field::All { .. } => {}
                Field::Named { alternatives, .. } => {
                    // Within one field a name may return with another shape; across fields it may not.
                    let own: std::collections::BTreeSet<_> =
                        alternatives.iter().map(|a| &a.name).collect();
                    for name in own {
                        if !names.insert(name) {
                            self.at(index, |r| {
                                r.problem(format!("The field `{name}` is given twice."))
                            });
                        }
                    }
                }
            }
        }
        (fields.len() == items.len() && self.problems.len() == before).then_some(fields)
    }

    fn field(&mut self, value: &Value) -> Option<Field> {
        if value.as_str() == Some("*") {
            return Some(Field::All { optional: false });
        }
        if value.get("alternatives").is_none() {
            if value.get("name").and_then(Value::as_str) == Some("*") {
                let map = self.object(value, &["name", "optional"])?;
                let optional = self.flag(map, "optional")?.unwrap_or(false);
                return Some(Field::All { optional });
            }
            let (alternative, optional) = self.field_alternative(value, true)?;
            return Some(Field::Named { alternatives: vec![alternative], optional });
        }
        let map = self.object(value, &["alternatives", "optional"])?;
        let optional = self.flag(map, "optional")?.unwrap_or(false);
        let items = self.non_empty(map, "alternatives")?;
        let alternatives = self.at("alternatives", |r| {
            r.items(items, |r, item| Some(r.field_alternative(item, false)?.0))
        });
        (alternatives.len() == items.len()).then_some(Field::Named { alternatives, optional })
    }

    fn field_alternative(&mut self, value: &Value, sole: bool) -> Option<(FieldAlternative, bool)> {
        let plain =
            |name| FieldAlternative { name, data_type: None, min_length: None, is_nullable: None };
        if let Some(text) = value.as_str() {
            return Some((plain(self.name(text)?), false));
        }
        let allowed: &[&str] = &["name", "type", "min_length", "is_nullable", "optional"];
        let map = self.object(value, if sole { allowed } else { &allowed[..4] })?;
        let Some(name) = map.get("name") else {
            self.problem("Required property name was not present.");
            return None;
        };
        let name = self.at("name", |r| {
            let text = r.string(name)?;
            r.name(text)
        });
        let data_type = match map.get("type") {
            None | Some(Value::Null) => Some(None),
            Some(value) => self.at("type", |r| r.data_type(value)).map(Some),
        };
        let min_length = match map.get("min_length") {
            None | Some(Value::Null) => Some(None),
            Some(value) => self.at("min_length", |r| r.length(value)).map(Some),
        };
        let is_nullable = self.flag(map, "is_nullable");
        let optional = self.flag(map, "optional").map(|flag| flag.unwrap_or(false));
        let mut alternative = plain(name?);
        alternative.data_type = data_type?;
        alternative.min_length = min_length?;
        alternative.is_nullable = is_nullable?;
        Some((alternative, optional?))
    }

    fn name(&mut self, text: &str) -> Option<Identifier> {
        match Identifier::parse(text) {
            Ok(name) => Some(name),
            Err(error) => {
                self.problem(format!("Not a column name: {error}."));
                None
            }
        }
    }

    fn data_type(&mut self, value: &Value) -> Option<String> {
        let text = self.string(value)?;
        if text.contains('(') && !text.contains('"') {
            self.problem("A type is given without its length; say the length as min_length.");
            return None;
        }
        if !(3..=128).contains(&text.chars().count()) || text.contains(char::is_control) {
            self.problem("A type's name has 3 to 128 printable characters.");
            return None;
        }
        Some(text.to_owned())
    }

    fn length(&mut self, value: &Value) -> Option<i32> {
        // i32::MAX means "no limit" in stored claims, so it can't be asked for.
        match value.as_i64() {
            Some(n) if (0..i64::from(i32::MAX)).contains(&n) => i32::try_from(n).ok(),
            _ => {
                self.problem("Expected the value to be a whole number from 0 to 2147483646.");
                None
            }
        }
    }

    /// A boolean, also as the strings "true" and "false". `None` after a problem.
    fn flag(&mut self, map: &Map<String, Value>, key: &str) -> Option<Option<bool>> {
        match map.get(key) {
            None | Some(Value::Null) => Some(None),
            Some(Value::Bool(flag)) => Some(Some(*flag)),
            Some(Value::String(text)) if text == "true" => Some(Some(true)),
            Some(Value::String(text)) if text == "false" => Some(Some(false)),
            Some(other) => {
                let got = kind(other);
                self.at(key, |r| {
                    r.problem(format!("Type mismatch. Expected Boolean but got {got}."));
                });
                None
            }
        }
    }

    fn non_empty<'v>(&mut self, map: &'v Map<String, Value>, key: &str) -> Option<&'v [Value]> {
        match map.get(key) {
            Some(Value::Array(items)) if !items.is_empty() => Some(items),
            Some(Value::Array(_)) => {
                self.at(key, |r| r.problem("Expected a minimum of 1 items but got 0."));
                None
            }
            other => {
                let got = kind(other.unwrap_or(&Value::Null));
                self.at(key, |r| {
                    r.problem(format!("Type mismatch. Expected Array but got {got}."));
                });
                None
            }
        }
    }

    fn string<'v>(&mut self, value: &'v Value) -> Option<&'v str> {
        let text = value.as_str();
        if text.is_none() {
            self.problem(format!("Type mismatch. Expected String but got {}.", kind(value)));
        }
        text
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "Null",
        Value::Bool(_) => "Boolean",
        Value::Number(n) if n.is_f64() => "Number",
        Value::Number(_) => "Integer",
        Value::String(_) => "String",
        Value::Array(_) => "Array",
        Value::Object(_) => "Object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(document: Value) -> Vec<String> {
        spec(Kind::Claims, &document)
            .expect_err("has mistakes")
            .into_iter()
            .map(|p| p.pointer)
            .collect()
    }

    #[test]
    fn every_mistake_has_its_pointer() {
        let document = json!({"name": 1, "match": [
            {"path": "public.foos", "fields": [{"name": "id", "type": 1}, {"nome": "x"}]},
            {"path": "public.*", "fields": ["id"]},
            {"path": "pg_catalog.pg_authid", "fields": ["*"]},
            {"fields": ["id", "id"]},
        ]});
        assert_eq!(
            pointers(document),
            [
                "#/name",
                "#/match/0/fields/0/type",
                "#/match/0/fields/1/nome",
                "#/match/0/fields/1",
                "#/match/1/fields",
                "#/match/2/path",
                "#/match/3",
                "#/match/3/fields/1",
            ]
        );
    }

    #[test]
    fn the_strings_true_and_false_are_booleans() {
        let document =
            json!({"match": {"path": "a.b", "fields": [{"name": "c", "is_nullable": "false"}]}});
        let spec = spec(Kind::Claims, &document).expect("valid");
        let Field::Named { alternatives, .. } = &spec.matches[0].alternatives[0].fields[0] else {
            panic!("a named field");
        };
        assert_eq!(alternatives[0].is_nullable, Some(false));
    }

    #[test]
    fn a_document_of_mistakes_gives_a_short_answer() {
        let document = json!({"match": vec![json!(1); 5000]});
        assert_eq!(pointers(document).len(), MAX_PROBLEMS);
    }
}
