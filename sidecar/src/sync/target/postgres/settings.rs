//! The settings of a Postgres target.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::Checked;
use super::connections::Address;
use crate::fields::{Fields, Mistake};
use crate::secret::Secret;

/// Where rows go.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) url: Secret<String>,
    pub(super) connections: usize,
    /// By class.
    pub(super) tables: BTreeMap<String, Table>,
}

/// The table of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Its name, with its schema if that was given.
    pub(super) name: Vec<String>,
    /// Columns, and the members of the data that they have. None: all that both have.
    pub(super) columns: Option<BTreeMap<String, String>>,
    /// None: the primary key.
    pub(super) key: Option<Vec<String>>,
}

/// Checks settings. The URL has a password in it as a rule, so it is hidden.
pub(in super::super) fn check(settings: &Value) -> Result<Checked, Vec<Mistake>> {
    let read = Settings::read(settings)?;
    let mut shown = settings.clone();
    shown["url"] = "…".into();
    Ok(Checked { settings: shown, hidden: json!({"url": read.url.expose_secret()}) })
}

impl Settings {
    pub(super) fn read(settings: &Value) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut fields = Fields::of(settings, "", &mut mistakes);
        let url = fields.needed_text("url").map(Secret::new);
        if let Some(Err(why)) = url.as_ref().map(Address::read) {
            fields.wrong("url", why);
        }
        let connections = fields.number("connections", 1, 100, 16) as usize;
        let tables = fields.object("tables", |mut fields| {
            let mut tables = BTreeMap::new();
            for (class, value) in fields.rest() {
                let mut inner = Vec::new();
                let pointer = format!("/{}", class.replace('~', "~0").replace('/', "~1"));
                let table = read_table(Fields::of(&value, &pointer, &mut inner));
                for (why, at) in inner {
                    fields.wrong_at(at.trim_start_matches('/'), why);
                }
                tables.extend(table.map(|table| (class, table)));
            }
            fields.end();
            tables
        });
        if settings["tables"].as_object().is_none_or(serde_json::Map::is_empty) {
            fields.wrong_here("tables is missing: {\"CLASS\": {\"table\": \"SCHEMA.TABLE\"}}");
        }
        fields.end();
        match url {
            Some(url) if mistakes.is_empty() => Ok(Self { url, connections, tables }),
            _ => Err(mistakes),
        }
    }
}

fn read_table(mut fields: Fields<'_>) -> Option<Table> {
    let name = fields.needed_text("table").and_then(|text| {
        let read = read_name(&text);
        if read.is_none() {
            fields.wrong(
                "table",
                "this has to be a table's name, such as public.orders or \"my schema\".orders",
            );
        }
        read
    });
    let columns = fields.take("columns").and_then(|value| {
        let read = serde_json::from_value::<BTreeMap<String, String>>(value).ok();
        let read = read.filter(|columns| !columns.is_empty());
        if read.is_none() {
            fields.wrong(
                "columns",
                "this has to be an object of columns, each with the member of the data that it has",
            );
        }
        read
    });
    let key = fields.take("key").and_then(|value| {
        let read = serde_json::from_value::<Vec<String>>(value).ok().filter(|key| !key.is_empty());
        if read.is_none() {
            fields.wrong("key", "this has to be a list of columns");
        }
        read
    });
    if let (Some(columns), Some(key)) = (&columns, &key)
        && let Some(missing) = key.iter().find(|column| !columns.contains_key(*column))
    {
        fields.wrong("key", format!("{missing} is not among the columns"));
    }
    fields.end();
    Some(Table { name: name?, columns, key })
}

/// Names with dots between them. Letters are as they are, with quotes and without.
fn read_name(text: &str) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let part;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut end = 0;
            while !quoted[end..].starts_with('"') || quoted[end..].starts_with("\"\"") {
                end += if quoted[end..].starts_with("\"\"") {
                    2
                } else {
                    quoted[end..].chars().next()?.len_utf8()
                };
            }
            part = quoted[..end].replace("\"\"", "\"");
            rest = &quoted[end + 1..];
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            part = rest[..end].to_owned();
            rest = &rest[end..];
        }
        if part.is_empty() || part.contains('\0') {
            return None;
        }
        parts.push(part);
        match rest.strip_prefix('.') {
            Some(next) => rest = next,
            None => return (rest.is_empty() && parts.len() <= 2).then_some(parts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::open::whole;
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is() {
        let read = |text| read_name(text).map(|parts| parts.join("|"));
        assert_eq!(read("Orders").as_deref(), Some("Orders"));
        assert_eq!(read("public.orders").as_deref(), Some("public|orders"));
        assert_eq!(read("\"a.\"\"b\".\"c d\"").as_deref(), Some("a.\"b|c d"));
        for wrong in ["", "a.", ".a", "a.b.c", "\"a", "\"a\"b", "\"\""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_url_is_hidden_and_mistakes_are_told_where_they_are() {
        let url = "postgres://me:hush@db.example/shop?sslmode=require";
        let right = json!({"url": url, "tables": {"orders": {"table": "public.orders"}}});
        let checked = check(&right).expect("it is right");
        assert!(!checked.settings.to_string().contains("hush"));
        assert!(Settings::read(&whole(&checked.settings, &checked.hidden)).is_ok());
        let pointers = |settings: Value| {
            let mistakes = check(&settings).expect_err("it is wrong");
            assert!(!format!("{mistakes:?}").contains("hush"), "{mistakes:?}");
            mistakes.into_iter().map(|(_, at)| at).collect::<Vec<_>>()
        };
        assert_eq!(pointers(json!({"url": url})), [""]);
        assert_eq!(
            pointers(json!({"url": "postgres://me:hush@:x", "tables": right["tables"]})),
            ["/url"]
        );
        let wrong = json!({"table": "a.b.c", "columns": {"a": "x"}, "key": ["b"], "x": 1});
        let settings = json!({"url": url, "tables": {"a/b": wrong}});
        assert_eq!(
            pointers(settings),
            ["/tables/a~1b/table", "/tables/a~1b/key", "/tables/a~1b/x"]
        );
    }
}
