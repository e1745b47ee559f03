//! Clients that share connections by transaction, and do what is hard to share: each has to see what it would see
//! with a connection of its own, and nothing of the others.

use anyhow::{Context, Result, ensure};
use integratedb_wire::tag::backend as tag;
use integratedb_wire::{Target, write};
use support::{Cluster, Database, RawClient, RawMessage, Sidecar, add_caches};
use tokio_postgres::Client;

struct Setup {
    _cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
}

impl Setup {
    /// A pool of so many connections.
    async fn new(pool_size: usize) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let roles = "CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE ROLE admin SUPERUSER; GRANT admin TO app;
                     CREATE TABLE t (n int); CREATE TABLE gone (n int); GRANT ALL ON t, gone TO app";
        database.connect().await?.batch_execute(roles).await?;
        let mut added = Ok(());
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            added = add_caches(config, &database.url());
            for cache in config.caches.values_mut() {
                cache.pool_size = pool_size;
                cache.query_wait_secs = 10;
            }
        })
        .await?;
        added?;
        Ok(Self { _cluster: cluster, database, sidecar })
    }

    async fn raw(&self) -> Result<RawClient> {
        RawClient::login(self.sidecar.proxy(), "app", "secret", "shop", "transaction").await
    }

    async fn connect(&self) -> Result<Client> {
        let url = self.database.url_through(self.sidecar.proxy(), "app", "secret");
        support::connect(&format!("{url}&application_name=transaction")).await
    }
}

/// Messages one after another, to be sent at once.
#[derive(Default)]
struct Batch(Vec<u8>);

impl Batch {
    fn query(mut self, text: &str) -> Self {
        write::frontend::query(&mut self.0, text.as_bytes()).expect("no zero byte");
        self
    }
    fn parse(mut self, name: &str, text: &str) -> Self {
        write::frontend::parse(&mut self.0, name.as_bytes(), text.as_bytes(), &[])
            .expect("no zero byte");
        self
    }
    fn bind(mut self, name: &str) -> Self {
        write::frontend::bind_text(&mut self.0, b"", name.as_bytes(), &[]).expect("no zero byte");
        self
    }
    fn describe(mut self, name: &str) -> Self {
        write::frontend::describe(&mut self.0, Target::Statement, name.as_bytes())
            .expect("no zero byte");
        self
    }
    fn execute(mut self) -> Self {
        write::frontend::execute(&mut self.0, b"", 0).expect("no zero byte");
        self
    }
    fn flush(mut self) -> Self {
        write::frontend::flush(&mut self.0);
        self
    }
    fn sync(mut self) -> Self {
        write::frontend::sync(&mut self.0);
        self
    }
    fn terminate(mut self) -> Self {
        write::frontend::terminate(&mut self.0);
        self
    }
}

/// Sends a batch and reads up to so many ReadyForQuery.
async fn run(client: &mut RawClient, batch: Batch, ready: usize) -> Result<Vec<RawMessage>> {
    client.send(&batch.0).await?;
    let mut messages = Vec::new();
    let mut left = ready;
    while left > 0 {
        let message = client.read().await?.context("closed")?;
        left -= usize::from(message.tag == tag::READY);
        messages.push(message);
    }
    Ok(messages)
}

/// Types of messages, without those that come unasked.
fn tags(messages: &[RawMessage]) -> String {
    let asked = messages.iter().filter(|message| message.tag != tag::PARAMETER_STATUS);
    asked.map(|message| char::from(message.tag)).collect()
}

#[tokio::test]
async fn a_batch_without_sync_keeps_its_connection() -> Result<()> {
    let setup = Setup::new(2).await?;
    let (mut a, b) = (setup.raw().await?, setup.connect().await?);
    a.send(&Batch::default().parse("", "INSERT INTO t VALUES (1)").bind("").execute().flush().0)
        .await?;
    a.read_to(tag::COMMAND_COMPLETE).await?.context("no answer")?;
    for _ in 0..3 {
        assert_eq!(b.query_one("SELECT count(*) FROM t", &[]).await?.get::<_, i64>(0), 0);
    }
    // It is gone before its Sync, so nothing was committed.
    drop(a);
    for _ in 0..3 {
        assert_eq!(b.query_one("SELECT count(*) FROM t", &[]).await?.get::<_, i64>(0), 0);
    }
    let mut c = setup.raw().await?;
    let batch = Batch::default().parse("", "INSERT INTO t VALUES (1)").bind("").execute().sync();
    assert_eq!(tags(&run(&mut c, batch, 1).await?), "12CZ");
    assert_eq!(b.query_one("SELECT count(*) FROM t", &[]).await?.get::<_, i64>(0), 1);
    Ok(())
}

#[tokio::test]
async fn a_goodbye_without_sync_gives_the_connection_back() -> Result<()> {
    let setup = Setup::new(1).await?;
    for text in ["SELECT 1", "SELECT 1/0", "SELECT nonsense"] {
        let mut a = setup.raw().await?;
        a.send(&Batch::default().parse("", text).bind("").execute().terminate().0).await?;
        a.read_to_end().await?;
        let b = setup.connect().await?;
        b.batch_execute("SELECT 1").await.context(text)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_discarded_and_what_comes_after_are_told_apart() -> Result<()> {
    let setup = Setup::new(2).await?;
    let (mut a, b) = (setup.raw().await?, setup.connect().await?);
    run(&mut a, Batch::default().query("DISCARD ALL").query("LISTEN news"), 2).await?;
    for n in 0..3 {
        b.batch_execute(&format!("NOTIFY news, '{n}'")).await?;
        let heard = a.read_to(tag::NOTIFICATION).await?.context("it does not listen")?;
        ensure!(heard.text().contains(&n.to_string()));
    }
    let mut c = setup.raw().await?;
    let batch = Batch::default().query("DISCARD ALL").parse("s", "SELECT 7").sync();
    run(&mut c, batch, 2).await?;
    for _ in 0..2 {
        let messages = run(&mut c, Batch::default().bind("s").execute().sync(), 1).await?;
        assert_eq!(tags(&messages), "2DCZ");
    }
    // And others may still prepare the same.
    let mut d = setup.raw().await?;
    assert_eq!(tags(&run(&mut d, Batch::default().parse("s", "SELECT 7").sync(), 1).await?), "1Z");
    Ok(())
}

#[tokio::test]
async fn a_statement_of_a_table_that_is_gone_can_be_deallocated() -> Result<()> {
    let setup = Setup::new(2).await?;
    let mut a = setup.raw().await?;
    run(&mut a, Batch::default().parse("s", "SELECT n FROM gone").sync(), 1).await?;
    setup.database.connect().await?.batch_execute("DROP TABLE gone").await?;
    // The connection that has it is taken, so it would have to be prepared anew.
    let holder = setup.connect().await?;
    holder.batch_execute("BEGIN").await?;
    assert_eq!(tags(&run(&mut a, Batch::default().query("DEALLOCATE s"), 1).await?), "CZ");
    let messages = run(&mut a, Batch::default().bind("s").sync(), 1).await?;
    assert_eq!(tags(&messages), "EZ");
    ensure!(messages[0].text().contains("\"s\" does not exist"), "{}", messages[0].text());
    Ok(())
}

#[tokio::test]
async fn a_simple_query_takes_the_unnamed_statement_away() -> Result<()> {
    let setup = Setup::new(1).await?;
    let (mut a, mut b) = (setup.raw().await?, setup.raw().await?);
    run(&mut a, Batch::default().parse("", "SELECT 'of both'").sync(), 1).await?;
    run(&mut b, Batch::default().parse("", "SELECT 'of both'").sync(), 1).await?;
    run(&mut a, Batch::default().query("SELECT 1"), 1).await?;
    assert_eq!(tags(&run(&mut b, Batch::default().bind("").execute().sync(), 1).await?), "2DCZ");
    let messages = run(&mut a, Batch::default().bind("").execute().sync(), 1).await?;
    assert_eq!(tags(&messages), "EZ");
    ensure!(messages[0].text().contains("unnamed prepared statement does not exist"));
    Ok(())
}

#[tokio::test]
async fn an_answer_of_the_proxy_finds_its_place_after_a_long_one() -> Result<()> {
    let setup = Setup::new(1).await?;
    let mut a = setup.raw().await?;
    // Its description is longer than what is read at once.
    let columns: Vec<String> =
        (0..1500).map(|n| format!("{n} AS a_rather_long_name_{n}")).collect();
    let wide = format!("SELECT {}", columns.join(", "));
    run(&mut a, Batch::default().parse("wide", &wide).parse("s", "SELECT 1").sync(), 1).await?;
    for _ in 0..20 {
        let mut b = setup.raw().await?;
        run(&mut b, Batch::default().parse("w", &wide).sync(), 1).await?;
        let batch = Batch::default()
            .describe("w")
            .parse("s", "SELECT 1")
            .describe("s")
            .parse("s2", "SELECT 1")
            .flush();
        b.send(&batch.0).await?;
        let mut seen = String::new();
        while seen.len() < 6 {
            seen.push(char::from(b.read().await?.context("closed")?.tag));
        }
        assert_eq!(seen, "tT1tT1");
        assert_eq!(tags(&run(&mut b, Batch::default().sync(), 1).await?), "Z");
    }
    Ok(())
}

#[tokio::test]
async fn settings_that_need_a_role_are_set_by_that_role() -> Result<()> {
    let setup = Setup::new(2).await?;
    let (a, b) = (setup.connect().await?, setup.connect().await?);
    a.batch_execute("SET ROLE admin; SET log_statement = 'mod'").await?;
    let holder = setup.connect().await?;
    for _ in 0..3 {
        // Only one connection is left for both.
        holder.batch_execute("BEGIN").await?;
        let row =
            b.query_one("SELECT current_user::text, current_setting('log_statement')", &[]).await?;
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1) != "mod"), ("app", true));
        let row =
            a.query_one("SELECT current_user::text, current_setting('log_statement')", &[]).await?;
        assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("admin", "mod"));
        holder.batch_execute("COMMIT").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_reset_goes_back_to_what_the_client_came_with() -> Result<()> {
    let setup = Setup::new(1).await?;
    let a = setup.connect().await?;
    let name =
        async || anyhow::Ok(a.query_one("SHOW application_name", &[]).await?.get::<_, String>(0));
    assert_eq!(name().await?, "transaction");
    a.batch_execute("SET application_name = 'mine'").await?;
    assert_eq!(name().await?, "mine");
    for reset in ["RESET application_name", "DISCARD ALL", "RESET ALL"] {
        a.batch_execute(reset).await?;
        assert_eq!(name().await?, "transaction", "{reset}");
    }
    Ok(())
}

#[tokio::test]
async fn a_long_text_is_passed_and_shares_its_connection_where_it_is_harmless() -> Result<()> {
    let setup = Setup::new(1).await?;
    let (a, b) = (setup.connect().await?, setup.connect().await?);
    let values: Vec<String> = (0..20_000).map(|n| format!("({n})")).collect();
    a.batch_execute(&format!("INSERT INTO t VALUES {}", values.join(","))).await?;
    assert_eq!(b.query_one("SELECT count(*) FROM t", &[]).await?.get::<_, i64>(0), 20_000);
    // What it sets at its far end is its own all the same: it keeps the connection.
    let padding = " ".repeat(100_000);
    a.batch_execute(&format!("SELECT 1;{padding}SET work_mem = '7MB'")).await?;
    assert_eq!(a.query_one("SHOW work_mem", &[]).await?.get::<_, &str>(0), "7MB");
    let view = setup.sidecar.get("/api/v1/caches/transaction").await?;
    assert_eq!(view.body["data"]["pinned"], 1, "{}", view.text);
    let metrics = setup.sidecar.get("/metrics").await?.text;
    ensure!(metrics.contains("integratedb_proxy_pinned{cache=\"transaction\"} 1"), "{metrics}");
    Ok(())
}
