//! Has the backfills that are wanted read, a few at a time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::meeting::{Backfills, Closed, Mark, Opened, Reading, Which as End};
use super::read::{Read, ReadError, Source, Which};
use super::rows::{Chunk, Table};
use super::store::{self, Place};
use super::window::Key;
use super::{Settings, table};
use crate::db::{self, DbError, Pool};
use crate::notify::Subscriptions;
use crate::replication::identifier;

/// Backfills that are read at once.
const AT_ONCE: usize = 2;

/// How often it is looked for new ones.
const LOOK: Duration = Duration::from_millis(500);

/// The waits after what may pass.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The waits for what has committed to be visible.
const VISIBLE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// How long a window stays open at most while what was processed before it is not visible.
const WINDOW: Duration = Duration::from_secs(2);

/// Rows that are read again at once.
const LEFT: i64 = 64;

/// Chunks after which a chunk is made larger again that was made smaller.
const GROW: u32 = 8;

/// Those that are under way, as the database has them.
pub(in crate::notify) async fn load(client: &Client) -> Result<Arc<Backfills>, DbError> {
    let backfills = Arc::new(Backfills::default());
    store::forget_left(client).await?;
    for (id, relation, key) in store::under_way(client).await? {
        backfills.track(id, relation, key);
    }
    Ok(backfills)
}

/// Has them read, as long as this is not dropped.
pub(in crate::notify) async fn run(
    settings: Settings,
    pool: &Pool,
    backfills: Arc<Backfills>,
) -> Infallible {
    let settings = Arc::new(settings);
    let (mut tasks, mut running) = (JoinSet::new(), HashMap::new());
    loop {
        while let Some(ended) = tasks.try_join_next_with_id() {
            let id = match ended {
                Ok((id, ())) => id,
                Err(error) => {
                    tracing::error!(%error, "what reads a backfill has panicked");
                    error.id()
                }
            };
            running.remove(&id);
        }
        match look(pool, &backfills).await {
            Ok(wanted) => {
                for id in wanted {
                    if running.len() < AT_ONCE && !running.values().any(|known| *known == id) {
                        let runner = Runner {
                            id,
                            settings: Arc::clone(&settings),
                            backfills: Arc::clone(&backfills),
                        };
                        running.insert(tasks.spawn(runner.run()).id(), id);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "backfills can't be looked for"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(pool: &Pool, backfills: &Backfills) -> Result<Vec<i64>, DbError> {
    // Before the first connection it is not known which epoch it is.
    if backfills.now().0 == 0 {
        return Ok(Vec::new());
    }
    let client = pool.get().await?;
    let resting = backfills.resting();
    if !resting.is_empty() {
        backfills.forget(&store::over(&client, &resting).await?);
    }
    store::wanted(&client).await
}

/// Why a backfill does not go on.
enum Stop {
    /// For now.
    Passing(String),
    /// Until somebody does something about it.
    Failed(String),
}

impl From<DbError> for Stop {
    fn from(error: DbError) -> Self {
        Self::Passing(error.to_string())
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) => error.into(),
            ReadError::TooSlow => Self::Passing("a statement took too long".to_owned()),
            ReadError::Refused(why) => Self::Failed(why),
            ReadError::Again => Self::Passing("the table is changing".to_owned()),
        }
    }
}

impl From<tokio_postgres::Error> for Stop {
    fn from(error: tokio_postgres::Error) -> Self {
        ReadError::from(error).into()
    }
}

/// Reads one backfill.
struct Runner {
    id: i64,
    settings: Arc<Settings>,
    backfills: Arc<Backfills>,
}

/// What is known of the table that is being read.
struct Reader<'a> {
    runner: &'a Runner,
    client: &'a Client,
    reading: Option<Reading>,
    /// The table that is registered, and its key.
    registered: Option<(u32, Vec<String>)>,
    /// Of which generation all that was processed before is visible.
    settled: Option<u64>,
    /// Rows of a chunk.
    rows: usize,
    /// Chunks since it was changed.
    good: u32,
}

impl Runner {
    async fn run(self) {
        let mut wait = RETRY.0;
        loop {
            let began = Instant::now();
            let stop = match self.attempt().await {
                Ok(()) => return,
                Err(stop) => stop,
            };
            match stop {
                Stop::Failed(why) => {
                    tracing::warn!(backfill = self.id, why, "a backfill has failed");
                    match self.note(Some(&why)).await {
                        Ok(()) => return,
                        Err(error) => tracing::warn!(%error, "that can't be noted"),
                    }
                }
                Stop::Passing(why) => {
                    tracing::warn!(backfill = self.id, why, "a backfill has to wait");
                }
            }
            if began.elapsed() > RETRY.1 {
                wait = RETRY.0;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY.1);
        }
    }

    async fn note(&self, wrong: Option<&str>) -> Result<(), DbError> {
        let client = db::connect(&self.settings.database).await?;
        store::finish(&client, self.id, wrong).await
    }

    /// Reads until there is nothing more to do for this one, whoever has decided that.
    async fn attempt(&self) -> Result<(), Stop> {
        let client = db::connect(&self.settings.database).await?;
        Source(&client).prepare().await?;
        let mut reader = Reader {
            runner: self,
            client: &client,
            reading: None,
            registered: None,
            settled: None,
            rows: usize::MAX,
            good: 0,
        };
        loop {
            let (epoch, _) = self.backfills.now();
            let Some(place) = store::begin(&client, self.id, epoch).await? else { return Ok(()) };
            let Some(relation) = self.relation(&client, &place).await? else {
                tracing::info!(backfill = self.id, "a backfill is done");
                store::finish(&client, self.id, None).await?;
                return Ok(());
            };
            let outcome = reader.step(&place, relation).await;
            if let Err(Stop::Passing(why)) = &outcome {
                store::tell(&client, self.id, Some(why)).await?;
            }
            outcome?;
        }
    }

    /// The table to read: the one it is in, or the next.
    async fn relation(&self, client: &Client, place: &Place) -> Result<Option<u32>, Stop> {
        let Place { schema, table, relations_done: done, .. } = place;
        let all = Subscriptions::load(client)
            .await
            .map_err(|error| Stop::Passing(error.to_string()))?
            .relations(place.stakeholder, schema, table);
        if all.is_empty() {
            let why = format!("the stakeholder has no subscription to {schema}.{table} any more");
            return Err(Stop::Failed(why));
        }
        let present = place.relation.filter(|relation| all.contains(relation));
        Ok(present.or_else(|| all.into_iter().find(|relation| !done.contains(relation))))
    }
}

impl Reader<'_> {
    /// One chunk, or what has to come before.
    async fn step(&mut self, place: &Place, relation: u32) -> Result<(), Stop> {
        let (id, backfills) = (self.runner.id, &self.runner.backfills);
        let table = table::look(self.client, relation).await?.map_err(Stop::Failed)?;
        self.register(&table);
        // What was read in the order of another key says nothing of what is left.
        if place.relation != Some(relation) || place.key_columns.as_ref() != Some(&table.numbers) {
            return Ok(store::enter(self.client, id, relation, &table.numbers).await?);
        }
        let left = store::left(self.client, id, relation, LEFT).await?;
        // What is left is read last, but not so late that there is too much of it.
        if place.at_end && left.is_empty() {
            return Ok(store::leave(self.client, id, relation).await?);
        }
        let is_left = place.at_end || i64::try_from(left.len()).is_ok_and(|count| count == LEFT);
        let asked = if is_left { left } else { Vec::new() };
        let (_, generation) = backfills.now();
        if self.settled != Some(generation) && !self.older_are_gone(relation).await? {
            tokio::time::sleep(VISIBLE.1).await;
            return Ok(());
        }
        self.settled = Some(generation);
        let began = Instant::now();
        let read = self.chunk(place, &table, asked, generation).await?;
        self.pace(read, began).await;
        Ok(())
    }

    fn register(&mut self, table: &Table) {
        let wanted = Some((table.relation.oid, table.key.clone()));
        if self.registered != wanted {
            // In this order: the one before ends with nothing if another has come after it.
            self.reading = None;
            let Runner { id, backfills, .. } = self.runner;
            self.reading = Some(backfills.read(*id, table.relation.oid, table.key.clone()));
            self.registered = wanted;
            self.settled = None;
        }
    }

    /// Whether all that may have been processed before it was remembered is visible. Whoever has written to the table
    /// holds a lock on it until then.
    async fn older_are_gone(&self, relation: u32) -> Result<bool, Stop> {
        let source = Source(self.client);
        let floor = source.next_xid().await?;
        let mut wait = VISIBLE.0;
        let began = Instant::now();
        loop {
            let older = source.older_writers(relation, floor).await?;
            if older == 0 {
                return Ok(true);
            }
            if began.elapsed() > WINDOW {
                let why = format!(
                    "waits for {older} transactions that write to the table since before it began"
                );
                store::tell(self.client, self.runner.id, Some(&why)).await?;
                return Ok(false);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(VISIBLE.1);
        }
    }

    /// Gives how many rows were read and stored.
    async fn chunk(
        &mut self,
        place: &Place,
        table: &Table,
        asked: Vec<(i64, Key)>,
        generation: u64,
    ) -> Result<usize, Stop> {
        let (id, backfills) = (self.runner.id, &self.runner.backfills);
        let chunk: u64 = rand::rng().random_range(0..1 << 53);
        let opened = backfills.await_low(id, chunk);
        self.emit(Mark { id, chunk, mark: End::Low }).await?;
        // Without an answer there was another connection, and it is begun anew.
        let Ok(opened) = opened.await else { return Ok(0) };
        if opened.generation != generation {
            return Ok(0);
        }
        let Some(read) = self.rows(place, table, &asked, &opened).await? else { return Ok(0) };
        backfills.seen(&read.snapshot);
        let rows = read.rows.len();
        let stakeholder = place.stakeholder;
        let Read { table, rows: read, at_end, .. } = read;
        let read = Chunk { stakeholder, table, rows: read, asked, at_end };
        let Some(closed) = backfills.offer(id, chunk, read) else { return Ok(0) };
        self.emit(Mark { id, chunk, mark: End::High }).await?;
        Ok(if closed.await == Ok(Closed::Stored) { rows } else { 0 })
    }

    async fn emit(&self, mark: Mark) -> Result<(), Stop> {
        let content = serde_json::json!({ "backfill": mark }).to_string();
        Ok(Source(self.client).emit(&content).await?)
    }

    /// Reads rows once a snapshot sees what was processed before the low mark; `None` if that takes too long.
    async fn rows(
        &mut self,
        place: &Place,
        table: &Table,
        asked: &[(i64, Key)],
        opened: &Opened,
    ) -> Result<Option<Read>, Stop> {
        let most = usize::try_from(place.chunk_rows).unwrap_or(1).max(1);
        self.rows = self.rows.min(most);
        let which = match asked {
            [] => Which::After(place.last_key.as_deref(), self.rows),
            asked => Which::Of(asked),
        };
        let (began, mut wait) = (Instant::now(), VISIBLE.0);
        loop {
            match Source(self.client).read(table, which, &opened.before).await {
                Ok(read) => {
                    self.good += 1;
                    if self.good >= GROW {
                        (self.rows, self.good) = ((self.rows * 2).min(most), 0);
                    }
                    return Ok(Some(read));
                }
                Err(ReadError::Again) if began.elapsed() < WINDOW => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(VISIBLE.1);
                }
                Err(ReadError::Again) => return Ok(None),
                Err(ReadError::TooSlow) if self.rows > 1 => {
                    (self.rows, self.good) = ((self.rows / 2).max(1), 0);
                    tracing::info!(
                        backfill = self.runner.id,
                        rows = self.rows,
                        "chunks are smaller"
                    );
                    return Ok(None);
                }
                Err(ReadError::Refused(why)) => return Err(self.refused(table, &why).await),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the database does not allow, and who could.
    async fn refused(&self, table: &Table, why: &str) -> Stop {
        let role: String = match self.client.query_one("SELECT current_user::text", &[]).await {
            Ok(row) => identifier(row.get(0)),
            Err(error) => return error.into(),
        };
        let relation = &table.relation;
        let (schema, table) = (identifier(&relation.schema), identifier(&relation.name));
        let hint = if why.contains("row-level security") {
            format!("Let the sidecar's role read all rows: ALTER ROLE {role} BYPASSRLS")
        } else if why.contains("for schema") {
            format!("Let the sidecar's role use it: GRANT USAGE ON SCHEMA {schema} TO {role}")
        } else {
            format!("Let the sidecar's role read it: GRANT SELECT ON {schema}.{table} TO {role}")
        };
        Stop::Failed(format!("{why}. {hint}; then resume the backfill"))
    }

    /// No more rows a second than were allowed.
    async fn pace(&self, rows: usize, began: Instant) {
        let most = self.runner.settings.rows_per_sec;
        if most > 0 {
            // Far from where a float would not be exact.
            let due = Duration::from_secs_f64(rows as f64 / most as f64);
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        }
    }
}
