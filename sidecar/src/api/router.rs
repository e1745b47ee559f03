//! Which handler answers what, and the document that describes it.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::error::ApiError;
use super::{claims, health, schema, sessions, stakeholders, users};
use crate::config::Config;
use crate::telemetry;

#[derive(OpenApi)]
#[openapi(info(
    title = "IntegrateDB",
    description = "Users, stakeholders and their claims. Every error has one shape: \
                   {\"errors\": {\"detail\": …}} or, for a field, {\"errors\": {FIELD: [MESSAGE]}}."
))]
struct Document;

/// The whole API; `GET /api/v1/openapi.json` describes it.
pub fn router(app: App, config: &Config) -> Router {
    let (routes, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::show, users::update, users::delete))
        .routes(routes!(users::revoke_tokens))
        .routes(routes!(sessions::login))
        .routes(routes!(sessions::renew))
        .routes(routes!(sessions::logout))
        .routes(routes!(stakeholders::list, stakeholders::create))
        .routes(routes!(stakeholders::show, stakeholders::update, stakeholders::delete))
        .routes(routes!(claims::show, claims::put))
        .routes(routes!(schema::document))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .split_for_parts();
    document.components.get_or_insert_default().add_security_scheme(
        "token",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
    );
    let document = Arc::new(document);
    routes
        .route(
            "/api/v1/openapi.json",
            get(move || async move { axum::Json(&*document).into_response() }),
        )
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(config.max_body_bytes))
        .layer(middleware::from_fn_with_state(app.clone(), telemetry::observe))
        .with_state(app)
}
