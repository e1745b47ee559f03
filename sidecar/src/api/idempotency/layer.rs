//! The layer that stands before every POST of the API.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tokio_util::task::TaskTracker;

use super::answer::{pack, unpack};
use super::key::{self, Named};
use super::store::{self, Found};
use crate::api::access::Access;
use crate::api::app::App;
use crate::api::error::ApiError;
use crate::api::extract::{bearer, whole_body};
use crate::api::problem::Place;
use crate::db::DbError;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// How much longer than its limit a request can be under way: its answer is yet to be kept then.
const MARGIN: Duration = Duration::from_secs(5);

/// Requests with a key that are under way, and how long one can be.
pub(crate) struct Repeats {
    tasks: TaskTracker,
    limit: Duration,
}

impl Repeats {
    pub(in crate::api) fn new(limit: Duration) -> Self {
        Self { tasks: TaskTracker::new(), limit }
    }

    /// Waits until those have ended whose clients have gone away. No new one may come.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Has what a POST with a key does done once.
pub(in crate::api) async fn once(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let principal =
        request.extensions().get::<Access>().and_then(|access| access.principal.clone());
    let is_meant = request.method() == Method::POST && request.uri().path().starts_with("/api/v1/");
    // Without a token, nobody could be told from others who chose the same key.
    let (true, Some(principal), Some(token)) = (is_meant, principal, bearer(request.headers()))
    else {
        return Ok(next.run(request).await);
    };
    let Some(key) = key::read(request.headers())? else { return Ok(next.run(request).await) };
    let (parts, body) = whole_body(request).await?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let named = Named::of(&key, &token, &principal, (&parts.method, path, &body));
    let longest = app.repeats().limit + MARGIN;
    let found = store::take(&**app.client().await?, &named.name, &named.request, longest).await?;
    match found {
        Found::New => {}
        Found::Other => return Err(ApiError::KeyReused),
        Found::UnderWay => return Err(ApiError::KeyInUse),
        Found::Lost => return Err(ApiError::OutcomeUnknown),
        Found::Answered(sealed) => {
            let answer = named.sealer.open(&named.name, &sealed);
            let answer = answer.as_deref().and_then(unpack);
            let mut answer = answer
                .ok_or_else(|| ApiError::Internal("a kept answer can't be read".to_owned()))?;
            answer.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            return Ok(answer);
        }
    }
    let place = Place::of(&parts.extensions, parts.uri.path());
    let request = Request::from_parts(parts, Body::from(body));
    // A task of its own: when the client goes away, what was begun is not stopped in the middle.
    let done = app.repeats().tasks.spawn({
        let app = app.clone();
        async move { answer(&app, &named, &place, request, next).await }
    });
    done.await.map_err(|error| ApiError::Internal(error.to_string()))?
}

/// Answers a request that has taken its key, and keeps the answer.
async fn answer(
    app: &App,
    named: &Named,
    place: &Place,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // Nobody else ends it when nobody waits for it. What is stopped so stays without an answer.
    let Ok(response) = tokio::time::timeout(app.repeats().limit, next.run(request)).await else {
        return Err(ApiError::OutcomeUnknown);
    };
    let response = place.write(response);
    let (parts, body) = response.into_parts();
    // It is what a handler has written, so it is in memory already.
    let body = to_bytes(body, usize::MAX).await;
    let body = body.map_err(|error| ApiError::Internal(error.to_string()))?;
    let response = Response::from_parts(parts, body);
    if let Err(error) = put_away(app, named, &response).await {
        tracing::warn!(%error, "the answer to a request with an Idempotency-Key could not be kept");
    }
    Ok(response.map(Body::from))
}

/// The longest answer that is kept.
const LARGEST: usize = 256 << 10;

async fn put_away(app: &App, named: &Named, response: &Response<Bytes>) -> Result<(), DbError> {
    let client = app.pool().get().await?;
    // Whoever tries again wants another outcome, not this one.
    let is_final =
        !response.status().is_server_error() && response.status() != StatusCode::TOO_MANY_REQUESTS;
    if is_final && response.body().len() > LARGEST {
        // It stays without an answer: it is not done again, and the table is the user's.
        Ok(())
    } else if is_final {
        let sealed = named.sealer.seal(&named.name, &pack(response));
        store::keep(&**client, &named.name, &sealed).await
    } else {
        store::free(&**client, &named.name).await
    }
}
