//! The pages that users see. They have no script and load nothing but their style, and the application's logo.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

use crate::api::error::ApiError;
use crate::auth::Scope;
use crate::oauth::{Request, csp_source};
use crate::workspaces::Role;

/// The style of all pages, at `/oauth2/style.css`.
pub(super) const STYLE: &str = include_str!("pages/style.css");

const PAGES: [(&str, &str); 5] = [
    ("page", include_str!("pages/page.html")),
    ("login", include_str!("pages/login.html")),
    ("consent", include_str!("pages/consent.html")),
    ("message", include_str!("pages/message.html")),
    ("leave", include_str!("pages/leave.html")),
];

/// The templates.
pub(super) struct Pages(Environment<'static>);

/// A workspace that a user may choose.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) role: Role,
}

impl Pages {
    pub(super) fn new() -> Self {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        for (name, source) in PAGES {
            environment.add_template(name, source).expect("they are part of the program");
        }
        Self(environment)
    }

    /// Where a user logs in to go on with a request.
    pub(super) fn login(
        &self,
        status: StatusCode,
        request: &Request,
        token: &str,
        username: &str,
        error: Option<&str>,
    ) -> Result<Response, ApiError> {
        let content = context! {
            application => &*request.application.name, token, username, error, fields => request.fields(),
        };
        self.page(status, "Log in", "login", content, &["form-action 'self'".to_owned()])
    }

    /// Where a user says whether an application may have what it asks for.
    pub(super) fn consent(
        &self,
        request: &Request,
        token: &str,
        logout_token: &str,
        username: &str,
        choices: &[Choice],
        error: Option<&str>,
    ) -> Result<Response, ApiError> {
        let application = &request.application;
        let scopes: Vec<&str> = request.scopes.iter().map(|scope| in_words(*scope)).collect();
        let choices: Vec<Value> = choices
            .iter()
            .map(|choice| context! { id => choice.id, name => &*choice.name, role => choice.role.as_str() })
            .collect();
        let back = csp_source(&request.redirect_uri);
        let content = context! {
            application => &*application.name, homepage => application.homepage_url.as_deref(),
            logo => application.logo_url.as_deref(), choices, token, logout_token, username, scopes, error,
            fields => request.fields(), goes_to => shown(&request.redirect_uri),
        };
        // The answer to the form sends the browser on, which is a part of sending the form.
        let mut policy = vec![format!("form-action 'self' {back}")];
        if let Some(logo) = &application.logo_url {
            policy.push(format!("img-src {}", csp_source(logo)));
        }
        self.page(StatusCode::OK, "Allow access?", "consent", content, &policy)
    }

    /// A page that says why an application gets nothing, and lets the user go back to it.
    pub(super) fn leave(
        &self,
        redirect_uri: &str,
        link: &str,
        why: &str,
    ) -> Result<Response, ApiError> {
        let content = context! { why, link, goes_to => shown(redirect_uri) };
        self.page(StatusCode::BAD_REQUEST, "This did not work", "leave", content, &[])
    }

    /// A page that only says something.
    pub(super) fn message(&self, status: StatusCode, text: &str) -> Result<Response, ApiError> {
        self.page(status, "This did not work", "message", context! { text }, &[])
    }

    fn page(
        &self,
        status: StatusCode,
        title: &str,
        template: &str,
        content: Value,
        policy: &[String],
    ) -> Result<Response, ApiError> {
        let fill = |name: &str, with: Value| {
            let template = self.0.get_template(name).map_err(fault)?;
            template.render(with).map_err(fault)
        };
        let content = Value::from_safe_string(fill(template, content)?);
        let html = fill("page", context! { title, content })?;
        let policy = policy.join("; ");
        let policy = format!(
            "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; {}",
            if policy.is_empty() { "form-action 'none'" } else { &policy }
        );
        let policy = HeaderValue::from_str(&policy).map_err(fault)?;
        let fixed = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            // To others nothing; to ourselves, so that the browser says where a form is from.
            (header::REFERRER_POLICY, "same-origin"),
        ];
        let mut response = (status, fixed, html).into_response();
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        Ok(response)
    }
}

fn fault(error: impl std::fmt::Display) -> ApiError {
    ApiError::Internal(format!("a page can't be made: {error}"))
}

/// What an application will be able to do.
const fn in_words(scope: Scope) -> &'static str {
    match scope {
        Scope::CachesRead => "See the caches, their queries and their state",
        Scope::CachesWrite => "Create, change, purge and delete caches",
        Scope::CacheRulesRead => "See the rules of the caches",
        Scope::CacheRulesWrite => "Create, change and delete rules of the caches",
    }
}

/// The part of an address that says whose it is.
fn shown(redirect_uri: &str) -> &str {
    let path = redirect_uri.find("://").map_or(0, |at| at + 3);
    let end = redirect_uri[path..].find(['/', '?']).map_or(redirect_uri.len(), |at| path + at);
    &redirect_uri[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_an_address_is_can_be_seen() {
        assert_eq!(shown("https://app.example:1/back?a"), "https://app.example:1");
        assert_eq!(shown("https://app.example?a"), "https://app.example");
        assert_eq!(shown("com.example.app:/back"), "com.example.app:");
    }

    #[test]
    fn what_others_have_written_is_text() {
        let pages = Pages::new();
        let template = pages.0.get_template("message").expect("there is one");
        let html = template.render(context! { text => "<script>&\"'" }).expect("it can be filled");
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"), "{html}");
    }
}
