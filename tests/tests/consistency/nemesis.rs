//! What goes wrong, or is changed, while queries run.

use std::time::Duration;

use anyhow::Result;
use support::connect;

use crate::client::Statement;
use crate::jobs::{Effect, End, Job, Step};
use crate::perform::Actor;
use crate::query::switch;
use crate::random::Random;
use crate::world::{Path, Span, World};

/// One kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nemesis {
    /// The reader hears nothing for a while, and nobody is told.
    Stall,
    /// Commits are in the log, and told to readers of it, for a while before they are visible: as with a synchronous
    /// standby that is slow.
    SlowStandby,
    /// The reader's walsender is ended, and with it a temporary slot; a permanent one is dropped at times.
    KillWalsender,
    /// The reader's other connection is ended.
    KillSql,
    /// The network between reader and origin breaks.
    Break,
    /// A large transaction, with a small change at its end.
    Bulk,
    /// The schema changes, through the proxy or around it.
    Schema,
}

impl Nemesis {
    /// Does it again and again until the run is over.
    pub(crate) async fn act(self, world: &World, mut random: Random, span: Span) -> Result<()> {
        let bulk = Actor::new(world, Path::Around, "postgres", random.split()).await?;
        let through = Actor::new(world, Path::Through, "postgres", random.split()).await?;
        let mut actors = [bulk, through];
        while !world.is_over(span) {
            match self {
                Self::Stall => {
                    pause(&mut random, 10, 60).await;
                    world.network.stall();
                    pause(&mut random, 5, 60).await;
                    world.network.heal();
                }
                Self::SlowStandby => {
                    pause(&mut random, 20, 80).await;
                    standby(world, "'nobody'").await?;
                    pause(&mut random, 10, 50).await;
                    standby(world, "''").await?;
                }
                Self::KillWalsender => {
                    pause(&mut random, 400, 2000).await;
                    world.cluster.kill_walsenders().await?;
                    if random.percent(50) {
                        // Nobody may be there, or somebody again.
                        let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
                                    WHERE slot_name LIKE 'integratedb%' AND NOT active";
                        let _ = connect(&world.database.url()).await?.batch_execute(drop).await;
                    }
                }
                Self::KillSql => {
                    pause(&mut random, 400, 2000).await;
                    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                                WHERE application_name LIKE 'integratedb replication%' AND backend_type = 'client backend'";
                    connect(&world.database.url()).await?.batch_execute(kill).await?;
                }
                Self::Break => {
                    pause(&mut random, 400, 2000).await;
                    world.network.break_after(random.below(20_000) as usize);
                    pause(&mut random, 5, 60).await;
                    world.network.heal();
                }
                Self::Bulk => {
                    pause(&mut random, 20, 100).await;
                    let version = world.version();
                    let id = random.upto(4);
                    let text = "UPDATE items SET v = $1 WHERE id = $2";
                    let steps = vec![
                        step("UPDATE bulk SET filler = filler", &[], 0),
                        step(text, &[version, id], version),
                    ];
                    actors[0].write(&Job { steps, end: End::Commit }).await?;
                }
                Self::Schema => {
                    pause(&mut random, 100, 600).await;
                    let job = Schema::read(world).await?.change(&mut random, world.version());
                    actors[random.below(2) as usize].write(&job).await?;
                }
            }
        }
        Ok(())
    }
}

/// Lets a random time pass, in milliseconds: for things to happen, not for a state to be reached.
pub(crate) async fn pause(random: &mut Random, least: u64, most: u64) {
    tokio::time::sleep(Duration::from_millis(least + random.below(most - least))).await;
}

/// Sets who has to confirm commits. Those that wait are let go when it is nobody.
async fn standby(world: &World, names: &str) -> Result<()> {
    let admin = connect(&world.database.url()).await?;
    admin.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = {names}")).await?;
    admin.batch_execute("SELECT pg_reload_conf()").await?;
    Ok(())
}

fn step(text: &str, values: &[i64], version: i64) -> Step {
    let effect = if version == 0 { Effect::Unknown } else { Effect::Rows };
    Step { statement: Statement::new(text, values), effect, version }
}

/// What of the schema comes and goes.
struct Schema {
    is_attached: bool,
    has_column: bool,
    is_granted: bool,
    has_key: bool,
}

impl Schema {
    async fn read(world: &World) -> Result<Self> {
        let sql = "SELECT max(setting) FILTER (WHERE id = 2) <> 0, max(setting) FILTER (WHERE id = 3) <> 0,
                          max(setting) FILTER (WHERE id = 4) <> 0, to_regclass('wide_pkey') IS NOT NULL
                   FROM switches";
        let row = connect(&world.database.url()).await?.query_one(sql, &[]).await?;
        Ok(Self {
            is_attached: row.get(0),
            has_column: row.get(1),
            is_granted: row.get(2),
            has_key: row.get(3),
        })
    }

    /// A change, with a note of what is so from then on.
    fn change(&self, random: &mut Random, version: i64) -> Job {
        let (id, setting, text) = match random.below(7) {
            0 => {
                let group = random.upto(3) - 1;
                let view = format!(
                    "CREATE OR REPLACE VIEW chosen AS SELECT id, v FROM items WHERE grp = {group}"
                );
                (switch::VIEW, group, view)
            }
            1 => match self.is_attached {
                false => {
                    let attach = "ALTER TABLE parts ATTACH PARTITION parts_3 FOR VALUES IN (3)";
                    (switch::PARTITION, 1, attach.to_owned())
                }
                true => {
                    (switch::PARTITION, 0, "ALTER TABLE parts DETACH PARTITION parts_3".to_owned())
                }
            },
            2 => match self.has_column {
                false => {
                    let add =
                        format!("ALTER TABLE wide ADD COLUMN further bigint DEFAULT {version}");
                    (switch::COLUMN, version, add)
                }
                true => (switch::COLUMN, 0, "ALTER TABLE wide DROP COLUMN further".to_owned()),
            },
            3 => match self.is_granted {
                false => (switch::GRANT, 1, "GRANT SELECT ON secrets TO app".to_owned()),
                true => (switch::GRANT, 0, "REVOKE SELECT ON secrets FROM app".to_owned()),
            },
            4 => {
                let index = format!("CREATE INDEX i{version} ON items (grp)");
                (switch::OTHER, 0, index)
            }
            5 => match self.has_key {
                false => (switch::OTHER, 0, "ALTER TABLE wide ADD PRIMARY KEY (id)".to_owned()),
                true => (switch::OTHER, 0, "ALTER TABLE wide DROP CONSTRAINT wide_pkey".to_owned()),
            },
            _ => {
                let text = "ALTER TABLE names DROP CONSTRAINT names_pkey, ADD PRIMARY KEY (name)";
                (switch::OTHER, 0, text.to_owned())
            }
        };
        let note = "UPDATE switches SET setting = $2, v = $1 WHERE id = $3";
        let steps = vec![
            // Not that all end because one waits for ever.
            step("SET LOCAL lock_timeout = '10s'", &[], 0),
            step(&text, &[], 0),
            step(note, &[version, setting, id], version),
        ];
        Job { steps, end: End::Commit }
    }
}
