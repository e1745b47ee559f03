//! What a webhook gets when its endpoint, or the sidecar, fails: all of it, later.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use integratedb_sidecar::notify::channels::ChannelState;
use serde_json::json;
use support::{Answer, Delivered, Receiver, until};

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
    receiver.takes(50).await?;
    setup.is_through("WEBHOOK").await?;
    ensure!(receiver.posts().len() == 50);
    setup.is("WEBHOOK", ChannelState::Running).await?;
    Ok(())
}

#[tokio::test]
async fn an_event_that_is_never_answered_holds_only_its_key() -> Result<()> {
    let setup = Delivered::new().await?;
    let receiver = Receiver::start_with(|post| Answer {
        after: if post.is_of(1) { Duration::from_secs(60) } else { Duration::ZERO },
        ..200.into()
    })
    .await?;
    let settings = json!({"timeout_ms": 200, "retry": {"schedule_secs": [0.1, 0.1]}});
    setup.webhook(&receiver.url(), settings).await?;
    setup.run("INSERT INTO items SELECT n, n FROM generate_series(1, 50) n").await?;
    receiver.takes(49).await?;
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
    receiver.takes(2).await?;
    setup.is_through("WEBHOOK").await?;
    ensure!(receiver.by_row()?.len() == 2 && receiver.posts().len() == 3);
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
    receiver.takes(1).await?;
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
    receiver.takes(2).await?;
    let posts = receiver.posts();
    ensure!(posts.len() == 3 && posts[1].at - posts[0].at >= Duration::from_secs(2), "{posts:?}");
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
    quick.takes(260).await?;
    ensure!(slow.taken().is_empty() && slow.posts().len() == 4, "{}", slow.posts().len());
    setup.is_through("quick").await
}

#[tokio::test]
async fn what_is_behind_a_failed_key_is_bounded() -> Result<()> {
    let setup = Delivered::new().await?;
    let (receiver, refuses) = Receiver::refusing(1, 500).await?;
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
    // The other row may have been read with the rest of it.
    ensure!(status.lag_events > 0 && !receiver.by_row()?.contains_key(&1), "{status:?}");
    refuses.store(false, Ordering::SeqCst);
    // What waits for its time goes at once if it is given up and sent again; here the clock is moved.
    setup.set_enabled("WEBHOOK", false).await?;
    setup.is("WEBHOOK", ChannelState::Paused).await?;
    setup.run("UPDATE integratedb.channel_delivery SET next_attempt_at = now()").await?;
    setup.set_enabled("WEBHOOK", true).await?;
    // One after the other, so each part has its time.
    for events in [300, 600, 900, 1202] {
        receiver.takes(events).await?;
    }
    setup.is_through("WEBHOOK").await?;
    let rows = receiver.by_row()?;
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
    receiver.takes(600).await?;
    setup.is_through("WEBHOOK").await?;
    let rows: HashMap<i64, Vec<i64>> = receiver.by_row()?.into_iter().collect();
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
    receiver.takes(1).await?;
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
    receiver.takes(3).await?;
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
