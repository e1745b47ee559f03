//! Looks after what nobody else does for an engine: that tables are published, that fences fall whose writer is gone,
//! that a reader which is not told anything asks, and that the functions of the extension are known.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use integratedb_cache::{Lsn, Snapshot, TableId};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, Functions};
use crate::replication::{Sql, SqlError};
use crate::secret::Secret;

/// How often it looks by itself.
const ROUND: Duration = Duration::from_secs(1);

/// How long a table that could not be published is left alone.
const AGAIN: Duration = Duration::from_secs(10);

/// How long a commit may take to arrive before the reader asks for it.
const BY_ITSELF: Duration = Duration::from_millis(2);

/// What the keeper is asked to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// Entries are to depend on these tables; of some, changes are told by other ways than the publication.
    Follow { published: Vec<TableId>, told: Vec<TableId> },
    /// The reader has a connection; a new slot knows nothing of what was.
    Connected { anew: bool },
    /// The schema has changed.
    SchemaChanged,
}

/// See the module.
pub(super) struct Keeper {
    engine: Arc<Engine>,
    sql: Option<Sql>,
    url: Secret<String>,
    /// Tables that entries depend on, each with when it was last found not to be published.
    wanted: BTreeSet<u32>,
    /// Materialized views, and partitioned tables, whose rows are in others.
    told: BTreeSet<u32>,
    refused: HashMap<u32, Instant>,
    published: BTreeSet<u32>,
    /// When the origin last read its configuration.
    configured: Option<String>,
}

const FUNCTIONS: &str = "SELECT to_regprocedure('integratedb.describe_query(text,oid[])')::oid, \
                         to_regprocedure('integratedb.session_key(text[])')::oid, \
                         pg_conf_load_time()";

impl Keeper {
    pub(super) fn new(engine: Arc<Engine>, sql: Option<Sql>, url: Secret<String>) -> Self {
        Self {
            engine,
            sql,
            url,
            wanted: BTreeSet::new(),
            told: BTreeSet::new(),
            refused: HashMap::new(),
            published: BTreeSet::new(),
            configured: None,
        }
    }

    /// Serves the engine until it is told to end.
    pub(super) async fn run(mut self, mut tasks: UnboundedReceiver<Task>, end: CancellationToken) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let engine = Arc::clone(&self.engine);
        loop {
            let work = async {
                tokio::select! {
                    biased;
                    task = tasks.recv() => match task {
                        Some(task) => self.take(task).await,
                        None => std::future::pending().await,
                    },
                    position = engine.awaited().next() => self.bring(position).await,
                    _ = rounds.tick() => self.look().await,
                }
            };
            tokio::select! {
                () = end.cancelled() => return,
                done = work => if let Err(error) = done {
                    tracing::debug!(%error, "the cache's keeper was refused something");
                },
            }
        }
    }

    /// Sessions wait for a position. A commit brings the reader there by itself; what it is not told of it asks for.
    async fn bring(&mut self, position: Lsn) -> Result<(), SqlError> {
        tokio::time::sleep(BY_ITSELF).await;
        if self.engine.store().applied() < position { self.ask_position().await } else { Ok(()) }
    }

    async fn take(&mut self, task: Task) -> Result<(), SqlError> {
        match task {
            Task::Follow { published, told } => {
                self.wanted.extend(published.iter().map(|table| table.0));
                self.told.extend(told.iter().map(|table| table.0));
                self.publish().await
            }
            Task::Connected { anew } => {
                if anew {
                    self.published.clear();
                }
                self.refused.clear();
                self.look_up().await?;
                self.publish().await
            }
            Task::SchemaChanged => {
                // Tables may be others under the same number, or have got what they lacked.
                self.refused.clear();
                self.published.clear();
                self.wanted.clear();
                self.told.clear();
                self.look_up().await
            }
        }
    }

    /// What is looked at each round.
    async fn look(&mut self) -> Result<(), SqlError> {
        self.look_up().await?;
        self.ask_position().await?;
        self.publish().await
    }

    /// Asks the origin how far it is. Fences that were up before fall when the reader gets there.
    async fn ask_position(&mut self) -> Result<(), SqlError> {
        let Some(sql) = &self.sql else { return Ok(()) };
        let before = self.engine.store().fence_mark();
        let probe = sql.probe().await?;
        self.engine.store().settle_before(before, probe.insert);
        Ok(())
    }

    async fn query(&self, text: &str) -> Result<Vec<Vec<Option<String>>>, SqlError> {
        match &self.sql {
            Some(sql) => sql.query(text).await,
            None => {
                let reach = self.engine.settings().reach.as_ref();
                let client =
                    crate::db::connect_within(&self.url, reach).await.map_err(|error| {
                        tracing::warn!(%error, "the origin can't be asked about statements");
                        SqlError::NotConnected
                    })?;
                let rows = client.simple_query(text).await.map_err(|_| SqlError::NotConnected)?;
                let rows = rows.into_iter().filter_map(|message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => {
                        Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                    }
                    _ => None,
                });
                Ok(rows.collect())
            }
        }
    }

    /// Finds the extension's functions, and whether settings may have changed for sessions that have set nothing.
    async fn look_up(&mut self) -> Result<(), SqlError> {
        let rows = self.query(FUNCTIONS).await?;
        let Some([describe, key, configured]) = rows.first().map(Vec::as_slice) else {
            return Err(SqlError::Unexpected("no functions"));
        };
        let oid = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
        let functions = match (oid(describe), oid(key)) {
            (Some(describe_query), Some(session_key)) => {
                Some(Functions { describe_query, session_key })
            }
            _ => None,
        };
        if functions.is_none() && self.engine.functions().is_some()
            || self.configured.is_none() && functions.is_none()
        {
            tracing::warn!(
                "the origin lacks the extension, or one of this version: nothing can be kept"
            );
        }
        self.engine.set_functions(functions);
        if self.configured.is_some() && self.configured != *configured {
            self.engine.forget_sessions();
        }
        self.configured.clone_from(configured);
        Ok(())
    }

    /// Has tables published that are not, and tells the store from which snapshots on they are followed.
    async fn publish(&mut self) -> Result<(), SqlError> {
        let Some(sql) = &self.sql else { return Ok(()) };
        let now = Instant::now();
        let missing: Vec<u32> = self
            .wanted
            .difference(&self.published)
            .filter(|table| {
                self.refused.get(table).is_none_or(|at| now.duration_since(*at) > AGAIN)
            })
            .copied()
            .collect();
        let told: Vec<u32> = self.told.difference(&self.published).copied().collect();
        if missing.is_empty() && told.is_empty() {
            return Ok(());
        }
        let answers = match missing.is_empty() {
            true => Vec::new(),
            false => sql.publish(&missing).await?,
        };
        // Whoever began to write before may not be told of in full; a snapshot from now on knows who that is.
        let snapshot = sql.snapshot().await?;
        let snapshot: Snapshot =
            snapshot.parse().map_err(|_| SqlError::Unexpected("a snapshot"))?;
        let mut followed: Vec<TableId> = told.iter().copied().map(TableId).collect();
        self.published.extend(told);
        for answer in answers {
            if answer.published {
                self.published.insert(answer.oid);
                followed.push(TableId(answer.oid));
            } else {
                tracing::info!(table = answer.oid, why = answer.why, "a table can't be followed");
                self.refused.insert(answer.oid, now);
            }
        }
        self.engine.store().publish(&followed, &snapshot);
        Ok(())
    }
}
