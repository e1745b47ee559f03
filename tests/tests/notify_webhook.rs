//! What a webhook gets: every event, signed, in the order of its key, whatever fails in between.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::notify::channels::{ChannelState, Replay};
use serde_json::{Value, json};
use support::{Answer, Delivered, Post, Receiver, Verifier, until};

#[tokio::test]
async fn every_change_is_delivered_once_and_signed() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start().await?;
    let settings = json!({"headers": {"Authorization": "Bearer token"}});
    let secret = setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items VALUES (1, 1), (2, 2); UPDATE items SET n = 3 WHERE id = 1; DELETE FROM items WHERE id = 2").await?;
    receiver.takes(4).await?;
    setup.is_through("WEBHOOK").await?;
    let posts = receiver.posts();
    ensure!(posts.len() == 4, "{posts:?}");
    for post in &posts {
        let body: Value = serde_json::from_str(&post.body)?;
        ensure!(body["type"] == "integratedb.events", "{body}");
        ensure!(body["timestamp"] == post.events[0]["commit_time"], "{body}");
        ensure!(post.events.len() == 1 && post.events[0]["id"] == post.id.as_str(), "{body}");
        ensure!(post.is_signed_with(&secret), "{post:?}");
        ensure!(!post.is_signed_with("whsec_AAAA"));
        ensure!(post.header("authorization") == "Bearer token");
        ensure!(post.header("content-type") == "application/json");
    }
    let status = setup.status("WEBHOOK").await?;
    ensure!(status.state == ChannelState::Running, "{status:?}");
    ensure!((status.attempts, status.failures, status.delivered) == (4, 0, 4), "{status:?}");
    let shown = serde_json::to_string(&status)?;
    ensure!(!shown.contains("Bearer") && !shown.contains("whsec_"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn libraries_of_two_other_languages_verify_it() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start().await?;
    let settings = json!({"batch": {"max_events": 10, "max_wait_ms": 100}});
    let secret = setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items VALUES (1, 1), (2, 2)").await?;
    receiver.takes(2).await?;
    let posts = receiver.posts();
    let [post] = &posts[..] else { anyhow::bail!("{posts:?}") };
    let headers: Vec<(&str, &str)> = ["webhook-id", "webhook-timestamp", "webhook-signature"]
        .map(|name| (name, post.header(name)))
        .to_vec();
    let mut later = headers.clone();
    later[0].1 = "1-0000000000000000-0";
    let tampered = post.body.replacen(r#""n":1"#, r#""n":9"#, 1);
    ensure!(tampered != post.body, "{}", post.body);
    for verifier in [Verifier::Python, Verifier::Node] {
        let told = verifier.verify(&secret, &headers, &post.body).await?;
        ensure!(told == "verified 2", "{verifier:?}: {told}");
        for (headers, body) in [(&headers, &tampered), (&later, &post.body)] {
            let told = verifier.verify(&secret, headers, body).await?;
            ensure!(told.starts_with("refused"), "{verifier:?}: {told}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_fails_is_tried_again_in_the_order_of_its_key_while_others_go_on() -> Result<()> {
    let setup = Delivered::new().await?;
    let failures = Arc::new(AtomicUsize::new(0));
    let receiver = Receiver::start_with({
        let failures = Arc::clone(&failures);
        move |post| {
            let fails = post.is_of(1) && failures.fetch_add(1, Ordering::SeqCst) < 2;
            if fails { 500.into() } else { 200.into() }
        }
    })
    .await?;
    let settings = json!({"retry": {"schedule_secs": [0.6, 3, 600]}});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items VALUES (1, 0), (2, 0)").await?;
    for n in 1..=20 {
        setup.run(&format!("UPDATE items SET n = {n}")).await?;
    }
    receiver.takes(42).await?;
    setup.is_through("WEBHOOK").await?;
    let expected: Vec<i64> = (0..=20).collect();
    ensure!(receiver.by_row()? == BTreeMap::from([(1, expected.clone()), (2, expected)]));
    let posts = receiver.posts();
    let first: Vec<&Post> = posts.iter().filter(|post| post.is_of(1)).take(3).collect();
    ensure!(first.iter().all(|post| post.id == first[0].id), "the id is another each time");
    let waits: Vec<Duration> = first.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    ensure!(
        waits[0] >= Duration::from_millis(500) && waits[1] >= Duration::from_millis(1000),
        "{waits:?}"
    );
    let last_of_2 = posts.iter().rposition(|post| post.is_of(2)).context("none")?;
    let second_of_1 = posts.iter().filter(|post| post.is_of(1)).nth(3).context("none")?;
    ensure!(posts[last_of_2].at < second_of_1.at, "the other key had to wait");
    let timestamps: HashSet<&str> =
        posts.iter().map(|post| post.header("webhook-timestamp")).collect();
    ensure!(timestamps.len() > 1, "the time is that of the attempt");
    Ok(())
}

#[tokio::test]
async fn a_key_that_moves_keeps_its_order() -> Result<()> {
    let setup = Delivered::new().await?;
    let (receiver, refuses) = Receiver::refusing(1, 500).await?;
    let settings = json!({"retry": {"schedule_secs": vec![0.2; 30]}});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items VALUES (1, 1); INSERT INTO other VALUES (7, 7)").await?;
    setup
        .run("UPDATE items SET id = 2, n = 2 WHERE id = 1; UPDATE items SET n = 3 WHERE id = 2")
        .await?;
    setup.run("TRUNCATE items; INSERT INTO items VALUES (5, 5); UPDATE other SET n = 8").await?;
    receiver.takes(2).await?;
    until("the others wait", async || Ok(setup.status("WEBHOOK").await?.waiting == 5)).await?;
    refuses.store(false, Ordering::SeqCst);
    receiver.takes(7).await?;
    let told: Vec<String> = receiver
        .taken()
        .iter()
        .filter(|event| event["table"] == "items")
        .map(|event| {
            format!("{} {}", event["event"].as_str().unwrap_or_default(), event["record"]["n"])
        })
        .collect();
    ensure!(told == ["INSERT 1", "UPDATE 2", "UPDATE 3", "TRUNCATE null", "INSERT 5"], "{told:?}");
    setup.is_through("WEBHOOK").await
}

#[tokio::test]
async fn what_is_given_up_is_a_dead_letter_and_can_be_sent_again() -> Result<()> {
    let setup = Delivered::new().await?;
    let (receiver, refuses) = Receiver::refusing(1, 418).await?;
    let settings = json!({"name": "billing", "retry": {"schedule_secs": [0.05, 0.05]}});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items VALUES (1, 1), (2, 2); UPDATE items SET n = n + 10").await?;
    receiver.takes(2).await?;
    until("both of the key are dead", async || Ok(setup.dead("billing").await?.len() == 2)).await?;
    let dead = setup.dead("billing").await?;
    let numbers: Vec<_> = dead.iter().map(|letter| letter.event["record"]["n"].clone()).collect();
    ensure!(numbers == [1, 11], "{dead:?}");
    ensure!(dead[0].event["id"] == dead[0].event_id.as_str() && dead[0].attempts == 3, "{dead:?}");
    ensure!(dead[0].error.contains("418") && dead[0].error.contains("what it says"), "{dead:?}");
    let attempts = receiver.posts().iter().filter(|post| post.is_of(1)).count();
    ensure!(attempts == 6, "{attempts}");
    ensure!(setup.status("billing").await?.waiting == 0);

    refuses.store(false, Ordering::SeqCst);
    ensure!(setup.replay("billing", &Replay::Ids(vec![dead[1].id, -1])).await? == 1);
    receiver.takes(3).await?;
    ensure!(setup.replay("billing", &Replay::All).await? == 1);
    receiver.takes(4).await?;
    setup.is_through("billing").await?;
    let ids: HashSet<String> = receiver.posts().into_iter().map(|post| post.id).collect();
    ensure!(ids.len() == 4, "an event has another id: {ids:?}");
    Ok(())
}

#[tokio::test]
async fn a_secret_is_rotated_without_a_gap() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start().await?;
    let first = setup.webhook(&receiver.url(), json!({})).await?;
    setup.run("INSERT INTO items VALUES (1, 1)").await?;
    receiver.takes(1).await?;
    let second = setup.rotate("WEBHOOK", Duration::from_secs(600)).await?;
    // It counts from the next beginning on, which a change that comes later must have met.
    let signed = async |n: i64, by: &str| {
        until("it signs with the new one", async || {
            let count = receiver.posts().len();
            setup.run(&format!("UPDATE items SET n = {n} + n")).await?;
            until("it came", async || Ok(receiver.posts().len() > count)).await?;
            Ok(receiver.posts().last().is_some_and(|post| post.is_signed_with(by)))
        })
        .await
    };
    signed(1, &second).await?;
    let post = receiver.posts().pop().context("none")?;
    ensure!(
        post.is_signed_with(&first) && post.header("webhook-signature").contains(' '),
        "{post:?}"
    );
    for verifier in [Verifier::Python, Verifier::Node] {
        let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .map(|name| (name, post.header(name)));
        for secret in [&first, &second] {
            ensure!(verifier.verify(secret, &headers, &post.body).await? == "verified 1");
        }
    }
    let third = setup.rotate("WEBHOOK", Duration::ZERO).await?;
    signed(2, &third).await?;
    let post = receiver.posts().pop().context("none")?;
    ensure!(!post.is_signed_with(&first) && !post.is_signed_with(&second), "{post:?}");
    Ok(())
}

#[tokio::test]
async fn events_go_together_where_that_is_wanted() -> Result<()> {
    let setup = Delivered::new().await?;
    let fails = Arc::new(AtomicBool::new(true));
    let receiver = Receiver::start_with({
        let fails = Arc::clone(&fails);
        move |_| if fails.swap(false, Ordering::SeqCst) { 500.into() } else { 200.into() }
    })
    .await?;
    let settings = json!({"batch": {"max_events": 100, "max_wait_ms": 300}, "retry": {"schedule_secs": [0.1]}});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items SELECT n, 0 FROM generate_series(1, 150) n; UPDATE items SET n = 1 WHERE id <= 10").await?;
    receiver.takes(160).await?;
    setup.is_through("WEBHOOK").await?;
    let posts = receiver.posts();
    ensure!(
        posts.len() <= 4 && posts.iter().all(|post| post.events.len() <= 100),
        "{}",
        posts.len()
    );
    let failed =
        posts.iter().find(|post| post.status == Some(reqwest::StatusCode::INTERNAL_SERVER_ERROR));
    let failed = failed.context("none failed")?;
    let again: Vec<_> = posts.iter().filter(|post| post.id == failed.id).collect();
    ensure!(again.len() == 2 && again[0].body == again[1].body, "another body under one id");
    ensure!(failed.id.starts_with(&format!(
        "{}+{}-",
        failed.events[0]["id"].as_str().unwrap_or_default(),
        failed.events.len()
    )));
    ensure!(receiver.by_row()?.iter().all(|(id, n)| if *id <= 10 {
        n[..] == [0, 1]
    } else {
        n[..] == [0]
    }));
    Ok(())
}

#[tokio::test]
async fn a_private_address_is_reached_only_where_that_is_configured() -> Result<()> {
    let setup = Delivered::with(|_| {}).await?;
    let receiver = Receiver::start().await?;
    let hook = |name: &str, url: String| json!({"type": "WEBHOOK", "name": name, "url": url});
    let port = receiver.port();
    let channels = json!([
        hook("plain", format!("http://127.0.0.1:{port}/")),
        hook("literal", format!("https://127.0.0.1:{port}/")),
        hook("mapped", format!("https://[::ffff:7f00:1]:{port}/")),
        hook("named", format!("https://localhost:{port}/")),
        hook("named-plain", format!("http://localhost:{port}/")),
    ]);
    setup.channels(channels).await?;
    setup.run("INSERT INTO items VALUES (1, 1)").await?;
    for (name, why) in [
        ("plain", "without TLS"),
        ("literal", "not a public address"),
        ("mapped", "not a public address"),
        ("named", "not a public address"),
        ("named-plain", "https://"),
    ] {
        let status = setup.is(name, ChannelState::Failing).await?;
        let error = status.last_error.unwrap_or_default();
        ensure!(error.contains(why), "{name}: {error}");
    }
    ensure!(receiver.posts().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> Result<()> {
    let setup = Delivered::new().await?;
    let inner = Receiver::start().await?;
    let url = inner.url();
    let receiver = Receiver::start_with(move |_| Answer {
        headers: vec![("location", url.clone())],
        ..307.into()
    })
    .await?;
    setup.webhook(&receiver.url(), json!({"retry": {"schedule_secs": []}})).await?;
    setup.run("INSERT INTO items VALUES (1, 1)").await?;
    until("it is given up", async || Ok(setup.dead("WEBHOOK").await?.len() == 1)).await?;
    ensure!(setup.dead("WEBHOOK").await?[0].error.contains("307") && inner.posts().is_empty());
    Ok(())
}
