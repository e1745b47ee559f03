//! What INSERT and UPDATE give to the columns of their target.

use std::collections::BTreeSet;

use pgrx::pg_sys;

use super::node::{cast, items};
use super::pins::{Kind, Level, Pins};

/// The numbers of the columns that a target list assigns.
pub(super) unsafe fn numbers(targets: *mut pg_sys::List) -> BTreeSet<i16> {
    // SAFETY: a target list has target entries.
    unsafe { items::<pg_sys::TargetEntry>(targets) }
        // SAFETY: as above.
        .filter(|target| unsafe { !(**target).resjunk })
        .map(|target| unsafe { (*target).resno })
        .collect()
}

/// What the rows of an INSERT have in their columns.
pub(super) unsafe fn inserted(
    query: &pg_sys::Query,
    level: &Level<'_>,
    relation: pg_sys::Oid,
) -> Pins {
    let mut pins = Pins::new();
    // SAFETY: a target list has target entries, whose numbers are those of the relation's columns.
    unsafe {
        for target in items::<pg_sys::TargetEntry>(query.targetList) {
            let number = (*target).resno;
            if !(*target).resjunk
                && let Some(kind) = Kind::of(pg_sys::get_atttype(relation, number))
                && let Some(origins) = level.inserted((*target).expr.cast(), kind)
            {
                pins.insert(number, origins);
            }
        }
    }
    pins
}

/// The columns that ON CONFLICT names; none where it names a constraint or an expression.
pub(super) unsafe fn arbiters(conflict: &pg_sys::OnConflictExpr) -> BTreeSet<i16> {
    // SAFETY: the arbiters are inference elements, and the tag says whether one is a column.
    unsafe {
        items::<pg_sys::InferenceElem>(conflict.arbiterElems)
            .filter_map(|one| cast::<pg_sys::Var>((*one).expr, pg_sys::NodeTag::T_Var))
            .map(|column| column.varattno)
            .collect()
    }
}
