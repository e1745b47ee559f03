//! Where transactions go.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use integratedb_wire::Lsn;
use integratedb_wire::pgoutput::{Change, LogicalMessage, Truncate};

use super::relation::Relation;

/// What the extension's messages in the log begin with.
pub(crate) const MESSAGE_PREFIX: &[u8] = b"integratedb";

/// A time of the origin's clock, in microseconds since 2000-01-01.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PgTime(pub i64);

impl PgTime {
    /// From the start of Unix's time to 2000-01-01.
    const OFFSET: Duration = Duration::from_secs(946_684_800);

    /// The same by the system's reckoning.
    pub fn to_system_time(self) -> SystemTime {
        let distance = Duration::from_micros(self.0.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH + Self::OFFSET;
        let moved =
            if self.0 < 0 { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
        moved.unwrap_or(epoch)
    }

    /// In microseconds since 1970.
    pub fn unix_micros(self) -> i64 {
        // 30 years do not overflow what the origin's clock can tell.
        self.0.saturating_add(i64::try_from(Self::OFFSET.as_micros()).unwrap_or(i64::MAX))
    }

    /// Our own clock.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let micros = since.saturating_sub(Self::OFFSET).as_micros();
        Self(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// The start of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The lower 32 bits of its id; that of a subtransaction is never told.
    pub xid: u32,
    /// Where its commit is.
    pub final_lsn: Lsn,
    /// When it committed.
    pub commit_time: PgTime,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The lower 32 bits of its id.
    pub xid: u32,
    /// Where the commit is.
    pub commit_lsn: Lsn,
    /// Where it ends: a reader that is there has applied it.
    pub end_lsn: Lsn,
    /// When it committed.
    pub time: PgTime,
}

/// A connection whose transactions follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The slot was made just now: what committed before `start` is not delivered, if it was not before.
    pub slot_is_new: bool,
    /// The origin's timeline.
    pub timeline: u32,
    /// The origin's system identifier.
    pub system_id: String,
    /// Every transaction whose commit is at or after this is delivered. A sink that keeps its own position compares.
    pub start: Lsn,
    /// Where the origin's WAL ended, as far as it was flushed, when it was connected to.
    pub flushed: Lsn,
    /// pg_current_snapshot() since the slot is there. A transaction that is not visible in it may have written its
    /// commit before `start` and is then never delivered, though it becomes visible only later. What is to be kept right
    /// by what follows has to be read when all that had a number by then have ended: see [`Sql::snapshot`](super::Sql).
    pub snapshot: String,
    /// The publication's oid. Another one may have had other members meanwhile.
    pub publication: String,
    /// integratedb.roles_fingerprint(), if it can be asked. Changes from here on are told.
    pub roles: Option<String>,
}

/// Receives what a reader delivers. Calls come one after the other, in the order of the origin's commits; a sink
/// does not wait in them. One that needs time takes what it gets into a bounded queue and says in
/// [`Sink::poll_ready`] when that is full: the reader then stops reading, and goes on to tell the origin that it
/// lives.
pub trait Sink: Send {
    /// A connection stands.
    fn connected(&mut self, connected: &Connected);

    /// The connection is gone. A transaction without its commit never was: it comes again, from its start.
    fn disconnected(&mut self, why: &str);

    /// Transactions may be missing: what was delivered before no longer tells how the origin is.
    fn lost(&mut self, why: &str);

    /// A transaction begins.
    fn begin(&mut self, begin: &Begin);

    /// A row of a table changed. As long as the table keeps its shape, it is the same relation in memory.
    fn change(&mut self, relation: &Arc<Relation>, change: &Change<'_>);

    /// Tables were emptied.
    fn truncate(&mut self, relations: &[&Arc<Relation>], truncate: Truncate);

    /// A message: of the transaction that is open if it is transactional, else of none.
    fn message(&mut self, message: &LogicalMessage<'_>);

    /// The transaction ends.
    fn commit(&mut self, commit: &Commit);

    /// All that committed before this position is delivered; there may have been nothing.
    fn position(&mut self, position: Lsn);

    /// All that was committed at this time is delivered.
    fn fresh(&mut self, _as_of: Instant) {}

    /// Roles or their memberships changed, which no transaction tells; they have this fingerprint now.
    fn roles_changed(&mut self, _fingerprint: &str) {}

    /// Up to where the origin may forget. A sink that keeps nothing to be done answers with the latest position it
    /// was given, so that an idle one holds no WAL.
    fn confirmable(&self) -> Lsn;

    /// Whether the next call may come. When it is pending, the sink wakes the task of `cx` later.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_moved_by_thirty_years() {
        let second = PgTime(1_000_000).to_system_time();
        let unix = second.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        assert_eq!(unix.as_secs(), 946_684_801);
        assert!(PgTime(i64::MIN).to_system_time() <= second);
        assert!(PgTime::now() > PgTime(0));
    }
}
