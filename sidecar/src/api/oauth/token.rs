//! `/oauth2/token` and `/oauth2/revoke`: what applications ask without a user.

use std::net::IpAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::form::Form;
use crate::api::address::Client;
use crate::api::app::App;
use crate::api::error::ApiError;
use crate::auth::network;
use crate::db::DbError;
use crate::oauth::{self, Application, Issued, Params, Secrets, TokenError, Unreadable};
use crate::secret::Secret;

/// Why an application gets nothing (RFC 6749, 5.2).
enum Refusal {
    /// 400
    Bad(&'static str, &'static str),
    /// 401: it is not who it says; or 429 if that was said too often, and how long to wait.
    Client(Option<Duration>),
    /// Anything that is not its fault.
    Fault(ApiError),
}

impl<E: Into<DbError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Fault(error.into().into())
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Fault(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = |error: &str, why: &str| Json(json!({"error": error, "error_description": why}));
        let mut response = match self {
            Self::Bad(error, why) => (StatusCode::BAD_REQUEST, body(error, why)).into_response(),
            Self::Client(None) => {
                let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"oauth2\"")];
                let why = "there is no such application, or this is not its secret";
                (StatusCode::UNAUTHORIZED, challenge, body("invalid_client", why)).into_response()
            }
            Self::Client(Some(wait)) => {
                let retry = [(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1))];
                let why = "the secret was wrong too often; Retry-After says when to try again";
                (StatusCode::TOO_MANY_REQUESTS, retry, body("invalid_client", why)).into_response()
            }
            Self::Fault(error) => error.into_response(),
        };
        closed(&mut response);
        response
    }
}

/// What is answered here is for the application alone.
fn closed(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
}

/// Trades a code or a refresh token for tokens.
pub(super) async fn token(
    State(app): State<App>,
    Client(address): Client,
    headers: HeaderMap,
    Form(form): Form,
) -> Response {
    if let Err(none) = app.oauth().issuer() {
        return none.into_response();
    }
    match trade(&app, address, &headers, form).await {
        Err(refusal) => refusal.into_response(),
        Ok(issued) => {
            let scopes: Vec<&str> = issued.scopes.iter().map(|scope| scope.as_str()).collect();
            let mut response = Json(json!({
                "access_token": issued.token.expose_secret(),
                "token_type": "Bearer",
                "expires_in": app.oauth().settings.token_secs,
                "refresh_token": issued.refresh_token.expose_secret(),
                "scope": scopes.join(" "),
            }))
            .into_response();
            closed(&mut response);
            response
        }
    }
}

async fn trade(
    app: &App,
    address: IpAddr,
    headers: &HeaderMap,
    form: Result<Params, &'static str>,
) -> Result<Issued, Refusal> {
    let invalid = |why| Refusal::Bad("invalid_request", why);
    let params = form.map_err(invalid)?;
    let application = authenticate(app, address, headers, &params).await?;
    let needed = |name: &str, why| params.get(name).ok_or(invalid(why));
    let settings = &app.oauth().settings;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    let traded = match needed("grant_type", "there is no grant_type")? {
        "authorization_code" => {
            let code = Secret::new(needed("code", "there is no code")?.to_owned());
            let redirect_uri = needed("redirect_uri", "there is no redirect_uri")?;
            let verifier = needed("code_verifier", "there is no code_verifier")?;
            oauth::exchange(
                &transaction,
                &application,
                &code,
                redirect_uri,
                verifier,
                settings,
                address,
            )
            .await
        }
        "refresh_token" => {
            let refresh = needed("refresh_token", "there is no refresh_token")?;
            let refresh = Secret::new(refresh.to_owned());
            let scope = params.get("scope");
            oauth::refresh(&transaction, &application, &refresh, scope, settings, address).await
        }
        _ => {
            let why = "grant_type has to be authorization_code or refresh_token";
            return Err(Refusal::Bad("unsupported_grant_type", why));
        }
    };
    match traded {
        Err(TokenError::Database(error)) => Err(error.into()),
        // What was used twice has ended its family, and what was tried is used up.
        Err(error) => {
            transaction.commit().await?;
            Err(match error {
                TokenError::Grant(why) => Refusal::Bad("invalid_grant", why),
                TokenError::Scope(why) => Refusal::Bad("invalid_scope", why),
                TokenError::Database(error) => error.into(),
            })
        }
        Ok(issued) => {
            transaction.commit().await?;
            Ok(issued)
        }
    }
}

/// Ends a token and all that came from the same consent (RFC 7009). Of what is not known, nothing is said.
pub(super) async fn revoke(
    State(app): State<App>,
    Client(address): Client,
    headers: HeaderMap,
    Form(form): Form,
) -> Response {
    if let Err(none) = app.oauth().issuer() {
        return none.into_response();
    }
    match end(&app, address, &headers, form).await {
        Err(refusal) => refusal.into_response(),
        Ok(()) => {
            let mut response = StatusCode::OK.into_response();
            closed(&mut response);
            response
        }
    }
}

async fn end(
    app: &App,
    address: IpAddr,
    headers: &HeaderMap,
    form: Result<Params, &'static str>,
) -> Result<(), Refusal> {
    let invalid = |why| Refusal::Bad("invalid_request", why);
    let params = form.map_err(invalid)?;
    let application = authenticate(app, address, headers, &params).await?;
    let token = params.get("token").ok_or(invalid("there is no token"))?;
    let mut client = app.client().await?;
    let transaction = client.transaction().await?;
    oauth::end(&transaction, &application, &Secret::new(token.to_owned()), address).await?;
    transaction.commit().await?;
    Ok(())
}

/// The application that sends a request.
async fn authenticate(
    app: &App,
    address: IpAddr,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Application, Refusal> {
    let invalid = |why| Refusal::Bad("invalid_request", why);
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = match (all.next(), all.next()) {
        (None, _) => None,
        (Some(one), None) => {
            Some(one.to_str().map_err(|_| invalid("Authorization can't be read"))?)
        }
        _ => return Err(invalid("there are two headers Authorization")),
    };
    let secrets = Secrets::read(authorization, params).map_err(|error| match error {
        // RFC 6749, 5.2: who tries by the header is told so by the header.
        Unreadable::Header => Refusal::Client(None),
        Unreadable::Request(why) => invalid(why),
    })?;
    let found = oauth::find(&**app.client().await?, &secrets.client_id).await?;
    let is_known = found.is_some();
    let found =
        found.filter(|(_, kept)| oauth::check_secret(kept.as_deref(), secrets.secret.as_ref()));
    if let Some((application, _)) = found {
        return Ok(application);
    }
    app.metrics().count("integratedb_oauth_client_failures_total");
    // One name of both, so that what somebody tries from elsewhere slows down nobody but him. All that he makes up is one.
    let client_id = if is_known { secrets.client_id.as_str() } else { "" };
    let who = Sha256::digest(format!("{client_id} {}", network(address)));
    let attempt = app.oauth().failures.attempt(&hex::encode(&who[..16]), address);
    Err(Refusal::Client(attempt.err()))
}
