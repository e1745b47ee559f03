//! Sending on what is not kept so that its answer can be, and knowing what was written and seen.
//!
//! What the proxy asks the origin for itself goes before and after a unit, in the same send. It is called by
//! FunctionCall, which leaves nothing in a session and runs, outside of a block, in a transaction of its own:
//! - before: who the session is and what the statement depends on, where that is not known; and what is visible. The
//!   query's own snapshot is taken later, so an entry that is dropped by all that the earlier one does not see is
//!   dropped by all that concerns it.
//! - after: where the log ends. All that the query has seen or written is before that.

use std::sync::Arc;
use std::time::Duration;

use integratedb_cache::{Answer, Joined, Lsn, Scope, Snapshot};
use integratedb_template::{Class, Effects};
use integratedb_wire::tag::frontend as tag;
use integratedb_wire::{Backend as Message, TransactionStatus, frame, write};

use super::caching::{Awaited, Caching, Fill, Run, Underway};
use super::keep::Subject;
use super::up::LOOKED_INTO;
use super::{End, Session};
use crate::cache::{Fetched, Plan, Values};
use crate::proxy::backend::Backend;
use crate::proxy::flow::{Call, Expect, Own};
use crate::proxy::observe::{Control, Harm, Seen};
use crate::proxy::report::{self, Report};
use crate::proxy::unit::{self, Extended, Unit};

/// OIDs of functions of PostgreSQL, the same in all versions: pg_current_snapshot, pg_current_wal_insert_lsn.
const CURRENT_SNAPSHOT: u32 = 5061;
const CURRENT_POSITION: u32 = 2852;

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
                    None => fill = Some(self.begin_fill(caching, &unit, &subject)),
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
        (caching.has_waited, caching.is_revalidated) = (false, false);
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

    /// Asks the origin how far it is, for a unit that could be answered from what is kept.
    pub(super) fn ask_position(&mut self) {
        let Some(caching) = &mut self.caching else { return };
        caching.is_revalidated = true;
        caching.is_position_asked = true;
        let contacts = caching.contacts;
        self.call(Call::Position(contacts), CURRENT_POSITION, &[], true);
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
    fn open_block(&mut self, caching: &mut Caching) -> bool {
        let Some(text) = caching.block.take() else { return false };
        write::frontend::query(&mut self.scratch, &text).expect("it came in a message");
        self.flow.push(Expect::Own(Own::Begin));
        true
    }

    fn call(&mut self, call: Call, function: u32, arguments: &[Option<&[u8]>], is_binary: bool) {
        write::frontend::function_call(&mut self.scratch, function, arguments, is_binary)
            .expect("the arguments came in a message");
        self.flow.push(Expect::Own(Own::Call(call)));
    }

    /// What is known of a statement; asks for it, and for who the session is, where that is not known.
    fn plan(
        &mut self,
        caching: &mut Caching,
        unit: &Unit<'_>,
        subject: &Subject,
        is_open: bool,
        link: &Backend,
    ) -> Option<Arc<Plan>> {
        if self.status == TransactionStatus::Failed {
            return None;
        }
        let functions = caching.engine.functions()?;
        if !is_open {
            self.ask_identity(caching, link);
        }
        let identity = caching.identity();
        let text = subject.text(unit);
        let outline = subject.seen.outline(text);
        if let Some(identity) = identity {
            let plan = caching.engine.plan(&subject.seen, outline, subject.types(), &identity);
            if plan.is_some() {
                return plan;
            }
        }
        let types = types_as_text(subject.types());
        let arguments = [Some(text), Some(types.as_bytes())];
        self.call(Call::Description, functions.describe_query, &arguments, false);
        None
    }

    /// Asks who the session is, where that is not known, or where its connection may have been changed by another.
    fn ask_identity(&mut self, caching: &mut Caching, link: &Backend) {
        let is_doubtful = self.shares() && link.is_doubtful;
        let Some(functions) = caching.engine.functions() else { return };
        if caching.identity().is_some() && !is_doubtful {
            return;
        }
        let call = Call::Identity { generation: caching.generation, epoch: caching.engine.epoch() };
        let names = caching.engine.settings_in_key();
        self.call(call, functions.session_key, &[Some(names.as_bytes())], false);
    }

    /// After a reload that changed what is kept: from here on by the new settings.
    fn follow_engine(&mut self, caching: &mut Caching) {
        self.send_kept_back(caching, None);
        let cache = self.registry.cache(self.cache.id());
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

    fn begin_fill(&mut self, caching: &mut Caching, unit: &Unit<'_>, subject: &Subject) -> Fill {
        let _ = unit;
        self.call(Call::Snapshot, CURRENT_SNAPSHOT, &[], true);
        caching.engine.note_miss(&subject.seen.template);
        Fill::new(caching.engine.begin(), caching.leads.take())
    }

    /// Whether what the client sends is what the origin has, and its log says.
    fn is_utf8(&self) -> bool {
        let is = |name: &[u8]| self.params.get(name) == Some(b"UTF8");
        is(b"client_encoding") && is(b"server_encoding")
    }

    /// Notes what a run of a statement does besides answering.
    fn note_plan(&self, caching: &mut Caching, plan: &Plan, unit: &Unit<'_>, subject: &Subject) {
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
    fn forget_labels(&mut self, seen: &Seen) {
        let names = Effects::DEALLOCATE.union(Effects::DISCARD).union(Effects::PREPARE);
        if !seen.effects.intersects(names) {
            return;
        }
        for label in self.labels.values_mut() {
            label.statement = None;
        }
        if seen.effects.contains(Effects::PREPARE) {
            self.doubts_names = true;
        }
    }

    /// A Parse has failed that gives this name, or was skipped: it stands for what it did before, if for anything. What
    /// was sent meanwhile may have been taken for something else.
    pub(super) fn doubt(&mut self, name: &[u8]) {
        if let Some(label) = self.labels.get_mut(name) {
            label.statement = None;
        }
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

    /// Bytes of the unit were passed on; true when these were the last and what follows it is in the scratch.
    pub(super) fn after_unit(&mut self, count: usize) -> bool {
        let Some(caching) = &mut self.caching else { return false };
        if caching.unit_left == 0 {
            return false;
        }
        caching.unit_left = caching.unit_left.saturating_sub(count);
        if caching.unit_left > 0 || !std::mem::take(&mut caching.asks_position) {
            return false;
        }
        let contacts = caching.contacts;
        caching.is_position_asked = true;
        self.call(Call::Position(contacts), CURRENT_POSITION, &[], true);
        true
    }

    /// Takes what the origin says to the proxy itself.
    pub(super) fn on_own(&mut self, link: &mut Backend, message: frame::Frame<'_>) {
        let Some(Own::Call(call)) = self.flow.own() else { return };
        let Ok(Message::FunctionCall(result)) = Message::read(message) else { return };
        let Some(caching) = &mut self.caching else { return };
        let result = result.unwrap_or_default();
        match call {
            Call::Identity { generation, epoch } => {
                link.is_doubtful = !caching.learn_identity(generation, epoch, result);
            }
            Call::Description => caching.learn_plan(result),
            Call::Snapshot => {
                if let Some(underway) = &mut caching.underway
                    && let Some(fill) = &mut underway.fill
                {
                    fill.snapshot = Snapshot::from_binary(result).ok();
                }
            }
            Call::Position(contacts) => {
                if let Ok(bytes) = result.try_into() {
                    let position = Lsn(u64::from_be_bytes(bytes));
                    if let Some(underway) = caching.answered.take() {
                        let template =
                            underway.seen.as_ref().map(|seen| Arc::clone(&seen.template));
                        let refusal = keep(caching, *underway, position).err();
                        if let Some(template) = template {
                            template.cached.set_refusal(refusal);
                        }
                    }
                    caching.learn_position(contacts, position);
                }
            }
        }
    }

    /// What the proxy has asked is answered to its end, whether or not there was a result.
    ///
    /// Errors where the block could not be begun that the client believes in: what it sent next may have been done by
    /// itself, and the client must not take it for undone.
    pub(super) fn own_answered(&mut self, own: Own) -> Result<(), End> {
        if own == Own::Begin && self.status == TransactionStatus::Idle {
            return Err(End::from(
                Report::fatal(
                    report::CONNECTION_FAILURE,
                    "the transaction could not be begun at the origin",
                )
                .detail("Whether its first statement was executed is not known."),
            ));
        }
        if let (Own::Call(Call::Position(_)), Some(caching)) = (own, &mut self.caching) {
            caching.is_position_asked = false;
            caching.answered = None;
        }
        Ok(())
    }

    /// The origin refuses something that the proxy has sent for itself.
    pub(super) fn own_failed(&mut self) {
        // A statement that was kept back is not there; or another one is, by the same name.
        if self.flow.own() == Some(Own::Parse) {
            self.labels.values_mut().for_each(|label| label.statement = None);
            self.doubts_names = true;
            if let Some(caching) = &mut self.caching
                && let Some(underway) = &mut caching.underway
            {
                underway.fill = None;
            }
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
                self.call(Call::Position(caching.contacts), CURRENT_POSITION, &[], true);
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

/// Keeps the answer of a unit, or says why not.
fn keep(caching: &Caching, underway: Underway, position: Lsn) -> Result<(), &'static str> {
    let Underway { seen, run, identity, plan, fill, cost, is_utf8, .. } = underway;
    let fill = fill.ok_or("its answer was too long, came with notices, or is an error")?;
    let plan = plan.ok_or("nothing is known of it")?;
    let identity = identity
        .filter(|identity| identity.is_usable)
        .ok_or("its session has temporary tables, or its origin is a standby")?;
    let snapshot = fill.snapshot.ok_or("the origin did not tell what is visible")?;
    let (Some(run), Some(seen)) = (run, seen) else { return Err("nothing was run") };
    let (text, _) = run.statement();
    let values = run.values(seen.outline(text)).ok_or("its Bind can't be read")?;
    let values = values.in_utf8(is_utf8);
    let dependencies = plan.dependencies(&values).ok_or("a parameter is read by the clock")?;
    let (statement, parameters) = run.parts();
    let statement = statement.unwrap_or(seen.hash);
    // Who waits for it looks again only when it is there.
    let _leader = fill.leader;
    caching.engine.keep(Fetched {
        template: &seen.template,
        plan: &plan,
        key: caching.engine.key(&seen, statement, &identity, parameters),
        ticket: fill.ticket,
        answer: Answer::new(&fill.description, &fill.rows),
        dependencies,
        snapshot,
        position,
        cost,
    })
}

/// Notes what may be done by something that can't be described.
fn note_harm(caching: &mut Caching, harm: Harm) {
    if harm == Harm::Anything {
        caching.written.push(Scope::Everything);
    }
    if matches!(harm, Harm::Anything | Harm::Session) {
        caching.forget_identity();
    }
}

fn parameters<'a>(unit: &Unit<'a>) -> &'a [u8] {
    match unit {
        Unit::Extended(extended) => extended.parameters,
        _ => b"",
    }
}

/// OIDs of four bytes each, as an array in its text form.
fn types_as_text(types: &[u8]) -> String {
    let oids = types.chunks_exact(4).map(|oid| {
        let oid = [oid[0], oid[1], oid[2], oid[3]];
        u32::from_be_bytes(oid).to_string()
    });
    format!("{{{}}}", oids.collect::<Vec<_>>().join(","))
}
