//! What a webhook gets: every event, signed, in the order of its key, whatever fails in between.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::notify::channels::{ChannelState, Replay};
use serde_json::{Value, json};
use support::{Answer, Delivered, Post, Receiver, Verifier, number, until};

/// The numbers `n` of the events that a receiver took, by row, as they came; each event once.
fn by_row(receiver: &Receiver) -> Result<BTreeMap<i64, Vec<i64>>> {
    let (mut rows, mut seen) = (BTreeMap::<_, Vec<_>>::new(), HashSet::new());
    for event in receiver.taken() {
        let id = event["id"].as_str().context("no id")?.to_owned();
        if seen.insert(id) {
            rows.entry(number(&event, "id")?).or_default().push(number(&event, "n")?);
        }
    }
    Ok(rows)
}

/// Waits until a receiver has taken so many different events.
async fn takes(receiver: &Receiver, events: usize) -> Result<()> {
    until(&format!("{events} events are taken"), async || Ok(receiver.count() >= events))
        .await
        .with_context(|| format!("{} were", receiver.count()))
}

/// Whether a request has an event of this row.
fn is_of(post: &Post, id: i64) -> bool {
    post.events.iter().any(|event| event["record"]["id"] == id)
}

#[tokio::test]
async fn every_change_is_delivered_once_and_signed() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start().await?;
    let settings = json!({"headers": {"Authorization": "Bearer token"}});
    let secret = setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items VALUES (1, 1), (2, 2); UPDATE items SET n = 3 WHERE id = 1; DELETE FROM items WHERE id = 2").await?;
    takes(&receiver, 4).await?;
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
    takes(&receiver, 2).await?;
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
            let fails = is_of(post, 1) && failures.fetch_add(1, Ordering::SeqCst) < 2;
            if fails { 500.into() } else { 200.into() }
        }
    })
    .await?;
    let settings = json!({"retry": {"schedule_secs": [0.6, 1.2, 600]}});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items VALUES (1, 0), (2, 0)").await?;
    for n in 1..=20 {
        setup.run(&format!("UPDATE items SET n = {n}")).await?;
    }
    takes(&receiver, 42).await?;
    setup.is_through("WEBHOOK").await?;
    let expected: Vec<i64> = (0..=20).collect();
    ensure!(by_row(&receiver)? == BTreeMap::from([(1, expected.clone()), (2, expected)]));
    let posts = receiver.posts();
    let first: Vec<&Post> = posts.iter().filter(|post| is_of(post, 1)).take(3).collect();
    ensure!(first.iter().all(|post| post.id == first[0].id), "the id is another each time");
    let waits: Vec<Duration> = first.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    ensure!(
        waits[0] >= Duration::from_millis(500) && waits[1] >= Duration::from_millis(1000),
        "{waits:?}"
    );
    let last_of_2 = posts.iter().rposition(|post| is_of(post, 2)).context("none")?;
    let second_of_1 = posts.iter().filter(|post| is_of(post, 1)).nth(3).context("none")?;
    ensure!(posts[last_of_2].at < second_of_1.at, "the other key had to wait");
    let timestamps: HashSet<&str> =
        posts.iter().map(|post| post.header("webhook-timestamp")).collect();
    ensure!(timestamps.len() > 1, "the time is that of the attempt");
    Ok(())
}

#[tokio::test]
async fn a_key_that_moves_keeps_its_order() -> Result<()> {
    let setup = Delivered::new().await?;
    let refuses = Arc::new(AtomicBool::new(true));
    let receiver = Receiver::start_with({
        let refuses = Arc::clone(&refuses);
        move |post| {
            if is_of(post, 1) && refuses.load(Ordering::SeqCst) { 500.into() } else { 200.into() }
        }
    })
    .await?;
    let settings = json!({"retry": {"schedule_secs": [0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 600]}});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items VALUES (1, 1); INSERT INTO other VALUES (7, 7)").await?;
    setup
        .run("UPDATE items SET id = 2, n = 2 WHERE id = 1; UPDATE items SET n = 3 WHERE id = 2")
        .await?;
    setup.run("TRUNCATE items; INSERT INTO items VALUES (5, 5); UPDATE other SET n = 8").await?;
    takes(&receiver, 2).await?;
    until("the others wait", async || Ok(setup.status("WEBHOOK").await?.waiting == 5)).await?;
    refuses.store(false, Ordering::SeqCst);
    takes(&receiver, 7).await?;
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
    let refuses = Arc::new(AtomicBool::new(true));
    let receiver = Receiver::start_with({
        let refuses = Arc::clone(&refuses);
        move |post| {
            if is_of(post, 1) && refuses.load(Ordering::SeqCst) { 418.into() } else { 200.into() }
        }
    })
    .await?;
    let settings = json!({"name": "billing", "retry": {"schedule_secs": [0.05, 0.05]}});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items VALUES (1, 1), (2, 2); UPDATE items SET n = n + 10").await?;
    takes(&receiver, 2).await?;
    until("both of the key are dead", async || Ok(setup.dead("billing").await?.len() == 2)).await?;
    let dead = setup.dead("billing").await?;
    let numbers: Vec<_> = dead.iter().map(|letter| letter.event["record"]["n"].clone()).collect();
    ensure!(numbers == [1, 11], "{dead:?}");
    ensure!(dead[0].event["id"] == dead[0].event_id.as_str() && dead[0].attempts == 3, "{dead:?}");
    ensure!(dead[0].error.contains("418") && dead[0].error.contains("what it says"), "{dead:?}");
    let attempts = receiver.posts().iter().filter(|post| is_of(post, 1)).count();
    ensure!(attempts == 6, "{attempts}");
    ensure!(setup.status("billing").await?.waiting == 0);

    refuses.store(false, Ordering::SeqCst);
    ensure!(setup.replay("billing", &Replay::Ids(vec![dead[1].id, -1])).await? == 1);
    takes(&receiver, 3).await?;
    ensure!(setup.replay("billing", &Replay::All).await? == 1);
    takes(&receiver, 4).await?;
    setup.is_through("billing").await?;
    let ids: HashSet<String> = receiver.posts().into_iter().map(|post| post.id).collect();
    ensure!(ids.len() == 4, "an event has another id: {ids:?}");
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_waited_for() -> Result<()> {
    let setup = Delivered::new().await?;
    let mut receiver = Receiver::start().await?;
    receiver.stop();
    // By this schedule everything would be given up at once.
    let settings = json!({"retry": {"schedule_secs": []}, "concurrency": 10});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items SELECT n, n FROM generate_series(1, 50) n").await?;
    let status = setup.is("WEBHOOK", ChannelState::Failing).await?;
    ensure!(status.last_error.is_some_and(|error| error.contains("refused")));
    until("it is tried again", async || Ok(setup.status("WEBHOOK").await?.attempts >= 2)).await?;
    let status = setup.status("WEBHOOK").await?;
    ensure!(status.attempts < 30, "it is not left alone: {status:?}");
    ensure!(status.next_attempt_at.is_some() && status.dead_letters == 0, "{status:?}");
    receiver.restart().await?;
    takes(&receiver, 50).await?;
    setup.is_through("WEBHOOK").await?;
    ensure!(receiver.posts().len() == 50);
    setup.is("WEBHOOK", ChannelState::Running).await?;
    Ok(())
}

#[tokio::test]
async fn an_event_that_is_never_answered_holds_only_its_key() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start_with(|post| Answer {
        after: if is_of(post, 1) { Duration::from_secs(60) } else { Duration::ZERO },
        ..200.into()
    })
    .await?;
    let settings = json!({"timeout_ms": 200, "retry": {"schedule_secs": [0.1, 0.1]}});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items SELECT n, n FROM generate_series(1, 50) n").await?;
    takes(&receiver, 49).await?;
    until("it is given up", async || Ok(setup.dead("WEBHOOK").await?.len() == 1)).await?;
    ensure!(setup.dead("WEBHOOK").await?[0].error.contains("in time"));
    Ok(())
}

#[tokio::test]
async fn who_answers_gone_gets_nothing_any_more_until_it_is_enabled() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start_with(|_| 410.into()).await?;
    setup.webhook(&receiver.url(), json!({})).await?;
    setup.run("INSERT INTO items VALUES (1, 1)").await?;
    let status = setup.is("WEBHOOK", ChannelState::Disabled).await?;
    ensure!(status.disabled_because.is_some_and(|why| why.contains("410")));
    setup.run("INSERT INTO items VALUES (2, 2)").await?;
    receiver.answer(|_| 200.into());
    setup.set_enabled("WEBHOOK", true).await?;
    takes(&receiver, 2).await?;
    setup.is_through("WEBHOOK").await?;
    ensure!(by_row(&receiver)?.len() == 2 && receiver.posts().len() == 3);
    Ok(())
}

#[tokio::test]
async fn an_endpoint_that_fails_for_too_long_is_disabled() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start_with(|_| 500.into()).await?;
    let settings = json!({"retry": {"schedule_secs": [0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 60]}, "disable_after_secs": 1});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items VALUES (1, 1)").await?;
    let status = setup.is("WEBHOOK", ChannelState::Disabled).await?;
    ensure!(status.disabled_because.is_some_and(|why| why.contains("500")));
    ensure!(status.waiting == 1 && status.dead_letters == 0);
    receiver.answer(|_| 200.into());
    setup.set_enabled("WEBHOOK", true).await?;
    takes(&receiver, 1).await?;
    setup.is_through("WEBHOOK").await
}

#[tokio::test]
async fn who_asks_for_time_gets_it() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start_with(|_| 204.into()).await?;
    let count = Arc::new(AtomicUsize::new(0));
    receiver.answer({
        let count = Arc::clone(&count);
        move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Answer { headers: vec![("retry-after", "2".to_owned())], ..429.into() },
            _ => 200.into(),
        }
    });
    setup
        .webhook(&receiver.url(), json!({"concurrency": 1, "retry": {"schedule_secs": [0]}}))
        .await?;
    setup.run("INSERT INTO items VALUES (1, 1), (2, 2)").await?;
    takes(&receiver, 2).await?;
    let posts = receiver.posts();
    ensure!(posts.len() == 3 && posts[1].at - posts[0].at >= Duration::from_secs(2), "{posts:?}");
    Ok(())
}

#[tokio::test]
async fn a_secret_is_rotated_without_a_gap() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start().await?;
    let first = setup.webhook(&receiver.url(), json!({})).await?;
    setup.run("INSERT INTO items VALUES (1, 1)").await?;
    takes(&receiver, 1).await?;
    let second = setup.rotate("WEBHOOK", Duration::from_secs(600)).await?;
    // It counts from the next beginning on, which a change that comes later must have met.
    let signed = async |n: i64, by: &str| {
        until("it signs with the new one", async || {
            setup.run(&format!("UPDATE items SET n = {n} + n")).await?;
            let count = receiver.posts().len();
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
    takes(&receiver, 160).await?;
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
    ensure!(by_row(&receiver)?.iter().all(|(id, n)| if *id <= 10 {
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

#[tokio::test]
async fn a_slow_endpoint_holds_no_other_channel() -> Result<()> {
    let setup = Delivered::new().await?;
    let slow =
        Receiver::start_with(|_| Answer { after: Duration::from_secs(60), ..200.into() }).await?;
    let quick = Receiver::start().await?;
    let hook = |name: &str, url: String| json!({"type": "WEBHOOK", "name": name, "url": url});
    setup.channels(json!([hook("slow", slow.url()), hook("quick", quick.url())])).await?;
    for _ in 0..5 {
        setup.run("INSERT INTO items SELECT count(*) + 1, 0 FROM items; INSERT INTO other SELECT n, n FROM generate_series(1, 50) n; TRUNCATE other").await?;
    }
    takes(&quick, 260).await?;
    ensure!(slow.taken().is_empty() && slow.posts().len() == 4, "{}", slow.posts().len());
    setup.is_through("quick").await
}

#[tokio::test]
async fn what_is_behind_a_failed_key_is_bounded() -> Result<()> {
    let setup = Delivered::new().await?;
    let refuses = Arc::new(AtomicBool::new(true));
    let receiver = Receiver::start_with({
        let refuses = Arc::clone(&refuses);
        move |post| {
            if is_of(post, 1) && refuses.load(Ordering::SeqCst) { 500.into() } else { 200.into() }
        }
    })
    .await?;
    setup.webhook(&receiver.url(), json!({"retry": {"schedule_secs": [3600]}})).await?;
    setup.run("INSERT INTO items VALUES (1, 0)").await?;
    setup
        .run("DO $$BEGIN FOR round IN 1..1200 LOOP UPDATE items SET n = n + 1; END LOOP; END$$")
        .await?;
    setup.run("INSERT INTO items VALUES (2, 0)").await?;
    until(
        "as many are kept as may be",
        async || Ok(setup.status("WEBHOOK").await?.waiting == 1000),
    )
    .await?;
    let status = setup.status("WEBHOOK").await?;
    ensure!(status.lag_events > 0 && receiver.taken().is_empty(), "{status:?}");
    refuses.store(false, Ordering::SeqCst);
    // What waits for its time goes at once if it is given up and sent again; here the clock is moved.
    setup.set_enabled("WEBHOOK", false).await?;
    setup.is("WEBHOOK", ChannelState::Paused).await?;
    setup.run("UPDATE integratedb.channel_delivery SET next_attempt_at = now()").await?;
    setup.set_enabled("WEBHOOK", true).await?;
    takes(&receiver, 1202).await?;
    setup.is_through("WEBHOOK").await?;
    let rows = by_row(&receiver)?;
    ensure!(rows[&1] == (0..=1200).collect::<Vec<_>>() && rows[&2] == [0]);
    Ok(())
}

#[tokio::test]
async fn nothing_is_lost_when_the_sidecar_is_killed() -> Result<()> {
    let setup = Delivered::without_sidecar().await?;
    let count = Arc::new(AtomicUsize::new(0));
    let receiver = Receiver::start_with({
        let count = Arc::clone(&count);
        move |_| {
            let status = if count.fetch_add(1, Ordering::SeqCst) % 7 == 6 { 500 } else { 200 };
            Answer { after: Duration::from_millis(3), ..status.into() }
        }
    })
    .await?;
    let mut process = setup.process().await?;
    setup.is_followed().await?;
    let retry = json!({"schedule_secs": [0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05]});
    setup.webhook(&receiver.url(), json!({"retry": retry, "concurrency": 8})).await?;
    let mut expected: HashMap<i64, Vec<i64>> = HashMap::new();
    for round in 0..30 {
        let sql = format!(
            "INSERT INTO items SELECT n, {round} FROM generate_series(1, 20) n ON CONFLICT (id) DO UPDATE SET n = excluded.n"
        );
        setup.run(&sql).await?;
        (1..=20).for_each(|id| expected.entry(id).or_default().push(round));
        if round % 6 == 5 {
            let before = receiver.count();
            until("it delivers", async || Ok(receiver.count() > before + 20)).await?;
            process.kill()?;
            process = setup.process().await?;
        }
    }
    takes(&receiver, 600).await?;
    setup.is_through("WEBHOOK").await?;
    let rows: HashMap<i64, Vec<i64>> = by_row(&receiver)?.into_iter().collect();
    ensure!(rows == expected, "{rows:?}");
    let mut bodies: HashMap<String, String> = HashMap::new();
    for post in receiver.posts() {
        let before = bodies.entry(post.id).or_insert_with(|| post.body.clone());
        ensure!(*before == post.body, "another body under one id");
    }
    process.stop()
}

#[tokio::test]
async fn who_was_too_far_behind_is_told_of_the_gap() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start().await?;
    setup.webhook(&receiver.url(), json!({})).await?;
    setup.run("INSERT INTO items VALUES (1, 1)").await?;
    takes(&receiver, 1).await?;
    setup.is_through("WEBHOOK").await?;
    setup.set_enabled("WEBHOOK", false).await?;
    let setup = again(setup).await?;
    setup.run("INSERT INTO items VALUES (2, 2)").await?;
    until("it is stored", async || Ok(setup.status("WEBHOOK").await?.lag_events == 1)).await?;
    // As if the log had been pruned, and the sidecar begun since.
    let sql =
        "WITH gone AS (DELETE FROM integratedb.event_log RETURNING epoch, last_lsn, last_index)
        UPDATE integratedb.event_log_state SET (pruned_epoch, pruned_lsn, pruned_index) =
            (SELECT epoch, last_lsn, last_index FROM gone ORDER BY last_lsn DESC LIMIT 1)";
    setup.run(sql).await?;
    let setup = again(setup).await?;
    setup.set_enabled("WEBHOOK", true).await?;
    setup.run("INSERT INTO items VALUES (3, 3)").await?;
    takes(&receiver, 3).await?;
    let told: Vec<String> =
        receiver.taken().iter().map(|event| event["event"].to_string()).collect();
    ensure!(told == ["\"INSERT\"", "\"GAP\"", "\"INSERT\""], "{told:?}");
    let gap = &receiver.taken()[1];
    ensure!(gap["reason"].as_str().is_some_and(|why| why.contains("not kept")), "{gap}");
    Ok(())
}

/// The same with a sidecar that has just begun.
async fn again(mut setup: Delivered) -> Result<Delivered> {
    if let Some(sidecar) = setup.sidecar.take() {
        sidecar.stop().await?;
    }
    setup.start(|settings| settings.allow_networks = support::loopback()).await?;
    Ok(setup)
}
