//! What a client's messages mean, and what of them goes to the origin.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use integratedb_template::Effects;
use integratedb_wire::frame::{self, HEADER, Header};
use integratedb_wire::tag::frontend as tag;
use integratedb_wire::{Frontend, Target, TransactionStatus, bind_names, write};

use super::{End, Session, Source};
use crate::proxy::backend::Backend;
use crate::proxy::flow::{Expect, Undo, Watch};
use crate::proxy::observe::Seen;
use crate::proxy::report::{self, Report};
use crate::proxy::statements::{Statement, reading};

/// How much of a text is looked into for its template, in bytes.
const LOOKED_INTO: usize = 64 << 10;

/// The longest message that is kept whole because it may have to be sent again, in bytes.
const KEPT: usize = 16 << 20;

/// The longest message of those that hold nothing but names, in bytes.
const NAMES: usize = 8 << 10;

/// Statements whose templates are remembered by name, where names are the origin's matter.
const LABELS: usize = 10_000;

/// What leaves something in a session that no other session may find, and nobody can carry over.
const PINNING: Effects = Effects::ADVISORY_LOCK
    .union(Effects::TEMP)
    .union(Effects::LISTEN)
    .union(Effects::HOLD)
    .union(Effects::PREPARE)
    .union(Effects::LOAD);

/// What happens to a message.
enum Up {
    /// It goes on as it came, also if its end is not there yet.
    Pass,
    /// More of it is needed.
    Wait,
    /// The scratch goes on in place of its first bytes.
    Instead(usize),
}

impl Session {
    /// Takes what the client has said so far.
    pub(super) fn on_client(&mut self, link: &mut Backend) -> Result<(), End> {
        let mut input = std::mem::take(&mut self.input);
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
            let header = match frame::header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                Err(_) if self.is_own() => {
                    // The origin has its own way to say so, and to end it.
                    self.up_rest = usize::MAX;
                    continue;
                }
                Err(error) => return Err(violation(&error.to_string())),
            };
            let total = header.total();
            let body = &rest[HEADER..rest.len().min(total)];
            match self.up(link, header, body)? {
                Up::Pass => {
                    let count = rest.len().min(total);
                    self.up_rest = total - count;
                    at += count;
                }
                Up::Wait => {
                    missing = Some(total);
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
                }
            }
            self.has_spoken = true;
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
            tag::COPY_DATA | tag::FLUSH => Ok(Up::Pass),
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
                self.flow.push(Expect::Query(watch(None, self.active)));
                Ok(Up::Pass)
            }
            tag::TERMINATE => {
                self.terminated = true;
                Ok(if self.is_own() { Up::Pass } else { Up::Instead(header.total()) })
            }
            tag::BIND => self.bind(link, header, body, is_whole),
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
                    _ if self.shares() => Err(End::Told(
                        Report::fatal(
                            report::PROGRAM_LIMIT,
                            "a message is too long for transaction pooling",
                        )
                        .detail(format!("It has {} bytes; {most} are allowed.", header.body)),
                    )),
                    // The origin judges what is wrong, or long.
                    _ => {
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
        let seen = self.see(text);
        self.note_effects(&seen);
        if self.shares()
            && is_whole
            && seen.effects.contains(Effects::DEALLOCATE)
            && self.status != TransactionStatus::Failed
            && !self.flow.is_skipping()
            && let Some(name) = deallocated(text)
            && let Some(statement) = self.names.get(&name).cloned()
        {
            self.prepare(link, &statement, false);
            let text = [b"DEALLOCATE ", &*statement.name].concat();
            write::frontend::query(&mut self.scratch, &text)
                .expect("a short text without zero bytes");
            self.flow.push(Expect::Deallocate(watch(Some(seen), self.active), name.into()));
            return Up::Instead(header.total());
        }
        if self.shares() && !self.flow.is_skipping() {
            // The origin drops it with every Query.
            link.prepared.set_unnamed(None);
            self.names.set(b"", None);
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
                () if self.shares() => Err(violation("invalid message format")),
                () => {
                    self.flow.push(Expect::Bind);
                    Ok(Up::Pass)
                }
            };
        };
        if !self.shares() {
            let seen = self.labels.get(name).cloned();
            self.portals.set(portal, seen);
            self.flow.push(Expect::Bind);
            return Ok(Up::Pass);
        }
        if self.flow.is_skipping() {
            return Ok(Up::Pass);
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
        self.note_effects(&statement.seen);
        self.judges_tags |= statement.text.len() > LOOKED_INTO || !self.reads_text;
        self.prepare(link, &statement, name.is_empty());
        let mut replaced = 0;
        if !name.is_empty() {
            let rest = header.body - taken;
            write::frontend::bind_head(&mut self.scratch, portal, &statement.name, rest)
                .map_err(|error| violation(&error.to_string()))?;
            replaced = HEADER + taken;
        }
        self.portals.set(portal, Some(Arc::clone(&statement.seen)));
        self.flow.push(Expect::Bind);
        Ok(Up::Instead(replaced))
    }

    fn extended(&mut self, link: &mut Backend, header: Header, message: Frontend<'_>) -> Up {
        let total = header.total();
        match message {
            Frontend::Parse { name, text, types } => {
                let seen = self.see(text);
                if !self.shares() {
                    // Those that SQL deallocates are not taken out, so that from time to time all are.
                    if self.labels.len() >= LABELS {
                        self.labels = HashMap::new();
                    }
                    self.labels.insert(name.into(), seen);
                    self.flow.push(Expect::Parse(None));
                    return Up::Pass;
                }
                if self.flow.is_skipping() {
                    return Up::Pass;
                }
                let statement = self.cache.statements().intern(
                    text,
                    types.bytes(),
                    &reading(&self.params),
                    &seen,
                );
                self.parse(link, name, statement, total)
            }
            Frontend::Describe(Target::Statement, name)
                if self.shares() && !self.flow.is_skipping() =>
            {
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
                let before = self.names.set(name, None);
                let mut answer = Vec::new();
                write::backend::close_complete(&mut answer);
                let undo = Undo { name: name.into(), before };
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
                    Target::Statement => drop(self.labels.remove(name)),
                }
                self.flow.push(Expect::Close(None));
                Up::Pass
            }
            Frontend::Execute { portal, .. } => {
                let seen = self.portals.get(portal).cloned();
                self.flow.push(Expect::Execute(watch(seen, self.active)));
                Up::Pass
            }
            // Not of those that come here.
            _ => Up::Pass,
        }
    }

    /// What is known of a text. Of a long one only the beginning is looked at; and one that is written so that its
    /// constants can't be told with certainty counts with the others. What either does is then judged by the tags
    /// of its answers.
    fn see(&mut self, text: &[u8]) -> Arc<Seen> {
        let beginning = &text[..text.len().min(LOOKED_INTO)];
        self.judges_tags |= beginning.len() < text.len() || !self.reads_text;
        if self.reads_text {
            self.cache.queries().see(beginning)
        } else {
            Arc::clone(self.cache.queries().others())
        }
    }

    /// A statement is prepared by the client. Where the origin's connection has it already, nothing is sent.
    fn parse(
        &mut self,
        link: &mut Backend,
        name: &[u8],
        statement: Arc<Statement>,
        total: usize,
    ) -> Up {
        if !name.is_empty() && self.names.get(name).is_some() {
            self.refuse(
                "42P05",
                format!("prepared statement \"{}\" already exists", String::from_utf8_lossy(name)),
            );
            return Up::Instead(total);
        }
        let before = self.names.set(name, Some(Arc::clone(&statement)));
        let undo = Some(Undo { name: name.into(), before });
        if name.is_empty() {
            link.prepared.set_unnamed(Some(&statement));
            self.flow.push(Expect::Parse(undo));
            return Up::Pass;
        }
        let age = self.cache.schema_age();
        match link.prepared.touch(&statement) {
            // In a failed transaction the origin refuses to prepare, whatever it has; it may be over by then, though.
            Some(prepared_at) if prepared_at == age && self.status != TransactionStatus::Failed => {
                let mut answer = Vec::new();
                write::backend::parse_complete(&mut answer);
                self.flow.push(Expect::Say(answer.into(), undo));
                return Up::Instead(total);
            }
            Some(_) => {
                self.close_own(statement.id(), &statement.name.clone());
                link.prepared.insert(&statement, age);
            }
            None => {
                self.make_room(link);
                link.prepared.insert(&statement, age);
            }
        }
        self.write_parse(&statement, &statement.name);
        self.flow.push(Expect::Parse(undo));
        Up::Instead(total)
    }

    /// Sees to it that a statement is prepared where it is going to be used.
    fn prepare(&mut self, link: &mut Backend, statement: &Arc<Statement>, is_unnamed: bool) {
        if is_unnamed {
            if !link.prepared.is_unnamed(statement) {
                link.prepared.set_unnamed(Some(statement));
                self.write_parse(statement, b"");
                self.flow.push(Expect::OwnParse(None));
            }
        } else if link.prepared.touch(statement).is_none() {
            self.make_room(link);
            link.prepared.insert(statement, self.cache.schema_age());
            self.write_parse(statement, &statement.name);
            self.flow.push(Expect::OwnParse(Some(Arc::clone(statement))));
        }
    }

    fn write_parse(&mut self, statement: &Statement, name: &[u8]) {
        write::frontend::parse(&mut self.scratch, name, &statement.text, &statement.types)
            .expect("it came in a message of the same kind, and the name is short");
    }

    fn make_room(&mut self, link: &mut Backend) {
        let most = self.cache.settings().max_prepared_statements;
        while let Some((id, name)) = link.prepared.evict(most) {
            self.close_own(id, &name);
        }
    }

    fn close_own(&mut self, id: u64, name: &[u8]) {
        write::frontend::close(&mut self.scratch, Target::Statement, name)
            .expect("a short name without zero bytes");
        self.flow.push(Expect::OwnClose(id));
    }

    fn refuse_unknown(&mut self, name: &[u8]) {
        let message = if name.is_empty() {
            "unnamed prepared statement does not exist".to_owned()
        } else {
            format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name))
        };
        self.refuse("26000", message);
    }

    /// Makes the origin fail here, as it would have by itself with only this client, so that what was sent before
    /// and after is treated as it should; the client gets this error in place of the origin's.
    fn refuse(&mut self, code: &'static str, message: String) {
        let mut bytes = Vec::new();
        Report::error(code, message).write(&mut bytes);
        write::frontend::bind_text(&mut self.scratch, b"", b"integratedb_none", &[])
            .expect("a short name without zero bytes");
        self.flow.push(Expect::Fail(bytes.into()));
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

fn watch(seen: Option<Arc<Seen>>, started: Instant) -> Watch {
    Watch { seen, started }
}

/// What a message is answered with that could not be read.
fn unread(kind: u8, others: &Arc<Seen>, now: Instant) -> Expect {
    match kind {
        tag::PARSE => Expect::Parse(None),
        tag::DESCRIBE => Expect::Describe,
        tag::EXECUTE => Expect::Execute(watch(Some(Arc::clone(others)), now)),
        _ => Expect::Close(None),
    }
}

fn violation(message: &str) -> End {
    End::Told(Report::fatal(report::PROTOCOL_VIOLATION, message.to_owned()))
}

/// The name in `DEALLOCATE [PREPARE] name`, if the text is that and nothing else.
fn deallocated(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim().trim_end_matches(';').trim_end();
    let mut words = text.splitn(2, char::is_whitespace);
    let is = |word: &str, what: &str| word.eq_ignore_ascii_case(what);
    let mut rest =
        words.next().filter(|word| is(word, "deallocate")).and(words.next())?.trim_start();
    if let Some((first, after)) = rest.split_once(char::is_whitespace)
        && is(first, "prepare")
    {
        rest = after.trim_start();
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        let name = quoted.strip_suffix('"')?;
        return (!name.contains('"')).then(|| name.as_bytes().to_vec());
    }
    let is_plain = rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !is(rest, "all");
    (is_plain && !rest.is_empty()).then(|| rest.to_ascii_lowercase().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_deallocate_is_read() {
        let name = |text: &str| {
            deallocated(text.as_bytes()).map(|n| String::from_utf8_lossy(&n).into_owned())
        };
        assert_eq!(name("DEALLOCATE _pg3_0").as_deref(), Some("_pg3_0"));
        assert_eq!(name(" deallocate  prepare \"A b\" ;").as_deref(), Some("A b"));
        assert_eq!(name("DEALLOCATE Abc").as_deref(), Some("abc"));
        for other in ["DEALLOCATE ALL", "DEALLOCATE a; SELECT 1", "SELECT 1", "DEALLOCATE"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
