//! What can be set about the proxy: limits, choices and reloads, each with the error that tells of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::Config;
use integratedb_sidecar::proxy::{Auth, PoolMode};
use integratedb_wire::tag::backend as tag;
use integratedb_wire::{ProtocolVersion, TransactionStatus, write};
use support::{Cluster, Database, RawClient, Sidecar, add_caches, cache, cache_id, connect, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

struct Setup {
    _cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
}

impl Setup {
    async fn with(adjust: impl FnOnce(&mut Config)) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        let roles =
            "CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE ROLE other LOGIN PASSWORD 'secret'";
        database.connect().await?.batch_execute(roles).await?;
        let mut added = Ok(());
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            added = add_caches(config, &database.url());
            adjust(config);
        })
        .await?;
        added?;
        Ok(Self { _cluster: cluster, database, sidecar })
    }

    fn url(&self, user: &str, more: &str) -> String {
        format!("{}&{more}", self.database.url_through(self.sidecar.proxy(), user, "secret"))
    }

    async fn connect(&self, cache: &str) -> Result<Client> {
        connect(&self.url("app", &format!("application_name={cache}"))).await
    }
}

/// SQLSTATE and message of what a client was told.
fn told<T>(result: std::result::Result<T, tokio_postgres::Error>) -> Result<(String, String)> {
    let error = result.err().context("nothing was refused")?;
    let error = error.as_db_error().with_context(|| format!("{error:?}"))?;
    Ok((error.code().code().to_owned(), error.message().to_owned()))
}

async fn refused(url: &str) -> Result<(String, String)> {
    told(tokio_postgres::connect(url, NoTls).await)
}

fn all(config: &mut Config, adjust: impl Fn(&mut integratedb_sidecar::proxy::CacheSettings)) {
    config.caches.values_mut().for_each(adjust);
}

#[tokio::test]
async fn who_waits_too_long_for_a_connection_is_told_which_limit_it_was() -> Result<()> {
    let setup = Setup::with(|config| {
        all(config, |cache| {
            cache.pool_size = 1;
            cache.query_wait_secs = 3;
        });
    })
    .await?;
    let (holder, waiter) =
        (setup.connect("transaction").await?, setup.connect("transaction").await?);
    holder.batch_execute("BEGIN").await?;
    let (code, message) = told(waiter.batch_execute("SELECT 1").await)?;
    assert_eq!(code, "57P03");
    assert_eq!(message, "no connection to the origin became free in time");
    holder.batch_execute("COMMIT").await?;
    setup.connect("transaction").await?.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn who_is_idle_for_too_long_is_disconnected() -> Result<()> {
    let setup = Setup::with(|config| {
        all(config, |cache| {
            cache.idle_client_secs = 2;
            cache.idle_transaction_secs = 1;
        });
    })
    .await?;
    for cache in ["pass", "session", "transaction"] {
        for (sql, code) in [("SELECT 1", "57P05"), ("BEGIN", "25P03")] {
            let mut client =
                RawClient::login(setup.sidecar.proxy(), "app", "secret", "shop", cache).await?;
            client.query(sql).await?;
            let error = client.read_to(tag::ERROR).await?.context("no error")?;
            ensure!(error.text().contains(code), "{cache}, {sql}: {}", error.text());
            ensure!(client.read().await?.is_none(), "it is still connected");
        }
    }
    Ok(())
}

#[tokio::test]
async fn one_client_too_many_is_told_so() -> Result<()> {
    let setup = Setup::with(|config| config.proxy.max_clients = 2).await?;
    let first = setup.connect("pass").await?;
    let _second = setup.connect("transaction").await?;
    let (code, message) = refused(&setup.url("app", "")).await?;
    assert_eq!((code.as_str(), message.as_str()), ("53300", "sorry, too many clients already"));
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(20);
    while setup.connect("pass").await.is_err() {
        ensure!(Instant::now() < deadline, "nobody gets in any more");
    }
    Ok(())
}

#[tokio::test]
async fn clients_from_before_a_reload_still_count() -> Result<()> {
    let mut setup = Setup::with(|config| config.proxy.max_clients = 1).await?;
    let first = setup.connect("pass").await?;
    setup.sidecar.reload(|config| all(config, |cache| cache.pool_size = 7)).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while setup.sidecar.get("/api/v1/caches/pass").await?.body["data"]["pool_size"] != 7 {
        ensure!(Instant::now() < deadline, "the reload never came");
    }
    assert_eq!(refused(&setup.url("app", "")).await?.0, "53300");
    first.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_cache_is_chosen_by_option_or_name_or_default() -> Result<()> {
    let mut setup = Setup::with(|_| {}).await?;
    let by_option =
        setup.url("app", "options=-c%20integratedb.cache%3Dtransaction%20-c%20work_mem%3D7MB");
    let client = connect(&by_option).await?;
    assert_eq!(client.query_one("SHOW work_mem", &[]).await?.get::<_, &str>(0), "7MB");
    let views = setup.sidecar.get("/api/v1/caches/transaction").await?;
    assert_eq!(views.body["data"]["clients"], 1, "{}", views.text);
    let (code, message) =
        refused(&setup.url("app", "options=-c%20integratedb.cache%3Dnope")).await?;
    assert_eq!((code.as_str(), message.as_str()), ("3D000", "cache \"nope\" does not exist"));
    // A name that is no cache is just a name.
    let client = connect(&setup.url("app", "application_name=reports")).await?;
    assert_eq!(client.query_one("SHOW application_name", &[]).await?.get::<_, &str>(0), "reports");
    setup.sidecar.reload(|config| config.proxy.default_cache = None).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Ok(client) = connect(&setup.url("app", "application_name=reports")).await {
        drop(client);
        ensure!(Instant::now() < deadline, "there is still a default");
    }
    let (code, message) = refused(&setup.url("app", "")).await?;
    assert_eq!((code.as_str(), message.as_str()), ("3D000", "the connection names no cache"));
    Ok(())
}

#[tokio::test]
async fn what_the_proxy_does_not_do_is_said_at_the_start() -> Result<()> {
    let setup = Setup::with(|_| {}).await?;
    for (version, pairs, expected) in [
        (
            (3, 0),
            vec![("user", "app"), ("replication", "database")],
            "does not pass on replication",
        ),
        ((2, 0), vec![], "unsupported frontend protocol 2.0"),
        ((3, 0), vec![("database", "shop")], "no PostgreSQL user name specified"),
    ] {
        let mut bytes = Vec::new();
        let version = ProtocolVersion { major: version.0, minor: version.1 };
        let pairs = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        write::frontend::startup(&mut bytes, version, pairs)?;
        let mut client = RawClient::connect(setup.sidecar.proxy()).await?;
        client.send(&bytes).await?;
        let error = client.read_to(tag::ERROR).await?.context("no error")?;
        ensure!(error.text().contains(expected), "{}", error.text());
    }
    // A newer minor version, and options of the protocol, are negotiated down.
    for cache in ["pass", "transaction"] {
        let mut bytes = Vec::new();
        let pairs = [("user", "app"), ("application_name", cache), ("_pq_.novelty", "1")];
        let pairs = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        write::frontend::startup(&mut bytes, ProtocolVersion { major: 3, minor: 9 }, pairs)?;
        let mut client = RawClient::connect(setup.sidecar.proxy()).await?;
        client.send(&bytes).await?;
        let message = client.read_to(tag::NEGOTIATE_VERSION).await?.context("no negotiation")?;
        ensure!(message.text().contains("_pq_.novelty"), "{}", message.text());
    }
    Ok(())
}

#[tokio::test]
async fn pools_do_not_starve_each_other() -> Result<()> {
    let setup = Setup::with(|config| {
        all(config, |cache| {
            cache.pool_size = 5;
            cache.max_origin_connections = 2;
            cache.query_wait_secs = 15;
        });
    })
    .await?;
    let mut tasks = Vec::new();
    for n in 0..20 {
        let url =
            setup.url(if n % 2 == 0 { "app" } else { "other" }, "application_name=transaction");
        tasks.push(tokio::spawn(async move {
            let client = connect(&url).await?;
            for _ in 0..10 {
                client.query_one("SELECT pg_sleep(0.002)", &[]).await?;
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('app', 'other')";
    let admin = setup.database.connect().await?;
    // Who gave way takes a moment to end.
    until("only so many are left", async || {
        Ok(admin.query_one(sql, &[]).await?.get::<_, i64>(0) <= 2)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_connection_comes_back_clean() -> Result<()> {
    let setup = Setup::with(|config| all(config, |cache| cache.pool_size = 1)).await?;
    for cache in ["session", "transaction"] {
        let mut pids = Vec::new();
        for _ in 0..3 {
            let client = setup.connect(cache).await?;
            let row = client
                .query_one(
                    "SELECT pg_backend_pid(), current_setting('work_mem'), to_regclass('pg_temp.mine')::text, \
                     (SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'), \
                     (SELECT count(*) FROM pg_listening_channels())",
                    &[],
                )
                .await?;
            pids.push(row.get::<_, i32>(0));
            let (memory, temporary): (&str, Option<&str>) = (row.get(1), row.get(2));
            assert_eq!((memory, temporary), ("4MB", None), "{cache}");
            assert_eq!((row.get::<_, i64>(3), row.get::<_, i64>(4)), (0, 0), "{cache}");
            client
                .batch_execute(
                    "SET work_mem = '7MB'; CREATE TEMP TABLE mine (n int); PREPARE mine AS SELECT 1; LISTEN news",
                )
                .await?;
        }
        assert!(pids.iter().all(|pid| *pid == pids[0]), "it was not reused: {pids:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_constant_is_read_under_the_settings_of_its_own_client() -> Result<()> {
    let setup = Setup::with(|config| all(config, |cache| cache.pool_size = 1)).await?;
    let (a, b) = (setup.connect("transaction").await?, setup.connect("transaction").await?);
    a.batch_execute("SET timezone = 'UTC'").await?;
    b.batch_execute("SET timezone = 'Asia/Tokyo'").await?;
    let sql = "SELECT extract(epoch FROM '2024-01-01 00:00'::timestamptz)::float8";
    let (of_a, of_b) = (a.prepare(sql).await?, b.prepare(sql).await?);
    let seconds_a: f64 = a.query_one(&of_a, &[]).await?.get(0);
    let seconds_b: f64 = b.query_one(&of_b, &[]).await?.get(0);
    assert_eq!(seconds_a - seconds_b, 9.0 * 3600.0);
    Ok(())
}

#[tokio::test]
async fn a_session_goes_on_with_what_a_reload_made_of_its_cache() -> Result<()> {
    let mut setup = Setup::with(|_| {}).await?;
    let old = setup.connect("transaction").await?;
    old.batch_execute("SET work_mem = '7MB'").await?;
    let statement = old.prepare("SELECT 'old'").await?;
    setup.sidecar.reload(|config| all(config, |cache| cache.pool_size = 1)).await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let view = setup.sidecar.get("/api/v1/caches/transaction").await?;
        if view.body["data"]["pool_size"] == 1 {
            break;
        }
        ensure!(Instant::now() < deadline, "the reload never came");
    }
    let new = setup.connect("transaction").await?;
    let of_new = new.prepare("SELECT 'new'").await?;
    assert_eq!(new.query_one(&of_new, &[]).await?.get::<_, &str>(0), "new");
    assert_eq!(old.query_one(&statement, &[]).await?.get::<_, &str>(0), "old");
    assert_eq!(old.query_one("SHOW work_mem", &[]).await?.get::<_, &str>(0), "7MB");
    let url = setup.database.url();
    setup.sidecar.reload(|config| drop(config.caches.remove(&cache_id("transaction")))).await?;
    while old.batch_execute("SELECT 1").await.is_ok() {
        ensure!(Instant::now() < deadline, "the cache is still there");
    }
    // One that can't be used changes nothing.
    setup
        .sidecar
        .reload(|config| {
            let broken = cache(&url, None).map(|mut cache| {
                cache.origin = "nonsense".to_owned();
                cache
            });
            config
                .caches
                .insert(cache_id("pass"), broken.expect("it is readable but for the origin"));
        })
        .await?;
    setup.connect("session").await?.batch_execute("SELECT 1").await?;
    setup.connect("pass").await?.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn statements_have_so_much_room_and_not_more() -> Result<()> {
    let mut setup =
        Setup::with(|config| all(config, |cache| cache.max_statement_bytes = 100_000)).await?;
    let (first, second) =
        (setup.connect("transaction").await?, setup.connect("transaction").await?);
    let text = |number| format!("SELECT {number} /* {} */", "x".repeat(20_000));
    let mut kept = Vec::new();
    let error = loop {
        ensure!(kept.len() < 10, "there is room for everything");
        match first.prepare(&text(kept.len())).await {
            Ok(statement) => kept.push(statement),
            Err(error) => break Err::<(), _>(error),
        }
    };
    let expected = "prepared statements take too much memory";
    assert_eq!(told(error)?, ("53400".to_owned(), expected.to_owned()));
    // What there is goes on, in a block too, and one without a name takes nobody's room.
    assert_eq!(first.query_one(&kept[0], &[]).await?.get::<_, i32>(0), 0);
    second.batch_execute("BEGIN").await?;
    assert_eq!(second.query_typed("SELECT 7", &[]).await?[0].get::<_, i32>(0), 7);
    second.batch_execute("COMMIT").await?;
    assert_eq!(told(second.prepare("SELECT 7").await)?.0, "53400");
    // What is deallocated makes room, and so does who leaves.
    let many = kept.len();
    kept.clear();
    first.batch_execute("SELECT 1").await?;
    drop(second.prepare("SELECT 7").await?);
    for number in 0..many {
        kept.push(first.prepare(&text(number)).await?);
    }
    let metrics = setup.sidecar.get("/metrics").await?.text;
    let name = "integratedb_proxy_statement_bytes{cache=\"transaction\"} ";
    let taken = metrics.lines().find_map(|line| line.strip_prefix(name)?.parse::<usize>().ok());
    ensure!(taken.is_some_and(|bytes| bytes > many * 20_000), "{metrics}");
    drop((kept, first));
    let has_room = async || {
        let mut kept = Vec::new();
        while kept.len() < many
            && let Ok(statement) = second.prepare(&text(kept.len() + 10)).await
        {
            kept.push(statement);
        }
        Ok(kept.len() == many)
    };
    until("there is room for as many", has_room).await?;
    let mut kept = Vec::new();
    while let Ok(statement) = second.prepare(&text(kept.len())).await {
        kept.push(statement);
    }
    // A reload makes room at once.
    setup.sidecar.reload(|config| all(config, |cache| cache.max_statement_bytes = 200_000)).await?;
    until("there is more room", async || Ok(second.prepare(&text(99)).await.is_ok())).await
}

#[tokio::test]
async fn who_asks_much_and_reads_nothing_gets_all_answers_later() -> Result<()> {
    const MANY: usize = 100_000;
    let setup = Setup::with(|_| {}).await?;
    for cache in ["pass", "session", "transaction"] {
        let mut client =
            RawClient::login(setup.sidecar.proxy(), "app", "secret", "shop", cache).await?;
        // Nothing is answered until the first is over.
        let mut bytes = Vec::new();
        write::frontend::query(&mut bytes, b"SELECT pg_sleep(1)")?;
        for _ in 0..MANY {
            write::frontend::sync(&mut bytes);
        }
        client.send(&bytes).await?;
        client.read_to(tag::READY).await?.context("the first is not answered")?;
        for number in 0..MANY {
            let message = client.read().await?;
            ensure!(message.is_some_and(|m| m.tag == tag::READY), "{cache}: answer {number}");
        }
        // A batch that is not complete, of which the origin would tell only at its end.
        bytes.clear();
        for number in 0..10_000 {
            let name = format!("s{number}");
            write::frontend::parse(&mut bytes, name.as_bytes(), b"SELECT 1", &[])?;
        }
        write::frontend::sync(&mut bytes);
        client.send(&bytes).await?;
        for number in 0..10_000 {
            let message = client.read().await?;
            ensure!(
                message.is_some_and(|m| m.tag == tag::PARSE_COMPLETE),
                "{cache}: statement {number}"
            );
        }
        client.read_to(tag::READY).await?.context("the batch does not end")?;
    }
    Ok(())
}

#[tokio::test]
async fn who_is_owed_much_is_read_no_further() -> Result<()> {
    const MANY: usize = 20_000;
    let origin = TcpListener::bind("127.0.0.1:0").await?;
    let address = origin.local_addr()?;
    let setup = Setup::with(|config| {
        all(config, |cache| {
            cache.auth = Auth::Passthrough;
            cache.pool_mode = PoolMode::Session;
            cache.origin = format!("postgres://{address}?sslmode=disable");
        });
    })
    .await?;
    let ask = async {
        let mut client =
            RawClient::login(setup.sidecar.proxy(), "app", "secret", "shop", "pass").await?;
        let mut bytes = Vec::new();
        (0..MANY).for_each(|_| write::frontend::sync(&mut bytes));
        client.send(&bytes).await?;
        for number in 0..MANY {
            let message = client.read().await?;
            ensure!(message.is_some_and(|m| m.tag == tag::READY), "answer {number}");
        }
        anyhow::Ok(())
    };
    let answer = async {
        let (mut stream, _) = origin.accept().await?;
        let length = usize::try_from(stream.read_u32().await?)?;
        stream.read_exact(&mut vec![0; length - 4]).await?;
        let mut bytes = Vec::new();
        write::backend::authentication_ok(&mut bytes);
        write::backend::ready(&mut bytes, TransactionStatus::Idle);
        stream.write_all(&bytes).await?;
        let (mut answered, mut most) = (0, 0);
        while answered < MANY {
            // As much as comes while nothing is answered: it comes at once, or not at all.
            let mut asked = Vec::new();
            let silence = Duration::from_millis(300);
            while let Ok(count) = timeout(silence, stream.read_buf(&mut asked)).await {
                ensure!(count? > 0, "the proxy hung up");
            }
            // Sync and Flush, both without a body.
            let syncs = asked.chunks(5).filter(|message| message[0] == b'S').count();
            most = most.max(syncs);
            bytes.clear();
            (0..syncs).for_each(|_| write::backend::ready(&mut bytes, TransactionStatus::Idle));
            stream.write_all(&bytes).await?;
            answered += syncs;
        }
        Ok(most)
    };
    let ((), most) = tokio::try_join!(ask, answer)?;
    ensure!((1000..=4096).contains(&most), "{most} were passed on at once");
    Ok(())
}
