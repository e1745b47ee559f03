//! `integratedb.describe_query`: what a cache has to know of a text before it may keep an answer to it.
//!
//! A text is parsed, analysed and rewritten as its caller's, but neither planned nor executed. Whatever is not
//! certain is told as not cacheable. All of it happens in a subtransaction that is always rolled back, so that
//! neither a lock nor an error stays.

mod body;
mod findings;
mod judge;
mod literals;
mod node;
mod pins;
mod relations;
mod statements;
mod targets;
mod types;
mod walk;
mod writes;

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use serde_json::json;

/// Describes a text as JSON; `types` are the declared types of its parameters, 0 where they are to be inferred.
/// Never raises an error: one in the text is told as `{"error": SQLSTATE, "message": …}`. The message is Postgres's
/// own and may quote the text; everything else has no constant of it.
#[pg_extern(schema = "integratedb", volatile, parallel_unsafe)]
pub(crate) fn describe_query(query: &str, types: Vec<pg_sys::Oid>) -> String {
    // SAFETY: the subtransaction is given up in each case, and the memory context and the resource owner are again
    // the caller's, as in PL/pgSQL's exec_stmt_block.
    unsafe {
        let (context, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let answer = PgTryBuilder::new(AssertUnwindSafe(|| {
            let description = statements::describe(query, &types);
            serde_json::to_string(&description)
                .unwrap_or_else(|e| error!("could not write JSON: {e}"))
        }))
        .catch_others(|caught| {
            let (CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic { ereport: report, .. }) = &caught;
            let state = sqlstate(report.sql_error_code() as i32);
            json!({ "error": state, "message": report.message() }).to_string()
        })
        .execute();
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::RollbackAndReleaseCurrentSubTransaction();
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        answer
    }
}

/// The five characters that Postgres packs into an integer (utils/elog.h).
fn sqlstate(code: i32) -> String {
    (0..5)
        .map(|at| char::from(b'0' + u8::try_from((code >> (6 * at)) & 0x3f).unwrap_or_default()))
        .collect()
}
