//! Events over WebSocket, SSE and pages: all of them, once, in order, whatever happens in between.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Cluster, Notified, Process, Said, Socket, until};
use tempfile::TempDir;

fn id(event: &Value) -> String {
    event["id"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn what_is_committed_is_told_as_it_comes() -> Result<()> {
    let notified = Notified::start().await?;
    let (mut socket, mut sse) = (notified.socket("").await?, notified.sse("", None).await?);
    let (first, name, hello) = sse.event().await?;
    assert_eq!(
        (name.as_str(), &hello["type"], &hello["version"]),
        ("hello", &json!("hello"), &json!(1))
    );
    assert_eq!(hello["after"], first.as_str());
    let client = notified.database.connect().await?;
    let sql = "INSERT INTO items VALUES (1, E'a\\nb', 7); INSERT INTO others VALUES (1);
               UPDATE items SET name = 'c' WHERE id = 1; DELETE FROM items WHERE id = 1; TRUNCATE items";
    client.batch_execute(sql).await?;
    let expected = [
        ("INSERT", json!({"id": 1, "name": "a\nb"})),
        ("UPDATE", json!({"id": 1, "name": "c"})),
        ("DELETE", Value::Null),
        ("TRUNCATE", Value::Null),
    ];
    let mut last = first;
    for (op, record) in expected {
        let event = socket.event().await?;
        assert_eq!((&event["event"], &event["record"]), (&json!(op), &record), "{event}");
        assert_eq!(
            (&event["stakeholder"], &event["table"]),
            (&json!("reporting"), &json!("items"))
        );
        assert!(id(&event) > last, "{event}");
        let (sse_id, sse_op, sse_event) = sse.event().await?;
        assert_eq!((&sse_id, sse_op.as_str(), &sse_event), (&id(&event), op, &event));
        last = sse_id;
    }
    Ok(())
}

#[tokio::test]
async fn after_any_event_come_exactly_those_that_follow() -> Result<()> {
    // Nothing is held in memory: what was is read from the table.
    for memory in [64 << 20, 0] {
        let notified =
            Notified::start_with(|config| config.notifications.memory_bytes = memory).await?;
        let begin = notified.socket("").await?.after;
        let client = notified.database.connect().await?;
        for n in 0..5 {
            let sql =
                "INSERT INTO items SELECT n, 'n' || n FROM generate_series($1::int, $1 + 2) n";
            client.execute(sql, &[&(n * 10)]).await?;
            client.execute("INSERT INTO others VALUES ($1)", &[&n]).await?;
        }
        let mut socket = notified.socket(&format!("?after={begin}")).await?;
        let mut all = Vec::new();
        for _ in 0..15 {
            all.push(socket.event().await?);
        }
        let ids: Vec<String> = all.iter().map(id).collect();
        let records: Vec<i64> =
            all.iter().filter_map(|event| event["record"]["id"].as_i64()).collect();
        assert_eq!(records, (0..5).flat_map(|n| n * 10..n * 10 + 3).collect::<Vec<i64>>());
        for at in [0, 1, 2, 7, 13] {
            let mut socket = notified.socket(&format!("?after={}", ids[at])).await?;
            assert_eq!(socket.after, ids[at]);
            // The header is newer than what a browser was first told.
            let mut sse = notified.sse(&format!("?after={begin}"), Some(&ids[at])).await?;
            sse.event().await?;
            for event in &all[at + 1..] {
                assert_eq!(socket.event().await?, *event);
                assert_eq!(sse.event().await?.2, *event);
            }
        }
        let mut after = format!("?after={begin}&limit=4");
        let mut paged = Vec::new();
        loop {
            let page = notified.sidecar.get(&notified.path(&after)).await?;
            assert_eq!(page.status, 200, "{page:?}");
            let events = page.body["data"].as_array().context("no events")?;
            assert!(events.len() <= 4);
            paged.extend(events.clone());
            after = format!("?after={}&limit=4", page.body["next"].as_str().context("no next")?);
            if page.body["more"] == false {
                break;
            }
        }
        assert_eq!(paged, all);
        let oldest = notified.sidecar.get(&notified.path("?limit=1000")).await?;
        assert_eq!(oldest.body["data"], json!(all));
        for wrong in ["?after=7", "?after=1-2-3", "?limit=x", "?from=1"] {
            let refused = notified.sidecar.get(&notified.path(wrong)).await?;
            assert_eq!(refused.status, 400, "{wrong}: {refused:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_or_a_ticket() -> Result<()> {
    let notified = Notified::start().await?;
    let sidecar = &notified.sidecar;
    let open = async |query: &str, token: Option<&str>| {
        Socket::open(sidecar.address(), &notified.path(query), token).await
    };
    for (query, token) in [("", None), ("", Some("made-up")), ("?ticket=made-up", None)] {
        let refused = open(query, token).await.err().context("it is open")?;
        assert_eq!(refused.to_string(), "401 Unauthorized");
    }
    let path = format!("/api/v1/stakeholders/{}/events/ticket", notified.stakeholder);
    let ticket = sidecar.post(&path, json!({})).await?;
    assert_eq!((ticket.status.as_u16(), &ticket.body["data"]["expires_in"]), (200, &json!(60)));
    let query = format!("?ticket={}", ticket.body["data"]["ticket"].as_str().context("no ticket")?);
    // Of another stakeholder; it is used up all the same.
    let other = format!("/api/v1/stakeholders/{}/events{query}", notified.stakeholder + 1);
    assert!(Socket::open(sidecar.address(), &other, None).await.is_err());
    assert!(open(&query, None).await.is_err());
    let ticket = sidecar.post(&path, json!({})).await?;
    let query = format!("?ticket={}", ticket.body["data"]["ticket"].as_str().context("no ticket")?);
    let mut socket = open(&query, None).await?;
    assert_eq!(
        open(&query, None).await.err().context("it is open")?.to_string(),
        "401 Unauthorized"
    );
    let nobody = sidecar.post("/api/v1/stakeholders/99/events/ticket", json!({})).await?;
    assert_eq!(nobody.status, 404);
    let nobody = Socket::open(sidecar.address(), "/api/v1/stakeholders/99/events", sidecar.token());
    assert_eq!(nobody.await.err().context("it is open")?.to_string(), "404 Not Found");
    // What a ticket has opened ends with the token that the ticket was for.
    assert_eq!(sidecar.post("/api/v1/auth/logout", json!({})).await?.status, 204);
    assert_eq!(socket.code().await?, 4401);
    Ok(())
}

#[tokio::test]
async fn a_socket_ends_with_its_token() -> Result<()> {
    let started = Instant::now();
    let notified = Notified::start_with(|config| config.token_secs = 8).await?;
    let (mut socket, mut sse) = (notified.socket("").await?, notified.sse("", None).await?);
    assert_eq!(sse.event().await?.1, "hello");
    assert_eq!(socket.code().await?, 4401);
    assert_eq!(sse.event().await?.1, "expired");
    assert_eq!(sse.block().await?, None);
    ensure!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn other_subscriptions_count_from_the_next_event_on() -> Result<()> {
    let notified = Notified::start().await?;
    let mut socket = notified.socket("").await?;
    let client = notified.database.connect().await?;
    client.batch_execute("INSERT INTO items VALUES (1, 'a', 7)").await?;
    assert_eq!(socket.event().await?["record"], json!({"id": 1, "name": "a"}));
    notified.subscribe(notified.stakeholder, "items", &["id", "price"]).await?;
    client.batch_execute("INSERT INTO items VALUES (2, 'b', 8)").await?;
    assert_eq!(socket.event().await?["record"], json!({"id": 2, "price": 8}));
    notified.subscribe(notified.stakeholder, "others", &["id"]).await?;
    client
        .batch_execute("INSERT INTO items VALUES (3, 'c', 9); INSERT INTO others VALUES (3)")
        .await?;
    assert_eq!(socket.event().await?["table"], "others");
    Ok(())
}

#[tokio::test]
async fn a_stakeholder_that_is_deleted_takes_its_sockets_with_it() -> Result<()> {
    let notified = Notified::start().await?;
    let (mut socket, mut sse) = (notified.socket("").await?, notified.sse("", None).await?);
    sse.event().await?;
    let path = format!("/api/v1/stakeholders/{}", notified.stakeholder);
    assert!(notified.sidecar.delete(&path).await?.status.is_success());
    assert_eq!(socket.code().await?, 4404);
    assert_eq!(sse.event().await?.1, "deleted");
    Ok(())
}

#[tokio::test]
async fn a_sidecar_that_stops_says_so_and_waits_for_nobody() -> Result<()> {
    let notified = Notified::start().await?;
    let (mut socket, mut sse) = (notified.socket("").await?, notified.sse("", None).await?);
    let (silent, quiet) = (notified.socket("").await?, notified.sse("", None).await?);
    sse.event().await?;
    let client = notified.database.connect().await?;
    client
        .batch_execute(
            "INSERT INTO items SELECT n, repeat('x', 100000) FROM generate_series(1, 300) n",
        )
        .await?;
    // Two that read nothing from now on have a lot before them.
    let started = Instant::now();
    let stopped = tokio::spawn(notified.sidecar.stop());
    assert_eq!(socket.code().await?, 1001);
    while sse.event().await?.1 != "stopping" {}
    stopped.await??;
    ensure!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    drop((silent, quiet));
    Ok(())
}

#[tokio::test]
async fn a_quiet_socket_is_told_how_far_it_is() -> Result<()> {
    let notified = Notified::start_with(|config| config.notifications.heartbeat_secs = 1).await?;
    // Somebody else is told of them, so that they are in the log.
    let other = notified.stakeholder("auditing").await?;
    notified.subscribe(other, "others", &["id"]).await?;
    let (mut socket, mut sse) = (notified.socket("").await?, notified.sse("", None).await?);
    sse.event().await?;
    notified.database.connect().await?.batch_execute("INSERT INTO others VALUES (1)").await?;
    let (mut pings, mut position) = (0, String::new());
    while pings < 5 {
        match socket.said().await? {
            Said::Ping => pings += 1,
            Said::Json(said) => {
                assert_eq!(said["type"], "position");
                assert!(position.is_empty(), "only once, if nothing happens");
                position = said["after"].as_str().context("no position")?.to_owned();
            }
            Said::Closed(frame) => anyhow::bail!("{frame:?}"),
        }
    }
    assert!(position > socket.after);
    let mut block = String::new();
    while !block.contains("id: ") {
        block = sse.block().await?.context("ended")?;
    }
    assert_eq!(block, format!(": heartbeat\nid: {position}"));
    Ok(())
}

#[tokio::test]
async fn who_does_not_answer_is_closed() -> Result<()> {
    let notified = Notified::start_with(|config| config.notifications.heartbeat_secs = 1).await?;
    // A client that reads nothing answers nothing.
    let _socket = notified.socket("").await?;
    assert_eq!(open_sockets(&notified).await?, 1);
    until("it is closed", async || open_sockets(&notified).await.map(|open| open == 0)).await?;
    Ok(())
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_told_as_a_gap() -> Result<()> {
    let notified = Notified::start_with(|config| config.notifications.memory_bytes = 0).await?;
    let mut socket = notified.socket("").await?;
    let client = notified.database.connect().await?;
    let mut ids = Vec::new();
    for n in 1..=4 {
        client.execute("INSERT INTO items VALUES ($1, 'a')", &[&n]).await?;
        ids.push(id(&socket.event().await?));
    }
    // As pruning does it, but not by time or size.
    let prune = "WITH last AS (SELECT epoch, last_lsn, last_index FROM integratedb.event_log
                     ORDER BY epoch, last_lsn, last_index OFFSET 2 LIMIT 1),
                 gone AS (DELETE FROM integratedb.event_log l USING last
                     WHERE (l.epoch, l.last_lsn, l.last_index) <= (last.epoch, last.last_lsn, last.last_index))
                 UPDATE integratedb.event_log_state SET pruned_epoch = last.epoch, pruned_lsn = last.last_lsn,
                     pruned_index = last.last_index FROM last";
    assert_eq!(client.execute(prune, &[]).await?, 1);
    let after = format!("?after={}", ids[0]);
    let mut socket = notified.socket(&after).await?;
    let gap = socket.event().await?;
    assert_eq!(
        (&gap["event"], &gap["stakeholder"], id(&gap)),
        (&json!("GAP"), &json!("reporting"), ids[2].clone())
    );
    assert!(gap["reason"].as_str().is_some_and(|why| why.contains("not kept any more")), "{gap}");
    assert_eq!(id(&socket.event().await?), ids[3]);
    let mut sse = notified.sse(&after, None).await?;
    sse.event().await?;
    let (last, name, told) = sse.event().await?;
    assert_eq!((last, name.as_str(), told), (ids[2].clone(), "GAP", gap.clone()));
    let page = notified.sidecar.get(&notified.path(&after)).await?;
    assert_eq!(page.body["data"][0], gap);
    // Who asks for what is kept misses nothing of it.
    let page = notified.sidecar.get(&notified.path("")).await?;
    assert_eq!(page.body["data"].as_array().map(Vec::len), Some(1), "{}", page.body);
    assert_eq!(page.body["data"][0]["id"], ids[3].as_str());
    Ok(())
}

#[tokio::test]
async fn who_takes_nothing_holds_up_nobody_and_no_memory() -> Result<()> {
    let notified = Notified::start_with(|config| {
        config.write_timeout_secs = 5;
        config.notifications.memory_bytes = 8 << 20;
    })
    .await?;
    let mut reader = notified.socket("").await?;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(notified.socket("").await?);
    }
    let client = notified.database.connect().await?;
    let before = resident()?;
    // 20 MB, for each of 21 sockets. One of them takes all meanwhile.
    let writing = tokio::spawn(async move {
        let sql = "INSERT INTO items SELECT n, repeat(md5(n::text), 320) FROM generate_series($1::int, $1 + 99) n";
        for n in 0..20 {
            client.execute(sql, &[&(n * 100)]).await?;
        }
        anyhow::Ok(client)
    });
    for n in 0..2000 {
        assert_eq!(reader.event().await?["key"]["id"], n);
    }
    let client = writing.await??;
    let grown = resident()?.saturating_sub(before);
    ensure!(grown < 200 << 20, "{} MB", grown >> 20);
    until("the silent ones are closed", async || Ok(open_sockets(&notified).await? == 1)).await?;
    client.batch_execute("INSERT INTO items VALUES (-1, 'after')").await?;
    assert_eq!(reader.event().await?["key"]["id"], -1);
    Ok(())
}

#[tokio::test]
async fn there_are_no_more_sockets_than_allowed() -> Result<()> {
    let notified = Notified::start_with(|config| config.notifications.max_sockets = 2).await?;
    let first = notified.socket("").await?;
    let _second = notified.sse("", None).await?;
    let refused = notified.socket("").await.err().context("it is open")?;
    assert_eq!(refused.to_string(), "503 Service Unavailable");
    let refused = notified.sse("", None).await.err().context("it is open")?;
    assert_eq!(refused.to_string(), "503 Service Unavailable");
    drop(first);
    until("one is closed", async || Ok(open_sockets(&notified).await? == 1)).await?;
    notified.socket("").await?;
    Ok(())
}

#[tokio::test]
async fn a_sidecar_that_is_killed_loses_nothing() -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("shop").await?;
    let client = database.connect().await?;
    client.batch_execute("CREATE TABLE items (id int PRIMARY KEY, name text)").await?;
    let files = TempDir::new()?;
    let config = files.path().join("config.toml");
    std::fs::write(&config, "[notifications]\nheartbeat_secs = 1\n")?;
    let mut process = Process::start(&config, &database.url(), None).await?;
    let user = json!({"user": {"username": "root", "password": "correct horse"}});
    let made = process.post("/api/v1/users", user, None).await?;
    let token = made["data"]["token"].as_str().context("no token")?.to_owned();
    let body = json!({"stakeholder": {"name": "reporting"}});
    let made = process.post("/api/v1/stakeholders", body, Some(&token)).await?;
    let id_of_stakeholder = made["data"]["id"].as_i64().context("no stakeholder")?;
    let item =
        json!({"path": "public.items", "events": ["*"], "fields": ["id"], "channels": ["*"]});
    let path = format!("/api/v1/stakeholders/{id_of_stakeholder}");
    let body = json!({"data": {"match": [item]}});
    let put = process.put(&format!("{path}/notifications"), body, &token).await?;
    assert_eq!(put["data"]["active"], true, "{put}");
    let mut after =
        Socket::open(process.api(), &format!("{path}/events"), Some(&token)).await?.after;

    let writer = tokio::spawn({
        let client = database.connect().await?;
        async move {
            for n in 0..300 {
                client.execute("INSERT INTO items SELECT n, 'a' FROM generate_series($1::int * 10, $1 * 10 + 9) n", &[&n]).await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            anyhow::Ok(())
        }
    });
    let mut told = Vec::new();
    for kill_after in [200, 900, 1600, usize::MAX] {
        let path = format!("{path}/events?after={after}");
        let mut socket = Socket::open(process.api(), &path, Some(&token)).await?;
        while told.len() < kill_after.min(3000) {
            let event = socket.event().await?;
            after = id(&event);
            told.push(event["record"]["id"].as_i64().context("no id")?);
        }
        if kill_after != usize::MAX {
            process.kill()?;
            process = Process::start(&config, &database.url(), None).await?;
        }
    }
    writer.await??;
    assert_eq!(told, (0..3000).collect::<Vec<i64>>());
    Ok(())
}

/// Bytes of memory that this process has.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}

async fn open_sockets(notified: &Notified) -> Result<u64> {
    let text = notified.sidecar.get("/metrics").await?.text;
    let open = text.lines().filter(|line| line.starts_with("integratedb_notify_sockets{"));
    open.map(|line| Ok(line.rsplit(' ').next().context("no value")?.parse::<u64>()?)).sum()
}
