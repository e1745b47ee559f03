//! Which handler of OAuth answers what.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header;
use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::form::LARGEST;
use super::{applications, authorizations, consent, login, metadata, pages, token};
use crate::api::app::App;

/// What the OpenAPI document describes.
pub(in crate::api) fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(applications::list, applications::create))
        .routes(routes!(applications::show, applications::update, applications::delete))
        .routes(routes!(applications::rotate_secret))
        .routes(routes!(applications::list_of_workspace, applications::create_of_workspace))
        .routes(routes!(
            applications::show_of_workspace,
            applications::update_of_workspace,
            applications::delete_of_workspace
        ))
        .routes(routes!(applications::rotate_secret_of_workspace))
        .routes(routes!(authorizations::list, authorizations::revoke_all))
        .routes(routes!(authorizations::revoke))
}

/// What OAuth's own metadata describes.
pub(in crate::api) fn pages() -> Router<App> {
    let css = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    Router::new()
        .route("/oauth2/auth", get(consent::authorize))
        .route("/oauth2/login", post(login::login))
        .route("/oauth2/logout", post(login::logout))
        .route("/oauth2/consent", post(consent::consent))
        .route("/oauth2/token", post(token::token))
        .route("/oauth2/revoke", post(token::revoke))
        .layer(DefaultBodyLimit::max(LARGEST))
        .route("/oauth2/style.css", get(move || async move { (css, pages::STYLE) }))
        .route("/.well-known/oauth-authorization-server", get(metadata::metadata))
}
