//! The checker: is every answer the true one at some snapshot that the session may be given?
//!
//! A snapshot is a set of commits. Which of two commits became visible first is only known if one was acknowledged
//! before the other was sent, or if both wrote the same row, as the second waits for the first. With a commit, a
//! snapshot has all that became visible before it.
//!
//! The snapshot of an answer
//! - has every commit that was acknowledged through the proxy before the query was sent, if it touches what the query
//!   reads or is the session's own;
//! - has every commit that an earlier answer of the same session has proven to be visible;
//! - has no commit that was sent after the answer came;
//! - has every commit that was acknowledged, to anybody, and applied by the reader before the query was sent.
//!
//! What an answer proves is what all snapshots that explain it have in common.

use std::collections::{HashMap, HashSet};

use crate::history::{Course, History, Read};
use crate::model::{Key, Table};
use crate::report;

/// Snapshots that are tried for one answer.
const MOST_TRIES: usize = 10_000;

/// What a cache promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// The above.
    ReadYourWrites,
    /// The snapshot has every commit that was acknowledged so many nanoseconds before the query was sent, to anybody;
    /// but a session may go back.
    Bounded(u64),
    /// The snapshot has every commit that was acknowledged before the query was sent, to anybody.
    Fresh,
}

/// Why a snapshot must have a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It was acknowledged through the proxy.
    Acknowledged,
    /// The session has seen it: by the answer with this number.
    Seen(usize),
    /// The reader had applied it.
    Applied,
    /// It was written before in the same pipeline.
    Own,
    /// It was visible before one of the others: this one, for that reason.
    Before(usize, Cause),
}

/// Why a snapshot must have the commit that another was visible before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Acknowledged,
    /// By the answer with this number.
    Seen(usize),
    Applied,
    Own,
}

/// All that was acknowledged before a time is visible: before a commit was sent that is.
#[derive(Clone, Copy, Debug, Default)]
struct Horizon {
    time: u64,
    from: Option<(usize, Cause)>,
}

impl Horizon {
    fn raise(&mut self, time: u64, commit: usize, cause: Cause) {
        if time > self.time {
            *self = Self { time, from: Some((commit, cause)) };
        }
    }
}

/// An answer that no snapshot explains.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) account: String,
}

/// What the checker found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    pub(crate) reads: usize,
    pub(crate) commits: usize,
    /// Answers with too many snapshots to try.
    pub(crate) undecided: usize,
    /// Answers that an older snapshot would have explained too: where the cache had a choice to be wrong.
    pub(crate) contested: usize,
}

/// What a session is known to have seen.
#[derive(Default)]
struct Seen {
    /// Commits, each by the answer with this number.
    commits: HashMap<usize, usize>,
    horizon: Horizon,
}

/// The checker at work.
pub(crate) struct Checker<'a> {
    pub(crate) course: &'a Course,
    pub(crate) history: &'a History,
    promise: Promise,
    /// The commits of each session through the proxy.
    own: HashMap<usize, Vec<usize>>,
    /// The latest that any commit was sent, up to each place in the log.
    sent: Vec<u64>,
    /// Commits by the tables that they touch.
    by_table: HashMap<Table, Vec<usize>>,
}

/// What is asked of the snapshots of one answer.
struct Bounds<'a> {
    read: &'a Read,
    seen: &'a Seen,
    /// The commits that touch what it reads.
    concerning: Vec<usize>,
    /// Up to where the reader had applied.
    applied: u64,
    horizon: Horizon,
}

/// One commit that matters to an answer.
struct Candidate {
    at: usize,
    forced: bool,
    /// It was sent before the answer came.
    possible: bool,
    keys: Vec<Key>,
}

/// Looks into every answer of a run.
pub(crate) fn check(course: &Course, history: &History, promise: Promise) -> Verdict {
    let checker = Checker::new(course, history, promise);
    let mut sessions: HashMap<usize, Seen> = HashMap::new();
    let mut verdict =
        Verdict { reads: history.reads.len(), commits: course.commits.len(), ..Verdict::default() };
    for (number, read) in history.reads.iter().enumerate() {
        let seen = sessions.entry(read.session).or_default();
        checker.look(number, read, seen, &mut verdict);
    }
    verdict
}

impl<'a> Checker<'a> {
    fn new(course: &'a Course, history: &'a History, promise: Promise) -> Self {
        let mut own: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut latest = 0;
        let mut by_table: HashMap<Table, Vec<usize>> = HashMap::new();
        let mut sent = Vec::with_capacity(course.commits.len());
        for (at, commit) in course.commits.iter().enumerate() {
            latest = latest.max(commit.sent);
            sent.push(latest);
            if let Some(session) = commit.session {
                own.entry(session).or_default().push(at);
            }
            let tables: HashSet<Table> = commit.touched.iter().map(|(table, _)| *table).collect();
            for table in tables {
                by_table.entry(table).or_default().push(at);
            }
        }
        Self { course, history, promise, own, sent, by_table }
    }

    fn look(&self, number: usize, read: &Read, seen: &mut Seen, verdict: &mut Verdict) {
        let bounds = self.bounds(read, seen);
        let (first, candidates) = self.candidates(&bounds);
        let mut search = Search::new(self.course, read, first, &candidates);
        search.run();
        if search.tries >= MOST_TRIES {
            verdict.undecided += 1;
        } else if search.found == 0 {
            let account = report::account(self, read, |at| self.reason(at, &bounds));
            verdict.violations.push(Violation { account });
        } else {
            for at in search.common.filter(|_| self.is_monotonic()).unwrap_or_default() {
                seen.horizon.raise(self.course.commits[at].sent, at, Cause::Seen(number));
                seen.commits.entry(at).or_insert(number);
            }
            let optional = candidates.iter().filter(|candidate| !candidate.forced).count();
            verdict.contested += usize::from(search.found < search.tries && optional > 0);
        }
    }

    fn bounds<'b>(&self, read: &'b Read, seen: &'b Seen) -> Bounds<'b> {
        let concerning = self.concerning(read);
        let samples = &self.history.applied;
        let applied = match samples.partition_point(|(at, _)| *at <= read.sent) {
            0 => 0,
            count => samples[count - 1].1,
        };
        let mut horizon = seen.horizon;
        let commits = &self.course.commits;
        let own = self.own.get(&read.session).into_iter().flatten();
        for at in own.filter(|_| self.is_monotonic()).chain(&concerning) {
            if commits[*at].through_proxy() && commits[*at].acknowledged < read.sent {
                horizon.raise(commits[*at].sent, *at, Cause::Acknowledged);
            }
        }
        let prefix = commits.partition_point(|commit| commit.commit.position <= applied);
        for at in (0..prefix).rev() {
            if self.sent[at] <= horizon.time {
                break;
            }
            if commits[at].acknowledged < read.sent {
                horizon.raise(commits[at].sent, at, Cause::Applied);
            }
        }
        for at in read.after.iter().filter_map(|version| self.course.by_version.get(version)) {
            horizon.raise(commits[*at].sent, *at, Cause::Own);
        }
        Bounds { read, seen, concerning, applied, horizon }
    }

    /// Whether a session never goes back.
    fn is_monotonic(&self) -> bool {
        !matches!(self.promise, Promise::Bounded(_))
    }

    /// Whether what was acknowledged at this time may no longer be lacking, whoever wrote it.
    fn is_late(&self, acknowledged: u64, read: &Read) -> bool {
        match self.promise {
            Promise::ReadYourWrites => false,
            Promise::Bounded(most) => acknowledged.saturating_add(most) < read.sent,
            Promise::Fresh => acknowledged < read.sent,
        }
    }

    /// Why a snapshot must have a commit.
    fn reason(&self, at: usize, bounds: &Bounds<'_>) -> Option<Reason> {
        let known = &self.course.commits[at];
        let was_there = known.acknowledged < bounds.read.sent;
        let is_own =
            || bounds.read.after.iter().any(|v| self.course.by_version.get(v) == Some(&at));
        if was_there && (known.through_proxy() || self.is_late(known.acknowledged, bounds.read)) {
            Some(Reason::Acknowledged)
        } else if let Some(number) = bounds.seen.commits.get(&at) {
            Some(Reason::Seen(*number))
        } else if was_there && known.commit.position <= bounds.applied {
            Some(Reason::Applied)
        } else if is_own() {
            Some(Reason::Own)
        } else {
            let (other, cause) = bounds.horizon.from?;
            let is_before = !known.is_schema && known.acknowledged < bounds.horizon.time;
            is_before.then_some(Reason::Before(other, cause))
        }
    }

    /// The commits that touch what the query reads.
    pub(crate) fn concerning(&self, read: &Read) -> Vec<usize> {
        let mut found: Vec<usize> = Table::ALL
            .iter()
            .filter_map(|table| self.by_table.get(table))
            .flatten()
            .copied()
            .filter(|at| {
                let mut touched = self.course.commits[*at].touched.iter();
                touched.any(|(table, row)| read.query.reads(*table, row))
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Up to which commit all that matter are sure to be in the snapshot, and those from there on up to the last that
    /// may be.
    fn candidates(&self, bounds: &Bounds<'_>) -> (usize, Vec<Candidate>) {
        let commits = &self.course.commits;
        let concerning = &bounds.concerning;
        let is_possible = |at: usize| commits[at].sent <= bounds.read.answered;
        let sure = concerning.iter().take_while(|at| self.reason(**at, bounds).is_some()).count();
        let first = concerning.get(sure).map_or(commits.len(), |at| *at);
        let end = concerning.iter().rposition(|at| is_possible(*at)).map_or(0, |last| last + 1);
        let candidates = concerning.get(sure..end).unwrap_or_default().iter().map(|at| {
            let touched = &commits[*at].touched;
            Candidate {
                at: *at,
                forced: self.reason(*at, bounds).is_some(),
                possible: is_possible(*at),
                keys: touched.iter().map(|(table, row)| table.key(row)).collect(),
            }
        });
        (first, candidates.collect())
    }
}

/// Goes through the snapshots that are possible.
struct Search<'a> {
    course: &'a Course,
    read: &'a Read,
    candidates: &'a [Candidate],
    state: crate::model::State,
    taken: Vec<bool>,
    tries: usize,
    found: usize,
    /// The commits that all snapshots have that were found.
    common: Option<Vec<usize>>,
}

impl<'a> Search<'a> {
    fn new(course: &'a Course, read: &'a Read, first: usize, candidates: &'a [Candidate]) -> Self {
        let state = course.state_before(first, |table, row| read.query.reads(table, row));
        let taken = Vec::with_capacity(candidates.len());
        Self { course, read, candidates, state, taken, tries: 0, found: 0, common: None }
    }

    fn run(&mut self) {
        if self.tries >= MOST_TRIES {
            return;
        }
        let next = self.taken.len();
        let Some(candidate) = self.candidates.get(next) else { return self.judge() };
        let known = &self.course.commits[candidate.at];
        // Without what came before it, or what wrote the same row before, a commit is not visible.
        let may_be_taken = candidate.possible
            && self.taken.iter().enumerate().filter(|(_, taken)| !**taken).all(|(at, _)| {
                let missing = &self.candidates[at];
                let before = &self.course.commits[missing.at];
                let comes_first = before.acknowledged < known.sent && !before.is_schema;
                !comes_first && !missing.keys.iter().any(|key| candidate.keys.contains(key))
            });
        if may_be_taken {
            self.taken.push(true);
            self.run();
            self.taken.pop();
        }
        if !candidate.forced {
            self.taken.push(false);
            self.run();
            self.taken.pop();
        }
    }

    fn judge(&mut self) {
        self.tries += 1;
        let mut state = self.state.clone();
        let taken: Vec<usize> = self
            .candidates
            .iter()
            .zip(&self.taken)
            .filter_map(|(candidate, taken)| taken.then_some(candidate.at))
            .collect();
        for at in &taken {
            let changes = &self.course.commits[*at].commit.changes;
            changes.iter().for_each(|change| drop(state.apply(change)));
        }
        if self.read.query.answer(&state) != self.read.answer {
            return;
        }
        self.found += 1;
        match &mut self.common {
            None => self.common = Some(taken),
            Some(common) => common.retain(|at| taken.contains(at)),
        }
    }
}
