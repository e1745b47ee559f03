//! What a class is, and the set of those that a tenant has.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::template::Template;
use crate::sync::work::{Fetch, Named};

/// Bytes of a text in a notification. Keys are in an index, which has room for four of them.
pub(super) const LONGEST_TEXT: usize = 255;

/// A class of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// What a notification calls it.
    pub(super) name: String,
    /// All that a notification says of a model.
    pub(super) fields: Vec<Field>,
    /// The fields that tell its models apart.
    pub(super) key: Vec<String>,
    /// What its models are below of.
    pub(super) parent: Option<Parent>,
    /// What to ask for. None: what notifications say is all there is.
    pub(in crate::sync::source) request: Option<Request>,
    /// What an entry means besides.
    pub(in crate::sync::source) leads_to: LeadsTo,
}

/// A field of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) is_required: bool,
}

/// What a field may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number, or its digits.
    Number,
    /// A text, or a whole number.
    Text,
}

impl Kind {
    /// The value as a text, always the same for the same; or what is wrong with it.
    pub(super) fn read(self, value: &Value) -> Result<String, &'static str> {
        match (self, value) {
            (Self::Number, Value::Number(number)) => number
                .as_i64()
                .filter(|number| *number >= 0)
                .map(|number| number.to_string())
                .ok_or("has to be a whole number, from 0 to 9223372036854775807"),
            (Self::Number, Value::String(text)) => {
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                let number = text.parse::<i64>().ok().filter(|_| digits);
                number.map(|number| number.to_string()).ok_or("has to be a whole number")
            }
            (Self::Number, _) => Err("has to be a whole number"),
            (Self::Text, Value::Number(number)) if !number.is_f64() => Ok(number.to_string()),
            (Self::Text, Value::String(text)) if text.is_empty() => Err("is empty"),
            (Self::Text, Value::String(text)) if text.len() > LONGEST_TEXT => {
                Err("has more than 255 bytes")
            }
            (Self::Text, Value::String(text)) if text.contains(char::is_control) => {
                Err("has control characters")
            }
            (Self::Text, Value::String(text)) => Ok(text.clone()),
            (Self::Text, _) => Err("has to be a text or a whole number"),
        }
    }

    /// The value as JSON, from its text.
    pub(super) fn write(self, text: &str) -> Value {
        match self {
            Self::Number => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
            Self::Text => Value::from(text),
        }
    }
}

/// What a model is below of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    /// Its class.
    pub(super) class: String,
    /// The fields that are its key.
    pub(super) key: Vec<String>,
}

/// What an API is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sync::source) struct Request {
    pub(in crate::sync::source) path: Template,
    pub(in crate::sync::source) query: Vec<(String, Template)>,
    /// The member of the answer that is the model, where there is one around it.
    pub(in crate::sync::source) member: Option<String>,
}

/// What an entry of a class means besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync::source) enum LeadsTo {
    /// Nothing.
    Nothing,
    /// Its client is to be fetched.
    Client,
    /// It says where the models below its parent go.
    Integration,
}

impl Class {
    /// What notifications call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A model of this class by the values of fields; none if some that are in its key are missing.
    pub(super) fn named(&self, values: &BTreeMap<&str, String>) -> Option<Named> {
        Some(Named { class: self.name.clone(), key: join(&self.key, values)? })
    }

    /// Its parent, likewise.
    pub(super) fn parent(&self, values: &BTreeMap<&str, String>) -> Option<Named> {
        let parent = self.parent.as_ref()?;
        Some(Named { class: parent.class.clone(), key: join(&parent.key, values)? })
    }

    /// Whether a field is neither part of the key nor of the parent's.
    pub(super) fn is_other(&self, field: &str) -> bool {
        let in_parent =
            self.parent.as_ref().is_some_and(|parent| parent.key.iter().any(|n| n == field));
        !in_parent && !self.key.iter().any(|name| name == field)
    }

    /// The values of fields as they are known when a model is fetched.
    pub(in crate::sync::source) fn values(&self, fetch: &Fetch) -> BTreeMap<&str, String> {
        let mut values = BTreeMap::new();
        if let (Some(parent), Some(named)) = (&self.parent, &fetch.parent) {
            values.extend(split(&parent.key, &named.key));
        }
        // The key is the model itself, so it counts more than what is known of its parent.
        values.extend(split(&self.key, &fetch.model.key));
        for field in self.fields.iter().filter(|field| self.is_other(&field.name)) {
            if let Some(Ok(text)) = fetch.data.get(&field.name).map(|value| field.kind.read(value))
            {
                values.insert(&field.name, text);
            }
        }
        values
    }

    /// The data of a model that no API is asked for: what was said of it.
    pub(in crate::sync::source) fn said(&self, fetch: &Fetch) -> Map<String, Value> {
        let values = self.values(fetch);
        let known = |field: &Field| {
            let text = values.get(field.name.as_str())?;
            Some((field.name.clone(), field.kind.write(text)))
        };
        self.fields.iter().filter_map(known).collect()
    }
}

/// A key: one text is itself, several are a JSON array.
fn join(fields: &[String], values: &BTreeMap<&str, String>) -> Option<String> {
    let texts: Vec<&String> =
        fields.iter().map(|field| values.get(field.as_str())).collect::<Option<_>>()?;
    match texts.as_slice() {
        [text] => Some((*text).clone()),
        texts => Some(serde_json::to_string(texts).expect("texts are JSON")),
    }
}

/// The other way round; nothing if the key is of another form.
fn split<'a>(fields: &'a [String], key: &str) -> Vec<(&'a str, String)> {
    let texts = match fields {
        [_] => vec![key.to_owned()],
        _ => serde_json::from_str::<Vec<String>>(key).unwrap_or_default(),
    };
    let fits = texts.len() == fields.len();
    fields.iter().map(String::as_str).zip(texts).filter(|_| fits).collect()
}

/// The classes that a tenant's models may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes(BTreeMap<String, Class>);

impl Classes {
    /// These; of two with one name the later.
    pub(super) fn of(classes: impl IntoIterator<Item = Class>) -> Self {
        Self(classes.into_iter().map(|class| (class.name.clone(), class)).collect())
    }

    /// Those of Zync, and a tenant's own beside them; a name of Zync's may be used for something else.
    pub fn with(own: impl IntoIterator<Item = Class>) -> Self {
        Self::of(super::zync::classes().0.values().cloned().chain(own))
    }

    /// One by its name.
    pub fn get(&self, name: &str) -> Option<&Class> {
        self.0.get(name)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_has_one_text_however_it_is_written() {
        let number = |value| Kind::Number.read(&value);
        assert_eq!((number(json!(7)), number(json!("007"))), (Ok("7".into()), Ok("7".into())));
        for wrong in [
            json!(-1),
            json!(1.5),
            json!(u64::MAX),
            json!("+7"),
            json!(""),
            json!(" 7"),
            json!(null),
        ] {
            assert!(number(wrong.clone()).is_err(), "{wrong}");
        }
        let text = |value| Kind::Text.read(&value);
        assert_eq!((text(json!(7)), text(json!("a/b"))), (Ok("7".into()), Ok("a/b".into())));
        for wrong in
            [json!(1.5), json!(""), json!("a\0b"), json!("x".repeat(256)), json!([]), json!(true)]
        {
            assert!(text(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_of_several_fields_comes_back_as_they_were() {
        let fields = ["a".to_owned(), "b".to_owned()];
        let values = BTreeMap::from([("a", "x\",\"y".to_owned()), ("b", "5".to_owned())]);
        let key = join(&fields, &values).expect("both are there");
        assert_eq!(split(&fields, &key).into_iter().collect::<BTreeMap<_, _>>(), values);
        assert!(split(&fields, "no array").is_empty() && split(&fields, "[\"1\"]").is_empty());
        assert_eq!(join(&fields[1..], &values).as_deref(), Some("5"));
        assert_eq!(join(&fields, &BTreeMap::new()), None);
    }
}
