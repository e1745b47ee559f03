//! Clients and backends that fail while answers are fetched, waited for and written: nobody hangs, and nothing stale is
//! left.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use support::{CACHES, Cached, RawClient, binary, until};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Any test is over before a session that waits for another's fetch gives up by itself.
const LONG: u64 = 60_000;

const SUM: &str = "SELECT sum(price) FROM items";

async fn patient() -> Result<Cached> {
    Cached::with(&[], |caching| caching.flight_ms = LONG).await
}

type Answer = Result<String, tokio_postgres::Error>;

fn value(messages: &[SimpleQueryMessage]) -> String {
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.unwrap_or("nothing").to_owned()
}

fn asks(client: Client, query: &'static str) -> (tokio_postgres::CancelToken, JoinHandle<Answer>) {
    let token = client.cancel_token();
    let answer =
        tokio::spawn(async move { client.simple_query(query).await.map(|rows| value(&rows)) });
    (token, answer)
}

/// Who fetches [`SUM`], whom the table's owner lets wait, and two who wait for the answer.
struct Flight {
    owner: Client,
    leader: (tokio_postgres::CancelToken, JoinHandle<Answer>),
    followers: Vec<(tokio_postgres::CancelToken, JoinHandle<Answer>)>,
}

/// Backends of clients that wait for the table.
async fn blocked(setup: &Cached) -> Result<i64> {
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND wait_event_type = 'Lock'";
    Ok(setup.database.connect().await?.query_one(sql, &[]).await?.get(0))
}

impl Flight {
    async fn start(setup: &Cached, cache: &str) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..3 {
            let client = setup.connect(cache, "app").await?;
            setup.warm(cache, &client, SUM).await?;
            clients.push(client);
        }
        let purge = serde_json::json!({"all": true});
        setup.sidecar.post(&format!("/api/v1/caches/{cache}/purge"), purge).await?;
        let owner = setup.database.connect().await?;
        owner.batch_execute("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await?;
        let leader = asks(clients.remove(0), SUM);
        until("the leader waits", async || Ok(blocked(setup).await? == 1)).await?;
        let before = setup.caching(cache).await?["misses"].as_u64();
        let followers = clients.into_iter().map(|client| asks(client, SUM)).collect();
        until("the followers look", async || {
            Ok(setup.caching(cache).await?["misses"].as_u64() >= before.map(|before| before + 2))
        })
        .await?;
        Ok(Self { owner, leader, followers })
    }
}

#[tokio::test]
async fn followers_go_on_when_the_leader_is_cancelled_or_killed() -> Result<()> {
    let setup = patient().await?;
    for cache in CACHES {
        for is_killed in [false, true] {
            let flight = Flight::start(&setup, cache).await?;
            ensure!(blocked(&setup).await? == 1, "the followers ask the origin themselves");
            let started = Instant::now();
            match is_killed {
                false => flight.leader.0.cancel_query(NoTls).await?,
                true => {
                    setup
                        .admin(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                             WHERE usename = 'app' AND wait_event_type = 'Lock'",
                        )
                        .await?;
                }
            }
            ensure!(flight.leader.1.await?.is_err());
            until("the followers go on", async || Ok(blocked(&setup).await? > 0)).await?;
            flight
                .owner
                .batch_execute("UPDATE items SET price = price + 1 WHERE id = 1; COMMIT")
                .await?;
            let sum = setup.database.connect().await?.simple_query(SUM).await?;
            for (_, follower) in flight.followers {
                ensure!(follower.await?? == value(&sum));
            }
            ensure!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        }
    }
    Ok(())
}

#[tokio::test]
async fn followers_go_on_when_the_leaders_client_vanishes() -> Result<()> {
    let setup = patient().await?;
    for cache in CACHES {
        let warm = setup.connect(cache, "app").await?;
        setup.warm(cache, &warm, SUM).await?;
        let purge = serde_json::json!({"all": true});
        setup.sidecar.post(&format!("/api/v1/caches/{cache}/purge"), purge).await?;
        let owner = setup.database.connect().await?;
        owner.batch_execute("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await?;
        let mut leader =
            RawClient::login(setup.sidecar.proxy(), "app", "secret", "shop", cache).await?;
        // Who it is, is known after its first query.
        leader.query("SELECT count(*) FROM pg_class").await?;
        leader.read_to(b'Z').await?.context("no end")?;
        leader.query(SUM).await?;
        until("the leader waits", async || Ok(blocked(&setup).await? == 1)).await?;
        let before = setup.caching(cache).await?["misses"].as_u64();
        let (_, follower) = asks(warm, SUM);
        until("the follower looks", async || {
            Ok(setup.caching(cache).await?["misses"].as_u64() > before)
        })
        .await?;
        ensure!(blocked(&setup).await? == 1, "the follower asks the origin itself");
        leader.reset()?;
        owner.batch_execute("COMMIT").await?;
        let answer = tokio::time::timeout(Duration::from_secs(20), follower).await;
        ensure!(answer.context("it waits for somebody who is gone")???.parse::<i64>().is_ok());
    }
    Ok(())
}

#[tokio::test]
async fn who_waits_for_anothers_fetch_can_be_cancelled() -> Result<()> {
    let setup = patient().await?;
    for cache in CACHES {
        let mut flight = Flight::start(&setup, cache).await?;
        let (token, cancelled) = flight.followers.remove(0);
        // One that comes before it waits has nothing to cancel.
        until("it is cancelled", async || {
            token.cancel_query(NoTls).await?;
            Ok(cancelled.is_finished())
        })
        .await?;
        let error = cancelled.await?.err().context("it has an answer")?;
        ensure!(error.code().is_some_and(|code| code.code() == "57014"), "{error}");
        // Nobody else is.
        ensure!(blocked(&setup).await? == 1);
        flight.owner.batch_execute("COMMIT").await?;
        flight.leader.1.await??;
        for (_, follower) in flight.followers {
            follower.await??;
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_fence_and_nothing_stale_is_left_of_a_write_that_is_killed() -> Result<()> {
    let setup = patient().await?;
    let query = "SELECT price FROM items WHERE id = 9";
    for cache in CACHES {
        let reader = setup.connect(cache, "app").await?;
        for commits in [false, true] {
            setup.warm(cache, &reader, query).await?;
            let owner = setup.database.connect().await?;
            owner.batch_execute("BEGIN; UPDATE items SET price = price + 1 WHERE id = 9").await?;
            let writer = setup.connect(cache, "app").await?;
            let (_, written) = asks(writer, "UPDATE items SET price = -1 WHERE id = 9");
            until("the writer waits", async || Ok(blocked(&setup).await? == 1)).await?;
            // It is killed as it waits, or when it is done, whichever comes first.
            if commits {
                owner.batch_execute("COMMIT").await?;
            }
            setup
                .admin(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                        WHERE usename = 'app' AND query LIKE 'UPDATE items SET price = -1%'",
                )
                .await?;
            let _ = written.await?;
            drop(owner);
            until("the fences fall", async || {
                let metrics = setup.sidecar.get("/metrics").await?.text;
                let mut fences =
                    metrics.lines().filter(|line| line.starts_with("integratedb_cache_fences{"));
                Ok(fences.all(|line| line.ends_with(" 0")))
            })
            .await?;
            let admin = setup.database.connect().await?;
            until("what is kept is right", async || {
                // In pass mode only the writer's own connection is gone; a borrowed one may have been the reader's.
                let Ok((rows, _)) = setup.ask(cache, &reader, query).await else {
                    return Ok(false);
                };
                Ok(rows == [value(&admin.simple_query(query).await?)])
            })
            .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_took_long_is_not_kept_as_newer_than_it_is() -> Result<()> {
    let setup = patient().await?;
    let query = "SELECT price + (SELECT 0 * count(*) FROM generate_series(1, 2000000)) FROM items WHERE id = 9";
    for cache in CACHES {
        let client = setup.connect(cache, "app").await?;
        setup.warm(cache, &client, query).await?;
        for round in 0..3 {
            let purge = serde_json::json!({"all": true});
            setup.sidecar.post(&format!("/api/v1/caches/{cache}/purge"), purge).await?;
            let other = setup.connect(cache, "app").await?;
            let (_, slow) = asks(other, query);
            until("it runs", async || {
                let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' AND query LIKE '%generate_series%'";
                Ok(setup.database.connect().await?.query_one(sql, &[]).await?.get::<_, i64>(0) == 1)
            })
            .await?;
            let price = 1000 + round;
            let update = format!("UPDATE items SET price = {price} WHERE id = 9");
            // Through the proxy, and around it.
            if round == 0 {
                setup.connect(cache, "app").await?.batch_execute(&update).await?;
                ensure!(setup.ask(cache, &client, query).await?.0 == [price.to_string()]);
            } else {
                setup.admin(&update).await?;
            }
            slow.await??;
            until("the write arrives", async || {
                Ok(setup.ask(cache, &client, query).await?.0 == [price.to_string()])
            })
            .await?;
            ensure!(setup.warm(cache, &client, query).await? == [price.to_string()]);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_block_that_is_held_back_may_lose_its_connection() -> Result<()> {
    let setup = patient().await?;
    let query = "SELECT price FROM items WHERE id = 9";
    for cache in CACHES {
        let client = setup.connect(cache, "app").await?;
        setup.warm(cache, &client, query).await?;
        client.batch_execute("BEGIN").await?;
        ensure!(setup.ask(cache, &client, query).await?.1);
        setup
            .admin("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            .await?;
        // A connection of its own takes the session with it; another does not.
        if cache == "pass" {
            until("the client is told", async || Ok(client.simple_query(query).await.is_err()))
                .await?;
        } else {
            ensure!(setup.ask(cache, &client, query).await?.0 == ["90"]);
            client.batch_execute("COMMIT").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_pipeline_reads_its_own_writes_and_so_do_prepared_transactions() -> Result<()> {
    let setup = patient().await?;
    let query = "SELECT price FROM items WHERE id = 9";
    for cache in CACHES {
        let (client, other) =
            (setup.connect(cache, "app").await?, setup.connect(cache, "app").await?);
        let read = client.prepare("SELECT price FROM items WHERE id = $1").await?;
        let write = client.prepare("UPDATE items SET price = $1 WHERE id = 9").await?;
        for round in 0..20 {
            setup.warm(cache, &other, query).await?;
            client.query_one(&read, &[&9]).await?;
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&round];
            let (written, row) =
                tokio::join!(client.execute(&write, &values), client.query_one(&read, &[&9]));
            ensure!(written? == 1 && row?.get::<_, i32>(0) == round, "round {round}");
            ensure!(setup.ask(cache, &other, query).await?.0 == [round.to_string()]);
        }
        let name = format!("two_{cache}");
        client
            .batch_execute(&format!(
                "BEGIN; UPDATE items SET price = 77 WHERE id = 9; PREPARE TRANSACTION '{name}'"
            ))
            .await?;
        ensure!(setup.warm(cache, &other, query).await? == ["19"]);
        client.batch_execute(&format!("COMMIT PREPARED '{name}'")).await?;
        ensure!(setup.ask(cache, &other, query).await?.0 == ["77"]);

        client
            .batch_execute(&format!(
                "BEGIN; UPDATE items SET price = 78 WHERE id = 9; PREPARE TRANSACTION '{name}'"
            ))
            .await?;
        setup.warm(cache, &other, query).await?;
        setup.admin(&format!("COMMIT PREPARED '{name}'")).await?;
        until("it arrives", async || Ok(setup.ask(cache, &other, query).await?.0 == ["78"]))
            .await?;
    }
    Ok(())
}

/// The proxy is a process here, because only a process has memory of its own.
#[tokio::test]
async fn memory_stays_bounded_under_ten_times_as_many_questions() -> Result<()> {
    const BOUND: u64 = 4 << 20;
    let setup = Cached::new().await?;
    let (url, origin) = (setup.database.url(), setup.database.address());
    let listener =
        [std::net::TcpListener::bind("127.0.0.1:0")?, std::net::TcpListener::bind("127.0.0.1:0")?];
    let addresses = [listener[0].local_addr()?, listener[1].local_addr()?];
    drop(listener);
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("proxy.toml");
    std::fs::write(
        &file,
        format!(
            "database_url = '{url}'\n[proxy]\nlisten = '{}'\n[caches.pass]\norigin = 'postgres://{origin}'\n\
             [caches.pass.caching]\nurl = '{url}'\nmax_bytes = {BOUND}\nslot_name = 'of_its_own'\n",
            addresses[0]
        ),
    )?;
    let mut process = std::process::Command::new(binary()?)
        .args(["serve", "--listen", &addresses[1].to_string(), "--config"])
        .arg(&file)
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let checked = async {
        let http = support::http()?;
        let metric = async |name: &str| -> Result<u64> {
            let url = format!("http://{}/metrics", addresses[1]);
            let Ok(reply) = http.get(url).send().await else { return Ok(0) };
            let text = reply.text().await?;
            let line = text.lines().find(|line| line.starts_with(name));
            Ok(line.and_then(|l| l.rsplit(' ').next()?.parse().ok()).unwrap_or(0))
        };
        until("it serves", async || {
            Ok(metric("integratedb_replication_state{origin=\"pass\",state=\"streaming\"}").await?
                == 1)
        })
        .await?;
        let url = format!(
            "{}&application_name=pass",
            setup.database.url_through(addresses[0], "app", "secret")
        );
        let client = support::connect(&url).await?;
        let resident = || -> Result<u64> {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
            let line =
                status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no RSS")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
        };
        let sql = "SELECT $1::int + price, repeat('x', 2000) FROM items WHERE id = 3";
        let statement = client.prepare(sql).await?;
        let mut after_one = 0;
        for number in 0..20_000 {
            let row = client.query_one(&statement, &[&number]).await?;
            ensure!(row.get::<_, i32>(0) == number + 30);
            if number % 1000 == 999 {
                let bytes = metric("integratedb_cache_bytes{").await?;
                ensure!(bytes <= BOUND, "{bytes} bytes are kept");
            }
            if number == 2000 {
                after_one = resident()?;
            }
        }
        ensure!(metric("integratedb_cache_evicted_total{").await? > 0);
        let after_ten = resident()?;
        ensure!(after_ten < after_one + (8 << 20), "from {after_one} to {after_ten} bytes");
        anyhow::Ok(())
    };
    let checked = checked.await;
    process.kill()?;
    process.wait()?;
    checked
}
