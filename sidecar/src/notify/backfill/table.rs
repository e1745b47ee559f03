//! What the catalog says of a table that is to be read.

use std::sync::Arc;

use tokio_postgres::{Client, Row};

use super::rows::Table;
use crate::db::DbError;
use crate::replication::{Column, Relation, ReplicaIdentity};

/// The table, and the index by which its rows are told from one another in the stream: it has to have the plain order
/// of its columns, or reading in that order would not go along it.
const TABLE: &str = "
SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relreplident::text, greatest(c.reltuples, 0)::bigint,
       key.names, key.numbers, key.is_plain
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_index i
       ON i.indrelid = c.oid AND i.indisvalid AND i.indisunique AND i.indpred IS NULL
      AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END
LEFT JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY k.place) AS names, array_agg(a.attnum ORDER BY k.place) AS numbers,
           bool_and(i.indoption[k.place - 1] = 0 AND o.opcdefault
                    AND i.indcollation[k.place - 1] IN (0, a.attcollation)) AS is_plain
    FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
    JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[k.place - 1]
    WHERE k.place <= i.indnkeyatts
) key ON true
WHERE c.oid = $1";

/// Its columns as pgoutput tells them.
const COLUMNS: &str = "
SELECT attname::text, atttypid, atttypmod
FROM pg_catalog.pg_attribute
WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
ORDER BY attnum";

/// A table as it is now, or why its rows can't be read for a backfill.
pub(super) async fn look(client: &Client, oid: u32) -> Result<Result<Table, String>, DbError> {
    let Some(row) = client.query_opt(TABLE, &[&oid]).await? else {
        return Ok(Err("the table is gone".to_owned()));
    };
    let columns = client.query(COLUMNS, &[&oid]).await?;
    Ok(read(oid, &row, &columns))
}

fn read(oid: u32, row: &Row, columns: &[Row]) -> Result<Table, String> {
    let (schema, name): (String, String) = (row.get(0), row.get(1));
    if row.get::<_, &str>(2) != "r" {
        return Err(format!("{schema}.{name} is not a table"));
    }
    let identity = match row.get::<_, &str>(3) {
        "f" => ReplicaIdentity::Full,
        "i" => ReplicaIdentity::Index,
        "n" => ReplicaIdentity::Nothing,
        _ => ReplicaIdentity::Default,
    };
    let key: Vec<String> = row.get::<_, Option<_>>(5).unwrap_or_default();
    if key.is_empty() {
        return Err(format!(
            "the rows of {schema}.{name} can't be told from one another: it has no primary key that its replica \
             identity holds. Add one, or set REPLICA IDENTITY USING INDEX"
        ));
    }
    if row.get::<_, Option<bool>>(7) != Some(true) {
        return Err(format!(
            "the index of the replica identity of {schema}.{name} does not have the plain order of its columns: use \
             one without DESC, NULLS FIRST, COLLATE and operator classes"
        ));
    }
    let columns = columns.iter().map(|row| {
        let name: String = row.get(0);
        let is_key = identity == ReplicaIdentity::Full || key.contains(&name);
        Column { name, type_oid: row.get(1), modifier: row.get(2), is_key }
    });
    let columns = columns.collect();
    let relation = Arc::new(Relation { oid, schema, name, identity, columns });
    let numbers: Vec<i16> = row.get::<_, Option<_>>(6).unwrap_or_default();
    Ok(Table { relation, key, numbers, estimated: row.get(4) })
}

/// About how many rows these tables have together, or why one of them can't be read.
pub async fn estimate(client: &Client, tables: &[u32]) -> Result<Result<i64, String>, DbError> {
    let mut sum = 0;
    for oid in tables {
        match look(client, *oid).await? {
            Ok(table) => sum += table.estimated,
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(sum))
}
