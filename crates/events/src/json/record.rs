//! Rows: `(1,,"a ""b""")`, where nothing between commas is a NULL (PostgreSQL manual, "Composite Type Input and Output
//! Syntax").

use super::quoted::Quotes;
use super::{JsonType, ValueError, write_string};

/// A composite type.
#[derive(Debug)]
pub(super) struct Record {
    attributes: Vec<Attribute>,
    depth: usize,
}

#[derive(Debug)]
struct Attribute {
    /// What goes before its value: a brace or comma, its name and a colon.
    key: Vec<u8>,
    of: JsonType,
}

impl Record {
    /// Of attributes in their order, without those that were dropped.
    pub(super) fn new(attributes: impl IntoIterator<Item = (String, JsonType)>) -> Self {
        let attribute = |(at, (name, of)): (usize, (String, JsonType))| {
            let mut key = vec![if at == 0 { b'{' } else { b',' }];
            write_string(name.as_bytes(), &mut key);
            key.push(b':');
            Attribute { key, of }
        };
        let attributes: Vec<_> = attributes.into_iter().enumerate().map(attribute).collect();
        let depth = 1 + attributes.iter().map(|a| a.of.depth()).max().unwrap_or_default();
        Self { attributes, depth }
    }

    pub(super) fn types(&self) -> impl Iterator<Item = &JsonType> {
        self.attributes.iter().map(|attribute| &attribute.of)
    }

    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn write(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        let mut rest = text.strip_prefix(b"(").ok_or(ValueError::Record)?;
        let other_count = ValueError::Attributes { expected: self.attributes.len() };
        if self.attributes.is_empty() {
            out.extend_from_slice(b"{}");
            return if rest == b")" { Ok(()) } else { Err(other_count) };
        }
        let mut scratch = Vec::new();
        let last = self.attributes.len() - 1;
        for (at, attribute) in self.attributes.iter().enumerate() {
            out.extend_from_slice(&attribute.key);
            rest = attribute.value_at(rest, &mut scratch, out)?;
            let (end, next) = rest.split_first().ok_or(ValueError::Record)?;
            match end {
                b',' if at < last => {}
                b')' if at == last => {}
                b',' | b')' => return Err(other_count),
                _ => return Err(ValueError::Record),
            }
            rest = next;
        }
        out.push(b'}');
        if rest.is_empty() { Ok(()) } else { Err(ValueError::Record) }
    }
}

impl Attribute {
    /// Appends the value that a text begins with and gives what follows it.
    fn value_at<'a>(
        &self,
        text: &'a [u8],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<&'a [u8], ValueError> {
        if text.first() == Some(&b'"') {
            let (value, rest) = Quotes::Doubled.read(text, scratch).ok_or(ValueError::Record)?;
            self.of.append(value, out)?;
            return Ok(rest);
        }
        let ends = |byte: &u8| matches!(byte, b',' | b'(' | b')' | b'"' | b'\\');
        let end = text.iter().position(ends).ok_or(ValueError::Record)?;
        let (value, rest) = text.split_at(end);
        if value.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            self.of.append(value, out)?;
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::Kind;
    use super::*;

    fn written(kinds: &[Kind], text: &str) -> Result<String, ValueError> {
        let attributes = kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| (["a", "B \"b\"", "c"][at].to_owned(), JsonType::from(kind.clone())));
        let mut out = Vec::new();
        Record::new(attributes).write(text.as_bytes(), &mut out)?;
        Ok(String::from_utf8(out).expect("text in, text out"))
    }

    fn assert_json(kinds: &[Kind], text: &str, json: &str) {
        assert_eq!(written(kinds, text).as_deref(), Ok(json), "{text}");
    }

    #[test]
    fn nulls_quotes_and_names() {
        let two = [Kind::Number, Kind::Text];
        assert_json(&two, "(1,x)", r#"{"a":1,"B \"b\"":"x"}"#);
        assert_json(&two, "(,)", r#"{"a":null,"B \"b\"":null}"#);
        assert_json(&two, r#"(1,"")"#, r#"{"a":1,"B \"b\"":""}"#);
        assert_json(&two, r#"(1,"a ""b"" \\,()")"#, r#"{"a":1,"B \"b\"":"a \"b\" \\,()"}"#);
        assert_json(&two[..1], "()", r#"{"a":null}"#);
        assert_json(&[], "()", "{}");
    }

    #[test]
    fn what_is_no_row_of_the_type_is_refused() {
        let two = [Kind::Number, Kind::Text];
        let count = Err(ValueError::Attributes { expected: 2 });
        for text in ["(1)", "()", "(1,2,3)", "(,,)"] {
            assert_eq!(written(&two, text), count, "{text}");
        }
        assert_eq!(written(&[], "(1)"), Err(ValueError::Attributes { expected: 0 }));
        for text in ["", "1,2", "(1,2", "(1,2)x", "(1,a\"b\")", "(1,\"a\"b)", "(1,\"a)", "(1,(2))"]
        {
            assert_eq!(written(&two, text), Err(ValueError::Record), "{text}");
        }
        assert_eq!(written(&two, "(x,y)"), Err(ValueError::Number));
    }
}
