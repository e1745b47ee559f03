//! An answer as bytes: a line of JSON with status and headers, then the body.

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};

/// The headers that are kept: what layers further out add is of the time at which the answer is given.
const KEPT: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::LOCATION,
    header::ETAG,
    header::CACHE_CONTROL,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
];

#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

/// The bytes of an answer.
pub(super) fn pack(response: &Response<Bytes>) -> Vec<u8> {
    let kept = KEPT.iter().filter_map(|name| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    let head = Head { status: response.status().as_u16(), headers: kept.collect() };
    // Numbers and strings are always JSON.
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend_from_slice(response.body());
    bytes
}

/// The answer of these bytes.
pub(super) fn unpack(bytes: &[u8]) -> Option<Response> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (head, body) = (bytes.get(..end)?, bytes.get(end + 1..)?);
    let head: Head = serde_json::from_slice(head).ok()?;
    let mut response = Response::new(Body::from(body.to_vec()));
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    for (name, value) in head.headers {
        let name = HeaderName::try_from(name).ok()?;
        response.headers_mut().insert(name, HeaderValue::try_from(value).ok()?);
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let answer = Response::builder()
            .status(201)
            .header("location", "/api/v1/users/1")
            .header("content-type", "application/json")
            .header("ratelimit", "\"default\";r=1;t=1")
            .body(Bytes::from_static(b"{\n}"))
            .expect("it is one");
        let again = unpack(&pack(&answer)).expect("it is one");
        assert_eq!(again.status(), 201);
        assert_eq!(again.headers()["location"], "/api/v1/users/1");
        assert!(!again.headers().contains_key("ratelimit"));
        assert!(unpack(b"nonsense").is_none());
    }
}
