//! Clients, origins and networks that fail in the middle of anything: nobody hangs, nothing leaks, and no answer
//! goes astray.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::Config;
use integratedb_wire::tag::backend as tag;
use integratedb_wire::write;
use support::{Cluster, Database, Network, RawClient, Sidecar, add_caches, until};
use tokio_postgres::{Client, NoTls};

const CACHES: [&str; 3] = ["pass", "session", "transaction"];

struct Setup {
    cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
    network: Network,
}

impl Setup {
    async fn new() -> Result<Self> {
        Self::with(|_| {}).await
    }

    /// Pools of two connections, and a network between proxy and origin.
    async fn with(adjust: impl FnOnce(&mut Config)) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let roles = "CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE TABLE t (n int, x text); GRANT ALL ON t TO app";
        database.connect().await?.batch_execute(roles).await?;
        let network = Network::to(database.address()).await?;
        let origin = format!("postgres://{}?sslmode=disable", network.address());
        let mut added = Ok(());
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            added = add_caches(config, &database.url());
            for cache in config.caches.values_mut() {
                cache.origin = origin.clone();
                cache.pool_size = 2;
                cache.connect_secs = 5;
            }
            adjust(config);
        })
        .await?;
        added?;
        Ok(Self { cluster, database, sidecar, network })
    }

    fn proxy(&self) -> SocketAddr {
        self.sidecar.proxy()
    }

    async fn raw(&self, cache: &str) -> Result<RawClient> {
        RawClient::login(self.proxy(), "app", "secret", "shop", cache).await
    }

    async fn connect(&self, cache: &str) -> Result<Client> {
        let url = self.database.url_through(self.proxy(), "app", "secret");
        support::connect(&format!("{url}&application_name={cache}")).await
    }

    /// Waits until no client is connected, no connection is lent and no backend does anything.
    async fn nothing_is_left(&self) -> Result<()> {
        let admin = self.database.connect().await?;
        until("nothing is left", async || {
            let metrics = self.sidecar.get("/metrics").await?.text;
            let is_zero = |line: &str| line.ends_with(" 0");
            let lines =
                |what: &'static str| metrics.lines().filter(move |line| line.starts_with(what));
            let sql =
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'";
            let busy: i64 = admin.query_one(sql, &[]).await?.get(0);
            Ok(busy == 0
                && lines("integratedb_proxy_clients").all(is_zero)
                && lines("integratedb_proxy_cache_clients").all(is_zero)
                && lines("integratedb_proxy_connections")
                    .filter(|l| l.contains("\"used\""))
                    .all(is_zero))
        })
        .await
    }
}

/// What a client has sent when it fails; it has read nothing of the answers.
fn states() -> Vec<(&'static str, Vec<u8>)> {
    let query = |text: &str| {
        let mut bytes = Vec::new();
        write::frontend::query(&mut bytes, text.as_bytes()).expect("no zero byte");
        bytes
    };
    let extended = |text: &str, bound: bool, executed: bool| {
        let mut bytes = Vec::new();
        write::frontend::parse(&mut bytes, b"s", text.as_bytes(), &[]).expect("no zero byte");
        if bound {
            write::frontend::bind_text(&mut bytes, b"p", b"s", &[]).expect("no zero byte");
        }
        if executed {
            write::frontend::execute(&mut bytes, b"p", 3).expect("no zero byte");
        }
        bytes
    };
    let then = |mut bytes: Vec<u8>, more: &[u8]| {
        bytes.extend(more);
        bytes
    };
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    vec![
        ("idle", Vec::new()),
        ("one byte of a message", vec![b'Q']),
        ("half a query", half(query("SELECT 'a long enough text'"))),
        ("a query that runs", query("SELECT pg_sleep(600)")),
        ("a query and the start of another", then(query("SELECT 1"), b"Q\0\0")),
        ("in a transaction", query("BEGIN; INSERT INTO t VALUES (1)")),
        ("in a failed transaction", query("BEGIN; SELECT 1/0")),
        (
            "a large result, unread",
            query("SELECT repeat('x', 1000) FROM generate_series(1, 50000)"),
        ),
        ("taking data in", then(query("COPY t FROM STDIN"), b"d\0\0\0\x061\t")),
        ("half a datum", then(query("COPY t FROM STDIN"), b"d\0\0\x10\0abc")),
        (
            "giving data out",
            query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 50000)) TO STDOUT"),
        ),
        ("a statement without Sync", extended("SELECT generate_series(1, 100)", false, false)),
        ("a portal without Sync", extended("SELECT generate_series(1, 100)", true, false)),
        (
            "a suspended portal and Flush",
            then(extended("SELECT generate_series(1, 100)", true, true), b"H\0\0\0\x04"),
        ),
        ("an error without Sync", then(extended("SELECT 1/0", true, true), b"H\0\0\0\x04")),
        ("a lock held", query("SELECT pg_advisory_lock(7)")),
        ("listening", query("LISTEN news")),
    ]
}

#[tokio::test]
async fn a_client_may_fail_at_any_point() -> Result<()> {
    let setup = Setup::new().await?;
    for cache in CACHES {
        for (name, bytes) in states() {
            for is_reset in [true, false] {
                let mut client =
                    setup.raw(cache).await.with_context(|| format!("{cache}, {name}"))?;
                client.send(&bytes).await?;
                if is_reset { client.reset()? } else { drop(client) }
            }
        }
        setup.nothing_is_left().await.with_context(|| cache.to_owned())?;
        let client = setup.connect(cache).await?;
        // One that is ending may have it for a moment yet.
        until("the lock is free", async || {
            Ok(client.query_one("SELECT pg_try_advisory_lock(7)", &[]).await?.get(0))
        })
        .await?;
        let rows: i64 = client.query_one("SELECT count(*) FROM t", &[]).await?.get(0);
        assert_eq!(rows, 0, "{cache}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_may_fail_before_it_is_known() -> Result<()> {
    let setup = Setup::new().await?;
    let whole = RawClient::startup("app", "shop", "transaction");
    let mut begun: Vec<Vec<u8>> =
        (0..whole.len()).step_by(7).map(|end| whole[..end].to_vec()).collect();
    begun.extend(CACHES.map(|cache| RawClient::startup("app", "shop", cache)));
    let mut ssl = Vec::new();
    write::frontend::ssl_request(&mut ssl);
    begun.push(ssl);
    for bytes in begun {
        for is_reset in [true, false] {
            let mut client = RawClient::connect(setup.proxy()).await?;
            client.send(&bytes).await?;
            if is_reset { client.reset()? } else { drop(client) }
        }
    }
    setup.nothing_is_left().await?;
    // What is no first packet at all is told so, and forgotten.
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0, 0, 4], &[0, 0, 0, 9, 0, 3, 0, 0, 1], &[0xff; 100]]
    {
        let mut client = RawClient::connect(setup.proxy()).await?;
        client.send(garbage).await?;
        let told = client.read_to_end().await?;
        ensure!(told.len() == 1 && told[0].tag == tag::ERROR, "{garbage:?}: {told:?}");
    }
    setup.nothing_is_left().await
}

#[tokio::test]
async fn a_backend_may_be_terminated_at_any_point() -> Result<()> {
    let setup = Setup::new().await?;
    let admin = setup.database.connect().await?;
    for cache in CACHES {
        for (name, bytes) in states() {
            let mut client = setup.raw(cache).await?;
            client.send(&bytes).await?;
            // Whatever comes of it, the client hears the end of it: it never waits for ever. One in the middle of a
            // message may have no connection to the origin, and says no goodbye.
            let is_half =
                name.contains("half") || name.contains("one byte") || name.contains("start of");
            if is_half {
                drop(client);
                continue;
            }
            client.send(b"X\0\0\0\x04").await.ok();
            let terminating = async {
                loop {
                    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'app'";
                    admin.query_one(sql, &[]).await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let heard = tokio::select! {
                heard = tokio::time::timeout(Duration::from_secs(10), client.read_to_end()) => heard,
                failed = terminating => return failed,
            };
            heard.with_context(|| format!("{cache}, {name}"))??;
        }
        setup.nothing_is_left().await.with_context(|| cache.to_owned())?;
        setup.connect(cache).await?.batch_execute("SELECT 1").await?;
    }
    Ok(())
}

/// The proxy is a process here, because only a process can be killed.
#[tokio::test]
async fn the_proxy_may_be_killed_at_any_point() -> Result<()> {
    let setup = Setup::new().await?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    drop(listener);
    let (url, origin) = (setup.database.url(), setup.database.address());
    let pooled =
        |mode| format!("auth = 'scram'\nauth_url = '{url}'\npool_mode = '{mode}'\npool_size = 50");
    let caches = [
        ("pass", String::new()),
        ("session", pooled("session")),
        ("transaction", pooled("transaction")),
    ];
    let caches =
        caches.map(|(id, rest)| format!("[caches.{id}]\norigin = 'postgres://{origin}'\n{rest}\n"));
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("proxy.toml");
    let text =
        format!("database_url = '{url}'\n[proxy]\nlisten = '{address}'\n{}", caches.concat());
    std::fs::write(&file, text)?;
    let binary =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/integratedb");
    let mut proxy = std::process::Command::new(binary)
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&file)
        .stderr(std::process::Stdio::null())
        .spawn()
        .context(
            "there is no target/debug/integratedb: run `cargo build -p integratedb-sidecar`",
        )?;
    until("the proxy listens", async || Ok(RawClient::connect(address).await.is_ok())).await?;
    let mut clients = Vec::new();
    for cache in CACHES {
        for (name, bytes) in states() {
            let mut client = RawClient::login(address, "app", "secret", "shop", cache).await?;
            client.send(&bytes).await?;
            clients.push((cache, name, client));
        }
    }
    proxy.kill()?;
    proxy.wait()?;
    for (cache, name, mut client) in clients {
        client.read_to_end().await.with_context(|| format!("{cache}, {name}"))?;
    }
    // Postgres looks for a client only when it has something to send to it, so who sleeps is not woken by that.
    let admin = setup.database.connect().await?;
    until("the origin's backends are gone", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND query NOT LIKE '%pg_sleep%'";
        Ok(admin.query_one(sql, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await
}

#[tokio::test]
async fn a_network_may_break_after_any_byte() -> Result<()> {
    let setup = Setup::with(|config| {
        for cache in config.caches.values_mut() {
            cache.query_wait_secs = 1;
        }
    })
    .await?;
    for cache in CACHES {
        for bytes in (0..3000).step_by(97) {
            setup.network.heal();
            let login = setup.raw(cache).await;
            let mut client = login.with_context(|| format!("{cache}, before {bytes}"))?;
            setup.network.break_after(bytes);
            let sql = "SELECT generate_series(1, 5); SELECT repeat('x', 1000); SELECT 1/0";
            // The end of the connection may be noticed while it is sent.
            let _ = client.query(sql).await;
            while let Some(message) =
                client.read().await.with_context(|| format!("{cache}, {bytes}"))?
            {
                if message.tag == tag::READY {
                    break;
                }
                if message.tag == tag::ERROR {
                    let text = message.text();
                    let is_ours = text.contains("connection to the origin was lost")
                        || text.contains("no connection to the origin became free in time");
                    ensure!(is_ours || text.contains("division by zero"), "{text}");
                }
            }
        }
        setup.network.heal();
        setup.nothing_is_left().await.with_context(|| cache.to_owned())?;
        until("it works", async || match setup.connect(cache).await {
            Ok(client) => Ok(client.batch_execute("SELECT 1").await.is_ok()),
            Err(_) => Ok(false),
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_origin_that_crashes_is_told_of_and_waited_for() -> Result<()> {
    let mut setup = Setup::new().await?;
    for cache in CACHES {
        let busy = setup.connect(cache).await?;
        busy.batch_execute("BEGIN").await?;
        let mut reading = setup.raw(cache).await?;
        reading.query("SELECT repeat('x', 1000) FROM generate_series(1, 50000)").await?;
        reading.read_to(tag::DATA_ROW).await?.context("no row")?;
        setup.cluster.stop_immediately();
        assert!(busy.batch_execute("SELECT 1").await.is_err());
        // What was sent before the crash may still come; then the end.
        reading.read_to_end().await?;
        setup.cluster.restart().await?;
        setup.connect(cache).await?.batch_execute("SELECT 1").await?;
        setup.nothing_is_left().await.with_context(|| cache.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_query_is_given_up_when_its_origin_says_nothing_more() -> Result<()> {
    let setup = Setup::with(|config| {
        for cache in config.caches.values_mut() {
            cache.query_secs = 1;
            cache.query_wait_secs = 2;
        }
    })
    .await?;
    for cache in CACHES {
        let client = setup.connect(cache).await?;
        client.batch_execute("SELECT 1").await?;
        setup.network.stall();
        let error = client.batch_execute("SELECT 1").await.expect_err("nothing answers");
        assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error:?}");
        setup.network.heal();
        setup.nothing_is_left().await.with_context(|| cache.to_owned())?;
    }
    Ok(())
}

#[tokio::test]
async fn no_answer_goes_to_another_client() -> Result<()> {
    let setup = Setup::with(|config| {
        for cache in config.caches.values_mut() {
            cache.pool_size = 4;
        }
    })
    .await?;
    let url = format!(
        "{}&application_name=transaction",
        setup.database.url_through(setup.proxy(), "app", "secret")
    );
    let stop = Instant::now() + Duration::from_secs(4);
    let mut tasks = Vec::new();
    for worker in 0..24 {
        let url = url.clone();
        tasks.push(tokio::spawn(async move {
            let mut rounds = 0;
            while Instant::now() < stop {
                let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await else {
                    continue;
                };
                tokio::spawn(connection);
                let Ok(statement) =
                    client.prepare("SELECT $1::text || current_setting('my.name', true)").await
                else {
                    continue;
                };
                let me = format!("client {worker}");
                if client.batch_execute(&format!("SET my.name = '{me}'")).await.is_err() {
                    continue;
                }
                for round in 0..30 {
                    let sent = format!("{worker}/{round} ");
                    match client.query_one(&statement, &[&sent]).await {
                        Ok(row) => ensure!(
                            row.get::<_, String>(0) == format!("{sent}{me}"),
                            "{:?}",
                            row.get::<_, String>(0)
                        ),
                        // Cancelled or terminated by the others below; a cancelled one goes on.
                        Err(error) if error.code().map(|c| c.code()) == Some("57014") => {}
                        Err(_) => break,
                    }
                    rounds += 1;
                    if (worker + round) % 11 == 0 {
                        let token = client.cancel_token();
                        tokio::spawn(async move { token.cancel_query(NoTls).await });
                    }
                    if (worker + round) % 17 == 0 {
                        // It leaves in the middle of a query.
                        let _ = tokio::time::timeout(
                            Duration::from_millis(1),
                            client.query_one("SELECT pg_sleep(0.01)", &[]),
                        )
                        .await;
                        break;
                    }
                }
            }
            Ok(rounds)
        }));
    }
    let admin = setup.database.connect().await?;
    while Instant::now() < stop {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' ORDER BY random() LIMIT 1";
        admin.query(sql, &[]).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut rounds = 0;
    for task in tasks {
        rounds += task.await??;
    }
    ensure!(rounds > 100, "only {rounds} rounds");
    setup.nothing_is_left().await
}
