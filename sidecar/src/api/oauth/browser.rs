//! What a browser says of itself: its cookie, and where a form came from.
//!
//! Each form carries a token that only whoever knows the cookie can make, of what the form is about. So a page of somebody
//! else can't send one in the user's name (RFC 9700, 4.7), and none can be sent for another request than was shown. That also
//! holds for logging in, so nobody is logged in as somebody else unawares: whoever comes without a cookie gets one that stands
//! for nobody. A login makes another, so that nobody knows it from before.

use axum::http::{HeaderMap, HeaderValue, header};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::auth::Token;
use crate::oauth::Issuer;
use crate::secret::Secret;

/// Whether a form was sent from a page of ours, as far as the browser says where it was (the headers Origin and
/// Sec-Fetch-Site). Our pages let it say so (`Referrer-Policy: same-origin`; under `no-referrer` it would say "null").
pub(super) fn is_from_here(headers: &HeaderMap, issuer: &Issuer) -> bool {
    let says = |name: &str, wanted: &str| {
        headers.get_all(name).iter().all(|value| value.as_bytes() == wanted.as_bytes())
    };
    says("origin", issuer.as_str()) && says("sec-fetch-site", "same-origin")
}

/// By TLS, a name that only this very host can have set, for all of it (RFC 6265bis, 4.1.3.2).
fn name(issuer: &Issuer) -> &'static str {
    if issuer.is_secure() { "__Host-integratedb" } else { "integratedb" }
}

/// The cookie; `None` if there is none, or more than one, so that somebody else may have set one of them.
pub(super) fn cookie(headers: &HeaderMap, issuer: &Issuer) -> Option<Token> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let all = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut ours = all.filter(|(known, _)| *known == name(issuer)).map(|(_, value)| value);
    let value = ours.next().filter(|_| ours.next().is_none())?;
    let is_ours = value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_ours.then(|| Secret::new(value.to_owned()))
}

/// Has the browser keep a cookie until it is closed; how long it counts is up to the session. `None` takes it back.
pub(super) fn set_cookie(
    cookie: Option<&Token>,
    issuer: &Issuer,
) -> (header::HeaderName, HeaderValue) {
    let secure = if issuer.is_secure() { "; Secure" } else { "" };
    let (value, age) = match cookie {
        Some(cookie) => (cookie.expose_secret().as_str(), ""),
        None => ("", "; Max-Age=0"),
    };
    let text = format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}", name(issuer));
    let mut value = HeaderValue::from_str(&text).expect("hexadecimal digits and our own words");
    value.set_sensitive(true);
    (header::SET_COOKIE, value)
}

fn mac(cookie: &Token, form: &str, about: &str) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(cookie.expose_secret().as_bytes())
        .expect("a key of any length is taken");
    mac.update(form.as_bytes());
    mac.update(b"\0");
    mac.update(about.as_bytes());
    mac
}

/// The token of a form for the browser with this cookie.
pub(super) fn form_token(cookie: &Token, form: &str, about: &str) -> String {
    hex::encode(mac(cookie, form, about).finalize().into_bytes())
}

/// Whether a form has its token.
pub(super) fn is_form_token(cookie: &Token, form: &str, about: &str, token: Option<&str>) -> bool {
    let token = token.and_then(|token| hex::decode(token).ok());
    token.is_some_and(|token| mac(cookie, form, about).verify_slice(&token).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(text: &str) -> Issuer {
        Issuer::try_from(text.to_owned()).expect("it is one")
    }

    #[test]
    fn a_form_is_of_one_browser_and_one_request() {
        let cookie = |digit: &str| Secret::new(digit.repeat(64));
        let token = form_token(&cookie("a"), "consent", "client_id=1");
        let is_right = |digit: &str, form: &str, about: &str| {
            is_form_token(&cookie(digit), form, about, Some(&token))
        };
        assert!(is_right("a", "consent", "client_id=1"));
        assert!(!is_right("b", "consent", "client_id=1"), "of another browser");
        assert!(!is_right("a", "login", "client_id=1"), "of another form");
        assert!(!is_right("a", "consent", "client_id=2"), "of another request");
        assert!(!is_form_token(&cookie("a"), "consent", "client_id=1", None));
    }

    #[test]
    fn two_cookies_are_none() {
        let issuer = issuer("https://a.example");
        let value = "a".repeat(64);
        let read = |text: String| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_str(&text).expect("visible"));
            cookie(&headers, &issuer).is_some()
        };
        assert!(read(format!("x=1; __Host-integratedb={value}")));
        assert!(!read(format!("__Host-integratedb={value}; __Host-integratedb={value}")));
        assert!(!read(format!("integratedb={value}")) && !read("__Host-integratedb=a".to_owned()));
    }

    #[test]
    fn a_page_of_another_site_is_not_here() {
        let issuer = issuer("https://a.example");
        let is_here = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            is_from_here(&headers, &issuer)
        };
        assert!(is_here(&[("origin", "https://a.example"), ("sec-fetch-site", "same-origin")]));
        assert!(is_here(&[]), "what says nothing is judged by the form's token alone");
        assert!(!is_here(&[("origin", "https://b.example")]) && !is_here(&[("origin", "null")]));
        assert!(!is_here(&[("sec-fetch-site", "cross-site")]));
        assert!(!is_here(&[("origin", "https://a.example"), ("sec-fetch-site", "same-site")]));
    }

    #[test]
    fn the_cookie_is_for_this_host_and_no_script() {
        let text = |issuer: &Issuer| {
            let (_, value) = set_cookie(Some(&Secret::new("a".repeat(64))), issuer);
            value.to_str().expect("visible").replace(&"a".repeat(64), "A")
        };
        let secure = text(&issuer("https://a.example"));
        assert_eq!(secure, "__Host-integratedb=A; Path=/; HttpOnly; SameSite=Lax; Secure");
        let local = text(&issuer("http://127.0.0.1:4000"));
        assert_eq!(local, "integratedb=A; Path=/; HttpOnly; SameSite=Lax");
    }
}
