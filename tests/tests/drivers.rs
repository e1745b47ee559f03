//! Whatever stands between a client and Postgres, the client sees the same. One test per client; the programs are in
//! `tests/drivers`, and `support::Driver` says how they are run.

use anyhow::{Result, ensure};
use integratedb_sidecar::cache::CachingSettings;
use integratedb_sidecar::secret::Secret;
use support::{
    Cluster, Database, Driver, Features, Sidecar, add_caches, cache_id, difference, until,
};

/// One way to a database.
struct Target {
    label: &'static str,
    url: String,
    features: Features,
}

/// Every way to the database that has to look as the direct one does, and the proxies that they go through: one
/// for each cache, which is its default, so that URLs are the same but for the address.
async fn targets(database: &Database) -> Result<(Vec<Target>, Vec<Sidecar>)> {
    let again = Target {
        label: "direct, again",
        url: database.url_as("app", "secret"),
        features: Features::All,
    };
    let (mut targets, mut sidecars) = (vec![again], Vec::new());
    for (cache_name, keeps, label, features) in [
        ("pass", false, "passed through", Features::All),
        ("session", false, "session pooling", Features::All),
        ("transaction", false, "transaction pooling", Features::TransactionPooling),
        ("pass", true, "passed through, and kept", Features::All),
        ("transaction", true, "transaction pooling, and kept", Features::TransactionPooling),
    ] {
        let mut added = Ok(());
        let sidecar = Sidecar::start_with(&database.url(), |config| {
            added = add_caches(config, &database.url());
            let id = cache_id(cache_name);
            if keeps && let Some(cache) = config.caches.get_mut(&id) {
                let url = Secret::new(database.url());
                cache.caching = Some(CachingSettings { url, ..CachingSettings::default() });
            }
            config.proxy.default_cache = Some(id);
        })
        .await?;
        added?;
        until("the cache serves", async || {
            let metrics = sidecar.get("/metrics").await?.text;
            Ok(!keeps || metrics.contains("state=\"streaming\"} 1"))
        })
        .await?;
        let url = database.url_through(sidecar.proxy(), "app", "secret");
        targets.push(Target { label, url, features });
        sidecars.push(sidecar);
    }
    Ok((targets, sidecars))
}

async fn sees_the_same_everywhere(driver: Driver) -> Result<()> {
    let cluster = Cluster::start().await?;
    let database = cluster.database("drivers").await?;
    // No superuser, and by a password.
    let role = "CREATE ROLE app LOGIN PASSWORD 'secret'; GRANT CREATE ON DATABASE drivers TO app";
    database.connect().await?.batch_execute(role).await?;
    let direct = database.url_as("app", "secret");
    // The schema's name is in messages, so it is the same each time.
    let schema = format!("driver_{}", driver.name());
    let all = driver.run(&direct, &schema, Features::All).await?;
    let pooled = driver.run(&direct, &schema, Features::TransactionPooling).await?;
    let (targets, _sidecars) = targets(&database).await?;
    for target in targets {
        let expected = if target.features == Features::All { &all } else { &pooled };
        let got = driver.run(&target.url, &schema, target.features).await?;
        if let Some(told) = difference(expected, &got) {
            ensure!(false, "{} sees something else, {}: {told}", driver.name(), target.label);
        }
    }
    Ok(())
}

#[tokio::test]
async fn psycopg() -> Result<()> {
    sees_the_same_everywhere(Driver::Psycopg).await
}

#[tokio::test]
async fn asyncpg() -> Result<()> {
    sees_the_same_everywhere(Driver::Asyncpg).await
}

#[tokio::test]
async fn sqlalchemy() -> Result<()> {
    sees_the_same_everywhere(Driver::Sqlalchemy).await
}

#[tokio::test]
async fn node_postgres() -> Result<()> {
    sees_the_same_everywhere(Driver::NodePg).await
}

#[tokio::test]
async fn drizzle() -> Result<()> {
    sees_the_same_everywhere(Driver::Drizzle).await
}

#[tokio::test]
async fn pgjdbc() -> Result<()> {
    sees_the_same_everywhere(Driver::Pgjdbc).await
}

#[tokio::test]
async fn psql() -> Result<()> {
    sees_the_same_everywhere(Driver::Psql).await
}

#[tokio::test]
async fn pgbench() -> Result<()> {
    sees_the_same_everywhere(Driver::Pgbench).await
}
