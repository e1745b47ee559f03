//! What Postgres says, without values of rows.

use tokio_postgres::Error;

use crate::db::DbError;

/// What went wrong, without DETAIL, which has values of rows. So does the message of some: it quotes them.
pub(super) fn told(error: Error) -> String {
    let Some(inner) = error.as_db_error() else { return DbError::from(error).to_string() };
    let code = inner.code().code();
    let message =
        if code.starts_with("22") { unquoted(inner.message()) } else { inner.message().to_owned() };
    format!("{message} (SQLSTATE {code})")
}

/// A message about data without the data. One in a language with other quotes says nothing.
fn unquoted(message: &str) -> String {
    if !message.is_ascii() {
        return "a value does not fit its column".to_owned();
    }
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) => {
            format!("{}\"…{}", &message[..=first][..first], &message[last..])
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out() {
        assert_eq!(
            unquoted("invalid input syntax for type integer: \"a\"b\""),
            "invalid input syntax for type integer: \"…\""
        );
        assert_eq!(
            unquoted("value \"99\" is out of range for type integer"),
            "value \"…\" is out of range for type integer"
        );
        assert_eq!(unquoted("division by zero"), "division by zero");
        assert_eq!(unquoted("syntaxe : \u{ab} 99 \u{bb}"), "a value does not fit its column");
    }
}
