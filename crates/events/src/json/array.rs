//! Arrays: `{1,NULL,"a \"b\""}`, with braces in braces for more dimensions and `[0:1]=` before them if an index does not
//! begin with 1 (PostgreSQL manual, "Array Input and Output Syntax"). JSON has no place for the bounds, `to_json` drops them.

use super::quoted::Quotes;
use super::{JsonType, ValueError};

/// MAXDIM of PostgreSQL.
const MAX_DIMENSIONS: usize = 6;

/// An array type.
#[derive(Debug)]
pub(super) struct Array {
    element: JsonType,
    /// pg_type.typdelim of the element's type.
    delimiter: u8,
    depth: usize,
}

impl Array {
    pub(super) fn new(element: JsonType, delimiter: u8) -> Self {
        let depth = 1 + element.depth();
        Self { element, delimiter, depth }
    }

    pub(super) const fn element(&self) -> &JsonType {
        &self.element
    }

    pub(super) const fn depth(&self) -> usize {
        self.depth
    }

    pub(super) fn write(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        let mut rest = without_bounds(text).ok_or(ValueError::Array)?;
        if rest == b"{}" {
            out.extend_from_slice(b"[]");
            return Ok(());
        }
        let mut scratch = Vec::new();
        let mut dimensions = 0;
        loop {
            // Something begins here: another dimension or an element.
            if let Some(inside) = rest.strip_prefix(b"{") {
                dimensions += 1;
                if dimensions > MAX_DIMENSIONS {
                    return Err(ValueError::Array);
                }
                out.push(b'[');
                rest = inside;
                continue;
            }
            if dimensions == 0 {
                return Err(ValueError::Array);
            }
            rest = self.element_at(rest, &mut scratch, out)?;
            // Something ends here: whatever closes, until another element follows.
            while let Some(outside) = rest.strip_prefix(b"}") {
                out.push(b']');
                dimensions -= 1;
                rest = outside;
                if dimensions == 0 {
                    return if rest.is_empty() { Ok(()) } else { Err(ValueError::Array) };
                }
            }
            match rest.split_first() {
                Some((byte, next)) if *byte == self.delimiter => rest = next,
                _ => return Err(ValueError::Array),
            }
            out.push(b',');
        }
    }

    /// Appends the element that a text begins with and gives what follows it.
    fn element_at<'a>(
        &self,
        text: &'a [u8],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<&'a [u8], ValueError> {
        if text.first() == Some(&b'"') {
            let (value, rest) = Quotes::Escaped.read(text, scratch).ok_or(ValueError::Array)?;
            self.element.append(value, out)?;
            return Ok(rest);
        }
        let ends = |byte: u8| byte == self.delimiter || matches!(byte, b'{' | b'}' | b'"' | b'\\');
        let end = text.iter().position(|byte| ends(*byte)).ok_or(ValueError::Array)?;
        match text.split_at(end) {
            (b"", _) => return Err(ValueError::Array),
            (b"NULL", _) => out.extend_from_slice(b"null"),
            (value, _) => self.element.append(value, out)?,
        }
        Ok(&text[end..])
    }
}

/// The text from its first brace on.
fn without_bounds(text: &[u8]) -> Option<&[u8]> {
    if text.first() != Some(&b'[') {
        return Some(text);
    }
    let end = text.iter().position(|byte| *byte == b'=')?;
    let is_bound = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'[' | b']' | b':' | b'-');
    text[..end].iter().all(is_bound).then(|| &text[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::super::value::Kind;
    use super::*;

    fn written(kind: Kind, delimiter: u8, text: &str) -> Option<String> {
        let mut out = Vec::new();
        Array::new(kind.into(), delimiter).write(text.as_bytes(), &mut out).ok()?;
        Some(String::from_utf8(out).expect("text in, text out"))
    }

    fn numbers(text: &str) -> Option<String> {
        written(Kind::Number, b',', text)
    }

    #[test]
    fn dimensions_and_bounds() {
        for (text, json) in [
            ("{}", "[]"),
            ("{1}", "[1]"),
            ("{1,NULL,-3}", "[1,null,-3]"),
            ("{{1,2},{3,4}}", "[[1,2],[3,4]]"),
            ("{{{1},{2}},{{3},{4}}}", "[[[1],[2]],[[3],[4]]]"),
            ("[0:1]={1,2}", "[1,2]"),
            ("[-2:-1][3:3]={{1},{2}}", "[[1],[2]]"),
            ("{{{{{{7}}}}}}", "[[[[[[7]]]]]]"),
        ] {
            assert_eq!(numbers(text).as_deref(), Some(json), "{text}");
        }
    }

    #[test]
    fn a_null_and_texts_that_look_like_something_else() {
        let texts = |text: &str| written(Kind::Text, b',', text);
        assert_eq!(
            texts(r#"{NULL,"NULL","","null",a b," a","{}","a,b","\"\\",é}"#).as_deref(),
            Some(r#"[null,"NULL","","null","a b"," a","{}","a,b","\"\\","é"]"#)
        );
        assert_eq!(
            written(Kind::Text, b';', "{(3,4),(1,2);NULL}").as_deref(),
            Some(r#"["(3,4),(1,2)",null]"#)
        );
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for text in [
            "",
            "1",
            "{",
            "}",
            "{1",
            "1}",
            "{1,}",
            "{,1}",
            "{1}}",
            "{1}x",
            "{1,{2}",
            "{{}}",
            "{{1},}",
            "{\"1}",
            "{\"1\"2}",
            "{1\"2\"}",
            "{1;2}",
            "[0:1]{1}",
            "[0:1]=",
            "[x]={1}",
            "{{{{{{{1}}}}}}}",
            "{NULL\\}",
            "{x}",
            "{1,,2}",
        ] {
            assert_eq!(numbers(text), None, "{text}");
        }
    }
}
