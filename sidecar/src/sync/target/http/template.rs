//! Templates: text with `{{ … }}`, `{% if %}` and `{% for %}` over a model, escaped for where they stand.
//!
//! Whoever writes one must not be able to have the sidecar run out of memory or time: there are no loaders and no functions,
//! steps and output are counted, and what could double a value in memory (operators on texts, `set`, captures) is refused
//! by `check_syntax`. So the output is the only thing that grows.

use std::fmt;
use std::io;

use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, UndefinedBehavior, Value};

use super::super::ask::encoded;

/// The longest template.
const LONGEST: usize = 64 << 10;

/// The most that comes of one.
const OUTPUT: usize = 8 << 20;

/// The most steps.
const FUEL: u64 = 1_000_000;

const TAGS: &[&str] = &["if", "elif", "else", "endif", "for", "endfor"];

/// Where the text stands, and so how values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a URL, or a form: percent-encoded.
    Url,
    /// In a JSON document: as JSON.
    Json,
    /// Anywhere else: as they are.
    Text,
}

/// A template that has been read.
#[derive(Debug)]
pub(super) struct Template {
    environment: Environment<'static>,
    /// As it was written.
    pub(super) source: String,
}

impl Template {
    /// The error says where it is wrong.
    pub(super) fn read(source: &str, place: Place) -> Result<Self, String> {
        if source.len() > LONGEST {
            return Err(format!("a template has at most {LONGEST} bytes"));
        }
        check_syntax(source)?;
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        let escape = match place {
            Place::Url => AutoEscape::Custom("url".into()),
            Place::Json => AutoEscape::Custom("json".into()),
            Place::Text => AutoEscape::None,
        };
        environment.set_auto_escape_callback(move |_| escape.clone());
        environment.set_formatter(move |output, _, value| write(output, place, value));
        environment.add_filter("urlencode", urlencode);
        environment.add_filter("tojson", tojson);
        environment.add_filter("default", default);
        environment.add_filter("lower", |text: String| text.to_lowercase());
        environment.add_filter("upper", |text: String| text.to_uppercase());
        environment.add_filter("trim", |text: String| text.trim().to_owned());
        environment.add_template_owned("", source.to_owned()).map_err(|error| {
            let line = error.line().unwrap_or_default();
            format!("line {line}: {}", error.detail().unwrap_or("this is no template"))
        })?;
        Ok(Self { environment, source: source.to_owned() })
    }

    /// Whether it uses this variable.
    pub(super) fn uses(&self, variable: &str) -> bool {
        let template = self.environment.get_template("");
        template.is_ok_and(|template| template.undeclared_variables(false).contains(variable))
    }

    /// Fills it. The error quotes no value.
    pub(super) fn fill(&self, values: &Value) -> Result<String, String> {
        let mut text = Limited(Vec::new());
        let template = self.environment.get_template("").map_err(|error| told(&error))?;
        if let Err(error) = template.render_captured_to(values.clone(), &mut text) {
            if text.0.len() >= OUTPUT {
                return Err(format!("more than {OUTPUT} bytes come of it"));
            }
            return Err(told(&error));
        }
        String::from_utf8(text.0).map_err(|_| "what comes of it is not UTF-8".to_owned())
    }
}

fn told(error: &Error) -> String {
    let line = error.line().unwrap_or_default();
    match error.kind() {
        ErrorKind::UndefinedError => format!(
            "line {line}: it uses a member that the model does not have; the filter default gives another value"
        ),
        ErrorKind::OutOfFuel => format!("line {line}: it takes more than {FUEL} steps"),
        kind => format!("line {line}: {kind}"),
    }
}

/// Refuses what could grow other than in the output.
fn check_syntax(source: &str) -> Result<(), String> {
    let mut rest = source;
    while let Some(at) =
        rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min()
    {
        let (kind, inside) = rest[at..].split_at(2);
        if kind == "{#" {
            let end = inside.find("#}").ok_or("a comment has no end: #} is missing")?;
            rest = &inside[end + 2..];
            continue;
        }
        let tag = inside.trim_start_matches(['-', '+']).trim_start();
        let word: String = tag.chars().take_while(char::is_ascii_alphabetic).collect();
        if kind == "{%" && !TAGS.contains(&word.as_str()) {
            return Err(format!(
                "{{% {word} %}} is not known here: there are if, elif, else and for"
            ));
        }
        rest = after_tag(inside, if kind == "{{" { "}}" } else { "%}" })?;
    }
    Ok(())
}

/// What comes after the end of a tag.
fn after_tag<'a>(inside: &'a str, end: &str) -> Result<&'a str, String> {
    let mut quote = None;
    let mut is_escaped = false;
    // A sign there belongs to the tag, and strips spaces.
    let begin = usize::from(inside.starts_with(['-', '+']));
    for (at, c) in inside.char_indices().skip(begin) {
        if is_escaped {
            is_escaped = false;
        } else if quote.is_some() {
            is_escaped = c == '\\';
            if quote == Some(c) {
                quote = None;
            }
        } else if inside[at..].starts_with(end) {
            return Ok(&inside[at + end.len()..]);
        } else if matches!(c, '"' | '\'') {
            quote = Some(c);
        } else if matches!(c, '~' | '*') || (c == '+' && !inside[at + 1..].starts_with(end)) {
            return Err(format!(
                "{c} is not known here: a template puts values side by side, as in {{{{ a }}}}{{{{ b }}}}"
            ));
        }
    }
    Err(format!("a tag has no end: {end} is missing"))
}

fn write(output: &mut Output<'_>, place: Place, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let written = match place {
        // Of the filters urlencode leaves what can stand everywhere; anything else is a value, whoever says otherwise.
        Place::Url | Place::Json if value.is_safe() && value.as_str().is_some_and(is_encoded) => {
            output.write_str(value.as_str().unwrap_or_default())
        }
        Place::Url => output.write_str(&encoded(&plain(value)?)),
        Place::Json if value.is_safe() => output.write_str(value.as_str().unwrap_or_default()),
        Place::Json => {
            return serde_json::to_writer(Formatted(output), value)
                .map_err(|_| ErrorKind::WriteFailure.into());
        }
        Place::Text => output.write_str(&plain(value)?),
    };
    written.map_err(|_| ErrorKind::WriteFailure.into())
}

fn is_encoded(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte))
}

/// A text, number or truth value as text.
fn plain(value: &Value) -> Result<String, Error> {
    let is_plain = value.as_str().is_some()
        || value.is_number()
        || matches!(value.kind(), minijinja::value::ValueKind::Bool);
    if is_plain {
        return Ok(value.to_string());
    }
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let kind = value.kind();
    Err(Error::new(ErrorKind::InvalidOperation, format!("{kind} can't be written as text")))
}

fn urlencode(value: &Value) -> Result<Value, Error> {
    Ok(Value::from_safe_string(encoded(&plain(value)?)))
}

fn tojson(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let mut text = Limited(Vec::new());
    serde_json::to_writer(&mut text, value).map_err(|_| Error::from(ErrorKind::WriteFailure))?;
    let text = String::from_utf8(text.0).map_err(|_| Error::from(ErrorKind::BadSerialization))?;
    Ok(Value::from_safe_string(text))
}

fn default(value: &Value, other: Value) -> Value {
    if value.is_undefined() { other } else { value.clone() }
}

/// Takes no more than `OUTPUT`.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = OUTPUT - self.0.len();
        self.0.extend_from_slice(&bytes[..room.min(bytes.len())]);
        if bytes.len() > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The output of a template as serde_json writes to.
struct Formatted<'a, 'b>(&'a mut Output<'b>);

impl io::Write for Formatted<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What serde_json writes at once is whole characters.
        let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
        self.0.write_str(text).map_err(|fmt::Error| io::Error::other("full"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;
    use serde_json::json;

    use super::*;

    fn fill(source: &str, place: Place, data: &serde_json::Value) -> Result<String, String> {
        let data: Value = serde_json::from_value(data.clone()).expect("it is JSON");
        let values = context! { data };
        Template::read(source, place)?.fill(&values)
    }

    #[test]
    fn a_value_stays_in_its_place() {
        let data = json!({"s": "../a?b&c=d#\"\u{e9}", "n": 1.5, "l": [1, {"x": "\"}"}], "z": null});
        let filled = |source, place| fill(source, place, &data).expect("it is right");
        let encoded = "..%2Fa%3Fb%26c%3Dd%23%22%C3%A9";
        assert_eq!(filled("/{{ data.s }}/{{ data.n }}", Place::Url), format!("/{encoded}/1.5"));
        assert_eq!(filled("/{{ data.s | urlencode }}", Place::Url), format!("/{encoded}"));
        assert_eq!(
            filled("?q={{ data.l | tojson }}", Place::Url),
            "?q=%5B1%2C%7B%22x%22%3A%22%5C%22%7D%22%7D%5D"
        );
        let body = r#"{"s": {{ data.s }}, "l": {{ data.l | tojson }}, "z": {{ data.z }}, "u": "x/{{ data.s | urlencode }}"}"#;
        let body: serde_json::Value =
            serde_json::from_str(&filled(body, Place::Json)).expect("it is JSON");
        let expected =
            json!({"s": data["s"], "l": data["l"], "z": null, "u": format!("x/{encoded}")});
        assert_eq!(body, expected);
        assert_eq!(filled("{{ data.s }} {{ data.n }}", Place::Text), "../a?b&c=d#\"\u{e9} 1.5");
        assert!(fill("{{ data.l }}", Place::Url, &data).is_err());
    }

    #[test]
    fn a_member_that_is_not_there_is_an_error() {
        for source in [
            "{{ data.x }}",
            "{{ data.x.y }}",
            "{{ data.x | urlencode }}",
            "{{ data.x | tojson }}",
            "{{ y }}",
        ] {
            let told = fill(source, Place::Json, &json!({})).expect_err(source);
            assert!(told.contains("does not have"), "{source}: {told}");
        }
        assert_eq!(
            fill("{{ data.x | default('a') }}", Place::Text, &json!({})).as_deref(),
            Ok("a")
        );
        let tested = "{% if data.x | default(false) %}a{% elif true %}b{% else %}c{% endif %}";
        assert_eq!(fill(tested, Place::Text, &json!({})).as_deref(), Ok("b"));
    }

    #[test]
    fn only_the_output_can_grow_and_that_has_an_end() {
        for source in [
            "{% set x = data %}",
            "{%- set x %}{% endset %}",
            "{% macro f() %}{% endmacro %}",
            "{% filter upper %}x{% endfilter %}",
            "{% include 'x' %}",
            "{{ data.a ~ data.a }}",
            "{{ 'a' * 1000000000 }}",
            "{{ data.a + data.a }}",
            "{%+ for x in data.a+data.a %}{% endfor %}",
            "{{ range(10) }}",
            "{{ data.a | join }}",
            "{{ data.a | replace('a', 'b') }}",
            "{{ '~' ",
        ] {
            let refused = fill(source, Place::Text, &json!({"a": "b"}));
            assert!(refused.is_err(), "{source}: {refused:?}");
        }
        assert_eq!(fill("{{ '~*+' }}{# ~ #}", Place::Text, &json!({})).as_deref(), Ok("~*+"));
        let data = json!({"l": vec![0; 1000], "s": "x".repeat(100_000)});
        let endless =
            "{% for a in data.l %}{% for b in data.l %}{{ data.s }}{% endfor %}{% endfor %}";
        let told = fill(endless, Place::Text, &data).expect_err("it is too long");
        assert!(told.contains("bytes come of it"), "{told}");
        let idle = "{% for a in data.l %}{% for b in data.l %}{% for c in data.l %}{% endfor %}{% endfor %}{% endfor %}";
        let told = fill(idle, Place::Text, &data).expect_err("it takes too long");
        assert!(told.contains("steps"), "{told}");
        let nested = "{{ [[[data.s, data.s], [data.s, data.s]], data] | tojson }}"
            .replace("data.s", &format!("[{}]", vec!["data.s"; 40].join(",")));
        assert!(fill(&nested, Place::Json, &data).is_err());
    }
}
