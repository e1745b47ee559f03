//! What the proxy asks the origin for itself, and what it makes of the answers.

use std::sync::Arc;

use integratedb_cache::{Answer, Lsn, Snapshot};
use integratedb_wire::{Backend as Message, TransactionStatus, frame, write};

use super::caching::{Caching, Underway};
use super::keep::Subject;
use super::{End, Session};
use crate::cache::{Fetched, Plan};
use crate::proxy::backend::Backend;
use crate::proxy::flow::{Call, Expect, Own};
use crate::proxy::report::{self, Report};
use crate::proxy::unit::Unit;
use crate::text_array;

/// OIDs of functions of PostgreSQL, the same in all versions: pg_current_snapshot, pg_current_wal_insert_lsn.
const CURRENT_SNAPSHOT: u32 = 5061;
const CURRENT_POSITION: u32 = 2852;

impl Session {
    /// Asks the origin how far it is, for a unit that could be answered from what is kept.
    pub(super) fn ask_position(&mut self) {
        let Some(caching) = &mut self.caching else { return };
        caching.is_revalidated = true;
        caching.is_position_asked = true;
        let contacts = caching.contacts;
        self.call_position(contacts);
    }

    /// Asks the origin what is visible.
    pub(super) fn ask_snapshot(&mut self) {
        self.call(Call::Snapshot, CURRENT_SNAPSHOT, &[], true);
    }

    /// Asks where the log ends, after this many contacts with the origin.
    pub(super) fn call_position(&mut self, contacts: u64) {
        self.call(Call::Position(contacts), CURRENT_POSITION, &[], true);
    }

    fn call(&mut self, call: Call, function: u32, arguments: &[Option<&[u8]>], is_binary: bool) {
        write::frontend::function_call(&mut self.scratch, function, arguments, is_binary)
            .expect("the arguments came in a message");
        self.flow.push(Expect::Own(Own::Call(call)));
    }

    /// What is known of a statement; asks for it, and for who the session is, where that is not known.
    pub(super) fn plan(
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
    pub(super) fn ask_identity(&mut self, caching: &mut Caching, link: &Backend) {
        let is_doubtful = self.shares() && link.is_doubtful;
        let Some(functions) = caching.engine.functions() else { return };
        if caching.identity().is_some() && !is_doubtful {
            return;
        }
        let call = Call::Identity { generation: caching.generation, epoch: caching.engine.epoch() };
        let names = caching.engine.settings_in_key();
        self.call(call, functions.session_key, &[Some(names.as_bytes())], false);
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
        self.call_position(contacts);
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
            self.labels.doubt_all();
            self.doubts_names = true;
            if let Some(caching) = &mut self.caching
                && let Some(underway) = &mut caching.underway
            {
                underway.fill = None;
            }
        }
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

/// OIDs of four bytes each, as an array in its text form.
fn types_as_text(types: &[u8]) -> String {
    text_array::of_numbers(types.chunks_exact(4).map(|oid| {
        let oid = [oid[0], oid[1], oid[2], oid[3]];
        u32::from_be_bytes(oid)
    }))
}
