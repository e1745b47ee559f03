//! What was found out about a text.

use std::collections::BTreeSet;

use pgrx::pg_sys;

use super::pins::Pins;

/// Why an answer may not be kept.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// For people; never with a constant of the query.
    pub(super) why: String,
    /// Whether a rule of the operator may keep it all the same, for a time.
    pub(super) by_rule: bool,
}

/// A place where a relation is read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) oid: pg_sys::Oid,
    /// Whether its partitions and inheritors are read with it.
    pub(super) inherits: bool,
    pub(super) pins: Pins,
    /// Why nothing is pinned, where it is not for want of predicates.
    pub(super) whole: Option<&'static str>,
}

/// A relation that a statement writes to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) oid: pg_sys::Oid,
    pub(super) inherits: bool,
    pub(super) pins: Pins,
    /// Columns that are given another value, by number; `None` for those of no single row, as by INSERT.
    pub(super) assigned: BTreeSet<i16>,
    /// Bits of pg_trigger.tgtype.
    pub(super) events: i16,
}

/// What was found out about a text.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) refusal: Option<Refusal>,
    pub(super) settings: BTreeSet<String>,
    pub(super) reads: Vec<Read>,
    pub(super) targets: Vec<Target>,
    pub(super) writes_everything: bool,
    pub(super) changes_session: bool,
    /// How many bodies of functions were looked into.
    pub(super) bodies: usize,
}

impl Findings {
    /// Notes a reason; the first counts, and one that no rule overcomes counts more.
    pub(super) fn refuse(&mut self, by_rule: bool, why: impl Into<String>) {
        if self.refusal.as_ref().is_none_or(|known| known.by_rule && !by_rule) {
            self.refusal = Some(Refusal { why: why.into(), by_rule });
        }
    }
}
