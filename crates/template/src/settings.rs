//! Lives here: which parameters a text sets, and reading the arguments of `set_config`.
//! Does not live here: the grammar of SET (`set.rs`).

use crate::keyword::name_of;
use crate::lexer::{Kind, Lexer, Token};

/// The parameters that SET, RESET and `set_config` touch, each name once, in the order of the text.
///
/// Names are in lower case however they were quoted, because PostgreSQL compares the names of
/// parameters without regard to case. They are the names of parameters only, never values. At most
/// [`Settings::MOST`] are kept in each list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Changed for the session.
    pub names: Vec<String>,
    /// Changed for the running transaction only: SET LOCAL, `set_config(…, true)`.
    pub local: Vec<String>,
    /// RESET ALL was among them.
    pub reset_all: bool,
    /// A name could not be read, or there were too many: any parameter may have changed.
    pub unknown: bool,
}

impl Settings {
    /// How many names each list keeps.
    pub const MOST: usize = 32;

    /// The longest name that is kept, in bytes.
    const LONGEST: usize = 255;

    pub(crate) fn add(&mut self, name: &str, local: bool) {
        let list = if local { &mut self.local } else { &mut self.names };
        let name = name.to_ascii_lowercase();
        if list.contains(&name) {
            return;
        }
        if list.len() < Self::MOST {
            list.push(name);
        } else {
            self.unknown = true;
        }
    }
}

/// Reads `a.b` and counts its tokens. `None` if there is none or it is absurdly long.
pub(crate) fn dotted_name(lexer: &mut Lexer<'_>) -> (Option<String>, usize) {
    let mut name = String::new();
    let mut readable = true;
    let mut tokens = 0;
    loop {
        let before = lexer.clone();
        let part = lexer.next();
        let text = part.as_ref().map_or(0, |part| part.text.len());
        let fits = text + name.len() <= Settings::LONGEST;
        match part
            .as_ref()
            .filter(|part| matches!(part.kind, Kind::Word | Kind::Quoted | Kind::UnicodeQuoted))
        {
            Some(part) if fits && readable => match name_of(part) {
                Some(part) => name.push_str(&part),
                None => readable = false,
            },
            Some(_) => readable = false,
            None => {
                *lexer = before;
                return (None, tokens);
            }
        }
        tokens += 1;
        let before = lexer.clone();
        if !lexer.next().is_some_and(|token| token.is_mark(".")) {
            *lexer = before;
            return (readable.then_some(name), tokens);
        }
        tokens += 1;
        if readable {
            name.push('.');
        }
    }
}

/// How far the arguments of one `set_config` are looked at, in tokens. Without a bound, calls
/// within calls would cost the square of the length.
const MOST_ARGUMENT_TOKENS: usize = 32;

/// What a call of `set_config` says about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SetConfig {
    /// The first argument, if it is a plain literal.
    pub(crate) name: Option<String>,
    /// The last argument is the word `true`.
    pub(crate) local: bool,
    /// An argument names the schema of temporary tables.
    pub(crate) temp: bool,
}

impl SetConfig {
    /// Reads on from behind the opening bracket.
    pub(crate) fn read(lexer: &Lexer<'_>) -> Self {
        let mut read = Self::default();
        let (mut depth, mut argument) = (1_u32, 0_usize);
        // The tokens of the argument so far, and whether it is the plain value it should be.
        let (mut tokens, mut plain) = (0_usize, true);
        for token in lexer.clone().take(MOST_ARGUMENT_TOKENS) {
            read.temp |= mentions_temp(token.text);
            if token.is_mark("(") || token.is_mark("[") {
                depth += 1;
            } else if token.is_mark(")") || token.is_mark("]") {
                depth -= 1;
            }
            let ends = depth == 0 || depth == 1 && token.is_mark(",");
            if ends {
                if argument == 0 && !plain {
                    read.name = None;
                }
                if depth == 0 {
                    // A name in a local call that cannot be read is still local.
                    read.local &= argument == 2 && plain && tokens == 1;
                    return read;
                }
                (argument, tokens, plain) = (argument + 1, 0, true);
                continue;
            }
            match (argument, tokens) {
                (0, 0) => read.name = literal(&token),
                (0, 1) => plain = token.is_mark("::"),
                (0, 2) => plain = plain && token.is_word("text"),
                (0, _) => plain = false,
                (2, 0) => read.local = token.is_word("true"),
                _ => {}
            }
            tokens += 1;
        }
        Self { name: None, local: false, temp: read.temp }
    }
}

/// The value of a string without escapes, or `None` if it is none or too long for a name.
fn literal(token: &Token<'_>) -> Option<String> {
    let text = std::str::from_utf8(token.text).ok()?;
    if token.kind != Kind::String || text.len() > Settings::LONGEST {
        return None;
    }
    let value = if let Some(tagged) = text.strip_prefix('$') {
        let tag = tagged.find('$')? + 2;
        &text[tag..text.len() - tag]
    } else {
        let text = text.strip_prefix(['e', 'E']).unwrap_or(text);
        text.strip_prefix('\'')?.strip_suffix('\'')?
    };
    // A quote inside means a doubled or a continued one. No parameter's name has either.
    (!value.contains(['\'', '\\'])).then(|| value.to_owned())
}

/// Whether a name or a string holds `pg_temp`, in any case.
pub(crate) fn mentions_temp(text: &[u8]) -> bool {
    text.windows(7).any(|part| part.eq_ignore_ascii_case(b"pg_temp"))
}
