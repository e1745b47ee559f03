//! A migration file as single statements.
//!
//! Only the tokens are looked at: where a statement ends, and which word it begins with. Whether it is one
//! statement is then up to the server, which takes exactly one in the extended protocol.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

/// One statement of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// The line it begins on, from 1.
    pub(super) line: u64,
    /// Its text, without the semicolon.
    pub(super) text: String,
    /// What to do with it.
    pub(super) kind: Kind,
}

/// What to do with a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Run it.
    Run,
    /// It begins or commits a transaction: the whole check is one that is never committed.
    TransactionControl,
    /// It can't run in a transaction, and can't affect a claim.
    OutsideTransaction,
}

/// Why a file can't be split.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub(super) struct Unreadable {
    /// The line, from 1.
    line: u64,
    /// What is wrong there.
    message: String,
}

/// Splits a file into its statements.
pub(super) fn split(file: &str) -> Result<Vec<Statement>, Unreadable> {
    if let Some(line) = file.lines().position(|line| line.trim_start().starts_with('\\')) {
        return Err(Unreadable {
            line: line as u64 + 1,
            message: "psql's backslash commands can't be checked; give plain SQL".to_owned(),
        });
    }
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, file)
        // The text as it was written, escapes and all: it is sent on, not interpreted.
        .with_unescape(false)
        .tokenize_with_location()
        .map_err(|error| Unreadable { line: error.location.line, message: error.message })?;
    let offsets: Vec<usize> =
        std::iter::once(0).chain(file.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let offset = |line: u64, column: u64| {
        let start =
            usize::try_from(line).ok().and_then(|n| offsets.get(n.checked_sub(1)?).copied());
        let rest = &file[start.unwrap_or(file.len())..];
        let column = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
        let within = rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at);
        start.unwrap_or(file.len()) + within
    };

    let mut statements = Vec::new();
    let mut current = Words::default();
    for token in &tokens {
        let (line, column) = (token.span.start.line, token.span.start.column);
        match &token.token {
            Token::Whitespace(_) => {}
            Token::SemiColon if current.depth == 0 => {
                current.finish(file, offset(line, column), &mut statements)?;
            }
            other => {
                if current.start.is_none() {
                    current.start = Some((line, offset(line, column)));
                }
                if let Token::Word(word) = other {
                    current.word(&word.value, word.quote_style.is_some());
                } else {
                    current.previous.clear();
                }
            }
        }
    }
    current.finish(file, file.len(), &mut statements)?;
    Ok(statements)
}

/// The statement being read: its first words, and how deep in BEGIN ATOMIC … END it is.
#[derive(Default)]
struct Words {
    start: Option<(u64, usize)>,
    first: Vec<String>,
    previous: String,
    depth: usize,
}

impl Words {
    fn word(&mut self, value: &str, is_quoted: bool) {
        let word = if is_quoted { String::new() } else { value.to_uppercase() };
        match word.as_str() {
            // The body of an SQL-standard function has semicolons of its own, and CASE … END too.
            "ATOMIC" if self.previous == "BEGIN" => self.depth += 1,
            "CASE" if self.depth > 0 => self.depth += 1,
            "END" if self.depth > 0 => self.depth -= 1,
            _ => {}
        }
        if self.first.len() < 6 {
            self.first.push(word.clone());
        }
        self.previous = word;
    }

    fn finish(
        &mut self,
        file: &str,
        end: usize,
        statements: &mut Vec<Statement>,
    ) -> Result<(), Unreadable> {
        let words = std::mem::take(self);
        if let Some((line, start)) = words.start {
            let kind = kind(&words.first).map_err(|message| Unreadable { line, message })?;
            let text = file[start..end].trim_end().to_owned();
            statements.push(Statement { line, text, kind });
        }
        Ok(())
    }
}

fn kind(first: &[String]) -> Result<Kind, String> {
    let words: Vec<&str> = first.iter().map(String::as_str).collect();
    match words[..] {
        ["ROLLBACK" | "ABORT"] | ["ROLLBACK" | "ABORT", "WORK" | "TRANSACTION" | "AND", ..] => {
            Err("a migration that rolls back has nothing to check".to_owned())
        }
        ["PREPARE", "TRANSACTION", ..] | ["COMMIT" | "ROLLBACK", "PREPARED", ..] => {
            Err("two-phase commit can't be checked".to_owned())
        }
        ["BEGIN" | "COMMIT" | "END", ..] | ["START", "TRANSACTION", ..] => {
            Ok(Kind::TransactionControl)
        }
        ["VACUUM" | "CHECKPOINT", ..]
        | ["ALTER", "SYSTEM", ..]
        | ["CREATE", "INDEX", "CONCURRENTLY", ..]
        | ["CREATE", "UNIQUE", "INDEX", "CONCURRENTLY", ..]
        | ["DROP", "INDEX", "CONCURRENTLY", ..]
        | ["REINDEX", ..]
        | ["CREATE" | "DROP" | "ALTER", "DATABASE" | "TABLESPACE" | "SUBSCRIPTION", ..] => {
            Ok(Kind::OutsideTransaction)
        }
        _ => Ok(Kind::Run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(file: &str) -> Vec<(u64, String)> {
        split(file).expect("readable").into_iter().map(|s| (s.line, s.text)).collect()
    }

    #[test]
    fn semicolons_in_strings_comments_and_bodies_do_not_split() {
        let file = "-- a; comment\nSELECT 'a;b', $x$ ; $x$ /* ; */;\n\
                    CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; \
                    SELECT CASE WHEN true THEN 1 END; END;\nSELECT \"é;\" ;; SELECT E'\\';'";
        let all = texts(file);
        assert_eq!(all.len(), 4);
        assert_eq!(all[0], (2, "SELECT 'a;b', $x$ ; $x$ /* ; */".to_owned()));
        assert!(all[1].1.ends_with("END; END"));
        assert_eq!(all[2], (4, "SELECT \"é;\"".to_owned()));
        assert_eq!(all[3].1, "SELECT E'\\';'");
    }

    #[test]
    fn a_commit_is_never_run() {
        let kinds: Vec<Kind> =
            split("BEGIN; /* x */ commit; END WORK; START TRANSACTION; SELECT 1")
                .expect("readable")
                .into_iter()
                .map(|s| s.kind)
                .collect();
        assert_eq!(kinds[..4], [Kind::TransactionControl; 4]);
        assert_eq!(kinds[4], Kind::Run);
    }

    #[test]
    fn what_cannot_be_checked_is_refused_with_its_line() {
        let error = split("SELECT 1;\n\\i other.sql").expect_err("psql");
        assert_eq!(error.line, 2);
        assert!(split("SELECT 1; ROLLBACK").is_err() && split("PREPARE TRANSACTION 'x'").is_err());
        assert_eq!(split("SELECT 'x").expect_err("unterminated").line, 1);
        assert!(split("ROLLBACK TO SAVEPOINT a").is_ok());
    }
}
