//! `integratedb.read_as`: what a stakeholder may read, for a sidecar that fetches rows on its behalf.
//!
//! SET ROLE would be no border: code of a table's owner, such as a policy's function or a cast, could RESET ROLE and go on
//! as the sidecar. So the role is changed as Postgres does it itself before it runs what others have written (REFRESH
//! MATERIALIZED VIEW in matview.c): in a security-restricted operation, in which no role can be set, and with settings
//! that end with it. Nobody has to be made a member of a stakeholder's role for it.

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::snapshot;

/// Runs a statement that only reads, with the rights of a stakeholder's role and under its policies; gives the text of the
/// first column of the first row, NULL if there is none. The snapshot is taken once its tables are locked: to an older
/// one, a table that is being rewritten would look empty (manual, "Caveats" of "Concurrency Control").
#[pg_extern(schema = "integratedb", volatile, parallel_unsafe)]
pub(crate) fn read_as(stakeholder_id: i64, statement: &str) -> Option<String> {
    let role = role(stakeholder_id);
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: these may be called in any transaction. If the statement fails, the abort of the transaction restores both
    // (`AbortTransaction` in xact.c).
    let level = unsafe {
        pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
        let restricted =
            pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        pg_sys::SetUserIdAndSecContext(role, context | restricted as i32);
        pg_sys::NewGUCNestLevel()
    };
    let text = snapshot::look(statement);
    // SAFETY: the level is the one that was just made, and the user the one that was before.
    unsafe {
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(user, context);
    }
    text
}

/// The role of a stakeholder.
fn role(stakeholder_id: i64) -> pg_sys::Oid {
    let sql = "SELECT s.name FROM integratedb.stakeholder s WHERE s.id = $1::bigint";
    let Some(name) = snapshot::run(sql, &[&stakeholder_id.to_string()]) else {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_NO_DATA_FOUND,
            format!("there is no stakeholder with the id {stakeholder_id}")
        );
    };
    let missing = format!("the role of the stakeholder {name} is gone");
    let name = CString::new(name).unwrap_or_else(|_| error!("a name holds a NUL byte"));
    // SAFETY: the name ends with a NUL and lives until the call returns.
    let role = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    if role == pg_sys::InvalidOid {
        ereport!(ERROR, PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, missing);
    }
    role
}
