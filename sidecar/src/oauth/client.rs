//! Applications as they say who they are (RFC 6749, 2.3).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use subtle::ConstantTimeEq;
use tokio_postgres::GenericClient;

use super::application::{Application, COLUMNS, read};
use super::params::Params;
use crate::auth::hash_token;
use crate::db::DbError;
use crate::secret::Secret;

/// An application and what is kept of its secret.
pub(crate) type Found = (Application, Option<Vec<u8>>);

/// The application that calls itself so.
pub(crate) async fn find(
    client: &impl GenericClient,
    client_id: &str,
) -> Result<Option<Found>, DbError> {
    // What could be nobody's id is not asked for: a text may hold what Postgres takes for no text.
    if client_id.len() != 32 || !client_id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {COLUMNS}, a.secret_hash FROM integratedb.oauth_application a WHERE a.client_id = $1"
    );
    let row = client.query_opt(&sql, &[&client_id]).await?;
    Ok(row.map(|row| (read(&row), row.get(10))))
}

/// What a request says of who sends it.
pub(crate) struct Secrets {
    /// Who.
    pub(crate) client_id: String,
    /// And with what; none of a public one.
    pub(crate) secret: Option<Secret<String>>,
}

/// Why it can't be read who sends a request.
pub(crate) enum Unreadable {
    /// The header Authorization is none of a client's.
    Header,
    /// The request says what is wrong in this way.
    Request(&'static str),
}

impl Secrets {
    /// Reads them. `authorization` is what the header says.
    pub(crate) fn read(authorization: Option<&str>, params: &Params) -> Result<Self, Unreadable> {
        let in_form = params.get("client_id").map(str::to_owned);
        let secret = params.get("client_secret").map(|secret| Secret::new(secret.to_owned()));
        let Some(authorization) = authorization else {
            let client_id = in_form.ok_or(Unreadable::Request("there is no client_id"))?;
            return Ok(Self { client_id, secret });
        };
        let (client_id, in_header) = basic(authorization).ok_or(Unreadable::Header)?;
        if secret.is_some() {
            return Err(Unreadable::Request("the client authenticates in two ways"));
        }
        if in_form.is_some_and(|other| other != client_id) {
            return Err(Unreadable::Request("client_id is not that of Authorization"));
        }
        Ok(Self { client_id, secret: Some(Secret::new(in_header)) })
    }
}

/// Both are URL-encoded before they are joined.
fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, encoded) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |text: &str| {
        let pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).collect();
        match pairs.as_slice() {
            [] => Some(String::new()),
            [(name, value)] if value.is_empty() => Some(name.clone().into_owned()),
            // Ours have no sign that has to be encoded.
            _ => None,
        }
    };
    Some((decoded(id)?, decoded(secret)?))
}

/// Whether it is the application: its secret, or none where it has none.
pub(crate) fn check_secret(kept: Option<&[u8]>, given: Option<&Secret<String>>) -> bool {
    match (kept, given) {
        (None, None) => true,
        (Some(kept), Some(given)) => hash_token(given).ct_eq(kept).into(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(authorization: Option<&str>, form: &str) -> Option<(String, Option<String>)> {
        let read = Secrets::read(authorization, &Params::read(form.as_bytes())).ok()?;
        Some((read.client_id, read.secret.map(|secret| secret.expose_secret().clone())))
    }

    #[test]
    fn there_is_one_way_at_a_time() {
        let some =
            |id: &str, secret: Option<&str>| Some((id.to_owned(), secret.map(str::to_owned)));
        let header = format!("Basic {}", BASE64_STANDARD.encode("a%2Bb:c"));
        assert_eq!(read(Some(&header), ""), some("a+b", Some("c")));
        assert_eq!(read(Some(&header), "client_id=a%2Bb"), some("a+b", Some("c")));
        assert_eq!(read(Some(&header), "client_id=other"), None);
        assert_eq!(read(Some(&header), "client_id=a%2Bb&client_secret=c"), None);
        assert_eq!(read(None, "client_id=a&client_secret=c"), some("a", Some("c")));
        assert_eq!(read(None, "client_id=a"), some("a", None));
        assert_eq!(read(None, "client_secret=c"), None);
        assert_eq!(read(Some("Bearer abc"), "client_id=a"), None);
    }

    #[test]
    fn no_secret_is_right_only_where_there_is_none() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let kept = hash_token(&secret("right"));
        assert!(check_secret(Some(&kept), Some(&secret("right"))) && check_secret(None, None));
        assert!(
            !check_secret(Some(&kept), Some(&secret("wrong"))) && !check_secret(Some(&kept), None)
        );
        assert!(!check_secret(None, Some(&secret("right"))));
    }
}
