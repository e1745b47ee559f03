//! The token of whoever says over REST that models have changed: as Zync takes it.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::api::app::App;
use crate::api::error::ApiError;

/// Whoever knows `sync.token`. Whoever takes this refuses everybody else.
pub(super) struct Notifier;

impl FromRequestParts<App> for Notifier {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let expected = app.sync().settings.token.as_ref().map(|token| token.expose_secret());
        let Some(expected) = expected.filter(|token| !token.is_empty()) else {
            return Err(ApiError::Closed(
                "Nobody may notify or set tenants: set a token as sync.token, and send it as Authorization: Token \
                 token=\"…\".",
            ));
        };
        let given = token(&parts.headers).ok_or(ApiError::WrongToken)?;
        // Of digests, so that the time tells nothing of the length either.
        let is_right = Sha256::digest(&given).ct_eq(&Sha256::digest(expected)).into();
        if is_right { Ok(Self) } else { Err(ApiError::WrongToken) }
    }
}

/// The token of `Authorization: Token token="…"`, with or without quotes, of `Token …` or of `Bearer …`.
fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, rest) = value.split_once([' ', '\t'])?;
    if !scheme.eq_ignore_ascii_case("token") && !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let rest = rest.trim();
    let Some(value) = rest.strip_prefix("token=") else { return Some(rest.to_owned()) };
    // Other parameters may follow.
    let Some(quoted) = value.strip_prefix('"') else {
        let end = value.find([',', ';', '\t']).unwrap_or(value.len());
        return Some(value[..end].trim().to_owned());
    };
    let mut text = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next()? {
            '"' => return Some(text),
            '\\' => text.push(letters.next()?),
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_token_is_read_in_each_form_that_clients_of_zync_send() {
        let read = |value: &str| {
            let value = HeaderValue::from_str(value).expect("visible letters");
            token(&HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
        };
        for value in [
            r#"Token token="s3cret""#,
            r#"Token token="s3cret", nonce="x""#,
            "Token token=s3cret",
            "Token token=s3cret; x=y",
            "token s3cret",
            "Bearer s3cret",
            "bearer   s3cret ",
            r#"Bearer token="s3cret""#,
        ] {
            assert_eq!(read(value).as_deref(), Some("s3cret"), "{value}");
        }
        assert_eq!(read(r#"Token token="a\"b,c""#).as_deref(), Some("a\"b,c"));
        for value in ["", "Token", "Basic s3cret", "s3cret", r#"Token token="s3cret"#] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
