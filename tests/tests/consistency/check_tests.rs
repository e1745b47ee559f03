//! The checker, by histories made by hand.
//!
//! Times are small numbers; commit number n gives version n.

use crate::check::{Promise, Verdict, check};
use crate::history::{Course, History, Read, Write};
use crate::model::{Change, Commit, State, Table};
use crate::query::{Answer, Query, switch};

/// Who writes through the proxy.
const WRITER: usize = 9;

/// A history in the making: items 1 and 2 have version 0.
#[derive(Default)]
struct Story {
    commits: Vec<Commit>,
    history: History,
}

impl Story {
    /// The next commit of the log gives these items its number.
    fn write(mut self, items: &[i64], through_proxy: bool, sent: u64, acknowledged: u64) -> Self {
        let number = self.commits.len() as i64 + 1;
        let put =
            |id: &i64| Change::Put { old: None, row: vec![*id, 0, number], table: Table::Items };
        self.commit(items.iter().map(put).collect());
        self.history.writes.push(Write {
            session: through_proxy.then_some(WRITER),
            sent,
            acknowledged: Some(acknowledged),
            versions: vec![number],
            is_certain: true,
            ..Write::default()
        });
        self
    }

    fn commit(&mut self, changes: Vec<Change>) {
        let position = 10 * (self.commits.len() as u64 + 1);
        self.commits.push(Commit { xid: 0, position, changes });
    }

    fn around(self, items: &[i64], sent: u64, acknowledged: u64) -> Self {
        self.write(items, false, sent, acknowledged)
    }

    fn through(self, items: &[i64], sent: u64, acknowledged: u64) -> Self {
        self.write(items, true, sent, acknowledged)
    }

    /// A session sees this version of an item.
    fn sees(mut self, session: usize, item: i64, version: i64, sent: u64, answered: u64) -> Self {
        self.history.reads.push(Read {
            session,
            sent,
            answered,
            query: Query::Item(item),
            answer: Answer::Rows(vec![vec![item, 0, version]]),
            after: Vec::new(),
        });
        self
    }

    /// A session sees the sum of all versions.
    fn sums(mut self, session: usize, sum: i64, most: i64, sent: u64, answered: u64) -> Self {
        self.history.reads.push(Read {
            session,
            sent,
            answered,
            query: Query::Totals(Table::Items),
            answer: Answer::Rows(vec![vec![2, sum, most]]),
            after: Vec::new(),
        });
        self
    }

    /// From this time on the reader has applied so many commits.
    fn applied(mut self, at: u64, commits: u64) -> Self {
        self.history.applied.push((at, commits * 10));
        self
    }

    fn verdict(self, promise: Promise) -> Verdict {
        let mut initial = State::default();
        initial.put(Table::Items, vec![1, 0, 0]);
        initial.put(Table::Items, vec![2, 0, 0]);
        initial.put(Table::Secrets, vec![1, 0]);
        initial.put(Table::Switches, vec![switch::GRANT, 1, 0]);
        let (course, faults) = Course::follow(initial, self.commits, &self.history.writes);
        assert_eq!(faults, Vec::<String>::new());
        check(&course, &self.history, promise)
    }

    fn holds(self) {
        let verdict = self.verdict(Promise::ReadYourWrites);
        assert_eq!(verdict.undecided, 0);
        let accounts: Vec<_> = verdict.violations.iter().map(|v| &v.account).collect();
        assert!(accounts.is_empty(), "{accounts:?}");
    }

    fn breaks(self, why: &str) {
        let verdict = self.verdict(Promise::ReadYourWrites);
        let [violation] = verdict.violations.as_slice() else {
            panic!("{} violations", verdict.violations.len());
        };
        assert!(violation.account.contains(why), "{}", violation.account);
    }
}

#[test]
fn an_old_answer_is_right_as_long_as_nothing_forbids_it() {
    Story::default().around(&[1], 10, 20).sees(0, 1, 0, 30, 40).holds();
    Story::default().around(&[1], 10, 20).sees(0, 1, 1, 30, 40).holds();
}

#[test]
fn writes_through_the_proxy_are_read() {
    let story = || Story::default().through(&[1], 10, 20);
    story().sees(0, 1, 0, 30, 40).breaks("acknowledged before");
    // It was not acknowledged yet.
    story().sees(0, 1, 0, 15, 40).holds();
    // With it goes what was visible before it, for who has written it, and where the answer shows it.
    let story = || Story::default().around(&[1], 1, 5).through(&[2], 10, 20);
    story().sees(WRITER, 1, 0, 30, 40).breaks("visible before transaction");
    story().sees(0, 1, 0, 30, 40).holds();
    story().sums(0, 2, 2, 30, 40).breaks("visible before transaction");
    // That was not certain to be visible before it.
    let story = Story::default().around(&[1], 1, 15).through(&[2], 10, 20);
    story.sees(WRITER, 1, 0, 30, 40).holds();
}

#[test]
fn other_promises_are_held_to_as_well() {
    let holds = |story: Story, promise| story.verdict(promise).violations.is_empty();
    let story = || Story::default().around(&[1], 10, 20);
    assert!(!holds(story().sees(0, 1, 0, 30, 40), Promise::Fresh));
    assert!(holds(story().sees(0, 1, 0, 15, 40), Promise::Fresh));
    assert!(holds(story().sees(0, 1, 1, 30, 40), Promise::Fresh));
    assert!(holds(story().sees(0, 1, 0, 30, 40), Promise::Bounded(10)));
    assert!(!holds(story().sees(0, 1, 0, 31, 40), Promise::Bounded(10)));
    let back = story().sees(0, 1, 1, 25, 26).sees(0, 1, 0, 27, 28);
    assert!(holds(back, Promise::Bounded(10)));
}

#[test]
fn a_session_never_goes_back() {
    let story = || Story::default().around(&[1, 2], 10, 20).sees(0, 1, 1, 30, 40);
    story().sees(0, 2, 0, 50, 60).breaks("seen by this session");
    story().sees(1, 2, 0, 50, 60).holds();
    // What was visible before it is seen with it.
    let story = Story::default().around(&[2], 1, 5).around(&[1], 10, 20);
    story.sees(0, 1, 2, 30, 40).sees(0, 2, 0, 50, 60).breaks("visible before transaction");
}

#[test]
fn an_answer_that_could_be_several_proves_what_they_have_in_common() {
    // The sum is 3 after both, whichever came first; so both are seen.
    let story = Story::default().around(&[1], 1, 50).around(&[2], 1, 50);
    story.sums(0, 3, 2, 30, 40).sees(0, 1, 0, 41, 42).breaks("seen by this session");
}

#[test]
fn nothing_is_seen_before_it_was_sent() {
    Story::default().around(&[1], 50, 60).sees(0, 1, 1, 30, 40).breaks("true after no commit");
}

#[test]
fn an_answer_is_not_older_than_what_was_applied() {
    let story = || Story::default().around(&[1], 10, 20);
    story().applied(25, 1).sees(0, 1, 0, 30, 40).breaks("applied by the reader");
    story().applied(35, 1).sees(0, 1, 0, 30, 40).holds();
    // What is applied need not be visible yet.
    Story::default().around(&[1], 10, 60).applied(25, 1).sees(0, 1, 0, 30, 40).holds();
}

#[test]
fn overlapping_commits_may_become_visible_in_another_order() {
    let story = |end| Story::default().around(&[1], 10, end).around(&[2], 20, 40);
    story(40).sums(0, 2, 2, 30, 35).holds();
    story(15).sums(0, 2, 2, 30, 35).breaks("true after no commit");
    // But not if both wrote the same row.
    let story = Story::default().around(&[1], 10, 40).around(&[1, 2], 20, 40);
    story.sums(0, 2, 2, 30, 35).breaks("true after no commit");
}

#[test]
fn what_was_rolled_back_is_never_seen() {
    Story::default().sees(0, 1, 7, 10, 20).breaks("true after no commit");
}

#[test]
fn what_was_written_before_in_the_pipeline_is_seen() {
    let mut story = Story::default().through(&[1], 10, 30).sees(0, 1, 0, 10, 40);
    story.history.reads[0].after = vec![1];
    story.breaks("in the same pipeline");
}

#[test]
fn a_change_of_the_schema_is_seen_like_a_commit() {
    let denied = |answer: Answer, sent| {
        let mut story = Story::default();
        let row = vec![switch::GRANT, 0, 1];
        story.commit(vec![Change::Put { old: None, row, table: Table::Switches }]);
        let write = Write {
            session: Some(WRITER),
            sent: 10,
            acknowledged: Some(20),
            versions: vec![1],
            is_certain: true,
            ..Write::default()
        };
        story.history.writes.push(write);
        let query = Query::Secret(1);
        story.history.reads.push(Read {
            session: 0,
            sent,
            answered: 40,
            query,
            answer,
            after: Vec::new(),
        });
        story
    };
    denied(Answer::Denied, 15).holds();
    denied(Answer::Denied, 30).holds();
    denied(Answer::Rows(vec![vec![0]]), 15).holds();
    denied(Answer::Rows(vec![vec![0]]), 30).breaks("acknowledged before");
}

#[test]
fn a_commit_that_is_not_in_the_log_is_told() {
    let write =
        Write { acknowledged: Some(1), versions: vec![5], is_certain: true, ..Write::default() };
    let (_, faults) = Course::follow(State::default(), Vec::new(), &[write]);
    assert_eq!(faults.len(), 1);
}
