//! Looks into functions in SQL as if their bodies stood in the query.

use std::ffi::{CString, c_void};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::findings::Findings;
use super::judge::Function;
use super::node::{cast, items};
use super::walk::{self, Origin};

/// Bodies in bodies, and bodies in all, beyond which a query is not looked into.
const MAX_DEPTH: usize = 8;
const MAX_BODIES: usize = 100;

unsafe extern "C-unwind" {
    // Of executor/functions.h, which pgrx does not bind: how names of arguments in a body are understood.
    fn prepare_sql_fn_parse_info(
        procedure: pg_sys::HeapTuple,
        call: *mut pg_sys::Node,
        collation: pg_sys::Oid,
    ) -> *mut c_void;
    fn sql_fn_parser_setup(state: *mut pg_sys::ParseState, info: *mut c_void);
}

/// Notes what a STABLE or IMMUTABLE function in SQL does.
///
/// # Safety
/// `call` is the node that calls it.
pub(super) unsafe fn look(
    oid: pg_sys::Oid,
    function: &Function,
    call: *mut pg_sys::Node,
    depth: usize,
    findings: &mut Findings,
) {
    findings.bodies += 1;
    if depth >= MAX_DEPTH || findings.bodies > MAX_BODIES {
        return findings.refuse(true, "calls functions in functions, too many to look into");
    }
    // SAFETY: a tuple of the cache PROCOID is a pg_proc row; it is released below, or by the subtransaction that is
    // given up after an error, which also brings back the role and the settings.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            pg_sys::Datum::from(oid),
        );
        if tuple.is_null() {
            return;
        }
        let nest_level = pg_sys::NewGUCNestLevel();
        let (mut role, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&mut role, &mut context);
        as_when_called(tuple);
        let (queries, source) = queries(tuple, call);
        pg_sys::SetUserIdAndSecContext(role, context);
        pg_sys::AtEOXact_GUC(false, nest_level);
        pg_sys::ReleaseSysCache(tuple);

        let tables = findings.reads.len();
        for query in queries {
            if (*query).commandType != pg_sys::CmdType::CMD_SELECT {
                findings
                    .refuse(false, format!("calls a function that writes: {}", function.title()));
            }
            let origin = Origin { text: source.as_bytes(), is_own: false, depth: depth + 1 };
            walk::query(query, origin, findings);
        }
        if function.volatile == b'i' && findings.reads.len() > tables {
            let why =
                format!("calls a function that says IMMUTABLE and is not: {}", function.title());
            findings.refuse(true, why);
        }
    }
}

/// Takes the role of a SECURITY DEFINER function, and its settings.
unsafe fn as_when_called(tuple: pg_sys::HeapTuple) {
    // SAFETY: the tuple is a pg_proc row; proconfig is an array of texts.
    unsafe {
        let row = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_proc>();
        if row.prosecdef {
            let (mut role, mut context) = (pg_sys::InvalidOid, 0);
            pg_sys::GetUserIdAndSecContext(&mut role, &mut context);
            let changed = context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
            pg_sys::SetUserIdAndSecContext(row.proowner, changed);
        }
        if let Some(settings) = attribute(tuple, pg_sys::Anum_pg_proc_proconfig) {
            pg_sys::ProcessGUCArray(
                pg_sys::pg_detoast_datum(settings.cast_mut_ptr()).cast(),
                if pg_sys::superuser() {
                    pg_sys::GucContext::PGC_SUSET
                } else {
                    pg_sys::GucContext::PGC_USERSET
                },
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
            );
        }
    }
}

/// The rewritten queries of the body, and the text that their constants' locations refer to.
unsafe fn queries(
    tuple: pg_sys::HeapTuple,
    call: *mut pg_sys::Node,
) -> (Vec<*mut pg_sys::Query>, String) {
    let mut found = Vec::new();
    // SAFETY: the tuple is a pg_proc row; a stored body is a query or a list of lists of queries
    // (init_sql_fcache in PostgreSQL's functions.c), and what is parsed is as the parser makes it.
    unsafe {
        if let Some(stored) = attribute(tuple, pg_sys::Anum_pg_proc_prosqlbody) {
            let text = CString::new(String::from_datum(stored, false).unwrap_or_default())
                .expect("Postgres keeps no NUL in a text");
            let node: *mut pg_sys::Node = pg_sys::stringToNode(text.as_ptr().cast_mut()).cast();
            let parsed: Vec<*mut pg_sys::Query> =
                match cast::<pg_sys::List>(node, pg_sys::NodeTag::T_List) {
                    Some(_) => items::<pg_sys::List>(node.cast())
                        .next()
                        .map_or_else(Vec::new, |inner| items(inner).collect()),
                    None => vec![node.cast()],
                };
            for query in parsed {
                pg_sys::AcquireRewriteLocks(query, true, false);
                found.extend(items::<pg_sys::Query>(pg_sys::pg_rewrite_query(query)));
            }
            return (found, String::new());
        }
        let source = attribute(tuple, pg_sys::Anum_pg_proc_prosrc)
            .and_then(|source| String::from_datum(source, false))
            .unwrap_or_default();
        let text = pg_sys::pstrdup(
            CString::new(source.clone()).expect("Postgres keeps no NUL in a text").as_ptr(),
        );
        let collation = pg_sys::exprInputCollation(call);
        let info = pg_sys::ffi::pg_guard_ffi_boundary(|| {
            prepare_sql_fn_parse_info(tuple, call, collation)
        });
        for statement in items::<pg_sys::RawStmt>(pg_sys::pg_parse_query(text)) {
            found.extend(items::<pg_sys::Query>(analyse(statement, text, info)));
        }
        (found, source)
    }
}

unsafe fn analyse(
    statement: *mut pg_sys::RawStmt,
    text: *const std::ffi::c_char,
    info: *mut c_void,
) -> *mut pg_sys::List {
    // SAFETY: the statement is a parsed one, and the hook takes what prepare_sql_fn_parse_info made.
    unsafe {
        #[cfg(feature = "pg14")]
        return pg_sys::pg_analyze_and_rewrite_params(
            statement,
            text,
            Some(sql_fn_parser_setup),
            info,
            std::ptr::null_mut(),
        );
        #[cfg(not(feature = "pg14"))]
        pg_sys::pg_analyze_and_rewrite_withcb(
            statement,
            text,
            Some(sql_fn_parser_setup),
            info,
            std::ptr::null_mut(),
        )
    }
}

unsafe fn attribute(tuple: pg_sys::HeapTuple, number: u32) -> Option<pg_sys::Datum> {
    let mut is_null = true;
    // SAFETY: the tuple is a pg_proc row of the cache PROCOID.
    let datum = unsafe {
        pg_sys::SysCacheGetAttr(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            tuple,
            number as i16,
            &mut is_null,
        )
    };
    (!is_null).then_some(datum)
}
