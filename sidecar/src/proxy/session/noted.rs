//! What a session has written, seen or left unclear, so that nothing older than that is served.

use integratedb_cache::Scope;
use integratedb_template::Effects;
use integratedb_wire::{TransactionStatus, write};

use super::Session;
use super::caching::Caching;
use super::keep::Subject;
use super::look::LOOKED_INTO;
use crate::cache::{Plan, Values};
use crate::proxy::flow::{Expect, Own};
use crate::proxy::observe::{Harm, Seen};
use crate::proxy::unit::Unit;

impl Session {
    /// Notes what a run of a statement does besides answering.
    pub(super) fn note_plan(
        &self,
        caching: &mut Caching,
        plan: &Plan,
        unit: &Unit<'_>,
        subject: &Subject,
    ) {
        if plan.description.changes_session {
            caching.forget_identity();
        }
        if plan.writes() {
            let text = subject.text(unit);
            let outline = subject.seen.outline(text);
            let values = match unit {
                Unit::Extended(extended) => Values::bound(text, outline, extended.bind),
                _ => Some(Values::of(text, outline)),
            };
            let values = values.map(|values| values.in_utf8(self.is_utf8()));
            caching.written.extend(plan.scopes(values.as_ref()));
        }
    }

    /// Notes a statement that is passed on without being looked at as a unit: in a pipeline, or in pieces.
    pub(super) fn note_loose(&mut self, seen: &Seen, types: &[u8]) {
        self.forget_labels(seen);
        let Some(caching) = &mut self.caching else { return };
        if caching.unit_left > 0 {
            return;
        }
        match seen.harm {
            Harm::None => {}
            Harm::Session => caching.forget_identity(),
            Harm::Reads | Harm::Rows => {
                let identity = caching.identity();
                let plan = identity.zip(seen.known_outline()).and_then(|(identity, outline)| {
                    caching.engine.plan(seen, outline, types, &identity)
                });
                match plan {
                    Some(plan) => {
                        caching.written.extend(plan.scopes(None));
                        if plan.description.changes_session {
                            caching.forget_identity();
                        }
                    }
                    None => self.note_unknown(),
                }
            }
            Harm::Anything => self.note_unknown(),
        }
    }

    /// Where SQL gives or takes names of statements, what they stand for is not told by what the client has prepared.
    pub(super) fn forget_labels(&mut self, seen: &Seen) {
        let names = Effects::DEALLOCATE.union(Effects::DISCARD).union(Effects::PREPARE);
        if !seen.effects.intersects(names) {
            return;
        }
        self.labels.doubt_all();
        if seen.effects.contains(Effects::PREPARE) {
            self.doubts_names = true;
        }
    }

    /// A Parse has failed that gives this name, or was skipped: it stands for what it did before, if for anything. What
    /// was sent meanwhile may have been taken for something else.
    pub(super) fn doubt(&mut self, name: &[u8]) {
        self.labels.doubt(name);
        self.note_unknown();
    }

    /// The same of a Bind that names a statement, where names are the origin's matter.
    pub(super) fn note_loose_bind(&mut self, name: &[u8]) {
        if self.caching.as_ref().is_none_or(|caching| caching.unit_left > 0) {
            return;
        }
        let label = self.labels.get(name);
        match label.and_then(|label| label.statement.clone()) {
            Some(statement) if statement.text.len() <= LOOKED_INTO => {
                self.note_loose(&statement.seen, &statement.types);
            }
            _ => self.note_unknown(),
        }
    }

    /// Something is passed on of which nothing is known.
    pub(super) fn note_unknown(&mut self) {
        if let Some(caching) = &mut self.caching
            && caching.unit_left == 0
        {
            caching.written.push(Scope::Everything);
            caching.forget_identity();
        }
    }

    /// A statement is done, as this tag says, and the client is about to hear of it.
    pub(super) fn note_complete(&mut self, completed: &[u8], is_query: bool) {
        let Some(caching) = &mut self.caching else { return };
        let is_committed =
            completed == b"COMMIT\0" || is_query && self.status == TransactionStatus::Idle;
        // It may be told before ReadyForQuery comes; what is written stays noted, as more may follow.
        if is_committed && !caching.written.is_empty() && caching.engine.follows() {
            caching.fences.push_back(caching.engine.fence(&caching.written));
        }
    }

    /// The origin has failed the query that is answered now.
    pub(super) fn note_failure(&mut self) {
        if let Some(caching) = &mut self.caching
            && let Some(underway) = &mut caching.underway
        {
            underway.has_failed = true;
            underway.fill = None;
        }
    }

    /// A unit, or anything else, is answered to its end. Gives what the client is told of its transaction, where that
    /// is not what the origin says; and writes to the scratch what the origin is told.
    pub(super) fn unit_answered(&mut self) -> Option<TransactionStatus> {
        let mut caching = self.caching.take()?;
        let told = self.answered_unit(&mut caching);
        self.caching = Some(caching);
        told
    }

    fn answered_unit(&mut self, caching: &mut Caching) -> Option<TransactionStatus> {
        let mut told = None;
        if let Some(mut underway) = caching.underway.take() {
            underway.cost = underway.started.elapsed();
            if underway.plan.is_none() && underway.run.is_some() {
                caching.written.push(Scope::Everything);
                caching.forget_identity();
            }
            let in_block = underway.in_block;
            let has_failed = underway.has_failed;
            // It is kept once it is known how far the origin was by then.
            if self.status == TransactionStatus::Idle && underway.keeps {
                caching.answered = Some(underway);
            }
            if in_block && has_failed {
                self.fail_block(caching);
                told = Some(TransactionStatus::Failed);
            } else if in_block {
                told = Some(TransactionStatus::Active);
            }
        }
        if self.status == TransactionStatus::Idle && told != Some(TransactionStatus::Failed) {
            // What was sent after this may be written later: then it is fenced again.
            let scopes = match self.flow.owes_client() {
                true => caching.written.clone(),
                false => std::mem::take(&mut caching.written),
            };
            if !scopes.is_empty() && caching.engine.follows() {
                // Before the client learns of it, nothing older is served any more.
                caching.fences.push_back(caching.engine.fence(&scopes));
            }
            // What was not followed by the question is so now.
            let may_ask = !self.unsound && !caching.is_position_asked && self.flow.is_empty();
            if !caching.fences.is_empty() && may_ask {
                caching.is_position_asked = true;
                self.call_position(caching.contacts);
            }
        }
        told
    }

    /// A query that ran by itself has failed: the block that the client believes it in is opened, and made to fail.
    fn fail_block(&mut self, caching: &mut Caching) {
        self.open_block(caching);
        write::frontend::bind_text(&mut self.scratch, b"", b"integratedb_none", &[])
            .expect("a short name without zero bytes");
        write::frontend::sync(&mut self.scratch);
        self.flow.push(Expect::Own(Own::Quiet));
        caching.contact();
    }
}

/// Notes what may be done by something that can't be described.
pub(super) fn note_harm(caching: &mut Caching, harm: Harm) {
    if harm == Harm::Anything {
        caching.written.push(Scope::Everything);
    }
    if matches!(harm, Harm::Anything | Harm::Session) {
        caching.forget_identity();
    }
}
