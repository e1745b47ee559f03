//! Lives here: `Shape`, what the tokens of a text say about it, and the tests of its rules.
//! Does not live here: how it is found (`reader.rs`).

use crate::effects::{Class, Effects, Verbs};
use crate::reader::Reader;
use crate::settings::Settings;

/// What the tokens of a text say about it. Found without parsing, so also for a text that
/// PostgreSQL would refuse.
///
/// # The template
///
/// - Every string, number and bit string is `?`. Signs before it that subtract from nothing are
///   part of it. What has no end (a string, a comment, a quoted identifier) is `?`, and the last.
/// - Words are in lower case, quoted identifiers as written, comments gone, one space where there
///   is any. Semicolons that end nothing are gone. `$n`, TRUE, FALSE and NULL stay.
/// - A bracket that holds only constants and parameters keeps the first of them: `in (1, 2, 3)`
///   becomes `in (?)`, `array[$2, $3]` becomes `array[$2]`. Arguments of a function keep their
///   number. After such a bracket others like it are dropped, and of the rows of VALUES those that
///   repeat the row before but for the numbers of parameters: `values (1, 2), (3, 4)` becomes
///   `values (?)`, and `values (default, 1), (default, 2)` becomes `values (default, ?)`.
/// - The value of SET is `?` however it is written, and so are the names in SET ROLE and SET
///   SESSION AUTHORIZATION: `SET a TO b, c` becomes `set a = ?`. DEFAULT stays. The same holds for
///   SET in ALTER ROLE, ALTER USER, ALTER DATABASE, ALTER SYSTEM and the options of a function.
///   What follows PASSWORD in the definition of a role is `?`.
/// - It is at most [`MAX_TEMPLATE`](crate::MAX_TEMPLATE) bytes. A longer one is cut after a whole
///   token and ends in `…`.
///
/// The template of a template is itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The text without its constants.
    pub template: String,
    /// How many statements there are, empty ones not counted.
    pub statements: u32,
    /// What each statement starts with.
    pub verbs: Verbs,
    /// What the statements do to data; of several the strongest. `Other` if there is none.
    pub class: Class,
    /// What the statements do to the session.
    pub effects: Effects,
    /// Which parameters the statements set.
    pub settings: Settings,
}

impl Shape {
    /// Reads `sql` once. The time is linear in its length; beyond the template and the names of
    /// parameters nothing is kept.
    #[must_use]
    pub fn of(sql: &[u8]) -> Self {
        Reader::new(sql).read()
    }

    /// Whether it may be another for a text that has other numbers and strings: of all but statements that read or change
    /// rows, and do nothing to their session.
    #[must_use]
    pub fn depends_on_values(&self) -> bool {
        let verbs = self.verbs.as_slice();
        let is_of_rows = |verb: &&str| {
            ["select", "values", "table", "with", "insert", "update", "delete", "merge"]
                .contains(verb)
        };
        verbs.len() != self.statements as usize
            || !verbs.iter().all(is_of_rows)
            || !matches!(self.class, Class::Dql | Class::Dml)
            || !self.effects.is_empty()
            || self.settings != Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_reads_and_changes_rows_is_the_same_for_all_values() {
        let depends = |sql: &str| Shape::of(sql.as_bytes()).depends_on_values();
        for sql in
            ["select 1", "select 'x'; insert into t values (1)", "delete from t where a = 'b'"]
        {
            assert!(!depends(sql), "{sql}");
        }
        for sql in [
            "",
            "set a = 1",
            "select set_config('a.b', 'c', false)",
            "select set_config('a.b', 'c', true)",
            "select pg_advisory_lock(1)",
            "alter role x password 'y'",
            "begin",
            "select 1; commit",
            "set session authorization default 'pg_temp'; insert into t values (1)",
            "select 1;select 1;select 1;select 1;select 1;select 1;select 1;select 1;set a = 1",
        ] {
            assert!(depends(sql), "{sql}");
        }
    }
}
