//! `integratedb.session_key`: what two sessions must have in common to be given each other's answers.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;
use serde_json::{Map, json};

/// Settings that change what a query means or how its answer is written. Those that another version of Postgres has
/// are passed over.
const SETTINGS: [&CStr; 24] = [
    c"TimeZone",
    c"timezone_abbreviations",
    c"DateStyle",
    c"IntervalStyle",
    c"bytea_output",
    c"extra_float_digits",
    c"client_encoding",
    c"lc_monetary",
    c"lc_numeric",
    c"lc_time",
    c"row_security",
    c"session_replication_role",
    c"xmlbinary",
    c"xmloption",
    c"default_text_search_config",
    c"standard_conforming_strings",
    c"backslash_quote",
    c"array_nulls",
    c"quote_all_identifiers",
    c"transform_null_equals",
    c"gin_fuzzy_search_limit",
    c"restrict_nonsystem_relation_kind",
    c"default_transaction_isolation",
    c"transaction_isolation",
];

/// Describes the calling session as JSON: `key` is equal for two sessions exactly if one may be given what the other
/// was answered, as far as roles and settings decide it. `names` are further settings that matter, such as those that
/// policies read; one that is not set, or that the role may not see, is null.
#[pg_extern(schema = "integratedb", volatile)]
pub(crate) fn session_key(names: Vec<String>) -> String {
    let mut settings = Map::new();
    for name in SETTINGS {
        settings.insert(name.to_string_lossy().into_owned(), setting(name).into());
    }
    let mut own = Map::new();
    for name in names {
        let value = CString::new(name.as_str()).ok().and_then(|name| setting(&name));
        own.insert(name, value.into());
    }
    // SAFETY: these functions have no preconditions in a transaction; the path is a list of oids.
    let (user, session_user, path, is_superuser, in_recovery) = unsafe {
        let path = pg_sys::fetch_search_path(true);
        let length = if path.is_null() { 0 } else { (*path).length };
        let path: Vec<u32> = (0..usize::try_from(length).unwrap_or(0))
            .map(|at| (*(*path).elements.add(at)).oid_value.to_u32())
            .collect();
        (
            pg_sys::GetUserId().to_u32(),
            pg_sys::GetSessionUserId().to_u32(),
            path,
            pg_sys::superuser(),
            pg_sys::RecoveryInProgress(),
        )
    };
    json!({
        "key": {
            "user": user,
            "session_user": session_user,
            "search_path": path,
            "settings": settings,
            "own": own,
        },
        "temporary": has_temporary_objects(),
        "isolation": setting(c"transaction_isolation"),
        "superuser": is_superuser,
        "in_recovery": in_recovery,
    })
    .to_string()
}

/// The value of a setting; `None` where there is none, or where not everybody may see it.
fn setting(name: &CStr) -> Option<String> {
    // SAFETY: with `missing_ok` both functions give nothing for a name that is not known; those that would raise an
    // error for want of a privilege are not asked. The value is copied before anything could change it.
    unsafe {
        let flags = pg_sys::GetConfigOptionFlags(name.as_ptr(), true);
        if flags & pg_sys::GUC_SUPERUSER_ONLY as i32 != 0 {
            return None;
        }
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
    }
}

/// Whether anything is in the session's own temporary schema, where it could hide what others see.
fn has_temporary_objects() -> bool {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: the scan's key is initialised before it is used; what is opened is closed, or by the transaction's
    // end after an error. Everything in a schema depends on it.
    unsafe {
        pg_sys::GetTempNamespaceState(&mut schema, &mut toast);
        if schema == pg_sys::InvalidOid {
            return false;
        }
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let depends = pg_sys::table_open(pg_sys::Oid::from(PG_DEPEND), lock);
        let mut keys: [pg_sys::ScanKeyData; 2] = std::mem::zeroed();
        for (key, (column, value)) in
            keys.iter_mut().zip([(4, pg_sys::Oid::from(PG_NAMESPACE)), (5, schema)])
        {
            pg_sys::ScanKeyInit(
                key,
                column,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::Oid::from(OIDEQ),
                pg_sys::Datum::from(value),
            );
        }
        let scan = pg_sys::systable_beginscan(
            depends,
            pg_sys::Oid::from(PG_DEPEND_REFERENCE_INDEX),
            true,
            std::ptr::null_mut(),
            2,
            keys.as_mut_ptr(),
        );
        let is_any = !pg_sys::systable_getnext(scan).is_null();
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(depends, lock);
        is_any
    }
}

/// Oids that Postgres assigned by hand (pg_class.h, pg_depend.h, pg_proc.dat). refclassid and refobjid are columns 4
/// and 5 of pg_depend.
const PG_DEPEND: u32 = 2608;
const PG_DEPEND_REFERENCE_INDEX: u32 = 2674;
const PG_NAMESPACE: u32 = 2615;
const OIDEQ: u32 = 184;
