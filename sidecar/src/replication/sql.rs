//! What is asked of the origin beside the stream: by the reader, how far it is and how slot and publication are;
//! by others, what they like.

use std::time::Instant;

use integratedb_wire::Lsn;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::error::{ReplicationError, SqlError};
use super::link::{Table, literal, may_call, query, text};
use super::settings::ReaderSettings;
use crate::proxy::backend::Backend;

/// The prefix of a message that is only there to be flushed; sinks don't hear of it.
pub(super) const FLUSH: &str = "integratedb.flush";

/// Rows of an answer, each value as text.
pub type Rows = Vec<Vec<Option<String>>>;

/// How far the origin was at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it was asked. All that had committed by then is before `insert`.
    pub asked: Instant,
    /// Up to where its WAL is written.
    pub insert: Lsn,
    /// Up to where its WAL is flushed, which is all that it sends. What commits asynchronously is visible before.
    pub flush: Lsn,
    /// pg_current_snapshot().
    pub snapshot: String,
}

/// Whether a table is in the publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// pg_class.oid
    pub oid: u32,
    /// Whether its changes are delivered from now on.
    pub published: bool,
    /// Why not.
    pub why: Option<String>,
}

enum Request {
    Query(String, oneshot::Sender<Result<Rows, SqlError>>),
    Probe(oneshot::Sender<Result<Probe, SqlError>>),
}

/// Asks the origin over the reader's connection. One query at a time; errors while the reader has none.
#[derive(Clone)]
pub struct Sql(mpsc::Sender<Request>);

/// The numbers from the server's own `xmax` on are told as in progress.
const SNAPSHOT: &str = "
    SELECT pg_snapshot_xmin(s) || ':' || (x::text::bigint + 1) || ':' || concat_ws(',',
        (SELECT string_agg(i::text, ',' ORDER BY i) FROM pg_snapshot_xip(s) i),
        (SELECT string_agg(i::text, ',' ORDER BY i)
         FROM generate_series(pg_snapshot_xmax(s)::text::bigint, x::text::bigint) i))
    FROM (SELECT pg_current_snapshot() AS s, pg_current_xact_id() AS x OFFSET 0) now";

impl Sql {
    /// Runs statements of simple SQL; gives the rows of all of them.
    pub async fn query(&self, text: impl Into<String>) -> Result<Rows, SqlError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Query(text.into(), reply);
        self.0.send(request).await.map_err(|_| SqlError::NotConnected)?;
        answer.await.unwrap_or(Err(SqlError::NotConnected))
    }

    /// Asks how far the origin is. [`super::Progress::fresh_as_of`] and the sinks learn of it when the reader has
    /// got there.
    pub async fn probe(&self) -> Result<Probe, SqlError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Request::Probe(reply)).await.map_err(|_| SqlError::NotConnected)?;
        answer.await.unwrap_or(Err(SqlError::NotConnected))
    }

    /// pg_current_snapshot() of a new transaction, whose `xmax` is above every number that a transaction has by now: the
    /// server's own is only above those that have ended, and one that writes may have a higher one.
    pub async fn snapshot(&self) -> Result<String, SqlError> {
        let rows = self.query(SNAPSHOT).await?;
        let first = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        first.ok_or(SqlError::Unexpected("no snapshot"))
    }

    /// Has the extension put tables into the publication. Changes are delivered of transactions that begin after.
    pub async fn publish(&self, tables: &[u32]) -> Result<Vec<Published>, SqlError> {
        let list: Vec<String> = tables.iter().map(u32::to_string).collect();
        let sql = format!(
            "SELECT oid, published, why FROM integratedb.publish('{{{}}}'::oid[])",
            list.join(",")
        );
        self.query(sql).await?.iter().map(|row| published(row)).collect()
    }

    /// Has the extension take tables out of the publication.
    pub async fn unpublish(&self, tables: &[u32]) -> Result<(), SqlError> {
        let list: Vec<String> = tables.iter().map(u32::to_string).collect();
        let sql = format!("SELECT integratedb.unpublish('{{{}}}'::oid[])", list.join(","));
        self.query(sql).await.map(drop)
    }
}

fn published(row: &[Option<String>]) -> Result<Published, SqlError> {
    let [Some(oid), Some(published), why] = row else {
        return Err(SqlError::Unexpected("a row of integratedb.publish"));
    };
    Ok(Published {
        oid: oid.parse().map_err(|_| SqlError::Unexpected("an oid"))?,
        published: published == "t",
        why: why.clone(),
    })
}

/// The other end of [`Sql`], which outlives connections.
pub(super) struct Requests(mpsc::Receiver<Request>);

pub(super) fn channel() -> (Sql, Requests) {
    let (sender, receiver) = mpsc::channel(64);
    (Sql(sender), Requests(receiver))
}

impl Requests {
    /// Refuses what is asked while there is no connection. Never ends.
    pub(super) async fn refuse(&mut self) -> ! {
        loop {
            match self.0.recv().await {
                Some(Request::Query(_, reply)) => drop(reply.send(Err(SqlError::NotConnected))),
                Some(Request::Probe(reply)) => drop(reply.send(Err(SqlError::NotConnected))),
                None => std::future::pending().await,
            }
        }
    }
}

/// What the stream's side has to know.
#[derive(Debug)]
pub(super) enum Note {
    /// The origin is at a position.
    Probed(Probe),
    /// How the slot is: pg_replication_slots.wal_status and safe_wal_size.
    Slot(Option<String>, Option<i64>),
    /// Roles or memberships are others than before, and have this fingerprint.
    Roles(String),
}

/// Asks the origin as long as a connection lasts.
pub(super) struct Asker<'a> {
    pub(super) backend: Backend,
    pub(super) settings: &'a ReaderSettings,
    pub(super) slot: &'a str,
    /// The publication's oid.
    pub(super) publication: &'a str,
    pub(super) notes: mpsc::Sender<Note>,
    /// A position that was not flushed at the last probe.
    pub(super) unflushed: Option<Lsn>,
    pub(super) roles: Option<String>,
    /// Roles can't be looked at; said once.
    pub(super) is_blind: bool,
}

impl Asker<'_> {
    /// Ends only by an error: of the connection, or because following the slot is of no use any more.
    pub(super) async fn run(mut self, requests: &mut Requests) -> Result<(), ReplicationError> {
        let mut ticks = tokio::time::interval(self.settings.probe_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    // Before anything is fresh again.
                    self.look_at_roles().await?;
                    self.probe().await?;
                }
                request = requests.0.recv() => match request {
                    Some(Request::Query(sql, reply)) => {
                        let answer = self.ask(&sql).await?;
                        drop(reply.send(answer));
                    }
                    Some(Request::Probe(reply)) => {
                        let probe = self.probe().await?;
                        drop(reply.send(Ok(probe)));
                    }
                    None => std::future::pending().await,
                },
            }
        }
    }

    /// What somebody else asks: the origin may say no to it.
    async fn ask(&mut self, sql: &str) -> Result<Result<Rows, SqlError>, ReplicationError> {
        let answer = refusable(query(&mut self.backend, "a query", sql).await)?;
        Ok(answer.map(texts))
    }

    async fn probe(&mut self) -> Result<Probe, ReplicationError> {
        let sql = format!(
            "SELECT pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn(), pg_current_snapshot(),
                    (SELECT p.oid FROM pg_publication p WHERE p.pubname = {}),
                    s.wal_status, s.safe_wal_size, s.slot_name
             FROM (SELECT) one LEFT JOIN pg_replication_slots s ON s.slot_name = {}",
            literal(&self.settings.publication),
            literal(self.slot),
        );
        let asked = Instant::now();
        let rows = query(&mut self.backend, "ask how far the origin is", &sql).await?;
        let field = |at| text(&rows, 0, at);
        let position = |at| field(at).and_then(|lsn| lsn.parse().ok());
        let (Some(insert), Some(flush), Some(snapshot)) = (position(0), position(1), field(2))
        else {
            return Err(ReplicationError::Malformed("the position of the origin".to_owned()));
        };
        if field(3) != Some(self.publication) {
            let name = self.settings.publication.clone();
            return Err(ReplicationError::PublicationDropped(name));
        }
        if field(6).is_none() || field(4) == Some("lost") {
            let why = match field(6) {
                None => "it was dropped",
                Some(_) => "it held more WAL than max_slot_wal_keep_size allows",
            };
            let slot = self.slot.to_owned();
            return Err(ReplicationError::SlotLost { slot, why: why.to_owned() });
        }
        let safe = field(5).and_then(|size| size.parse().ok());
        let slot = Note::Slot(field(4).map(str::to_owned), safe);
        let probe = Probe { asked, insert, flush, snapshot: snapshot.to_owned() };
        // Both ends live and die together, so somebody receives.
        let _ = self.notes.send(Note::Probed(probe.clone())).await;
        let _ = self.notes.send(slot).await;
        self.flush_stragglers(&probe).await?;
        Ok(probe)
    }

    /// What was written but not flushed for a whole interval is flushed by a commit of our own, for only flushed
    /// WAL is sent: an asynchronous commit, or nothing but an open transaction's beginning. The server's WAL writer
    /// would get there too, but may take its time.
    async fn flush_stragglers(&mut self, probe: &Probe) -> Result<(), ReplicationError> {
        let waited = self.unflushed.is_some_and(|target| probe.flush < target);
        self.unflushed = (probe.flush < probe.insert).then_some(probe.insert);
        if waited {
            let emit = format!("SELECT pg_logical_emit_message(true, '{FLUSH}', '')");
            if let Err(error) = self.ask(&emit).await? {
                tracing::debug!("WAL that is not flushed stays so: {error}");
            }
        }
        Ok(())
    }

    /// Tells of roles that are others than at the last look, the first of which was before the stream began.
    async fn look_at_roles(&mut self) -> Result<(), ReplicationError> {
        if self.is_blind {
            return Ok(());
        }
        let roles = roles(&mut self.backend, self.settings, &mut self.is_blind).await?;
        if let Some(now) = roles
            && self.roles.as_ref() != Some(&now)
        {
            let _ = self.notes.send(Note::Roles(now.clone())).await;
            self.roles = Some(now);
        }
        Ok(())
    }
}

/// integratedb.roles_fingerprint(), if it is there and may be called. If it may not, that is said and noted.
pub(super) async fn roles(
    backend: &mut Backend,
    settings: &ReaderSettings,
    is_blind: &mut bool,
) -> Result<Option<String>, ReplicationError> {
    if settings.publication != "integratedb" {
        return Ok(None);
    }
    let known = may_call("roles_fingerprint");
    let rows = query(backend, "look for the extension", &known).await?;
    if text(&rows, 0, 0).is_none() {
        return Ok(None);
    }
    match refusable(
        query(backend, "look at roles", "SELECT integratedb.roles_fingerprint()").await,
    )? {
        Ok(rows) => Ok(text(&rows, 0, 0).map(str::to_owned)),
        Err(error) => {
            tracing::warn!(
                reader = settings.name,
                "changes of roles are not seen: {error}. Grant by integratedb.grant_sidecar"
            );
            *is_blind = true;
            Ok(None)
        }
    }
}

/// What the origin may say no to. The connection ends with errors of some classes.
fn refusable(
    answer: Result<Table, ReplicationError>,
) -> Result<Result<Table, SqlError>, ReplicationError> {
    match answer {
        Ok(rows) => Ok(Ok(rows)),
        Err(ReplicationError::Refused { code, message, .. })
            if !code.starts_with("57P") && !code.starts_with("08") =>
        {
            Ok(Err(SqlError::Refused { code, message }))
        }
        Err(error) => Err(error),
    }
}

fn texts(rows: Table) -> Rows {
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
    rows.into_iter().map(|row| row.into_iter().map(|value| value.map(text)).collect()).collect()
}
