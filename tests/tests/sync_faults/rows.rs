//! Rows that change at random: in transactions of several statements, with savepoints, some of which are undone, with keys that
//! become others, and with tables that are emptied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use support::Model;
use tokio_postgres::Client;

/// A row for each class of the world: below a group there are items, and below these parts. A key that was there never
/// comes back.
pub(crate) const SCHEMA: &str = "
    CREATE SEQUENCE keys;
    CREATE TABLE groups (id int PRIMARY KEY DEFAULT nextval('keys'), n int);
    CREATE TABLE items (
        id int PRIMARY KEY DEFAULT nextval('keys'), n int,
        parent_id int NOT NULL REFERENCES groups ON DELETE CASCADE);
    CREATE TABLE parts (
        id int PRIMARY KEY DEFAULT nextval('keys'), n int,
        parent_id int NOT NULL REFERENCES items ON DELETE CASCADE);
    CREATE INDEX ON items (parent_id);
    CREATE INDEX ON parts (parent_id);";

/// The table of each class.
pub(crate) const TABLES: [&str; 3] = ["groups", "items", "parts"];

/// Milliseconds between transactions of a writer.
const PAUSE: std::ops::Range<u64> = 0..30;

/// Fills the tables with so many rows.
pub(crate) async fn fill(client: &Client, models: u64) -> Result<()> {
    let (groups, items) = (models.div_ceil(20), models * 3 / 10);
    let parts = models.saturating_sub(groups + items);
    let below = |rows: u64, table: &str, above: &str| {
        format!(
            "INSERT INTO {table} (n, parent_id)
             SELECT i, (SELECT array_agg(id) FROM {above})[1 + i % (SELECT count(*) FROM {above})]
             FROM generate_series(1, {rows}) i;"
        )
    };
    let sql = format!("INSERT INTO groups (n) SELECT generate_series(1, {groups});")
        + &below(items, "items", "groups")
        + &below(parts, "parts", "items");
    Ok(client.batch_execute(&sql).await?)
}

/// Writes until it is told to stop; gives how many transactions were committed.
pub(crate) async fn write(client: Client, seed: u64, stop: Arc<AtomicBool>) -> Result<u64> {
    let mut random = StdRng::seed_from_u64(seed);
    let committed = AtomicU64::new(0);
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE))).await;
        let mut sql = String::from("BEGIN;");
        for _ in 0..random.random_range(1..5) {
            sql += &statement(&mut random);
        }
        let is_undone = random.random_range(0..10) == 0;
        sql += if is_undone { "ROLLBACK" } else { "COMMIT" };
        // Two that meet: one of them is undone.
        if client.batch_execute(&sql).await.is_err() {
            client.batch_execute("ROLLBACK").await?;
        } else if !is_undone {
            committed.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(committed.into_inner())
}

fn statement(random: &mut StdRng) -> String {
    let n = random.random_range(0..1_000_000);
    let skip: f64 = random.random();
    let table = TABLES[[0, 1, 1, 2, 2, 2][random.random_range(0..6)]];
    // Any of its rows.
    let any = |table: &str| {
        format!(
            "(SELECT id FROM {table} ORDER BY id OFFSET floor({skip} * (SELECT count(*) FROM {table})) LIMIT 1)"
        )
    };
    let insert = |table: &str, above: &str| {
        format!("INSERT INTO {table} (n, parent_id) SELECT {n}, id FROM {} AS a (id);", any(above))
    };
    match random.random_range(0..200) {
        0..10 => format!("INSERT INTO groups (n) VALUES ({n});"),
        10..40 => insert("items", "groups"),
        40..90 => insert("parts", "items"),
        90..150 => format!("UPDATE {table} SET n = {n} WHERE id = {};", any(table)),
        150..165 => format!("DELETE FROM parts WHERE id = {};", any("parts")),
        165..172 => format!("DELETE FROM items WHERE id = {};", any("items")),
        172..174 => format!("DELETE FROM groups WHERE id = {};", any("groups")),
        // What others refer to keeps its key.
        174..186 => {
            format!("UPDATE parts SET id = nextval('keys'), n = {n} WHERE id = {};", any("parts"))
        }
        186..190 => format!(
            "UPDATE items i SET id = nextval('keys') WHERE id = {}
             AND NOT EXISTS (SELECT FROM parts p WHERE p.parent_id = i.id);",
            any("items")
        ),
        190..194 => format!("SAVEPOINT s; DELETE FROM {table}; ROLLBACK TO s;"),
        194..198 => format!("SAVEPOINT s; UPDATE {table} SET n = -1 WHERE id < 50; RELEASE s;"),
        198 if skip < 0.1 => "TRUNCATE parts;".to_owned(),
        _ if skip < 0.02 => "TRUNCATE groups CASCADE;".to_owned(),
        _ => String::new(),
    }
}

/// What the tables have, as models, with their `n`.
pub(crate) async fn all(client: &Client) -> Result<BTreeMap<Model, Value>> {
    let sql = "SELECT 'group', id, n FROM groups UNION ALL SELECT 'item', id, n FROM items
               UNION ALL SELECT 'part', id, n FROM parts";
    let rows = client.query(sql, &[]).await?;
    let model = |row: &tokio_postgres::Row| {
        let (class, id, n): (&str, i32, i32) = (row.get(0), row.get(1), row.get(2));
        (Model::new(class, id), n.into())
    };
    Ok(rows.iter().map(model).collect())
}
