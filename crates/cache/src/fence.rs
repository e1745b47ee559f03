//! Fences: what a write through the proxy may have touched, until replication has applied it (I3).
//!
//! A fence is raised when the write has committed and before its acknowledgement goes to the client. It is
//! settled with a position of the log read after that, and falls when the reader has applied as far: all the
//! write made stale is then gone.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::dependency::{DigestRow, Digester, meets};
use crate::{ColumnId, Lsn, Pin, TableId, Value};

/// More than this many that wait for replication become one around everything.
const MAX_STANDING: usize = 1024;

/// What a write may have touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// It could not be told.
    Everything,
    /// Any row of a table.
    Table(TableId),
    /// Rows of a table whose columns have, before and after, these values.
    Row {
        /// The table.
        table: TableId,
        /// The columns and their values.
        columns: Vec<(ColumnId, Value)>,
    },
}

/// Names a fence; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FenceId(pub(crate) u64);

/// A scope with digests for values.
pub(crate) enum DigestScope {
    Everything,
    Table(TableId),
    Row(TableId, DigestRow),
}

impl DigestScope {
    fn new(scope: &Scope, digester: Digester) -> Self {
        match scope {
            Scope::Everything => Self::Everything,
            Scope::Table(table) => Self::Table(*table),
            Scope::Row { table, columns } => Self::Row(*table, digester.row(columns)),
        }
    }

    pub(crate) fn blocks(&self, pins: &[Pin]) -> bool {
        match self {
            Self::Everything => true,
            Self::Table(table) => pins.iter().any(|pin| pin.table == *table),
            Self::Row(table, row) => pins.iter().any(|pin| pin.table == *table && meets(row, pin)),
        }
    }
}

/// One fence that stands.
pub(crate) struct Standing {
    id: FenceId,
    settled: Option<Lsn>,
    pub(crate) scopes: Box<[DigestScope]>,
}

/// The fences that stand.
pub(crate) struct Fences {
    standing: RwLock<Vec<Standing>>,
    count: AtomicUsize,
    next: AtomicU64,
}

/// The fences that stood at a moment, kept as they are.
pub(crate) struct Standings<'a>(Option<RwLockReadGuard<'a, Vec<Standing>>>);

impl Standings<'_> {
    /// Whether an entry with these pins must not be served.
    ///
    /// An entry that replication does not see is dropped when a fence settles, so then it no longer minds.
    pub(crate) fn block(&self, pins: &[Pin], seen_by_replication: bool) -> bool {
        self.0.as_ref().is_some_and(|standing| {
            standing
                .iter()
                .filter(|fence| seen_by_replication || fence.settled.is_none())
                .any(|fence| fence.scopes.iter().any(|scope| scope.blocks(pins)))
        })
    }
}

impl Fences {
    pub(crate) fn new() -> Self {
        Self { standing: RwLock::default(), count: AtomicUsize::new(0), next: AtomicU64::new(1) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn mark(&self) -> FenceId {
        FenceId(self.next.load(Ordering::SeqCst))
    }

    pub(crate) fn raise(&self, scopes: &[Scope], digester: Digester) -> FenceId {
        let scopes = scopes.iter().map(|scope| DigestScope::new(scope, digester)).collect();
        let mut standing = self.write();
        let id = FenceId(self.next.fetch_add(1, Ordering::SeqCst));
        standing.push(Standing { id, settled: None, scopes });
        self.count.store(standing.len(), Ordering::SeqCst);
        id
    }

    /// One load when no fence stands.
    pub(crate) fn standing(&self) -> Standings<'_> {
        if self.count() == 0 {
            return Standings(None);
        }
        Standings(Some(self.standing.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Settles the unsettled fences that are `meant`, after `visit` has seen each, and fells what can fall.
    pub(crate) fn settle(
        &self,
        meant: impl Fn(FenceId) -> bool,
        position: Lsn,
        applied: impl Fn() -> Lsn,
        mut visit: impl FnMut(&Standing),
    ) {
        let mut standing = self.write();
        for fence in standing.iter_mut().filter(|fence| meant(fence.id)) {
            if fence.settled.is_none() {
                visit(fence);
                fence.settled = Some(position);
            }
        }
        // Read under the lock: whoever advances it later comes by here.
        let applied = applied();
        standing.retain(|fence| fence.settled.is_none_or(|position| position > applied));
        if standing.len() > MAX_STANDING {
            merge(&mut standing);
        }
        self.count.store(standing.len(), Ordering::SeqCst);
    }

    /// Fells what was settled at or before `applied`.
    pub(crate) fn fall(&self, applied: Lsn) {
        if self.count() > 0 {
            let mut standing = self.write();
            standing.retain(|fence| fence.settled.is_none_or(|position| position > applied));
            self.count.store(standing.len(), Ordering::SeqCst);
        }
    }

    // A panic under this lock can only be one out of memory, and leaves the fences whole.
    fn write(&self) -> RwLockWriteGuard<'_, Vec<Standing>> {
        self.standing.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes one of all that are settled: replication is far behind, or there is none.
fn merge(standing: &mut Vec<Standing>) {
    let last = standing.iter().filter_map(|fence| fence.settled.map(|at| (at, fence.id))).max();
    if let Some((position, id)) = last {
        standing.retain(|fence| fence.settled.is_none());
        let scopes = Box::new([DigestScope::Everything]);
        standing.push(Standing { id, settled: Some(position), scopes });
    }
}
