//! Lives here: SET and RESET: which parameter they name, and hiding the value.
//! Does not live here: `set_config` (`settings.rs`).
//!
//! A value of SET need not be quoted, so that no rule for tokens finds it. Everything that is not
//! the name is taken for the value.

use crate::effects::Effects;
use crate::keyword::Keyword;
use crate::lexer::{Kind, Token};
use crate::reader::Reader;
use crate::settings::{dotted_name, mentions_temp};
use crate::template::ELLIPSIS;

/// Whose parameters a SET changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The session's, or the transaction's.
    Session,
    /// Those a role, a database or the system has stored.
    Stored,
    /// Those that hold while a function runs. Its other options may follow the value.
    Function,
}

fn assigns(token: &Token<'_>) -> bool {
    token.is_operator("=") || token.is_word("to")
}

impl<'a> Reader<'a> {
    /// Reads on from behind SET.
    pub(crate) fn set_clause(&mut self, owner: Owner) {
        let (local, session) =
            if owner == Owner::Session { self.modifiers() } else { (false, false) };
        let mut ahead = self.lexer.clone();
        let (name, tokens) = dotted_name(&mut ahead);
        let mut after = ahead.clone();
        let next = after.next();
        if next.as_ref().is_some_and(assigns) {
            self.words(tokens);
            self.lexer.next();
            self.operator_equals();
        } else if next.is_some_and(|token| token.is_word("from"))
            && after.next().is_some_and(|token| token.is_word("current"))
        {
            self.words(tokens);
            return self.record(owner, name.as_deref(), local);
        } else if let Some(first) = self.peek().as_ref().and_then(Keyword::of) {
            let second = {
                let mut ahead = self.lexer.clone();
                ahead.next();
                ahead.next()
            };
            let second = second.as_ref().and_then(Keyword::of);
            let (name, words) = match (first, second) {
                // Names and keywords only, which the template keeps.
                (Keyword::Transaction | Keyword::Constraints, _) if owner == Owner::Session => {
                    return;
                }
                (Keyword::Characteristics, _) if session => {
                    for name in ["isolation", "read_only", "deferrable"] {
                        self.record(owner, Some(&format!("default_transaction_{name}")), local);
                    }
                    return;
                }
                (Keyword::Schema | Keyword::Tablespace, _) if owner != Owner::Session => return,
                // Who logged in, again: nothing that another session could find.
                (Keyword::Authorization, Some(Keyword::Default)) if session => {
                    self.words(1);
                    return self.value(owner);
                }
                (Keyword::Authorization, _) if session => (Some("session_authorization"), 1),
                (Keyword::Time, Some(Keyword::Zone)) => (Some("timezone"), 2),
                (Keyword::Xml, Some(Keyword::Option)) => (Some("xmloption"), 2),
                (Keyword::Role, _) => (Some("role"), 1),
                (Keyword::Schema, _) => (Some("search_path"), 1),
                (Keyword::Names, _) => (Some("client_encoding"), 1),
                _ => (name.as_deref(), tokens),
            };
            self.words(words);
            self.value(owner);
            return self.record(owner, name, local);
        } else {
            self.words(tokens);
        }
        self.value(owner);
        self.record(owner, name.as_deref(), local);
    }

    /// Writes SESSION and LOCAL where they are no names: whether the one and the other were there.
    fn modifiers(&mut self) -> (bool, bool) {
        let (mut local, mut session) = (false, false);
        loop {
            let mut ahead = self.lexer.clone();
            let word = ahead.next().as_ref().and_then(Keyword::of);
            let is_name = ahead.next().is_some_and(|next| assigns(&next) || next.is_mark("."));
            match word {
                Some(Keyword::Local) if !is_name => local = true,
                Some(Keyword::Session) if !is_name => session = true,
                _ => return (local, session),
            }
            self.words(1);
        }
    }

    /// Writes the next tokens of a name.
    fn words(&mut self, tokens: usize) {
        for _ in 0..tokens {
            match self.lexer.next() {
                Some(token) if token.is_mark(".") => self.dot(),
                Some(token) if self.is_cut_mark(&token) => self.writer.end(),
                Some(token) => {
                    self.write_word(&token);
                }
                None => {}
            }
        }
    }

    /// Reads over a value and writes `?`, or DEFAULT.
    fn value(&mut self, owner: Owner) {
        let (mut tokens, mut only) = (0_usize, None);
        // In the options of a function: whether a value is complete, so that only a comma goes on.
        let mut complete = false;
        let mut here = self.lexer.clone();
        while let Some(token) = self.lexer.next() {
            let sign = token.is_operator("-") || token.is_operator("+");
            let past_value = owner == Owner::Function && complete && !token.is_mark(",");
            if token.is_mark(";") || past_value || self.is_cut_mark(&token) {
                self.lexer = here;
                break;
            }
            complete = !sign && !token.is_mark(",");
            if owner == Owner::Session && mentions_temp(token.text) {
                self.effects |= Effects::TEMP;
            }
            (tokens, only) = (tokens + 1, Some(token));
            here = self.lexer.clone();
        }
        match only.filter(|_| tokens == 1) {
            Some(token) if token.is_word("default") => {
                self.write_word(&token);
            }
            // Where the template was cut, it is cut again.
            None if tokens == 0
                && self.peek().is_some_and(|next| next.text == ELLIPSIS.as_bytes()) => {}
            _ => self.constant(),
        }
    }

    fn record(&mut self, owner: Owner, name: Option<&str>, local: bool) {
        if owner != Owner::Session {
            return;
        }
        if !local {
            self.effects |= Effects::SETTINGS;
        }
        match name {
            Some(name) => self.settings.add(name, local),
            None => self.settings.unknown = true,
        }
    }

    /// Reads what RESET names, which the template keeps.
    pub(crate) fn reset(&mut self) {
        let mut ahead = self.lexer.clone();
        let (name, _) = dotted_name(&mut ahead);
        let first = self.peek().filter(|token| token.kind == Kind::Word);
        let second = ahead.next();
        let second = second.as_ref().and_then(Keyword::of);
        let first = first.as_ref().and_then(Keyword::of);
        // Who logged in, again: nothing that another session could find.
        if (first, second) == (Some(Keyword::Session), Some(Keyword::Authorization)) {
            return;
        }
        self.effects |= Effects::SETTINGS;
        match (first, second) {
            (Some(Keyword::All), None) => self.settings.reset_all = true,
            (Some(Keyword::Time), Some(Keyword::Zone)) => self.settings.add("timezone", false),
            _ => match name {
                Some(name) => self.settings.add(&name, false),
                None => self.settings.unknown = true,
            },
        }
    }
}
