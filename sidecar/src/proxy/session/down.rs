//! What the origin's messages mean, and what of them goes to the client.

use std::time::Instant;

use integratedb_cache::Scope;
use integratedb_template::Class;
use integratedb_wire::frame::{self, HEADER};
use integratedb_wire::tag::backend as tag;
use integratedb_wire::{Backend as Message, ErrorField, TransactionStatus, write};

use super::{End, Session, can_be_read};
use crate::proxy::backend::Backend;
use crate::proxy::flow::{Answered, Expect, Undo};
use crate::proxy::observe;
use crate::proxy::report::{self, Report};
use crate::proxy::statements::PREFIX;

/// The longest message of those that have to be seen whole.
const WHOLE: usize = 64 << 10;

/// The longest answer to a question of the proxy's own. One has some hundred bytes for each table of a query.
const OWN: usize = 1 << 20;

impl Session {
    /// Takes what the origin has said so far.
    pub(super) fn on_origin(&mut self, link: &mut Backend) -> Result<(), End> {
        let mut input = std::mem::take(&mut link.input);
        let (mut at, mut sent) = (0, 0);
        let bytes = input.filled();
        let now = Instant::now();
        self.active = now;
        let mut missing = None;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if self.down_rest > 0 {
                let count = rest.len().min(self.down_rest);
                self.down_rest -= count;
                at += count;
                if !self.down_hidden {
                    self.collect(None, &rest[..count]);
                }
                if self.down_hidden {
                    sent = at;
                    self.down_hidden = self.down_rest > 0;
                }
                sent = self.say_own_after(bytes, sent, at);
                continue;
            }
            let header = match frame::header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(error) => return Err(nonsense(&error.to_string())),
            };
            let total = header.total();
            let is_whole = rest.len() >= total;
            if header.tag == tag::FUNCTION_CALL && header.body > OWN && self.flow.own().is_some() {
                return Err(nonsense("the answer to a question of the proxy's own is too long"));
            }
            if !is_whole && self.needs_whole(header.tag, header.body) {
                missing = Some(total);
                break;
            }
            let body = &rest[HEADER..rest.len().min(total)];
            let count = rest.len().min(total);
            let message = frame::Frame { tag: header.tag, body };
            if self.flow.own().is_none() {
                self.answered += total as u64;
                self.collect(Some(header.tag), &rest[..count]);
            }
            if matches!(header.tag, tag::DATA_ROW | tag::COPY_DATA) {
                self.down_rest = total - count;
                at += count;
                continue;
            }
            let own = self.down(link, message, is_whole, now)?;
            if !self.scratch.is_empty() {
                link.output.append(&self.scratch);
                self.scratch.clear();
            }
            let own = match own {
                Down::Pass => None,
                Down::Hide => Some(None),
                Down::Instead(bytes) => Some(Some(bytes)),
            };
            if let Some(own) = own {
                self.output.append(&bytes[sent..at]);
                if let Some(own) = own {
                    self.output.append(&own);
                }
                sent = at + count;
                self.down_hidden = count < total;
            }
            self.down_rest = total - count;
            at += count;
            sent = self.say_own_after(bytes, sent, at);
        }
        if sent == 0 && at == bytes.len() {
            self.output.append_all(&mut input);
        } else {
            self.output.append(&bytes[sent..at]);
            input.consume(at);
        }
        if let Some(total) = missing {
            input.expect(total);
        }
        link.input = input;
        Ok(())
    }

    /// Tells the client what the proxy itself answers, where it is its turn after these bytes; gives up to where they
    /// are in the output by then.
    fn say_own_after(&mut self, bytes: &[u8], sent: usize, at: usize) -> usize {
        if self.down_rest > 0 {
            return sent;
        }
        let Some(own) = self.flow.next_own() else { return sent };
        self.output.append(&bytes[sent..at]);
        self.output.append(&own);
        self.say_own();
        at
    }

    /// Whether the contents of a message matter, so that it can't be passed on in pieces.
    fn needs_whole(&self, tag: u8, length: usize) -> bool {
        let matters =
            matches!(tag, tag::READY | tag::PARAMETER_STATUS | tag::COMMAND_COMPLETE | tag::ERROR);
        (matters && length <= WHOLE) || (tag == tag::FUNCTION_CALL && self.flow.own().is_some())
    }

    /// Keeps a part of an answer, where answers are kept: of a message of this type, or the rest of one.
    fn collect(&mut self, kind: Option<u8>, bytes: &[u8]) {
        if let Some(caching) = &mut self.caching
            && let Some(underway) = &mut caching.underway
        {
            let most = caching.engine.settings().max_entry_bytes;
            match kind {
                Some(kind) => underway.collect(most, kind, bytes),
                None => underway.collect_rest(most, bytes),
            }
        }
    }

    fn down(
        &mut self,
        link: &mut Backend,
        message: frame::Frame<'_>,
        is_whole: bool,
        now: Instant,
    ) -> Result<Down, End> {
        match message.tag {
            tag::NOTICE if self.flow.own().is_some() => return Ok(Down::Hide),
            tag::NOTICE | tag::NOTIFICATION => return Ok(Down::Pass),
            tag::PARAMETER_STATUS => {
                if let Ok(Message::ParameterStatus(name, value)) = Message::read(message) {
                    link.params.report(name, value);
                    self.params.report(name, value);
                    self.reads_text = can_be_read(&self.params);
                    if let Some(caching) = &mut self.caching
                        && name != b"application_name"
                    {
                        caching.forget_identity();
                    }
                }
                return Ok(Down::Pass);
            }
            tag::READY => self.read_status(message),
            tag::FUNCTION_CALL if self.caching.is_some() => self.on_own(link, message),
            tag::ERROR if self.flow.own().is_some() => self.own_failed(),
            tag::COMMAND_COMPLETE => {
                if self.flow.own().is_none() {
                    self.note_complete(message.body, self.flow.is_query());
                }
                if self.shares() {
                    self.read_tag(link, message);
                }
            }
            tag::ERROR if is_whole => self.read_error(message),
            _ => {}
        }
        Ok(match self.flow.answer(message.tag) {
            Answered::Ready => {
                self.failed = false;
                self.ready()
            }
            Answered::Pass => Down::Pass,
            Answered::Swallow => Down::Hide,
            Answered::Own(own) => {
                self.own_answered(own)?;
                Down::Hide
            }
            Answered::Done(expect) => {
                self.done(link, expect, now);
                if message.tag == tag::READY { self.ready() } else { Down::Pass }
            }
            Answered::Failed(dropped) => {
                self.note_failure();
                self.dropped(link, dropped, now);
                self.renamed(message).map_or(Down::Pass, Down::Instead)
            }
            Answered::Replace(bytes, dropped) => {
                self.note_failure();
                self.dropped(link, dropped, now);
                // It may have found something else wrong first.
                match is_about_name(message) {
                    true => Down::Instead(bytes),
                    false => Down::Pass,
                }
            }
            Answered::Unexpected => {
                // Passed on all the same: the client knows best. But nobody else may get this connection.
                self.pinned = true;
                self.unsound = true;
                Down::Pass
            }
        })
    }

    /// Statements that undo what the proxy keeps for the client.
    fn read_tag(&mut self, link: &mut Backend, message: frame::Frame<'_>) {
        match message.body {
            b"DISCARD ALL\0" => {
                self.names.clear_named();
                link.prepared.clear_named();
                self.touched.reset_all();
                self.pinned = self.unsound;
            }
            b"DEALLOCATE ALL\0" => {
                self.names.clear_named();
                link.prepared.clear_named();
            }
            tag if self.judges_tags && !is_harmless(tag) => self.pinned = true,
            _ => {}
        }
    }

    /// What the client is told of its transaction after a query.
    fn ready(&mut self) -> Down {
        match self.unit_answered() {
            None => Down::Pass,
            Some(status) => {
                let mut bytes = Vec::new();
                write::backend::ready(&mut bytes, status);
                Down::Instead(bytes.into())
            }
        }
    }

    fn read_status(&mut self, message: frame::Frame<'_>) {
        let status = message.body.first().copied().and_then(TransactionStatus::read);
        self.status = status.unwrap_or(TransactionStatus::Active);
        if self.status == TransactionStatus::Idle {
            self.judges_tags = false;
            self.portals.clear();
            self.count_pin(self.pinned);
            // Nobody knows what this ends. The keeper has the fence fall.
            if self.unsound
                && let Some(caching) = &self.caching
                && caching.engine.follows()
            {
                caching.engine.fence(&[Scope::Everything]);
            }
        }
    }

    fn read_error(&mut self, message: frame::Frame<'_>) {
        let Ok(Message::Error(fields)) = Message::read(message) else { return };
        let severity =
            fields.get(ErrorField::SEVERITY_NONLOCALIZED).or(fields.get(ErrorField::SEVERITY));
        if matches!(severity, Some(b"FATAL" | b"PANIC")) {
            self.dismissed = true;
        }
        // "cached plan must not change result type": the schema has changed behind our back.
        if fields.get(ErrorField::ROUTINE) == Some(b"RevalidateCachedQuery") {
            self.cache.schema_changed();
        }
    }

    /// An error that speaks of a statement by the name that it has at the origin, by the client's name.
    fn renamed(&self, message: frame::Frame<'_>) -> Option<Box<[u8]>> {
        if !self.shares() {
            return None;
        }
        let Ok(Message::Error(fields)) = Message::read(message) else { return None };
        let text = fields.get(ErrorField::MESSAGE)?;
        if !text.windows(PREFIX.len()).any(|part| part == PREFIX.as_bytes()) {
            return None;
        }
        // A name may be taken away by a message that comes after the one that failed.
        let mut names = self.names.iter().chain(self.flow.before());
        let (name, known) = names.find_map(|(name, statement)| {
            let known = [b"\"", &*statement.name, b"\""].concat();
            text.windows(known.len()).any(|part| part == known).then_some((name, known))
        })?;
        let at = message.body.windows(known.len()).position(|part| part == known)?;
        let mut bytes = Vec::new();
        let (before, after) = (&message.body[..=at], &message.body[at + known.len() - 1..]);
        write::header(&mut bytes, message.tag, before.len() + name.len() + after.len()).ok()?;
        bytes.extend([before, name, after].concat());
        Some(bytes.into())
    }

    fn done(&mut self, link: &mut Backend, expect: Expect, now: Instant) {
        let (watch, is_deallocated) = match expect {
            Expect::Execute(watch) | Expect::Query(watch) => (watch, None),
            Expect::Deallocate(of) => (of.0, Some(of.1)),
            _ => return,
        };
        let failed = std::mem::take(&mut self.failed);
        observe::note(&watch, now, std::mem::take(&mut self.answered), failed);
        if let Some(name) = is_deallocated
            && !failed
            && let Some(statement) = self.names.set(&name, None)
        {
            link.prepared.remove(&statement);
        }
        if watch.seen.as_ref().is_some_and(|seen| seen.class == Class::Ddl) {
            self.cache.schema_changed();
        }
    }

    /// A name means again what it did, unless a later message that is under way has given it another meaning.
    fn take_back(&mut self, link: &mut Backend, undo: Undo) {
        if let Some(later) = self.flow.undo_mut(&undo.name) {
            later.before = undo.before;
            later.unnamed = undo.unnamed;
            return;
        }
        if undo.name.is_empty() {
            link.prepared.put_back_unnamed(undo.unnamed);
        }
        self.names.set(&undo.name, undo.before);
    }

    /// Takes back what never happened, the last first.
    fn dropped(&mut self, link: &mut Backend, dropped: Vec<Expect>, now: Instant) {
        if self.flow.is_blurred() {
            self.pinned = true;
            self.unsound = true;
        }
        if dropped.is_empty() {
            self.failed = true;
            return;
        }
        let failed = dropped.iter().rev().find_map(|expect| match expect {
            Expect::Execute(watch) => Some(watch),
            _ => None,
        });
        let answered = std::mem::take(&mut self.answered);
        if let Some(watch) = failed {
            observe::note(watch, now, answered, true);
        }
        let mut dropped = dropped.into_iter();
        while let Some(expect) = dropped.next() {
            match expect {
                Expect::Parse(Some(undo)) if !self.shares() => self.doubt(&undo.name),
                // It was not closed, whichever it was.
                Expect::Close if !self.shares() => self.doubts_names = true,
                Expect::Parse(Some(undo)) => {
                    // The one that failed took away what was there before; those after it were skipped.
                    if undo.name.is_empty() && dropped.len() == 0 {
                        self.take_back(link, Undo { before: None, unnamed: None, ..*undo });
                        continue;
                    }
                    if let Some(statement) = self.names.get(&undo.name)
                        && !undo.name.is_empty()
                    {
                        link.prepared.remove(statement);
                    }
                    self.take_back(link, *undo);
                }
                Expect::Say(_, Some(undo)) => self.take_back(link, *undo),
                Expect::OwnParse(Some(statement)) => link.prepared.remove(&statement),
                Expect::OwnParse(None) => drop(link.prepared.set_unnamed(None)),
                Expect::OwnClose(id) => link.prepared.put_back(id),
                _ => {}
            }
        }
    }
}

/// Whether a statement with this tag leaves nothing in the session. A SELECT may, by the functions it calls.
fn is_harmless(tag: &[u8]) -> bool {
    let verb = tag.split(|byte| matches!(byte, b' ' | 0)).next().unwrap_or_default();
    matches!(
        verb,
        b"INSERT"
            | b"UPDATE"
            | b"DELETE"
            | b"MERGE"
            | b"COPY"
            | b"TRUNCATE"
            | b"BEGIN"
            | b"START"
            | b"COMMIT"
            | b"ROLLBACK"
            | b"SAVEPOINT"
            | b"RELEASE"
    )
}

/// What happens to a message.
enum Down {
    /// The client gets it as it came.
    Pass,
    /// The client does not get it.
    Hide,
    /// The client gets this instead.
    Instead(Box<[u8]>),
}

/// Whether an error says that a statement does not exist, or does already.
fn is_about_name(message: frame::Frame<'_>) -> bool {
    match Message::read(message) {
        Ok(Message::Error(fields)) => {
            matches!(fields.get(ErrorField::CODE), Some(b"26000" | b"42P05"))
        }
        _ => false,
    }
}

fn nonsense(why: &str) -> End {
    End::from(
        Report::fatal(
            report::PROTOCOL_VIOLATION,
            "the origin said what the protocol does not allow",
        )
        .detail(why.to_owned()),
    )
}
