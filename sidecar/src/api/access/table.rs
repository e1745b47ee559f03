//! The table of who may do what, as people read it: `docs/api/authorization.md`. `tests/tests/authorization.rs` holds a
//! running sidecar to each of its cells.

use std::fmt::Write;

use axum::http::Method;

use super::need::Need;
use super::rules;
use crate::api::access::layer::methods;
use crate::api::router;
use crate::auth::Scope;
use crate::workspaces::Role;

/// Who calls. The paths are about workspace 1, its caches and what else it has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    Operator,
    Member(Role),
    Stranger,
    Application(Scope),
    ApplicationElsewhere,
    ApplicationOfViewer,
}

const EVERYBODY: [Who; 13] = [
    Who::Nobody,
    Who::Operator,
    Who::Member(Role::Viewer),
    Who::Member(Role::Member),
    Who::Member(Role::Admin),
    Who::Member(Role::Owner),
    Who::Stranger,
    Who::Application(Scope::CachesRead),
    Who::Application(Scope::CachesWrite),
    Who::Application(Scope::CacheRulesRead),
    Who::Application(Scope::CacheRulesWrite),
    Who::ApplicationElsewhere,
    Who::ApplicationOfViewer,
];

/// What belongs to one user, and to nobody else.
const OWN: [&str; 3] = [
    "/api/v1/oauth/applications/{application}",
    "/api/v1/oauth/applications/{application}/secret",
    "/api/v1/oauth/authorizations/{authorization}",
];

/// Judged by what the body has.
const BY_BODY: [&str; 2] = ["/api/v1/auth/login", "/api/v1/auth/renew"];

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api/authorization.md");

const HEAD: &str = "\
# Who may do what

Every operation of the REST API, and what it answers to whom. This page is written from the rules that the sidecar judges
by (`sidecar/src/api/access`), and a test calls every operation as every one of them, so page and sidecar say the same.

| | |
|---|---|
| yes | allowed. What a list tells is what the caller may see |
| own | allowed for what is the caller's own, the membership too; 403 or 404 for what is another's |
| other | judged by something else than a token: what the body has, or the setting `sync.token` |
| 401 | there is no token, or one that is not valid |
| 403 | not allowed. To an application that lacks the scope, `WWW-Authenticate` names it |
| 404 | the caller is not even told whether there is such a thing |

The columns, where the path, the query or the body is about workspace 1 and what belongs to it:

| | |
|---|---|
| nobody | no token |
| operator | an operator who is a member of no workspace |
| viewer, member, admin, owner | a user with this role in workspace 1, who is no operator |
| stranger | the owner of workspace 2, who is no operator |
| app `SCOPE` | an application with this scope alone, for an owner of workspace 1 |
| app elsewhere | an application with every scope in workspace 2, for a user who is an owner of both |
| app of viewer | an application with every scope in workspace 1, for a viewer |

Beyond the table: while there is no user at all, anybody may create the first one. Only an owner makes or unmakes an owner,
and the last one stays. Only an operator says who is an operator. A cache of the configuration file is in no workspace: it is
there for operators alone. What lies under `/oauth2` and `/.well-known` is for browsers and applications, which come with a
session or a secret of their own in place of a token.

Who may is looked at before the body of a request is read, and once more when it has come: what was revoked meanwhile counts.

";

fn text() -> String {
    let mut text = HEAD.to_owned();
    let columns: Vec<String> = EVERYBODY.into_iter().map(title).collect();
    let _ = writeln!(text, "| operation | {} |", columns.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(columns.len() + 1));
    for (path, item) in &router::operations().1.paths.paths {
        for method in methods(item) {
            // What no rule names, nobody may call; a test of the layer's says so.
            let need = rules::need(&method, path).expect("every operation has a rule");
            let cells = EVERYBODY.map(|who| answer(need, path, &method, who));
            let _ = writeln!(text, "| {method} {path} | {} |", cells.join(" | "));
        }
    }
    text
}

fn title(who: Who) -> String {
    match who {
        Who::Nobody => "nobody".to_owned(),
        Who::Operator => "operator".to_owned(),
        Who::Member(role) => role.as_str().to_owned(),
        Who::Stranger => "stranger".to_owned(),
        Who::Application(scope) => format!("app `{scope}`"),
        Who::ApplicationElsewhere => "app elsewhere".to_owned(),
        Who::ApplicationOfViewer => "app of viewer".to_owned(),
    }
}

/// What is answered, found out another way than the layer does.
fn answer(need: Need, path: &str, method: &Method, who: Who) -> &'static str {
    let is_application =
        matches!(who, Who::Application(_) | Who::ApplicationElsewhere | Who::ApplicationOfViewer);
    let lacks = |scope: Scope| matches!(who, Who::Application(has) if has != scope);
    // In workspace 1.
    let role = match who {
        Who::Member(role) => Some(role),
        Who::Application(_) => Some(Role::Owner),
        Who::ApplicationOfViewer => Some(Role::Viewer),
        Who::Nobody | Who::Operator | Who::Stranger | Who::ApplicationElsewhere => None,
    };
    let by_role = |least: Role| match role {
        None => "404",
        Some(role) if role < least => "403",
        Some(_) => "yes",
    };
    let leaves = method == Method::DELETE && path.ends_with("/members/{user}");
    match need {
        Need::Public if BY_BODY.contains(&path) => "other",
        Need::Public => "yes",
        Need::Other => "other",
        _ if who == Who::Nobody => "401",
        Need::User if is_application => "403",
        Need::User if OWN.contains(&path) => "own",
        Need::User => "yes",
        Need::First | Need::Operator | Need::Ticket if who == Who::Operator => "yes",
        Need::First | Need::Operator | Need::Ticket => "403",
        Need::Self_ if who == Who::Operator => "yes",
        Need::Self_ if is_application => "403",
        Need::Self_ => "own",
        Need::Workspace(_) if is_application => "403",
        // Anybody may leave.
        Need::Workspace(_) if leaves && role.is_some_and(|role| role < Role::Admin) => "own",
        Need::Workspace(least) => by_role(least),
        Need::Cache(_, scope) | Need::Caches(scope) if lacks(scope) => "403",
        Need::Cache(least, _) => by_role(least),
        // The workspace is in the body.
        Need::Caches(_) if method == Method::POST => by_role(Role::Member),
        Need::Caches(_) => "yes",
    }
}

#[test]
fn the_page_says_what_the_rules_say() {
    let written = std::fs::read_to_string(PATH).unwrap_or_default();
    let text = text();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(PATH, text).expect("docs can be written");
        return;
    }
    let differs = text.lines().find(|line| !written.lines().any(|other| other == *line));
    assert!(
        written == text,
        "docs/api/authorization.md says something else than the rules, first at\n{}\nBLESS=1 cargo test -p \
         integratedb-sidecar --lib api::access writes it anew; read what changed",
        differs.unwrap_or("what it has too much")
    );
}
