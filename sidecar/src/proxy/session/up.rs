//! What a client's messages mean, and what of them goes to the origin.

use std::sync::Arc;
use std::time::Instant;

use integratedb_template::Effects;
use integratedb_wire::frame::{self, HEADER, Header};
use integratedb_wire::tag::frontend as tag;
use integratedb_wire::{Frontend, Target, bind_names, write};

use super::keep::Kept;
use super::labels::Label;
use super::learn::Before;
use super::look::LOOKED_INTO;
use super::prepare::deallocated;
use super::{End, Session, Source};
use crate::proxy::backend::Backend;
use crate::proxy::flow::{Expect, Undo, Watch};
use crate::proxy::observe::Seen;
use crate::proxy::report::{self, Report};
use crate::proxy::statements::Statement;

/// The longest message that is kept whole because it may have to be sent again, in bytes.
const KEPT: usize = 16 << 20;

/// The longest message of those that hold nothing but names, in bytes.
const NAMES: usize = 8 << 10;

/// What leaves something in a session that no other session may find, and nobody can carry over.
const PINNING: Effects = Effects::ADVISORY_LOCK
    .union(Effects::TEMP)
    .union(Effects::LISTEN)
    .union(Effects::HOLD)
    .union(Effects::PREPARE)
    .union(Effects::LOAD);

/// What happens to a message.
pub(super) enum Up {
    /// It goes on as it came, also if its end is not there yet.
    Pass,
    /// More of it is needed.
    Wait,
    /// It depends on answers that are still to come.
    Hold,
    /// The scratch goes on in place of its first bytes.
    Instead(usize),
}

impl Session {
    /// Takes what the client has said so far.
    pub(super) fn on_client(&mut self, link: &mut Backend) -> Result<(), End> {
        if self.is_paused() {
            self.held = true;
            return Ok(());
        }
        let mut input = std::mem::take(&mut self.input);
        let was_held = std::mem::take(&mut self.held);
        let mut waits_for_own = false;
        let (mut at, mut sent) = (0, 0);
        let bytes = input.filled();
        let mut missing = None;
        while at < bytes.len() && !self.terminated {
            let rest = &bytes[at..];
            if self.up_rest > 0 {
                let count = rest.len().min(self.up_rest);
                self.up_rest -= count;
                at += count;
                continue;
            }
            if self.flow.is_long() {
                self.say_own();
                if self.flow.is_long() && self.flow.is_copying_in() {
                    return Err(violation("too many messages that are no data of the COPY"));
                }
                if self.flow.is_long() && !self.unsound {
                    self.held = true;
                    break;
                }
            }
            if self.caching.is_some() {
                match self.answer_if_not_tried(rest) {
                    Kept::Answered(count) => {
                        link.output.append(&bytes[sent..at]);
                        at += count;
                        sent = at;
                        continue;
                    }
                    Kept::Waits => {
                        self.held = true;
                        waits_for_own = true;
                        break;
                    }
                    Kept::Asks => {
                        self.ask_position();
                        link.output.append(&bytes[sent..at]);
                        link.output.append(&self.scratch);
                        self.scratch.clear();
                        sent = at;
                        (self.has_spoken, self.held, waits_for_own) = (true, true, true);
                        break;
                    }
                    Kept::No => {}
                }
                let before = self.before_unit(rest, link);
                if !self.scratch.is_empty() {
                    link.output.append(&bytes[sent..at]);
                    link.output.append(&self.scratch);
                    self.scratch.clear();
                    sent = at;
                    self.has_spoken = true;
                }
                if before == Before::Hold {
                    self.held = true;
                    waits_for_own = true;
                    break;
                }
            }
            let header = match frame::header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(_) if self.is_own() => {
                    // The origin has its own way to say so, and to end it; it may be without a word.
                    self.up_rest = usize::MAX;
                    self.dismissed = true;
                    continue;
                }
                Err(error) => return Err(violation(&error.to_string())),
            };
            let total = header.total();
            let body = &rest[HEADER..rest.len().min(total)];
            let passed;
            match self.up(link, header, body)? {
                Up::Pass => {
                    let count = rest.len().min(total);
                    self.up_rest = total - count;
                    at += count;
                    passed = count;
                }
                Up::Wait => {
                    missing = Some(total);
                    break;
                }
                Up::Hold => {
                    // What only the proxy owes is no reason to wait: no answer would end that.
                    self.say_own();
                    if !self.flow.is_owed() {
                        continue;
                    }
                    self.held = true;
                    break;
                }
                Up::Instead(replaced) => {
                    let replaced = replaced.min(rest.len());
                    link.output.append(&bytes[sent..at]);
                    link.output.append(&self.scratch);
                    self.scratch.clear();
                    at += replaced;
                    sent = at;
                    // What follows the replaced bytes goes on as it came.
                    let count = (rest.len() - replaced).min(total - replaced);
                    self.up_rest = total - replaced - count;
                    at += count;
                    passed = replaced + count;
                }
            }
            self.has_spoken = true;
            if self.after_unit(passed) {
                link.output.append(&bytes[sent..at]);
                link.output.append(&self.scratch);
                self.scratch.clear();
                sent = at;
            }
        }
        if sent == 0 && at == bytes.len() {
            link.output.append_all(&mut input);
        } else {
            link.output.append(&bytes[sent..at]);
            input.consume(at);
        }
        if let Some(total) = missing {
            input.expect(total);
        }
        if self.held && !waits_for_own && (at > 0 || !was_held) {
            // Without it, the answers of a batch that is not complete may not come.
            write::frontend::flush(link.output.tail());
        }
        self.input = input;
        self.say_own();
        Ok(())
    }

    /// Tells the client what the proxy itself answers, where it is its turn.
    pub(super) fn say_own(&mut self) {
        while self.down_rest == 0
            && let Some(bytes) = self.flow.next_own()
        {
            self.output.append(&bytes);
        }
    }

    pub(super) fn is_own(&self) -> bool {
        matches!(self.source, Source::Own)
    }

    fn up(&mut self, link: &mut Backend, header: Header, body: &[u8]) -> Result<Up, End> {
        let is_whole = body.len() == header.body;
        match header.tag {
            tag::FLUSH => Ok(Up::Pass),
            tag::COPY_DATA => {
                self.flow.note_copy_data();
                Ok(Up::Pass)
            }
            tag::QUERY => Ok(self.query(link, header, body, is_whole)),
            tag::SYNC => {
                self.flow.push_sync();
                Ok(Up::Pass)
            }
            tag::COPY_DONE | tag::COPY_FAIL => {
                self.flow.push_copy_end();
                Ok(Up::Pass)
            }
            tag::FUNCTION_CALL => {
                self.note_unknown();
                self.flow.push(Expect::Query(watch(None, self.active)));
                Ok(Up::Pass)
            }
            tag::TERMINATE => {
                self.terminated = true;
                Ok(if self.is_own() { Up::Pass } else { Up::Instead(header.total()) })
            }
            tag::BIND if self.shares() => self.bind(link, header, body, is_whole),
            tag::BIND => {
                // Who Binds a name longer than what there is of the message yet is not counted.
                if let Some((portal, name, _)) = bind_names(body) {
                    self.portals.bind(portal, name, &self.labels);
                    self.note_loose_bind(name);
                }
                self.flow.push(Expect::Bind);
                Ok(Up::Pass)
            }
            // Neither is looked into where names are the origin's matter: these two are on the way of every query.
            tag::DESCRIBE if !self.shares() => {
                self.flow.push(Expect::Describe);
                Ok(Up::Pass)
            }
            tag::EXECUTE if !self.shares() && is_whole => {
                let portal = body.split(|byte| *byte == 0).next().unwrap_or_default();
                let seen = self.portals.get(portal).cloned();
                self.flow.push(Expect::Execute(watch(seen, self.active)));
                Ok(Up::Pass)
            }
            tag::PARSE | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE => {
                let most = match (header.tag, self.shares()) {
                    (tag::PARSE, true) => KEPT,
                    (tag::PARSE, false) => LOOKED_INTO,
                    _ => NAMES,
                };
                if !is_whole && header.body <= most {
                    return Ok(Up::Wait);
                }
                let message = frame::Frame { tag: header.tag, body };
                match Frontend::read(message) {
                    Ok(message) if is_whole => Ok(self.extended(link, header, message)),
                    _ if self.shares() && is_whole => Err(violation("invalid message format")),
                    _ if self.shares() => Err(End::from(
                        Report::fatal(
                            report::PROGRAM_LIMIT,
                            "a message is too long for transaction pooling",
                        )
                        .detail(format!("It has {} bytes; {most} are allowed.", header.body)),
                    )),
                    // The origin judges what is wrong, or long.
                    _ => {
                        if header.tag == tag::PARSE {
                            self.labels.clear();
                        }
                        self.flow.push(unread(
                            header.tag,
                            self.cache.queries().others(),
                            self.active,
                        ));
                        Ok(Up::Pass)
                    }
                }
            }
            _ if self.is_own() => Ok(Up::Pass),
            other => Err(violation(&format!("invalid frontend message type {other}"))),
        }
    }

    fn query(&mut self, link: &mut Backend, header: Header, body: &[u8], is_whole: bool) -> Up {
        if !is_whole && body.len() <= LOOKED_INTO {
            return Up::Wait;
        }
        let text = body.strip_suffix(&[0]).unwrap_or(body);
        let seen = self.see_query(text);
        if self.shares() && !self.flow.is_skipping() {
            if seen.effects.intersects(PINNING) && self.may_forget() {
                return Up::Hold;
            }
            if seen.effects.contains(Effects::DEALLOCATE)
                && is_whole
                && let Some(name) = deallocated(text)
            {
                // Both the name and the state of the transaction have to be known.
                if self.flow.is_owed() && !self.flow.is_copying_in() {
                    return Up::Hold;
                }
                self.forget_unnamed(link);
                if let Some(up) = self.deallocate(link, &seen, &name, header.total()) {
                    return up;
                }
            }
            self.note_forgetting(&seen);
            self.forget_unnamed(link);
        } else if !self.shares() {
            // A Query takes the statement without a name away.
            self.labels.remove(b"");
        }
        self.note_effects(&seen);
        match text.len() > LOOKED_INTO {
            true => self.note_unknown(),
            false => self.note_loose(&seen, &[]),
        }
        self.flow.push(Expect::Query(watch(Some(seen), self.active)));
        Up::Pass
    }

    fn bind(
        &mut self,
        link: &mut Backend,
        header: Header,
        body: &[u8],
        is_whole: bool,
    ) -> Result<Up, End> {
        let Some((portal, name, taken)) = bind_names(body) else {
            return match () {
                () if !is_whole && body.len() < NAMES => Ok(Up::Wait),
                () => Err(violation("invalid message format")),
            };
        };
        if self.flow.is_skipping() {
            return Ok(Up::Pass);
        }
        if self.is_unsure(name) {
            return Ok(Up::Hold);
        }
        let Some(statement) = self.names.get(name).cloned() else {
            if !is_whole && header.body <= KEPT {
                return Ok(Up::Wait);
            }
            if !is_whole {
                return Err(violation("a statement that does not exist can't be bound"));
            }
            self.refuse_unknown(name);
            return Ok(Up::Instead(header.total()));
        };
        if statement.seen.effects.intersects(PINNING) && self.may_forget() {
            return Ok(Up::Hold);
        }
        self.note_effects(&statement.seen);
        match statement.text.len() > LOOKED_INTO {
            true => self.note_unknown(),
            false => self.note_loose(&statement.seen, &statement.types),
        }
        self.judges_tags |= statement.text.len() > LOOKED_INTO || !self.reads_text;
        self.prepare(link, &statement, name.is_empty());
        let mut replaced = 0;
        if !name.is_empty() {
            let rest = header.body - taken;
            write::frontend::bind_head(&mut self.scratch, portal, &statement.name, rest)
                .map_err(|error| violation(&error.to_string()))?;
            replaced = HEADER + taken;
        }
        self.portals.set(portal, Some(&statement.seen));
        self.flow.push(Expect::Bind);
        Ok(Up::Instead(replaced))
    }

    fn extended(&mut self, link: &mut Backend, header: Header, message: Frontend<'_>) -> Up {
        let total = header.total();
        match message {
            Frontend::Parse { name, text, types } => {
                let seen = self.see(text);
                if !self.shares() {
                    if self.caching.is_some()
                        && !self.flow.is_skipping()
                        && let Some(most) = self.lacks_room(name, text, types.bytes())
                    {
                        self.refuse_for_room(most);
                        return Up::Instead(total);
                    }
                    let statement =
                        self.caching.is_some().then(|| self.intern(text, types.bytes(), &seen));
                    let undo = statement
                        .is_some()
                        .then(|| Box::new(Undo { name: name.into(), before: None, unnamed: None }));
                    self.label(name, seen, statement);
                    self.flow.push(Expect::Parse(undo));
                    return Up::Pass;
                }
                if self.flow.is_skipping() {
                    return Up::Pass;
                }
                // One without a name is replaced, whatever it was. And settings decide how constants are read.
                let is_unsure = !name.is_empty() && self.is_unsure(name);
                if is_unsure || self.touched.is_any() && self.flow.is_owed() {
                    return Up::Hold;
                }
                if let Some(most) = self.lacks_room(name, text, types.bytes()) {
                    self.refuse_for_room(most);
                    return Up::Instead(total);
                }
                let statement = self.intern(text, types.bytes(), &seen);
                self.parse(link, name, statement, total)
            }
            Frontend::Describe(Target::Statement, name)
                if self.shares() && !self.flow.is_skipping() =>
            {
                if self.is_unsure(name) {
                    return Up::Hold;
                }
                let Some(statement) = self.names.get(name).cloned() else {
                    self.refuse_unknown(name);
                    return Up::Instead(total);
                };
                self.prepare(link, &statement, name.is_empty());
                self.flow.push(Expect::Describe);
                if name.is_empty() {
                    return Up::Instead(0);
                }
                write::frontend::describe(&mut self.scratch, Target::Statement, &statement.name)
                    .expect("a short name without zero bytes");
                Up::Instead(total)
            }
            Frontend::Close(Target::Statement, name)
                if self.shares() && !self.flow.is_skipping() =>
            {
                if self.is_unsure(name) {
                    return Up::Hold;
                }
                let before = self.names.set(name, None);
                let unnamed = link.prepared.unnamed();
                let mut answer = Vec::new();
                write::backend::close_complete(&mut answer);
                let undo = Box::new(Undo { name: name.into(), before, unnamed });
                self.flow.push(Expect::Say(answer.into(), Some(undo)));
                Up::Instead(total)
            }
            Frontend::Describe(..) => {
                self.flow.push(Expect::Describe);
                Up::Pass
            }
            Frontend::Close(target, name) => {
                match target {
                    Target::Portal => self.portals.set(name, None),
                    Target::Statement => {
                        self.labels.remove(name);
                    }
                }
                self.flow.push(Expect::Close);
                Up::Pass
            }
            Frontend::Execute { portal, .. } => {
                let seen = self.portals.get(portal).cloned();
                if let Some(seen) = &seen {
                    self.note_forgetting(seen);
                }
                self.flow.push(Expect::Execute(watch(seen, self.active)));
                Up::Pass
            }
            // Not of those that come here.
            _ => Up::Pass,
        }
    }

    /// Notes what a name stands for.
    pub(super) fn label(
        &mut self,
        name: &[u8],
        seen: Arc<Seen>,
        statement: Option<Arc<Statement>>,
    ) {
        if self.flow.is_skipping() {
            return;
        }
        if let Some(caching) = &mut self.caching {
            caching.note_current(name);
        }
        self.doubts_names |= !self.labels.insert(name, Label { seen, statement });
    }

    fn note_effects(&mut self, seen: &Seen) {
        if !self.shares() || seen.effects.is_empty() {
            return;
        }
        let settings = &seen.settings;
        if seen.effects.intersects(PINNING)
            || settings.unknown
            || settings.names.iter().any(|name| name == "session_authorization")
        {
            self.pinned = true;
        }
        if seen.effects.contains(Effects::SETTINGS) {
            self.touched.note(settings);
        }
    }
}

pub(super) fn watch(seen: Option<Arc<Seen>>, started: Instant) -> Watch {
    Watch { seen, started }
}

/// What a message is answered with that could not be read.
fn unread(kind: u8, others: &Arc<Seen>, now: Instant) -> Expect {
    match kind {
        tag::PARSE => Expect::Parse(None),
        tag::EXECUTE => Expect::Execute(watch(Some(Arc::clone(others)), now)),
        _ => Expect::Close,
    }
}

fn violation(message: &str) -> End {
    End::from(Report::fatal(report::PROTOCOL_VIOLATION, message.to_owned()))
}
