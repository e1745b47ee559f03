//! How times are shown.

/// SQL that gives a timestamptz as RFC 3339 has times.
pub(super) fn rfc3339(column: &str) -> String {
    format!(r#"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#)
}
