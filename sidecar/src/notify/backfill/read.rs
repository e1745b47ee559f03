//! Reads chunks, each in a short transaction of its own.

use integratedb_cache::{Snapshot, Xid};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::rows::{Rows, Table};
use super::table;
use super::window::{Key, is_older, sees_all};
use crate::db::DbError;
use crate::replication::{identifier, literal};

/// Values are written as the stream writes them; rows come along the index, and nothing waits for long.
const SETTINGS: &str = "
SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET bytea_output = 'hex';
SET extra_float_digits = 3; SET row_security = off; SET synchronous_commit = 'local';
SET enable_seqscan = off; SET enable_sort = off; SET max_parallel_workers_per_gather = 0; SET jit = off;
SET statement_timeout = '30s'; SET lock_timeout = '2s'; SET idle_in_transaction_session_timeout = '30s'";

/// Bytes of rows beyond which a chunk ends.
const MOST_BYTES: usize = 4 << 20;

/// Rows that are fetched before it is known how large they are, and at most at once.
const FIRST_FETCH: usize = 64;
const MOST_FETCH: usize = 2000;

/// Those who may write to a table, by the lower 32 bits of their ids. One that has written its commit keeps its locks
/// until it is visible.
const HOLDERS: &str = "
SELECT DISTINCT x.transactionid::text::bigint
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_locks x ON x.virtualtransaction = l.virtualtransaction AND x.locktype = 'transactionid'
                          AND x.mode = 'ExclusiveLock' AND x.granted
WHERE l.locktype = 'relation' AND l.relation = $1 AND l.granted
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
  AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')";

/// Why rows were not read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The database, or its connection.
    Database(DbError),
    /// It took too long: fewer at once may do.
    TooSlow,
    /// It can't be read until somebody does something about it.
    Refused(String),
    /// The table is not as it was a moment ago, or not all that has to be seen is visible yet.
    Again,
}

impl From<tokio_postgres::Error> for ReadError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::QUERY_CANCELED) => Self::TooSlow,
            Some(&(SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN)) => Self::Again,
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                let message =
                    error.as_db_error().map_or_else(String::new, |e| e.message().to_owned());
                Self::Refused(message)
            }
            _ => Self::Database(error.into()),
        }
    }
}

impl From<DbError> for ReadError {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'a> {
    /// Rows after this key, at most so many.
    After(Option<&'a [String]>, usize),
    /// Rows with these keys.
    Of(&'a [(i64, Key)]),
}

/// Rows, and the snapshot they were read at.
pub(super) struct Read {
    pub(super) table: Table,
    pub(super) rows: Rows,
    pub(super) at_end: bool,
    pub(super) snapshot: Snapshot,
}

/// A connection to read with.
pub(crate) struct Source<'a>(pub(crate) &'a Client);

impl Source<'_> {
    /// Makes it write values as the stream has them.
    pub(super) async fn prepare(&self) -> Result<(), DbError> {
        Ok(self.0.batch_execute(SETTINGS).await?)
    }

    /// Puts a message into the WAL.
    pub(super) async fn emit(&self, content: &str) -> Result<(), DbError> {
        let sql = "SELECT pg_catalog.pg_logical_emit_message(true, 'integratedb', $1::text)";
        self.0.execute(sql, &[&content]).await?;
        Ok(())
    }

    /// A number that no transaction has that began before.
    pub(crate) async fn next_xid(&self) -> Result<Xid, ReadError> {
        let sql = "SELECT pg_catalog.pg_current_xact_id()::text";
        let text: String = self.0.query_one(sql, &[]).await?.get(0);
        text.parse().map(Xid).map_err(|_| unreadable("pg_current_xact_id()"))
    }

    /// How many of those that began before may still write to a table, or have done so without being visible.
    pub(crate) async fn older_writers(&self, table: u32, floor: Xid) -> Result<usize, ReadError> {
        let holders = self.0.query(HOLDERS, &[&table]).await?;
        let older = |row: &&tokio_postgres::Row| {
            u32::try_from(row.get::<_, i64>(0)).is_ok_and(|xid| is_older(xid, floor))
        };
        Ok(holders.iter().filter(older).count())
    }

    /// Reads rows of a table that looked like this a moment ago, at a snapshot that sees all of `before`.
    pub(super) async fn read(
        &self,
        table: &Table,
        which: Which<'_>,
        before: &[u32],
    ) -> Result<Read, ReadError> {
        self.0.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let read = self.read_within(table, which, before).await;
        let ended = self.0.batch_execute("ROLLBACK").await;
        let read = read?;
        ended?;
        Ok(read)
    }

    async fn read_within(
        &self,
        table: &Table,
        which: Which<'_>,
        before: &[u32],
    ) -> Result<Read, ReadError> {
        let relation = &table.relation;
        let name = format!("{}.{}", identifier(&relation.schema), identifier(&relation.name));
        // Before the snapshot: to one taken earlier, a table that is just being rewritten would look empty (manual,
        // "Caveats" of "Concurrency Control").
        self.0.batch_execute(&format!("LOCK TABLE ONLY {name} IN ACCESS SHARE MODE")).await?;
        let sql = "SELECT pg_catalog.pg_current_snapshot()::text";
        let snapshot: String = self.0.query_one(sql, &[]).await?.get(0);
        let snapshot: Snapshot =
            snapshot.parse().map_err(|_| unreadable("pg_current_snapshot()"))?;
        if !sees_all(&snapshot, before) {
            return Err(ReadError::Again);
        }
        let now = table::look(self.0, relation.oid).await?.map_err(ReadError::Refused)?;
        // Another table has the name now, or another key: what was planned does not hold.
        if (&now.relation.schema, &now.relation.name) != (&relation.schema, &relation.name)
            || now.numbers != table.numbers
        {
            return Err(ReadError::Again);
        }
        let place = |name: &String| now.relation.columns.iter().position(|c| c.name == *name);
        let Some(key) = now.key.iter().map(place).collect::<Option<Vec<usize>>>() else {
            return Err(ReadError::Again);
        };
        let mut rows = Rows::default();
        let most = match which {
            Which::After(_, most) => most,
            Which::Of(keys) => keys.len(),
        };
        let sql = format!("DECLARE chunk NO SCROLL CURSOR FOR {}", select(&now, &name, which));
        self.0.batch_execute(&sql).await?;
        let (mut got, mut fetch) = (0, FIRST_FETCH);
        let at_end = loop {
            let wanted = fetch.min(most - got);
            if wanted == 0 {
                break false;
            }
            let fetched = self.fetch(wanted, &key, &mut rows).await?;
            got += fetched;
            if fetched < wanted {
                break true;
            }
            if rows.bytes() >= MOST_BYTES && matches!(which, Which::After(..)) {
                break false;
            }
            let fit = (MOST_BYTES - rows.bytes().min(MOST_BYTES)) / (rows.bytes() / got).max(1);
            fetch = fit.clamp(1, MOST_FETCH);
        };
        Ok(Read { table: now, rows, at_end, snapshot })
    }

    async fn fetch(&self, most: usize, key: &[usize], rows: &mut Rows) -> Result<usize, ReadError> {
        let mut count = 0;
        for message in self.0.simple_query(&format!("FETCH {most} FROM chunk")).await? {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let texts: Vec<Option<&str>> =
                (0..row.len()).map(|place| row.try_get(place)).collect::<Result<_, _>>()?;
            rows.push(&texts, key);
            count += 1;
        }
        Ok(count)
    }
}

/// The query for some rows. The simple protocol gives values as the functions of their types write them, as the stream
/// does; a cast to text would not.
fn select(table: &Table, name: &str, which: Which<'_>) -> String {
    let list = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>().join(", ");
    let columns = list(&mut table.relation.columns.iter().map(|column| identifier(&column.name)));
    let key = list(&mut table.key.iter().map(|name| identifier(name)));
    let values = |texts: &[String]| format!("({})", list(&mut texts.iter().map(|t| literal(t))));
    match which {
        Which::After(last, most) => {
            let after = last.map(|last| format!(" WHERE ({key}) > {}", values(last)));
            let after = after.unwrap_or_default();
            format!("SELECT {columns} FROM ONLY {name}{after} ORDER BY {key} LIMIT {most}")
        }
        Which::Of(keys) => {
            let keys = list(&mut keys.iter().map(|(_, key)| values(&key.texts())));
            format!("SELECT {columns} FROM ONLY {name} WHERE ({key}) IN ({keys})")
        }
    }
}

fn unreadable(what: &str) -> ReadError {
    ReadError::Database(DbError::Unexpected(format!("{what} can't be read")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::replication::{Column, Relation, ReplicaIdentity};

    #[test]
    fn names_and_values_are_quoted() {
        let column =
            |name: &str| Column { name: name.to_owned(), type_oid: 25, modifier: -1, is_key: true };
        let relation = Arc::new(Relation {
            oid: 1,
            schema: "s".to_owned(),
            name: "t\"".to_owned(),
            identity: ReplicaIdentity::Default,
            columns: vec![column("b"), column("a")],
        });
        let key = vec!["a".to_owned(), "b".to_owned()];
        let table = Table { relation, key, numbers: vec![1, 2], estimated: 0 };
        let last = ["it's".to_owned(), "\\".to_owned()];
        assert_eq!(
            select(&table, "s.t", Which::After(Some(&last), 3)),
            "SELECT \"b\", \"a\" FROM ONLY s.t WHERE (\"a\", \"b\") > (E'it''s', E'\\\\') ORDER BY \"a\", \"b\" LIMIT 3"
        );
        let key = Key::of([Some(&b"1"[..]), Some(b"2")].into_iter()).expect("values");
        assert_eq!(
            select(&table, "s.t", Which::Of(&[(1, key)])),
            "SELECT \"b\", \"a\" FROM ONLY s.t WHERE (\"a\", \"b\") IN ((E'1', E'2'))"
        );
    }
}
