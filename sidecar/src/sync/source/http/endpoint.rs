//! Where an API is, and the URL of a model below it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::secret::Secret;
use crate::sync::source::FetchError;
use crate::sync::source::classes::Request;

/// Reads the URL of an API, which may have a path that all others are below of. The error says what is wrong with it, and
/// repeats nothing of it.
pub fn check_endpoint(endpoint: &str) -> Result<Url, String> {
    let url = Url::parse(endpoint.trim()).map_err(|error| format!("it is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it has to begin with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it may have no user name and no password: the token is given apart".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it may have no ? and no #: paths of models go at its end".to_owned());
    }
    Ok(url)
}

/// What a token is sent as: the password of nobody.
pub(super) fn authorization(token: &Secret<String>) -> HeaderValue {
    let credentials = BASE64_STANDARD.encode(format!(":{}", token.expose_secret()));
    let mut value =
        HeaderValue::try_from(format!("Basic {credentials}")).expect("base64 is good in a header");
    value.set_sensitive(true);
    value
}

/// What to get for a model of these values.
pub(super) fn url(
    endpoint: &Url,
    request: &Request,
    values: &BTreeMap<&str, String>,
) -> Result<Url, FetchError> {
    let mut url = endpoint.clone();
    let path = request.path.path(values)?;
    // Only the path is set, so the host stays what it is.
    url.set_path(&format!("{}{path}", endpoint.path().trim_end_matches('/')));
    let mut pairs = Vec::new();
    for (name, template) in &request.query {
        pairs.push((name, template.text(values)?));
    }
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::sync::ids::{ModelId, TenantId};
    use crate::sync::source::classes::{Classes, define};
    use crate::sync::work::{Fetch, Named};

    fn asked(endpoint: &str, class: &str, key: &str, parent: Option<(&str, &str)>) -> String {
        let named = |(class, key): (&str, &str)| Named { class: class.into(), key: key.into() };
        let wiki =
            json!({"key": ["space", "page"], "path": "/{space}/{page}", "query": {"q": "{page}"}});
        let classes = Classes::with([define("wiki", &wiki).expect("it is right")]);
        let fetch = Fetch {
            id: ModelId(1),
            tenant: TenantId(1),
            model: named((class, key)),
            parent: parent.map(named),
            data: Map::new(),
            last_data: None,
            attempts: 1,
        };
        let endpoint = check_endpoint(endpoint).expect("it is right");
        let class = classes.get(class).expect("there is one");
        let request = class.request.as_ref().expect("it is asked for");
        match url(&endpoint, request, &class.values(&fetch)) {
            Ok(url) => url.into(),
            Err(error) => error.message,
        }
    }

    #[test]
    fn zyncs_classes_are_where_they_are_at_3scale() {
        let service = Some(("Service", "5"));
        let at = |class, key| asked("https://a.example", class, key, service);
        assert_eq!(
            at("Application", "3"),
            "https://a.example/admin/api/applications/find.json?application_id=3"
        );
        assert_eq!(
            at("Client", r#"["a&b=c/ü","5"]"#),
            "https://a.example/admin/api/applications/find.json?app_id=a%26b%3Dc%2F%C3%BC&service_id=5"
        );
        assert_eq!(at("Proxy", "9"), "https://a.example/admin/api/services/5/proxy.json");
        assert_eq!(at("Metric", "8"), "https://a.example/admin/api/services/5/metrics/8.json");
        assert_eq!(at("Provider", "2"), "https://a.example/admin/api/provider.json");
        let lost = asked("https://a.example", "Proxy", "9", None);
        assert!(lost.contains("service_id is not known"), "{lost}");
    }

    #[test]
    fn nothing_is_asked_beside_the_endpoint() {
        let at = |key| asked("http://a.example:81/below//", "wiki", key, None);
        assert_eq!(at(r#"["a","b"]"#), "http://a.example:81/below/a/b?q=b");
        assert_eq!(
            at(r#"["//other.example","@other:1/?x#y"]"#),
            "http://a.example:81/below/%2F%2Fother.example/%40other%3A1%2F%3Fx%23y?q=%40other%3A1%2F%3Fx%23y"
        );
        assert!(at(r#"["..",".."]"#).contains("another path"));
        assert!(at("unreadable").contains("not known"));
    }

    #[test]
    fn an_endpoint_is_a_url_and_no_more() {
        assert!(check_endpoint(" https://a.example/x/ ").is_ok());
        let wrong = [
            "",
            "a.example",
            "ftp://a.example",
            "https://",
            "https://u@a.example",
            "https://:secret@a.example",
            "https://a.example?x",
            "https://a.example#x",
        ];
        for endpoint in wrong {
            let error = check_endpoint(endpoint).expect_err(endpoint);
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_token_is_the_password_of_nobody() {
        let value = authorization(&Secret::new("token".to_owned()));
        assert_eq!(value, "Basic OnRva2Vu");
        assert!(!format!("{value:?}").contains("OnRva2Vu"));
    }
}
