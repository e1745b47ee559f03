//! A readable account of an answer that is wrong.

use std::fmt::Write as _;

use crate::check::{Cause, Checker, Reason, Verdict};
use crate::history::Read;
use crate::model::{Change, State};

/// Commits that are told in full.
const MOST_TOLD: usize = 8;

/// What the answer should have been, and when it was true, if ever.
pub(crate) fn account(
    checker: &Checker<'_>,
    read: &Read,
    reason: impl Fn(usize) -> Option<Reason>,
) -> String {
    let course = checker.course;
    let reads = |table, row: &[i64]| read.query.reads(table, row);
    let concerning = checker.concerning(read);
    let mut text = String::new();
    let millis = |nanos: u64| nanos as f64 / 1e6;
    let _ = writeln!(
        text,
        "session {} sent at {:.3} ms, and was answered at {:.3} ms:\n  {}\n  with {:?}",
        read.session,
        millis(read.sent),
        millis(read.answered),
        read.query,
        read.answer,
    );
    // The newest moment of the log at which this was true.
    let mut state = course.state_before(0, reads);
    let mut truth = (read.query.answer(&state) == read.answer).then_some(0);
    for (count, at) in concerning.iter().enumerate() {
        apply(&mut state, &course.commits[*at].commit.changes);
        if course.commits[*at].sent <= read.answered && read.query.answer(&state) == read.answer {
            truth = Some(count + 1);
        }
    }
    let from = match truth {
        None => {
            let _ = writeln!(
                text,
                "  This was true after no commit. Those that concern it, the last first:"
            );
            let told = concerning.iter().filter(|at| course.commits[**at].sent <= read.answered);
            let told: Vec<_> = told.rev().take(MOST_TOLD).copied().collect();
            told.iter().for_each(|at| tell(&mut text, checker, read, *at, reason(*at)));
            return text;
        }
        Some(0) => {
            let _ = writeln!(text, "  This was true before the run. It lacks:");
            0
        }
        Some(count) => {
            let _ = writeln!(text, "  This was last true after:");
            tell(&mut text, checker, read, concerning[count - 1], reason(concerning[count - 1]));
            let _ = writeln!(text, "  It lacks:");
            count
        }
    };
    let lacking: Vec<usize> = concerning[from..]
        .iter()
        .copied()
        .filter(|at| course.commits[*at].sent <= read.answered)
        .collect();
    for at in lacking.iter().filter(|at| reason(**at).is_some()).take(MOST_TOLD) {
        tell(&mut text, checker, read, *at, reason(*at));
    }
    let _ = writeln!(text, "  ({} commits that concern it came after that)", lacking.len());
    text
}

fn apply(state: &mut State, changes: &[Change]) {
    changes.iter().for_each(|change| drop(state.apply(change)));
}

fn because(checker: &Checker<'_>, cause: Cause) -> String {
    match cause {
        Cause::Acknowledged => "acknowledged before".to_owned(),
        Cause::Seen(number) => {
            let read = &checker.history.reads[number];
            let (sent, answered) = (read.sent as f64 / 1e6, read.answered as f64 / 1e6);
            format!(
                "seen by this session before, from {sent:.3} to {answered:.3} ms: {} was {:?}",
                read.query, read.answer
            )
        }
        Cause::Applied => "acknowledged and applied by the reader before".to_owned(),
        Cause::Own => "written before in the same pipeline".to_owned(),
    }
}

fn tell(text: &mut String, checker: &Checker<'_>, read: &Read, at: usize, reason: Option<Reason>) {
    let known = &checker.course.commits[at];
    let why = match reason {
        Some(Reason::Acknowledged) => because(checker, Cause::Acknowledged),
        Some(Reason::Seen(number)) => because(checker, Cause::Seen(number)),
        Some(Reason::Applied) => because(checker, Cause::Applied),
        Some(Reason::Own) => because(checker, Cause::Own),
        Some(Reason::Before(other, cause)) => {
            let other = &checker.course.commits[other];
            let (xid, sent) = (other.commit.xid, other.sent as f64 / 1e6);
            let why = because(checker, cause);
            format!("visible before transaction {xid}, sent at {sent:.3}, which was {why}")
        }
        None => "not known to have been visible".to_owned(),
    };
    let path = if known.through_proxy() { "through the proxy" } else { "around the proxy" };
    let end = match known.acknowledged {
        u64::MAX => "never".to_owned(),
        nanos => format!("{:.3}", nanos as f64 / 1e6),
    };
    let is_meant = |change: &&Change| match change {
        Change::Put { row, table, .. } => read.query.reads(*table, row),
        Change::Remove(_) | Change::Clear(..) => true,
    };
    let changes: Vec<_> = known.commit.changes.iter().filter(is_meant).collect();
    let _ = writeln!(
        text,
        "    transaction {} {path}, sent at {:.3}, acknowledged at {end} ms, at {:X}/{:X} of the log: {why}\n      {changes:?}",
        known.commit.xid,
        known.sent as f64 / 1e6,
        known.commit.position >> 32,
        known.commit.position & 0xFFFF_FFFF,
    );
}

/// The first few violations.
pub(crate) fn violations(verdict: &Verdict) -> String {
    let accounts: Vec<&str> =
        verdict.violations.iter().take(3).map(|violation| violation.account.as_str()).collect();
    format!("{} answers are wrong\n{}", verdict.violations.len(), accounts.join("\n"))
}
