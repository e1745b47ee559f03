//! From messages of the stream to calls of the sinks.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use integratedb_wire::pgoutput::{self, Message};
use integratedb_wire::{Lsn, Oids};

use super::error::ReplicationError;
use super::relation::{Relation, Relations};
use super::sink::{Begin, Commit, Connected, PgTime, Sink};
use super::sql::FLUSH;

/// The sinks, and where the stream is.
pub(super) struct Delivery {
    sinks: Vec<Box<dyn Sink>>,
    relations: Relations,
    /// All that committed before is delivered. None before the first connection.
    position: Option<Lsn>,
    open: Open,
    /// Changes delivered, and transactions.
    pub(super) changes: u64,
    pub(super) transactions: u64,
}

/// The transaction that the stream is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    None,
    /// Its xid.
    Delivered(u32),
    /// The origin sends it again though it was delivered.
    Skipped,
}

impl Delivery {
    pub(super) fn new(sinks: Vec<Box<dyn Sink>>) -> Self {
        Self {
            sinks,
            relations: Relations::default(),
            position: None,
            open: Open::None,
            changes: 0,
            transactions: 0,
        }
    }

    /// All that committed before is delivered, if there was a connection.
    pub(super) const fn position(&self) -> Option<Lsn> {
        self.position
    }

    pub(super) fn connected(&mut self, connected: &Connected) {
        self.relations.forget();
        self.open = Open::None;
        self.position = Some(connected.start);
        self.sinks.iter_mut().for_each(|sink| sink.connected(connected));
    }

    pub(super) fn disconnected(&mut self, why: &str) {
        self.open = Open::None;
        self.sinks.iter_mut().for_each(|sink| sink.disconnected(why));
    }

    pub(super) fn lost(&mut self, why: &str) {
        self.position = None;
        self.sinks.iter_mut().for_each(|sink| sink.lost(why));
    }

    pub(super) fn fresh(&mut self, as_of: Instant) {
        self.sinks.iter_mut().for_each(|sink| sink.fresh(as_of));
    }

    pub(super) fn roles_changed(&mut self, fingerprint: &str) {
        self.sinks.iter_mut().for_each(|sink| sink.roles_changed(fingerprint));
    }

    /// What every sink has done with. Without sinks, all that came.
    pub(super) fn confirmable(&self) -> Lsn {
        let position = self.position.unwrap_or_default();
        self.sinks.iter().map(|sink| sink.confirmable()).fold(position, Lsn::min)
    }

    /// Whether all sinks take the next call.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for sink in &mut self.sinks {
            std::task::ready!(sink.poll_ready(cx));
        }
        Poll::Ready(())
    }

    /// The origin says that all that committed before `end` was sent. In a transaction this would be right too, but
    /// sinks need not think about it.
    pub(super) fn keepalive(&mut self, end: Lsn) {
        if self.open == Open::None {
            self.advance(end);
        }
    }

    fn advance(&mut self, to: Lsn) {
        if self.position.is_none_or(|position| position < to) {
            self.position = Some(to);
            self.sinks.iter_mut().for_each(|sink| sink.position(to));
        }
    }

    /// Takes one message of the stream.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<(), ReplicationError> {
        match Message::read(data)? {
            Message::Begin(begin) => self.begin(&begin),
            Message::Commit(commit) => self.commit(&commit),
            Message::Relation(told) => {
                self.relations.learn(told);
                Ok(())
            }
            Message::Change(oid, change) => self.change(oid, &change),
            Message::Truncate(oids, truncate) => self.truncate(oids, truncate),
            Message::Logical(message) if message.prefix == FLUSH.as_bytes() => Ok(()),
            Message::Logical(message) => {
                if message.transactional && !self.is_delivered()? {
                    return Ok(());
                }
                self.sinks.iter_mut().for_each(|sink| sink.message(&message));
                Ok(())
            }
            Message::Origin | Message::Type => Ok(()),
        }
    }

    fn begin(&mut self, begin: &pgoutput::Begin) -> Result<(), ReplicationError> {
        if self.open != Open::None {
            return Err(malformed("a transaction begins inside of another"));
        }
        if self.position.is_some_and(|position| begin.final_lsn < position) {
            self.open = Open::Skipped;
            return Ok(());
        }
        self.open = Open::Delivered(begin.xid);
        let begin =
            Begin { xid: begin.xid, final_lsn: begin.final_lsn, commit_time: PgTime(begin.micros) };
        self.sinks.iter_mut().for_each(|sink| sink.begin(&begin));
        Ok(())
    }

    fn commit(&mut self, commit: &pgoutput::Commit) -> Result<(), ReplicationError> {
        let xid = match std::mem::replace(&mut self.open, Open::None) {
            Open::None => return Err(malformed("a commit of no transaction")),
            Open::Skipped => return Ok(()),
            Open::Delivered(xid) => xid,
        };
        let pgoutput::Commit { commit_lsn, end_lsn, micros } = *commit;
        let commit = Commit { xid, commit_lsn, end_lsn, time: PgTime(micros) };
        self.transactions += 1;
        self.position = Some(end_lsn);
        self.sinks.iter_mut().for_each(|sink| sink.commit(&commit));
        Ok(())
    }

    fn change(&mut self, oid: u32, change: &pgoutput::Change<'_>) -> Result<(), ReplicationError> {
        if !self.is_delivered()? {
            return Ok(());
        }
        let relation = known(&self.relations, oid)?;
        if !fits(change, relation) {
            return Err(malformed("a row has not as many values as its table has columns"));
        }
        self.changes += 1;
        self.sinks.iter_mut().for_each(|sink| sink.change(relation, change));
        Ok(())
    }

    fn truncate(
        &mut self,
        oids: Oids<'_>,
        truncate: pgoutput::Truncate,
    ) -> Result<(), ReplicationError> {
        if !self.is_delivered()? {
            return Ok(());
        }
        let relations: Vec<&Arc<Relation>> =
            oids.iter().map(|oid| known(&self.relations, oid)).collect::<Result<_, _>>()?;
        self.changes += 1;
        self.sinks.iter_mut().for_each(|sink| sink.truncate(&relations, truncate));
        Ok(())
    }

    /// Whether what comes now is to be delivered.
    fn is_delivered(&self) -> Result<bool, ReplicationError> {
        match self.open {
            Open::None => Err(malformed("a change in no transaction")),
            Open::Skipped => Ok(false),
            Open::Delivered(_) => Ok(true),
        }
    }
}

fn fits(change: &pgoutput::Change<'_>, relation: &Relation) -> bool {
    use pgoutput::{Change, Old, Row};
    let row = |row: &Row<'_>| row.len() == relation.columns.len();
    let old = |(Old::Key(before) | Old::Row(before)): &Old<'_>| row(before);
    match change {
        Change::Insert { new } => row(new),
        Change::Update { old: before, new } => row(new) && before.as_ref().is_none_or(old),
        Change::Delete { old: before } => old(before),
    }
}

fn known(relations: &Relations, oid: u32) -> Result<&Arc<Relation>, ReplicationError> {
    relations.get(oid).ok_or_else(|| malformed("a change of a table that was not described"))
}

fn malformed(why: &str) -> ReplicationError {
    ReplicationError::Malformed(why.to_owned())
}
