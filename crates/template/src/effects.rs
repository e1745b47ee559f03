//! Lives here: the words for what a text does: its class, its effects on a session, its verbs.
//! Does not live here: how they are found.

use bitflags::bitflags;
use std::fmt;

/// What a text does to data, of several statements the strongest: `Ddl` over `Dml` over `Other`
/// over `Dql`.
///
/// It follows the levels of PostgreSQL's `log_statement`, so TRUNCATE is `Dml` and GRANT is `Ddl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Reads: SELECT, VALUES, TABLE, SHOW, WITH that only reads, COPY … TO. A function that is
    /// called may still write.
    Dql,
    /// Everything else, and a text without a statement: BEGIN, SET, EXPLAIN, EXECUTE, CALL, DO, …
    Other,
    /// Changes rows: INSERT, UPDATE, DELETE, MERGE, TRUNCATE, COPY … FROM, WITH that holds one.
    Dml,
    /// Changes definitions: CREATE, ALTER, DROP, GRANT, REVOKE, COMMENT, SELECT … INTO, …
    Ddl,
}

impl Class {
    /// In lower case, for a log or a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dql => "dql",
            Self::Other => "other",
            Self::Dml => "dml",
            Self::Ddl => "ddl",
        }
    }
}

bitflags! {
    /// What a text may leave behind in its session, or needs of it.
    ///
    /// Judged by tokens and in doubt set. What hides in the body of a function, of a DO block or of
    /// a prepared statement is not seen.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Effects: u16 {
        /// SET or RESET for the session, or a call of `set_config` that is not certainly for the
        /// transaction only. SET LOCAL, SET TRANSACTION and SET CONSTRAINTS do not count.
        const SETTINGS = 1;
        /// A call of `pg_advisory_lock…` or `pg_try_advisory_lock…`, which outlive the transaction.
        const ADVISORY_LOCK = 1 << 1;
        /// CREATE TEMP …, INTO TEMP …, or a mention of `pg_temp`.
        const TEMP = 1 << 2;
        /// LISTEN. UNLISTEN leaves nothing behind.
        const LISTEN = 1 << 3;
        /// DECLARE … WITH HOLD.
        const HOLD = 1 << 4;
        /// PREPARE name AS.
        const PREPARE = 1 << 5;
        /// DEALLOCATE.
        const DEALLOCATE = 1 << 6;
        /// DISCARD.
        const DISCARD = 1 << 7;
        /// LOAD.
        const LOAD = 1 << 8;
        /// Opens, closes or divides a transaction: BEGIN, START TRANSACTION, COMMIT, END, ROLLBACK,
        /// ABORT, SAVEPOINT, RELEASE, PREPARE TRANSACTION.
        const TRANSACTION = 1 << 9;
    }
}

/// The first keyword of each of the first [`Verbs::MOST`] statements, in lower case.
///
/// Only verbs of PostgreSQL come out; any other start of a statement is [`Verbs::UNKNOWN`]. So they
/// are fit for the label of a metric.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verbs {
    names: [&'static str; Self::MOST],
    len: u8,
}

impl Verbs {
    /// How many are kept.
    pub const MOST: usize = 8;

    /// Stands for a start that is no verb of PostgreSQL.
    pub const UNKNOWN: &'static str = "unknown";

    pub(crate) fn new() -> Self {
        Self { names: [""; Self::MOST], len: 0 }
    }

    pub(crate) fn push(&mut self, verb: &'static str) {
        if let Some(place) = self.names.get_mut(usize::from(self.len)) {
            *place = verb;
            self.len += 1;
        }
    }

    /// In the order of the statements.
    #[must_use]
    pub fn as_slice(&self) -> &[&'static str] {
        &self.names[..usize::from(self.len)]
    }
}

impl fmt::Debug for Verbs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(formatter)
    }
}
