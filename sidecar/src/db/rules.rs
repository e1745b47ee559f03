//! The rules of caches, as they are stored.

use serde_json::{Value, json};
use tokio_postgres::GenericClient;

use super::error::DbError;
use crate::cache::{Mode, Rule, Rules};

/// All that is decided about a cache. A row that can't be read, of a later version perhaps, is passed over and told.
pub(crate) async fn of(client: &impl GenericClient, cache: &str) -> Result<Rules, DbError> {
    let sql = "SELECT kind, name, rule FROM integratedb.cache_rules WHERE cache_id = $1";
    let mut rules = Rules::default();
    for row in client.query(sql, &[&cache]).await? {
        let (kind, name, rule): (&str, &str, Value) = (row.get(0), row.get(1), row.get(2));
        let known = match kind {
            "mode" => serde_json::from_value(rule["mode"].clone()).map(|mode| {
                rules.mode = Some(mode);
            }),
            "template" => serde_json::from_value(rule).map(|rule| {
                rules.templates.extend(u64::from_str_radix(name, 16).map(|id| (id, rule)));
            }),
            _ => serde_json::from_value(rule).map(|rule| {
                rules.tables.insert(name.to_owned(), rule);
            }),
        };
        if let Err(error) = known {
            tracing::warn!(cache, kind, name, %error, "a rule can't be read");
        }
    }
    Ok(rules)
}

/// Lets nobody else change rules of any cache before the transaction ends.
pub(crate) async fn lock_all(client: &impl GenericClient) -> Result<(), DbError> {
    let sql = "LOCK TABLE integratedb.cache_rules IN SHARE ROW EXCLUSIVE MODE";
    Ok(client.batch_execute(sql).await?)
}

/// A rule as it is stored, which nobody else changes before the transaction ends.
pub(crate) async fn lock(
    client: &impl GenericClient,
    cache: &str,
    kind: &str,
    name: &str,
) -> Result<Option<Value>, DbError> {
    let sql = "SELECT rule FROM integratedb.cache_rules \
               WHERE cache_id = $1 AND kind = $2 AND name = $3 FOR UPDATE";
    Ok(client.query_opt(sql, &[&cache, &kind, &name]).await?.map(|row| row.get(0)))
}

/// Sets a rule.
pub(crate) async fn set(
    client: &impl GenericClient,
    cache: &str,
    kind: &str,
    name: &str,
    rule: &Rule,
) -> Result<(), DbError> {
    put(client, cache, kind, name, &json!(rule)).await
}

/// Sets what is kept without a rule.
pub(crate) async fn set_mode(
    client: &impl GenericClient,
    cache: &str,
    mode: Mode,
) -> Result<(), DbError> {
    put(client, cache, "mode", "", &json!({ "mode": mode })).await
}

async fn put(
    client: &impl GenericClient,
    cache: &str,
    kind: &str,
    name: &str,
    rule: &Value,
) -> Result<(), DbError> {
    let sql = "INSERT INTO integratedb.cache_rules (cache_id, kind, name, rule) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (cache_id, kind, name) DO UPDATE SET rule = EXCLUDED.rule, updated_at = now()";
    client.execute(sql, &[&cache, &kind, &name, &rule]).await?;
    Ok(())
}

/// Takes a rule away; false if there is none.
pub(crate) async fn remove(
    client: &impl GenericClient,
    cache: &str,
    kind: &str,
    name: &str,
) -> Result<bool, DbError> {
    let sql = "DELETE FROM integratedb.cache_rules WHERE cache_id = $1 AND kind = $2 AND name = $3";
    Ok(client.execute(sql, &[&cache, &kind, &name]).await? > 0)
}
