//! What was done and answered, and when: all times are nanoseconds of one clock.

use std::collections::HashMap;

use crate::model::{Commit, Row, State, Table, version};
use crate::query::{Answer, Query};

/// A query and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) session: usize,
    /// Before it was sent; of the first query of its transaction, where that has one snapshot.
    pub(crate) sent: u64,
    /// After the answer came.
    pub(crate) answered: u64,
    pub(crate) query: Query,
    pub(crate) answer: Answer,
    /// Versions that it must see: what was written before it in the same pipeline.
    pub(crate) after: Vec<i64>,
}

/// A transaction that has committed, or may have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Write {
    /// Whose it is, if its acknowledgement came through the proxy.
    pub(crate) session: Option<usize>,
    /// Before what commits it was sent.
    pub(crate) sent: u64,
    /// After the acknowledgement; none came otherwise.
    pub(crate) acknowledged: Option<u64>,
    /// Versions that it has given to rows.
    pub(crate) versions: Vec<i64>,
    /// Rows that it has deleted, as they were.
    pub(crate) removed: Vec<(Table, Row)>,
    /// It is known to have changed something.
    pub(crate) is_certain: bool,
}

/// All of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// In the order in which answers came, at least for each session.
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Vec<Write>,
    /// Up to where the reader had applied the log by a time, both rising.
    pub(crate) applied: Vec<(u64, u64)>,
    /// Errors that Postgres would not have given, and the like.
    pub(crate) faults: Vec<String>,
}

/// A commit, with all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) commit: Commit,
    /// It was not visible before.
    pub(crate) sent: u64,
    /// It was visible from then on.
    pub(crate) acknowledged: u64,
    /// Whose it is, if it came through the proxy.
    pub(crate) session: Option<usize>,
    /// Rows as they were before and after it.
    pub(crate) touched: Vec<(Table, Row)>,
    /// It changes the schema only. Which schema a statement is planned for, and which snapshot it reads, are two
    /// questions, so what is known of data says nothing of it.
    pub(crate) is_schema: bool,
}

impl Known {
    pub(crate) const fn through_proxy(&self) -> bool {
        self.session.is_some()
    }
}

/// The commits of a run in the order of the log, and the state before and now and then between.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) commits: Vec<Known>,
    /// Commits by the versions they gave.
    pub(crate) by_version: HashMap<i64, usize>,
    /// After each [`STEP`] commits.
    states: Vec<State>,
}

const STEP: usize = 64;

impl Course {
    /// Follows the commits from a state on. Gives what contradicts the history as well.
    pub(crate) fn follow(
        initial: State,
        commits: Vec<Commit>,
        writes: &[Write],
    ) -> (Self, Vec<String>) {
        let mut course =
            Self { commits: Vec::new(), by_version: HashMap::new(), states: vec![initial.clone()] };
        let mut state = initial;
        let mut by_removal: HashMap<(Table, Row), usize> = HashMap::new();
        for (at, commit) in commits.into_iter().enumerate() {
            let mut touched = Vec::new();
            for change in &commit.changes {
                let gone = state.apply(change);
                if !matches!(change, crate::model::Change::Put { .. }) {
                    by_removal.extend(gone.iter().map(|row| (row.clone(), at)));
                }
                touched.extend(gone);
                if let crate::model::Change::Put { row, table, .. } = change {
                    course.by_version.entry(version(row)).or_insert(at);
                    touched.push((*table, row.clone()));
                }
            }
            let is_schema = touched.iter().all(|(table, _)| *table == Table::Switches);
            course.commits.push(Known {
                commit,
                sent: 0,
                acknowledged: u64::MAX,
                session: None,
                touched,
                is_schema,
            });
            if course.commits.len().is_multiple_of(STEP) {
                course.states.push(state.clone());
            }
        }
        let mut faults = Vec::new();
        for write in writes {
            let by_version = write.versions.iter().find_map(|v| course.by_version.get(v));
            let found =
                by_version.or_else(|| write.removed.iter().find_map(|row| by_removal.get(row)));
            match found {
                Some(at) => {
                    let known = &mut course.commits[*at];
                    known.sent = write.sent;
                    known.acknowledged = write.acknowledged.unwrap_or(u64::MAX);
                    known.session = write.session;
                }
                None if write.is_certain && write.acknowledged.is_some() => {
                    faults.push(format!("acknowledged, but not in the log: {write:?}"));
                }
                None => {}
            }
        }
        (course, faults)
    }

    /// The rows that are wanted, before the commit with this number.
    pub(crate) fn state_before(
        &self,
        at: usize,
        is_wanted: impl Fn(Table, &[i64]) -> bool,
    ) -> State {
        let step = at / STEP;
        let mut state = self.states[step].only(&is_wanted);
        for known in &self.commits[step * STEP..at] {
            if known.touched.iter().any(|(table, row)| is_wanted(*table, row)) {
                known.commit.changes.iter().for_each(|change| drop(state.apply(change)));
            }
        }
        state
    }

    /// The state at the end.
    pub(crate) fn last(&self) -> State {
        self.state_before(self.commits.len(), |_, _| true)
    }
}
