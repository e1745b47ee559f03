//! The extension hstore, whose cast to json only writes another notation: `"a"=>"1", "b"=>NULL` is `{"a": "1", "b": null}`,
//! with the spaces of `hstore_to_json`.

use super::quoted::Quotes;
use super::{ValueError, write_string};

pub(super) fn write(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let mut scratch = Vec::new();
    let mut rest = text;
    out.push(b'{');
    while !rest.is_empty() {
        rest = quoted(rest, &mut scratch, out)?.strip_prefix(b"=>").ok_or(ValueError::Hstore)?;
        out.extend_from_slice(b": ");
        rest = match rest.strip_prefix(b"NULL") {
            Some(after) => {
                out.extend_from_slice(b"null");
                after
            }
            None => quoted(rest, &mut scratch, out)?,
        };
        if !rest.is_empty() {
            rest = rest.strip_prefix(b", ").filter(|r| !r.is_empty()).ok_or(ValueError::Hstore)?;
            out.extend_from_slice(b", ");
        }
    }
    out.push(b'}');
    Ok(())
}

/// Appends the string that a text begins with and gives what follows it.
fn quoted<'a>(
    text: &'a [u8],
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<&'a [u8], ValueError> {
    let (value, rest) = Quotes::Escaped.read(text, scratch).ok_or(ValueError::Hstore)?;
    write_string(value, out);
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Option<String> {
        let mut out = Vec::new();
        write(text.as_bytes(), &mut out).ok()?;
        Some(String::from_utf8(out).expect("text in, text out"))
    }

    #[test]
    fn pairs_become_an_object() {
        assert_eq!(written("").as_deref(), Some("{}"));
        assert_eq!(
            written(r#""a"=>"1", "b\"\\"=>NULL, ""=>"NULL""#).as_deref(),
            Some(r#"{"a": "1", "b\"\\": null, "": "NULL"}"#)
        );
        for text in [
            "a",
            "\"a\"",
            "\"a\"=>",
            "\"a\"=>1",
            "\"a\"=>\"1\",",
            "\"a\"=>NULL, ",
            "\"a\"=>\"1\"\"b\"",
        ] {
            assert_eq!(written(text), None, "{text}");
        }
    }
}
