//! A second Postgres, as a target.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integratedb_sidecar::reach::Reach;
use integratedb_sidecar::sync::SyncSettings;
use integratedb_sidecar::sync::target::{Comparison, open};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use support::{Cluster, Database, Network, until};
use tokio_postgres::Client;

use crate::{gone, refusal, target, target_within, upsert};

struct Setup {
    cluster: Cluster,
    database: Database,
    client: Client,
}

async fn setup(sql: &str) -> Result<Setup> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let client = database.connect().await?;
    client.batch_execute(sql).await?;
    Ok(Setup { cluster, database, client })
}

impl Setup {
    fn settings(&self, tables: &Value) -> Value {
        json!({"url": self.database.url(), "tables": tables})
    }

    /// The rows of a query, as JSON.
    async fn rows(&self, query: &str) -> Result<Value> {
        let row = self
            .client
            .query_one(&format!("SELECT coalesce(json_agg(q), '[]') FROM ({query}) q"), &[])
            .await?;
        Ok(row.get(0))
    }
}

#[tokio::test]
async fn a_row_is_inserted_updated_and_deleted() -> Result<()> {
    let setup = setup(
        "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL, ours text DEFAULT 'kept',
             double bigint GENERATED ALWAYS AS (id * 2) STORED);",
    )
    .await?;
    let target =
        target("postgres", &setup.settings(&json!({"orders": {"table": "public.orders"}})))?;
    let first = json!({"id": 5, "item": "a", "unknown": 1, "double": 3});
    ensure!(target.compare(&upsert("orders", "5", 1, &first)).await? == Comparison::Create);
    target.push(&upsert("orders", "5", 1, &first)).await?;
    ensure!(target.compare(&upsert("orders", "5", 1, &first)).await? == Comparison::Same);
    setup.client.batch_execute("UPDATE orders SET ours = 'changed'").await?;
    let second = json!({"id": 5, "item": "b"});
    ensure!(
        target.compare(&upsert("orders", "5", 2, &second)).await?
            == Comparison::Update(vec!["item".to_owned()])
    );
    for _ in 0..2 {
        target.push(&upsert("orders", "5", 2, &second)).await?;
    }
    let rows = setup.rows("SELECT id, item, ours, double FROM orders").await?;
    ensure!(rows == json!([{"id": 5, "item": "b", "ours": "changed", "double": 10}]), "{rows}");
    // By the last data, or without them by the key.
    target.push(&upsert("orders", "6", 3, &json!({"id": 6, "item": "c"}))).await?;
    ensure!(target.compare(&gone("orders", "6", 4, None)).await? == Comparison::Delete);
    target.push(&gone("orders", "6", 4, None)).await?;
    target.push(&gone("orders", "x", 5, Some(&second))).await?;
    target.push(&gone("orders", "x", 5, Some(&second))).await?;
    ensure!(setup.rows("SELECT id FROM orders").await? == json!([]));
    ensure!(target.compare(&gone("orders", "x", 5, Some(&second))).await? == Comparison::Same);
    // Classes without a table are none of its.
    target.push(&upsert("others", "1", 1, &first)).await?;
    ensure!(target.compare(&upsert("others", "1", 1, &first)).await? == Comparison::Same);
    Ok(())
}

#[tokio::test]
async fn columns_are_mapped_and_types_kept() -> Result<()> {
    let setup = setup(
        r#"CREATE SCHEMA "my schema";
           CREATE TABLE "my schema"."T.x" (a int, "b""c" text, n numeric(40, 20), f float8, t timestamptz, d date, j jsonb, raw json,
               l int[], bytes bytea, flag boolean, u uuid, PRIMARY KEY (a, "b""c"));"#,
    )
    .await?;
    let columns = json!({"a": "id", "b\"c": "na'me", "n": "n", "f": "f", "t": "at", "d": "on", "j": "doc", "raw": "doc", "l": "list",
        "bytes": "bytes", "flag": "flag", "u": "u"});
    let table = json!({"table": "\"my schema\".\"T.x\"", "columns": columns, "key": ["a", "b\"c"]});
    let target = target("postgres", &setup.settings(&json!({"c": table})))?;
    let exact = r#"{"id": 1, "na'me": "x'y\"\\z", "n": 12345678901234567890.12345678901234567890, "f": 1e300,
        "at": "2026-01-02T03:04:05.678+02:00", "on": "2026-01-02", "doc": {"a": [1, 1.50]}, "list": [1, 2], "bytes": "\\x00ff",
        "flag": true, "u": "3f333df6-90a4-4fda-8dd3-9485d27cee36"}"#;
    let mut push = upsert("c", r#"["1","x'y\"\\z"]"#, 1, &Value::Null);
    push.data = Some(RawValue::from_string(exact.to_owned())?.into());
    target.push(&push).await?;
    let kept = setup
        .rows(r#"SELECT n::text, "b""c" AS b, f::text, t = '2026-01-02 01:04:05.678Z' AS t, raw::text, l, bytes = '\x00ff' AS bytes FROM "my schema"."T.x""#)
        .await?;
    let expected = json!([{"n": "12345678901234567890.12345678901234567890", "b": "x'y\"\\z", "f": "1e+300", "t": true,
        "raw": "{\"a\": [1, 1.50]}", "l": [1, 2], "bytes": true}]);
    ensure!(kept == expected, "{kept}");
    ensure!(target.compare(&push).await? == Comparison::Same, "{:?}", target.compare(&push).await?);
    // The same in other words is the same; and what differs is told by column.
    let other = exact
        .replace("+02:00", "+01:00")
        .replace("03:04:05", "02:04:05")
        .replace("1.50", "1.5")
        .replace("1e300", "10e299");
    push.data = Some(RawValue::from_string(other.clone())?.into());
    let differs = target.compare(&push).await?;
    ensure!(differs == Comparison::Same, "{differs:?}");
    push.data = Some(
        RawValue::from_string(other.replace("[1, 2]", "[2, 1]").replace("true", "null"))?.into(),
    );
    ensure!(
        target.compare(&push).await? == Comparison::Update(vec!["flag".to_owned(), "l".to_owned()])
    );
    // Without data the key is what there is.
    let removal = gone("c", r#"["1","x'y\"\\z"]"#, 2, None);
    ensure!(target.compare(&removal).await? == Comparison::Delete);
    target.push(&removal).await?;
    ensure!(setup.rows("SELECT 1 FROM \"my schema\".\"T.x\"").await? == json!([]));
    Ok(())
}

#[tokio::test]
async fn what_postgres_refuses_is_told_without_values() -> Result<()> {
    let setup = setup(
        "CREATE TABLE customers (id int PRIMARY KEY);
         CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, code varchar(3) UNIQUE);
         CREATE TABLE keyless (id int);
         INSERT INTO customers VALUES (1); INSERT INTO orders VALUES (1, 1, 'a');",
    )
    .await?;
    let tables = json!({"orders": {"table": "orders"}, "customers": {"table": "customers"}, "keyless": {"table": "keyless"},
        "missing": {"table": "public.missing"}, "mapped": {"table": "orders", "columns": {"id": "id", "code": "kode"}},
        "wrong": {"table": "orders", "columns": {"id": "id", "kode": "code"}}, "other_key": {"table": "orders", "key": ["customer"]}});
    let target = target("postgres", &setup.settings(&tables))?;
    let order = |id: Value, customer: i64, code: &str| json!({"id": id, "customer": customer, "code": code});
    let told = async |class, data: &Value| refusal(&*target, &upsert(class, "1", 1, data)).await;
    for (class, data, expected) in [
        (
            "orders",
            order(2.into(), 987, "b"),
            "violates foreign key constraint \"orders_customer_fkey\" (SQLSTATE 23503)",
        ),
        (
            "orders",
            order(2.into(), 1, "a"),
            "duplicate key value violates unique constraint \"orders_code_key\" (SQLSTATE 23505)",
        ),
        (
            "orders",
            order("987x".into(), 1, "b"),
            "invalid input syntax for type integer: \"…\" (SQLSTATE 22P02)",
        ),
        (
            "orders",
            order(98_765_432_109_i64.into(), 1, "b"),
            "value \"…\" is out of range for type integer (SQLSTATE 22003)",
        ),
        (
            "orders",
            order(2.into(), 1, "987654"),
            "too long for type character varying(3) (SQLSTATE 22001)",
        ),
        ("orders", json!({"customer": 1}), "the data has no id, which is a key"),
        (
            "missing",
            json!({"id": 1}),
            "the upsert into public.missing: relation \"public.missing\" does not exist (SQLSTATE 42P01)",
        ),
        ("keyless", json!({"id": 1}), "no primary key"),
        ("mapped", json!({"id": 1, "code": "c"}), "the data has no kode, which column code has"),
        (
            "wrong",
            json!({"id": 1, "code": "c"}),
            "column \"kode\" of relation \"orders\" does not exist (SQLSTATE 42703)",
        ),
        (
            "other_key",
            order(2.into(), 1, "c"),
            "no unique or exclusion constraint matching the ON CONFLICT specification",
        ),
        ("orders", json!([1]), "not a JSON object"),
    ] {
        let text = told(class, &data).await?;
        ensure!(text.contains(expected), "{text}, but expected {expected}");
        ensure!(!text.contains("987"), "{text}");
    }
    let parent = refusal(&*target, &gone("customers", "1", 1, None)).await?;
    ensure!(parent.contains("violates foreign key constraint"), "{parent}");
    let told = refusal(&*target, &gone("orders", r#"["1","2"]"#, 1, None)).await?;
    ensure!(told.contains("(SQLSTATE 22P02)") && !told.contains("[\"1\""), "{told}");
    ensure!(setup.rows("SELECT id FROM orders").await? == json!([{"id": 1}]));

    // Once there is what was missing, it goes well.
    setup
        .client
        .batch_execute(
            "CREATE TABLE missing (id int PRIMARY KEY); INSERT INTO customers VALUES (987)",
        )
        .await?;
    target.push(&upsert("missing", "1", 1, &json!({"id": 1}))).await?;
    target.push(&upsert("orders", "2", 1, &order(2.into(), 987, "b"))).await?;
    Ok(())
}

#[tokio::test]
async fn a_column_that_is_added_later_is_found() -> Result<()> {
    let setup = setup("CREATE TABLE t (id int PRIMARY KEY, old int)").await?;
    let target = target("postgres", &setup.settings(&json!({"t": {"table": "t"}})))?;
    let push = upsert("t", "1", 1, &json!({"id": 1, "old": 2, "new": 3}));
    target.push(&push).await?;
    setup
        .client
        .batch_execute("ALTER TABLE t DROP COLUMN old; ALTER TABLE t ADD COLUMN new int")
        .await?;
    let told = refusal(&*target, &push).await?;
    ensure!(told.contains("old"), "{told}");
    target.push(&push).await?;
    ensure!(setup.rows("SELECT * FROM t").await? == json!([{"id": 1, "new": 3}]));
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() -> Result<()> {
    let setup = setup("CREATE ROLE app LOGIN PASSWORD 'right'; CREATE TABLE t (id int PRIMARY KEY); GRANT ALL ON t TO app").await?;
    let with = |password: &str| {
        let url = setup.database.url_as("app", password);
        target("postgres", &json!({"url": url, "tables": {"t": {"table": "t"}}}))
    };
    let told = refusal(&*with("hushhush")?, &upsert("t", "1", 1, &json!({"id": 1}))).await?;
    ensure!(told.contains("password authentication failed") && told.contains("28P01"), "{told}");
    ensure!(!told.contains("hushhush"), "{told}");
    with("right")?.push(&upsert("t", "1", 1, &json!({"id": 1}))).await?;
    Ok(())
}

#[tokio::test]
async fn only_addresses_that_may_be_reached_are() -> Result<()> {
    let setup = setup("CREATE TABLE t (id int PRIMARY KEY)").await?;
    let port = setup.cluster.address().port();
    let refused = async |reach: Reach, host: &str| {
        let hidden = json!({"url": format!("postgres://postgres@{host}:{port}/shop")});
        let settings = json!({"tables": {"t": {"table": "t"}}});
        let opened = open("postgres", &settings, &hidden, &reach, Duration::from_secs(5));
        let target = opened.map_err(|why| anyhow::anyhow!(why))?;
        refusal(&*target, &upsert("t", "1", 1, &json!({"id": 1}))).await
    };
    for host in ["127.0.0.1", "localhost"] {
        let told = refused(Reach::from(&SyncSettings::default()), host).await?;
        ensure!(told.contains("without TLS") && told.contains("sslmode=require"), "{told}");
        let open = SyncSettings { allow_http: true, ..SyncSettings::default() };
        let told = refused(Reach::from(&open), host).await?;
        ensure!(
            told.contains("not a public address") && told.contains("sync.allow_networks"),
            "{told}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_push_that_is_given_up_does_not_run_on() -> Result<()> {
    let setup =
        setup("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0)").await?;
    let timeout = Duration::from_secs(2);
    let target =
        target_within("postgres", &setup.settings(&json!({"t": {"table": "t"}})), timeout)?;
    target.push(&upsert("t", "1", 1, &json!({"id": 1, "n": 1}))).await?;
    setup.client.batch_execute("BEGIN; LOCK TABLE t").await?;
    // It is stopped by the server, within the push's time.
    let begun = Instant::now();
    let told = refusal(&*target, &upsert("t", "1", 2, &json!({"id": 1, "n": 2}))).await?;
    ensure!(
        told.contains("timeout") && begun.elapsed() < timeout,
        "{told} after {:?}",
        begun.elapsed()
    );
    // The one who waits for it may be gone before; those after it have other connections.
    let push = upsert("t", "1", 3, &json!({"id": 1, "n": 3}));
    let abandoned = tokio::time::timeout(Duration::from_millis(100), target.push(&push)).await;
    ensure!(abandoned.is_err());
    let watcher = setup.database.connect().await?;
    until("nothing waits for the table any more", async || {
        let waiting =
            "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND NOT granted";
        Ok(watcher.query_one(waiting, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await?;
    setup.client.batch_execute("COMMIT").await?;
    ensure!(
        setup.rows("SELECT n FROM t").await? == json!([{"n": 1}]),
        "an abandoned push has run on"
    );
    target.push(&upsert("t", "1", 4, &json!({"id": 1, "n": 4}))).await?;
    ensure!(setup.rows("SELECT n FROM t").await? == json!([{"n": 4}]));
    Ok(())
}

#[tokio::test]
async fn a_connection_that_breaks_costs_an_error_and_no_more() -> Result<()> {
    let mut setup = setup("CREATE TABLE t (id int PRIMARY KEY, n int)").await?;
    let network = Network::to(setup.cluster.address()).await?;
    let url = setup.database.url_through(network.address(), "postgres", "");
    let settings = json!({"url": url, "tables": {"t": {"table": "t"}}});
    let target = target_within("postgres", &settings, Duration::from_secs(4))?;
    let push = |n: i64| upsert("t", "1", n, &json!({"id": 1, "n": n}));
    target.push(&push(1)).await?;
    network.break_after(0);
    let told = refusal(&*target, &push(2)).await?;
    ensure!(told.contains("does not answer") || told.contains("no connection"), "{told}");
    network.heal();
    until("it goes well again", async || Ok(target.push(&push(3)).await.is_ok())).await?;
    ensure!(setup.rows("SELECT n FROM t").await? == json!([{"n": 3}]));

    setup.cluster.stop().await?;
    ensure!(target.push(&push(4)).await.is_err());
    setup.cluster.restart().await?;
    setup.client = setup.database.connect().await?;
    until("it goes well again", async || Ok(target.push(&push(5)).await.is_ok())).await?;
    ensure!(setup.rows("SELECT n FROM t").await? == json!([{"n": 5}]));
    Ok(())
}

#[tokio::test]
async fn there_are_no_more_connections_than_were_asked_for() -> Result<()> {
    let setup = setup("CREATE TABLE t (id int PRIMARY KEY, n int)").await?;
    let mut settings = setup.settings(&json!({"t": {"table": "t"}}));
    settings["url"] = format!("{}&application_name=sync_test", setup.database.url()).into();
    settings["connections"] = 3.into();
    let target = target("postgres", &settings)?;
    let pushes: Vec<_> =
        (0..100).map(|n: i64| upsert("t", &n.to_string(), n, &json!({"id": n, "n": n}))).collect();
    let all = futures_util::future::join_all(pushes.iter().map(|push| target.push(push))).await;
    ensure!(all.iter().all(Result::is_ok), "{all:?}");
    ensure!(setup.rows("SELECT count(*) FROM t").await? == json!([{"count": 100}]));
    let open = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sync_test'";
    ensure!(setup.rows(open).await? == json!([{"count": 3}]), "{}", setup.rows(open).await?);
    Ok(())
}
