//! Lives here: cutting the text of a query into tokens, by PostgreSQL's rules (manual, 4.1).
//! Does not live here: what a token means. No keyword is known in this file.
//!
//! The input is bytes, because a client's encoding need not be UTF-8: every byte from 0x80 up is
//! part of a word. `standard_conforming_strings` is taken to be on.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An unquoted identifier or keyword, as written.
    Word,
    /// `"…"`, with its quotes.
    Quoted,
    /// `U&"…"`, with its prefix and quotes.
    UnicodeQuoted,
    /// A closed string of any quoting, with its prefix, its quotes and every part it was continued in.
    String,
    /// A number without a sign; letters that touch it belong to it.
    Number,
    /// A lone `?`. It stands for a constant, as it does in a template. PostgreSQL itself knows it
    /// as an operator of `jsonb` only; which of the two was meant makes no difference to a template.
    Placeholder,
    /// `$1` and the like, at most five digits.
    Parameter,
    /// One operator, of any length.
    Operator,
    /// One of `( ) [ ] , ; . .. : :: :=`.
    Punctuation,
    /// A printable byte that starts no token of PostgreSQL: `\`, `{`, `}`, a lone `$`.
    Stray,
    /// A string, quoted identifier or comment that has no end. It reaches to the end of the input.
    Unterminated,
}

/// One token and the bytes it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its bytes as they stand in the input.
    pub text: &'a [u8],
}

impl Token<'_> {
    /// Where it begins in the text that it was cut from, in bytes.
    pub(crate) fn start(&self, sql: &[u8]) -> usize {
        self.text.as_ptr().addr() - sql.as_ptr().addr()
    }

    /// Whether a template has `?` in its place.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        matches!(self.kind, Kind::String | Kind::Number | Kind::Placeholder | Kind::Unterminated)
    }

    /// Whether it is this punctuation mark.
    #[must_use]
    pub fn is_mark(&self, mark: &str) -> bool {
        self.kind == Kind::Punctuation && self.text == mark.as_bytes()
    }

    /// Whether it is this unquoted word, in any case.
    #[must_use]
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word.as_bytes())
    }

    /// Whether it is this operator.
    #[must_use]
    pub fn is_operator(&self, operator: &str) -> bool {
        self.kind == Kind::Operator && self.text == operator.as_bytes()
    }
}

/// The tokens of a text, without white space and comments.
///
/// It ends with the input and never fails. The time for all tokens is linear in the input. A clone
/// is a cheap way to look ahead.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    input: &'a [u8],
    at: usize,
    /// Up to here the input is signs, each an operator of its own. Kept so that a long run of signs
    /// is not looked through once a sign.
    signs_until: usize,
}

pub(crate) fn is_space(byte: u8) -> bool {
    // PostgreSQL refuses other control bytes; as white space they do no harm.
    byte <= b' ' || byte == 0x7f
}

fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_word(byte: u8) -> bool {
    starts_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'<'
            | b'>'
            | b'='
    )
}

impl<'a> Lexer<'a> {
    /// The tokens of `input`.
    #[must_use]
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, signs_until: 0 }
    }

    /// The number that begins at this byte of `input` with a digit, or the closed string that begins with its quote; and where
    /// it ends. A token has to begin there.
    pub(crate) fn plain_value(input: &'a [u8], at: usize) -> Option<(Kind, usize)> {
        let lexer = Self::new(input);
        match lexer.byte(at)? {
            b'0'..=b'9' => Some((Kind::Number, lexer.number(at))),
            b'\'' => Some(lexer.string(at, false)).filter(|(kind, _)| *kind == Kind::String),
            _ => None,
        }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.input.get(at).copied()
    }

    /// The first place from `at` on where `wanted` does not hold.
    fn past(&self, at: usize, wanted: impl Fn(u8) -> bool) -> usize {
        let rest = self.input.get(at..).unwrap_or_default();
        at + rest.iter().position(|&byte| !wanted(byte)).unwrap_or(rest.len())
    }

    fn end_of_line(&self, at: usize) -> usize {
        self.past(at, |byte| byte != b'\n' && byte != b'\r')
    }

    /// Past white space and comments, or `None` if a comment has no end.
    fn skip_blank(&self, mut at: usize) -> Option<usize> {
        loop {
            at = self.past(at, is_space);
            match (self.byte(at), self.byte(at + 1)) {
                (Some(b'-'), Some(b'-')) => at = self.end_of_line(at),
                (Some(b'/'), Some(b'*')) => at = self.end_of_comment(at)?,
                _ => return Some(at),
            }
        }
    }

    /// The end of the `/*` comment at `at`. Comments nest.
    fn end_of_comment(&self, at: usize) -> Option<usize> {
        let mut at = at + 2;
        let mut open = 1_usize;
        loop {
            at = self.past(at, |byte| byte != b'*' && byte != b'/');
            match (self.byte(at), self.byte(at + 1)) {
                (None, _) => return None,
                (Some(b'*'), Some(b'/')) if open == 1 => return Some(at + 2),
                (Some(b'*'), Some(b'/')) => (open, at) = (open - 1, at + 2),
                (Some(b'/'), Some(b'*')) => (open, at) = (open + 1, at + 2),
                _ => at += 1,
            }
        }
    }

    /// The end of what the quote at `at` opens. A doubled quote stands for one.
    fn end_of_quoted(&self, at: usize, backslashes: bool) -> Option<usize> {
        let quote = self.byte(at)?;
        let mut at = at + 1;
        loop {
            at = self.past(at, |byte| byte != quote && !(backslashes && byte == b'\\'));
            match self.byte(at)? {
                b'\\' if backslashes => at += 2,
                _ if self.byte(at + 1) == Some(quote) => at += 2,
                _ => return Some(at + 1),
            }
        }
    }

    /// Where a string that ended at `at` goes on: its next quote after white space with a newline.
    /// Only `--` comments may stand between.
    fn continuation(&self, mut at: usize) -> Option<usize> {
        let mut newline = false;
        loop {
            match (self.byte(at)?, self.byte(at + 1)) {
                (b'\n' | b'\r', _) => (newline, at) = (true, at + 1),
                (byte, _) if is_space(byte) => at += 1,
                (b'-', Some(b'-')) => at = self.end_of_line(at),
                (b'\'', _) if newline => return Some(at),
                _ => return None,
            }
        }
    }

    fn string(&self, quote: usize, backslashes: bool) -> (Kind, usize) {
        let mut quote = quote;
        loop {
            let Some(end) = self.end_of_quoted(quote, backslashes) else {
                return (Kind::Unterminated, self.input.len());
            };
            match self.continuation(end) {
                Some(next) => quote = next,
                None => return (Kind::String, end),
            }
        }
    }

    fn identifier(&self, quote: usize, kind: Kind) -> (Kind, usize) {
        match self.end_of_quoted(quote, false) {
            Some(end) => (kind, end),
            None => (Kind::Unterminated, self.input.len()),
        }
    }

    fn word(&self, at: usize) -> (Kind, usize) {
        let (first, next) = (self.input[at] | 0x20, self.byte(at + 1));
        match (first, next, self.byte(at + 2)) {
            (b'e', Some(b'\''), _) => self.string(at + 1, true),
            (b'b' | b'x' | b'n', Some(b'\''), _) => self.string(at + 1, false),
            (b'u', Some(b'&'), Some(b'\'')) => self.string(at + 2, false),
            (b'u', Some(b'&'), Some(b'"')) => self.identifier(at + 2, Kind::UnicodeQuoted),
            _ => (Kind::Word, self.past(at + 1, continues_word)),
        }
    }

    /// What a `$` starts: a parameter, a dollar-quoted string, or nothing.
    fn dollar(&self, at: usize) -> (Kind, usize) {
        let digits = self.past(at + 1, |byte| byte.is_ascii_digit());
        if digits > at + 1 {
            // The protocol numbers parameters up to 65,535. A longer number is somebody's data.
            let kind = if digits - at <= 6 { Kind::Parameter } else { Kind::Number };
            return (kind, digits);
        }
        let tag_end = self.past(at + 1, |byte| continues_word(byte) && byte != b'$');
        if self.byte(tag_end) != Some(b'$') {
            return (Kind::Stray, at + 1);
        }
        let delimiter = &self.input[at..=tag_end];
        let mut from = tag_end + 1;
        loop {
            from = self.past(from, |byte| byte != b'$');
            if from >= self.input.len() {
                return (Kind::Unterminated, self.input.len());
            }
            // A tag has no dollar inside, so this comparison never passes the next dollar.
            if self.input[from..].starts_with(delimiter) {
                return (Kind::String, from + delimiter.len());
            }
            from += 1;
        }
    }

    fn number(&self, at: usize) -> usize {
        let digits = |at| self.past(at, |byte: u8| byte.is_ascii_digit() || byte == b'_');
        let mut end = at;
        let radix =
            self.input[at] == b'0' && self.byte(at + 1).is_some_and(|b| b"xXoObB".contains(&b));
        if !radix {
            end = digits(end);
            // `1..10` is two numbers and a range.
            if self.byte(end) == Some(b'.') && self.byte(end + 1) != Some(b'.') {
                end = digits(end + 1);
            }
            if let (Some(b'e' | b'E'), Some(b'+' | b'-'), Some(b'0'..=b'9')) =
                (self.byte(end), self.byte(end + 1), self.byte(end + 2))
            {
                end = digits(end + 2);
            }
        }
        // Exponents without a sign, digits of another base, and letters PostgreSQL would refuse.
        self.past(end, |byte| byte.is_ascii_digit() || starts_word(byte))
    }

    fn operator(&mut self, at: usize) -> usize {
        if at < self.signs_until {
            return at + 1;
        }
        let mut end = self.past(at, is_operator_byte);
        let run = &self.input[at..end];
        if let Some(comment) = run.windows(2).position(|pair| pair == b"/*" || pair == b"--") {
            end = at + comment;
        }
        // An operator ends in a sign only if it has a byte that no standard operator has.
        let run = &self.input[at..end];
        if !run.iter().any(|byte| b"~!@#%^&|`?".contains(byte)) {
            let trimmed = run.iter().rposition(|byte| !b"+-".contains(byte)).unwrap_or(0) + 1;
            self.signs_until = end;
            return at + trimmed;
        }
        end
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let Some(at) = self.skip_blank(self.at) else {
            let text = &self.input[self.at..];
            self.at = self.input.len();
            return Some(Token { kind: Kind::Unterminated, text });
        };
        let next = self.byte(at + 1);
        let (kind, end) = match self.byte(at)? {
            b'\'' => self.string(at, false),
            b'"' => self.identifier(at, Kind::Quoted),
            b'$' => self.dollar(at),
            b'0'..=b'9' => (Kind::Number, self.number(at)),
            b'.' if next.is_some_and(|byte| byte.is_ascii_digit()) => {
                (Kind::Number, self.number(at))
            }
            b'.' if next == Some(b'.') => (Kind::Punctuation, at + 2),
            b':' if matches!(next, Some(b':' | b'=')) => (Kind::Punctuation, at + 2),
            b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b':' => (Kind::Punctuation, at + 1),
            byte if starts_word(byte) => self.word(at),
            byte if is_operator_byte(byte) => {
                let end = self.operator(at);
                let lone = &self.input[at..end] == b"?";
                (if lone { Kind::Placeholder } else { Kind::Operator }, end)
            }
            _ => (Kind::Stray, at + 1),
        };
        self.at = end;
        Some(Token { kind, text: &self.input[at..end] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(sql: &str) -> Vec<(Kind, &str)> {
        Lexer::new(sql.as_bytes())
            .map(|token| (token.kind, std::str::from_utf8(token.text).expect("cut in UTF-8")))
            .collect()
    }

    /// Each of `texts` is one token of this kind.
    fn one(kind: Kind, texts: &[&str]) {
        for text in texts {
            assert_eq!(tokens(text), [(kind, *text)], "{text}");
        }
    }

    #[test]
    fn strings_of_every_quoting() {
        one(
            Kind::String,
            &[
                "''",
                "'a''b'",
                "'back\\'",
                r"E'it\'s'",
                r"e'\\'",
                "b'01'",
                "X'1F'",
                "n'x'",
                "U&'\\0041'",
                "u&'!'",
                "$$a'b$$",
                "$tag$ $$ $ta$ $tag$",
                "$é1$x$é1$",
                "'a'\n'b'",
                "'a' -- why\n  'b'",
                "E'a'\n'it\\'s'",
            ],
        );
        assert_eq!(tokens("'a' 'b'").len(), 2, "no newline, no continuation");
        assert_eq!(tokens("'a' /*\n*/ 'b'").len(), 2);
    }

    #[test]
    fn words_and_quoted_identifiers() {
        one(Kind::Word, &["a", "_a1", "tbl1", "a$b$c", "größe", "select", "e", "u"]);
        one(Kind::Quoted, &["\"a\"\"b\"", "\"\"", "\"a'b\""]);
        one(Kind::UnicodeQuoted, &["U&\"d\\0061t\"", "u&\"\""]);
        assert_eq!(tokens("\"a\" \"b\"").len(), 2);
        assert_eq!(tokens("u & \"a\"").len(), 3);
        assert_eq!(
            Lexer::new(b"\xe9t\xe9 a").map(|token| token.text.len()).collect::<Vec<_>>(),
            [3, 1]
        );
    }

    #[test]
    fn numbers() {
        one(
            Kind::Number,
            &[
                "0", "42", "1_000", ".5", "3.", "3.5", "1e10", "1e-10", "1.5E+3", ".5e1", "0x1F",
                "0o17", "0b1", "1.e5", "123abc", "0xzz", "1e",
            ],
        );
        assert_eq!(
            tokens("1..10"),
            [(Kind::Number, "1"), (Kind::Punctuation, ".."), (Kind::Number, "10")]
        );
        assert_eq!(tokens("0x1e-5").len(), 3);
        assert_eq!(tokens("-1"), [(Kind::Operator, "-"), (Kind::Number, "1")]);
        assert_eq!(tokens("1.5.3").len(), 2);
    }

    #[test]
    fn parameters_and_dollars() {
        one(Kind::Parameter, &["$1", "$65535"]);
        one(Kind::Number, &["$5551234567"]);
        one(Kind::Stray, &["$", "\\", "{"]);
        assert_eq!(tokens("$tag x"), [(Kind::Stray, "$"), (Kind::Word, "tag"), (Kind::Word, "x")]);
        assert_eq!(tokens("a$1"), [(Kind::Word, "a$1")]);
    }

    #[test]
    fn operators() {
        one(Kind::Operator, &["=", "->>", "?|", "@-", "<=", "||", "=?"]);
        one(Kind::Placeholder, &["?"]);
        assert_eq!(tokens("=-"), [(Kind::Operator, "="), (Kind::Operator, "-")]);
        assert_eq!(tokens("<+-+a").len(), 5);
        assert_eq!(tokens("*/**/+"), [(Kind::Operator, "*"), (Kind::Operator, "+")]);
        assert_eq!(tokens("=--x\n1"), [(Kind::Operator, "="), (Kind::Number, "1")]);
        assert_eq!(tokens("a::b:=c:d").len(), 7);
    }

    #[test]
    fn comments_nest_and_vanish() {
        assert_eq!(tokens("/* a /* b */ c */ x -- y\r z /**/"), tokens("x z"));
    }

    #[test]
    fn what_has_no_end_reaches_to_the_end() {
        for text in ["'a ", "E'a\\'", "\"a", "U&\"a", "$$a$", "$a$ $b$", "/* /* */", "'a'\n'b"] {
            one(Kind::Unterminated, &[text]);
        }
        assert_eq!(tokens("E'a\\"), [(Kind::Unterminated, "E'a\\")]);
    }
}
