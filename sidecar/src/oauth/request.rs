//! What an application asks a user for (RFC 6749, 4.1.1), and whether it may. It is judged anew at each step, as it comes back
//! from the browser each time.

use super::application::Application;
use super::params::Params;
use super::{pkce, redirect};
use crate::auth::Scope;

/// The longest state.
const LONGEST_STATE: usize = 4096;

/// A request that may be put to the user.
#[derive(Debug)]
pub(crate) struct Request {
    /// Who asks.
    pub(crate) application: Application,
    /// Where the browser goes with the answer.
    pub(crate) redirect_uri: String,
    /// What it asks for, in their order and each once.
    pub(crate) scopes: Vec<Scope>,
    /// What it gets back as it is.
    pub(crate) state: Option<String>,
    /// What the verifier of whoever comes with the code has to match.
    pub(crate) code_challenge: String,
}

/// Why a request can't be put to the user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is nobody whom the browser could be sent to: the user is told.
    Here(&'static str),
    /// The application is told, by way of the browser (RFC 6749, 4.1.2.1).
    There {
        /// Where.
        redirect_uri: String,
        /// What it gets back.
        state: Option<String>,
        /// The code of the error.
        error: &'static str,
        /// The error in words.
        description: &'static str,
    },
}

impl Request {
    /// Judges a request of the application that `client_id` leads to.
    pub(crate) fn read(params: &Params, found: Option<Application>) -> Result<Self, Refusal> {
        let here = |why| Err(Refusal::Here(why));
        if params.is_repeated("client_id") || params.is_repeated("redirect_uri") {
            return here("The link that led here says twice who asks, or where to go back to.");
        }
        let Some(application) = found else {
            return here("The link that led here is of an application that is not known.");
        };
        let Some(redirect_uri) = params.get("redirect_uri") else {
            return here("The link that led here does not say where to go back to.");
        };
        let registered = &application.redirect_uris;
        if !redirect::is_registered(registered, redirect_uri, application.public) {
            return here(
                "The link that led here would go back to an address that the application has not registered.",
            );
        }
        let redirect_uri = redirect_uri.to_owned();
        let mut state = params.get("state").map(str::to_owned);
        let refused = match checked(params, &application) {
            Ok((scopes, code_challenge)) => {
                return Ok(Self { application, redirect_uri, scopes, state, code_challenge });
            }
            Err(refused) => refused,
        };
        if params.is_repeated("state") || state.as_ref().is_some_and(|s| s.len() > LONGEST_STATE) {
            state = None;
        }
        let (error, description) = refused;
        Err(Refusal::There { redirect_uri, state, error, description })
    }

    /// What leads to the same request again.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let scopes: Vec<&str> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        let mut fields = vec![
            ("response_type", "code".to_owned()),
            ("client_id", self.application.client_id.clone()),
            ("redirect_uri", self.redirect_uri.clone()),
            ("scope", scopes.join(" ")),
            ("code_challenge", self.code_challenge.clone()),
            ("code_challenge_method", "S256".to_owned()),
        ];
        fields.extend(self.state.clone().map(|state| ("state", state)));
        fields
    }

    /// The same as a query string.
    pub(crate) fn query(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(self.fields()).finish()
    }
}

type Wrong = (&'static str, &'static str);

fn checked(params: &Params, application: &Application) -> Result<(Vec<Scope>, String), Wrong> {
    let invalid = |why| Err(("invalid_request", why));
    if let Some(fault) = params.fault() {
        return invalid(fault);
    }
    if params.get("state").is_some_and(|state| state.len() > LONGEST_STATE) {
        return invalid("state is too long");
    }
    match params.get("response_type") {
        Some("code") => {}
        None => return invalid("there is no response_type"),
        Some(_) => return Err(("unsupported_response_type", "response_type has to be code")),
    }
    if params.get("response_mode").is_some_and(|mode| mode != "query") {
        return invalid("response_mode has to be query");
    }
    let challenge = match (params.get("code_challenge"), params.get("code_challenge_method")) {
        (None, _) => return invalid("there is no code_challenge; PKCE is required"),
        (Some(challenge), Some("S256")) if pkce::is_challenge(challenge) => challenge.to_owned(),
        (Some(_), Some("S256")) => return invalid("code_challenge is not the SHA-256 of anything"),
        (Some(_), _) => return invalid("code_challenge_method has to be S256"),
    };
    let invalid_scope = |why| Err(("invalid_scope", why));
    let scopes = match params.get("scope") {
        None => application.scopes.clone(),
        Some(text) => match parse_scopes(text) {
            Some(scopes) => scopes,
            None => return invalid_scope("a scope is not known"),
        },
    };
    if scopes.is_empty() || !scopes.iter().all(|scope| application.scopes.contains(scope)) {
        return invalid_scope("the application has not registered that it asks for this scope");
    }
    Ok((scopes, challenge))
}

/// Scopes with blanks between, each once and in their order; `None` if one is not known.
pub(super) fn parse_scopes(text: &str) -> Option<Vec<Scope>> {
    let mut scopes = text
        .split(' ')
        .filter(|text| !text.is_empty())
        .map(Scope::parse)
        .collect::<Option<Vec<_>>>()?;
    scopes.sort_unstable();
    scopes.dedup();
    Some(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn application() -> Application {
        Application {
            id: 1,
            client_id: "c".to_owned(),
            name: "Partner".to_owned(),
            public: false,
            scopes: vec![Scope::CachesRead, Scope::CachesWrite],
            redirect_uris: vec!["https://app.example/back".to_owned()],
            homepage_url: None,
            logo_url: None,
            inserted_at: String::new(),
            updated_at: String::new(),
        }
    }

    fn ask(more: &str) -> Result<Request, Refusal> {
        let query = format!("client_id=c&redirect_uri=https://app.example/back&state=s&{more}");
        Request::read(&Params::read(query.as_bytes()), Some(application()))
    }

    fn error(more: &str) -> &'static str {
        match ask(more) {
            Err(Refusal::There { error, state, .. }) => {
                assert_eq!(state.as_deref(), Some("s").filter(|_| !more.contains("state=")));
                error
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_right_one_leads_to_itself_again() {
        let right =
            format!("response_type=code&code_challenge_method=S256&code_challenge={CHALLENGE}");
        let request = ask(&right).expect("it is right");
        assert_eq!(
            request.scopes,
            [Scope::CachesRead, Scope::CachesWrite],
            "all, if none is named"
        );
        let again = Request::read(&Params::read(request.query().as_bytes()), Some(application()));
        assert_eq!(again.expect("the same").query(), request.query());
    }

    #[test]
    fn without_s256_there_is_nothing() {
        let code = "response_type=code&scope=caches:read";
        for pkce in [
            String::new(),
            format!("&code_challenge={CHALLENGE}"),
            format!("&code_challenge={CHALLENGE}&code_challenge_method=plain"),
            format!("&code_challenge={CHALLENGE}&code_challenge_method=s256"),
            "&code_challenge_method=S256".to_owned(),
            "&code_challenge=abc&code_challenge_method=S256".to_owned(),
        ] {
            assert_eq!(error(&format!("{code}{pkce}")), "invalid_request", "{pkce}");
        }
    }

    #[test]
    fn the_application_is_told_what_is_wrong() {
        let pkce = format!("code_challenge={CHALLENGE}&code_challenge_method=S256");
        assert_eq!(error(&pkce), "invalid_request");
        assert_eq!(error(&format!("{pkce}&response_type=token")), "unsupported_response_type");
        let code = format!("{pkce}&response_type=code");
        assert_eq!(error(&format!("{code}&scope=caches:admin")), "invalid_scope");
        assert_eq!(error(&format!("{code}&scope=cacheRules:read")), "invalid_scope");
        assert_eq!(
            error(&format!("{code}&scope=caches:read&scope=caches:write")),
            "invalid_request"
        );
        assert_eq!(error(&format!("{code}&state=t")), "invalid_request");
        assert_eq!(error(&format!("{code}&response_mode=fragment")), "invalid_request");
    }

    #[test]
    fn nobody_is_sent_to_an_address_that_is_not_registered() {
        let read = |query: &str, found| Request::read(&Params::read(query.as_bytes()), found);
        for (query, found) in [
            ("client_id=c&redirect_uri=https://app.example/back", None),
            ("client_id=c", Some(application())),
            ("client_id=c&redirect_uri=https://evil.example/", Some(application())),
            (
                "client_id=c&redirect_uri=https://app.example/back&redirect_uri=https://evil.example/",
                Some(application()),
            ),
        ] {
            assert!(matches!(read(query, found), Err(Refusal::Here(_))), "{query}");
        }
    }
}
