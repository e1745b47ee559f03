//! Lives here: the tokens of a text with its constants taken out, each remembered by its place.
//! Does not live here: the template, which is for people and shortens lists (`template.rs`).

use crate::lexer::{Kind, Lexer, Token};

/// Words that a datetime's input reads as a moment that depends on the clock (PostgreSQL manual,
/// "Special Date/Time Inputs").
const CLOCK_WORDS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// A text without the values of its constants.
///
/// PostgreSQL resolves names, operators and types by the kinds of constants, never by their values,
/// but for strings that are read by the clock. So what its analysis says of one text holds for all
/// texts with the same outline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Tokens, one zero byte after each. A constant is a byte for its kind; a string that may be read
    /// by the clock stands as it is, so that it has an outline of its own.
    pub tokens: Vec<u8>,
    /// The constants in the order of the text.
    pub constants: Vec<Constant>,
}

/// Where a constant stands, in bytes from the start of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

/// Whether a datetime's input could read the clock because of this string: it holds one of the words for a moment or a
/// day that is not said, or escapes that could spell it.
#[must_use]
pub fn may_read_clock(text: &[u8]) -> bool {
    CLOCK_WORDS.iter().any(|word| {
        text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word))
            || text.contains(&b'\\')
    })
}

/// What the type of a constant depends on: for a number whether it fits into 4 or 8 bytes, for a
/// string its prefix.
fn kind(token: &Token<'_>) -> u8 {
    match token.kind {
        Kind::Number => {
            let number = std::str::from_utf8(token.text).unwrap_or_default();
            match number.parse::<i64>() {
                Ok(number) if i32::try_from(number).is_ok() => b'i',
                Ok(_) => b'l',
                Err(_) => b'n',
            }
        }
        Kind::String => match token.text.first() {
            Some(b'b' | b'B') => b'b',
            Some(b'x' | b'X') => b'x',
            _ => b's',
        },
        _ => b'?',
    }
}

impl Outline {
    /// Reads `sql` once. The time is linear in its length.
    #[must_use]
    pub fn of(sql: &[u8]) -> Self {
        let mut outline = Self::default();
        for token in Lexer::new(sql) {
            if token.is_constant() {
                let start = token.start(sql);
                outline.constants.push(Constant { start, end: start + token.text.len() });
                outline.tokens.push(kind(&token));
                if token.kind == Kind::String && may_read_clock(token.text) {
                    outline.tokens.extend(token.text);
                }
                outline.tokens.push(b'?');
            } else {
                outline.tokens.extend(token.text);
            }
            outline.tokens.push(0);
        }
        outline
    }

    /// The position of the constant that starts at this byte.
    #[must_use]
    pub fn position(&self, start: usize) -> Option<usize> {
        self.constants.binary_search_by_key(&start, |constant| constant.start).ok()
    }
}

impl Constant {
    /// The value as PostgreSQL would take it for a column's input: digits, or a string between plain
    /// quotes. `None` for any other way to write one.
    #[must_use]
    pub fn value(self, sql: &[u8]) -> Option<&[u8]> {
        let text = sql.get(self.start..self.end)?;
        if text.iter().all(u8::is_ascii_digit) {
            return Some(text);
        }
        let inner = text.strip_prefix(b"'")?.strip_suffix(b"'")?;
        (!inner.contains(&b'\'')).then_some(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(sql: &str) -> Outline {
        Outline::of(sql.as_bytes())
    }

    #[test]
    fn texts_that_differ_in_values_have_one_outline() {
        let first = outline("SELECT * FROM t WHERE id = 1 AND name = 'a'");
        let second = outline("SELECT  * FROM t /* again */ WHERE id = 77 AND name = 'b''c'");
        assert_eq!(first.tokens, second.tokens);
    }

    #[test]
    fn what_decides_a_type_has_an_outline_of_its_own() {
        let texts =
            ["a = 1", "a = 5000000000", "a = 1.5", "a = '1'", "a = B'1'", "a = $1", "A = 1"];
        let distinct: std::collections::BTreeSet<_> =
            texts.iter().map(|text| outline(text).tokens).collect();
        assert_eq!(distinct.len(), texts.len());
        assert_ne!(outline("a in (1, 2)").tokens, outline("a in (1)").tokens);
        assert_ne!(outline("t > 'now'").tokens, outline("t > 'then'").tokens);
        assert_ne!(outline(r"t > E'\156ow'").tokens, outline("t > E'then'").tokens);
    }

    #[test]
    fn constants_are_found_by_their_place() {
        let sql = b"SELECT 1 WHERE name = 'x' AND id = -5 OR a = $$b$$";
        let outline = Outline::of(sql);
        let values: Vec<_> = outline.constants.iter().map(|c| c.value(sql)).collect();
        assert_eq!(values, [Some(&b"1"[..]), Some(b"x"), Some(b"5"), None]);
        assert_eq!(outline.position(22), Some(1));
        // PostgreSQL says that a negative number starts at its sign.
        assert_eq!(outline.position(35), None);
    }
}
