//! What a session needs to be answered from what is kept: who it is, what it has seen and written, and what it is
//! about to learn.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use integratedb_cache::{FenceId, FillTicket, Follower, Leader, Lsn, Reached, Scope, Snapshot};
use integratedb_template::Outline;
use integratedb_wire::bind_names;

use crate::cache::{Engine, Identity, Plan, ReadAnswer, Reading, Values, Who};
use crate::proxy::observe::Seen;
use crate::proxy::room::{EACH, Room, Taken};
use crate::proxy::statements::Statement;

/// Statements known to be current, at most.
const NAMES: usize = 10_000;

/// The longest name of one, in bytes. One with a longer name goes to the origin.
const LONGEST_NAME: usize = 256;

/// Messages kept back beyond which the origin is told of them.
const MOST_KEPT_BACK: usize = 1000;

/// A session's part of the cache.
pub(super) struct Caching {
    pub(super) engine: Arc<Engine>,
    /// By what the session's identity may be known from others like it; `None` once it has set something.
    pub(super) who: Option<Who>,
    /// The database it is in.
    database: Box<[u8]>,
    /// How often what is known of sessions had become void when it began.
    born: u64,
    /// What it is, and how often such knowledge had been declared void when it was learned.
    identity: Option<(Identity, u64)>,
    /// How often what is known of the identity has become void in this session.
    pub(super) generation: u32,
    /// The position up to which it may have seen commits; `None` while that is not known.
    pub(super) seen: Option<Lsn>,
    /// Counts what was sent to the origin, so that a position is only believed when nothing was sent since.
    pub(super) contacts: u64,
    /// A BEGIN that the client believes done and the origin does not know of.
    pub(super) block: Option<Box<[u8]>>,
    /// What the client has prepared and the origin does not know of.
    unsent: Vec<KeptBack>,
    /// The unit that was sent last, while it is answered.
    pub(super) underway: Option<Box<Underway>>,
    /// The one before, whose answer is kept once the position after it is known.
    pub(super) answered: Option<Box<Underway>>,
    /// Bytes of it that were not passed on yet.
    pub(super) unit_left: usize,
    /// Whether its end is followed by the question for the position.
    pub(super) asks_position: bool,
    /// Such a question is under way.
    pub(super) is_position_asked: bool,
    /// Others wait for what this session fetches next.
    pub(super) leads: Option<Leader>,
    /// What the open transaction, or what is under way, may write.
    pub(super) written: Vec<Scope>,
    /// What was written and acknowledged, and is not known to have arrived here.
    pub(super) fences: VecDeque<FenceId>,
    /// Statements that were prepared or run since the schema last changed, and how often it had by then.
    current: (u64, HashSet<Box<[u8]>>),
    /// What it waits for before it answers.
    pub(super) pause: Option<Pause>,
    /// The client has cancelled what waits.
    pub(super) is_cancelled: bool,
    /// It has waited for this unit.
    pub(super) has_waited: bool,
    /// It has waited for the disk for this unit.
    pub(super) has_read: bool,
    /// What came from there.
    pub(super) read: Option<ReadAnswer>,
    /// What the client said last was tried to be answered, in vain.
    pub(super) was_tried: bool,
    /// There is an answer to this unit that the session can't have now.
    pub(super) is_kept: bool,
    /// The origin was asked how far it is for this unit.
    pub(super) is_revalidated: bool,
}

/// A Parse that was answered and not passed on.
struct KeptBack {
    /// The name it gives.
    name: Box<[u8]>,
    message: Box<[u8]>,
    _taken: Taken,
}

/// A unit under way.
pub(super) struct Underway {
    pub(super) seen: Option<Arc<Seen>>,
    /// `None` where nothing is run.
    pub(super) run: Option<Run>,
    pub(super) identity: Option<Identity>,
    pub(super) plan: Option<Arc<Plan>>,
    /// It is run by itself within a block that the origin does not know of.
    pub(super) in_block: bool,
    /// Its text and values are in the encoding of the origin's log.
    pub(super) is_utf8: bool,
    /// Whether its answer was to be kept.
    pub(super) keeps: bool,
    /// What there is of its answer; `None` once it can't be kept.
    pub(super) fill: Option<Fill>,
    /// The origin has refused it.
    pub(super) has_failed: bool,
    pub(super) started: Instant,
    /// From then to the end of its answer.
    pub(super) cost: Duration,
}

/// What was run.
pub(super) enum Run {
    /// A text.
    Simple(Box<[u8]>),
    /// A statement, with the body of its Bind.
    Bound { statement: Arc<Statement>, bind: Box<[u8]> },
}

/// An answer that is being kept.
pub(super) struct Fill {
    pub(super) ticket: FillTicket,
    /// Others wait for the same.
    pub(super) leader: Option<Leader>,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) description: Vec<u8>,
    pub(super) rows: Vec<u8>,
    rest: Rest,
}

/// Where the rest of a message goes that has begun.
#[derive(Clone, Copy, Default)]
enum Rest {
    #[default]
    Nowhere,
    Description,
    Rows,
}

impl Fill {
    pub(super) fn new(ticket: FillTicket, leader: Option<Leader>) -> Self {
        Self {
            ticket,
            leader,
            snapshot: None,
            description: Vec::new(),
            rows: Vec::new(),
            rest: Rest::Nowhere,
        }
    }
}

/// What a session waits for.
pub(super) struct Pause {
    pub(super) what: Awaited,
    pub(super) deadline: Pin<Box<tokio::time::Sleep>>,
    pub(super) since: Instant,
    /// A cancel request of the client ends it too.
    pub(super) asked: tokio::sync::oneshot::Receiver<()>,
}

pub(super) enum Awaited {
    /// The reader, to get here.
    Position(Reached),
    /// Another session, to have the answer.
    Answer(Follower),
    /// The disk.
    Read(Reading),
}

impl Caching {
    pub(super) fn new(engine: Arc<Engine>, who: Who) -> Self {
        Self {
            born: engine.epoch(),
            database: who.database().into(),
            engine,
            who: Some(who),
            identity: None,
            generation: 0,
            // It has seen nothing yet.
            seen: Some(Lsn(0)),
            contacts: 0,
            block: None,
            unsent: Vec::new(),
            underway: None,
            answered: None,
            unit_left: 0,
            asks_position: false,
            is_position_asked: false,
            leads: None,
            written: Vec::new(),
            fences: VecDeque::new(),
            current: (0, HashSet::new()),
            pause: None,
            is_cancelled: false,
            has_waited: false,
            has_read: false,
            read: None,
            was_tried: false,
            is_kept: false,
            is_revalidated: false,
        }
    }

    /// What the session is, if that is known.
    pub(super) fn identity(&mut self) -> Option<Identity> {
        let epoch = self.engine.epoch();
        if let Some((identity, at)) = self.identity
            && at == epoch
        {
            return Some(identity);
        }
        let who = self.who.as_ref().filter(|_| self.is_of_now());
        let identity = who.and_then(|who| self.engine.identity(who))?;
        self.identity = Some((identity, epoch));
        Some(identity)
    }

    /// Something is sent that may change what the session is.
    pub(super) fn forget_identity(&mut self) {
        self.identity = None;
        self.who = None;
        self.generation = self.generation.wrapping_add(1);
    }

    /// The origin has said what the session was when it was asked.
    ///
    /// False if it is not what the session is known to be: then its connection has something of another's.
    pub(super) fn learn_identity(&mut self, generation: u32, epoch: u64, json: &[u8]) -> bool {
        if generation != self.generation {
            return false;
        }
        let known = self.identity();
        let who = self.who.as_ref().filter(|_| self.is_of_now());
        let Some(identity) = self.engine.learn_identity(who, epoch, json) else { return false };
        if known.is_some_and(|known| known != identity) {
            if let Some(underway) = &mut self.underway {
                underway.fill = None;
            }
            return false;
        }
        self.identity = Some((identity, epoch));
        if let Some(underway) = &mut self.underway {
            underway.identity.get_or_insert(identity);
        }
        true
    }

    /// Whether the session began since roles and settings last changed: others like it began the same.
    fn is_of_now(&self) -> bool {
        self.born == self.engine.epoch()
    }

    /// Whether its answers may be shared; not if that is not known yet, but about to be.
    pub(super) fn is_usable(&mut self) -> bool {
        self.identity().is_none_or(|identity| identity.is_usable)
    }

    /// The database it is in.
    pub(super) fn database(&self) -> &[u8] {
        &self.database
    }

    /// Goes on with another engine, of which it knows nothing.
    pub(super) fn follow(&mut self, engine: Arc<Engine>) {
        self.fences.clear();
        self.identity = None;
        (self.seen, self.answered) = (None, None);
        self.born = engine.epoch();
        self.engine = engine;
    }

    /// Whether nothing has changed since the statement with this name was prepared, or it has been run since.
    pub(super) fn is_current(&self, name: &[u8]) -> bool {
        let epoch = self.engine.epoch();
        self.born == epoch || self.current.0 == epoch && self.current.1.contains(name)
    }

    /// The statement with this name is prepared or run at the origin.
    pub(super) fn note_current(&mut self, name: &[u8]) {
        let epoch = self.engine.epoch();
        if self.born == epoch || name.len() > LONGEST_NAME {
            return;
        }
        if self.current.0 != epoch || self.current.1.len() >= NAMES {
            self.current = (epoch, HashSet::new());
        }
        self.current.1.insert(name.into());
    }

    /// The origin has said what it makes of the statement under way.
    pub(super) fn learn_plan(&mut self, json: &[u8]) {
        let Some(underway) = &mut self.underway else { return };
        let (Some(seen), Some(run)) = (&underway.seen, &underway.run) else { return };
        let (text, types) = run.statement();
        let outline = seen.outline(text);
        let identity = underway.identity.as_ref();
        let plan = self.engine.learn_plan(seen, outline, types, identity, json);
        let Some(plan) = plan else { return };
        if plan.writes() {
            let values = run.values(outline).map(|values| values.in_utf8(underway.is_utf8));
            self.written.extend(plan.scopes(values.as_ref()));
        }
        let changes_session = plan.description.changes_session;
        underway.plan = Some(plan);
        if changes_session {
            self.forget_identity();
        }
    }

    /// Something is sent to the origin.
    pub(super) const fn contact(&mut self) {
        self.contacts += 1;
        self.seen = None;
    }

    /// The origin has told a position after this many contacts.
    pub(super) fn learn_position(&mut self, contacts: u64, position: Lsn) {
        if contacts == self.contacts {
            self.seen = Some(position);
        }
        for fence in self.fences.drain(..) {
            self.engine.settle(fence, position);
        }
    }

    /// A Parse was answered that the origin does not know of.
    pub(super) fn keep_back(&mut self, name: &[u8], message: &[u8], room: &Arc<Room>) {
        self.drop_kept_back(name);
        let taken = room.take(EACH + name.len() + message.len());
        self.unsent.push(KeptBack { name: name.into(), message: message.into(), _taken: taken });
    }

    /// Whether so many are kept back that the origin is to learn of them first.
    pub(super) fn keeps_back_enough(&self) -> bool {
        self.unsent.len() >= MOST_KEPT_BACK
    }

    /// Whether a Parse with this name is kept back.
    pub(super) fn has_kept_back(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The origin learns of the statement with this name by other ways.
    pub(super) fn drop_kept_back(&mut self, name: &[u8]) {
        self.unsent.retain(|known| *known.name != *name);
    }

    /// The messages that were kept back.
    pub(super) fn take_kept_back(&mut self) -> impl Iterator<Item = Box<[u8]>> + use<> {
        std::mem::take(&mut self.unsent).into_iter().map(|kept| kept.message)
    }

    /// Who waits for the answer that is being fetched here does so no more.
    pub(super) fn give_up_lead(&mut self) {
        if let Some(underway) = &mut self.underway
            && let Some(fill) = &mut underway.fill
        {
            fill.leader = None;
        }
    }

    /// The unit is done with: what it has waited for counts no more.
    pub(super) fn end_waits(&mut self) {
        (self.has_waited, self.is_revalidated) = (false, false);
        if std::mem::take(&mut self.has_read) {
            self.read = None;
        }
    }

    /// Ready when there is nothing to wait for any more.
    pub(super) fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pause) = &mut self.pause else { return Poll::Ready(()) };
        self.is_cancelled = matches!(Pin::new(&mut pause.asked).poll(cx), Poll::Ready(Ok(())));
        let is_over = self.is_cancelled
            || pause.deadline.as_mut().poll(cx).is_ready()
            || match &mut pause.what {
                Awaited::Position(reached) => reached.poll(cx).is_ready(),
                Awaited::Answer(follower) => follower.poll(cx).is_ready(),
                Awaited::Read(reading) => reading.poll(cx).is_ready(),
            };
        if !is_over {
            return Poll::Pending;
        }
        if let Some(pause) = self.pause.take() {
            match pause.what {
                Awaited::Position(_) => self.engine.note_wait(pause.since.elapsed()),
                Awaited::Answer(_) => {}
                Awaited::Read(reading) => self.read = reading.end(),
            }
        }
        Poll::Ready(())
    }
}

impl Run {
    /// The text and the types of its parameters.
    pub(super) fn statement(&self) -> (&[u8], &[u8]) {
        match self {
            Self::Simple(text) => (text, &[]),
            Self::Bound { statement, .. } => (&statement.text, &statement.types),
        }
    }

    /// What identifies the answer besides the session: the statement's hash where it is prepared, and the parameters.
    pub(super) fn parts(&self) -> (Option<u128>, &[u8]) {
        match self {
            Self::Simple(_) => (None, &[]),
            Self::Bound { statement, bind } => {
                let taken = bind_names(bind).map_or(0, |(_, _, taken)| taken);
                (Some(statement.hash), &bind[taken..])
            }
        }
    }

    pub(super) fn values<'a>(&'a self, outline: &'a Outline) -> Option<Values<'a>> {
        match self {
            Self::Simple(text) => Some(Values::of(text, outline)),
            Self::Bound { statement, bind } => Values::bound(&statement.text, outline, bind),
        }
    }
}

impl Underway {
    /// Of what only prepares.
    pub(super) fn preparation(started: Instant) -> Self {
        Self {
            seen: None,
            run: None,
            identity: None,
            plan: None,
            in_block: true,
            is_utf8: false,
            keeps: false,
            fill: None,
            has_failed: false,
            started,
            cost: Duration::ZERO,
        }
    }

    /// Takes a part of the answer, which begins with a message of this type; what follows of that message comes by
    /// [`Self::collect_rest`]. What is longer than `most` bytes is not kept.
    pub(super) fn collect(&mut self, most: usize, kind: u8, bytes: &[u8]) {
        use integratedb_wire::tag::backend as tag;
        let Some(fill) = &mut self.fill else { return };
        fill.rest = match kind {
            tag::ROW_DESCRIPTION => Rest::Description,
            tag::DATA_ROW | tag::COMMAND_COMPLETE => Rest::Rows,
            // They say nothing about the answer.
            tag::PARSE_COMPLETE
            | tag::BIND_COMPLETE
            | tag::CLOSE_COMPLETE
            | tag::READY
            | tag::NOTIFICATION => Rest::Nowhere,
            _ => {
                self.fill = None;
                return;
            }
        };
        self.collect_rest(most, bytes);
    }

    /// Takes more of the message that began last.
    pub(super) fn collect_rest(&mut self, most: usize, bytes: &[u8]) {
        let Some(fill) = &mut self.fill else { return };
        match fill.rest {
            Rest::Nowhere => return,
            Rest::Description => fill.description.extend_from_slice(bytes),
            Rest::Rows => fill.rows.extend_from_slice(bytes),
        }
        if fill.description.len() + fill.rows.len() > most {
            self.fill = None;
        }
    }
}
