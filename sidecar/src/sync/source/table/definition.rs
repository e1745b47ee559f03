//! What a stakeholder says of a table whose rows are models.

use integratedb_claims::{Identifier, RelationName, parse_path};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A class whose models are rows of a table, as it is kept: with nothing left to be guessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableClass {
    /// The table.
    #[serde(with = "path")]
    pub table: RelationName,
    /// The columns whose values tell its rows apart.
    #[serde(with = "names")]
    pub key: Vec<String>,
    /// The columns that are fetched.
    #[serde(with = "names")]
    pub columns: Vec<String>,
    /// Of which model a row is a part.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<Parent>,
}

/// Where a row says which its parent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The parent's class, of the same stakeholder.
    pub class: String,
    /// The columns that hold the parent's key.
    #[serde(with = "names")]
    pub columns: Vec<String>,
}

/// What is wrong, and where: a JSON pointer.
pub(super) type Problem = (String, String);

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) table: RelationName,
    pub(super) key: Option<Vec<String>>,
    pub(super) columns: Option<Vec<String>>,
    pub(super) parent: Option<Parent>,
}

impl Asked {
    /// Reads a definition; the error is everything that is wrong with its form.
    pub(super) fn read(definition: &Value) -> Result<Self, Vec<Problem>> {
        let Some(fields) = definition.as_object() else {
            let what = "A definition is an object, such as {\"table\": \"public.orders\"}.";
            return Err(vec![(what.to_owned(), String::new())]);
        };
        let mut wrong = unknown(fields, &["table", "key", "columns", "parent"], "");
        let table = match fields.get("table").and_then(Value::as_str) {
            None => Err("Name the table with its schema, such as public.orders.".to_owned()),
            Some(path) => table(path),
        };
        let table = table.map_err(|what| wrong.push((what, "/table".to_owned()))).ok();
        let mut names = |name: &str| {
            let found = fields.get(name)?;
            columns(found, &format!("/{name}")).map_err(|problem| wrong.push(problem)).ok()
        };
        let (key, columns) = (names("key"), names("columns"));
        let parent = fields.get("parent").filter(|parent| !parent.is_null());
        let parent = parent.and_then(|parent| read_parent(parent, &mut wrong));
        match table {
            Some(table) if wrong.is_empty() => Ok(Self { table, key, columns, parent }),
            _ => Err(wrong),
        }
    }
}

fn table(path: &str) -> Result<RelationName, String> {
    match parse_path(path) {
        Ok((schema, Some(table))) => Ok(RelationName { schema, table }),
        Ok((_, None)) => Err("A class is of one table: name it in place of the *.".to_owned()),
        Err(error) => Err(format!("The table can't be read: {error}.")),
    }
}

fn unknown(fields: &Map<String, Value>, known: &[&str], at: &str) -> Vec<Problem> {
    let unknown = fields.keys().filter(|name| !known.contains(&name.as_str()));
    let what = format!("There is no such property; there are {}.", known.join(", "));
    unknown.map(|name| (what.clone(), format!("{at}/{}", escape(name)))).collect()
}

/// A part of a JSON pointer (RFC 6901, 3).
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn columns(names: &Value, at: &str) -> Result<Vec<String>, Problem> {
    let names: Option<Vec<&str>> =
        names.as_array().and_then(|names| names.iter().map(Value::as_str).collect());
    let names = names.filter(|names| !names.is_empty());
    let what = "Name at least one column, each as text.";
    let names = names.ok_or_else(|| (what.to_owned(), at.to_owned()))?;
    let mut read: Vec<String> = Vec::new();
    for (place, name) in names.into_iter().enumerate() {
        let at = format!("{at}/{place}");
        let name = match Identifier::parse(name) {
            Ok(name) => name.as_str().to_owned(),
            Err(error) => return Err((format!("The column can't be read: {error}."), at)),
        };
        if read.contains(&name) {
            return Err(("The column is named twice.".to_owned(), at));
        }
        read.push(name);
    }
    Ok(read)
}

fn read_parent(parent: &Value, wrong: &mut Vec<Problem>) -> Option<Parent> {
    let Some(fields) = parent.as_object() else {
        let what = "A parent is an object, such as {\"class\": \"customer\", \"columns\": [\"customer_id\"]}.";
        wrong.push((what.to_owned(), "/parent".to_owned()));
        return None;
    };
    wrong.extend(unknown(fields, &["class", "columns"], "/parent"));
    let class = fields.get("class").and_then(Value::as_str);
    if class.is_none() {
        let what = "Name the class of the parent, which has to be declared before.";
        wrong.push((what.to_owned(), "/parent/class".to_owned()));
    }
    let names = fields.get("columns").unwrap_or(&Value::Null);
    let columns = columns(names, "/parent/columns").map_err(|problem| wrong.push(problem)).ok();
    Some(Parent { class: class?.to_owned(), columns: columns? })
}

/// A table as specs name it.
mod path {
    use integratedb_claims::{RelationName, parse_path};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(table: &RelationName, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(table)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<RelationName, D::Error> {
        match parse_path(&String::deserialize(d)?).map_err(serde::de::Error::custom)? {
            (schema, Some(table)) => Ok(RelationName { schema, table }),
            (_, None) => Err(serde::de::Error::custom("a table was expected")),
        }
    }
}

/// Columns as specs name them.
mod names {
    use integratedb_claims::Identifier;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(names: &[String], s: S) -> Result<S::Ok, S::Error> {
        let written = |name: &String| match Identifier::new(name.as_str()) {
            Ok(name) => name.to_string(),
            Err(_) => name.clone(),
        };
        s.collect_seq(names.iter().map(written))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
        let read = |name: &String| Identifier::parse(name).map(|name| name.as_str().to_owned());
        let names: Result<_, _> = Vec::deserialize(d)?.iter().map(read).collect();
        names.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(definition: Value) -> Vec<String> {
        let read = Asked::read(&definition);
        read.err().unwrap_or_default().into_iter().map(|(_, pointer)| pointer).collect()
    }

    #[test]
    fn a_definition_is_read_and_what_is_wrong_is_told_where_it_is() {
        let parent = json!({"class": "customer", "columns": ["customer_id"]});
        let whole = json!({"table": "public.\"My orders\"", "key": ["id"], "columns": ["id", "\"a b\""], "parent": parent});
        let asked = Asked::read(&whole).expect("it is right");
        assert_eq!(asked.table.table.as_str(), "My orders");
        assert_eq!(asked.columns.as_deref(), Some(&["id".to_owned(), "a b".to_owned()][..]));
        assert_eq!(asked.parent.map(|parent| parent.class).as_deref(), Some("customer"));
        assert_eq!(problems(json!([])), [""]);
        assert_eq!(problems(json!({"key": [], "no/such": 1})), ["/no~1such", "/table", "/key"]);
        assert_eq!(
            problems(json!({"table": "orders", "columns": ["a", "a"]})),
            ["/table", "/columns/1"]
        );
        assert_eq!(problems(json!({"table": "public.*"})), ["/table"]);
        let wrong = json!({"table": "public.orders", "parent": {"columns": ["x y"]}});
        assert_eq!(problems(wrong), ["/parent/class", "/parent/columns/0"]);
    }

    #[test]
    fn a_class_is_kept_as_specs_would_name_it() {
        let stored =
            json!({"table": "public.\"My orders\"", "key": ["id"], "columns": ["id", "\"a b\""]});
        let class: TableClass = serde_json::from_value(stored.clone()).expect("it was stored so");
        assert_eq!(class.columns, ["id", "a b"]);
        assert_eq!(class.table.table.as_str(), "My orders");
        assert_eq!(serde_json::to_value(class).expect("it can be written"), stored);
    }
}
