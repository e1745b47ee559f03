//! What a request says of itself, and what is made of that to find and to read its answer.

use axum::http::{HeaderMap, HeaderName, Method};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::api::error::ApiError;
use crate::auth::{Principal, Token};
use crate::seal::{Purpose, Sealer};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest key.
const LONGEST: usize = 255;

/// The key that a request has, if it has one: 1 to 255 visible characters, in quotes as RFC 8941 has strings, or bare.
pub(super) fn read(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut all = headers.get_all(HEADER).iter();
    let Some(first) = all.next() else { return Ok(None) };
    let key = first.to_str().ok().filter(|_| all.next().is_none()).and_then(parse);
    key.map(Some).ok_or_else(|| {
        let what = "Bad Request: Idempotency-Key is one string of 1 to 255 visible characters";
        ApiError::BadRequest(what.to_owned())
    })
}

fn parse(text: &str) -> Option<String> {
    let text = text.trim();
    let key = match text.strip_prefix('"') {
        None => text.to_owned(),
        Some(quoted) => unquoted(quoted.strip_suffix('"')?)?,
    };
    let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    (is_visible && (1..=LONGEST).contains(&key.len())).then_some(key)
}

fn unquoted(text: &str) -> Option<String> {
    let (mut key, mut letters) = (String::new(), text.chars());
    while let Some(letter) = letters.next() {
        key.push(match letter {
            '\\' => letters.next().filter(|letter| matches!(letter, '"' | '\\'))?,
            '"' => return None,
            letter => letter,
        });
    }
    Some(key)
}

/// A key as the database has it, and what its answer is sealed with.
pub(super) struct Named {
    /// Of whom and which; the same for each token that somebody has.
    pub(super) name: Vec<u8>,
    /// Of what is asked for.
    pub(super) request: Vec<u8>,
    pub(super) sealer: Sealer,
}

impl Named {
    /// Of a key, of who sends it, and of what is asked for.
    pub(super) fn of(
        key: &str,
        token: &Token,
        principal: &Principal,
        request: (&Method, &str, &[u8]),
    ) -> Self {
        let application = principal.application.as_ref();
        let who = (
            principal.user,
            application.map(|application| (application.id, application.workspace)),
        );
        let name = Sha256::new().chain_update(format!("{who:?} ")).chain_update(key).finalize();
        // A token has 256 random bits, so this has too, and nobody finds it out from what it is used for.
        let own = mac(token.expose_secret().as_bytes(), &[key.as_bytes()]);
        let (method, path, body) = request;
        let parts = [b"request", method.as_str().as_bytes(), path.as_bytes(), body];
        Self {
            name: name.to_vec(),
            request: mac(&own, &parts).to_vec(),
            sealer: Sealer::new(Purpose::Answers, &own),
        }
    }
}

/// HMAC-SHA256 of parts, each with its length.
fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_le_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_key_is_a_string_in_quotes_or_bare() {
        for (text, key) in [
            ("abc", "abc"),
            ("\"abc\"", "abc"),
            (" 8e03978e-40d5-43dd-bc93-6894a57f9324 ", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
        ] {
            assert_eq!(parse(text).as_deref(), Some(key), "{text}");
        }
        let (longest, longer) = ("x".repeat(255), "x".repeat(256));
        assert!(parse(&longest).is_some());
        for text in ["", "\"\"", "a b", "\"a b\"", "\"abc", r#""a\bc""#, r#""a"b""#, "ä", &longer]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_sender_can_read_the_answer() {
        let of = |key: &str, token: &str, user, body: &[u8]| {
            let username = String::new();
            let who = Principal { user, username, operator: true, application: None };
            Named::of(key, &Secret::new(token.to_owned()), &who, (&Method::POST, "/x", body))
        };
        let first = of("key", "token", 1, b"body");
        let sealed = first.sealer.seal(&first.name, b"answer");
        let opens = |other: &Named| other.sealer.open(&other.name, &sealed).is_some();
        let again = of("key", "token", 1, b"body");
        assert_eq!((&again.name, &again.request), (&first.name, &first.request));
        assert!(opens(&again));
        let renewed = of("key", "another token", 1, b"body");
        assert_eq!(renewed.name, first.name, "it is never done twice");
        assert!(renewed.request != first.request && !opens(&renewed));
        let stranger = of("key", "token", 2, b"body");
        assert!(stranger.name != first.name && !opens(&stranger));
        assert!(of("other", "token", 1, b"body").name != first.name);
        assert!(of("key", "token", 1, b"other").request != first.request);
    }
}
