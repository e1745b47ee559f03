//! What a fetch gets, and as whom.

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::sync::source::Source;
use integratedb_sidecar::sync::source::table::{TableSource, load};
use serde_json::json;

use crate::world::{World, fetch, json_of, pool};

const AWKWARD: &str = r#"
SET timezone = 'Asia/Tokyo';
CREATE TABLE "Odd ""ones""" (
    "the key" text, at timestamptz, n numeric, b bytea, j jsonb, tags text[], nothing int, f float8, i interval,
    large text, d date, PRIMARY KEY ("the key", at, n));
INSERT INTO "Odd ""ones""" VALUES
    ('it''s "\ ü', '2024-02-29 23:59:59.123456+00', 123456789012345678901234567890.10, '\x00ff', '{"a": [1, null]}',
     '{"x,y", NULL, "\""}', NULL, 0.1, '1 day 02:03', repeat('ü', 200000), 'infinity');
CREATE TABLE words (id text PRIMARY KEY, word text);
INSERT INTO words VALUES ('null', 'a'), ('', 'b'), ('[1]', 'c');
CREATE TABLE exact (id numeric PRIMARY KEY, a int);
INSERT INTO exact VALUES (1.50, 1)"#;

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_kind_come_as_their_json() -> Result<()> {
    let odd = "public.\"Odd \"\"ones\"\"\"";
    let world = World::new(AWKWARD, &[odd, "public.words", "public.exact"]).await?;
    world.declare("odd", json!({"table": odd})).await?;
    // As the log's changes have the key, whatever the sidecar's database has for a time zone.
    let key = json!([
        "it's \"\\ ü",
        "2024-02-29T23:59:59.123456+00:00",
        "123456789012345678901234567890.10"
    ]);
    world.client.batch_execute("ALTER DATABASE store SET timezone = 'America/New_York'").await?;
    let data = world.data("odd", &key.to_string()).await?;
    for (column, wanted) in [
        ("at", json!("2024-02-29T23:59:59.123456+00:00")),
        ("b", json!("\\x00ff")),
        ("j", json!({"a": [1, null]})),
        ("tags", json!(["x,y", null, "\""])),
        ("nothing", json!(null)),
        ("f", json!(0.1)),
        ("i", json!("1 day 02:03:00")),
        ("d", json!("infinity")),
    ] {
        ensure!(data[column] == wanted, "{column}: {}", data[column]);
    }
    ensure!(
        data["large"].as_str().map(|text| text.chars().count()) == Some(200_000),
        "the large one"
    );
    let fetched = world.fetch("odd", &key.to_string()).await??;
    let text = fetched.data.context("it is there")?;
    ensure!(text.get().contains(":123456789012345678901234567890.10,"), "as it is written");

    world.declare("word", json!({"table": "public.words"})).await?;
    for (key, word) in [("null", "a"), ("", "b"), ("[1]", "c")] {
        ensure!(world.data("word", key).await?["word"] == word, "{key:?}");
    }
    ensure!(world.data("word", "no such").await?.is_null(), "it is gone");
    // One row is one model, though two keys are equal to it.
    world.declare("exact", json!({"table": "public.exact"})).await?;
    ensure!(world.data("exact", "1.50").await?["a"] == 1, "as it is written");
    ensure!(world.data("exact", "1.5").await?.is_null(), "another");
    Ok(())
}

const FAMILY: &str = "
CREATE TABLE customers (region text, id bigint, name text, PRIMARY KEY (region, id));
CREATE TABLE orders (id int PRIMARY KEY, total int, region text, customer_id int);
INSERT INTO orders VALUES (1, 10, 'eu', 7), (2, 20, NULL, 7)";

#[tokio::test(flavor = "multi_thread")]
async fn the_parent_follows_the_row() -> Result<()> {
    let world = World::new(FAMILY, &["public.customers", "public.orders"]).await?;
    world.declare("customer", json!({"table": "public.customers"})).await?;
    let parent = json!({"class": "customer", "columns": ["region", "customer_id"]});
    world
        .declare("order", json!({"table": "public.orders", "columns": ["total"], "parent": parent}))
        .await?;
    let fetched = world.fetch("order", "1").await??;
    ensure!(json_of(&fetched)? == json!({"total": 10}), "{fetched:?}");
    let parent = fetched.parent.flatten().context("no parent")?;
    ensure!(
        (parent.class.as_str(), parent.key.as_str()) == ("customer", "[\"eu\",\"7\"]"),
        "{parent:?}"
    );
    ensure!(world.fetch("order", "2").await??.parent == Some(None), "it has none");
    ensure!(world.fetch("order", "3").await??.parent.is_none(), "nobody knows");
    Ok(())
}

/// A policy whose function would take the sidecar's rights, if it could.
const POLICIES: &str = "
CREATE TABLE secrets (id int PRIMARY KEY, owner text);
INSERT INTO secrets VALUES (1, 'shop'), (2, 'somebody');
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secrets USING (owner = current_user);
CREATE TABLE sly (id int PRIMARY KEY);
INSERT INTO sly VALUES (1);
CREATE FUNCTION escape() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'none', false);
    RETURN true;
END $$;
CREATE FUNCTION stay() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('search_path', 'evil', false);
    RETURN true;
END $$;
ALTER TABLE sly ENABLE ROW LEVEL SECURITY;
CREATE POLICY sly ON sly USING (escape())";

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_with_the_rights_of_the_stakeholder_and_no_others() -> Result<()> {
    let world = World::new(POLICIES, &["public.secrets", "public.sly"]).await?;
    world.declare("secret", json!({"table": "public.secrets"})).await?;
    world.declare("sly", json!({"table": "public.sly"})).await?;
    // A sidecar that is no superuser, nor a member of the stakeholder's role.
    let grant =
        "CREATE ROLE sidecar LOGIN PASSWORD 'secret'; SELECT integratedb.grant_sidecar('sidecar')";
    world.client.batch_execute(grant).await?;
    let url = world.database.url_as("sidecar", "secret");
    let (tenant, pool) = (world.tenant().await?, pool(&url)?);
    let source = async |class: &str| {
        let (class, stakeholder, _) =
            load(&world.client, tenant, class).await?.context("no class")?;
        anyhow::Ok(TableSource::new(class, stakeholder, pool.clone()))
    };
    let secrets = source("secret").await?;
    ensure!(secrets.fetch(&fetch(tenant, "secret", "1")).await?.data.is_some(), "its own row");
    ensure!(secrets.fetch(&fetch(tenant, "secret", "2")).await?.data.is_none(), "another's row");
    let sly = source("sly").await?;
    let error = sly.fetch(&fetch(tenant, "sly", "1")).await.err().context("it escaped")?;
    ensure!(error.message.contains("cannot set parameter \"role\""), "{error}");
    let lasting = "DROP POLICY sly ON sly; CREATE POLICY sly ON sly USING (stay())";
    world.client.batch_execute(lasting).await?;
    ensure!(sly.fetch(&fetch(tenant, "sly", "1")).await?.data.is_some(), "it may do this");
    let client = pool.get().await?;
    let row =
        client.query_one("SELECT current_user::text, current_setting('search_path')", &[]).await?;
    let (user, path): (String, String) = (row.get(0), row.get(1));
    ensure!(user == "sidecar" && !path.contains("evil"), "{user} {path}");
    drop(client);
    // As sync plans its own look-ups; policies may need more.
    let settings = ["enable_seqscan", "enable_hashjoin", "enable_mergejoin"];
    let off = settings.map(|name| format!("SET {name} = off"));
    let shown = settings.map(|name| format!("current_setting(''{name}'')"));
    world.client.batch_execute(&off.join("; ")).await?;
    let sql = format!(
        "SELECT integratedb.read_as(id, 'SELECT concat({})') FROM integratedb.stakeholder WHERE name = 'shop'",
        shown.join(", ")
    );
    let shown: String = world.client.query_one(&sql, &[]).await?.get(0);
    ensure!(shown == "ononon", "{shown}");
    world.client.batch_execute("RESET ALL").await?;

    let revoke = "REVOKE EXECUTE ON FUNCTION integratedb.read_as(bigint, text) FROM sidecar";
    world.client.batch_execute(revoke).await?;
    let error = secrets.fetch(&fetch(tenant, "secret", "1")).await.err().context("it was read")?;
    ensure!(error.message.contains("integratedb.grant_sidecar(role)"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_is_an_error_and_not_gone() -> Result<()> {
    let schema = "CREATE TABLE orders (id int PRIMARY KEY, total int, note text);
        INSERT INTO orders VALUES (1, 10, 'a')";
    let world = World::new(schema, &["public.orders"]).await?;
    world.declare("order", json!({"table": "public.orders"})).await?;
    let refused = async |said: &str| {
        let error = world.fetch("order", "1").await?.err().context("it was fetched")?;
        ensure!(error.message.contains(said), "{said}: {error}");
        anyhow::Ok(())
    };
    let error = world.fetch("order", "one").await?.err().context("it was fetched")?;
    ensure!(error.message.contains("can't be read as id of public.orders"), "{error}");
    world.client.batch_execute("BEGIN; LOCK TABLE orders").await?;
    refused("is locked").await?;
    world.client.batch_execute("ROLLBACK").await?;
    world.claim(&[("public.orders", &["id", "total"])]).await?;
    refused("may not read id, total, note. Add them to its claims").await?;
    world.claim(&[]).await?;
    world.subscribe(&[]).await?;
    world
        .client
        .batch_execute("GRANT SELECT ON orders TO shop; GRANT USAGE ON SCHEMA public TO shop")
        .await?;
    ensure!(world.fetch("order", "1").await??.data.is_some(), "it may read again");
    // While a table is rewritten, an older snapshot would take it for empty.
    let waiting = tokio::spawn({
        let (source, tenant) = (world.source("order").await?, world.tenant().await?);
        world.client.batch_execute("BEGIN; ALTER TABLE orders ALTER total TYPE bigint").await?;
        async move { source.fetch(&fetch(tenant, "order", "1")).await }
    });
    let blocked =
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass)";
    support::until("it waits for the table", async || {
        Ok(world.client.query_one(blocked, &[]).await?.get(0))
    })
    .await?;
    world.client.batch_execute("COMMIT").await?;
    ensure!(waiting.await??.data.is_some(), "the row was there all the time");
    world.client.batch_execute("ALTER TABLE orders RENAME note TO notes").await?;
    refused("column t.note does not exist. Declare the class anew").await?;
    world.client.batch_execute("DROP TABLE orders").await?;
    refused("there is no table public.orders any more").await
}
