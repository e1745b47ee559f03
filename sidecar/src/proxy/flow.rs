//! Which answers a connection to the origin still owes, in their order (PostgreSQL manual, "Message Flow").
//!
//! The proxy needs to know when a transaction is over, which query an answer belongs to, and where answers of its
//! own have to go. So each message that a client or the proxy sends is noted here as what it will be answered
//! with. After an error the origin skips everything up to the next Sync, and so does this.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use integratedb_wire::tag::backend as tag;

use super::observe::Seen;
use super::statements::Statement;

/// A query under way, for its figures.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) seen: Option<Arc<Seen>>,
    pub(crate) started: Instant,
}

/// What a name stood for before a message that may fail.
#[derive(Debug)]
pub(crate) struct Undo {
    pub(crate) name: Box<[u8]>,
    pub(crate) before: Option<Arc<Statement>>,
    /// The id of the statement without a name that the origin had before, if the message is about that.
    pub(crate) unnamed: Option<u64>,
}

/// What one message will be answered with.
#[derive(Debug)]
pub(crate) enum Expect {
    /// Query or FunctionCall: anything, up to ReadyForQuery.
    Query(Watch),
    /// The same, of a text that deallocates the statement with this name.
    Deallocate(Box<(Watch, Box<[u8]>)>),
    /// ReadyForQuery
    Sync,
    /// ParseComplete. If it never comes, the name means again what it meant.
    Parse(Option<Box<Undo>>),
    /// BindComplete
    Bind,
    /// RowDescription or NoData, after ParameterDescription where it is of a statement.
    Describe,
    /// Rows, and CommandComplete, PortalSuspended or EmptyQueryResponse.
    Execute(Watch),
    /// CloseComplete
    Close,
    /// ParseComplete of the proxy's own, which the client must not see. If it never comes, the statement is not
    /// prepared.
    OwnParse(Option<Arc<Statement>>),
    /// CloseComplete of the proxy's own, of the statement with this id. If it never comes, it is still there.
    OwnClose(u64),
    /// No answer: the client has ended the data of a COPY.
    CopyEnd,
    /// The origin will not answer; this is what the client gets in its turn.
    Say(Box<[u8]>, Option<Box<Undo>>),
    /// An error, which the client gets as this.
    Fail(Box<[u8]>),
    /// Messages of the proxy's own up to a ReadyForQuery, which the client must not see.
    Own(Own),
}

/// What the proxy sends for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// A FunctionCall whose result matters to the cache.
    Call(Call),
    /// A Parse that the client believes done.
    Parse,
    /// The begin of a block that the client believes in.
    Begin,
    /// Something whose answer says nothing.
    Quiet,
}

/// What the cache asks the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// What decides answers in this session besides the statement; with how often such knowledge had become void in
    /// the session and altogether when it was asked.
    Identity { generation: u32, epoch: u64 },
    /// What a statement depends on.
    Description,
    /// What is visible before a query.
    Snapshot,
    /// Where the log ends after so many contacts of the session with the origin.
    Position(u64),
}

impl Expect {
    fn undo(&self) -> Option<&Undo> {
        match self {
            Self::Parse(undo) | Self::Say(_, undo) => undo.as_deref(),
            _ => None,
        }
    }
}

/// What is to be done with a message of the origin.
#[derive(Debug)]
pub(crate) enum Answered {
    /// The client gets it.
    Pass,
    /// The client gets it; what was expected is now complete.
    Done(Expect),
    /// The client gets it; a query is complete, and nothing is open before the next message.
    Ready,
    /// It is the proxy's own.
    Swallow,
    /// It is the proxy's own, and the last of it.
    Own(Own),
    /// An error: the client gets it, and these were dropped, the last first.
    Failed(Vec<Expect>),
    /// An error: the client gets this instead, and these were dropped, the last first.
    Replace(Box<[u8]>, Vec<Expect>),
    /// It does not fit what was sent; from here on, answers can't be told apart.
    Unexpected,
}

/// Answers owed beyond which no more is taken from the client, which mostly does not read: what is noted of each takes
/// more than it took to ask.
const MOST: usize = 4096;

/// The answers still owed.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    queue: VecDeque<Expect>,
    /// After an error, until the client's next Sync: nothing is answered.
    skipping: bool,
    /// The origin waits for data of a COPY, and the client has not ended it.
    copying_in: bool,
    /// Messages of the extended protocol were sent, and neither Sync nor Query after them.
    batch_open: bool,
    /// The last that the client has sent is data of a COPY.
    data: bool,
    /// A Sync came amid such data. If the COPY fails, nobody knows whether that was before the Sync, which is then
    /// answered, or after it.
    doubtful: bool,
    /// That has happened: answers can't be told apart any more.
    blurred: bool,
}

impl Flow {
    /// Whether an answer is still to come.
    pub(crate) fn is_owed(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether so much is owed that the client has to wait with more.
    pub(crate) fn is_long(&self) -> bool {
        self.queue.len() >= MOST
    }

    /// Whether nothing is owed, and no batch is open that a Sync would end: with it, so is a transaction.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.skipping && !self.batch_open
    }

    /// Whether the origin skips messages now.
    pub(crate) const fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether answers can't be told apart any more.
    pub(crate) const fn is_blurred(&self) -> bool {
        self.blurred
    }

    /// The first message under way that changes what a name stands for.
    pub(crate) fn undo_mut(&mut self, name: &[u8]) -> Option<&mut Undo> {
        self.queue
            .iter_mut()
            .filter_map(|expect| match expect {
                Expect::Parse(undo) | Expect::Say(_, undo) => undo.as_deref_mut(),
                _ => None,
            })
            .find(|undo| *undo.name == *name)
    }

    /// What names stood for before messages that are under way.
    pub(crate) fn before(&self) -> impl Iterator<Item = (&[u8], &Statement)> {
        self.queue
            .iter()
            .filter_map(Expect::undo)
            .filter_map(|undo| Some((&*undo.name, undo.before.as_deref()?)))
    }

    /// What the proxy itself has asked and is being answered now.
    pub(crate) fn own(&self) -> Option<Own> {
        match self.queue.front() {
            Some(Expect::Own(own)) => Some(*own),
            _ => None,
        }
    }

    /// Whether what is answered now is a Query.
    pub(crate) fn is_query(&self) -> bool {
        matches!(self.queue.front(), Some(Expect::Query(_) | Expect::Deallocate(..)))
    }

    /// Whether anything is owed to the client.
    pub(crate) fn owes_client(&self) -> bool {
        self.queue.iter().any(|expect| !matches!(expect, Expect::Own(_)))
    }

    /// Whether what the proxy itself has asked is answered before [`Self::is_empty`], and nothing else is.
    pub(crate) fn owes_only_own(&self) -> bool {
        let is_own = |expect: &Expect| matches!(expect, Expect::Own(_));
        let is_between = !self.skipping && !self.batch_open;
        !self.queue.is_empty() && is_between && self.queue.iter().all(is_own)
    }

    /// Whether the origin takes in data of a COPY now.
    pub(crate) const fn is_copying_in(&self) -> bool {
        self.copying_in
    }

    /// Whether all that is owed will come without another word of the client.
    pub(crate) fn ends(&self) -> bool {
        let last = self
            .queue
            .iter()
            .rev()
            .find(|expect| !matches!(expect, Expect::Say(..) | Expect::CopyEnd));
        let is_end = matches!(
            last,
            None | Some(Expect::Query(_) | Expect::Deallocate(..) | Expect::Sync | Expect::Own(_))
        );
        is_end && !self.skipping && !self.copying_in && !self.batch_open
    }

    /// Whether an answer still to come decides what a name stands for. In the batch that is being sent none does:
    /// after an error, the rest of it is skipped.
    pub(crate) fn is_unsure(&self, name: &[u8]) -> bool {
        let mut is_earlier = false;
        for expect in self.queue.iter().rev() {
            match expect {
                Expect::Sync => is_earlier = true,
                _ if expect.undo().is_some_and(|undo| *undo.name == *name) => return is_earlier,
                _ => {}
            }
        }
        false
    }

    /// Whether an answer still to come may begin, end or fail a transaction, without the rest being skipped.
    pub(crate) fn may_change_status(&self) -> bool {
        self.queue.iter().any(|expect| {
            matches!(
                expect,
                Expect::Query(_)
                    | Expect::Deallocate(..)
                    | Expect::Execute(_)
                    | Expect::Sync
                    | Expect::Own(_)
            )
        })
    }

    /// Notes a message, unless the origin skips it.
    pub(crate) fn push(&mut self, expect: Expect) {
        self.data = false;
        if !self.skipping {
            match expect {
                Expect::Query(_) | Expect::Deallocate(..) => self.batch_open = false,
                Expect::Say(..) | Expect::CopyEnd | Expect::Sync | Expect::Own(_) => {}
                _ => self.batch_open = true,
            }
            self.queue.push_back(expect);
        }
    }

    pub(crate) fn push_sync(&mut self) {
        self.doubtful |= self.data;
        // While the origin takes data in, it ignores Sync (PostgreSQL manual, "COPY Operations").
        if !self.copying_in {
            self.skipping = false;
            self.batch_open = false;
            self.queue.push_back(Expect::Sync);
        }
    }

    /// The client has sent CopyData, which nothing answers.
    pub(crate) const fn note_copy_data(&mut self) {
        self.data = true;
    }

    /// The client has sent CopyDone or CopyFail.
    pub(crate) fn push_copy_end(&mut self) {
        self.data = false;
        if self.copying_in {
            self.copying_in = false;
        } else if !matches!(self.queue.back(), Some(Expect::CopyEnd)) {
            self.push(Expect::CopyEnd);
        }
    }

    /// The query that is running, or waits to.
    pub(crate) fn running(&self) -> Option<&Watch> {
        self.queue.iter().find_map(|expect| match expect {
            Expect::Query(watch) | Expect::Execute(watch) => Some(watch),
            Expect::Deallocate(of) => Some(&of.0),
            _ => None,
        })
    }

    /// What the client gets now because it is its turn.
    pub(crate) fn next_own(&mut self) -> Option<Box<[u8]>> {
        loop {
            match self.queue.front_mut()? {
                Expect::CopyEnd => drop(self.queue.pop_front()),
                Expect::Say(bytes, _) => {
                    let bytes = std::mem::take(bytes);
                    self.queue.pop_front();
                    return Some(bytes);
                }
                _ => return None,
            }
        }
    }

    /// Takes a message of the origin by its type. Those that come unasked are not to be given here: notices,
    /// notifications, parameters.
    pub(crate) fn answer(&mut self, tag: u8) -> Answered {
        if let Some(own) = self.own() {
            return match tag {
                tag::READY => {
                    self.queue.pop_front();
                    Answered::Own(own)
                }
                _ => Answered::Swallow,
            };
        }
        match tag {
            tag::READY => return self.ready(),
            tag::ERROR => return self.fail(),
            tag::COPY_IN => {
                self.begin_copy_in();
                return Answered::Pass;
            }
            _ => {}
        }
        let Some(front) = self.queue.front() else { return Answered::Unexpected };
        let is_complete = match (front, tag) {
            (Expect::Query(_) | Expect::Deallocate(..), _) => false,
            (Expect::Parse(_), tag::PARSE_COMPLETE)
            | (Expect::Bind, tag::BIND_COMPLETE)
            | (Expect::Close, tag::CLOSE_COMPLETE)
            | (Expect::Describe, tag::ROW_DESCRIPTION | tag::NO_DATA)
            | (
                Expect::Execute(_),
                tag::COMMAND_COMPLETE | tag::PORTAL_SUSPENDED | tag::EMPTY_QUERY,
            ) => true,
            (Expect::Describe, tag::PARAMETER_DESCRIPTION)
            | (
                Expect::Execute(_),
                tag::DATA_ROW | tag::COPY_OUT | tag::COPY_DATA | tag::COPY_DONE,
            ) => false,
            (Expect::OwnParse(_), tag::PARSE_COMPLETE)
            | (Expect::OwnClose(_), tag::CLOSE_COMPLETE) => {
                self.queue.pop_front();
                return Answered::Swallow;
            }
            _ => return Answered::Unexpected,
        };
        match is_complete {
            true => self.queue.pop_front().map_or(Answered::Unexpected, Answered::Done),
            false => Answered::Pass,
        }
    }

    fn ready(&mut self) -> Answered {
        self.copying_in = false;
        let mut answered = Answered::Unexpected;
        while let Some(front) = self.queue.pop_front() {
            answered = match front {
                Expect::Query(_) | Expect::Deallocate(..) => Answered::Done(front),
                Expect::Sync => Answered::Ready,
                _ => continue,
            };
            break;
        }
        self.doubtful &= !self.queue.is_empty();
        answered
    }

    fn fail(&mut self) -> Answered {
        self.copying_in = false;
        self.blurred |= self.doubtful;
        match self.queue.front() {
            // Either says ReadyForQuery next; and without anything owed, the origin is about to close.
            None | Some(Expect::Query(_) | Expect::Deallocate(..) | Expect::Sync) => {
                return Answered::Failed(Vec::new());
            }
            Some(_) => {}
        }
        let is_sync = |expect: &Expect| matches!(expect, Expect::Sync);
        let keep_from = self.queue.iter().position(is_sync);
        self.skipping = keep_from.is_none();
        let mut dropped: Vec<Expect> =
            self.queue.drain(..keep_from.unwrap_or(self.queue.len())).collect();
        let replacement = match dropped.first_mut() {
            Some(Expect::Fail(bytes)) => Some(std::mem::take(bytes)),
            _ => None,
        };
        dropped.reverse();
        match replacement {
            Some(bytes) => Answered::Replace(bytes, dropped),
            None => Answered::Failed(dropped),
        }
    }

    /// Drops the Syncs that the origin has ignored, because a COPY was taking data when they came.
    fn begin_copy_in(&mut self) {
        let mut at = 1;
        while let Some(expect) = self.queue.get(at) {
            match expect {
                Expect::Sync => drop(self.queue.remove(at)),
                Expect::CopyEnd => {
                    self.queue.remove(at);
                    return;
                }
                _ => at += 1,
            }
        }
        self.copying_in = true;
    }

    /// Gives memory back that a long pipeline took.
    pub(crate) fn shrink(&mut self) {
        if self.queue.is_empty() && self.queue.capacity() > 16 {
            self.queue = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch { seen: None, started: Instant::now() }
    }

    fn flow(expects: impl IntoIterator<Item = Expect>) -> Flow {
        let mut flow = Flow::default();
        for expect in expects {
            match expect {
                Expect::Sync => flow.push_sync(),
                Expect::CopyEnd => flow.push_copy_end(),
                other => flow.push(other),
            }
        }
        flow
    }

    #[test]
    fn a_batch_is_answered_in_order() {
        let mut flow = flow([
            Expect::Parse(None),
            Expect::Bind,
            Expect::Describe,
            Expect::Execute(watch()),
            Expect::Sync,
        ]);
        for (tag, is_done) in [
            (tag::PARSE_COMPLETE, true),
            (tag::BIND_COMPLETE, true),
            (tag::ROW_DESCRIPTION, true),
            (tag::DATA_ROW, false),
            (tag::COMMAND_COMPLETE, true),
        ] {
            assert_eq!(matches!(flow.answer(tag), Answered::Done(_)), is_done);
        }
        assert!(!flow.is_empty());
        assert!(matches!(flow.answer(tag::READY), Answered::Ready));
        assert!(flow.is_empty());
    }

    #[test]
    fn a_batch_is_open_until_a_sync_even_if_all_is_answered() {
        let mut flow = flow([Expect::Parse(None)]);
        assert!(matches!(flow.answer(tag::PARSE_COMPLETE), Answered::Done(_)));
        assert!(!flow.is_empty());
        flow.push_sync();
        assert!(matches!(flow.answer(tag::READY), Answered::Ready));
        assert!(flow.is_empty());
    }

    #[test]
    fn an_error_drops_what_follows_up_to_the_sync() {
        let mut flow = flow([
            Expect::Parse(None),
            Expect::Bind,
            Expect::Sync,
            Expect::Parse(None),
            Expect::Sync,
        ]);
        assert!(matches!(flow.answer(tag::ERROR), Answered::Failed(dropped) if dropped.len() == 2));
        assert!(matches!(flow.answer(tag::READY), Answered::Ready));
        assert!(matches!(flow.answer(tag::PARSE_COMPLETE), Answered::Done(Expect::Parse(_))));
    }

    #[test]
    fn after_an_error_nothing_counts_until_a_sync() {
        let mut flow = flow([Expect::Parse(None)]);
        assert!(matches!(flow.answer(tag::ERROR), Answered::Failed(_)));
        assert!(flow.is_skipping() && !flow.is_empty());
        flow.push(Expect::Bind);
        flow.push(Expect::Query(watch()));
        flow.push_sync();
        assert!(matches!(flow.answer(tag::READY), Answered::Ready));
        assert!(flow.is_empty());
    }

    #[test]
    fn what_the_proxy_says_itself_comes_in_its_turn() {
        let mut flow = flow([Expect::Bind, Expect::Say(Box::new([1]), None), Expect::Sync]);
        assert_eq!(flow.next_own(), None);
        flow.answer(tag::BIND_COMPLETE);
        assert_eq!(flow.next_own().as_deref(), Some(&[1][..]));
        assert_eq!(flow.next_own(), None);
    }

    #[test]
    fn an_error_that_stands_for_another_is_replaced() {
        let mut flow = flow([Expect::Fail(Box::new([7])), Expect::Bind, Expect::Sync]);
        assert!(matches!(flow.answer(tag::ERROR), Answered::Replace(bytes, _) if *bytes == [7]));
    }

    #[test]
    fn a_sync_that_came_while_data_was_taken_in_is_not_answered() {
        // As libpq sends a COPY in the extended protocol.
        let mut flow = flow([Expect::Execute(watch()), Expect::Sync]);
        assert!(matches!(flow.answer(tag::COPY_IN), Answered::Pass));
        flow.push_copy_end();
        flow.push_sync();
        assert!(matches!(flow.answer(tag::COMMAND_COMPLETE), Answered::Done(_)));
        assert!(matches!(flow.answer(tag::READY), Answered::Ready));
        assert!(flow.is_empty());
    }

    #[test]
    fn a_whole_copy_may_be_sent_before_the_origin_asks_for_it() {
        let mut flow = flow([Expect::Query(watch()), Expect::CopyEnd, Expect::Query(watch())]);
        assert!(matches!(flow.answer(tag::COPY_IN), Answered::Pass));
        assert!(matches!(flow.answer(tag::COMMAND_COMPLETE), Answered::Pass));
        assert!(matches!(flow.answer(tag::READY), Answered::Done(Expect::Query(_))));
        assert!(matches!(flow.answer(tag::READY), Answered::Done(Expect::Query(_))));
        assert!(flow.is_empty());
    }

    fn named(name: &[u8]) -> Option<Box<Undo>> {
        Some(Box::new(Undo { name: name.into(), before: None, unnamed: None }))
    }

    #[test]
    fn a_name_is_unsure_while_an_earlier_batch_may_fail() {
        let mut flow = flow([Expect::Parse(named(b"a")), Expect::Bind]);
        // If it fails, so does all of this batch.
        assert!(!flow.is_unsure(b"a"));
        flow.push_sync();
        assert!(flow.is_unsure(b"a") && !flow.is_unsure(b"b"));
        flow.push(Expect::Say(Box::default(), named(b"a")));
        assert!(!flow.is_unsure(b"a"));
        for tag in [tag::PARSE_COMPLETE, tag::BIND_COMPLETE, tag::READY] {
            flow.answer(tag);
        }
        flow.push_sync();
        assert!(flow.is_unsure(b"a"));
        flow.next_own();
        assert!(!flow.is_unsure(b"a"));
    }

    #[test]
    fn it_ends_unless_the_client_has_to_say_more() {
        assert!(Flow::default().ends());
        assert!(flow([Expect::Query(watch()), Expect::CopyEnd]).ends());
        assert!(flow([Expect::Bind, Expect::Sync, Expect::Say(Box::default(), None)]).ends());
        let mut answered = flow([Expect::Bind]);
        answered.answer(tag::BIND_COMPLETE);
        assert!(!answered.ends());
        assert!(!flow([Expect::Sync, Expect::Bind]).ends());
        let mut skipping = flow([Expect::Bind]);
        skipping.answer(tag::ERROR);
        assert!(!skipping.ends());
        let mut copying = flow([Expect::Query(watch())]);
        copying.answer(tag::COPY_IN);
        assert!(!copying.ends());
        copying.push_copy_end();
        assert!(copying.ends());
    }

    #[test]
    fn a_sync_amid_data_that_fails_leaves_nothing_certain() {
        let copy = || {
            let mut flow = flow([Expect::Query(watch())]);
            flow.answer(tag::COPY_IN);
            flow.note_copy_data();
            flow
        };
        let mut certain = copy();
        certain.push_copy_end();
        certain.push_sync();
        certain.answer(tag::ERROR);
        assert!(!certain.is_blurred());
        let mut blurred = copy();
        blurred.push_sync();
        assert!(!blurred.is_blurred());
        blurred.answer(tag::ERROR);
        assert!(blurred.is_blurred());
    }

    #[test]
    fn what_does_not_fit_is_said_to() {
        assert!(matches!(Flow::default().answer(tag::DATA_ROW), Answered::Unexpected));
        assert!(matches!(flow([Expect::Bind]).answer(tag::DATA_ROW), Answered::Unexpected));
    }
}
