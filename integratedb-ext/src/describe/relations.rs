//! What the catalog says of a relation that a query reads or writes.

use std::collections::BTreeSet;

use pgrx::pg_sys;
use serde::Serialize;

use super::node::{oids, text};
use super::pins::{Kind, Origin, Pins};

unsafe extern "C-unwind" {
    /// Of catalog/pg_inherits.h, which pgrx does not bind: a relation and all below it.
    fn find_all_inheritors(
        parent: pg_sys::Oid,
        lockmode: pg_sys::LOCKMODE,
        parents: *mut *mut pg_sys::List,
    ) -> *mut pg_sys::List;
}

const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;

/// A relation, open until the value is dropped or the subtransaction ends.
pub(super) struct Relation(pg_sys::Relation);

impl Relation {
    /// Opens a relation; the error of one that is gone is Postgres's own.
    pub(super) fn open(oid: pg_sys::Oid) -> Self {
        // SAFETY: any oid may be asked for.
        Self(unsafe { pg_sys::relation_open(oid, LOCK) })
    }

    pub(super) fn row(&self) -> &pg_sys::FormData_pg_class {
        // SAFETY: an open relation has its pg_class row.
        unsafe { &*(*self.0).rd_rel }
    }

    pub(super) fn kind(&self) -> u8 {
        self.row().relkind as u8
    }

    pub(super) fn name(&self) -> String {
        // SAFETY: a name ends with NUL.
        unsafe { text(self.row().relname.data.as_ptr()) }.unwrap_or_default()
    }

    pub(super) fn schema(&self) -> String {
        // SAFETY: get_namespace_name allocates a string, or gives null.
        unsafe { text(pg_sys::get_namespace_name(self.row().relnamespace)) }.unwrap_or_default()
    }

    pub(super) fn triggers(&self) -> &[pg_sys::Trigger] {
        // SAFETY: a trigger descriptor has that many triggers.
        unsafe {
            let all = (*self.0).trigdesc;
            if all.is_null() {
                return &[];
            }
            let count = usize::try_from((*all).numtriggers).unwrap_or(0);
            std::slice::from_raw_parts((*all).triggers, count)
        }
    }

    /// Why its changes are not decoded, or would fail if it were published.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        let row = self.row();
        match row.relpersistence as u8 {
            b't' => return Some("it is temporary"),
            b'u' => return Some("it is unlogged"),
            _ => {}
        }
        match row.relkind as u8 {
            b'm' | b'p' => return None,
            b'f' => return Some("it is a foreign table"),
            b'r' => {}
            _ => return Some("it is not a table"),
        }
        match row.relreplident as u8 {
            b'f' => None,
            b'n' => Some("its replica identity is NOTHING"),
            _ => {
                // SAFETY: the relation is open.
                let index = unsafe { pg_sys::RelationGetReplicaIndex(self.0) };
                (index == pg_sys::InvalidOid)
                    .then_some("it has no primary key, or no valid index for its replica identity")
            }
        }
    }

    /// The columns whose old values the WAL has of each UPDATE and DELETE.
    pub(super) fn identity(&self) -> BTreeSet<i16> {
        let row = self.row();
        let is_full = row.relreplident as u8 == b'f';
        // A partitioned table has no rows, and so no identity; its partitions' count.
        let is_any = is_full || row.relkind as u8 == b'p';
        // SAFETY: the relation is open, and its columns are numbered from 1 to relnatts.
        unsafe {
            let keys = pg_sys::RelationGetIndexAttrBitmap(
                self.0,
                pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_IDENTITY_KEY,
            );
            (1..=row.relnatts)
                .filter(|number| is_any || is_member(*number, keys))
                // Generated columns are not decoded before PostgreSQL 18.
                .filter(|number| {
                    !pg_sys::get_attname((*self.0).rd_id, *number, true).is_null()
                        && pg_sys::get_attgenerated((*self.0).rd_id, *number) == 0
                })
                .collect()
        }
    }

    /// Whether any of these columns is in a unique index, so that a foreign key may point at it.
    pub(super) fn has_key_among(&self, columns: &BTreeSet<i16>) -> bool {
        // SAFETY: the relation is open.
        unsafe {
            let keys = pg_sys::RelationGetIndexAttrBitmap(
                self.0,
                pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_KEY,
            );
            columns.iter().any(|number| is_member(*number, keys))
        }
    }

    /// The oids of what inherits from it or is a part of it, itself left out.
    pub(super) fn descendants(&self) -> Vec<pg_sys::Oid> {
        if !self.row().relhassubclass {
            return Vec::new();
        }
        // SAFETY: the result is a list of oids; the parents are not asked for.
        unsafe {
            let own = (*self.0).rd_id;
            let all = pg_sys::ffi::pg_guard_ffi_boundary(|| {
                find_all_inheritors(own, LOCK, std::ptr::null_mut())
            });
            oids(all).filter(|oid| *oid != own).collect()
        }
    }
}

impl Drop for Relation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The subtransaction that is given up closes it.
            return;
        }
        // SAFETY: it was opened by `open`; the lock stays until the subtransaction ends.
        unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) };
    }
}

unsafe fn is_member(number: i16, set: *const pg_sys::Bitmapset) -> bool {
    let offset = pg_sys::FirstLowInvalidHeapAttributeNumber;
    // SAFETY: null is the empty set.
    unsafe { pg_sys::bms_is_member(i32::from(number) - offset, set) }
}

/// The number that a column of `parent` has in `child`.
pub(super) fn translate(parent: pg_sys::Oid, child: pg_sys::Oid, number: i16) -> Option<i16> {
    if parent == child {
        return Some(number);
    }
    // SAFETY: both functions take any oid; the name is null for a column that is not there.
    unsafe {
        let name = pg_sys::get_attname(parent, number, true);
        if name.is_null() {
            return None;
        }
        let number = pg_sys::get_attnum(child, name);
        (number > 0).then_some(number)
    }
}

/// A pinned column, as told.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Pin {
    column: i16,
    /// The log tells columns by their names.
    name: String,
    #[serde(rename = "type")]
    kind: u32,
    from: Vec<Origin>,
}

/// The pins of a relation that count, with their types: on columns of its replica identity whose type has one
/// spelling for each value. `number` translates from those of the pins.
pub(super) fn told(oid: pg_sys::Oid, pins: &Pins, identity: &BTreeSet<i16>) -> Vec<Pin> {
    pins.iter()
        .filter(|(number, _)| identity.contains(number))
        .filter_map(|(number, from)| {
            // SAFETY: any oid and number may be asked for.
            let kind = unsafe { pg_sys::get_atttype(oid, *number) };
            Kind::of(kind)?;
            let mut from = from.clone();
            from.sort();
            from.dedup();
            // SAFETY: the same; the name is copied.
            let name = unsafe { text(pg_sys::get_attname(oid, *number, true)) }?;
            Some(Pin { column: *number, name, kind: kind.to_u32(), from })
        })
        .collect()
}
