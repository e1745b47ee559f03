//! Backfills in the sidecar's database: what was asked for, and how far each is.

use serde::Deserialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient, Row, Transaction};
use utoipa::ToSchema;

use super::meeting::Left;
use super::window::Key;
use crate::db::DbError;
use crate::notify::log::LogError;

/// A backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// Its id.
    pub id: i64,
    /// Whom it is for.
    pub stakeholder: i64,
    /// The schema as the stakeholder's spec has it.
    pub schema: String,
    /// The table as the stakeholder's spec has it.
    pub table: String,
    /// `pending`, `running`, `paused`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// The most rows of a chunk.
    pub chunk_rows: i32,
    /// Rows that were gone through.
    pub rows_done: i64,
    /// About how many there were when it was asked for.
    pub rows_estimated: i64,
    /// What is wrong, and what to do about it.
    pub error: Option<String>,
    /// When it was asked for, as RFC 3339 has times.
    pub inserted_at: String,
    /// When it first began.
    pub started_at: Option<String>,
    /// When something last changed.
    pub updated_at: String,
    /// When it was over.
    pub finished_at: Option<String>,
}

const COLUMNS: &str = "id, stakeholder_id, schema_name, table_name, state, chunk_rows, rows_done, rows_estimated, error,
    to_char(inserted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
    to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
    to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'),
    to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

impl From<Row> for Backfill {
    fn from(row: Row) -> Self {
        Self {
            id: row.get(0),
            stakeholder: row.get(1),
            schema: row.get(2),
            table: row.get(3),
            state: row.get(4),
            chunk_rows: row.get(5),
            rows_done: row.get(6),
            rows_estimated: row.get(7),
            error: row.get(8),
            inserted_at: row.get(9),
            started_at: row.get(10),
            updated_at: row.get(11),
            finished_at: row.get(12),
        }
    }
}

/// Where a backfill is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackfillState {
    /// It waits for its turn.
    Pending,
    /// Rows are read.
    Running,
    /// Somebody has it wait.
    Paused,
    /// All rows were told.
    Done,
    /// It can't go on.
    Failed,
    /// Somebody has ended it.
    Cancelled,
}

impl BackfillState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What people ask of a backfill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To wait where it is.
    Pause,
    /// To go on; one that has failed begins again.
    Resume,
    /// To end.
    Cancel,
}

/// Notes a new backfill; `None` if there is one of that table under way for that stakeholder.
pub async fn create(
    client: &impl GenericClient,
    stakeholder: i64,
    (schema, table): (&str, &str),
    chunk_rows: i32,
    estimated: i64,
) -> Result<Option<Backfill>, DbError> {
    let sql = format!(
        "INSERT INTO integratedb.backfill (stakeholder_id, schema_name, table_name, chunk_rows, rows_estimated)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING {COLUMNS}"
    );
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&stakeholder, &schema, &table, &chunk_rows, &estimated];
    Ok(client.query_opt(&sql, &values).await?.map(Backfill::from))
}

/// The backfills of a stakeholder that are in this state, with ids below `before`, the latest first.
pub async fn list(
    client: &Client,
    stakeholder: i64,
    state: Option<BackfillState>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Backfill>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM integratedb.backfill
         WHERE stakeholder_id = $1 AND ($2::text IS NULL OR state = $2) AND id < coalesce($3, 9223372036854775807)
         ORDER BY id DESC LIMIT $4"
    );
    let state = state.map(BackfillState::as_str);
    let rows = client.query(&sql, &[&stakeholder, &state, &before, &limit]).await?;
    Ok(rows.into_iter().map(Backfill::from).collect())
}

/// One of them, if there is one of this id.
pub async fn show(
    client: &impl GenericClient,
    stakeholder: i64,
    id: i64,
) -> Result<Option<Backfill>, DbError> {
    let sql =
        format!("SELECT {COLUMNS} FROM integratedb.backfill WHERE stakeholder_id = $1 AND id = $2");
    Ok(client.query_opt(&sql, &[&stakeholder, &id]).await?.map(Backfill::from))
}

/// Holds a backfill until the end of the transaction, and gives what it is.
pub async fn hold(
    transaction: &Transaction<'_>,
    stakeholder: i64,
    id: i64,
) -> Result<Option<Backfill>, DbError> {
    let sql = "SELECT FROM integratedb.backfill WHERE stakeholder_id = $1 AND id = $2 FOR UPDATE";
    transaction.execute(sql, &[&stakeholder, &id]).await?;
    show(transaction, stakeholder, id).await
}

/// Does what is asked; `None` if its state does not allow it, or there is none.
pub async fn ask(
    client: &impl GenericClient,
    stakeholder: i64,
    id: i64,
    request: Request,
) -> Result<Option<Backfill>, DbError> {
    let (set, from) = match request {
        Request::Pause => ("state = 'paused'", "'pending', 'running'"),
        Request::Resume => (
            "state = 'pending', error = NULL, finished_at = NULL,
             epoch = CASE state WHEN 'failed' THEN 0 ELSE epoch END",
            "'paused', 'failed'",
        ),
        Request::Cancel => {
            ("state = 'cancelled', finished_at = now()", "'pending', 'running', 'paused', 'failed'")
        }
    };
    let sql = format!(
        "UPDATE integratedb.backfill SET {set}, updated_at = now()
         WHERE stakeholder_id = $1 AND id = $2 AND state IN ({from}) RETURNING {COLUMNS}"
    );
    match client.query_opt(&sql, &[&stakeholder, &id]).await {
        // Another one of that table is under way.
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(None),
        answer => Ok(answer?.map(Backfill::from)),
    }
}

/// Where a backfill is.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) stakeholder: i64,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) chunk_rows: i32,
    pub(super) relation: Option<u32>,
    pub(super) key_columns: Option<Vec<i16>>,
    pub(super) last_key: Option<Vec<String>>,
    pub(super) at_end: bool,
    pub(super) relations_done: Vec<u32>,
}

/// Those that are to be read, the oldest first.
pub(super) async fn wanted(client: &Client) -> Result<Vec<i64>, DbError> {
    let sql =
        "SELECT id FROM integratedb.backfill WHERE state IN ('pending', 'running') ORDER BY id";
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

/// Which of these are over. Whatever was to be read for them is forgotten.
pub(super) async fn over(client: &Client, ids: &[i64]) -> Result<Vec<i64>, DbError> {
    let sql = "WITH over AS (
            SELECT id FROM integratedb.backfill WHERE id = ANY ($1) AND state IN ('done', 'failed', 'cancelled')
        ), gone AS (
            DELETE FROM integratedb.backfill_left WHERE backfill_id IN (SELECT id FROM over)
        )
        SELECT id FROM over";
    Ok(client.query(sql, &[&ids]).await?.iter().map(|row| row.get(0)).collect())
}

/// Forgets what was to be read for backfills that are over: another process ended before it came to that.
pub(super) async fn forget_left(client: &Client) -> Result<(), DbError> {
    let sql = "DELETE FROM integratedb.backfill_left l USING integratedb.backfill b
               WHERE b.id = l.backfill_id AND b.state IN ('done', 'failed', 'cancelled')";
    client.execute(sql, &[]).await?;
    Ok(())
}

/// Those that are under way, with the table each is in and the columns of its key.
pub(super) async fn under_way(client: &Client) -> Result<Vec<(i64, u32, Vec<String>)>, DbError> {
    let sql = "SELECT b.id, b.relation, array_agg(a.attname::text ORDER BY k.place)
               FROM integratedb.backfill b, unnest(b.key_columns) WITH ORDINALITY k (number, place), pg_attribute a
               WHERE b.state IN ('pending', 'running', 'paused')
                 AND a.attrelid = b.relation::oid AND a.attnum = k.number AND NOT a.attisdropped
               GROUP BY b.id";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), oid(row.get(1)), row.get(2))).collect())
}

/// Where it is, if it is to be read; it runs then. In another epoch than before, it is at its beginning.
pub(super) async fn begin(client: &Client, id: i64, epoch: u32) -> Result<Option<Place>, DbError> {
    let again = "WITH other AS (
            SELECT id FROM integratedb.backfill
            WHERE id = $1 AND state IN ('pending', 'running') AND epoch <> $2 FOR UPDATE
        ), gone AS (
            DELETE FROM integratedb.backfill_left WHERE backfill_id IN (SELECT id FROM other)
        )
        UPDATE integratedb.backfill
        SET epoch = $2, relation = NULL, key_columns = NULL, last_key = NULL, at_end = false,
            relations_done = '{}', rows_done = 0, updated_at = now()
        WHERE id IN (SELECT id FROM other)";
    let epoch = i32::try_from(epoch).unwrap_or(i32::MAX);
    client.execute(again, &[&id, &epoch]).await?;
    let sql = "UPDATE integratedb.backfill
        SET state = 'running', started_at = coalesce(started_at, now()),
            updated_at = CASE state WHEN 'running' THEN updated_at ELSE now() END
        WHERE id = $1 AND state IN ('pending', 'running')
        RETURNING stakeholder_id, schema_name, table_name, chunk_rows, relation, key_columns, last_key, at_end,
                  relations_done";
    let Some(row) = client.query_opt(sql, &[&id]).await? else { return Ok(None) };
    Ok(Some(Place {
        stakeholder: row.get(0),
        schema: row.get(1),
        table: row.get(2),
        chunk_rows: row.get(3),
        relation: row.get::<_, Option<i64>>(4).map(oid),
        key_columns: row.get(5),
        last_key: row.get(6),
        at_end: row.get(7),
        relations_done: row.get::<_, Vec<i64>>(8).into_iter().map(oid).collect(),
    }))
}

/// Goes to the beginning of a table.
pub(super) async fn enter(
    client: &Client,
    id: i64,
    relation: u32,
    key: &[i16],
) -> Result<(), DbError> {
    let sql = "UPDATE integratedb.backfill
               SET relation = $2, key_columns = $3, last_key = NULL, at_end = false, updated_at = now()
               WHERE id = $1 AND state = 'running'";
    client.execute(sql, &[&id, &i64::from(relation), &key]).await?;
    Ok(())
}

/// A table is read to its end.
pub(super) async fn leave(client: &Client, id: i64, relation: u32) -> Result<(), DbError> {
    let sql = "WITH gone AS (DELETE FROM integratedb.backfill_left WHERE backfill_id = $1)
               UPDATE integratedb.backfill
               SET relations_done = relations_done || $2::bigint, relation = NULL, key_columns = NULL, last_key = NULL,
                   at_end = false, updated_at = now()
               WHERE id = $1 AND state = 'running'";
    client.execute(sql, &[&id, &i64::from(relation)]).await?;
    Ok(())
}

/// It ends: well, or with what is wrong.
pub(super) async fn finish(client: &Client, id: i64, wrong: Option<&str>) -> Result<(), DbError> {
    let sql = "UPDATE integratedb.backfill
               SET state = CASE WHEN $2::text IS NULL THEN 'done' ELSE 'failed' END, error = $2, updated_at = now(),
                   finished_at = now()
               WHERE id = $1 AND state = 'running'";
    client.execute(sql, &[&id, &wrong]).await?;
    Ok(())
}

/// Tells why it does not get on, or that it does.
pub(super) async fn tell(client: &Client, id: i64, why: Option<&str>) -> Result<(), DbError> {
    let sql = "UPDATE integratedb.backfill SET error = $2
               WHERE id = $1 AND state = 'running' AND error IS DISTINCT FROM $2";
    client.execute(sql, &[&id, &why]).await?;
    Ok(())
}

/// Some of the rows that have to be read again.
pub(super) async fn left(
    client: &Client,
    id: i64,
    relation: u32,
    most: i64,
) -> Result<Vec<(i64, Key)>, DbError> {
    let sql =
        "SELECT id, key FROM integratedb.backfill_left WHERE backfill_id = $1 AND relation = $2
               ORDER BY id LIMIT $3";
    let rows = client.query(sql, &[&id, &i64::from(relation), &most]).await?;
    let key = |row: &Row| {
        let texts: Vec<String> = row.get(1);
        Key::of(texts.iter().map(|text| Some(text.as_bytes())))
    };
    Ok(rows.iter().filter_map(|row| Some((row.get(0), key(row)?))).collect())
}

/// Notes rows that have to be read again, in the transaction that is open.
pub(in crate::notify) async fn add_left(client: &Client, left: &[Left]) -> Result<bool, LogError> {
    let sql = "INSERT INTO integratedb.backfill_left (backfill_id, relation, key)
               SELECT $1, $2, $3 WHERE EXISTS (
                   SELECT FROM integratedb.backfill
                   WHERE id = $1 AND relation = $2 AND state IN ('pending', 'running', 'paused'))";
    for (id, relation, key) in left {
        client.execute(sql, &[id, &i64::from(*relation), &key.texts()]).await?;
    }
    Ok(true)
}

/// How far a backfill is with a chunk.
pub(super) struct Progress {
    pub(super) id: i64,
    pub(super) epoch: u32,
    pub(super) relation: u32,
    /// The key of its last row, if the chunk follows on the last one.
    pub(super) last_key: Option<Vec<String>>,
    pub(super) at_end: bool,
    pub(super) rows: i64,
    /// What was asked for once more.
    pub(super) asked: Vec<i64>,
    pub(super) left: Vec<Left>,
}

/// Notes it in the transaction that is open; false if the backfill is not running any more.
pub(super) async fn progress(client: &Client, progress: &Progress) -> Result<bool, LogError> {
    let sql = "UPDATE integratedb.backfill
               SET last_key = coalesce($4, last_key), at_end = at_end OR $5, rows_done = rows_done + $6, error = NULL,
                   updated_at = now()
               WHERE id = $1 AND state = 'running' AND epoch = $2 AND relation = $3";
    let Progress { id, epoch, relation, last_key, at_end, rows, asked, left } = progress;
    let (epoch, relation) = (i32::try_from(*epoch).unwrap_or(i32::MAX), i64::from(*relation));
    let updated = client.execute(sql, &[id, &epoch, &relation, last_key, at_end, rows]).await?;
    if updated == 0 {
        return Ok(false);
    }
    if !asked.is_empty() {
        let sql = "DELETE FROM integratedb.backfill_left WHERE id = ANY ($1)";
        client.execute(sql, &[asked]).await?;
    }
    add_left(client, left).await
}

fn oid(number: i64) -> u32 {
    // They are stored from 32 bits.
    u32::try_from(number).unwrap_or_default()
}
