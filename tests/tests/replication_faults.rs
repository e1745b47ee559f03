//! Origins, networks, slots and publications that fail under a reader: nothing is missing, nothing comes twice, and
//! what can't be known is told.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integratedb_sidecar::replication::{Slot, State};
use support::{Cluster, Database, Follower, Heard, Network, until};
use tokio_postgres::Client;

struct Setup {
    cluster: Cluster,
    database: Database,
    client: Client,
    network: Network,
}

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, x text);
    CREATE PUBLICATION integratedb FOR ALL TABLES;
    CREATE ROLE reader LOGIN REPLICATION PASSWORD 'secret'";

impl Setup {
    async fn new() -> Result<Self> {
        Self::with(&[]).await
    }

    async fn with(settings: &[(&str, &str)]) -> Result<Self> {
        let cluster = Cluster::start_with(settings).await?;
        let database = cluster.database("shop").await?;
        let client = database.connect().await?;
        client.batch_execute(TABLES).await?;
        let network = Network::to(database.address()).await?;
        Ok(Self { cluster, database, client, network })
    }

    /// Where the reader connects to: through the network, with a password and no more rights than it needs.
    fn url(&self) -> String {
        self.database.url_through(self.network.address(), "reader", "secret")
    }

    fn follow(&self, slot: Slot) -> Result<Follower> {
        Follower::start(&self.url(), slot)
    }

    async fn insert(&self, ids: std::ops::Range<i32>) -> Result<()> {
        for id in ids {
            self.client.batch_execute(&format!("INSERT INTO t VALUES ({id}, 'x')")).await?;
        }
        Ok(())
    }

    async fn slots(&self) -> Result<Vec<String>> {
        let rows = self.client.query("SELECT slot_name::text FROM pg_replication_slots", &[]);
        Ok(rows.await?.iter().map(|row| row.get(0)).collect())
    }
}

fn permanent() -> Slot {
    Slot::Permanent("notify".to_owned())
}

fn temporary() -> Slot {
    Slot::Temporary("cache".to_owned())
}

/// The ids inserted, in the order that they came.
fn ids(heard: &Heard) -> Vec<i32> {
    let changes = heard.changes();
    let inserted =
        changes.iter().filter_map(|c| c.strip_prefix("+ t ")?.split(',').next()?.parse().ok());
    inserted.collect()
}

#[tokio::test]
async fn a_killed_walsender_costs_nothing_with_a_permanent_slot() -> Result<()> {
    let setup = Setup::new().await?;
    // The origin would send everything again: nothing is ever confirmed.
    let follower = Follower::start_with(&setup.url(), permanent(), |_, switches| {
        switches.forgetful.store(true, Ordering::SeqCst);
    })?;
    follower.connections(1).await?;
    let writer = async {
        for n in 0..40 {
            let (from, to) = (n * 500, n * 500 + 499);
            let sql = format!(
                "INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series({from}, {to}) n"
            );
            setup.client.batch_execute(&sql).await?;
        }
        anyhow::Ok(())
    };
    let killer = async {
        let mut killed = 0;
        while killed < 5 {
            killed += setup.cluster.kill_walsenders().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(writer, killer)?;
    let heard = follower.catch_up().await?;
    assert_eq!(ids(&heard), (0..20_000).collect::<Vec<_>>());
    assert!(heard.lost.is_empty() && heard.connected.len() > 1);
    assert!(heard.connected[1..].iter().all(|c| !c.slot_is_new));
    Ok(())
}

#[tokio::test]
async fn a_new_process_gets_again_what_was_not_confirmed() -> Result<()> {
    let setup = Setup::new().await?;
    let follower = setup.follow(permanent())?;
    follower.connections(1).await?;
    setup.insert(0..5).await?;
    let heard = follower.catch_up().await?;
    let last = heard.transactions.last().context("there was one")?.end;
    follower.status("it is confirmed", |status| status.confirmed >= last).await?;
    follower.switches().forgetful.store(true, Ordering::SeqCst);
    setup.insert(5..8).await?;
    follower.catch_up().await?;
    let heard = follower.stop().await;
    assert_eq!(ids(&heard), (0..8).collect::<Vec<_>>());
    assert_eq!(heard.disconnected, ["the reader was stopped"]);
    setup.insert(8..10).await?;
    let follower = setup.follow(permanent())?;
    let heard = follower.catch_up().await?;
    assert_eq!(ids(&heard), (5..10).collect::<Vec<_>>());
    assert!(!heard.connected[0].slot_is_new && heard.lost.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_temporary_slot_leaves_nothing_and_tells_of_the_gap() -> Result<()> {
    let setup = Setup::new().await?;
    let follower = setup.follow(temporary())?;
    follower.connections(1).await?;
    setup.insert(0..2).await?;
    follower.catch_up().await?;
    setup.cluster.kill_walsenders().await?;
    follower.connections(2).await?;
    setup.insert(2..4).await?;
    let heard = follower.catch_up().await?;
    assert_eq!(ids(&heard), [0, 1, 2, 3]);
    assert!(heard.connected.iter().all(|c| c.slot_is_new) && heard.lost.len() == 1);
    follower.stop().await;
    until("the slot is gone", async || Ok(setup.slots().await?.is_empty())).await
}

#[tokio::test]
async fn a_network_that_breaks_anywhere_costs_nothing() -> Result<()> {
    let setup = Setup::new().await?;
    let follower = setup.follow(permanent())?;
    follower.connections(1).await?;
    for (round, bytes) in [0, 1, 100, 1000, 30_000].into_iter().enumerate() {
        let from = i32::try_from(round)? * 1000;
        setup.network.break_after(bytes);
        let sql = format!(
            "INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series({from}, {from} + 999) n"
        );
        setup.client.batch_execute(&sql).await?;
        until("it breaks", async || Ok(follower.heard().disconnected.len() > round)).await?;
        setup.network.heal();
        follower.connections(round + 2).await?;
        let heard = follower.catch_up().await?;
        assert_eq!(ids(&heard), (0..from + 1000).collect::<Vec<_>>());
        assert!(heard.lost.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn a_network_that_stalls_is_noticed() -> Result<()> {
    let setup = Setup::new().await?;
    let follower = Follower::start_with(&setup.url(), permanent(), |settings, _| {
        settings.lag_time = Duration::from_secs(1);
    })?;
    follower.catch_up().await?;
    setup.network.stall();
    setup.insert(0..3).await?;
    follower.status("it is late", |status| status.state == State::Suspended).await?;
    until("it is given up", async || Ok(follower.heard().disconnected.len() == 1)).await?;
    setup.network.heal();
    follower.connections(2).await?;
    assert_eq!(ids(&follower.catch_up().await?), [0, 1, 2]);
    Ok(())
}

#[tokio::test]
async fn a_sink_that_takes_nothing_holds_the_origin_back_and_stays_connected() -> Result<()> {
    let setup = Setup::with(&[("wal_sender_timeout", "3s")]).await?;
    let follower = Follower::start_with(&setup.url(), permanent(), |settings, _| {
        settings.silence = Duration::from_secs(3);
    })?;
    // What made the tables may have been told of.
    let before = follower.catch_up().await?.transactions.len();
    follower.switches().full.store(true, Ordering::SeqCst);
    let sql = "INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n";
    setup.client.batch_execute(sql).await?;
    follower.status("it is behind", |status| status.lag_bytes > 10 << 20).await?;
    // More than twice as long as either end would wait for the other.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let heard = follower.heard();
    assert!(
        heard.disconnected.is_empty() && heard.transactions.len() == before,
        "{:?}",
        heard.disconnected
    );
    follower.take_again();
    let heard = follower.catch_up().await?;
    assert_eq!((ids(&heard).len(), heard.connected.len()), (20_000, 1));
    Ok(())
}

#[tokio::test]
async fn a_restarted_origin_is_followed_on() -> Result<()> {
    let mut setup = Setup::new().await?;
    let follower = setup.follow(permanent())?;
    follower.connections(1).await?;
    setup.insert(0..3).await?;
    follower.catch_up().await?;
    setup.cluster.restart().await?;
    setup.client = setup.database.connect().await?;
    setup.insert(3..6).await?;
    follower.connections(2).await?;
    let heard = follower.catch_up().await?;
    assert_eq!(ids(&heard), (0..6).collect::<Vec<_>>());
    assert!(heard.lost.is_empty(), "{:?}", heard.lost);
    Ok(())
}

#[tokio::test]
async fn a_slot_that_was_dropped_is_made_again_and_told_of() -> Result<()> {
    let setup = Setup::new().await?;
    let follower = setup.follow(permanent())?;
    follower.connections(1).await?;
    setup.network.break_after(0);
    until("it breaks", async || Ok(follower.heard().disconnected.len() == 1)).await?;
    until("the slot is free", async || {
        let dropped = setup.client.batch_execute("SELECT pg_drop_replication_slot('notify')").await;
        Ok(dropped.is_ok())
    })
    .await?;
    setup.network.heal();
    follower.connections(2).await?;
    setup.insert(0..1).await?;
    let heard = follower.catch_up().await?;
    assert_eq!(ids(&heard), [0]);
    assert!(heard.connected[1].slot_is_new && heard.lost == ["the slot notify is gone"]);
    assert_eq!(follower.reader.status().lost, 1);
    Ok(())
}

#[tokio::test]
async fn a_slot_that_somebody_moved_is_told_of() -> Result<()> {
    let setup = Setup::new().await?;
    let follower = setup.follow(permanent())?;
    follower.connections(1).await?;
    setup.network.break_after(0);
    setup.insert(0..1).await?;
    until("it breaks", async || Ok(follower.heard().disconnected.len() == 1)).await?;
    until("the slot is free", async || {
        let sql = "SELECT pg_replication_slot_advance('notify', pg_current_wal_lsn())";
        Ok(setup.client.batch_execute(sql).await.is_ok())
    })
    .await?;
    setup.network.heal();
    follower.connections(2).await?;
    let heard = follower.catch_up().await?;
    assert!(
        heard.lost.len() == 1 && heard.lost[0].contains("somebody else moved it"),
        "{:?}",
        heard.lost
    );
    Ok(())
}

#[tokio::test]
async fn a_slot_that_held_too_much_wal_is_given_up() -> Result<()> {
    let setup = Setup::with(&[
        ("max_slot_wal_keep_size", "32MB"),
        ("min_wal_size", "32MB"),
        ("max_wal_size", "32MB"),
    ])
    .await?;
    let follower = setup.follow(permanent())?;
    follower.catch_up().await?;
    follower.switches().full.store(true, Ordering::SeqCst);
    for n in 0..8 {
        let sql = format!(
            "INSERT INTO t SELECT n, repeat('x', 2000) FROM generate_series({n} * 10000, {n} * 10000 + 9999) n;
             SELECT pg_switch_wal(); CHECKPOINT"
        );
        for statement in sql.split(';') {
            setup.client.batch_execute(statement).await?;
        }
    }
    until("it is disconnected", async || Ok(!follower.heard().disconnected.is_empty())).await?;
    follower.take_again();
    until("it is told", async || Ok(!follower.heard().lost.is_empty())).await?;
    follower.catch_up().await?;
    setup.insert(-1..0).await?;
    let heard = follower.catch_up().await?;
    assert_eq!(ids(&heard).last(), Some(&-1));
    assert!(heard.connected.last().is_some_and(|c| c.slot_is_new));
    ensure!(heard.lost[0].contains("max_slot_wal_keep_size"), "{:?}", heard.lost);
    Ok(())
}

#[tokio::test]
async fn a_dropped_publication_is_made_again_and_told_of() -> Result<()> {
    let setup = Setup::new().await?;
    setup.client.batch_execute("GRANT CREATE ON DATABASE shop TO reader").await?;
    let follower = setup.follow(permanent())?;
    follower.connections(1).await?;
    setup.insert(0..2).await?;
    follower.catch_up().await?;
    // What is changed without a publication can't be decoded by PostgreSQL before 18.
    setup.client.batch_execute("DROP PUBLICATION integratedb").await?;
    setup.insert(2..4).await?;
    follower.connections(2).await?;
    let heard = follower.catch_up().await?;
    assert!(heard.lost.len() == 1 && heard.lost[0].contains("publication"), "{:?}", heard.lost);
    setup.client.batch_execute("ALTER PUBLICATION integratedb OWNER TO postgres; ALTER PUBLICATION integratedb ADD TABLE t").await?;
    setup.insert(4..6).await?;
    assert_eq!(ids(&follower.catch_up().await?), [0, 1, 4, 5]);
    Ok(())
}

#[tokio::test]
async fn what_an_administrator_has_to_mend_is_named_and_then_noticed() -> Result<()> {
    let mut setup = Setup::with(&[("wal_level", "replica")]).await?;
    let error = |text: &'static str| {
        move |s: &integratedb_sidecar::replication::Status| {
            s.last_error.as_ref().is_some_and(|error| error.contains(text))
        }
    };
    setup
        .client
        .batch_execute("ALTER ROLE reader NOREPLICATION; DROP PUBLICATION integratedb")
        .await?;
    let follower = setup.follow(permanent())?;
    follower.status("no privilege", error("The role needs REPLICATION")).await?;
    setup.client.batch_execute("ALTER ROLE reader REPLICATION").await?;
    follower.status("WAL level", error("wal_level of the origin is replica")).await?;
    setup.client.batch_execute("ALTER SYSTEM SET wal_level = logical").await?;
    setup.cluster.restart().await?;
    setup.client = setup.database.connect().await?;
    follower.status("no publication", error("permission denied for database")).await?;
    setup
        .client
        .batch_execute("ALTER ROLE reader PASSWORD 'other'; CREATE PUBLICATION integratedb")
        .await?;
    follower.status("wrong password", error("password authentication failed")).await?;
    setup.client.batch_execute("ALTER ROLE reader PASSWORD 'secret'").await?;
    follower.status("all is well", |status| status.state == State::Streaming).await?;
    assert!(follower.heard().lost.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_slot_that_bounds_nothing_is_said() -> Result<()> {
    let setup = Setup::with(&[("max_slot_wal_keep_size", "-1")]).await?;
    let follower = setup.follow(permanent())?;
    let status = follower.status("a status", |s| s.wal_status.is_some()).await?;
    assert!(status.wal_is_unbounded && status.wal_status.as_deref() == Some("reserved"));
    let other = setup.follow(temporary())?;
    let status = other.status("a status", |s| s.wal_status.is_some()).await?;
    assert!(!status.wal_is_unbounded && status.slot.starts_with("cache_"));
    Ok(())
}

#[tokio::test]
async fn the_primary_of_several_hosts_is_followed_and_its_successor_told_of() -> Result<()> {
    let mut setup = Setup::new().await?;
    let standby = setup.cluster.standby().await?;
    let only = standby.url("shop").replace("postgres@", "postgres:@");
    let alone = Follower::start(&only, permanent())?;
    let recovery = |s: &integratedb_sidecar::replication::Status| {
        s.last_error.as_ref().is_some_and(|error| error.contains("in recovery"))
    };
    alone.status("a standby is no primary", recovery).await?;
    alone.stop().await;

    let hosts = format!("{},{}", standby.address(), setup.cluster.address());
    let url = format!("postgres://postgres@{hosts}/shop?sslmode=disable");
    let follower = Follower::start(&url, permanent())?;
    follower.connections(1).await?;
    setup.insert(0..2).await?;
    let heard = follower.catch_up().await?;
    assert_eq!((ids(&heard), heard.connected[0].timeline), (vec![0, 1], 1));

    setup.cluster.stop_immediately();
    let promoted = support::connect(&standby.url("shop")).await?;
    promoted.batch_execute("SELECT pg_promote()").await?;
    follower.connections(2).await?;
    promoted.batch_execute("INSERT INTO t VALUES (2, 'x')").await?;
    let heard = follower.catch_up().await?;
    assert_eq!((heard.connected[1].timeline, ids(&heard).last()), (2, Some(&2)));
    assert!(heard.lost.len() == 1 && heard.lost[0].contains("timeline 2"), "{:?}", heard.lost);
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_was_open_when_the_slot_was_made_is_waited_for() -> Result<()> {
    let setup = Setup::new().await?;
    let open = setup.database.connect().await?;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (1, 'x')").await?;
    let follower = setup.follow(temporary())?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(follower.heard().connected.is_empty());
    open.batch_execute("COMMIT").await?;
    let started = Instant::now();
    follower.connections(1).await?;
    assert!(started.elapsed() < Duration::from_secs(15));
    // Whoever reads now sees it, so nobody has to be told.
    assert!(follower.heard().connected[0].snapshot.ends_with(':'));
    Ok(())
}
