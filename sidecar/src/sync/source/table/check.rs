//! Whether a class that a stakeholder declares can be followed and fetched, and what is left out filled in.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::definition::{Asked, Parent, Problem, TableClass};
use crate::db::DbError;
use crate::notify::Subscriptions;

/// A table, and whether others inherit from it that are no partitions.
const TABLE: &str = "
SELECT c.oid, c.relkind <> 'p' AND EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2";

/// Columns of a table in their order, and whether a stakeholder claims and may read them. A key of an array, a record or
/// JSON has no text that would name a row.
const COLUMNS: &str = "
SELECT a.attname::text, a.attnotnull, t.oid,
       t.typcategory NOT IN ('A', 'C') AND t.oid NOT IN ('json'::regtype, 'jsonb'::regtype)
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_cast k
                           WHERE k.castsource = t.oid AND k.casttarget = 'json'::regtype AND k.castmethod = 'f'),
       EXISTS (SELECT FROM integratedb.claimed_columns k
               WHERE k.stakeholder_id = s.id AND k.schema_name = n.nspname AND k.table_name = c.relname
                 AND k.column_name = a.attname),
       pg_catalog.has_schema_privilege(s.name, n.oid, 'USAGE')
           AND pg_catalog.has_column_privilege(s.name, c.oid, a.attnum, 'SELECT')
FROM integratedb.stakeholder s, pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE s.id = $1 AND n.nspname = $2 AND c.relname = $3
ORDER BY a.attnum";

/// What of old rows the log holds, by table: all if `is_full`, otherwise the columns of an index.
const IDENTITIES: &str = "
SELECT c.oid::pg_catalog.regclass::text, c.relreplident = 'f',
       coalesce(array_agg(a.attname::text ORDER BY k.place) FILTER (WHERE a.attname IS NOT NULL), '{}')
FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_index i
       ON i.indrelid = c.oid AND i.indisvalid
      AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary END
LEFT JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place) ON k.place <= i.indnkeyatts
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
WHERE c.oid = ANY ($1)
GROUP BY c.oid, c.relreplident";

/// The columns of each unique index of a table; those of expressions and parts of a table left out.
const UNIQUE: &str = "
SELECT array_agg(a.attname::text)
FROM pg_catalog.pg_index i
CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k (number, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid";

struct Column {
    is_not_null: bool,
    type_oid: u32,
    can_be_key: bool,
    is_claimed: bool,
    is_readable: bool,
}

/// The columns of a table, and their order.
struct Columns {
    by_name: BTreeMap<String, Column>,
    order: Vec<String>,
}

impl Columns {
    async fn load(client: &Client, of: i64, schema: &str, table: &str) -> Result<Self, DbError> {
        let mut columns = Self { by_name: BTreeMap::new(), order: Vec::new() };
        for row in client.query(COLUMNS, &[&of, &schema, &table]).await? {
            let name: String = row.get(0);
            columns.order.push(name.clone());
            let column = Column {
                is_not_null: row.get(1),
                type_oid: row.get(2),
                can_be_key: row.get(3),
                is_claimed: row.get(4),
                is_readable: row.get(5),
            };
            columns.by_name.insert(name, column);
        }
        Ok(columns)
    }
}

/// A stakeholder whose classes are being checked.
pub(super) struct Declarant<'a> {
    pub(super) client: &'a Client,
    pub(super) id: i64,
    /// Classes that it has declared already.
    pub(super) classes: &'a BTreeMap<String, TableClass>,
}

impl Declarant<'_> {
    /// The class of this name with all that was left out, or everything that is wrong with it.
    pub(super) async fn check(
        &self,
        name: &str,
        asked: Asked,
    ) -> Result<Result<TableClass, Vec<Problem>>, DbError> {
        let (schema, table) = (asked.table.schema.as_str(), asked.table.table.as_str());
        let all = Subscriptions::load(self.client)
            .await
            .map_err(|error| DbError::Unexpected(error.to_string()))?;
        let relations: Vec<u32> = all.relations(self.id, schema, table).into_iter().collect();
        if relations.is_empty() {
            let what = format!(
                "Changes of {} are not in the log for this stakeholder: add the table to its notifications spec, \
                 with the events [\"*\"] and the channels [\"*\"]; no channel has to be configured.",
                asked.table
            );
            return Ok(Err(vec![(what, "/table".to_owned())]));
        }
        let columns = Columns::load(self.client, self.id, schema, table).await?;
        let mut wrong = Vec::new();
        let Some(root) = self.client.query_opt(TABLE, &[&schema, &table]).await? else {
            let what = format!("There is no table {}.", asked.table);
            return Ok(Err(vec![(what, "/table".to_owned())]));
        };
        if root.get(1) {
            let what = format!(
                "Other tables inherit from {}: a SELECT has their rows too, and the log tells them by other names. Declare \
                 a table without such, or a partitioned one.",
                asked.table
            );
            return Ok(Err(vec![(what, "/table".to_owned())]));
        }
        let root: u32 = root.get(0);
        let key = self.key(&asked, root, &relations, &columns, &mut wrong).await?;
        let is_default = asked.columns.is_none();
        let wanted = asked.columns.unwrap_or_else(|| {
            let claimed = columns.order.iter().filter(|name| columns.by_name[*name].is_claimed);
            claimed.cloned().collect()
        });
        let place = |at: &str, index: usize, is_default: bool| match is_default {
            true => at.to_owned(),
            false => format!("{at}/{index}"),
        };
        let mut named: Vec<(&String, String)> = Vec::new();
        named.extend(
            key.iter().enumerate().map(|(i, n)| (n, place("/key", i, asked.key.is_none()))),
        );
        named.extend(wanted.iter().enumerate().map(|(i, n)| (n, place("/columns", i, is_default))));
        if let Some(parent) = &asked.parent {
            let at = |i| place("/parent/columns", i, false);
            named.extend(parent.columns.iter().enumerate().map(|(i, n)| (n, at(i))));
            self.parent(name, parent, &columns, &mut wrong).await?;
        }
        let mut told = BTreeSet::new();
        for (column, pointer) in named {
            if told.insert((column, pointer.clone()))
                && let Some(what) = obstacle(&columns, column, &asked.table.to_string())
            {
                wrong.push((what, pointer));
            }
        }
        if !wrong.is_empty() {
            return Ok(Err(wrong));
        }
        Ok(Ok(TableClass { table: asked.table, key, columns: wanted, parent: asked.parent }))
    }

    /// The key, as it was asked for or as the table has it.
    async fn key(
        &self,
        asked: &Asked,
        root: u32,
        relations: &[u32],
        columns: &Columns,
        wrong: &mut Vec<Problem>,
    ) -> Result<Vec<String>, DbError> {
        let key = match &asked.key {
            Some(key) => key.clone(),
            None => self.default_key(root).await?,
        };
        let mut refuse = |what: String| wrong.push((what, "/key".to_owned()));
        if key.is_empty() {
            refuse(format!(
                "{} has no primary key that could tell its rows apart: give it one, or name the columns of a unique \
                 index.",
                asked.table
            ));
            return Ok(key);
        }
        let mut is_held = true;
        for row in self.client.query(IDENTITIES, &[&relations]).await? {
            let (table, is_full, held): (String, bool, Vec<String>) =
                (row.get(0), row.get(1), row.get(2));
            let missing = key.iter().find(|name| !is_full && !held.contains(name));
            if let Some(column) = missing {
                is_held = false;
                refuse(format!(
                    "The log does not hold {column} of rows of {table} that are deleted: the key has to be part of the \
                     replica identity, which is {}. Choose the key among these, or change it with ALTER TABLE … REPLICA \
                     IDENTITY.",
                    if held.is_empty() { "nothing".to_owned() } else { held.join(", ") }
                ));
            }
        }
        if !is_held {
            return Ok(key);
        }
        let mut is_unique = false;
        for row in self.client.query(UNIQUE, &[&root]).await? {
            is_unique |= row.get::<_, Vec<String>>(0).iter().all(|column| key.contains(column));
        }
        let of = |name: &String| columns.by_name.get(name);
        if let Some(name) = key.iter().find(|name| of(name).is_some_and(|c| !c.can_be_key)) {
            refuse(format!("{name} can't be part of a key: it is no single value."));
        } else if let Some(name) = key.iter().find(|name| of(name).is_some_and(|c| !c.is_not_null))
        {
            refuse(format!("{name} can be NULL, and then names no row: make it NOT NULL."));
        } else if !is_unique {
            refuse(format!(
                "Nothing keeps two rows of {} from having the same {}: add a unique index, or name a key that has one.",
                asked.table,
                key.join(", ")
            ));
        }
        Ok(key)
    }

    /// The columns of the replica identity; of one that is the whole row, those of the primary key.
    async fn default_key(&self, root: u32) -> Result<Vec<String>, DbError> {
        let row = self.client.query_opt(IDENTITIES, &[&vec![root]]).await?;
        Ok(row.map(|row| row.get(2)).unwrap_or_default())
    }

    async fn parent(
        &self,
        name: &str,
        parent: &Parent,
        columns: &Columns,
        wrong: &mut Vec<Problem>,
    ) -> Result<(), DbError> {
        let Some(of) = self.classes.get(&parent.class) else {
            let what = format!("There is no class {}: declare it first.", parent.class);
            wrong.push((what, "/parent/class".to_owned()));
            return Ok(());
        };
        let mut above = Some(of);
        let mut seen = BTreeSet::from([parent.class.as_str()]);
        while let Some(class) = above.and_then(|class| class.parent.as_ref()) {
            if !seen.insert(&class.class) {
                break;
            }
            above = self.classes.get(&class.class);
        }
        if seen.contains(name) {
            let what = format!("{name} would be above itself: {} is below it.", parent.class);
            wrong.push((what, "/parent/class".to_owned()));
            return Ok(());
        }
        if of.key.len() != parent.columns.len() {
            let what = format!(
                "The key of {} is {}: name as many columns, in this order.",
                parent.class,
                of.key.join(", ")
            );
            wrong.push((what, "/parent/columns".to_owned()));
            return Ok(());
        }
        let (schema, table) = (of.table.schema.as_str(), of.table.table.as_str());
        let theirs = Columns::load(self.client, self.id, schema, table).await?;
        for (place, (own, their)) in parent.columns.iter().zip(&of.key).enumerate() {
            let types = (columns.by_name.get(own), theirs.by_name.get(their));
            if let (Some(own_type), Some(their_type)) = types
                && !is_alike(own_type.type_oid, their_type.type_oid)
            {
                let what = format!(
                    "{own} and {their} of {} have different types, so that the same value may be written differently: \
                     let them have the same.",
                    of.table
                );
                wrong.push((what, format!("/parent/columns/{place}")));
            }
        }
        Ok(())
    }
}

/// Whether values of these types that are equal have the same text.
fn is_alike(one: u32, other: u32) -> bool {
    /// int2, int4, int8
    const INTEGERS: [u32; 3] = [21, 23, 20];
    /// text, varchar
    const TEXTS: [u32; 2] = [25, 1043];
    one == other
        || INTEGERS.contains(&one) && INTEGERS.contains(&other)
        || TEXTS.contains(&one) && TEXTS.contains(&other)
}

/// Why a column can't be fetched.
fn obstacle(columns: &Columns, name: &str, table: &str) -> Option<String> {
    match columns.by_name.get(name) {
        None => Some(format!("{table} has no column {name}.")),
        Some(column) if !column.is_claimed => {
            Some(format!("The stakeholder does not claim {table}.{name}: add it to its claims."))
        }
        Some(column) if !column.is_readable => Some(format!(
            "The stakeholder's role may not read {table}.{name}: only claims grant it, notifications do not. Add it to \
             the stakeholder's claims spec, or leave it out of the columns."
        )),
        Some(_) => None,
    }
}
