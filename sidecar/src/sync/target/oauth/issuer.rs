//! An issuer: its URL, who we are there, and requests that say so.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde_json::{Map, Value, json};

use super::super::ask::{Answer, Caller};
use super::super::open::{sentence, whole};
use super::super::{Checked, PushError};
use super::token::{Bearer, Credentials, Tokens};
use crate::fields::{Fields, Mistake};
use crate::reach::Reach;
use crate::secret::Secret;

/// Settings as they are asked for, and as they are stored.
struct Settings {
    /// Ends in a slash, and has no credentials.
    endpoint: Url,
    credentials: Credentials,
    /// The class whose models are clients.
    class: String,
    /// Further members of each client that is pushed.
    attributes: Map<String, Value>,
}

/// Checks settings. The credentials may be in the URL, as Zync has them.
pub(in super::super) fn check(settings: &Value) -> Result<Checked, Vec<Mistake>> {
    let Settings { endpoint, credentials, class, attributes } = read(settings)?;
    let settings = json!({
        "endpoint": endpoint.as_str(),
        "client_id": credentials.id,
        "class": class,
        "attributes": attributes,
    });
    let hidden = json!({"client_secret": credentials.secret.expose_secret()});
    Ok(Checked { settings, hidden })
}

fn read(settings: &Value) -> Result<Settings, Vec<Mistake>> {
    let mut mistakes = Vec::new();
    let mut fields = Fields::of(settings, "", &mut mistakes);
    let endpoint = fields.needed_text("endpoint");
    let id = fields.text("client_id");
    let secret = fields.text("client_secret");
    let class = fields.text("class").unwrap_or_else(|| "Client".to_owned());
    let attributes = fields.object("attributes", |mut fields| fields.rest());
    let read = endpoint.and_then(|text| match read_endpoint(&text) {
        Ok(read) => Some(read),
        Err(why) => {
            fields.wrong("endpoint", why);
            None
        }
    });
    if let Some((_, in_url, _)) = &read
        && id.is_none()
        && in_url.is_none()
    {
        fields
            .wrong_here("client_id is missing, here or in the endpoint: https://ID:SECRET@HOST/…");
    }
    fields.end();
    match read {
        Some((endpoint, id_in_url, secret_in_url)) if mistakes.is_empty() => {
            let id = id.or(id_in_url).unwrap_or_default();
            let secret = Secret::new(secret.or(secret_in_url).unwrap_or_default());
            Ok(Settings { endpoint, credentials: Credentials { id, secret }, class, attributes })
        }
        _ => Err(mistakes),
    }
}

fn read_endpoint(text: &str) -> Result<(Url, Option<String>, Option<String>), String> {
    let mut url = Url::parse(text).map_err(|error| format!("this is no URL: {error}"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err("an endpoint begins with https:// or http:// and names a host".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("an endpoint has neither ? nor #".to_owned());
    }
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(String::from).map_err(|_| "its credentials are not UTF-8".to_owned())
    };
    let id = Some(url.username()).filter(|id| !id.is_empty()).map(decode).transpose()?;
    let secret = url.password().map(decode).transpose()?;
    let removed = url.set_username("").and_then(|()| url.set_password(None));
    removed.map_err(|()| "its credentials can't be read".to_owned())?;
    let path = format!("{}/", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok((url, id, secret))
}

/// What a request shows.
enum Shown {
    Token(Bearer),
    /// There are no tokens, so it is the credentials themselves.
    Basic(String),
}

/// An issuer that takes clients.
pub(super) struct Issuer {
    caller: Caller,
    pub(super) endpoint: Url,
    pub(super) class: String,
    pub(super) attributes: Map<String, Value>,
    tokens: Tokens,
    /// Whether the credentials themselves are shown where there are no tokens.
    is_basic_allowed: bool,
}

impl Issuer {
    pub(super) fn new(
        settings: &Value,
        hidden: &Value,
        reach: &Reach,
        timeout: Duration,
        is_basic_allowed: bool,
    ) -> Result<Self, String> {
        let settings = read(&whole(settings, hidden)).map_err(|mistakes| sentence(&mistakes))?;
        let Settings { endpoint, credentials, class, attributes } = settings;
        reach.check(&endpoint)?;
        Ok(Self {
            caller: Caller::new(reach, timeout)?,
            tokens: Tokens::new(endpoint.clone(), credentials),
            endpoint,
            class,
            attributes,
            is_basic_allowed,
        })
    }

    /// Asks, with a token; with a new one if it is refused.
    pub(super) async fn ask(
        &self,
        what: &str,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<&Value>,
    ) -> Result<Answer, PushError> {
        let shown = self.shown().await?;
        let answer = self.send(what, &method, &url, &headers, body, &shown).await?;
        match &shown {
            Shown::Token(bearer) if answer.status == 401 => {
                self.tokens.refused(bearer).await;
                let shown = self.shown().await?;
                self.send(what, &method, &url, &headers, body, &shown).await
            }
            _ => Ok(answer),
        }
    }

    /// Reads the discovery document, which shows that all is right so far.
    pub(super) async fn test(&self) -> Result<(), PushError> {
        const WHAT: &str = "the discovery document";
        let url = self.tokens.document()?;
        let answer = self.ask(WHAT, Method::GET, url, HeaderMap::new(), None).await?;
        if !answer.status.is_success() {
            return Err(answer.refused(WHAT));
        }
        match answer.json::<Map<String, Value>>() {
            Some(_) => Ok(()),
            None => Err(PushError::new(format!("{WHAT}: it is not a JSON object"))),
        }
    }

    async fn shown(&self) -> Result<Shown, PushError> {
        match self.tokens.get(&self.caller).await? {
            Some(bearer) => Ok(Shown::Token(bearer)),
            None if self.is_basic_allowed => {
                Ok(Shown::Basic(self.tokens.credentials().basic(str::to_owned)))
            }
            None => Err(PushError::new(
                "there is no discovery document with a token_endpoint below the endpoint, which has to be the realm's URL, \
                 such as https://HOST/realms/NAME",
            )),
        }
    }

    async fn send(
        &self,
        what: &str,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: Option<&Value>,
        shown: &Shown,
    ) -> Result<Answer, PushError> {
        let authorization = match shown {
            Shown::Token(bearer) => format!("Bearer {}", bearer.value.expose_secret()),
            Shown::Basic(basic) => basic.clone(),
        };
        let mut authorization = HeaderValue::try_from(authorization)
            .map_err(|_| PushError::new("the token that was given can't be put into a header"))?;
        authorization.set_sensitive(true);
        self.caller
            .ask(what, method.clone(), url.clone(), |request| {
                let request = request.headers(headers.clone()).header(AUTHORIZATION, authorization);
                match body {
                    Some(body) => request.body(body.to_string()),
                    None => request,
                }
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_out_of_the_url_and_are_hidden() {
        let given = json!({"endpoint": "https://my%40id:s%3Acret@sso.example/realms/a"});
        let checked = check(&given).expect("it is right");
        assert_eq!(checked.settings["endpoint"], "https://sso.example/realms/a/");
        assert_eq!(checked.settings["client_id"], "my@id");
        assert_eq!(checked.hidden, json!({"client_secret": "s:cret"}));
        assert!(!checked.settings.to_string().contains("cret"));
        let again = check(&whole(&checked.settings, &checked.hidden));
        assert_eq!(again, Ok(checked), "what is stored can be read");
    }

    #[test]
    fn mistakes_are_told_where_they_are() {
        let told = |settings| check(&settings).expect_err("it is wrong");
        let pointers = |settings| told(settings).into_iter().map(|(_, at)| at).collect::<Vec<_>>();
        assert_eq!(pointers(json!({})), [""]);
        assert_eq!(pointers(json!({"endpoint": "https://a.example"})), [""]);
        assert_eq!(
            pointers(json!({"endpoint": "ftp://a:b@a.example", "x": 1})),
            ["/endpoint", "/x"]
        );
        assert_eq!(pointers(json!({"endpoint": "https://a:b@a.example/?x"})), ["/endpoint"]);
        let secret = told(json!({"endpoint": "https://id:hush@:x/"}));
        assert!(!format!("{secret:?}").contains("hush"), "{secret:?}");
    }
}
