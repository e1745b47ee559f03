//! Texts with `{field}` in them, where values go.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but what is unreserved (RFC 3986, 2.3): a value can't be more than a part of one segment of a path.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text with places for values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::sync::source) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// Reads one. The error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            let field = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let Some((field, after)) = field.filter(|(field, _)| !field.contains('{')) else {
                return Err("a { has no }, or a } has no {".to_owned());
            };
            if field.is_empty() {
                return Err("{} has no name in it: between the braces is a field".to_owned());
            }
            parts.extend([Part::Text(before.to_owned()), Part::Field(field.to_owned())]);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// Reads a path from the root of an API.
    pub(super) fn parse_path(text: &str) -> Result<Self, String> {
        let path = Self::parse(text)?;
        if !text.starts_with('/') {
            return Err("a path begins with /".to_owned());
        }
        if text.starts_with("//") {
            return Err("a path begins with one /: after two there would be a host".to_owned());
        }
        if text.contains(['?', '#', '\\'])
            || text.contains(|c: char| c.is_control() || c.is_whitespace())
        {
            return Err("a path has no ?, #, \\, spaces or control characters: what comes after ? is `query`".to_owned());
        }
        if leads_elsewhere(&path.fill(|_| Some("x".to_owned())).unwrap_or_default()) {
            return Err("a path has no . or .. in it".to_owned());
        }
        Ok(path)
    }

    /// The fields whose values it takes.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Field(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// With its values, as they are. The error says which one is not known.
    pub(in crate::sync::source) fn text(
        &self,
        values: &BTreeMap<&str, String>,
    ) -> Result<String, String> {
        self.fill(|field| values.get(field).cloned())
    }

    /// With its values as a path of a URL. The error says which one is not known, or that it would be another path.
    pub(in crate::sync::source) fn path(
        &self,
        values: &BTreeMap<&str, String>,
    ) -> Result<String, String> {
        let encode = |value: &String| utf8_percent_encode(value, RESERVED).to_string();
        let path = self.fill(|field| values.get(field).map(encode))?;
        if leads_elsewhere(&path) {
            return Err("its key would make another path of the one of its class".to_owned());
        }
        Ok(path)
    }

    fn fill(&self, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Field(field) => filled.push_str(&value(field).ok_or_else(|| {
                    format!("{field} is not known: no notification of the model has said it")
                })?),
            }
        }
        Ok(filled)
    }
}

/// Whether a path has segments that are taken as "here" or "one up", however they are written.
fn leads_elsewhere(path: &str) -> bool {
    path.split('/').any(|segment| {
        let segment: Vec<u8> = percent_decode_str(segment).collect();
        segment == b"." || segment == b".."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(template: &str, id: &str) -> Result<String, String> {
        Template::parse_path(template)?.path(&BTreeMap::from([("id", id.to_owned())]))
    }

    #[test]
    fn a_value_stays_within_its_segment() {
        assert_eq!(path("/a/{id}.json", "5").as_deref(), Ok("/a/5.json"));
        assert_eq!(path("/a/{id}", "x/y?z#%2e é").as_deref(), Ok("/a/x%2Fy%3Fz%23%252e%20%C3%A9"));
        assert_eq!(path("/a/{id}/b", "../../c").as_deref(), Ok("/a/..%2F..%2Fc/b"));
        for id in [".", ".."] {
            assert!(path("/a/{id}/b", id).is_err());
            assert!(path("/a/{id}.json", id).is_ok());
        }
        assert!(path("/a/.{id}", ".").is_err() && path("/a/%2e{id}", ".").is_err());
        let error = path("/a/{other}", "5").expect_err("it has no value");
        assert!(error.contains("other is not known"), "{error}");
    }

    #[test]
    fn a_path_is_one_of_the_api() {
        for wrong in [
            "",
            "a",
            "//host/a",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/a b",
            "/a/../b",
            "/./a",
            "/a/%2E%2e/b",
            "/{",
            "/}",
            "/{a",
            "/{{a}}",
            "/{}",
        ] {
            assert!(Template::parse_path(wrong).is_err(), "{wrong}");
        }
        for right in ["/", "/a", "/a/{b}/{c}.json", "/a//b", "/a...", "/%20/{b}{c}"] {
            assert!(Template::parse_path(right).is_ok(), "{right}");
        }
    }
}
