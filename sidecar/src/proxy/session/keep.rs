//! Answering from what is kept.
//!
//! Only whole units are looked at, and only while nothing is owed: an answer from here must not come before an earlier
//! one from the origin.

use std::sync::Arc;
use std::time::Instant;

use integratedb_template::Class;
use integratedb_wire::{Target, TransactionStatus, write};

use super::Session;
use super::caching::{Awaited, Caching, Pause};
use super::look::LOOKED_INTO;
use crate::cache::Found;
use crate::proxy::observe::{Control, Seen};
use crate::proxy::report::{self, Report};
use crate::proxy::statements::{Statement, reading};
use crate::proxy::unit::{self, Extended, Unit};

/// Bytes that a client has still to take beyond which it is given no more, as it does not read.
const MOST_OUTPUT: usize = 256 << 10;

/// Whether the unit at the start of what a client said is done with.
pub(super) enum Kept {
    /// The client has its answer; the unit has so many bytes.
    Answered(usize),
    /// It is to be tried again when the session's pause is over.
    Waits,
    /// It may be answered once the origin has said how far it is.
    Asks,
    /// It has to go to the origin.
    No,
}

/// What a unit runs.
pub(super) struct Subject {
    pub(super) seen: Arc<Seen>,
    /// Of the extended protocol.
    pub(super) statement: Option<Arc<Statement>>,
}

impl Subject {
    pub(super) fn text<'a>(&'a self, unit: &Unit<'a>) -> &'a [u8] {
        match (unit, &self.statement) {
            (_, Some(statement)) => &statement.text,
            (Unit::Simple { text, .. }, None) => text,
            (Unit::Extended(_) | Unit::Preparation { .. }, None) => b"",
        }
    }

    pub(super) fn types(&self) -> &[u8] {
        self.statement.as_ref().map_or(&[], |statement| &statement.types)
    }

    pub(super) fn hash(&self) -> u128 {
        self.statement.as_ref().map_or(self.seen.hash, |statement| statement.hash)
    }
}

impl Session {
    /// Answers the unit at the start of `bytes`, if that needs no origin.
    pub(super) fn answer_kept(&mut self, bytes: &[u8]) -> Kept {
        let Some(mut caching) = self.caching.take() else { return Kept::No };
        let kept = self.answer_unit(&mut caching, bytes);
        self.caching = Some(caching);
        kept
    }

    /// The same, unless it was tried just before there was a connection.
    pub(super) fn answer_if_not_tried(&mut self, bytes: &[u8]) -> Kept {
        let was_tried =
            self.caching.as_mut().is_some_and(|caching| std::mem::take(&mut caching.was_tried));
        if was_tried { Kept::No } else { self.answer_kept(bytes) }
    }

    fn answer_unit(&mut self, caching: &mut Caching, bytes: &[u8]) -> Kept {
        if !self.flow.is_empty()
            || self.output.len() > MOST_OUTPUT
            || self.unsound
            || self.status != TransactionStatus::Idle
            || caching.unit_left > 0
            || caching.keeps_back_enough()
            || self.terminated
        {
            return Kept::No;
        }
        caching.is_kept = false;
        let Some(unit) = unit::read(bytes) else { return Kept::No };
        let Some(subject) = self.subject(&unit) else { return Kept::No };
        // Within a block it goes on at the origin, which has to know that the block has failed.
        if std::mem::take(&mut caching.is_cancelled) && caching.block.is_none() {
            self.open_answer(&unit);
            Report::error(report::QUERY_CANCELED, "canceling statement due to user request")
                .write(self.output.tail());
            write::backend::ready(self.output.tail(), TransactionStatus::Idle);
            caching.end_waits();
            self.name_statement(caching, &unit, subject);
            return Kept::Answered(unit.length());
        }
        if subject.seen.control != Control::None {
            return match self.control(caching, &unit, &subject) {
                true => Kept::Answered(unit.length()),
                false => Kept::No,
            };
        }
        if subject.seen.class != Class::Dql {
            return Kept::No;
        }
        let Some(identity) = caching.identity().filter(|identity| identity.is_usable) else {
            return Kept::No;
        };
        if self.is_outdated(caching, &unit) {
            return Kept::No;
        }
        let (wants_description, parameters) = match &unit {
            Unit::Simple { .. } | Unit::Preparation { .. } => (true, &[][..]),
            Unit::Extended(extended) => (extended.describes, extended.parameters),
        };
        let key = caching.engine.key(&subject.seen, subject.hash(), &identity, parameters);
        let (seen, now) = (caching.seen.as_mut(), self.active);
        let found = match caching.read.take() {
            None => caching.engine.lookup(key, seen, now),
            Some(read) => caching.engine.lookup_read(key, read, seen, now),
        };
        if let Found::Hit(entry) | Found::OnDisk(entry) = &found {
            if wants_description && !entry.is_described() {
                return Kept::No;
            }
            if caching.engine.revalidates() && !caching.is_revalidated {
                return Kept::Asks;
            }
        }
        match found {
            Found::Hit(entry) => {
                let Some(answer) = entry.answer() else { return Kept::No };
                caching.end_waits();
                self.open_answer(&unit);
                let bytes = if wants_description { answer.all() } else { answer.rows() };
                self.output.tail().extend_from_slice(bytes);
                self.close_answer(caching, &unit);
                caching.engine.note_hit(&entry);
                self.name_statement(caching, &unit, subject);
                Kept::Answered(unit.length())
            }
            // If it was read for already, it was too slow, or another has taken its place meanwhile.
            Found::OnDisk(entry) if !caching.has_read => match caching.engine.read(key, entry) {
                Some(reading) => {
                    caching.has_read = true;
                    self.pause(caching, Awaited::Read(reading))
                }
                None => Kept::No,
            },
            Found::Behind(cost) if !caching.has_waited && caching.engine.is_worth_waiting(cost) => {
                caching.has_waited = true;
                let reached = caching.engine.reached(caching.seen.unwrap_or_default());
                self.pause(caching, Awaited::Position(reached))
            }
            Found::Behind(_) | Found::Unplaced => {
                // It is still good; only this session can't have it now.
                caching.is_kept = true;
                Kept::No
            }
            _ => Kept::No,
        }
    }

    pub(super) fn pause(&self, caching: &mut Caching, what: Awaited) -> Kept {
        let patience = match &what {
            Awaited::Position(_) => caching.engine.settings().wait(),
            Awaited::Answer(_) => caching.engine.settings().flight(),
            Awaited::Read(_) => caching.engine.settings().read(),
        };
        let deadline = Box::pin(tokio::time::sleep(patience));
        let (since, asked) = (Instant::now(), self.key.wait());
        caching.pause = Some(Pause { what, deadline, since, asked });
        Kept::Waits
    }

    /// Whether the session waits for something that is not its client.
    pub(super) fn is_paused(&self) -> bool {
        self.caching.as_ref().is_some_and(|caching| caching.pause.is_some())
    }

    /// BEGIN, COMMIT and ROLLBACK of a block that the origin need not know of.
    fn control(&mut self, caching: &mut Caching, unit: &Unit<'_>, subject: &Subject) -> bool {
        // The origin refuses parameters, in its own words.
        if let Unit::Extended(extended) = unit
            && !(subject.types().is_empty() && has_no_values(extended.parameters))
        {
            return false;
        }
        let tag = match (subject.seen.control, caching.block.is_some()) {
            (Control::Begin, false) => {
                // Only what reads a new snapshot for each statement may be answered from several.
                let may_wait = caching.identity().is_some_and(|identity| {
                    identity.is_usable && identity.reads_committed && caching.engine.serves()
                });
                if !may_wait {
                    return false;
                }
                caching.block = Some(subject.text(unit).into());
                match subject.seen.template.text.starts_with("start") {
                    true => "START TRANSACTION",
                    false => "BEGIN",
                }
            }
            (Control::Commit, true) => {
                caching.block = None;
                "COMMIT"
            }
            (Control::Rollback, true) => {
                caching.block = None;
                "ROLLBACK"
            }
            _ => return false,
        };
        self.open_answer(unit);
        let output = self.output.tail();
        if matches!(unit, Unit::Extended(Extended { describes: true, .. })) {
            write::backend::no_data(output);
        }
        write::backend::command_complete(output, tag).expect("a short text");
        self.close_answer(caching, unit);
        subject.seen.template.figures.note(self.active.elapsed(), 0, false);
        // A text without constants is the same for all.
        let subject =
            Subject { seen: Arc::clone(&subject.seen), statement: subject.statement.clone() };
        self.name_statement(caching, unit, subject);
        true
    }

    /// What comes before the answer proper.
    fn open_answer(&mut self, unit: &Unit<'_>) {
        if let Unit::Extended(extended) = unit {
            let output = self.output.tail();
            if extended.parse.is_some() {
                write::backend::parse_complete(output);
            }
            write::backend::bind_complete(output);
        }
    }

    /// What comes after it.
    fn close_answer(&mut self, caching: &Caching, unit: &Unit<'_>) {
        let output = self.output.tail();
        if matches!(unit, Unit::Extended(Extended { closes: true, .. })) {
            write::backend::close_complete(output);
        }
        let status = match caching.block {
            Some(_) => TransactionStatus::Active,
            None => TransactionStatus::Idle,
        };
        write::backend::ready(output, status);
    }

    /// What a name of the unit stands for from now on, though the origin does not know it.
    fn name_statement(&mut self, caching: &mut Caching, unit: &Unit<'_>, subject: Subject) {
        match unit {
            Unit::Extended(Extended { parse: Some(parse), .. }) => {
                let Some(statement) = subject.statement else { return };
                if self.shares() {
                    self.names.set(parse.name, Some(statement));
                } else {
                    self.label(parse.name, subject.seen, Some(statement));
                    let room = self.cache.statements().room();
                    caching.keep_back(parse.name, parse.message, room);
                }
            }
            Unit::Extended(_) | Unit::Preparation { .. } => {}
            // A Query takes the statement without a name away.
            Unit::Simple { .. } if self.shares() => drop(self.names.set(b"", None)),
            // So the origin is told before it is told anything else: it has not seen the Query.
            Unit::Simple { .. } => {
                if self.labels.remove(b"") {
                    let mut close = Vec::new();
                    write::frontend::close(&mut close, Target::Statement, b"")
                        .expect("a short name");
                    caching.keep_back(b"", &close, self.cache.statements().room());
                }
            }
        }
    }

    /// What a unit runs; `None` for what can't be looked into or is not known.
    pub(super) fn subject(&self, unit: &Unit<'_>) -> Option<Subject> {
        match unit {
            Unit::Simple { text, .. } => {
                let seen = self.look_at(text)?;
                Some(Subject { seen, statement: None })
            }
            Unit::Extended(Extended { parse: Some(parse), .. }) => {
                let is_refused = !parse.name.is_empty() && self.may_be_taken(parse.name);
                if is_refused || self.lacks_room(parse.name, parse.text, parse.types).is_some() {
                    return None;
                }
                let seen = self.look_at(parse.text)?;
                let statement = self.intern(parse.text, parse.types, &seen);
                Some(Subject { seen, statement: Some(statement) })
            }
            Unit::Preparation { .. } => None,
            Unit::Extended(extended) => {
                let statement = self.statement(extended.statement)?;
                // What was seen of it is only its beginning.
                if statement.text.len() > LOOKED_INTO {
                    return None;
                }
                Some(Subject { seen: Arc::clone(&statement.seen), statement: Some(statement) })
            }
        }
    }

    /// Whether a statement was prepared before the schema changed: then the origin decides whether it still answers in
    /// the same shape.
    fn is_outdated(&self, caching: &Caching, unit: &Unit<'_>) -> bool {
        matches!(unit, Unit::Extended(Extended { parse: None, statement, .. })
            if !caching.is_current(statement))
    }

    pub(super) fn intern(&self, text: &[u8], types: &[u8], seen: &Arc<Seen>) -> Arc<Statement> {
        self.cache.statements().intern(text, types, &reading(&self.params), seen)
    }

    /// How much all statements may take, where nothing is left for this one. Without a name, one that is not long finds
    /// room once the one before is gone; and a name that is taken gives none to another.
    pub(super) fn lacks_room(&self, name: &[u8], text: &[u8], types: &[u8]) -> Option<usize> {
        let needs_none = match name {
            b"" => !self.flow.is_owed() && text.len() + types.len() <= LOOKED_INTO,
            name => self.names.get(name).is_some(),
        };
        if needs_none { None } else { self.cache.statements().room().limit_reached() }
    }

    /// Whether the origin may refuse to give this name to a statement.
    fn may_be_taken(&self, name: &[u8]) -> bool {
        match self.shares() {
            true => self.names.get(name).is_some(),
            false => self.doubts_names || self.labels.get(name).is_some(),
        }
    }

    fn statement(&self, name: &[u8]) -> Option<Arc<Statement>> {
        match self.shares() {
            true => self.names.get(name).cloned(),
            false => self.labels.get(name).and_then(|label| label.statement.clone()),
        }
    }
}

/// Whether what follows the names in a Bind has no parameters: at most one format for all, and no values.
fn has_no_values(parameters: &[u8]) -> bool {
    matches!(parameters, [0, 0, 0, 0, ..] | [0, 1, _, _, 0, 0, ..])
}
