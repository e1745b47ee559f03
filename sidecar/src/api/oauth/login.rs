//! `/oauth2/login` and `/oauth2/logout`: who a browser belongs to.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::browser::{cookie, form_token, is_form_token, set_cookie};
use super::consent::{Submitted, back_to, not_here, see_other, submitted};
use super::form::Form;
use crate::api::address::Client;
use crate::api::app::App;
use crate::api::error::ApiError;
use crate::api::sessions::verify;
use crate::auth::random_secret;
use crate::oauth::{Request, Session};
use crate::secret::Secret;

/// The name of the form.
const LOGIN: &str = "login";

/// The form of the page where one can log out.
pub(super) const LOGOUT: &str = "logout";

/// The page to log in at, for a browser that nobody has logged in with. `tried`: as whom, and what came of it.
pub(super) async fn page(
    app: &App,
    headers: &HeaderMap,
    request: &Request,
    tried: Option<(StatusCode, &str, &str)>,
) -> Result<Response, ApiError> {
    let server = app.oauth();
    let issuer = match server.issuer() {
        Ok(issuer) => issuer,
        Err(none) => return Ok(none.into_response()),
    };
    let (status, username, error) = match tried {
        None => (StatusCode::OK, "", None),
        Some((status, username, error)) => (status, username, Some(error)),
    };
    // Pages in several tabs share one.
    let known = cookie(headers, issuer);
    let is_new = known.is_none();
    let cookie = known.map_or_else(random_secret, Ok)?;
    let token = form_token(&cookie, LOGIN, &request.query());
    let mut response = server.pages.login(status, request, &token, username, error)?;
    if is_new {
        let (name, value) = set_cookie(Some(&cookie), issuer);
        response.headers_mut().append(name, value);
    }
    Ok(response)
}

/// Logs a browser in, and goes on with the request.
pub(super) async fn login(
    State(app): State<App>,
    Client(address): Client,
    headers: HeaderMap,
    Form(form): Form,
) -> Result<Response, ApiError> {
    let Submitted { issuer, params, request } = match submitted(&app, &headers, form).await? {
        Ok(submitted) => submitted,
        Err(response) => return Ok(response),
    };
    let before = cookie(&headers, issuer);
    let is_ours = before.as_ref().is_some_and(|cookie| {
        is_form_token(cookie, LOGIN, &request.query(), params.get("form_token"))
    });
    if !is_ours {
        return not_here(&app);
    }
    let username = params.get("username").unwrap_or_default().trim().to_lowercase();
    let password = Secret::new(params.get("password").unwrap_or_default().to_owned());
    let known = match verify(&app, &username, password, address).await {
        Ok(known) => known,
        Err(ApiError::Forbidden) => {
            let tried =
                (StatusCode::FORBIDDEN, username.as_str(), "User name or password is wrong.");
            return page(&app, &headers, &request, Some(tried)).await;
        }
        Err(ApiError::TooManyRequests(wait)) => {
            let seconds = wait.as_secs() + 1;
            let error = format!("There were too many logins. Try again in {seconds} seconds.");
            let tried = (StatusCode::TOO_MANY_REQUESTS, username.as_str(), error.as_str());
            let mut response = page(&app, &headers, &request, Some(tried)).await?;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            return Ok(response);
        }
        Err(error) => return Err(error),
    };
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let user = known.hold(&app, &transaction).await?;
    if let Some(before) = &before {
        Session::close(&*transaction, before).await?;
    }
    let secs = app.oauth().settings.session_secs;
    let cookie = Session::open(&*transaction, user, secs).await?;
    transaction.commit().await?;
    known.succeeded();
    let mut response = see_other(&back_to(&request));
    let (name, value) = set_cookie(Some(&cookie), issuer);
    response.headers_mut().append(name, value);
    Ok(response)
}

/// Logs a browser out, and asks again who it belongs to.
pub(super) async fn logout(
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form,
) -> Result<Response, ApiError> {
    let Submitted { issuer, params, request } = match submitted(&app, &headers, form).await? {
        Ok(submitted) => submitted,
        Err(response) => return Ok(response),
    };
    let cookie = cookie(&headers, issuer)
        .filter(|cookie| is_form_token(cookie, LOGOUT, &request.query(), params.get("form_token")));
    let Some(cookie) = cookie else { return not_here(&app) };
    Session::close(&**app.client().await?, &cookie).await?;
    let mut response = see_other(&back_to(&request));
    let (name, value) = set_cookie(None, issuer);
    response.headers_mut().append(name, value);
    Ok(response)
}
