//! Parts in double quotes, as arrays, rows and hstores have them.

/// How a quote is written inside of quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    /// After a backslash.
    Escaped,
    /// After a backslash, or twice.
    Doubled,
}

impl Quotes {
    /// What is in the quotes that begin a text, and the text after them; None if they don't end. `scratch` keeps what
    /// had to be put together.
    pub(super) fn read<'t: 's, 's>(
        self,
        text: &'t [u8],
        scratch: &'s mut Vec<u8>,
    ) -> Option<(&'s [u8], &'t [u8])> {
        let text = text.strip_prefix(b"\"")?;
        let mut at = special(text, 0)?;
        if !self.goes_on(text, at) {
            return Some((&text[..at], &text[at + 1..]));
        }
        scratch.clear();
        let mut from = 0;
        while self.goes_on(text, at) {
            // Without the byte that only says that the next one is meant as it is.
            scratch.extend_from_slice(&text[from..at]);
            from = at + 1;
            at = special(text, from + 1)?;
        }
        scratch.extend_from_slice(&text[from..at]);
        Some((scratch, &text[at + 1..]))
    }

    /// Whether the backslash or quote at this position is not the end.
    fn goes_on(self, text: &[u8], at: usize) -> bool {
        text[at] == b'\\' || (self == Self::Doubled && text.get(at + 1) == Some(&b'"'))
    }
}

/// The next backslash or quote from a position on.
fn special(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    Some(from + rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(quotes: Quotes, text: &str) -> Option<(String, String)> {
        let mut scratch = b"left over".to_vec();
        let (inside, rest) = quotes.read(text.as_bytes(), &mut scratch)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text in, text out");
        Some((text(inside), text(rest)))
    }

    #[test]
    fn quotes_end_where_they_are_meant_to() {
        let both = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        for quotes in [Quotes::Escaped, Quotes::Doubled] {
            assert_eq!(read(quotes, r#""","#), both("", ","));
            assert_eq!(read(quotes, r#""a","b""#), both("a", r#","b""#));
            assert_eq!(read(quotes, r#""\"\\a\b\\",c"#), both(r#""\ab\"#, ",c"));
            for cut in ["", "a", "\"", "\"a", "\"\\", "\"\\\"", "\"a\\"] {
                assert_eq!(read(quotes, cut), None, "{cut}");
            }
        }
        assert_eq!(read(Quotes::Escaped, r#""a""b""#), both("a", r#""b""#));
        assert_eq!(read(Quotes::Doubled, r#""a""b""""#), both(r#"a"b""#, ""));
        assert_eq!(read(Quotes::Doubled, r#""a"""#), None);
    }
}
