//! What a cache, and who may use it, can take of what all share.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use support::{key_file, until};

use super::setup::{Setup, blamed, workspace};

#[tokio::test]
async fn queries_to_explain_rules_and_entries_have_bounds() -> Result<()> {
    let key = key_file()?;
    let setup =
        Setup::with(|config| config.workspaces.key_file = Some(key.path().to_owned())).await?;
    let admin = setup.database.connect().await?;
    admin.batch_execute("CREATE ROLE asker SUPERUSER LOGIN PASSWORD 'secret'").await?;
    let cache = setup.create("main").await?;
    let caching = |entry: usize| json!({"caching": {"database": "shop", "user": "asker", "password": "secret", "max_entry_bytes": entry}});
    let refused = setup.put(&cache, caching((8 << 20) + 1)).await?;
    assert_eq!(blamed(&refused)?, "caching.max_entry_bytes", "{}", refused.text);
    let put = setup.put(&cache, caching(8 << 20)).await?;
    assert_eq!(put.status, 200, "{}", put.text);
    let path = format!("/api/v1/caches/{cache}");

    let explain = format!("{path}/explain");
    let long = |bytes: usize| json!({"query": format!("SELECT 1 AS {}", "a".repeat(bytes - 12))});
    let refused = setup.sidecar.post(&explain, long((64 << 10) + 1)).await?;
    assert_eq!(blamed(&refused)?, "query");
    let told = setup.sidecar.post(&explain, long(64 << 10)).await?;
    assert_eq!(told.status, 200, "{}", told.text);
    // Who asks leaves nothing behind.
    until("no connection is left", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE usename = 'asker' AND query LIKE '%describe_query(%'";
        Ok(admin.query_one(sql, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await?;

    let rule = |name: &str| format!("{path}/rules/table/{name}");
    let forbid = json!({"cache": false});
    let refused =
        setup.sidecar.put(&rule(&format!("a.{}", "b".repeat(300))), forbid.clone()).await?;
    assert_eq!(blamed(&refused)?, "name");
    let many = "INSERT INTO integratedb.cache_rules (cache_id, kind, name, rule)
                SELECT $1, 'table', 'public.t' || n, '{\"cache\": false}' FROM generate_series(1, 1000) n";
    admin.execute(many, &[&cache]).await?;
    let refused = setup.sidecar.put(&rule("public.t1001"), forbid.clone()).await?;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let changed = setup.sidecar.put(&rule("public.t1000"), json!({"cache": true})).await?;
    assert_eq!(changed.status, 200, "{}", changed.text);
    Ok(())
}

#[tokio::test]
async fn who_waits_for_a_connection_of_its_own_waits_for_some_time_only() -> Result<()> {
    let setup = Setup::new().await?;
    let cache = setup.create("main").await?;
    let put = setup.put(&cache, json!({"max_origin_connections": 1, "query_wait_secs": 3})).await?;
    assert_eq!(put.status, 200, "{}", put.text);
    let _holder = setup.client(&cache).await?;
    let waits = setup.client(&cache);
    let refused = tokio::time::timeout(Duration::from_secs(20), waits).await?;
    let refused = refused.err().context("it was let in")?.downcast::<tokio_postgres::Error>()?;
    assert_eq!(refused.code().map(|code| code.code()), Some("57P03"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_workspace_and_all_of_them_have_so_many_clients() -> Result<()> {
    let setup = Setup::with(|config| {
        config.workspaces.max_clients = 2;
        config.workspaces.max_clients_total = 3;
    })
    .await?;
    let (one, two) = (setup.create("one").await?, setup.create("two").await?);
    let workspace = workspace(&setup.database, "other", &[("root", "owner")]).await?;
    let other = setup.of(workspace);
    let theirs = other.create("theirs").await?;
    let told = async |cache: &str| -> Result<String> {
        let refused = other.client(cache).await.err().context("it was let in")?;
        let refused = refused.downcast::<tokio_postgres::Error>()?;
        let refused = refused.as_db_error().context("no error of Postgres")?;
        assert_eq!(refused.code().code(), "53300", "{refused:?}");
        Ok(refused.hint().context("no hint")?.to_owned())
    };
    let (first, _second) = (other.client(&one).await?, other.client(&two).await?);
    assert!(told(&one).await?.contains("a workspace have at most 2 clients"));
    // It is the workspace that counts, whatever its caches become.
    let put = other.put(&one, json!({"query_wait_secs": 3})).await?;
    assert_eq!(put.status, 200, "{}", put.text);
    assert!(told(&one).await?.contains("a workspace"));
    let _third = other.client(&theirs).await?;
    assert!(told(&theirs).await?.contains("all workspaces have at most 3 clients"));
    drop(first);
    until("there is room again", async || Ok(other.client(&one).await.is_ok())).await?;
    Ok(())
}

#[tokio::test]
async fn the_statements_of_a_workspace_have_so_much_room() -> Result<()> {
    let key = key_file()?;
    let setup = Setup::with(|config| {
        config.workspaces.key_file = Some(key.path().to_owned());
        config.workspaces.max_statement_bytes = 50_000;
    })
    .await?;
    let admin = setup.database.connect().await?;
    admin.batch_execute("CREATE ROLE asker SUPERUSER LOGIN PASSWORD 'secret'").await?;
    let login = json!({"database": "shop", "user": "asker", "password": "secret"});
    let settings = |wait: u32| json!({"auth": "scram", "pool_mode": "transaction", "verifiers": login, "query_wait_secs": wait});
    let (one, two) = (setup.create("one").await?, setup.create("two").await?);
    for cache in [&one, &two] {
        let put = setup.put(cache, settings(10)).await?;
        assert_eq!(put.status, 200, "{}", put.text);
    }
    let (first, second) = (setup.client(&one).await?, setup.client(&two).await?);
    let long = format!("SELECT 1 /* {} */", "x".repeat(60_000));
    let kept = first.prepare(&long).await?;
    let refused = second.prepare("SELECT 1").await.err().context("it was prepared")?;
    assert_eq!(refused.code().map(|code| code.code()), Some("53400"), "{refused:?}");
    // Whatever a cache becomes, it is the workspace that counts.
    assert_eq!(setup.put(&two, settings(20)).await?.status, 200);
    let third = setup.client(&two).await?;
    assert!(third.prepare("SELECT 1").await.is_err());
    drop(kept);
    first.batch_execute("SELECT 1").await?;
    third.prepare("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn who_logs_in_or_waits_is_among_the_clients() -> Result<()> {
    let setup = Setup::with(|config| config.workspaces.max_clients = 2).await?;
    let (one, two) = (setup.create("one").await?, setup.create("two").await?);
    let narrow = json!({"max_origin_connections": 1, "query_wait_secs": 60});
    assert_eq!(setup.put(&one, narrow).await?.status, 200);
    let is_full = |refused: &anyhow::Error| {
        let refused = refused.downcast_ref::<tokio_postgres::Error>();
        refused.and_then(|error| error.code()).is_some_and(|code| code.code() == "53300")
    };
    let _holder = setup.client(&one).await?;
    // One of these waits for a connection to the origin, and there is no room for the other.
    let first = tokio::select! {
        client = setup.client(&one) => client,
        client = setup.client(&one) => client,
    };
    assert!(first.err().is_some_and(|refused| is_full(&refused)));
    // Who comes at the same time finds no more room than there is.
    let client = || setup.client(&two);
    let clients = tokio::join!(client(), client(), client(), client());
    let clients = [clients.0, clients.1, clients.2, clients.3];
    let refused = clients.iter().filter_map(|client| client.as_ref().err());
    assert!(refused.filter(|refused| is_full(refused)).count() >= 3);
    Ok(())
}
