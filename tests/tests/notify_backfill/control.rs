//! What people ask of a backfill, and what is refused.

use anyhow::{Context, Result, ensure};
use integratedb_events::Op;
use serde_json::json;
use support::{Cluster, until};

use crate::world::{World, subscribe};

const TABLES: &str = "
CREATE TABLE items (a int PRIMARY KEY, b text);
INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 4000) n;
CREATE TABLE others (a int PRIMARY KEY, b text);
CREATE TABLE keyless (a int, b text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE descending (a int NOT NULL, b text);
CREATE UNIQUE INDEX descending_a ON descending (a DESC);
ALTER TABLE descending REPLICA IDENTITY USING INDEX descending_a;
";

const PATH: &str = "/api/v1/stakeholders/1/backfills";

impl World {
    async fn told(&self) -> Result<usize> {
        Ok(self.log().await?.iter().filter(|event| event.op == Op::Snapshot).count())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_pauses_goes_on_and_ends() -> Result<()> {
    let slowly = |config: &mut integratedb_sidecar::Config| {
        config.notifications.backfill_rows_per_sec = 2000;
    };
    let world = World::new(TABLES, &["items"], slowly).await?;
    world.client.batch_execute("ANALYZE items").await?;
    world.followed().await?;
    let id = world.backfill("public.items", 100).await?;
    let shown = world.show(id).await?;
    ensure!(shown["rows_estimated"] == 4000 && shown["table"] == "public.items", "{shown}");

    let body = json!({"backfill": {"table": "public.items"}});
    let again = world.sidecar.post(PATH, body.clone()).await?;
    ensure!(again.status == 409, "{}", again.text);
    until("some rows are told", async || {
        Ok(world.show(id).await?["rows_done"].as_i64() > Some(300))
    })
    .await?;
    ensure!(world.ask(id, "resume").await? == 409, "it runs");
    ensure!(world.ask(id, "pause").await? == 200, "it can't be paused");
    let paused = world.show(id).await?;
    let told = world.told().await?;
    // One more change, and all that was under way has arrived.
    world.client.batch_execute("UPDATE items SET b = 'other' WHERE a = 1").await?;
    ensure!(world.told().await? == told && paused == world.show(id).await?, "it did not pause");
    ensure!(paused["state"] == "paused" && paused["rows_done"].as_i64() < Some(4000), "{paused}");

    ensure!(world.ask(id, "resume").await? == 200, "it can't go on");
    let done = world.is(id, "done").await?;
    ensure!(done["rows_done"] == 4000 && done["finished_at"].is_string(), "{done}");
    ensure!(world.told().await? == 4000, "not every row once");
    for what in ["pause", "resume", "cancel"] {
        ensure!(world.ask(id, what).await? == 409, "{what} of one that is done");
    }

    let id = world.backfill("public.items", 100).await?;
    until("some rows are told", async || {
        Ok(world.show(id).await?["rows_done"].as_i64() > Some(300))
    })
    .await?;
    ensure!(world.ask(id, "cancel").await? == 200, "it can't be cancelled");
    let told = world.told().await?;
    world.client.batch_execute("UPDATE items SET b = 'another' WHERE a = 1").await?;
    ensure!(world.told().await? == told && told < 8000, "it went on");
    let third = world.backfill("public.items", 5000).await?;
    world.is(third, "done").await?;
    let all = world.sidecar.get(PATH).await?;
    let states: Vec<&str> = all.body["data"]
        .as_array()
        .context("no list")?
        .iter()
        .filter_map(|one| one["state"].as_str())
        .collect();
    ensure!(states == ["done", "cancelled", "done"], "{states:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_is_refused_where_it_is_asked() -> Result<()> {
    let world = World::new(TABLES, &["items"], |_| {}).await?;
    subscribe(&world.client, "keyless").await?;
    subscribe(&world.client, "descending").await?;
    let cases = [
        (json!({"table": "public.others"}), "no notification subscription", "#/backfill/table"),
        (json!({"table": "items"}), "no notification subscription", "#/backfill/table"),
        (json!({"table": "public.keyless"}), "no primary key", "#/backfill/table"),
        (json!({"table": "public.descending"}), "plain order", "#/backfill/table"),
        (json!({"table": 7}), "Name a table", "#/backfill/table"),
        (json!({"table": "public.items", "chunk_rows": 0}), "from 1 to", "#/backfill/chunk_rows"),
        (json!({"table": "public.items", "channels": []}), "all channels", "#/backfill/channels"),
    ];
    for (body, what, pointer) in cases {
        let reply = world.sidecar.post(PATH, json!({"backfill": body})).await?;
        let mistake = &reply.body["errors"]["detail"][0];
        let said = mistake[0].as_str().is_some_and(|text| text.contains(what));
        ensure!(reply.status == 422 && said && mistake[1] == pointer, "{body}: {}", reply.text);
    }
    ensure!(world.sidecar.post(PATH, json!({})).await?.status == 422, "no body");
    let body = json!({"backfill": {"table": "public.items"}});
    for path in ["/api/v1/stakeholders/2/backfills", "/api/v1/stakeholders/x/backfills"] {
        ensure!(world.sidecar.post(path, body.clone()).await?.status == 404, "{path}");
    }
    ensure!(world.sidecar.get(&format!("{PATH}/1")).await?.status == 404, "there is none");
    let id = world.backfill("public.items", 5000).await?;
    world.is(id, "done").await?;
    let path = format!("/api/v1/stakeholders/2/backfills/{id}");
    ensure!(world.sidecar.get(&path).await?.status == 404, "another's");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_read_is_told_what_to_grant() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let roles =
        "CREATE ROLE app LOGIN PASSWORD 'secret'; SELECT integratedb.grant_sidecar('app', true)";
    database.connect().await?.batch_execute(roles).await?;
    let url = database.url_as("app", "secret");
    let world = World::on(cluster, database, &url, TABLES, &["items"], |_| {}).await?;
    world.followed().await?;
    let id = world.backfill("public.items", 1000).await?;
    let failed = world.is(id, "failed").await?;
    let error = failed["error"].as_str().context("no error")?;
    ensure!(error.contains(r#"GRANT SELECT ON "public"."items" TO "app""#), "{error}");

    world
        .client
        .batch_execute("GRANT SELECT ON items TO app; ALTER TABLE items ENABLE ROW LEVEL SECURITY")
        .await?;
    ensure!(world.ask(id, "resume").await? == 200, "it can't begin again");
    let failed = world.is(id, "failed").await?;
    let error = failed["error"].as_str().context("no error")?;
    ensure!(error.contains(r#"ALTER ROLE "app" BYPASSRLS"#), "{error}");

    world.client.batch_execute("ALTER ROLE app BYPASSRLS").await?;
    ensure!(world.ask(id, "resume").await? == 200, "it can't begin again");
    let done = world.is(id, "done").await?;
    ensure!(done["error"].is_null() && world.told().await? == 4000, "{done}");
    Ok(())
}
