//! What a session does that the cache must not take for something else.

use anyhow::{Context, Result, ensure};
use integratedb_wire::tag::backend as tag;
use integratedb_wire::{Target, write::frontend as write};
use support::{CACHES, Cached, RawClient, until};
use tokio_postgres::Client;

/// A client of a cache whose messages are written here.
async fn raw(setup: &Cached, cache: &str) -> Result<RawClient> {
    RawClient::login(setup.sidecar.proxy(), "app", "secret", "shop", cache).await
}

/// The only value of an answer, wherever it comes from.
async fn value(setup: &Cached, cache: &str, client: &Client, query: &str) -> Result<String> {
    setup.ask(cache, client, query).await?.0.pop().context("no row")
}

const PRICE: &str = "SELECT price FROM items WHERE id = 7";

#[tokio::test]
async fn a_batch_that_was_flushed_and_not_synced_goes_on() -> Result<()> {
    let setup = Cached::new().await?;
    for name in CACHES {
        let client = setup.connect(name, "app").await?;
        setup.warm(name, &client, PRICE).await?;
        let mut raw = raw(&setup, name).await?;
        let mut bytes = Vec::new();
        write::parse(&mut bytes, b"s", b"SELECT price FROM items WHERE id = $1", &[])?;
        write::describe(&mut bytes, Target::Statement, b"s")?;
        write::flush(&mut bytes);
        raw.send(&bytes).await?;
        raw.read_to(tag::ROW_DESCRIPTION).await?;
        bytes.clear();
        write::bind_text(&mut bytes, b"", b"s", &[Some(b"7")])?;
        write::execute(&mut bytes, b"", 0)?;
        write::sync(&mut bytes);
        raw.send(&bytes).await?;
        raw.read_to(tag::READY).await?;
    }
    Ok(())
}

#[tokio::test]
async fn each_write_of_a_pipeline_is_seen_once_it_is_acknowledged() -> Result<()> {
    let setup = Cached::new().await?;
    for name in CACHES {
        let reader = setup.connect(name, "app").await?;
        let mut writer = raw(&setup, name).await?;
        for round in 0..20 {
            for id in [7, 8] {
                setup
                    .warm(name, &reader, &format!("SELECT price FROM items WHERE id = {id}"))
                    .await?;
            }
            let mut bytes = Vec::new();
            for id in [7, 8] {
                let update = format!("UPDATE items SET price = {round} WHERE id = {id}");
                write::parse(&mut bytes, b"", update.as_bytes(), &[])?;
                write::bind_text(&mut bytes, b"", b"", &[])?;
                write::execute(&mut bytes, b"", 0)?;
                write::sync(&mut bytes);
            }
            writer.send(&bytes).await?;
            for id in [7, 8] {
                writer.read_to(tag::READY).await?;
                let query = format!("SELECT price FROM items WHERE id = {id}");
                let price = value(&setup, name, &reader, &query).await?;
                ensure!(price == round.to_string(), "{price} instead of {round}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_commit_that_opens_the_next_block_is_a_commit() -> Result<()> {
    let setup = Cached::new().await?;
    for name in CACHES {
        let (writer, reader) =
            (setup.connect(name, "app").await?, setup.connect(name, "app").await?);
        for round in 0..20 {
            setup.warm(name, &reader, PRICE).await?;
            writer.batch_execute("BEGIN").await?;
            writer.batch_execute(&format!("UPDATE items SET price = {round} WHERE id = 7")).await?;
            writer.batch_execute("COMMIT AND CHAIN").await?;
            let price = value(&setup, name, &reader, PRICE).await?;
            ensure!(price == round.to_string(), "{price} instead of {round}");
            writer.batch_execute("COMMIT").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_temporary_table_hides_another_each_time() -> Result<()> {
    let setup = Cached::new().await?;
    for name in CACHES {
        let client = setup.connect(name, "app").await?;
        client
            .batch_execute("BEGIN; CREATE TEMP TABLE gone (n int) ON COMMIT DROP; COMMIT")
            .await?;
        setup.warm(name, &client, PRICE).await?;
        client.batch_execute("CREATE TEMP TABLE items AS SELECT 7 AS id, 1 AS price").await?;
        for _ in 0..4 {
            ensure!(value(&setup, name, &client, PRICE).await? == "1");
        }
        client.batch_execute("DROP TABLE pg_temp.items").await?;
        ensure!(value(&setup, name, &client, PRICE).await? == "70");
    }
    Ok(())
}

#[tokio::test]
async fn a_setting_is_told_from_another_by_its_name() -> Result<()> {
    let setup = Cached::new().await?;
    let query = |setting: &str| {
        format!("SELECT coalesce(current_setting('{setting}', true), '') FROM items WHERE id = 7")
    };
    for name in CACHES {
        let (one, other) = (setup.connect(name, "app").await?, setup.connect(name, "app").await?);
        one.batch_execute("SET app.a = '1'; SET app.b = 'one'").await?;
        other.batch_execute("SET app.a = '1'; SET app.b = 'other'").await?;
        for _ in 0..4 {
            ensure!(value(&setup, name, &one, &query("app.a")).await? == "1");
            ensure!(value(&setup, name, &one, &query("app.b")).await? == "one");
            ensure!(value(&setup, name, &other, &query("app.b")).await? == "other");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_name_that_was_refused_stands_for_what_it_did() -> Result<()> {
    let setup = Cached::new().await?;
    for name in CACHES {
        let mut raw = raw(&setup, name).await?;
        let mut bytes = Vec::new();
        let statements: [&[u8]; 2] =
            [b"SELECT price FROM items WHERE id = $1", b"SELECT -price FROM items WHERE id = $1"];
        for text in statements {
            write::parse(&mut bytes, b"s", text, &[])?;
            write::sync(&mut bytes);
        }
        for _ in 0..6 {
            write::bind_text(&mut bytes, b"", b"s", &[Some(b"7")])?;
            write::execute(&mut bytes, b"", 0)?;
            write::sync(&mut bytes);
        }
        raw.send(&bytes).await?;
        for _ in 0..2 {
            raw.read_to(tag::READY).await?;
        }
        for _ in 0..6 {
            let row = raw.read_to(tag::DATA_ROW).await?.context("no row")?;
            raw.read_to(tag::READY).await?;
            ensure!(row.body.ends_with(b"70") && !row.body.ends_with(b"-70"));
        }
        // What another session asks by the refused text is answered by it.
        let other = setup.connect(name, "app").await?;
        for _ in 0..4 {
            let price: i32 =
                other.query_one("SELECT -price FROM items WHERE id = $1", &[&7]).await?.get(0);
            ensure!(price == -70);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_role_with_another_default_gets_what_it_finds() -> Result<()> {
    let setup = Cached::new().await?;
    let admin = setup.database.connect().await?;
    admin
        .batch_execute(
            "CREATE SCHEMA second; CREATE TABLE second.items (id int PRIMARY KEY, price int);
             INSERT INTO second.items VALUES (7, 42); GRANT ALL ON SCHEMA second TO app; GRANT ALL ON second.items TO app",
        )
        .await?;
    let before = setup.connect("pass", "app").await?;
    ensure!(setup.warm("pass", &before, PRICE).await? == ["70"]);
    admin.batch_execute("ALTER ROLE app SET search_path = second").await?;
    until("the cache has heard of it", async || {
        let after = setup.connect("pass", "app").await?;
        Ok(value(&setup, "pass", &after, PRICE).await? == "42")
    })
    .await?;
    for _ in 0..5 {
        ensure!(
            value(&setup, "pass", &before, PRICE).await? == "70",
            "a session keeps its settings"
        );
        let after = setup.connect("pass", "app").await?;
        ensure!(value(&setup, "pass", &after, PRICE).await? == "42");
        ensure!(setup.warm("pass", &after, PRICE).await? == ["42"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_statement_that_answers_in_another_shape_is_refused_as_by_postgres() -> Result<()> {
    let setup = Cached::new().await?;
    // A shared connection has it prepared anew, for whoever comes first.
    for name in ["pass"] {
        let admin = setup.database.connect().await?;
        admin
            .batch_execute(
                "CREATE TABLE shapes (id int PRIMARY KEY); INSERT INTO shapes VALUES (1);
                             GRANT ALL ON shapes TO app",
            )
            .await?;
        let client = setup.connect(name, "app").await?;
        let statement = client.prepare("SELECT * FROM shapes WHERE id = $1").await?;
        for _ in 0..3 {
            ensure!(client.query_one(&statement, &[&1]).await?.len() == 1);
        }
        admin.batch_execute("ALTER TABLE shapes ADD COLUMN n int").await?;
        let other = setup.connect(name, "app").await?;
        until("the other shape is kept", async || {
            let before = setup.hits(name).await?;
            // A shared connection may have it prepared from before, until the log has told.
            match other.query_one("SELECT * FROM shapes WHERE id = $1", &[&1]).await {
                Ok(row) => ensure!(row.len() == 2),
                Err(error) => ensure!(error.code().is_some_and(|code| code.code() == "0A000")),
            }
            Ok(setup.hits(name).await? > before)
        })
        .await?;
        let refused = client.query_one(&statement, &[&1]).await;
        let code = refused.err().and_then(|error| error.code().cloned());
        ensure!(code.as_ref().is_some_and(|code| code.code() == "0A000"), "{code:?} in {name}");
        admin.batch_execute("DROP TABLE shapes").await?;
    }
    Ok(())
}

#[tokio::test]
async fn statements_that_find_no_room_leave_the_cache_as_it_is() -> Result<()> {
    let mut setup = Cached::new().await?;
    let narrow = |config: &mut integratedb_sidecar::Config| {
        config.caches.values_mut().for_each(|cache| cache.max_statement_bytes = 60_000);
    };
    setup.sidecar.reload(narrow).await?;
    let long = format!("SELECT 1 /* {} */", "x".repeat(60_000));
    for name in CACHES {
        let (client, reader) =
            (setup.connect(name, "app").await?, setup.connect(name, "app").await?);
        let is_refused = async || {
            let refused = client.prepare("SELECT price FROM items WHERE id = $1").await.err();
            Ok(refused.and_then(|error| error.code().map(|code| code.code() == "53400"))
                == Some(true))
        };
        until("there is no room", async || {
            let _long = client.prepare(&long).await?;
            is_refused().await
        })
        .await?;
        setup.warm(name, &reader, PRICE).await?;
        let _long = client.prepare(&long).await?;
        for _ in 0..5 {
            ensure!(is_refused().await?, "{name}: it was prepared");
            ensure!(setup.ask(name, &reader, PRICE).await?.1, "{name}: the answer was lost");
        }
    }
    Ok(())
}
