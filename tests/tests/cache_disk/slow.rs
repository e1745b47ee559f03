//! A disk that is slow: who waits for it gets no answer that is out of date by then, and can give up.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::cache::{DiskSettings, SlotKind};
use support::{CACHES, Cached, RawClient, until};
use tempfile::TempDir;
use tokio_postgres::NoTls;

const SEVENTH: &str = "SELECT price FROM items WHERE id = 7";
const EIGHTH: &str = "SELECT price FROM items WHERE id = 8";

/// Each read takes this long.
const SLOW: Duration = Duration::from_millis(1500);

/// Caches that give what they keep from such a disk only, and sessions that wait for it so long.
async fn slow(folder: &TempDir, wait_ms: u64) -> Result<Cached> {
    let made = Cell::new(0);
    Cached::with(&[], |caching| {
        made.set(made.get() + 1);
        caching.slot = SlotKind::Permanent;
        (caching.eager, caching.wait_ms) = (true, 10_000);
        caching.disk = Some(DiskSettings {
            only: true,
            slow: SLOW,
            wait_ms,
            ..DiskSettings::new(folder.path().join(made.get().to_string()))
        });
    })
    .await
}

async fn figure(cached: &Cached, cache: &str, name: &str) -> Result<u64> {
    cached.caching(cache).await?["disk"][name].as_u64().with_context(|| format!("no {name}"))
}

/// Waits until there are so many answers on disk and none in memory.
async fn are_on_disk(cached: &Cached, cache: &str, count: u64) -> Result<()> {
    until("it is on disk", async || {
        let caching = cached.caching(cache).await?;
        Ok(caching["entries"] == count && caching["disk"]["only"] == count)
    })
    .await
}

/// A session that waits for the disk.
async fn waiting(cached: &Cached, cache: &str, text: &str) -> Result<RawClient> {
    let address = cached.sidecar.proxy();
    let mut client = RawClient::login(address, "app", "secret", "shop", cache).await?;
    // Nothing to keep; but who the session is, is known then.
    client.query("SELECT count(*) FROM pg_class").await?;
    client.read_to(b'Z').await?.context("no end")?;
    client.query(text).await?;
    until("it waits", async || Ok(figure(cached, cache, "under_way").await? > 0)).await?;
    Ok(client)
}

/// The first column of the next row.
async fn told(client: &mut RawClient) -> Result<String> {
    let row = client.read_to(b'D').await?.context("no row")?;
    client.read_to(b'Z').await?.context("no end")?;
    // The count of columns, and the length of the first.
    Ok(String::from_utf8_lossy(&row.body[6..]).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_while_it_is_read_is_not_given() -> Result<()> {
    let folder = TempDir::new()?;
    let cached = slow(&folder, 10_000).await?;
    let admin = cached.database.connect().await?;
    for cache in CACHES {
        let client = cached.connect(cache, "app").await?;
        ask_until_kept(&cached, cache, &client, &[SEVENTH]).await?;
        // Nothing has changed: it is given.
        let hits = figure(&cached, cache, "hits").await?;
        let mut first = waiting(&cached, cache, SEVENTH).await?;
        ensure!(told(&mut first).await? == "70");
        ensure!(figure(&cached, cache, "hits").await? == hits + 1);
        let mut first = waiting(&cached, cache, SEVENTH).await?;
        admin.batch_execute("UPDATE items SET price = 71 WHERE id = 7").await?;
        until("it is dropped", async || Ok(cached.caching(cache).await?["entries"] == 0)).await?;
        ensure!(figure(&cached, cache, "under_way").await? > 0, "too late to prove anything");
        ensure!(told(&mut first).await? == "71");
        ensure!(figure(&cached, cache, "lost").await? == 0);
        // The same by the proxy: the write is fenced before it arrives.
        ask_until_kept(&cached, cache, &client, &[SEVENTH]).await?;
        let mut first = waiting(&cached, cache, SEVENTH).await?;
        client.batch_execute("UPDATE items SET price = 70 WHERE id = 7").await?;
        ensure!(told(&mut first).await? == "70");
    }
    Ok(())
}

/// Asks without waiting for the disk, and until all is there.
async fn ask_until_kept(
    cached: &Cached,
    cache: &str,
    client: &tokio_postgres::Client,
    queries: &[&str],
) -> Result<()> {
    for query in queries {
        until("it is kept", async || {
            let stored = cached.caching(cache).await?["stored"].clone();
            client.simple_query(query).await?;
            Ok(cached.caching(cache).await?["stored"] != stored
                || figure(cached, cache, "only").await? > 0)
        })
        .await?;
    }
    are_on_disk(cached, cache, queries.len() as u64).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_the_disk_can_cancel_or_go() -> Result<()> {
    let folder = TempDir::new()?;
    let cached = slow(&folder, 10_000).await?;
    for cache in CACHES {
        let client = cached.connect(cache, "app").await?;
        ask_until_kept(&cached, cache, &client, &[SEVENTH]).await?;
        let token = client.cancel_token();
        let asked = tokio::spawn(async move {
            let answer = client.simple_query(SEVENTH).await.map(drop);
            (client, answer)
        });
        until("it waits", async || Ok(figure(&cached, cache, "under_way").await? > 0)).await?;
        token.cancel_query(NoTls).await?;
        let (client, answer) = asked.await?;
        let error = answer.err().context("it has an answer")?;
        ensure!(error.code().is_some_and(|code| code.code() == "57014"), "{error}");
        // The next question is not answered by what the one before was read for.
        let rows = client.simple_query("SELECT price FROM items WHERE id = 9").await?;
        ensure!(format!("{rows:?}").contains("90"), "{rows:?}");
        drop(waiting(&cached, cache, SEVENTH).await?);
        until("nobody waits", async || Ok(figure(&cached, cache, "under_way").await? == 0)).await?;
        let mut another = waiting(&cached, cache, SEVENTH).await?;
        ensure!(told(&mut another).await? == "70");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_waited_long_enough_goes_to_the_origin() -> Result<()> {
    let folder = TempDir::new()?;
    let cached = slow(&folder, 100).await?;
    for cache in CACHES {
        let client = cached.connect(cache, "app").await?;
        ask_until_kept(&cached, cache, &client, &[SEVENTH]).await?;
        let hits = cached.hits(cache).await?;
        for _ in 0..2 {
            are_on_disk(&cached, cache, 1).await?;
            let mut first = waiting(&cached, cache, SEVENTH).await?;
            ensure!(told(&mut first).await? == "70");
        }
        ensure!(cached.hits(cache).await? == hits, "from the origin");
        until("it is counted", async || Ok(figure(&cached, cache, "late").await? >= 2)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_keeps_its_order_while_it_waits() -> Result<()> {
    let folder = TempDir::new()?;
    let cached = slow(&folder, 10_000).await?;
    for cache in CACHES {
        let client = cached.connect(cache, "app").await?;
        ask_until_kept(&cached, cache, &client, &[SEVENTH]).await?;
        let stored = cached.caching(cache).await?["stored"].as_u64().context("a number")?;
        let mut first = waiting(&cached, cache, SEVENTH).await?;
        for text in [EIGHTH, SEVENTH, "SELECT price FROM items WHERE id = 9"] {
            first.query(text).await?;
        }
        for right in ["70", "80", "70", "90"] {
            let told = told(&mut first).await?;
            ensure!(told == right, "{told}, and not {right}");
        }
        let now = cached.caching(cache).await?["stored"].as_u64().context("a number")?;
        ensure!(now <= stored + 2 && figure(&cached, cache, "hits").await? >= 1);
    }
    Ok(())
}
