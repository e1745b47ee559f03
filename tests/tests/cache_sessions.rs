//! What a session does that the cache must not take for something else.

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::cache::CachingSettings;
use integratedb_sidecar::proxy::PoolMode;
use integratedb_sidecar::secret::Secret;
use integratedb_wire::tag::backend as tag;
use integratedb_wire::{Target, write::frontend as write};
use support::{Cluster, Database, RawClient, Sidecar, cache, cache_id, until};
use tokio_postgres::{Client, SimpleQueryMessage};

struct Setup {
    _cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
}

impl Setup {
    async fn new() -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let schema = "CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE TABLE items (id int PRIMARY KEY, price int);
                      INSERT INTO items SELECT n, n * 10 FROM generate_series(1, 100) n; GRANT ALL ON items TO app;
                      GRANT CREATE ON SCHEMA public TO app";
        database.connect().await?.batch_execute(schema).await?;
        let mut added = Ok(());
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            added = (|| {
                for (name, mode) in [("pass", None), ("transaction", Some(PoolMode::Transaction))] {
                    let mut cache = cache(&database.url(), mode)?;
                    let url = Secret::new(database.url());
                    cache.caching = Some(CachingSettings { url, ..CachingSettings::default() });
                    config.caches.insert(cache_id(name), cache);
                }
                anyhow::Ok(())
            })();
        })
        .await?;
        added?;
        let setup = Self { _cluster: cluster, database, sidecar };
        for name in ["pass", "transaction"] {
            until("the cache serves", async || {
                let path = format!("/api/v1/caches/{name}/caching");
                Ok(setup.sidecar.get(&path).await?.body["data"]["serving"] == true)
            })
            .await?;
        }
        Ok(setup)
    }

    async fn hits(&self, cache: &str) -> Result<u64> {
        let reply = self.sidecar.get(&format!("/api/v1/caches/{cache}/caching")).await?;
        reply.body["data"]["hits"].as_u64().context("no hits")
    }

    async fn connect(&self, cache: &str) -> Result<Client> {
        let url = self.database.url_through(self.sidecar.proxy(), "app", "secret");
        support::connect(&format!("{url}&application_name={cache}")).await
    }

    async fn raw(&self, cache: &str) -> Result<RawClient> {
        RawClient::login(self.sidecar.proxy(), "app", "secret", "shop", cache).await
    }

    /// The first column of the first row.
    async fn ask(&self, client: &Client, query: &str) -> Result<String> {
        let rows = client.simple_query(query).await?;
        let first = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        first.context("no row")
    }

    async fn warm(&self, cache: &str, client: &Client, query: &str) -> Result<String> {
        let answer = std::cell::RefCell::new(String::new());
        until(&format!("it is kept: {query}"), async || {
            let before = self.hits(cache).await?;
            *answer.borrow_mut() = self.ask(client, query).await?;
            Ok(self.hits(cache).await? > before)
        })
        .await?;
        Ok(answer.into_inner())
    }
}

const PRICE: &str = "SELECT price FROM items WHERE id = 7";

#[tokio::test]
async fn a_batch_that_was_flushed_and_not_synced_goes_on() -> Result<()> {
    let setup = Setup::new().await?;
    for name in ["pass", "transaction"] {
        let client = setup.connect(name).await?;
        setup.warm(name, &client, PRICE).await?;
        let mut raw = setup.raw(name).await?;
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
    let setup = Setup::new().await?;
    for name in ["pass", "transaction"] {
        let reader = setup.connect(name).await?;
        let mut writer = setup.raw(name).await?;
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
                let price = setup.ask(&reader, &query).await?;
                ensure!(price == round.to_string(), "{price} instead of {round}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_commit_that_opens_the_next_block_is_a_commit() -> Result<()> {
    let setup = Setup::new().await?;
    for name in ["pass", "transaction"] {
        let (writer, reader) = (setup.connect(name).await?, setup.connect(name).await?);
        for round in 0..20 {
            setup.warm(name, &reader, PRICE).await?;
            writer.batch_execute("BEGIN").await?;
            writer.batch_execute(&format!("UPDATE items SET price = {round} WHERE id = 7")).await?;
            writer.batch_execute("COMMIT AND CHAIN").await?;
            let price = setup.ask(&reader, PRICE).await?;
            ensure!(price == round.to_string(), "{price} instead of {round}");
            writer.batch_execute("COMMIT").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_temporary_table_hides_another_each_time() -> Result<()> {
    let setup = Setup::new().await?;
    for name in ["pass", "transaction"] {
        let client = setup.connect(name).await?;
        client
            .batch_execute("BEGIN; CREATE TEMP TABLE gone (n int) ON COMMIT DROP; COMMIT")
            .await?;
        setup.warm(name, &client, PRICE).await?;
        client.batch_execute("CREATE TEMP TABLE items AS SELECT 7 AS id, 1 AS price").await?;
        for _ in 0..4 {
            ensure!(setup.ask(&client, PRICE).await? == "1");
        }
        client.batch_execute("DROP TABLE pg_temp.items").await?;
        ensure!(setup.ask(&client, PRICE).await? == "70");
    }
    Ok(())
}

#[tokio::test]
async fn a_setting_is_told_from_another_by_its_name() -> Result<()> {
    let setup = Setup::new().await?;
    let query = |setting: &str| {
        format!("SELECT coalesce(current_setting('{setting}', true), '') FROM items WHERE id = 7")
    };
    for name in ["pass", "transaction"] {
        let (one, other) = (setup.connect(name).await?, setup.connect(name).await?);
        one.batch_execute("SET app.a = '1'; SET app.b = 'one'").await?;
        other.batch_execute("SET app.a = '1'; SET app.b = 'other'").await?;
        for _ in 0..4 {
            ensure!(setup.ask(&one, &query("app.a")).await? == "1");
            ensure!(setup.ask(&one, &query("app.b")).await? == "one");
            ensure!(setup.ask(&other, &query("app.b")).await? == "other");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_name_that_was_refused_stands_for_what_it_did() -> Result<()> {
    let setup = Setup::new().await?;
    for name in ["pass", "transaction"] {
        let mut raw = setup.raw(name).await?;
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
        let other = setup.connect(name).await?;
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
    let setup = Setup::new().await?;
    let admin = setup.database.connect().await?;
    admin
        .batch_execute(
            "CREATE SCHEMA second; CREATE TABLE second.items (id int PRIMARY KEY, price int);
             INSERT INTO second.items VALUES (7, 42); GRANT ALL ON SCHEMA second TO app; GRANT ALL ON second.items TO app",
        )
        .await?;
    let before = setup.connect("pass").await?;
    ensure!(setup.warm("pass", &before, PRICE).await? == "70");
    admin.batch_execute("ALTER ROLE app SET search_path = second").await?;
    for _ in 0..5 {
        ensure!(setup.ask(&before, PRICE).await? == "70", "a session keeps its settings");
        let after = setup.connect("pass").await?;
        ensure!(setup.ask(&after, PRICE).await? == "42");
        ensure!(setup.warm("pass", &after, PRICE).await? == "42");
    }
    Ok(())
}

#[tokio::test]
async fn a_statement_that_answers_in_another_shape_is_refused_as_by_postgres() -> Result<()> {
    let setup = Setup::new().await?;
    // A shared connection has it prepared anew, for whoever comes first.
    for name in ["pass"] {
        let admin = setup.database.connect().await?;
        admin
            .batch_execute(
                "CREATE TABLE shapes (id int PRIMARY KEY); INSERT INTO shapes VALUES (1);
                             GRANT ALL ON shapes TO app",
            )
            .await?;
        let client = setup.connect(name).await?;
        let statement = client.prepare("SELECT * FROM shapes WHERE id = $1").await?;
        for _ in 0..3 {
            ensure!(client.query_one(&statement, &[&1]).await?.len() == 1);
        }
        admin.batch_execute("ALTER TABLE shapes ADD COLUMN n int").await?;
        let other = setup.connect(name).await?;
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
