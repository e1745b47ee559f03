//! How errors are written: as problem details (RFC 9457), or for the paths of the first IntegrateDB's guide as they always
//! were, `{"errors": …}`. Which of the two is decided here alone, by the path.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{Extensions, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};

use super::body::Problem;

/// The content type of problem details.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// What an answer's error is. The answer has it as an extension until it is written.
#[derive(Clone, Debug)]
pub(super) struct Told(Arc<(Kind, Value)>);

impl Told {
    /// An error of a kind, and what stands under `errors`.
    pub(super) fn new(kind: Kind, errors: Value) -> Self {
        Self(Arc::new((kind, errors)))
    }
}

/// What clients may tell apart, where the status alone does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The status says all.
    Plain,
    Invalid,
    InsufficientScope,
    Changed,
    TooManyRequests,
    Unavailable,
    KeyReused,
    KeyInUse,
    OutcomeUnknown,
}

impl Kind {
    /// Its URI, relative to the API's: never another for the same kind.
    pub(super) const fn uri(self) -> &'static str {
        match self {
            Self::Plain => "about:blank",
            Self::Invalid => "/problems/invalid",
            Self::InsufficientScope => "/problems/insufficient-scope",
            Self::Changed => "/problems/changed",
            Self::TooManyRequests => "/problems/too-many-requests",
            Self::Unavailable => "/problems/unavailable",
            Self::KeyReused => "/problems/key-reused",
            Self::KeyInUse => "/problems/key-in-use",
            Self::OutcomeUnknown => "/problems/outcome-unknown",
        }
    }

    /// The same for each problem of the kind.
    fn title(self, status: StatusCode) -> &'static str {
        match self {
            // RFC 9457, 4.2.1
            Self::Plain => status.canonical_reason().unwrap_or("Error"),
            Self::Invalid => "The request is understood and not valid",
            Self::InsufficientScope => "The application was not given this scope",
            Self::Changed => "It has changed since it was read",
            Self::TooManyRequests => "Too many requests",
            Self::Unavailable => "Not available now",
            Self::KeyReused => "The idempotency key was used for another request",
            Self::KeyInUse => "A request with this idempotency key is under way",
            Self::OutcomeUnknown => "What became of the request is not known",
        }
    }
}

/// Whether errors of a path are written as the first IntegrateDB's guide has them, or Zync. The path is a route's template,
/// or that of a request that no route takes.
pub(super) fn is_of_a_guide(path: &str, is_route: bool) -> bool {
    let is_below = |of: &str| {
        path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let whole = ["/api/v1/users", "/api/v1/auth", "/notification", "/tenant", "/status"];
    // What came to stakeholders later is not in the guide.
    let of_stakeholders = [
        "/api/v1/stakeholders",
        "/api/v1/stakeholders/{id}",
        "/api/v1/stakeholders/{id}/claims",
        "/api/v1/stakeholders/{id}/notifications",
    ];
    whole.into_iter().any(is_below)
        || if is_route { of_stakeholders.contains(&path) } else { is_below(of_stakeholders[0]) }
}

/// Writes the errors of what goes on below.
pub(super) async fn write(request: Request, next: Next) -> Response {
    let place = Place::of(request.extensions(), request.uri().path());
    place.write(next.run(request).await)
}

/// What decides how an error is written.
pub(super) struct Place {
    is_of_a_guide: bool,
    /// Pages for people and metrics have errors of their own.
    is_api: bool,
}

impl Place {
    pub(super) fn of(request: &Extensions, path: &str) -> Self {
        let route = request.get::<MatchedPath>();
        let is_of_a_guide = is_of_a_guide(route.map_or(path, MatchedPath::as_str), route.is_some());
        Self { is_of_a_guide, is_api: path.starts_with("/api/") }
    }

    /// The answer with its error written. One that is written already stays as it is.
    pub(super) fn write(&self, mut response: Response) -> Response {
        let status = response.status();
        let is_error = status.is_client_error() || status.is_server_error();
        let told = match response.extensions_mut().remove::<Told>() {
            Some(told) => told,
            // axum refuses some requests itself, such as a path that is not UTF-8, and says so in plain words.
            None if is_error && self.is_api && is_text(&response) => {
                let detail = status.canonical_reason().unwrap_or("Error");
                Told::new(Kind::Plain, json!({ "detail": detail }))
            }
            None => return response,
        };
        let (kind, errors) = &*told.0;
        let (content_type, body) = if self.is_of_a_guide {
            ("application/json", json!({ "errors": errors }))
        } else {
            (CONTENT_TYPE, details(*kind, status, errors))
        };
        *response.body_mut() = Body::from(body.to_string());
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}

/// Problem details. `errors` is what stands there without them.
pub(super) fn details(kind: Kind, status: StatusCode, errors: &Value) -> Value {
    let problem = Problem {
        kind: kind.uri(),
        title: kind.title(status),
        status: status.as_u16(),
        detail: in_words(errors),
        errors: errors.clone(),
    };
    json!(problem)
}

fn is_text(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.starts_with("text/plain"))
}

/// As many mistakes as one sentence holds; all of them stand under `errors`.
const TOLD: usize = 3;

/// What stands under `errors`, for people.
fn in_words(errors: &Value) -> String {
    let all: Vec<String> = match (&errors["detail"], errors.as_object()) {
        (Value::String(detail), _) => return detail.clone(),
        // Messages with JSON pointers.
        (Value::Array(mistakes), _) => mistakes
            .iter()
            .filter_map(|mistake| Some((mistake[0].as_str()?, mistake[1].as_str()?)))
            .map(|(message, pointer)| format!("{}, at {pointer}", message.trim_end_matches('.')))
            .collect(),
        // Fields with messages.
        (_, Some(fields)) => fields
            .iter()
            .flat_map(|(name, messages)| {
                let messages = messages.as_array().into_iter().flatten();
                messages.filter_map(move |text| Some(format!("{name} {}", text.as_str()?)))
            })
            .collect(),
        _ => Vec::new(),
    };
    match all.len() {
        0 => "See errors.".to_owned(),
        count @ ..=TOLD => format!("{}{}", all.join("; "), if count == 1 { "." } else { "" }),
        count => format!("{}; and {} more, see errors.", all[..TOLD].join("; "), count - TOLD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guides_paths_keep_their_errors() {
        for (path, is_route) in [
            ("/api/v1/users/{id}/tokens", true),
            ("/api/v1/auth/login", true),
            ("/api/v1/stakeholders/{id}", true),
            ("/api/v1/stakeholders/{id}/claims", true),
            ("/api/v1/stakeholders/7/nothing", false),
            ("/notification", true),
            ("/status/live", true),
        ] {
            assert!(is_of_a_guide(path, is_route), "{path}");
        }
        for (path, is_route) in [
            ("/api/v1/stakeholders/{id}/channels", true),
            ("/api/v1/usersx", false),
            ("/api/v1/audit", true),
            ("/api/v1/notifications", true),
            ("/nothing", false),
            ("/health/ready", true),
        ] {
            assert!(!is_of_a_guide(path, is_route), "{path}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_a_sentence() {
        assert_eq!(in_words(&json!({"detail": "Not Found"})), "Not Found");
        assert_eq!(in_words(&json!({"name": ["can't be blank"]})), "name can't be blank.");
        let mistakes = json!({"detail": [["One.", "#/a"], ["Two", "#"]]});
        assert_eq!(in_words(&mistakes), "One, at #/a; Two, at #");
        let many = json!({"detail": vec![["It", "#"]; 5]});
        assert_eq!(in_words(&many), "It, at #; It, at #; It, at #; and 2 more, see errors.");
        assert_eq!(in_words(&json!({"total": 3})), "See errors.");
    }
}
