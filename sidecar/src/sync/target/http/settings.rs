//! The settings of a generic HTTP target.

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::super::Checked;
use super::request::{Request, UrlTemplate};
use super::template::{Place, Template};
use crate::fields::{Fields, Mistake};
use crate::http::FRAMING;

/// Headers that are ours, beside those of [`FRAMING`].
const OURS: &[&str] = &["integratedb-entry", "idempotency-key"];

const MOST_HEADERS: usize = 20;

/// What is asked, and when.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) upsert: Request,
    pub(super) delete: Request,
    pub(super) read: Option<Read>,
    /// The statuses by which the target says that it does not have a model, where they are not the usual ones.
    pub(super) gone: Option<Vec<u16>>,
    pub(super) secret_headers: HeaderMap,
}

/// How the target tells what it has.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) request: Request,
    /// A pointer to the model in the answer.
    pub(super) pointer: String,
}

/// Checks settings. What is stored is what was given; of secret headers the names are shown.
pub(in super::super) fn check(settings: &Value) -> Result<Checked, Vec<Mistake>> {
    Settings::read(settings)?;
    let mut shown = settings.clone();
    let mut hidden = Map::new();
    if let Some(headers) = shown.get_mut("secret_headers").and_then(Value::as_object_mut) {
        hidden.insert("secret_headers".to_owned(), headers.clone().into());
        headers.values_mut().for_each(|value| *value = "…".into());
    }
    Ok(Checked { settings: shown, hidden: hidden.into() })
}

impl Settings {
    pub(super) fn read(settings: &Value) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut fields = Fields::of(settings, "", &mut mistakes);
        let given = |name: &str| settings.get(name).is_some_and(|value| !value.is_null());
        for name in ["upsert", "delete"] {
            if !given(name) {
                fields.wrong_here(format!("{name} is missing"));
            }
        }
        let bodies = [Method::PUT, Method::POST, Method::PATCH];
        let removals = [Method::DELETE, Method::POST, Method::PUT, Method::PATCH];
        let mut request = |name: &str, methods: &[Method]| {
            if !given(name) {
                fields.take(name);
                return None;
            }
            fields.object(name, |mut fields| {
                let pointer = if name == "read" { fields.text("member") } else { None };
                let request = read_request(&mut fields, methods);
                fields.end();
                let pointer = match pointer {
                    Some(member) if !member.is_empty() && !member.starts_with('/') => {
                        format!("/{}", member.replace('~', "~0"))
                    }
                    pointer => pointer.unwrap_or_default(),
                };
                request.map(|request| Read { request, pointer })
            })
        };
        let upsert = request("upsert", &bodies);
        let delete = request("delete", &removals);
        let read = request("read", &[Method::GET, Method::POST]);
        let gone = match fields.take("gone") {
            None => None,
            Some(value) => {
                let statuses = serde_json::from_value::<Vec<u16>>(value).unwrap_or_default();
                if statuses.is_empty() || statuses.iter().any(|status| !(400..500).contains(status))
                {
                    fields.wrong(
                        "gone",
                        "this has to be a list of statuses from 400 to 499, such as [404, 410]",
                    );
                }
                Some(statuses)
            }
        };
        let secret_headers = fields.object("secret_headers", read_secrets);
        fields.end();
        match (upsert, delete) {
            (Some(upsert), Some(delete)) if mistakes.is_empty() => Ok(Self {
                upsert: upsert.request,
                delete: delete.request,
                read,
                gone,
                secret_headers,
            }),
            _ => Err(mistakes),
        }
    }
}

/// The first method is the default.
fn read_request(fields: &mut Fields<'_>, methods: &[Method]) -> Option<Request> {
    let method = match fields.text("method") {
        None => methods.first().cloned(),
        Some(name) => {
            let known = methods.iter().find(|method| method.as_str().eq_ignore_ascii_case(&name));
            if known.is_none() {
                let names: Vec<_> = methods.iter().map(Method::as_str).collect();
                fields.wrong("method", format!("this has to be one of {}", names.join(", ")));
            }
            known.cloned()
        }
    };
    let url = fields.needed_text("url").and_then(|source| {
        let read = Template::read(&source, Place::Url).and_then(UrlTemplate::of);
        read.map_err(|why| fields.wrong("url", why)).ok()
    });
    let (headers, content_type) = fields.object("headers", read_headers);
    let body = fields.text("body").and_then(|source| {
        let read = Template::read(&source, place_of(&content_type));
        read.map_err(|why| fields.wrong("body", why)).ok()
    });
    Some(Request { method: method?, url: url?, headers, body, content_type })
}

/// How values are written in a body of this type.
fn place_of(content_type: &HeaderValue) -> Place {
    let text = content_type.to_str().unwrap_or_default().to_ascii_lowercase();
    let essence = text.split(';').next().unwrap_or_default().trim();
    match essence {
        "application/x-www-form-urlencoded" => Place::Url,
        "application/json" => Place::Json,
        essence if essence.ends_with("+json") => Place::Json,
        _ => Place::Text,
    }
}

impl Request {
    /// Whether its body has to be JSON.
    pub(super) fn is_json(&self) -> bool {
        place_of(&self.content_type) == Place::Json
    }
}

fn read_headers(mut fields: Fields<'_>) -> (Vec<(HeaderName, Template)>, HeaderValue) {
    let mut content_type = HeaderValue::from_static("application/json");
    let mut headers = Vec::new();
    for (name, value) in named(&mut fields) {
        if name.as_str() == "content-type" {
            match HeaderValue::from_str(&value) {
                Ok(value) if !value.as_bytes().contains(&b'{') => content_type = value,
                _ => fields
                    .wrong(name.as_str(), "a content type is ASCII, and the same for all models"),
            }
            continue;
        }
        match Template::read(&value, Place::Text) {
            Ok(template) => headers.push((name, template)),
            Err(why) => fields.wrong(name.as_str(), why),
        }
    }
    fields.end();
    (headers, content_type)
}

fn read_secrets(mut fields: Fields<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in named(&mut fields) {
        match HeaderValue::from_str(&value) {
            Ok(mut value) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            Err(_) => fields.wrong(name.as_str(), "a header's value is one line of ASCII"),
        }
    }
    fields.end();
    headers
}

/// Headers that may be there.
fn named(fields: &mut Fields<'_>) -> Vec<(HeaderName, String)> {
    let given = fields.rest();
    if given.len() > MOST_HEADERS {
        fields.wrong_here(format!("there are at most {MOST_HEADERS} headers"));
    }
    let mut headers = Vec::new();
    for (name, value) in given {
        match (HeaderName::try_from(name.as_str()), value) {
            (Err(_), _) => fields.wrong(&name, "this is no name of a header"),
            (Ok(header), _)
                if OURS.contains(&header.as_str()) || FRAMING.contains(&header.as_str()) =>
            {
                fields.wrong(&name, "this header is set by the sidecar");
            }
            (Ok(header), Value::String(text)) => headers.push((header, text)),
            _ => fields.wrong(&name, "this has to be a string"),
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::open::whole;
    use super::*;

    fn example() -> Value {
        json!({
            "upsert": {"method": "PUT", "url": "https://shop.example/orders/{{ key }}"},
            "delete": {"method": "DELETE", "url": "https://shop.example/orders/{{ key }}"},
            "secret_headers": {"Authorization": "Bearer hush"},
        })
    }

    #[test]
    fn secret_headers_are_hidden() {
        let checked = check(&example()).expect("it is right");
        assert!(!checked.settings.to_string().contains("hush"), "{checked:?}");
        assert_eq!(checked.settings["secret_headers"]["Authorization"], "…");
        let read = Settings::read(&whole(&checked.settings, &checked.hidden)).expect("as stored");
        assert_eq!(read.secret_headers["authorization"], "Bearer hush");
    }

    #[test]
    fn mistakes_are_told_where_they_are() {
        let pointers = |name: &str, value: Value| {
            let mut settings = example();
            settings[name] = value;
            let mistakes = check(&settings).expect_err("it is wrong").into_iter();
            mistakes.map(|(_, pointer)| pointer).collect::<Vec<_>>()
        };
        assert_eq!(pointers("upsert", Value::Null), [""]);
        assert_eq!(
            pointers("upsert", json!({"method": "GET", "url": "https://{{ key }}/"})),
            ["/upsert/method", "/upsert/url"]
        );
        assert_eq!(pointers("delete", json!({"url": "https://a.example/{{"})), ["/delete/url"]);
        assert_eq!(pointers("gone", json!([200])), ["/gone"]);
        assert_eq!(
            pointers("secret_headers", json!({"Host": "x", "a b": "x"})),
            ["/secret_headers/Host", "/secret_headers/a b"]
        );
        let upsert = json!({"url": "https://a.example/", "headers": {"X-A": "{{"}, "body": "{% set x = 1 %}"});
        assert_eq!(pointers("upsert", upsert), ["/upsert/headers/x-a", "/upsert/body"]);
        assert_eq!(pointers("x", json!(1)), ["/x"]);
    }
}
