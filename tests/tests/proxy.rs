//! The proxy as its clients see it, by each way of authentication and pooling.

use anyhow::{Context, Result};
use support::{Cluster, Database, Sidecar, add_caches, connect, until};
use tokio_postgres::{Client, NoTls};

const PASSWORD: &str = "correct horse";

struct Setup {
    cluster: Cluster,
    database: Database,
    sidecar: Sidecar,
}

impl Setup {
    async fn new() -> Result<Self> {
        Self::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut integratedb_sidecar::Config)) -> Result<Self> {
        let cluster = Cluster::start().await?;
        let database = cluster.database("shop").await?;
        database
            .connect()
            .await?
            .batch_execute(&format!(
                "CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'; GRANT CREATE ON SCHEMA public TO app;
                 CREATE ROLE other LOGIN PASSWORD '{PASSWORD}'; GRANT other TO app;
                 CREATE TABLE items (id int PRIMARY KEY, name text);
                 INSERT INTO items SELECT n, 'item ' || n FROM generate_series(1, 1000) n;
                 GRANT ALL ON items TO app"
            ))
            .await?;
        let mut added = Ok(());
        let sidecar = Sidecar::start_as_root_with(&database.url(), |config| {
            added = add_caches(config, &database.url());
            adjust(config);
        })
        .await?;
        added?;
        Ok(Self { cluster, database, sidecar })
    }

    fn url(&self, cache: &str) -> String {
        let url =
            self.database.url_through(self.sidecar.proxy(), "app", &PASSWORD.replace(' ', "%20"));
        format!("{url}&application_name={cache}")
    }

    async fn connect(&self, cache: &str) -> Result<Client> {
        connect(&self.url(cache)).await
    }

    /// Counts the backends of the role `app` at the origin.
    async fn backends(&self) -> Result<i64> {
        let admin = self.database.connect().await?;
        let row = admin
            .query_one("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'", &[])
            .await?;
        Ok(row.get(0))
    }
}

const CACHES: [&str; 3] = ["pass", "session", "transaction"];

#[tokio::test]
async fn a_query_is_answered_in_every_mode() -> Result<()> {
    let setup = Setup::new().await?;
    for cache in CACHES {
        let client = setup.connect(cache).await.context(cache)?;
        let row = client.query_one("SELECT name FROM items WHERE id = $1", &[&7]).await?;
        assert_eq!(row.get::<_, &str>(0), "item 7");
        let rows = client.simple_query("SELECT 1; SELECT 2").await?;
        assert_eq!(rows.len(), 6, "{rows:?}");
        let error = client.query_one("SELECT 1 / 0", &[]).await.expect_err("it divides by zero");
        assert_eq!(error.code().map(|code| code.code()), Some("22012"));
        let row = client.query_one("SHOW application_name", &[]).await?;
        assert_eq!(row.get::<_, &str>(0), cache);
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_refused_as_by_postgres() -> Result<()> {
    let setup = Setup::new().await?;
    for cache in CACHES {
        for user in ["app", "nobody"] {
            let url = setup.database.url_through(setup.sidecar.proxy(), user, "wrong");
            let error = tokio_postgres::connect(&format!("{url}&application_name={cache}"), NoTls)
                .await
                .err()
                .context("let in")?;
            assert_eq!(error.code().map(|code| code.code()), Some("28P01"), "{error:?}");
            let message = error.as_db_error().map(|e| e.message().to_owned());
            assert_eq!(
                message.as_deref(),
                Some(&*format!("password authentication failed for user \"{user}\""))
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn prepared_statements_survive_transaction_pooling() -> Result<()> {
    let setup = Setup::with(|config| {
        for cache in config.caches.values_mut() {
            cache.pool_size = 2;
        }
    })
    .await?;
    let clients = [
        setup.connect("transaction").await?,
        setup.connect("transaction").await?,
        setup.connect("transaction").await?,
    ];
    let mut statements = Vec::new();
    for client in &clients {
        statements.push(client.prepare("SELECT name FROM items WHERE id = $1").await?);
    }
    // One of the two connections is taken by a transaction, then the other: so all meet both.
    for round in 0..4 {
        let mut holder = setup.connect("transaction").await?;
        let held = holder.transaction().await?;
        held.execute("SELECT 1", &[]).await?;
        for (client, statement) in clients.iter().zip(&statements) {
            let row = client.query_one(statement, &[&(round + 1)]).await?;
            assert_eq!(row.get::<_, String>(0), format!("item {}", round + 1));
        }
        held.commit().await?;
    }
    assert!(setup.backends().await? <= 2);
    Ok(())
}

#[tokio::test]
async fn what_a_session_sets_is_its_own_and_stays() -> Result<()> {
    let setup = Setup::with(|config| {
        for cache in config.caches.values_mut() {
            cache.pool_size = 1;
        }
    })
    .await?;
    let (a, b) = (setup.connect("transaction").await?, setup.connect("transaction").await?);
    a.batch_execute("SET work_mem = '7MB'; SET my.tenant = 'it''s'; SET search_path = pg_catalog, public; SET ROLE other").await?;
    a.batch_execute("BEGIN; SET work_mem = '9MB'; ROLLBACK").await?;
    a.batch_execute("BEGIN; SET LOCAL work_mem = '9MB'; SET datestyle = 'German'; COMMIT").await?;
    b.batch_execute("SET work_mem = '5MB'").await?;
    let show = async |client: &Client| -> Result<String> {
        let row = client
            .query_one(
                "SELECT concat_ws('|', current_setting('work_mem'), current_setting('my.tenant', true), \
                 current_setting('search_path'), current_user, current_setting('datestyle'))",
                &[],
            )
            .await?;
        Ok(row.get(0))
    };
    for _ in 0..3 {
        assert_eq!(show(&a).await?, "7MB|it's|pg_catalog, public|other|German, DMY");
        assert_eq!(show(&b).await?, "5MB||\"$user\", public|app|ISO, MDY");
    }
    a.batch_execute("RESET ALL; RESET ROLE").await?;
    assert_eq!(show(&a).await?, "4MB||\"$user\", public|app|ISO, MDY");
    a.batch_execute("SELECT set_config('work_mem', '6MB', false)").await?;
    assert!(show(&b).await?.starts_with("5MB|"));
    assert!(show(&a).await?.starts_with("6MB|"));
    // Which one it sets is said by a constant.
    a.batch_execute("SELECT set_config('my.other', 'two', false)").await?;
    let other = async |client: &Client| -> Result<Option<String>> {
        let row = client.query_one("SELECT nullif(current_setting('my.other', true), '')", &[]);
        Ok(row.await?.get(0))
    };
    assert_eq!(other(&b).await?, None);
    assert_eq!(other(&a).await?.as_deref(), Some("two"));
    a.batch_execute("DISCARD ALL").await?;
    assert!(show(&b).await?.starts_with("5MB|"));
    assert!(show(&a).await?.starts_with("4MB|"));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_shared_keeps_its_connection() -> Result<()> {
    let setup = Setup::with(|config| {
        for cache in config.caches.values_mut() {
            cache.pool_size = 2;
        }
    })
    .await?;
    let (a, b) = (setup.connect("transaction").await?, setup.connect("transaction").await?);
    a.batch_execute("CREATE TEMP TABLE mine (n int); INSERT INTO mine VALUES (1)").await?;
    a.batch_execute("SELECT pg_advisory_lock(1)").await?;
    for _ in 0..5 {
        assert!(b.query_one("SELECT n FROM mine", &[]).await.is_err());
        let row = b.query_one("SELECT pg_try_advisory_lock(1)", &[]).await?;
        assert!(!row.get::<_, bool>(0));
        assert_eq!(a.query_one("SELECT n FROM mine", &[]).await?.get::<_, i32>(0), 1);
    }
    drop(a);
    // The connection comes back clean.
    until("the lock is free", async || {
        let row = b.query_one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND granted AND pid <> pg_backend_pid()", &[]).await?;
        Ok(row.get::<_, i64>(0) == 0)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn many_clients_share_few_connections() -> Result<()> {
    many_share_few(1).await
}

#[tokio::test]
async fn connections_are_shared_across_workers() -> Result<()> {
    many_share_few(3).await
}

async fn many_share_few(workers: usize) -> Result<()> {
    let setup = Setup::with(|config| {
        config.proxy.workers = workers;
        for cache in config.caches.values_mut() {
            cache.pool_size = 3;
        }
    })
    .await?;
    let mut tasks = Vec::new();
    for n in 0..40 {
        let url = setup.url("transaction");
        tasks.push(tokio::spawn(async move {
            let mut client = connect(&url).await?;
            for round in 0..20 {
                let transaction = client.transaction().await?;
                let id = (n * 20 + round) % 1000 + 1;
                let row =
                    transaction.query_one("SELECT name FROM items WHERE id = $1", &[&id]).await?;
                anyhow::ensure!(row.get::<_, String>(0) == format!("item {id}"));
                transaction.commit().await?;
            }
            Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    assert!(setup.backends().await? <= 3);
    Ok(())
}

#[tokio::test]
async fn a_cancel_request_reaches_its_query_only() -> Result<()> {
    let setup = Setup::new().await?;
    for cache in CACHES {
        let (a, b) = (setup.connect(cache).await?, setup.connect(cache).await?);
        let cancel = a.cancel_token();
        let sleep = tokio::spawn(async move { (a.batch_execute("SELECT pg_sleep(60)").await, a) });
        let other = tokio::spawn(async move { b.batch_execute("SELECT pg_sleep(3)").await });
        let admin = setup.database.connect().await?;
        until("both sleep", async || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
            Ok(admin.query_one(sql, &[]).await?.get::<_, i64>(0) == 2)
        })
        .await?;
        cancel.cancel_query(NoTls).await?;
        let (result, a) = sleep.await?;
        assert_eq!(result.expect_err("cancelled").code().map(|c| c.code()), Some("57014"));
        other.await??;
        // One that comes late hits nothing. Passed through it is Postgres's, which may take it for the next query's.
        if cache != "pass" {
            cancel.cancel_query(NoTls).await?;
            a.batch_execute("SELECT 1").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn queries_are_listed_by_template_without_constants() -> Result<()> {
    let setup = Setup::new().await?;
    for cache in CACHES {
        let client = setup.connect(cache).await?;
        for id in 1..=3 {
            client.query_one("SELECT name FROM items WHERE id = $1", &[&id]).await?;
            client
                .batch_execute(&format!(
                    "SELECT * FROM items WHERE name = 'secret{id}' AND id = {id}"
                ))
                .await?;
        }
        let _ = client.batch_execute("SELECT 1/0").await;
        // An error is counted when its query is over, which the client does not wait for.
        client.batch_execute("").await?;
        let path = format!("/api/v1/caches/{cache}/queries");
        until("the parser has looked at it", async || {
            let reply =
                setup.sidecar.get(&format!("{path}?table=items&class=dql&sort=calls")).await?;
            Ok(reply.body["data"].as_array().is_some_and(|list| list.len() == 2))
        })
        .await?;
        let reply = setup.sidecar.get(&path).await?;
        assert!(!reply.text.contains("secret"), "{}", reply.text);
        let find = |text: &str| {
            let list = reply.body["data"].as_array().cloned().unwrap_or_default();
            list.into_iter()
                .find(|query| query["template"].as_str().is_some_and(|t| t.contains(text)))
        };
        let prepared = find("where id = $1").context("the prepared one")?;
        assert_eq!((prepared["calls"].as_i64(), prepared["errors"].as_i64()), (Some(3), Some(0)));
        assert_eq!(find("name = ?").context("the simple one")?["calls"], 3);
        assert_eq!(find("? / ?").with_context(|| reply.text.clone())?["errors"], 1);
        let metrics = setup.sidecar.get("/metrics").await?.text;
        assert!(
            metrics.contains(&format!("integratedb_query_calls_total{{cache=\"{cache}\"")),
            "{metrics}"
        );
    }
    let reply = setup.sidecar.get("/api/v1/caches/nothing/queries").await?;
    assert_eq!(reply.status, 404);
    let reply = setup.sidecar.get("/api/v1/caches/pass/queries?sort=nonsense").await?;
    assert_eq!(reply.status, 400);
    Ok(())
}

#[tokio::test]
async fn clients_survive_a_restart_of_the_origin() -> Result<()> {
    let mut setup = Setup::new().await?;
    let client = setup.connect("transaction").await?;
    client.batch_execute("SET work_mem = '7MB'").await?;
    let statement = client.prepare("SELECT name FROM items WHERE id = $1").await?;
    setup.cluster.restart().await?;
    // The connection that was idle when the origin went is noticed; the session goes on with another.
    let row = client.query_one(&statement, &[&1]).await?;
    assert_eq!(row.get::<_, &str>(0), "item 1");
    assert_eq!(client.query_one("SHOW work_mem", &[]).await?.get::<_, &str>(0), "7MB");
    Ok(())
}

#[tokio::test]
async fn a_query_waits_for_an_origin_that_is_starting() -> Result<()> {
    let mut setup = Setup::new().await?;
    let client = setup.connect("transaction").await?;
    client.batch_execute("SELECT 1").await?;
    setup.cluster.stop_immediately();
    let query = tokio::spawn(async move { client.batch_execute("SELECT 1").await });
    until("the client waits", async || {
        let reply = setup.sidecar.get("/api/v1/caches/transaction").await;
        // The sidecar's own database is gone too, so its API may not answer; the proxy does not need it.
        Ok(reply.is_ok() && !query.is_finished())
    })
    .await?;
    setup.cluster.restart().await?;
    query.await??;
    Ok(())
}

#[tokio::test]
async fn sessions_end_between_transactions_when_the_proxy_stops() -> Result<()> {
    let setup = Setup::new().await?;
    let mut clients = Vec::new();
    for cache in CACHES {
        clients.push((setup.connect(cache).await?, setup.connect(cache).await?));
    }
    for (busy, _) in &clients {
        busy.batch_execute(
            "BEGIN; INSERT INTO items VALUES (-1, 'x') ON CONFLICT DO NOTHING; SELECT 1",
        )
        .await?;
        busy.batch_execute("ROLLBACK; BEGIN").await?;
    }
    let stopping = tokio::spawn(setup.sidecar.stop());
    for (busy, idle) in &clients {
        until("the idle one is closed", async || Ok(idle.is_closed())).await?;
        busy.batch_execute("SELECT 1; COMMIT").await?;
    }
    stopping.await??;
    Ok(())
}
