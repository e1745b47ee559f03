//! What can be declared, and what those are told whose class can't be.

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::sync::source::table::list;
use serde_json::{Value, json};

use crate::world::World;

const SCHEMA: &str = "
CREATE TABLE customers (region text, id bigint, name text, PRIMARY KEY (region, id));
CREATE TABLE orders (id int PRIMARY KEY, total numeric, region text, customer_id bigint, secret text, note text);
CREATE TABLE keyless (a int, b int);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE odd (tags int[] PRIMARY KEY, other int);
CREATE TABLE told_not_claimed (id int PRIMARY KEY, a text);
CREATE TABLE claimed_not_told (id int PRIMARY KEY);
CREATE TABLE heirs (id int PRIMARY KEY); CREATE TABLE heir () INHERITS (heirs)";

async fn world() -> Result<World> {
    let world = World::new(SCHEMA, &[]).await?;
    let all = ["*"];
    let mut tables: Vec<(&str, &[&str])> = vec![
        ("public.customers", &all),
        ("public.orders", &["id", "total", "region", "customer_id"]),
        ("public.keyless", &all),
        ("public.odd", &all),
        ("public.heirs", &all),
        ("public.claimed_not_told", &all),
    ];
    world.claim(&tables).await?;
    tables.pop();
    tables.push(("public.told_not_claimed", &all));
    tables[1].1 = &["id", "note"];
    world.subscribe(&tables).await?;
    Ok(world)
}

impl World {
    /// What is wrong with a definition, and where.
    async fn refused(&self, definition: Value) -> Result<(String, String)> {
        let wrong = self.try_declare("it", definition.clone()).await?;
        let wrong = wrong.err().with_context(|| format!("{definition} was taken"))?;
        ensure!(wrong.len() == 1, "{wrong:?}");
        wrong.into_iter().next().context("nothing")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_condition_says_what_to_do() -> Result<()> {
    let world = world().await?;
    world.declare("customer", json!({"table": "public.customers"})).await?;
    let order = |more: Value| {
        let mut order = json!({"table": "public.orders", "columns": ["id"]});
        order
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().cloned().expect("an object"));
        order
    };
    let parent =
        |class: &str, columns: &[&str]| json!({"parent": {"class": class, "columns": columns}});
    for (definition, pointer, said) in [
        (json!({"table": "orders"}), "/table", "schema_name.table_name"),
        (
            json!({"table": "public.claimed_not_told"}),
            "/table",
            "add the table to its notifications spec",
        ),
        (json!({"table": "public.heirs"}), "/table", "inherit"),
        (json!({"table": "public.keyless"}), "/key", "no primary key"),
        (json!({"table": "public.keyless", "key": ["a"]}), "/key", "make it NOT NULL"),
        (json!({"table": "public.odd"}), "/key", "no single value"),
        (order(json!({"key": ["total"]})), "/key", "part of the replica identity, which is id"),
        (order(json!({"columns": ["id", "none"]})), "/columns/1", "has no column none"),
        (
            order(json!({"columns": ["secret"]})),
            "/columns/0",
            "does not claim public.orders.secret",
        ),
        (order(json!({"columns": ["note"]})), "/columns/0", "only claims grant it"),
        (json!({"table": "public.orders"}), "/columns", "public.orders.note"),
        (order(parent("none", &["region"])), "/parent/class", "declare it first"),
        (order(parent("customer", &["customer_id"])), "/parent/columns", "region, id"),
        (order(parent("customer", &["region", "total"])), "/parent/columns/1", "different types"),
    ] {
        let (what, at) = world.refused(definition.clone()).await?;
        ensure!(at == pointer && what.contains(said), "{definition}: {what} ({at})");
    }
    let told = world.try_declare("it", json!({"table": "public.told_not_claimed"})).await?;
    let told = told.err().context("it was taken")?;
    ensure!(told.iter().all(|(what, _)| what.contains("only claims grant it")), "{told:?}");
    let named = world.try_declare("a name", json!({"table": "public.customers"})).await?;
    ensure!(named.err().context("it was taken")?[0].1.is_empty(), "the name");
    let itself = json!({"table": "public.customers", "parent": {"class": "customer", "columns": ["region", "id"]}});
    let itself = world.try_declare("customer", itself).await?.err().context("it was taken")?;
    ensure!(itself[0].0.contains("above itself"), "{itself:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_is_filled_in_and_the_same_again_changes_nothing() -> Result<()> {
    let world = world().await?;
    let customer = world.declare("customer", json!({"table": "public.customers"})).await?;
    let wanted = json!({"table": "public.customers", "key": ["region", "id"], "columns": ["region", "id", "name"]});
    ensure!(
        customer.definition == wanted && customer.is_scanning && customer.version == 1,
        "{customer:?}"
    );
    let order = json!({"table": "public.orders", "columns": ["total"],
        "parent": {"class": "customer", "columns": ["region", "customer_id"]}});
    let first = world.declare("order", order.clone()).await?;
    ensure!(first.definition["key"] == json!(["id"]), "{first:?}");
    ensure!(world.declare("order", first.definition.clone()).await?.version == 1, "the same");
    let other =
        world.declare("order", json!({"table": "public.orders", "columns": ["id"]})).await?;
    ensure!(other.version == 2, "{other:?}");
    world.declare("order", order).await?;

    let client = world.pool.get().await?;
    let refused = world.withdraw("customer").await;
    ensure!(
        refused.is_err_and(|error| error.to_string().contains("the parent of order")),
        "the parent"
    );
    ensure!(world.withdraw("order").await?, "it was there");
    ensure!(!world.withdraw("order").await?, "it was gone");
    let names: Vec<String> = list(&client, world.stakeholder, None, 1000)
        .await?
        .into_iter()
        .map(|class| class.name)
        .collect();
    ensure!(names == ["customer"], "{names:?}");
    Ok(())
}
