//! `/oauth2/auth` and `/oauth2/consent`: a user is asked whether an application may, and answers.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_postgres::GenericClient;

use super::browser::{cookie, form_token, is_form_token, is_from_here};
use super::form::Form;
use super::login::{self, LOGOUT};
use super::pages::Choice;
use crate::api::address::Client;
use crate::api::app::App;
use crate::api::error::ApiError;
use crate::api::extract::number;
use crate::audit::Actor;
use crate::auth::Token;
use crate::db::DbError;
use crate::oauth::{self, Issuer, Params, Refusal, Request, Session, redirect_with};
use crate::workspaces::Role;

/// The name of the form.
const CONSENT: &str = "consent";

/// Asks the user, who logs in first if need be.
pub(super) async fn authorize(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let issuer = match app.oauth().issuer() {
        Ok(issuer) => issuer,
        Err(none) => return Ok(none.into_response()),
    };
    let params = Params::read(query.unwrap_or_default().as_bytes());
    let asked = ask(&app, &params).await?;
    let client = app.client().await?;
    let known = match cookie(&headers, issuer) {
        Some(cookie) => Session::of(&**client, &cookie).await?.map(|session| (cookie, session)),
        None => None,
    };
    match (asked, known) {
        (Ok(request), Some((cookie, session))) => {
            page(&app, &**client, &cookie, &session, &request, None).await
        }
        (Ok(request), None) => login::page(&app, &headers, &request, None).await,
        (Err(Refusal::There { redirect_uri, state, error, description }), Some(_)) => {
            Ok(failed(issuer, &redirect_uri, state.as_deref(), error, description))
        }
        (Err(refusal), _) => refused(&app, issuer, refusal),
    }
}

/// Takes the user's answer, and sends it to the application by way of the browser.
pub(super) async fn consent(
    State(app): State<App>,
    Client(address): Client,
    headers: HeaderMap,
    Form(form): Form,
) -> Result<Response, ApiError> {
    let Submitted { issuer, params, request } = match submitted(&app, &headers, form).await? {
        Ok(submitted) => submitted,
        Err(response) => return Ok(response),
    };
    let Some(cookie) = cookie(&headers, issuer) else { return not_here(&app) };
    if !is_form_token(&cookie, CONSENT, &request.query(), params.get("form_token")) {
        return not_here(&app);
    }
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let workspace = params.get("workspace").and_then(number);
    let Some(session) = Session::hold(&*transaction, &cookie, workspace).await? else {
        // Logged out since, or for too long: back to where that is asked.
        return Ok(see_other(&back_to(&request)));
    };
    match params.get("decision") {
        Some("allow") => {}
        Some("deny") => {
            let (error, description) = ("access_denied", "the user has denied it");
            let state = request.state.as_deref();
            return Ok(failed(issuer, &request.redirect_uri, state, error, description));
        }
        _ => return not_here(&app),
    }
    let user = session.principal.user;
    let actor = Actor { principal: Some(session.principal.clone()), address };
    let code = match workspace {
        Some(workspace) => {
            oauth::allow(&*transaction, &request, &actor, user, workspace, &app.oauth().settings)
                .await?
        }
        None => None,
    };
    let Some(code) = code else {
        let error = Some("Choose one of your workspaces.");
        return page(&app, &*transaction, &cookie, &session, &request, error).await;
    };
    transaction.commit().await?;
    Ok(done(issuer, &request, &code))
}

/// What a form of ours was sent with.
pub(super) struct Submitted<'a> {
    pub(super) issuer: &'a Issuer,
    pub(super) params: Params,
    pub(super) request: Request,
}

/// What a form was sent with from a page of ours, or the answer to what was not, or to a request that can't be.
pub(super) async fn submitted<'a>(
    app: &'a App,
    headers: &HeaderMap,
    form: Result<Params, &'static str>,
) -> Result<Result<Submitted<'a>, Response>, ApiError> {
    let issuer = match app.oauth().issuer() {
        Ok(issuer) => issuer,
        Err(none) => return Ok(Err(none.into_response())),
    };
    let params = match form {
        Ok(params) if is_from_here(headers, issuer) => params,
        _ => return not_here(app).map(Err),
    };
    match ask(app, &params).await? {
        Ok(request) => Ok(Ok(Submitted { issuer, params, request })),
        Err(refusal) => refused(app, issuer, refusal).map(Err),
    }
}

/// Judges a request.
async fn ask(app: &App, params: &Params) -> Result<Result<Request, Refusal>, ApiError> {
    let found = match params.get("client_id") {
        Some(client_id) => oauth::find(&**app.client().await?, client_id).await?,
        None => None,
    };
    Ok(Request::read(params, found.map(|(application, _)| application)))
}

/// The page in place of a request that can't be put to the user. Any user can register an application with an address of
/// their choice, so nobody whom we don't know is sent there by a link to us alone: a page names it first (RFC 9700, 4.11.2).
fn refused(app: &App, issuer: &Issuer, refusal: Refusal) -> Result<Response, ApiError> {
    let pages = &app.oauth().pages;
    match refusal {
        Refusal::Here(why) => pages.message(StatusCode::BAD_REQUEST, why),
        Refusal::There { redirect_uri, state, error, description } => {
            let link = failure(issuer, &redirect_uri, state.as_deref(), error, description);
            pages.leave(&redirect_uri, &link, description)
        }
    }
}

async fn page(
    app: &App,
    client: &impl GenericClient,
    cookie: &Token,
    session: &Session,
    request: &Request,
    error: Option<&str>,
) -> Result<Response, ApiError> {
    let query = request.query();
    let choices = choices(client, session.principal.user).await?;
    let token = form_token(cookie, CONSENT, &query);
    let logout = form_token(cookie, LOGOUT, &query);
    let pages = &app.oauth().pages;
    pages.consent(request, &token, &logout, &session.principal.username, &choices, error)
}

async fn choices(client: &impl GenericClient, user: i64) -> Result<Vec<Choice>, DbError> {
    let sql = "SELECT w.id, w.name, m.role \
               FROM integratedb.workspace_member m JOIN integratedb.workspace w ON w.id = m.workspace_id \
               WHERE m.user_id = $1 ORDER BY w.name, w.id";
    let rows = client.query(sql, &[&user]).await?;
    let choice = |row: &tokio_postgres::Row| {
        Some(Choice { id: row.get(0), name: row.get(1), role: Role::parse(row.get(2))? })
    };
    Ok(rows.iter().filter_map(choice).collect())
}

/// Where a request is asked anew.
pub(super) fn back_to(request: &Request) -> String {
    format!("/oauth2/auth?{}", request.query())
}

/// A form that no page of ours has sent for this browser, or not as we made it.
pub(super) fn not_here(app: &App) -> Result<Response, ApiError> {
    let text = "This form can't be taken: it was not sent from the page that you were shown, or that was too long ago. \
                Go back to the application and start again.";
    app.oauth().pages.message(StatusCode::FORBIDDEN, text)
}

/// Sends the browser on, by GET whatever it came with (RFC 9700, 4.12).
pub(super) fn see_other(to: &str) -> Response {
    let fixed = [(header::CACHE_CONTROL, "no-store"), (header::REFERRER_POLICY, "same-origin")];
    let mut response = (StatusCode::SEE_OTHER, fixed).into_response();
    let location = HeaderValue::from_str(to).expect("URL-encoded, or a URI that was registered");
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// Tells the application its code, and who gives it (RFC 9207).
fn done(issuer: &Issuer, request: &Request, code: &Token) -> Response {
    let mut answer = vec![("code", code.expose_secret().as_str())];
    answer.extend(request.state.as_deref().map(|state| ("state", state)));
    answer.push(("iss", issuer.as_str()));
    see_other(&redirect_with(&request.redirect_uri, &answer))
}

/// Tells the application why there is none.
fn failed(
    issuer: &Issuer,
    redirect_uri: &str,
    state: Option<&str>,
    error: &str,
    description: &str,
) -> Response {
    see_other(&failure(issuer, redirect_uri, state, error, description))
}

/// Where the application is told so.
fn failure(
    issuer: &Issuer,
    redirect_uri: &str,
    state: Option<&str>,
    error: &str,
    description: &str,
) -> String {
    let mut answer = vec![("error", error), ("error_description", description)];
    answer.extend(state.map(|state| ("state", state)));
    answer.push(("iss", issuer.as_str()));
    redirect_with(redirect_uri, &answer)
}
