//! Sending on what is not kept so that its answer can be.
//!
//! What the proxy asks the origin for itself goes before and after a unit, in the same send. It is called by
//! FunctionCall, which leaves nothing in a session and runs, outside of a block, in a transaction of its own:
//! - before: who the session is and what the statement depends on, where that is not known; and what is visible. The
//!   query's own snapshot is taken later, so an entry that is dropped by all that the earlier one does not see is
//!   dropped by all that concerns it.
//! - after: where the log ends. All that the query has seen or written is before that.

use std::sync::Arc;
use std::time::Duration;

use integratedb_cache::Joined;
use integratedb_template::Class;
use integratedb_wire::tag::frontend as tag;
use integratedb_wire::{TransactionStatus, frame, write};

use super::Session;
use super::caching::{Awaited, Caching, Fill, Run, Underway};
use super::keep::Subject;
use super::noted::note_harm;
use crate::proxy::backend::Backend;
use crate::proxy::cache::Cache;
use crate::proxy::flow::{Expect, Own};
use crate::proxy::observe::{Control, Harm};
use crate::proxy::unit::{self, Extended, Unit};

/// What is to be done before a client's message is passed on.
#[derive(PartialEq, Eq)]
pub(super) enum Before {
    /// The scratch goes first.
    Send,
    /// Nothing is passed on before what the proxy has asked is answered, or the session's pause is over.
    Hold,
}

impl Session {
    /// Sees to it that the cache learns from what is passed on next: writes to the scratch what goes before it.
    pub(super) fn before_unit(&mut self, bytes: &[u8], link: &mut Backend) -> Before {
        let Some(mut caching) = self.caching.take() else { return Before::Send };
        let before = match frame::header(bytes) {
            Ok(Some(header)) if header.tag != tag::TERMINATE && caching.unit_left == 0 => {
                self.before(&mut caching, bytes, link)
            }
            _ => Before::Send,
        };
        self.caching = Some(caching);
        before
    }

    fn before(&mut self, caching: &mut Caching, bytes: &[u8], link: &mut Backend) -> Before {
        // What the proxy asked now would be answered to the client.
        if self.unsound {
            caching.contact();
            return Before::Send;
        }
        let unit = match self.flow.is_empty() {
            true => unit::read(bytes),
            // What is done for a block is decided one by one; and a position that is on its way may do for a hit.
            false if self.flow.is_owed() && caching.block.is_some() => return Before::Hold,
            false if caching.is_position_asked && self.may_wait_for_position(bytes) => {
                return Before::Hold;
            }
            false => None,
        };
        if caching.engine.is_retired() && self.flow.is_empty() && caching.block.is_none() {
            self.follow_engine(caching);
        }
        if let Some(Unit::Preparation { length }) = unit {
            self.send_kept_back(caching, None);
            // It reads nothing, so it does as well outside of the block; should it fail, so does that.
            if caching.block.is_some() {
                caching.underway = Some(Box::new(Underway::preparation(self.active)));
            }
            caching.unit_left = length;
            return Before::Send;
        }
        let subject = unit.as_ref().and_then(|unit| self.subject(unit));
        if let Some(subject) = &subject {
            self.forget_labels(&subject.seen);
        }
        let (Some(unit), Some(subject)) = (unit, subject) else {
            self.send_kept_back(caching, None);
            self.open_block(caching);
            caching.contact();
            return Before::Send;
        };
        self.send_kept_back(caching, Some(&unit));
        let is_open = self.status != TransactionStatus::Idle;
        let is_judged = matches!(subject.seen.harm, Harm::Reads | Harm::Rows);
        if subject.seen.control == Control::Begin && !is_open {
            // In the block it could not be asked any more.
            self.ask_identity(caching, link);
        }
        let plan = match is_judged {
            true => self.plan(caching, &unit, &subject, is_open, link),
            false => None,
        };
        let is_kept = std::mem::take(&mut caching.is_kept);
        let keeps = subject.seen.class == Class::Dql
            && !is_open
            && !is_kept
            && match &plan {
                Some(plan) => {
                    caching.is_usable() && caching.engine.keeps(&subject.seen.template, plan)
                }
                // It may turn out to be one to keep; but to run it outside of its block, that has to be known.
                None => caching.block.is_none() && caching.engine.can_describe(),
            };
        let in_block = keeps && caching.block.is_some();
        let is_alone = !is_open && (in_block || !self.open_block(caching));
        if let Some(plan) = &plan {
            self.note_plan(caching, plan, &unit, &subject);
        }
        // What a function leaves in a connection, the next client of it would have as well.
        link.is_doubtful |= match &plan {
            Some(plan) => plan.description.changes_session,
            None => subject.seen.harm == Harm::Anything,
        };
        if is_judged && (plan.is_none() || keeps) {
            let mut fill = None;
            if keeps && is_alone {
                match self.join_flight(caching, &unit, &subject) {
                    Some(hold) => return hold,
                    None => fill = Some(self.begin_fill(caching, &subject)),
                }
            }
            let run = match (&unit, &subject.statement) {
                (Unit::Extended(extended), Some(statement)) => {
                    Run::Bound { statement: Arc::clone(statement), bind: extended.bind.into() }
                }
                _ => Run::Simple(subject.text(&unit).into()),
            };
            let identity = caching.identity();
            caching.underway = Some(Box::new(Underway {
                seen: Some(Arc::clone(&subject.seen)),
                run: Some(run),
                identity,
                plan,
                in_block,
                is_utf8: self.is_utf8(),
                keeps: fill.is_some(),
                fill,
                has_failed: false,
                started: self.active,
                cost: Duration::ZERO,
            }));
        } else if !is_judged {
            note_harm(caching, subject.seen.harm);
        }
        caching.end_waits();
        if let Unit::Extended(extended) = &unit {
            caching.note_current(extended.statement);
        }
        caching.contact();
        caching.unit_left = unit.length();
        caching.asks_position = match subject.seen.control {
            Control::Commit | Control::Rollback => is_open,
            Control::Begin => false,
            Control::None => is_alone && is_judged,
        };
        Before::Send
    }

    /// Whether only the answer to a question for the position is owed, and what comes next may be answered from what
    /// is kept once it is there.
    fn may_wait_for_position(&self, bytes: &[u8]) -> bool {
        self.flow.owes_only_own()
            && self.status == TransactionStatus::Idle
            && unit::read(bytes).and_then(|unit| self.subject(&unit)).is_some_and(|subject| {
                subject.seen.class == Class::Dql || subject.seen.control == Control::Begin
            })
    }

    /// The origin learns of the statements that it does not know yet, but for one that the unit itself prepares.
    fn send_kept_back(&mut self, caching: &mut Caching, unit: Option<&Unit<'_>>) {
        if !caching.has_kept_back() {
            return;
        }
        if let Some(Unit::Extended(Extended { parse: Some(parse), .. })) = unit {
            caching.drop_kept_back(parse.name);
        }
        for message in caching.take_kept_back() {
            self.scratch.extend_from_slice(&message);
            // One that fails now must not take the others with it.
            write::frontend::sync(&mut self.scratch);
            self.flow.push(Expect::Own(Own::Parse));
        }
    }

    /// The origin learns of the block that it does not know yet; false if there is none.
    pub(super) fn open_block(&mut self, caching: &mut Caching) -> bool {
        let Some(text) = caching.block.take() else { return false };
        write::frontend::query(&mut self.scratch, &text).expect("it came in a message");
        self.flow.push(Expect::Own(Own::Begin));
        true
    }

    /// After a reload that changed what is kept: from here on by the new settings.
    fn follow_engine(&mut self, caching: &mut Caching) {
        self.send_kept_back(caching, None);
        // Whoever has a connection of its own stays at the origin that it is at.
        let is_there = |next: &Arc<Cache>| next.settings().origin == self.cache.settings().origin;
        let cache = self.registry.cache(self.cache.id()).filter(is_there);
        let engine = cache.as_ref().and_then(|cache| cache.engine(caching.database()));
        if let Some(engine) = engine {
            caching.follow(Arc::clone(engine));
        }
    }

    /// Waits for another session that fetches the same; `None` if there is none, or this one goes first.
    fn join_flight(
        &mut self,
        caching: &mut Caching,
        unit: &Unit<'_>,
        subject: &Subject,
    ) -> Option<Before> {
        // What is written already has to be sent.
        if !self.scratch.is_empty() || caching.has_waited {
            return None;
        }
        let identity = caching.identity()?;
        let key = caching.engine.key(&subject.seen, subject.hash(), &identity, parameters(unit));
        match caching.engine.join(key) {
            Joined::Lead(leader) => {
                caching.leads = Some(leader);
                None
            }
            Joined::Follow(follower) => {
                caching.has_waited = true;
                self.pause(caching, Awaited::Answer(follower));
                Some(Before::Hold)
            }
        }
    }

    fn begin_fill(&mut self, caching: &mut Caching, subject: &Subject) -> Fill {
        self.ask_snapshot();
        caching.engine.note_miss(&subject.seen.template);
        Fill::new(caching.engine.begin(), caching.leads.take())
    }

    /// Whether what the client sends is what the origin has, and its log says.
    pub(super) fn is_utf8(&self) -> bool {
        let is = |name: &[u8]| self.params.get(name) == Some(b"UTF8");
        is(b"client_encoding") && is(b"server_encoding")
    }
}

fn parameters<'a>(unit: &Unit<'a>) -> &'a [u8] {
    match unit {
        Unit::Extended(extended) => extended.parameters,
        _ => b"",
    }
}
