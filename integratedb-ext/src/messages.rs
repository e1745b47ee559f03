//! Tells the readers of the WAL of changes to roles, which fire no event triggers.
//!
//! All other changes of the schema are told by `sql/70_messages.sql`. This hook is only there in sessions that have
//! loaded the library; others are found out by `integratedb.roles_fingerprint()`.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;
use pgrx::prelude::*;

const PREFIX: &CStr = c"integratedb";
const CONTENT: &str = r#"{"schema": "GRANT"}"#;

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

// Of replication/message.h, which pgrx does not bind.
#[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
unsafe extern "C-unwind" {
    fn LogLogicalMessage(
        prefix: *const c_char,
        message: *const c_char,
        size: usize,
        transactional: bool,
    ) -> pg_sys::XLogRecPtr;
}
#[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
unsafe extern "C-unwind" {
    fn LogLogicalMessage(
        prefix: *const c_char,
        message: *const c_char,
        size: usize,
        transactional: bool,
        flush: bool,
    ) -> pg_sys::XLogRecPtr;
}

unsafe extern "C-unwind" {
    // Of tcop/utility.h; pgrx binds it only with the guard that `utility` has to do without.
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        text: *const c_char,
        is_read_only: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        parameters: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        destination: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

/// Puts the hook before the one that is there.
pub(crate) fn install() {
    // SAFETY: _PG_init runs once in a backend, before any statement of its own session passes the hook.
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(utility);
    }
}

/// Not guarded as other functions that Postgres calls: an error of the statement leaps over this function as it does
/// over one in C. Taken up into Rust and raised anew it would lose what pgrx does not know of errors, such as the
/// constraint and the position. So nothing here may need to be dropped.
#[allow(clippy::too_many_arguments, reason = "as Postgres calls it")]
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    is_read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    parameters: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: the arguments are Postgres's own, passed on; the statement is looked at before it runs, because its
    // tree may not outlive a transaction that it ends.
    unsafe {
        let concerns_roles = concerns_roles((*statement).utilityStmt);
        let next = PREVIOUS.unwrap_or(standard_ProcessUtility);
        next(
            statement,
            text,
            is_read_only,
            context,
            parameters,
            environment,
            destination,
            completion,
        );
        if concerns_roles {
            tell();
        }
    }
}

/// Whether a statement changes who may do what without firing an event trigger.
unsafe fn concerns_roles(node: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    use pg_sys::ObjectType::{OBJECT_DATABASE, OBJECT_ROLE};
    // SAFETY: a utility statement is a node, and its tag says which.
    unsafe {
        match (*node).type_ {
            T_CreateRoleStmt
            | T_AlterRoleStmt
            | T_AlterRoleSetStmt
            | T_DropRoleStmt
            | T_GrantRoleStmt
            | T_AlterDatabaseSetStmt
            | T_ReassignOwnedStmt
            | T_DropOwnedStmt
            | T_AlterEventTrigStmt
            | T_CreateEventTrigStmt => true,
            T_RenameStmt => {
                matches!(
                    (*node.cast::<pg_sys::RenameStmt>()).renameType,
                    OBJECT_ROLE | OBJECT_DATABASE
                )
            }
            T_GrantStmt => (*node.cast::<pg_sys::GrantStmt>()).objtype == OBJECT_DATABASE,
            _ => false,
        }
    }
}

/// Only where somebody reads: the publication is made when the first table is wanted.
#[pg_guard]
unsafe extern "C-unwind" fn tell() {
    // SAFETY: a statement has just run, so a transaction is open; the content lives on for the call.
    unsafe {
        if !pg_sys::IsTransactionState()
            || pg_sys::get_publication_oid(PREFIX.as_ptr(), true) == pg_sys::InvalidOid
        {
            return;
        }
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
            LogLogicalMessage(PREFIX.as_ptr(), CONTENT.as_ptr().cast(), CONTENT.len(), true);
            #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
            LogLogicalMessage(PREFIX.as_ptr(), CONTENT.as_ptr().cast(), CONTENT.len(), true, false);
        });
    }
}
