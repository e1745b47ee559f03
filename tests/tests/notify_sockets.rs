//! Events over WebSocket, SSE and pages: all of them, once, in order, whatever happens in between.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use support::{Notified, Said, Socket, subscribe, until};

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
    let notified = Notified::start_with(|config| config.token_secs = 4).await?;
    let (mut socket, mut sse) = (notified.socket("").await?, notified.sse("", None).await?);
    assert_eq!(sse.event().await?.1, "hello");
    assert_eq!(socket.code().await?, 4401);
    assert_eq!(sse.event().await?.1, "expired");
    assert_eq!(sse.block().await?, None);
    Ok(())
}

#[tokio::test]
async fn other_subscriptions_count_from_the_next_event_on() -> Result<()> {
    let notified = Notified::start().await?;
    let mut socket = notified.socket("").await?;
    let client = notified.database.connect().await?;
    client.batch_execute("INSERT INTO items VALUES (1, 'a', 7)").await?;
    assert_eq!(socket.event().await?["record"], json!({"id": 1, "name": "a"}));
    subscribe(&notified.database, notified.stakeholder, "items", &["id", "price"]).await?;
    client.batch_execute("INSERT INTO items VALUES (2, 'b', 8)").await?;
    assert_eq!(socket.event().await?["record"], json!({"id": 2, "price": 8}));
    subscribe(&notified.database, notified.stakeholder, "others", &["id"]).await?;
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
    subscribe(&notified.database, 99, "others", &["id"]).await?;
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
    let mut socket = notified.socket("").await?;
    // A client that reads nothing answers nothing.
    until("it is closed", async || open_sockets(&notified).await.map(|open| open == 0)).await?;
    assert_eq!(socket.code().await?, 4408);
    Ok(())
}

async fn open_sockets(notified: &Notified) -> Result<u64> {
    let text = notified.sidecar.get("/metrics").await?.text;
    let open = text.lines().filter(|line| line.starts_with("integratedb_notify_sockets{"));
    open.map(|line| Ok(line.rsplit(' ').next().context("no value")?.parse::<u64>()?)).sum()
}
