//! What an operation asks of whoever calls it, in the document's words.

use serde_json::{Map, Value, json};

use super::Operation;
use crate::api::access::Need;
use crate::auth::Scope;

/// Every way of saying who calls.
pub(super) fn schemes(issuer: Option<&str>) -> Value {
    let mut schemes = json!({
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "The token that a login gives.",
        },
        "ticket": {
            "type": "apiKey",
            "in": "query",
            "name": "ticket",
            "description": "What POST /api/v1/stakeholders/{id}/events/ticket gives: for browsers, which send no token \
                            when they open a socket.",
        },
        // Zync's own way of writing it is taken too.
        "zync": {
            "type": "http",
            "scheme": "bearer",
            "description": "The setting sync.token; also as Authorization: Token token=\"…\".",
        },
    });
    if let Some(issuer) = issuer {
        let issuer = issuer.trim_end_matches('/');
        let scopes: Map<String, Value> =
            Scope::ALL.iter().map(|scope| (scope.to_string(), json!(meaning(*scope)))).collect();
        schemes["oauth2"] = json!({
            "type": "oauth2",
            "description": "For applications of third parties, by the Authorization Code grant with PKCE.",
            "flows": { "authorizationCode": {
                "authorizationUrl": format!("{issuer}/oauth2/auth"),
                "tokenUrl": format!("{issuer}/oauth2/token"),
                "refreshUrl": format!("{issuer}/oauth2/token"),
                "scopes": scopes,
            } },
        });
    }
    schemes
}

const fn meaning(scope: Scope) -> &'static str {
    match scope {
        Scope::CachesRead => "See caches, their queries and their state.",
        Scope::CachesWrite => "Create, change, purge and delete caches.",
        Scope::CacheRulesRead => "See the rules of caches.",
        Scope::CacheRulesWrite => "Create, change and delete rules of caches.",
    }
}

/// Says who may call it.
pub(super) fn complete(of: &Operation<'_>, operation: &mut Value, has_issuer: bool) {
    let token = json!({ "token": [] });
    let scoped = |scope: Scope| match has_issuer {
        true => json!([token, { "oauth2": [scope.as_str()] }]),
        false => json!([token]),
    };
    let (schemes, who) = match of.need {
        // The handler says it.
        None | Some(Need::Other) => return,
        Some(Need::Public) => (json!([]), None),
        Some(Need::User) => (json!([token]), Some("For users.".to_owned())),
        Some(Need::First) => {
            let who = "For operators; while there is no user, for anybody.";
            (json!([{}, token]), Some(who.to_owned()))
        }
        Some(Need::Operator) => (json!([token]), Some("For operators.".to_owned())),
        Some(Need::Ticket) => {
            (json!([token, { "ticket": [] }]), Some("For operators, or by a ticket.".to_owned()))
        }
        Some(Need::Self_) => {
            (json!([token]), Some("For the user itself, and operators.".to_owned()))
        }
        Some(Need::Workspace(role)) => (
            json!([token]),
            Some(format!("For members of the workspace, as {} at least.", role.as_str())),
        ),
        Some(Need::Cache(role, scope)) => {
            let who = format!(
                "For members of the cache's workspace, as {} at least, and applications with the scope `{scope}`; of a \
                 cache of the configuration file, for operators.",
                role.as_str()
            );
            (scoped(scope), Some(who))
        }
        Some(Need::Caches(scope)) => {
            (scoped(scope), Some(format!("For users, and applications with the scope `{scope}`.")))
        }
    };
    operation["security"] = schemes;
    if let Some(who) = who {
        let text = operation["description"].as_str().unwrap_or_default();
        operation["description"] = json!(format!("{text}\n\n{who}"));
    }
}
