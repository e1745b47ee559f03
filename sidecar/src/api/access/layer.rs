//! The layer that decides before a handler is asked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use utoipa::openapi::{OpenApi, PathItem};

use super::need::Need;
use super::rules;
use crate::api::address::Client;
use crate::api::app::App;
use crate::api::error::ApiError;
use crate::api::extract::{bearer, number, whole_body};
use crate::api::rate::{charge, remember, screen};
use crate::audit::Actor;
use crate::auth::{Principal, Scope, Token};
use crate::workspaces::{self, Role};

/// Where the document is that describes the API; it is no part of itself.
pub(in crate::api) const DESCRIPTION: &str = "/api/v1/openapi.json";

/// What each operation that is described asks for.
type Needs = HashMap<(Method, String), Option<Need>>;

/// What every operation of the API asks for. One that the table does not name is not in it, and nobody may call it.
#[derive(Clone)]
pub(in crate::api) struct Policy {
    needs: Arc<Needs>,
    app: App,
}

impl Policy {
    /// Of all operations in the document that describes the API.
    pub(in crate::api) fn new(document: &OpenApi, app: App) -> Self {
        let mut needs = HashMap::new();
        for (path, item) in &document.paths.paths {
            for method in methods(item) {
                let need = rules::need(&method, path);
                needs.insert((method, path.clone()), need);
            }
        }
        Self { needs: Arc::new(needs), app }
    }
}

/// Whether a path of the API has a route and no description, so that no rule was asked for.
fn is_forgotten(needs: &Needs, path: &str) -> bool {
    path.starts_with("/api/")
        && path != DESCRIPTION
        && !needs.keys().any(|(_, described)| described == path)
}

/// The methods that a path has.
pub(super) fn methods(item: &PathItem) -> impl Iterator<Item = Method> {
    let methods = [
        (Method::GET, item.get.is_some()),
        (Method::POST, item.post.is_some()),
        (Method::PUT, item.put.is_some()),
        (Method::DELETE, item.delete.is_some()),
        (Method::PATCH, item.patch.is_some()),
    ];
    methods.into_iter().filter_map(|(method, is_there)| is_there.then_some(method))
}

/// What was found out about whoever calls.
#[derive(Clone, Debug)]
pub(in crate::api) struct Access {
    /// Who calls; `None` only where that is allowed.
    pub(in crate::api) principal: Option<Principal>,
    /// The workspace that the path is about, and the role that the user has there.
    pub(in crate::api) membership: Option<(i64, Role)>,
    /// What it calls with.
    token: Option<Token>,
    address: IpAddr,
}

impl Access {
    /// Who calls.
    pub(in crate::api) fn principal(&self) -> Result<&Principal, ApiError> {
        self.principal.as_ref().ok_or(ApiError::Unauthorized)
    }

    /// What it calls with.
    pub(in crate::api) fn token(&self) -> Result<&Token, ApiError> {
        self.token.as_ref().ok_or(ApiError::Unauthorized)
    }

    /// The workspace that the path is about; that of a cache of the configuration file is none.
    pub(in crate::api) fn workspace(&self) -> Option<i64> {
        self.membership.map(|(workspace, _)| workspace)
    }

    /// Who makes a change, for the audit log.
    pub(in crate::api) fn actor(&self) -> Actor {
        Actor { principal: self.principal.clone(), address: self.address }
    }
}

impl FromRequestParts<App> for Access {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let access = parts.extensions.get::<Self>().cloned();
        access.ok_or_else(|| ApiError::Internal("a handler that no rule stands before".to_owned()))
    }
}

/// Refuses whoever may not, and tells the handler who may.
pub(in crate::api) async fn decide(
    State(policy): State<Policy>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        charge(&policy.app, request.extensions(), None)?;
        return Ok(next.run(request).await);
    };
    let method =
        if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    let Some(need) = policy.needs.get(&(method, path.as_str().to_owned())) else {
        if is_forgotten(&policy.needs, path.as_str()) {
            return Err(ApiError::Internal("nobody may call what is not described".to_owned()));
        }
        // No operation: a method that the path has not, what describes the API, or a page.
        charge(&policy.app, request.extensions(), None)?;
        return Ok(next.run(request).await);
    };
    let need = need.ok_or_else(|| ApiError::Internal("nobody may call this".to_owned()))?;
    let (mut parts, body) = request.into_parts();
    let mut access = judge(&policy.app, need, &mut parts).await?;
    let mut request = Request::from_parts(parts, body);
    // Who may not is told so before the body has come. It may be long in coming, and what the client may do can end
    // meanwhile: so who may is judged once more when it is there.
    if access.principal.is_some() && !request.body().is_end_stream() {
        let (mut parts, body) = whole_body(request).await?;
        access = judge(&policy.app, need, &mut parts).await?;
        request = Request::from_parts(parts, Body::from(body));
    }
    request.extensions_mut().insert(access);
    Ok(next.run(request).await)
}

async fn judge(app: &App, need: Need, parts: &mut Parts) -> Result<Access, ApiError> {
    let Client(address) = Client::from_request_parts(parts, app).await?;
    let nobody = Access { principal: None, membership: None, token: None, address };
    if matches!(need, Need::Public | Need::Other) {
        charge(app, &parts.extensions, None)?;
        return Ok(nobody);
    }
    let token = bearer(&parts.headers);
    // Before the database is asked for anything.
    match &token {
        None => charge(app, &parts.extensions, None)?,
        Some(token) => screen(app, &parts.extensions, token)?,
    }
    let found = find(app, token.as_ref()).await;
    // Whoever has a token counts as a caller of its own once the token is known to be valid.
    let known = found.as_ref().ok().and_then(|(_, principal)| principal.as_ref());
    if let (Some(token), Some(_)) = (&token, known) {
        remember(app, token);
    }
    charge(app, &parts.extensions, known)?;
    let (client, principal) = found?;
    let Some(principal) = principal else {
        let refused = if token.is_some() { ApiError::InvalidToken } else { ApiError::Unauthorized };
        return match need {
            Need::Ticket if token.is_none() => Ok(nobody),
            Need::First => {
                let sql = "SELECT NOT EXISTS (SELECT FROM integratedb.users)";
                let is_first: bool = client.query_one(sql, &[]).await?.get(0);
                if is_first { Ok(nobody) } else { Err(refused) }
            }
            _ => Err(refused),
        };
    };
    let is_allowed = |allowed: bool| if allowed { Ok(()) } else { Err(ApiError::Forbidden) };
    let is_user = principal.application.is_none();
    let mut membership = None;
    match need {
        Need::Public | Need::Other => {}
        Need::User => is_allowed(is_user)?,
        Need::First | Need::Operator | Need::Ticket => is_allowed(principal.operator)?,
        Need::Self_ => {
            let id = parameter(parts, "id").await.and_then(|id| number(&id));
            is_allowed(is_user && (principal.operator || id == Some(principal.user)))?;
        }
        Need::Workspace(least) => {
            is_allowed(is_user)?;
            let id = parameter(parts, "workspace").await.and_then(|id| number(&id));
            let workspace = id.ok_or(ApiError::NotFound)?;
            // Whoever is no member does not hear whether it exists.
            let role = workspaces::role(&**client, workspace, principal.user).await?;
            let role = role.ok_or(ApiError::NotFound)?;
            is_allowed(role >= least)?;
            membership = Some((workspace, role));
        }
        Need::Cache(least, scope) => {
            allow_scope(&principal, scope)?;
            let id = parameter(parts, "id").await.unwrap_or_default();
            match workspaces::of_cache(&**client, &id).await? {
                None if principal.operator => {}
                None => return Err(ApiError::NotFound),
                Some(workspace) => {
                    let application = principal.application.as_ref();
                    if application.is_some_and(|application| application.workspace != workspace) {
                        return Err(ApiError::NotFound);
                    }
                    let role = workspaces::role(&**client, workspace, principal.user).await?;
                    let role = role.ok_or(ApiError::NotFound)?;
                    is_allowed(role >= least)?;
                    membership = Some((workspace, role));
                }
            }
        }
        Need::Caches(scope) => allow_scope(&principal, scope)?,
    }
    Ok(Access { principal: Some(principal), membership, token, address })
}

/// Whoever is behind a token, and the connection that it was found out on.
async fn find(
    app: &App,
    token: Option<&Token>,
) -> Result<(deadpool_postgres::Client, Option<Principal>), ApiError> {
    let client = app.client().await?;
    let principal = match token {
        Some(token) => Principal::of(&**client, token).await?,
        None => None,
    };
    Ok((client, principal))
}

fn allow_scope(principal: &Principal, scope: Scope) -> Result<(), ApiError> {
    match &principal.application {
        Some(application) if !application.scopes.contains(&scope) => {
            Err(ApiError::InsufficientScope(scope))
        }
        _ => Ok(()),
    }
}

/// A parameter of the path.
async fn parameter(parts: &mut Parts, name: &str) -> Option<String> {
    let all = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    all.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_nobody_has_described_is_open_to_nobody() {
        let needs = Needs::from([((Method::GET, "/api/v1/users".to_owned()), Some(Need::Public))]);
        assert!(is_forgotten(&needs, "/api/v1/new"));
        for known in ["/api/v1/users", DESCRIPTION, "/oauth2/auth", "/metrics"] {
            assert!(!is_forgotten(&needs, known), "{known}");
        }
    }
}
