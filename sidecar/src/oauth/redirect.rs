//! Where browsers are sent back to: what an application may register, and whether an address is one of these.

use reqwest::Url;

use super::text::is_uri;

/// The longest.
const LONGEST: usize = 2000;

/// Errors if an application may not register this.
pub(super) fn check(uri: &str) -> Result<(), &'static str> {
    if uri.len() > LONGEST {
        return Err("is too long");
    }
    if uri.contains('#') {
        return Err("must not have a fragment");
    }
    if uri.contains('*') {
        return Err("must not have a wildcard; it is compared letter by letter");
    }
    if !is_uri(uri) {
        return Err("is not a URI");
    }
    let (scheme, rest) = uri.split_once(':').ok_or("is not an absolute URI")?;
    let url = Url::parse(uri).map_err(|_| "is not an absolute URI")?;
    if scheme != url.scheme() {
        return Err("must have its scheme in lower case");
    }
    match scheme {
        "https" | "http" => {
            check_host(&url, rest)?;
            let is_safe = scheme == "https" || is_loopback(url.host_str().unwrap_or_default());
            if is_safe { Ok(()) } else { Err("must begin with https:// unless it is this machine") }
        }
        // RFC 8252, 7.1: names of a domain backwards, so not javascript: nor data:.
        scheme if scheme.contains('.') && !authority(rest).contains('@') => Ok(()),
        _ => Err("must begin with https://, or with an application's own scheme that has a dot"),
    }
}

/// Errors if a URL is not one of a page that browsers can be shown or sent to.
pub(super) fn check_page(uri: &str) -> Result<(), &'static str> {
    if uri.len() > LONGEST || !is_uri(uri) || !uri.starts_with("https://") {
        return Err("must be a URL that begins with https://");
    }
    let url = Url::parse(uri).map_err(|_| "is not a URL")?;
    check_host(&url, &uri["https:".len()..])
}

/// The host and all that every reader takes for it are one: letters, digits and hyphens, or an address as it is written.
fn check_host(url: &Url, rest: &str) -> Result<(), &'static str> {
    let authority = authority(rest);
    if authority.contains('@') {
        return Err("must not have a user");
    }
    let host = url.host_str().unwrap_or_default();
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'[' | b']' | b':');
    let after = authority.get(..host.len()).filter(|written| written.eq_ignore_ascii_case(host));
    match after.map(|_| &authority[host.len()..]) {
        Some("") if host.bytes().all(is_plain) => Ok(()),
        Some(port) if port.starts_with(':') && host.bytes().all(is_plain) => Ok(()),
        _ => Err("must have a host of letters, digits and hyphens"),
    }
}

fn authority(rest: &str) -> &str {
    let rest = rest.strip_prefix("//").unwrap_or_default();
    rest.split(['/', '?']).next().unwrap_or_default()
}

/// Whether a host is the machine itself.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "127.0.0.1" || host == "[::1]"
}

/// Whether a browser may be sent there. Letter by letter (RFC 9700, 4.1.3); only of an application on somebody's own machine,
/// which listens on the port that it gets, the port may differ (RFC 8252, 7.3).
pub(super) fn is_registered(registered: &[String], asked: &str, is_public: bool) -> bool {
    let is_same = |known: &String| {
        known == asked
            || (is_public && without_port(known).is_some_and(|w| without_port(asked) == Some(w)))
    };
    registered.iter().any(is_same)
}

/// Host, and all after the port, of an address of this machine by its number.
fn without_port(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let host = ["127.0.0.1", "[::1]"].into_iter().find(|host| rest.starts_with(host))?;
    let rest = &rest[host.len()..];
    let (port, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let is_port = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
    };
    (is_port && is_uri(path) && !path.contains('#')).then_some((host, path))
}

/// The address with further parameters.
pub(crate) fn with(uri: &str, parameters: &[(&str, &str)]) -> String {
    let separator = if uri.contains('?') { '&' } else { '?' };
    let added = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    format!("{uri}{separator}{added}")
}

/// What a Content-Security-Policy calls the place that a checked address is at.
pub(crate) fn source(uri: &str) -> String {
    let scheme = uri.split(':').next().unwrap_or_default();
    match Url::parse(uri) {
        // A policy can't name an IPv6 address.
        Ok(url)
            if matches!(scheme, "http" | "https")
                && !authority(&uri[scheme.len() + 1..]).starts_with('[') =>
        {
            url.origin().ascii_serialization()
        }
        _ => format!("{scheme}:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_registered() {
        for good in [
            "https://app.example/back",
            "https://app.example:8443/back?a=1",
            "https://192.0.2.1/",
            "https://[2001:db8::1]/back",
            "http://127.0.0.1/back",
            "http://127.0.0.1:1/back",
            "http://[::1]:1/back",
            "http://localhost:3000",
            "com.example.app:/back",
            "com.example.app://back/x",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/back",
            "app.example/back",
            "//app.example/back",
            "http://app.example/back",
            "http://127.0.0.1.example/",
            "http://127.1/",
            "https://app.example/#x",
            "https://*.example/",
            "https://app.example/*",
            "https://user@app.example/",
            "https://app.example@evil.example/",
            "https://app.example\\@evil.example/",
            "https://a;b.example/",
            "https://a b.example/",
            "https://%61.example/",
            "https:app.example",
            "https:///app.example",
            "https://0x7f.1/",
            "HTTPS://app.example/",
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "myapp:/back",
            "https://äpp.example/",
            "https://app.example/\u{0}",
            "https://app.example/\r\nx: y",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_is_registered_counts() {
        let registered = ["https://app.example/back".to_owned()];
        assert!(is_registered(&registered, "https://app.example/back", false));
        for other in [
            "https://app.example/back/",
            "https://app.example/back?x",
            "https://app.example/bac",
            "https://app.example/Back",
            "https://APP.example/back",
            "https://app.example:443/back",
            "https://app.example/%62ack",
            "https://app.example/x/../back",
            "https://app.example.evil.example/back",
            "http://app.example/back",
            " https://app.example/back",
        ] {
            assert!(!is_registered(&registered, other, true), "{other}");
        }
    }

    #[test]
    fn the_port_of_a_native_application_may_differ() {
        let registered = ["http://127.0.0.1/back".to_owned(), "http://localhost:1/back".to_owned()];
        let is_fine = |asked: &str| is_registered(&registered, asked, true);
        assert!(is_fine("http://127.0.0.1:51004/back") && is_fine("http://127.0.0.1/back"));
        assert!(
            !is_registered(&registered, "http://127.0.0.1:51004/back", false),
            "it has a secret"
        );
        for other in [
            "http://127.0.0.1:51004/other",
            "http://127.0.0.1:51004/back?x",
            "http://127.0.0.1:51004@evil.example/back",
            "http://127.0.0.1:99999/back",
            "http://127.0.0.1.evil.example/back",
            "http://127.0.0.1:+1/back",
            "http://[::1]:51004/back",
            "https://127.0.0.1:51004/back",
            "http://localhost:2/back",
        ] {
            assert!(!is_fine(other), "{other}");
        }
    }

    #[test]
    fn parameters_are_added_and_places_named() {
        assert_eq!(with("https://a/b", &[("x", "1 &"), ("y", "2")]), "https://a/b?x=1+%26&y=2");
        assert_eq!(with("https://a/b?c=d", &[("x", "1")]), "https://a/b?c=d&x=1");
        assert_eq!(source("https://a.example:8443/b"), "https://a.example:8443");
        assert_eq!(source("http://127.0.0.1:5/b"), "http://127.0.0.1:5");
        assert_eq!(source("http://[::1]:5/b"), "http:");
        assert_eq!(source("com.example.app:/b"), "com.example.app:");
    }
}
