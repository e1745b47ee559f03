//! The kinds of targets, by name: what REST got is checked, and what is stored is opened.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::http::HttpTarget;
use super::oauth::{Keycloak, Rest};
use super::postgres::PostgresTarget;
use super::{Checked, Target, http, oauth, postgres};
use crate::reach::Reach;

/// What the kinds are called, for people.
const KINDS: &str = "keycloak, rest, http and postgres";

/// Whether there are targets of this kind.
pub fn is_kind(kind: &str) -> bool {
    matches!(kind, "keycloak" | "rest" | "http" | "postgres")
}

/// Checks the settings of an integration as they were asked for. Each mistake has a message and a pointer into the settings.
pub fn check(kind: &str, settings: &Value) -> Result<Checked, Vec<(String, String)>> {
    match kind {
        "keycloak" | "rest" => oauth::check(settings),
        "http" => http::check(settings),
        "postgres" => postgres::check(settings),
        _ => Err(vec![(unknown(kind), String::new())]),
    }
}

/// Makes the target of a stored integration. `timeout` is for one push. The error says what is wrong with it.
pub fn open(
    kind: &str,
    settings: &Value,
    hidden: &Value,
    reach: &Reach,
    timeout: Duration,
) -> Result<Arc<dyn Target>, String> {
    Ok(match kind {
        "keycloak" => Arc::new(Keycloak::new(settings, hidden, reach, timeout)?),
        "rest" => Arc::new(Rest::new(settings, hidden, reach, timeout)?),
        "http" => Arc::new(HttpTarget::new(settings, hidden, reach, timeout)?),
        "postgres" => Arc::new(PostgresTarget::new(settings, hidden, reach, timeout)?),
        _ => return Err(unknown(kind)),
    })
}

fn unknown(kind: &str) -> String {
    format!("there is no target of kind {kind:?}: the kinds are {KINDS}")
}

/// One object of the stored settings and the hidden ones, for a kind that reads both at once.
pub(super) fn whole(settings: &Value, hidden: &Value) -> Value {
    let mut whole = settings.clone();
    if let (Some(whole), Some(hidden)) = (whole.as_object_mut(), hidden.as_object()) {
        whole.extend(hidden.clone());
    }
    whole
}

/// Mistakes in one sentence.
pub(super) fn sentence(mistakes: &[(String, String)]) -> String {
    let told: Vec<_> = mistakes.iter().map(|(why, at)| format!("settings{at}: {why}")).collect();
    told.join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_that_there_is_not_is_told_with_those_that_there_are() {
        let mistakes = check("kubernetes", &json!({})).expect_err("there is none");
        assert!(mistakes[0].0.contains("keycloak, rest, http and postgres"), "{mistakes:?}");
    }
}
