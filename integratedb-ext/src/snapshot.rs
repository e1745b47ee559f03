//! Queries under the latest snapshot.
//!
//! A transaction at REPEATABLE READ keeps the snapshot of its first statement, and would judge a migration by a
//! catalog and by claims that others have changed since. Foreign keys have the same problem and the same
//! answer: each query runs under a fresh snapshot (`ri_PerformCheck` in PostgreSQL's ri_triggers.c), which also
//! sees what the transaction itself has done.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Runs one statement with text parameters, and returns the text of the first column of the first row.
pub(crate) fn run(sql: &str, parameters: &[&str]) -> Option<String> {
    execute(sql, parameters, false)
}

/// The same of a statement that may only read.
pub(crate) fn look(sql: &str) -> Option<String> {
    execute(sql, &[], true)
}

fn execute(sql: &str, parameters: &[&str], is_read_only: bool) -> Option<String> {
    let statement = CString::new(sql).unwrap_or_else(|_| error!("a statement holds a NUL byte"));
    Spi::connect_mut(|_| {
        let mut types = vec![pg_sys::TEXTOID; parameters.len()];
        let mut values: Vec<pg_sys::Datum> = parameters
            .iter()
            .map(|parameter| parameter.into_datum().unwrap_or(pg_sys::Datum::from(0)))
            .collect();
        // SAFETY: SPI is connected for the length of this closure; the arrays have one item a parameter and
        // live until the call returns, as does the plan, which SPI frees on disconnecting. Postgres copies the
        // snapshot before it pushes it.
        let status = unsafe {
            let count =
                i32::try_from(parameters.len()).unwrap_or_else(|_| error!("too many parameters"));
            let plan = pg_sys::SPI_prepare(statement.as_ptr(), count, types.as_mut_ptr());
            if plan.is_null() {
                let status = pg_sys::SPI_result;
                error!("could not prepare a statement: SPI status {status}");
            }
            pg_sys::SPI_execute_snapshot(
                plan,
                values.as_mut_ptr(),
                std::ptr::null(),
                pg_sys::GetLatestSnapshot(),
                std::ptr::null_mut(),
                is_read_only,
                true,
                0,
            )
        };
        if status < 0 {
            error!("could not run a statement: SPI status {status}");
        }
        first_value()
    })
}

/// Runs a statement whose result is one JSON text.
pub(crate) fn read<T: DeserializeOwned>(sql: &str, parameters: &[&str]) -> T {
    let text = run(sql, parameters).unwrap_or_else(|| error!("a query gave no answer"));
    serde_json::from_str(&text).unwrap_or_else(|e| error!("a query gave an unexpected answer: {e}"))
}

/// JSON text for a parameter.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|e| error!("could not write JSON: {e}"))
}

fn first_value() -> Option<String> {
    // SAFETY: right after an SPI call SPI_tuptable is null or a table of SPI_processed rows, alive until SPI is
    // disconnected; SPI_getvalue returns a palloc'ed C string or null.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() || pg_sys::SPI_processed == 0 {
            return None;
        }
        let value = pg_sys::SPI_getvalue(*(*table).vals, (*table).tupdesc, 1);
        if value.is_null() {
            return None;
        }
        let text = CStr::from_ptr(value).to_str().map(str::to_owned);
        pg_sys::SPI_freetuptable(table);
        Some(text.unwrap_or_else(|_| error!("the database's encoding has to be UTF8")))
    }
}
