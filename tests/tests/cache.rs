//! The cache through the proxy: what is kept, for whom, and until when.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use support::{Cached as Setup, until};

#[tokio::test]
async fn a_prepared_statement_is_answered_from_the_cache() -> Result<()> {
    let setup = Setup::new().await?;
    for name in ["pass", "transaction"] {
        let client = setup.connect(name, "app").await?;
        let statement = client.prepare("SELECT name FROM items WHERE id = $1").await?;
        until("it is a hit", async || {
            let before = setup.hits(name).await?;
            let row = client.query_one(&statement, &[&7]).await?;
            ensure!(row.get::<_, &str>(0) == "item 7");
            Ok(setup.hits(name).await? > before)
        })
        .await?;
        // Prepared anew, under another name, by somebody else.
        let other = setup.connect(name, "app").await?;
        let before = setup.hits(name).await?;
        let row = other.query_one("SELECT name FROM items WHERE id = $1", &[&7]).await?;
        ensure!(row.get::<_, &str>(0) == "item 7" && setup.hits(name).await? > before);
        ensure!(other.query("SELECT name FROM items WHERE id = $1", &[&8]).await?.len() == 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_write_through_the_proxy_is_seen_at_once_by_all() -> Result<()> {
    let setup = Setup::new().await?;
    let query = "SELECT price FROM items WHERE id = 7";
    for name in ["pass", "transaction"] {
        let (writer, reader) =
            (setup.connect(name, "app").await?, setup.connect(name, "app").await?);
        for round in 0..30 {
            if round % 3 == 0 {
                setup.warm(name, &reader, query).await?;
            }
            match round % 2 {
                0 => {
                    let update = "UPDATE items SET price = $1 WHERE id = $2";
                    writer.execute(update, &[&round, &7]).await?;
                }
                _ => {
                    let update =
                        format!("BEGIN; UPDATE items SET price = {round} WHERE id = 7; COMMIT");
                    writer.batch_execute(&update).await?;
                }
            }
            let (rows, _) = setup.ask(name, &reader, query).await?;
            ensure!(rows == [round.to_string()], "{rows:?} in round {round} of {name}");
        }
    }
    Ok(())
}

/// Waits until this many answers were dropped as one of their rows has changed.
async fn dropped_by_row(setup: &Setup, count: u64) -> Result<()> {
    until("the change drops what it concerns", async || {
        let dropped = setup.caching("pass").await?["invalidated_by_row"].as_u64();
        ensure!(dropped <= Some(count), "{dropped:?} instead of {count}");
        Ok(dropped == Some(count))
    })
    .await
}

#[tokio::test]
async fn a_write_around_the_proxy_drops_only_what_it_concerns() -> Result<()> {
    let setup = Setup::new().await?;
    let client = setup.connect("pass", "app").await?;
    let (seventh, eighth) =
        ("SELECT price FROM items WHERE id = 7", "SELECT price FROM items WHERE id = 8");
    let all = "SELECT sum(price) FROM items";
    let joined =
        "SELECT sum(amount) FROM orders o JOIN items i ON i.id = o.item WHERE i.id IN (7, 9)";
    for query in [seventh, eighth, all, joined] {
        setup.warm("pass", &client, query).await?;
    }
    setup.admin("UPDATE items SET price = 1 WHERE id = 7").await?;
    dropped_by_row(&setup, 2).await?;
    // Who has asked the origin has seen more than is applied, perhaps, and would be served nothing.
    let fresh = setup.connect("pass", "app").await?;
    ensure!(setup.ask("pass", &fresh, eighth).await? == (vec!["80".to_owned()], true));
    ensure!(setup.ask("pass", &fresh, seventh).await? == (vec!["1".to_owned()], false));
    ensure!(setup.ask("pass", &fresh, all).await?.0 == ["50431"]);
    setup.warm("pass", &client, joined).await?;
    setup.admin("UPDATE items SET price = 2 WHERE id = 9").await?;
    dropped_by_row(&setup, 3).await?;
    let fresh = setup.connect("pass", "app").await?;
    let (_, was_hit) = setup.ask("pass", &fresh, joined).await?;
    ensure!(!was_hit, "an IN list depends on each value");
    Ok(())
}

#[tokio::test]
async fn reads_in_a_block_need_no_origin() -> Result<()> {
    let setup = Setup::new().await?;
    for name in ["pass", "transaction"] {
        let client = setup.connect(name, "app").await?;
        let query = "SELECT price FROM items WHERE id = 7";
        setup.warm(name, &client, query).await?;
        let commits = async || -> Result<i64> {
            let sql = "SELECT pg_stat_clear_snapshot(), (SELECT count(*) FROM pg_stat_activity
                       WHERE usename = 'app' AND query ILIKE 'begin%')";
            Ok(setup.database.connect().await?.query_one(sql, &[]).await?.get(1))
        };
        client.batch_execute("BEGIN").await?;
        ensure!(setup.ask(name, &client, query).await? == (vec!["70".to_owned()], true));
        ensure!(commits().await? == 0, "the origin was told of the block");
        client.batch_execute("COMMIT").await?;
        // Fetched by itself, and kept; but where the reader is behind just then, the origin is told.
        let was_fetched = std::cell::Cell::new(false);
        until("a read in a block is kept", async || {
            client.batch_execute("BEGIN").await?;
            let read = "SELECT price FROM items WHERE id = 17";
            let (_, was_hit) = setup.ask(name, &client, read).await?;
            let was_told = commits().await? > 0;
            client.batch_execute("COMMIT").await?;
            was_fetched.set(was_fetched.get() || !was_hit && !was_told);
            Ok(was_hit && was_fetched.get())
        })
        .await?;

        // What has to be in the block is.
        setup.warm(name, &client, query).await?;
        client.batch_execute("START TRANSACTION READ ONLY").await?;
        ensure!(setup.ask(name, &client, query).await?.1);
        let refused = client.execute("UPDATE items SET price = 1 WHERE id = 50", &[]).await;
        ensure!(refused.err().and_then(|e| e.code().cloned()).is_some_and(|c| c.code() == "25006"));
        ensure!(client.simple_query(query).await.is_err(), "the block has failed");
        client.batch_execute("ROLLBACK").await?;

        // An error fails the block, also of what ran by itself.
        client.batch_execute("BEGIN").await?;
        setup.ask(name, &client, query).await?;
        let divided = "SELECT 1 / (price - price) FROM items WHERE id = 7";
        ensure!(client.simple_query(divided).await.is_err());
        ensure!(client.simple_query(query).await.is_err(), "the block has failed");
        client.batch_execute("ROLLBACK").await?;
        ensure!(setup.warm(name, &client, query).await? == ["70"]);

        // A write in the block is seen in it, and by others once it is over.
        let other = setup.connect(name, "app").await?;
        setup.warm(name, &other, "SELECT price FROM items WHERE id = 20").await?;
        client.batch_execute("BEGIN").await?;
        client.execute("UPDATE items SET price = 3 WHERE id = 20", &[]).await?;
        let mine = setup.ask(name, &client, "SELECT price FROM items WHERE id = 20").await?.0;
        let theirs = setup.ask(name, &other, "SELECT price FROM items WHERE id = 20").await?.0;
        ensure!(mine == ["3"] && theirs == ["200"], "{mine:?} {theirs:?}");
        client.batch_execute("COMMIT").await?;
        ensure!(setup.ask(name, &other, "SELECT price FROM items WHERE id = 20").await?.0 == ["3"]);
        client.batch_execute("UPDATE items SET price = 200 WHERE id = 20").await?;
    }
    Ok(())
}

#[tokio::test]
async fn nobody_gets_what_another_role_may_read() -> Result<()> {
    let setup = Setup::new().await?;
    setup
        .admin(
            "CREATE TABLE notes (id int PRIMARY KEY, owner name, tenant text);
             INSERT INTO notes VALUES (1, 'app', 'a'), (2, 'other', 'b');
             ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON notes USING (owner = current_user
                 OR tenant = current_setting('app.tenant', true));
             GRANT SELECT ON notes TO app, other",
        )
        .await?;
    let query = "SELECT id FROM notes ORDER BY id";
    for name in ["pass", "transaction"] {
        let (app, other) = (setup.connect(name, "app").await?, setup.connect(name, "other").await?);
        ensure!(setup.warm(name, &app, query).await? == ["1"]);
        ensure!(setup.warm(name, &other, query).await? == ["2"]);
        ensure!(setup.ask(name, &app, query).await? == (vec!["1".to_owned()], true));
        app.batch_execute("SET app.tenant = 'b'").await?;
        ensure!(setup.warm(name, &app, query).await? == ["1", "2"]);
        app.batch_execute("RESET app.tenant").await?;
        ensure!(setup.warm(name, &app, query).await? == ["1"]);
    }
    let app = setup.connect("pass", "app").await?;
    setup.admin("REVOKE SELECT ON notes FROM app").await?;
    until("the privilege is gone", async || Ok(app.simple_query(query).await.is_err())).await?;
    Ok(())
}

#[tokio::test]
async fn settings_that_change_an_answer_are_part_of_the_question() -> Result<()> {
    let setup = Setup::new().await?;
    setup
        .admin(
            "CREATE TABLE times (id int PRIMARY KEY, at timestamptz); INSERT INTO times VALUES (1, '2026-01-01 00:00Z');
             CREATE SCHEMA second; CREATE TABLE second.items (id int PRIMARY KEY, price int);
             INSERT INTO second.items VALUES (7, 42);
             GRANT ALL ON SCHEMA second TO app; GRANT ALL ON times, second.items TO app",
        )
        .await?;
    for name in ["pass", "transaction"] {
        let client = setup.connect(name, "app").await?;
        client.batch_execute("SET TimeZone = 'UTC'").await?;
        let time = "SELECT at FROM times WHERE id = 1";
        ensure!(setup.warm(name, &client, time).await? == ["2026-01-01 00:00:00+00"]);
        client.batch_execute("SET TimeZone = 'Asia/Tokyo'").await?;
        ensure!(setup.warm(name, &client, time).await? == ["2026-01-01 09:00:00+09"]);
        client.batch_execute("SET TimeZone = 'UTC'").await?;
        ensure!(setup.warm(name, &client, time).await? == ["2026-01-01 00:00:00+00"]);

        let price = "SELECT price FROM items WHERE id = 7";
        ensure!(setup.warm(name, &client, price).await? == ["70"]);
        client.batch_execute("SET search_path = second, public").await?;
        ensure!(setup.warm(name, &client, price).await? == ["42"]);
        client.batch_execute("BEGIN; SET LOCAL search_path = public").await?;
        ensure!(setup.ask(name, &client, price).await?.0 == ["70"]);
        client.batch_execute("COMMIT").await?;
        ensure!(setup.ask(name, &client, price).await?.0 == ["42"]);
        client.batch_execute("RESET search_path").await?;
        // A temporary table hides the other.
        client.batch_execute("CREATE TEMP TABLE items AS SELECT 7 AS id, 1 AS price").await?;
        ensure!(setup.ask(name, &client, price).await?.0 == ["1"]);
        ensure!(setup.ask(name, &client, price).await? == (vec!["1".to_owned()], false));
    }
    Ok(())
}

#[tokio::test]
async fn a_change_of_the_schema_drops_what_it_may_concern() -> Result<()> {
    let setup = Setup::new().await?;
    setup
        .admin(
            "CREATE MATERIALIZED VIEW sums AS SELECT sum(price) AS s FROM items;
             CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
             CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
             CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
             INSERT INTO parts VALUES (1, 1);
             GRANT SELECT ON sums, parts TO app",
        )
        .await?;
    let client = setup.connect("pass", "app").await?;
    for (query, before, change, after) in [
        (
            "SELECT count(*) FROM cheap",
            "9",
            "CREATE OR REPLACE VIEW cheap AS SELECT * FROM items WHERE price < 50",
            "4",
        ),
        (
            "SELECT s FROM sums",
            "50500",
            "UPDATE items SET price = price + 1 WHERE id = 1; REFRESH MATERIALIZED VIEW sums",
            "50501",
        ),
        (
            "SELECT twice(price) FROM items WHERE id = 2",
            "40",
            "CREATE OR REPLACE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 3'",
            "60",
        ),
        (
            "SELECT sum(v) FROM parts",
            "1",
            "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20); INSERT INTO parts VALUES (11, 5)",
            "6",
        ),
        ("SELECT sum(v) FROM parts", "6", "UPDATE parts SET v = 7 WHERE id = 11", "8"),
        ("SELECT sum(v) FROM parts", "8", "ALTER TABLE parts DETACH PARTITION parts_2", "1"),
        (
            "SELECT amount FROM orders WHERE id = 3",
            "3",
            "ALTER TABLE orders ALTER amount TYPE text USING 'no ' || amount",
            "no 3",
        ),
        ("SELECT count(*) FROM orders", "1000", "TRUNCATE orders", "0"),
    ] {
        ensure!(setup.warm("pass", &client, query).await? == [before], "{query}");
        setup.admin(change).await?;
        until(&format!("{change} arrives"), async || {
            Ok(setup.ask("pass", &client, query).await?.0 == [after])
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_kept_says_why() -> Result<()> {
    let setup = Setup::new().await?;
    setup.admin("CREATE UNLOGGED TABLE fleeting (n int); CREATE SEQUENCE s; GRANT ALL ON fleeting, s TO app").await?;
    let client = setup.connect("pass", "app").await?;
    for (query, why) in [
        ("SELECT now()", "clock"),
        ("SELECT random() FROM items", "random"),
        ("SELECT * FROM items FOR UPDATE", "lock"),
        ("SELECT * FROM unkeyed", "identity"),
        ("SELECT * FROM fleeting", "unlogged"),
        ("SELECT nextval('s')", "nextval"),
        ("SELECT count(*) FROM pg_class", "system"),
        ("SELECT * FROM no_such_table", "does not exist"),
    ] {
        let kept = setup.kept("pass", query).await?;
        ensure!(kept["state"] == "passed", "{kept}");
        let told = kept["why"].as_str().unwrap_or_default().to_lowercase();
        ensure!(told.contains(why), "{query}: {told}");
        for _ in 0..3 {
            if query.contains("no_such") {
                ensure!(client.simple_query(query).await.is_err());
            } else {
                ensure!(!setup.ask("pass", &client, query).await?.1, "{query}");
            }
        }
    }
    let kept = setup.kept("pass", "SELECT * FROM items WHERE id = $1").await?;
    ensure!(kept["state"] == "kept" && kept["tables"][0]["invalidation"] == "row", "{kept}");
    let kept = setup.kept("pass", "SELECT * FROM items WHERE price = $1").await?;
    ensure!(kept["tables"][0]["invalidation"] == "table", "{kept}");
    ensure!(
        kept["tables"][0]["why"].as_str().is_some_and(|why| why.contains("identity")),
        "{kept}"
    );
    Ok(())
}

#[tokio::test]
async fn no_constant_of_a_query_is_told_of() -> Result<()> {
    let setup = Setup::new().await?;
    let client = setup.connect("pass", "app").await?;
    let mut refused = Vec::new();
    for _ in 0..3 {
        // Postgres quotes what it can't read.
        let query = "SELECT price FROM items WHERE id = 'hunter2'";
        let error = client.simple_query(query).await.err().context("it was taken")?;
        refused.extend(error.as_db_error().map(|error| error.message().contains("hunter2")));
        setup.warm("pass", &client, "SELECT price FROM items WHERE name = 'item 7'").await?;
    }
    ensure!(refused == [true; 3], "{refused:?}");
    let told = setup.sidecar.get("/api/v1/caches/pass/queries").await?;
    ensure!(told.status == 200 && told.text.contains("22P02"), "{}", told.text);
    ensure!(!told.text.contains("hunter2") && !told.text.contains("item 7"), "{}", told.text);
    Ok(())
}

#[tokio::test]
async fn rules_take_effect_at_once_and_outlive_the_process() -> Result<()> {
    let setup = Setup::new().await?;
    let client = setup.connect("pass", "app").await?;
    let query = "SELECT price FROM items WHERE id = 7";
    setup.warm("pass", &client, query).await?;
    let rule = "/api/v1/caches/pass/rules/table/public.items";
    let reply = setup.sidecar.put(rule, json!({"cache": false})).await?;
    ensure!(reply.status == 200, "{}", reply.text);
    for _ in 0..3 {
        ensure!(!setup.ask("pass", &client, query).await?.1);
    }
    ensure!(setup.kept("pass", query).await?["why"] == "a rule says so");
    ensure!(setup.sidecar.delete(rule).await?.status == 200);
    ensure!(setup.sidecar.delete(rule).await?.status == 404);
    setup.warm("pass", &client, query).await?;

    // What the log does not tell of is kept for a time, if a rule says so.
    let unkeyed = "SELECT count(*) FROM unkeyed";
    ensure!(!setup.ask("pass", &client, unkeyed).await?.1);
    let rule = "/api/v1/caches/pass/rules/table/public.unkeyed";
    ensure!(setup.sidecar.put(rule, json!({"ttl_ms": 600_000})).await?.status == 200);
    ensure!(setup.warm("pass", &client, unkeyed).await? == ["0"]);
    setup.admin("INSERT INTO unkeyed VALUES (1)").await?;
    ensure!(setup.ask("pass", &client, unkeyed).await? == (vec!["0".to_owned()], true));
    let purged =
        setup.sidecar.post("/api/v1/caches/pass/purge", json!({"table": "public.unkeyed"})).await?;
    ensure!(purged.body["data"]["entries"] == 1, "{}", purged.text);
    ensure!(setup.ask("pass", &client, unkeyed).await?.0 == ["1"]);

    let mode = "/api/v1/caches/pass/mode";
    ensure!(setup.sidecar.put(mode, json!({"mode": "observe"})).await?.status == 200);
    ensure!(!setup.ask("pass", &client, query).await?.1);
    for (body, status) in [(json!({"ttl_ms": -1}), 422), (json!({"what": 1}), 422), (json!(1), 422)]
    {
        let reply = setup.sidecar.put(rule, body).await?;
        ensure!(reply.status == status, "{}", reply.text);
    }
    let stored = setup.database.connect().await?;
    let count: i64 =
        stored.query_one("SELECT count(*) FROM integratedb.cache_rules", &[]).await?.get(0);
    ensure!(count == 2, "{count}");
    Ok(())
}

#[tokio::test]
async fn what_many_ask_at_once_is_fetched_once() -> Result<()> {
    let setup = Setup::new().await?;
    let query = "SELECT count(*) FROM items, generate_series(1, 100) a, generate_series(1, 100) b";
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(setup.connect("pass", "app").await?);
    }
    // Known, and kept no more.
    setup.warm("pass", &clients[0], query).await?;
    for client in &clients {
        client.simple_query("SELECT price FROM items WHERE id = 1").await?;
    }
    ensure!(
        setup.sidecar.post("/api/v1/caches/pass/purge", json!({"all": true})).await?.status == 200
    );
    let before = setup.caching("pass").await?["stored"].as_u64();
    let mut asked = tokio::task::JoinSet::new();
    for client in clients {
        asked.spawn(async move { client.simple_query(query).await });
    }
    while let Some(answered) = asked.join_next().await {
        answered??;
    }
    let after = setup.caching("pass").await?;
    ensure!(after["stored"].as_u64() == before.map(|stored| stored + 1), "{after}");
    Ok(())
}
