//! The table of who may do what.

use axum::http::Method;

use super::need::Need;
use crate::auth::Scope::{CacheRulesRead, CacheRulesWrite, CachesRead, CachesWrite};
use crate::workspaces::Role::{Admin, Member, Owner, Viewer};

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;

/// What an operation of the API asks for; `None` if the table does not name it.
pub(in crate::api) fn need(method: &Method, path: &str) -> Option<Need> {
    let method = if *method == Method::HEAD { &GET } else { method };
    // All of sync, and what belongs to a stakeholder, is for operators.
    let is_of_operators = ["/api/v1/stakeholders", "/api/v1/sync/", "/api/v1/notifications"];
    RULES.iter().find(|(of, to, _)| of == method && *to == path).map(|(_, _, need)| *need).or_else(
        || is_of_operators.iter().any(|begin| path.starts_with(begin)).then_some(Need::Operator),
    )
}

/// What is asked for, operation by operation.
const RULES: &[(Method, &str, Need)] = &[
    (GET, "/health/live", Need::Public),
    (GET, "/health/ready", Need::Public),
    (GET, "/metrics", Need::Public),
    (GET, "/status/live", Need::Public),
    (GET, "/status/ready", Need::Public),
    (PUT, "/notification", Need::Other),
    (PUT, "/tenant", Need::Other),
    (GET, "/api/v1/spec.schema.json", Need::Public),
    (GET, "/api/v1/notifications.schema.json", Need::Public),
    (POST, "/api/v1/auth/login", Need::Public),
    (POST, "/api/v1/auth/renew", Need::Public),
    (POST, "/api/v1/auth/logout", Need::User),
    (GET, "/api/v1/users", Need::Operator),
    (POST, "/api/v1/users", Need::First),
    (GET, "/api/v1/users/{id}", Need::Self_),
    (PUT, "/api/v1/users/{id}", Need::Self_),
    (DELETE, "/api/v1/users/{id}", Need::Self_),
    (DELETE, "/api/v1/users/{id}/tokens", Need::Self_),
    (GET, "/api/v1/workspaces", Need::User),
    (POST, "/api/v1/workspaces", Need::User),
    (GET, "/api/v1/workspaces/{workspace}", Need::Workspace(Viewer)),
    (PUT, "/api/v1/workspaces/{workspace}", Need::Workspace(Admin)),
    (DELETE, "/api/v1/workspaces/{workspace}", Need::Workspace(Owner)),
    (GET, "/api/v1/workspaces/{workspace}/members", Need::Workspace(Viewer)),
    (POST, "/api/v1/workspaces/{workspace}/members", Need::Workspace(Admin)),
    (PUT, "/api/v1/workspaces/{workspace}/members/{user}", Need::Workspace(Admin)),
    // Anybody may leave; of others the handler asks for an admin.
    (DELETE, "/api/v1/workspaces/{workspace}/members/{user}", Need::Workspace(Viewer)),
    (GET, "/api/v1/workspaces/{workspace}/audit", Need::Workspace(Admin)),
    (GET, "/api/v1/audit", Need::Operator),
    (GET, "/api/v1/stakeholders/{id}/events", Need::Ticket),
    (GET, "/api/v1/caches", Need::Caches(CachesRead)),
    (POST, "/api/v1/caches", Need::Caches(CachesWrite)),
    (GET, "/api/v1/caches/{id}", Need::Cache(Viewer, CachesRead)),
    (PUT, "/api/v1/caches/{id}", Need::Cache(Member, CachesWrite)),
    (DELETE, "/api/v1/caches/{id}", Need::Cache(Member, CachesWrite)),
    (GET, "/api/v1/caches/{id}/settings", Need::Cache(Viewer, CachesRead)),
    (PUT, "/api/v1/caches/{id}/settings", Need::Cache(Member, CachesWrite)),
    (GET, "/api/v1/caches/{id}/queries", Need::Cache(Viewer, CachesRead)),
    (GET, "/api/v1/caches/{id}/caching", Need::Cache(Viewer, CachesRead)),
    (PUT, "/api/v1/caches/{id}/mode", Need::Cache(Member, CacheRulesWrite)),
    (GET, "/api/v1/caches/{id}/rules", Need::Cache(Viewer, CacheRulesRead)),
    (PUT, "/api/v1/caches/{id}/rules/{kind}/{name}", Need::Cache(Member, CacheRulesWrite)),
    (DELETE, "/api/v1/caches/{id}/rules/{kind}/{name}", Need::Cache(Member, CacheRulesWrite)),
    (POST, "/api/v1/caches/{id}/purge", Need::Cache(Member, CachesWrite)),
    (POST, "/api/v1/caches/{id}/explain", Need::Cache(Viewer, CachesRead)),
    (GET, "/api/v1/oauth/applications", Need::User),
    (POST, "/api/v1/oauth/applications", Need::User),
    (GET, "/api/v1/oauth/applications/{application}", Need::User),
    (PUT, "/api/v1/oauth/applications/{application}", Need::User),
    (DELETE, "/api/v1/oauth/applications/{application}", Need::User),
    (POST, "/api/v1/oauth/applications/{application}/secret", Need::User),
    (GET, "/api/v1/workspaces/{workspace}/oauth/applications", Need::Workspace(Admin)),
    (POST, "/api/v1/workspaces/{workspace}/oauth/applications", Need::Workspace(Admin)),
    (
        GET,
        "/api/v1/workspaces/{workspace}/oauth/applications/{application}",
        Need::Workspace(Admin),
    ),
    (
        PUT,
        "/api/v1/workspaces/{workspace}/oauth/applications/{application}",
        Need::Workspace(Admin),
    ),
    (
        DELETE,
        "/api/v1/workspaces/{workspace}/oauth/applications/{application}",
        Need::Workspace(Admin),
    ),
    (
        POST,
        "/api/v1/workspaces/{workspace}/oauth/applications/{application}/secret",
        Need::Workspace(Admin),
    ),
    (GET, "/api/v1/oauth/authorizations", Need::User),
    (DELETE, "/api/v1/oauth/authorizations", Need::User),
    (DELETE, "/api/v1/oauth/authorizations/{authorization}", Need::User),
];
