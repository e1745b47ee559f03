//! The whole of it, in a sidecar: what is fetched becomes entries. And the example of the docs.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::until;

use crate::world::World;

const FAMILY: &str = "
CREATE TABLE customers (id bigint PRIMARY KEY, name text);
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint, total numeric);
INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 5) n;
INSERT INTO orders SELECT n, n % 5 + 1, n / 4.0 FROM generate_series(1, 100) n";

/// The latest entries of a class by key, and the keys of parents; those that are gone left out.
const LATEST: &str = "
SELECT coalesce(jsonb_object_agg(r.key, jsonb_build_array(e.data, p.key)), '{}')
FROM integratedb.sync_record r
JOIN integratedb.sync_model m ON m.record_id = r.id
JOIN integratedb.sync_update u ON u.model_id = m.id
JOIN integratedb.sync_entry e ON e.id = u.entry_id
LEFT JOIN integratedb.sync_record p ON p.id = r.parent_id
WHERE r.class = $1 AND NOT e.is_gone";

impl World {
    async fn latest(&self, class: &str) -> Result<Value> {
        Ok(self.client.query_one(LATEST, &[&class]).await?.get(0))
    }

    /// What entries of orders say, and what they should.
    async fn orders(&self) -> Result<(Value, Value)> {
        let sql = "SELECT coalesce(jsonb_object_agg(id::text, jsonb_build_array(
            jsonb_build_object('id', id, 'total', total), customer_id::text)), '{}') FROM orders";
        Ok((self.latest("order").await?, self.client.query_one(sql, &[]).await?.get(0)))
    }

    /// Waits until the entries of orders say what the table has.
    async fn in_step(&self) -> Result<()> {
        let is_in_step = async || {
            let (has, wanted) = self.orders().await?;
            Ok(has == wanted)
        };
        let waited = until("entries are as the rows", is_in_step).await;
        let (has, wanted) = self.orders().await?;
        waited.with_context(|| format!("{:.1000}\n{:.1000}", has.to_string(), wanted.to_string()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_keep_in_step_with_rows_and_their_parents() -> Result<()> {
    let world = World::with(FAMILY, &["public.customers", "public.orders"], |_| {}).await?;
    world.declare("customer", json!({"table": "public.customers"})).await?;
    let parent = json!({"class": "customer", "columns": ["customer_id"]});
    let order = json!({"table": "public.orders", "columns": ["id", "total"], "parent": parent});
    world.declare("order", order).await?;
    world.in_step().await?;
    for sql in [
        "UPDATE orders SET customer_id = 6 WHERE id % 10 = 0",
        "INSERT INTO customers VALUES (6, 'new'); UPDATE orders SET customer_id = NULL WHERE id = 11",
        "UPDATE orders SET id = id + 1000, total = 0 WHERE id < 20; DELETE FROM orders WHERE id % 3 = 0",
        "TRUNCATE orders; INSERT INTO orders VALUES (1, 1, 1)",
    ] {
        world.client.batch_execute(sql).await?;
        world.in_step().await.with_context(|| sql.to_owned())?;
    }
    ensure!(world.withdraw("order").await?, "it was there");
    let before = world.latest("order").await?;
    world
        .client
        .batch_execute("UPDATE orders SET total = 2; UPDATE customers SET name = 'later'")
        .await?;
    until("the other class goes on", async || {
        Ok(world.latest("customer").await?["1"][0]["name"] == "later")
    })
    .await?;
    ensure!(world.latest("order").await? == before, "it was withdrawn");
    Ok(())
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let start = format!("```{language}\n");
    let parts = text.split(&start).skip(1);
    parts.filter_map(|part| part.split("```").next().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_docs_is_true() -> Result<()> {
    let text = include_str!("../../../docs/sync/tables.md");
    let json: Vec<Value> = blocks(text, "json")
        .iter()
        .map(|block| serde_json::from_str(block))
        .collect::<Result<_, _>>()?;
    let [claims, notifications, customer, order, wanted] = &json[..] else {
        anyhow::bail!("{} blocks", json.len())
    };
    let sql = blocks(text, "sql").join("\n");
    let world = World::with(&sql, &[], |_| {}).await?;
    for (what, body) in [("claims", claims), ("notifications", notifications)] {
        let path = format!("/api/v1/stakeholders/{}/{what}", world.stakeholder);
        let put = world.sidecar.put(&path, body.clone()).await?;
        ensure!(put.status == 200, "{}", put.text);
    }
    world.declare("customer", customer["source"].clone()).await?;
    world.declare("order", order["source"].clone()).await?;
    until("it is fetched", async || Ok(world.latest("order").await? == json!({"7": [wanted, "1"]})))
        .await
}
