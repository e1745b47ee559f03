//! What a Redis gets: every event once in its stream, whatever is killed in between.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::notify::channels::ChannelState;
use redis::AsyncCommands;
use serde_json::{Value, json};
use support::{Delivered, RedisServer, number, until};

const ITEMS: &str = "integratedb:reporting:public.items";
const OTHER: &str = "integratedb:reporting:public.other";

/// Waits until a stream has so many entries; gives the events.
async fn has(redis: &RedisServer, key: &str, entries: usize) -> Result<Vec<Value>> {
    until(
        &format!("{key} has {entries} entries"),
        async || Ok(redis.length(key).await? >= entries),
    )
    .await?;
    let length = redis.length(key).await?;
    ensure!(length == entries, "there are {length}");
    Ok(redis.stream(key).await?.into_iter().map(|(_, event)| event).collect())
}

#[tokio::test]
async fn each_table_has_its_stream_with_every_change_in_order() -> Result<()> {
    let setup = Delivered::new().await?;
    let redis = RedisServer::start_with(Some("s3cret")).await?;
    setup.channels(json!([{"type": "REDIS", "url": redis.url()}])).await?;
    setup.run("INSERT INTO items SELECT n, n FROM generate_series(1, 3000) n; UPDATE items SET n = 0 WHERE id = 7; INSERT INTO other VALUES (1, 1)").await?;
    let events = has(&redis, ITEMS, 3001).await?;
    for (at, event) in events[..3000].iter().enumerate() {
        ensure!(number(event, "id")? == at as i64 + 1, "{event}");
    }
    ensure!(
        events[3000]["event"] == "UPDATE" && events[3000]["record"] == json!({"id": 7, "n": 0})
    );
    ensure!(has(&redis, OTHER, 1).await?[0]["table"] == "other");
    setup.is_through("REDIS").await?;
    let status = setup.status("REDIS").await?;
    ensure!(status.state == ChannelState::Running && status.delivered == 3002, "{status:?}");
    ensure!(!serde_json::to_string(&status)?.contains("s3cret"), "{status:?}");
    let (entry, event) = redis.stream(OTHER).await?.into_iter().next().context("none")?;
    let id: integratedb_events::EventId = event["id"].as_str().context("no id")?.parse()?;
    let expected =
        format!("{}-{}", u64::from(id.epoch) << 32, id.lsn.0 << 32 | u64::from(id.index));
    ensure!(entry == expected, "{entry} {id}");
    Ok(())
}

#[tokio::test]
async fn a_stream_is_kept_short_where_that_is_wanted() -> Result<()> {
    let setup = Delivered::new().await?;
    let redis = RedisServer::start().await?;
    let channel = json!({"type": "REDIS", "url": redis.url(), "key": "{channel}/{stakeholder}", "max_len": 100});
    setup.channels(json!([channel])).await?;
    setup.run("INSERT INTO items SELECT n, n FROM generate_series(1, 2000) n").await?;
    until("all is written", async || Ok(setup.status("REDIS").await?.delivered == 2000)).await?;
    let length = redis.length("REDIS/reporting").await?;
    ensure!((100..500).contains(&length), "{length}");
    Ok(())
}

#[tokio::test]
async fn who_listens_to_a_channel_hears_it() -> Result<()> {
    let setup = Delivered::new().await?;
    let redis = RedisServer::start().await?;
    let (push, mut pushed) = tokio::sync::mpsc::unbounded_channel();
    let config = redis::AsyncConnectionConfig::new().set_push_sender(push);
    let client = redis::Client::open(format!("{}?protocol=resp3", redis.url()))?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    connection.subscribe(ITEMS).await?;
    setup.channels(json!([{"type": "REDIS", "url": redis.url(), "mode": "pubsub"}])).await?;
    setup.run("INSERT INTO items VALUES (1, 1), (2, 2)").await?;
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let next = tokio::time::timeout(Duration::from_secs(20), pushed.recv()).await?;
        let message = redis::Msg::from_push_info(next.context("the connection ended")?);
        if let Some(message) = message {
            let event: Value = serde_json::from_str(&message.get_payload::<String>()?)?;
            heard.push(number(&event, "id")?);
        }
    }
    ensure!(heard == [1, 2], "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn a_redis_that_is_killed_is_waited_for() -> Result<()> {
    let setup = Delivered::new().await?;
    let mut redis = RedisServer::start().await?;
    setup.channels(json!([{"type": "REDIS", "url": redis.url()}])).await?;
    setup.run("INSERT INTO items VALUES (1, 1)").await?;
    has(&redis, ITEMS, 1).await?;
    setup.is_through("REDIS").await?;
    redis.kill();
    setup.run("INSERT INTO items VALUES (2, 2), (3, 3)").await?;
    let status = setup.is("REDIS", ChannelState::Failing).await?;
    ensure!(status.last_error.is_some() && status.next_attempt_at.is_some(), "{status:?}");
    redis.restart().await?;
    let events = has(&redis, ITEMS, 2).await?;
    ensure!(number(&events[0], "id")? == 2 && number(&events[1], "id")? == 3);
    setup.is("REDIS", ChannelState::Running).await?;
    setup.is_through("REDIS").await
}

#[tokio::test]
async fn what_is_written_again_is_in_the_stream_once() -> Result<()> {
    let setup = Delivered::without_sidecar().await?;
    let redis = RedisServer::start().await?;
    let mut process = setup.process().await?;
    setup.is_followed().await?;
    setup.channels(json!([{"type": "REDIS", "url": redis.url()}])).await?;
    for round in 0..6 {
        let sql = format!(
            "INSERT INTO items SELECT n, {round} FROM generate_series(1, 3000) n ON CONFLICT (id) DO UPDATE SET n = {round}"
        );
        setup.run(&sql).await?;
        until("it writes", async || Ok(redis.length(ITEMS).await? > round * 3000)).await?;
        process.kill()?;
        // As if it had been killed before it noted anything of what it wrote: all of it comes again.
        if round == 3 {
            setup
                .run("UPDATE integratedb.channel_state SET epoch = 0, lsn = '0/0', index = 0")
                .await?;
        }
        process = setup.process().await?;
    }
    let events = has(&redis, ITEMS, 18_000).await?;
    setup.is_through("REDIS").await?;
    ensure!(redis.length(ITEMS).await? == 18_000);
    let ids: HashSet<String> = events.iter().map(|event| event["id"].to_string()).collect();
    ensure!(ids.len() == 18_000);
    let mut rows: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for event in &events {
        rows.entry(number(event, "id")?).or_default().push(number(event, "n")?);
    }
    ensure!(rows.len() == 3000 && rows.values().all(|n| n[..] == [0, 1, 2, 3, 4, 5]));
    process.stop()
}

#[tokio::test]
async fn a_redis_without_memory_loses_nothing() -> Result<()> {
    let setup = Delivered::new().await?;
    let redis = RedisServer::start().await?;
    let mut connection = redis.connect().await?;
    let config =
        |name: &str, value: &str| redis::cmd("CONFIG").arg("SET").arg(name).arg(value).to_owned();
    config("maxmemory", "1").exec_async(&mut connection).await?;
    setup.channels(json!([{"type": "REDIS", "url": redis.url()}])).await?;
    setup.run("INSERT INTO items SELECT n, n FROM generate_series(1, 100) n").await?;
    let status = setup.is("REDIS", ChannelState::Failing).await?;
    let error = status.last_error.unwrap_or_default();
    ensure!(error.contains("memory") || error.contains("EXEC"), "{error}");
    config("maxmemory", "0").exec_async(&mut connection).await?;
    has(&redis, ITEMS, 100).await?;
    setup.is_through("REDIS").await
}

#[tokio::test]
async fn a_stream_of_somebody_else_is_not_taken_for_ours() -> Result<()> {
    let setup = Delivered::new().await?;
    let redis = RedisServer::start().await?;
    let mut connection = redis.connect().await?;
    let add = redis::cmd("XADD").arg(ITEMS).arg("*").arg("a").arg("b").to_owned();
    add.exec_async(&mut connection).await?;
    setup.channels(json!([{"type": "REDIS", "url": redis.url()}])).await?;
    setup.run("INSERT INTO items VALUES (1, 1)").await?;
    let status = setup.is("REDIS", ChannelState::Failing).await?;
    let error = status.last_error.unwrap_or_default();
    ensure!(error.contains(ITEMS) && error.contains("somebody else"), "{error}");
    connection.del::<_, ()>(ITEMS).await?;
    has(&redis, ITEMS, 1).await?;
    Ok(())
}

#[tokio::test]
async fn a_secret_needs_a_key_file() -> Result<()> {
    use integratedb_sidecar::notify::channels::{ChannelConfig, ChannelsError, replace};
    let setup = Delivered::new().await?;
    let mut client = setup.database.connect().await?;
    for (channel, is_refused) in [
        (json!({"type": "REDIS", "url": "redis://localhost"}), false),
        (json!({"type": "REDIS", "url": "redis://:s3cret@localhost"}), true),
        (json!({"type": "WEBHOOK", "url": "https://example.com"}), true),
    ] {
        let config = ChannelConfig::read(&channel).map_err(|wrong| anyhow::anyhow!("{wrong:?}"))?;
        let tx = client.transaction().await?;
        let made = replace(&tx, &None, setup.stakeholder, &[config], Default::default()).await;
        match made {
            Err(error @ ChannelsError::NoKey(_)) => {
                ensure!(
                    is_refused && error.to_string().contains("notifications.key_file"),
                    "{error}"
                );
            }
            other => ensure!(!is_refused && other.is_ok(), "{channel}"),
        }
    }
    Ok(())
}
