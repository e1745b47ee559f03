//! The names of statements that a client prepares in transaction mode: what they stand for, and seeing to it that
//! the origin's connection has it. What the origin will say is assumed to be good news; when it is not, `down` takes
//! it back. What depends on whether it is waits for it.

use std::sync::Arc;

use integratedb_template::Effects;
use integratedb_wire::{Target, TransactionStatus, write};

use super::Session;
use super::up::{Up, watch};
use crate::proxy::backend::Backend;
use crate::proxy::flow::{Expect, Undo};
use crate::proxy::observe::Seen;
use crate::proxy::report::{self, Report};
use crate::proxy::statements::Statement;

impl Session {
    /// A statement is prepared by the client. Where the origin's connection has it already, nothing is sent.
    pub(super) fn parse(
        &mut self,
        link: &mut Backend,
        name: &[u8],
        statement: Arc<Statement>,
        total: usize,
    ) -> Up {
        if !name.is_empty()
            && let Some(other) = self.names.get(name).cloned()
        {
            // The origin finds the same as it would have: first what is wrong with the text, then the name.
            self.prepare(link, &other, false);
            self.write_parse(&statement, &other.name);
            let name = String::from_utf8_lossy(name);
            let message = format!("prepared statement \"{name}\" already exists");
            self.refuse(&Report::error("42P05", message));
            return Up::Instead(total);
        }
        let before = self.names.set(name, Some(Arc::clone(&statement)));
        if name.is_empty() {
            let unnamed = link.prepared.set_unnamed(Some(&statement));
            let undo = Box::new(Undo { name: name.into(), before, unnamed });
            self.flow.push(Expect::Parse(Some(undo)));
            return Up::Pass;
        }
        let undo = Some(Box::new(Undo { name: name.into(), before, unnamed: None }));
        let age = self.cache.schema_age();
        match link.prepared.touch(&statement) {
            // In a failed transaction the origin refuses to prepare, whatever it has; it may be over by then, though.
            Some(prepared_at)
                if prepared_at == age
                    && self.status != TransactionStatus::Failed
                    && !self.flow.may_change_status() =>
            {
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
    pub(super) fn prepare(
        &mut self,
        link: &mut Backend,
        statement: &Arc<Statement>,
        is_unnamed: bool,
    ) {
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

    pub(super) fn refuse_unknown(&mut self, name: &[u8]) {
        let message = if name.is_empty() {
            "unnamed prepared statement does not exist".to_owned()
        } else {
            format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(name))
        };
        self.fail(&Report::error("26000", message));
    }

    pub(super) fn refuse_for_room(&mut self, most: usize) {
        self.fail(
            &Report::error(report::CONFIGURATION_LIMIT, "prepared statements take too much memory")
                .detail(format!("Those of all clients may have {most} bytes together."))
                .hint("Deallocate statements, or have max_statement_bytes raised."),
        );
    }

    /// Has the origin fail here, for the client with this error.
    fn fail(&mut self, report: &Report) {
        write::frontend::bind_text(&mut self.scratch, b"", b"integratedb_none", &[])
            .expect("a short name without zero bytes");
        self.refuse(report);
    }

    /// The origin was made to fail here, as it would have by itself with only this client, so that what was sent
    /// before and after is treated as it should; the client gets this error in place of the origin's.
    fn refuse(&mut self, report: &Report) {
        let mut bytes = Vec::new();
        report.write(&mut bytes);
        self.flow.push(Expect::Fail(bytes.into()));
    }

    /// Whether what a name stands for depends on answers that are still to come.
    pub(super) fn is_unsure(&mut self, name: &[u8]) -> bool {
        self.may_forget()
            || (self.flow.is_unsure(name) && !self.flow.is_copying_in() && !self.unsound)
    }

    /// Whether something is under way that takes names away, or everything a session has.
    pub(super) fn may_forget(&mut self) -> bool {
        self.forgets &= self.flow.is_owed();
        // In these states answers may never come, and what is sent is not looked at by the origin.
        self.forgets && !self.flow.is_skipping() && !self.flow.is_copying_in() && !self.unsound
    }

    pub(super) fn note_forgetting(&mut self, seen: &Seen) {
        if seen.effects.intersects(Effects::DEALLOCATE.union(Effects::DISCARD)) {
            self.forgets = true;
        }
    }

    /// A Query takes the statement without a name away, before anything in it can fail; unless it is skipped.
    pub(super) fn forget_unnamed(&mut self, link: &mut Backend) {
        let before = self.names.set(b"", None);
        if before.is_some() || self.flow.undo_mut(b"").is_some() {
            let unnamed = link.prepared.set_unnamed(None);
            let undo = Box::new(Undo { name: Box::default(), before, unnamed });
            self.flow.push(Expect::Say(Box::default(), Some(undo)));
        }
    }

    /// DEALLOCATE of a statement of the client's, which the origin knows by another name, or not at all.
    pub(super) fn deallocate(
        &mut self,
        link: &Backend,
        seen: &Arc<Seen>,
        name: &[u8],
        total: usize,
    ) -> Option<Up> {
        let statement = match self.names.get(name) {
            Some(statement) if self.status != TransactionStatus::Failed => Arc::clone(statement),
            _ => return None,
        };
        if link.prepared.has(&statement) {
            let text = [b"DEALLOCATE ", &*statement.name].concat();
            write::frontend::query(&mut self.scratch, &text)
                .expect("a short text without zero bytes");
            self.forgets = true;
            let watch = watch(Some(Arc::clone(seen)), self.active);
            self.flow.push(Expect::Deallocate(Box::new((watch, name.into()))));
        } else {
            self.names.set(name, None);
            let mut answer = Vec::new();
            write::backend::command_complete(&mut answer, "DEALLOCATE").expect("a short text");
            write::backend::ready(&mut answer, self.status);
            self.flow.push(Expect::Say(answer.into(), None));
        }
        Some(Up::Instead(total))
    }
}

/// The name in `DEALLOCATE [PREPARE] name`, if the text is that and nothing else.
pub(super) fn deallocated(text: &[u8]) -> Option<Vec<u8>> {
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
