//! A migration file as single statements.
//!
//! Only the tokens are looked at: where a statement ends, and which word it begins with. Whether it is one
//! statement is then up to the server, which takes exactly one in the extended protocol.

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

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

impl Statement {
    /// Its first words, as one would call it.
    pub(super) fn name(&self) -> String {
        let words = self.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| !word.is_empty()).take(2).collect::<Vec<_>>().join(" ").to_uppercase()
    }

    /// The line in the file of a position that the server gives: a character of the text, from 1.
    pub(super) fn line_of(&self, position: u32) -> u64 {
        let before = usize::try_from(position).map_or(0, |position| position.saturating_sub(1));
        self.text.chars().take(before).fold(self.line, |line, c| line + u64::from(c == '\n'))
    }
}

/// What to do with a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Run it.
    Run,
    /// It begins or commits a transaction, or sets one up: the whole check is one that is never committed.
    TransactionControl,
    /// It makes, releases or rolls back to a savepoint of the migration's own. To be run by itself: within a
    /// savepoint of ours, its own would go with ours.
    Savepoint,
    /// It is a COPY … FROM STDIN: what follows is data and not SQL, so nothing after it is split.
    NeedsData,
    /// It can't run in a transaction, or ends what a session holds, and can't affect a claim.
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
    // Editors on Windows put a byte order mark first; psql passes over it too.
    let file = file.strip_prefix('\u{feff}').unwrap_or(file);
    let dialect = PostgreSqlDialect {};
    let mut tokens = Vec::new();
    // The text as it was written, escapes and all: it is sent on, not interpreted.
    let read = Tokenizer::new(&dialect, file)
        .with_unescape(false)
        .tokenize_with_location_into_buf(&mut tokens);
    let statements = assemble(file, &tokens)?;
    if statements.last().is_some_and(|last| last.kind == Kind::NeedsData) {
        return Ok(statements);
    }
    read.map_err(|error| Unreadable { line: error.location.line, message: error.message })?;
    Ok(statements)
}

fn assemble(file: &str, tokens: &[TokenWithSpan]) -> Result<Vec<Statement>, Unreadable> {
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
    for token in tokens {
        let (line, column) = (token.span.start.line, token.span.start.column);
        match &token.token {
            Token::Whitespace(_) => {}
            Token::SemiColon if current.depth == 0 => {
                current.finish(file, offset(line, column), &mut statements)?;
                if statements.last().is_some_and(|last| last.kind == Kind::NeedsData) {
                    return Ok(statements);
                }
            }
            Token::Backslash => {
                return Err(Unreadable {
                    line,
                    message: "psql's backslash commands can't be checked; give plain SQL"
                        .to_owned(),
                });
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
    /// It is a COPY … FROM STDIN.
    wants_data: bool,
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
        let is_copy = self.first.first().is_some_and(|first| first == "COPY");
        self.wants_data |= is_copy && word == "STDIN" && self.previous == "FROM";
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
            let kind = match words.wants_data {
                true => Kind::NeedsData,
                false => kind(&words.first).map_err(|message| Unreadable { line, message })?,
            };
            let text = file[start..end].trim_end().to_owned();
            statements.push(Statement { line, text, kind });
        }
        Ok(())
    }
}

fn kind(first: &[String]) -> Result<Kind, String> {
    let words: Vec<&str> = first.iter().map(String::as_str).collect();
    match words[..] {
        ["ROLLBACK", "WORK" | "TRANSACTION", "TO", ..] | ["ROLLBACK", "TO", ..] => {
            Ok(Kind::Savepoint)
        }
        ["PREPARE", "TRANSACTION", ..] | ["COMMIT" | "ROLLBACK", "PREPARED", ..] => {
            Err("two-phase commit can't be checked".to_owned())
        }
        ["ROLLBACK" | "ABORT", ..] => {
            Err("a migration that rolls back has nothing to check".to_owned())
        }
        ["BEGIN" | "COMMIT" | "END", ..]
        | ["START" | "SET", "TRANSACTION", ..]
        | ["SET", "LOCAL", "TRANSACTION", ..] => Ok(Kind::TransactionControl),
        ["SAVEPOINT" | "RELEASE", ..] => Ok(Kind::Savepoint),
        ["VACUUM" | "CHECKPOINT" | "DISCARD", ..]
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
        assert_eq!(split("SELECT 1; SELECT a \\g\n").expect_err("psql").line, 1);
        assert!(split("SELECT 1; ROLLBACK").is_err() && split("PREPARE TRANSACTION 'x'").is_err());
        assert_eq!(split("SELECT 'x").expect_err("unterminated").line, 1);
    }

    #[test]
    fn a_backslash_inside_a_string_or_comment_is_no_command() {
        let file = "SELECT '\n\\d', $$\n\\i x\n$$; /*\n\\q\n*/ -- \\x\nSELECT 2";
        assert_eq!(split(file).expect("plain SQL").len(), 2);
    }

    #[test]
    fn a_copy_is_told_where_it_stands_whatever_its_data_is() {
        for data in ["1\tx\n\\.\n", "it's\n\\.\n", "$$\n\\.\n"] {
            let file = format!(
                "SELECT 1;\nCOPY s.t (a, b, c, d, e) FROM STDIN WITH (FORMAT text);\n{data}"
            );
            let statements = split(&file).expect("SQL up to the COPY");
            assert_eq!(statements.len(), 2, "{data}");
            assert_eq!((statements[1].line, statements[1].kind), (2, Kind::NeedsData), "{data}");
        }
        assert!(split("COPY t FROM '/file'; COPY t TO STDOUT").is_ok());
    }

    #[test]
    fn savepoints_are_told_from_the_end_of_a_transaction() {
        let kind = |text: &str| split(text).expect("readable")[0].kind;
        for text in ["SAVEPOINT a", "RELEASE a", "ROLLBACK TO a", "ROLLBACK WORK TO SAVEPOINT a"] {
            assert_eq!(kind(text), Kind::Savepoint, "{text}");
        }
        assert_eq!(kind("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), Kind::TransactionControl);
        assert_eq!(kind("DISCARD ALL"), Kind::OutsideTransaction);
        for text in ["ROLLBACK", "ABORT WORK", "ROLLBACK AND CHAIN", "ROLLBACK TRANSACTION"] {
            assert!(split(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert_eq!(texts("\u{feff}SELECT 1"), [(1, "SELECT 1".to_owned())]);
    }

    #[test]
    fn nested_comments_and_dollar_tags_hide_what_they_hold() {
        let file =
            "/* a /* b */ COMMIT; */ SELECT $a$ $b$ ; $b$ $a$; SELECT U&'\\0061;', B'01', 1e5";
        assert_eq!(texts(file).len(), 2);
    }
}
