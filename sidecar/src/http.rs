//! What all have in common who ask something of others over HTTP: which headers are theirs alone, how long they are put off,
//! and what they say of an error.

use std::error::Error;
use std::time::{Duration, SystemTime};

/// The longest that somebody can put us off.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// Headers that say how a request is to be read: nobody else may set them.
pub(crate) const FRAMING: &[&str] = &[
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "host",
    "te",
    "trailer",
    "upgrade",
    "expect",
];

/// What a Retry-After says (RFC 9110, 10.2.3): seconds, or a date.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default())
}

/// An error with its causes, without the URL, which may have a token in it.
pub(crate) fn told(error: &reqwest::Error) -> String {
    let mut text = match error {
        error if error.is_timeout() => "it did not answer in time".to_owned(),
        error if error.is_connect() => "no connection".to_owned(),
        _ => "the request failed".to_owned(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let read = |value| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!((read("120"), read(" 0 ")), (Some(120), Some(0)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!((read("soon"), read("-1")), (None, None));
    }
}
