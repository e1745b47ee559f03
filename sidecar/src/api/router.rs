//! Which handler answers what, and the document that describes it.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{DESCRIPTION, Policy, decide};
use super::address::{Trusted, locate};
use super::app::App;
use super::error::ApiError;
use super::{
    backfills, caches, caching, channels, claims, events, health, idempotency, notifications,
    notify_status, oauth, openapi, page, problem, rate, schema, sessions, stakeholders, sync, tag,
    users, workspaces,
};
use crate::config::Config;
use crate::oauth::Issuer;
use crate::telemetry;

#[derive(OpenApi)]
#[openapi(info(
    title = "IntegrateDB",
    description = "Users, workspaces, stakeholders, their claims and notifications; caches and their queries; sync. Errors are problem \
                   details (RFC 9457). Below users, auth and stakeholders, with their claims and notifications, they are \
                   only {\"errors\": {\"detail\": …}} or, for a field, {\"errors\": {FIELD: [MESSAGE]}}, which problem \
                   details have too."
))]
struct Document;

/// Which handler answers what, and the document that says so.
pub(super) fn operations() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (routes, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::show, users::update, users::delete))
        .routes(routes!(users::revoke_tokens))
        .routes(routes!(sessions::login))
        .routes(routes!(sessions::renew))
        .routes(routes!(sessions::logout))
        .routes(routes!(stakeholders::list, stakeholders::create))
        .routes(routes!(stakeholders::show, stakeholders::update, stakeholders::delete))
        .routes(routes!(claims::show, claims::put))
        .routes(routes!(notifications::show, notifications::put, notifications::delete))
        .routes(routes!(notify_status::show))
        .routes(routes!(channels::list))
        .routes(routes!(channels::show))
        .routes(routes!(channels::rotate_secret))
        .routes(routes!(channels::enable))
        .routes(routes!(channels::disable))
        .routes(routes!(channels::dead_letters))
        .routes(routes!(channels::replay))
        .routes(routes!(events::events))
        .routes(routes!(events::ticket))
        .routes(routes!(backfills::list, backfills::create))
        .routes(routes!(backfills::show))
        .routes(routes!(backfills::pause))
        .routes(routes!(backfills::resume))
        .routes(routes!(backfills::cancel))
        .routes(routes!(caches::list::list, caches::change::create))
        .routes(routes!(caches::list::show, caches::change::update, caches::change::delete))
        .routes(routes!(caches::settings::show, caches::settings::put))
        .routes(routes!(caches::queries))
        .routes(routes!(caching::show))
        .routes(routes!(caching::rules))
        .routes(routes!(caching::put_rule, caching::delete_rule))
        .routes(routes!(caching::put_mode))
        .routes(routes!(caching::purge))
        .routes(routes!(caching::explain))
        .merge(workspaces::routes())
        .merge(sync::routes())
        .merge(oauth::documented())
        .routes(routes!(schema::document))
        .routes(routes!(schema::notifications))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .split_for_parts();
    (routes, document)
}

/// The whole API; `GET /api/v1/openapi.json` describes it.
pub fn router(app: App, config: &Config) -> Router {
    let (routes, document) = operations();
    let trusted = Trusted::from(config.trusted_proxies.as_slice());
    let policy = Policy::new(&document, app.clone());
    let issuer = config.oauth.issuer.as_ref().map(Issuer::as_str);
    let document = openapi::describe(&document, issuer).to_string();
    let document = Bytes::from(document);
    routes
        .route(
            DESCRIPTION,
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], document) }),
        )
        .merge(oauth::undocumented())
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(middleware::from_fn(page::link))
        .layer(middleware::from_fn(tag::not_modified))
        .layer(middleware::from_fn_with_state(app.clone(), idempotency::once))
        .layer(middleware::from_fn_with_state(policy, decide))
        .layer(DefaultBodyLimit::max(config.max_body_bytes))
        .layer(middleware::from_fn_with_state(
            Duration::from_secs(config.request_timeout_secs),
            deadline,
        ))
        .layer(CatchPanicLayer::custom(|_| {
            ApiError::Internal("a handler panicked".to_owned()).into_response()
        }))
        .layer(middleware::from_fn_with_state(app.clone(), rate::limit))
        .layer(middleware::from_fn(problem::write))
        .layer(middleware::from_fn_with_state(app.clone(), telemetry::observe))
        .layer(middleware::from_fn_with_state(trusted, locate))
        .with_state(app)
}

/// Gives a request up that takes longer than `limit` to be received and answered: a client that sends its
/// body a byte a minute, or a network that has swallowed a connection to the database.
async fn deadline(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(limit, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        ApiError::Unavailable("The request took too long; it may or may not have had an effect.")
            .into_response()
    })
}
