//! What handlers share, and which handler answers what.

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

use super::error::ApiError;
use super::{claims, health, schema, sessions, stakeholders, users};
use crate::auth::{LoginLimit, Passwords, Tokens};
use crate::config::Config;
use crate::db::Pool;
use crate::telemetry::{self, Metrics};

/// What handlers share.
#[derive(Clone)]
pub struct App(Arc<Shared>);

struct Shared {
    pool: Pool,
    passwords: Passwords,
    tokens: Tokens,
    logins: LoginLimit,
    metrics: Metrics,
    spec_schema: schema::SpecSchema,
}

impl App {
    /// Everything a server needs besides its listener.
    pub fn new(config: &Config, pool: Pool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Shared {
            pool,
            passwords: Passwords::new(cores),
            tokens: Tokens {
                token_secs: config.token_secs,
                refresh_token_secs: config.refresh_token_secs,
            },
            logins: LoginLimit::new(
                config.login_attempts_per_user,
                config.login_attempts_per_address,
            ),
            metrics: Metrics::new(),
            spec_schema: schema::SpecSchema::new(),
        }))
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// A connection for one request.
    pub(super) async fn client(&self) -> Result<deadpool_postgres::Client, ApiError> {
        Ok(self.0.pool.get().await.map_err(crate::db::DbError::from)?)
    }

    pub(super) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    pub(super) fn tokens(&self) -> Tokens {
        self.0.tokens
    }

    pub(super) fn logins(&self) -> &LoginLimit {
        &self.0.logins
    }

    pub(super) fn spec_schema(&self) -> schema::SpecSchema {
        self.0.spec_schema.clone()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}

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
