//! A browser, as far as the pages of `/oauth2` need one: it keeps cookies, fills in forms, and goes nowhere unless told.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use reqwest::{RequestBuilder, StatusCode};

/// A browser without scripts.
pub struct Browser {
    http: reqwest::Client,
    origin: String,
    cookies: BTreeMap<String, String>,
}

/// What it was answered.
#[derive(Debug)]
pub struct Page {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The page.
    pub text: String,
}

/// A form of a page, as it would be sent.
#[derive(Clone, Debug)]
pub struct Form {
    /// The path that it goes to.
    pub action: String,
    /// Its fields; buttons are not among them.
    pub fields: Vec<(String, String)>,
}

impl Browser {
    /// One that goes to the pages at this origin, as `http://127.0.0.1:4000`.
    pub fn new(origin: &str) -> Result<Self> {
        // Another test of the process may have done so.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        Ok(Self { http: http.build()?, origin: origin.to_owned(), cookies: BTreeMap::new() })
    }

    /// Its cookies, by their names.
    pub const fn cookies(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.cookies
    }

    /// Goes to an address: a path, or a URL of the origin.
    pub async fn get(&mut self, to: &str) -> Result<Page> {
        let request = self.http.get(self.url(to));
        self.send(request).await
    }

    /// Sends a form as a page of the origin does.
    pub async fn submit(&mut self, form: &Form) -> Result<Page> {
        let origin = self.origin.clone();
        self.submit_from(form, &[("origin", &origin), ("sec-fetch-site", "same-origin")]).await
    }

    /// Sends a form with these headers.
    pub async fn submit_from(&mut self, form: &Form, headers: &[(&str, &str)]) -> Result<Page> {
        let mut request = self.http.post(self.url(&form.action));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let kind = "application/x-www-form-urlencoded";
        let request = request.header("content-type", kind).body(encoded(&form.fields));
        self.send(request).await
    }

    /// Goes to the address of a request, logs in, and lets the application into a workspace. Gives where it is sent.
    pub async fn allow(
        &mut self,
        address: &str,
        username: &str,
        password: &str,
        workspace: i64,
    ) -> Result<String> {
        let page = self.get(address).await?;
        let page = self.log_in(page, username, password).await?;
        let form = page.form("/oauth2/consent")?;
        let workspace = workspace.to_string();
        let form = form.with("workspace", &workspace).with("decision", "allow");
        self.submit(&form).await?.location()
    }

    /// Logs in at a page that asks for it; gives the page after.
    pub async fn log_in(&mut self, page: Page, username: &str, password: &str) -> Result<Page> {
        let form = page.form("/oauth2/login")?;
        let form = form.with("username", username).with("password", password);
        let next = self.submit(&form).await?.location()?;
        self.get(&next).await
    }

    fn url(&self, to: &str) -> String {
        if to.starts_with('/') { format!("{}{to}", self.origin) } else { to.to_owned() }
    }

    async fn send(&mut self, request: RequestBuilder) -> Result<Page> {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = match cookies.is_empty() {
            true => request,
            false => request.header("cookie", cookies.join("; ")),
        };
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        for cookie in headers.get_all("set-cookie") {
            let pair = cookie.to_str()?.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').context("no cookie")?;
            match value {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        Ok(Page { status, headers, text: response.text().await? })
    }
}

impl Page {
    /// A header; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Where it sends the browser.
    pub fn location(&self) -> Result<String> {
        ensure!(self.status == StatusCode::SEE_OTHER, "{}: {}", self.status, self.text);
        Ok(self.header("location").to_owned())
    }

    /// Where its first link leads to.
    pub fn link(&self) -> Result<String> {
        let link = self.text.split("<a ").nth(1).and_then(|link| attribute(link, "href"));
        link.with_context(|| format!("{}: no link: {}", self.status, self.text))
    }

    /// The form that goes to this path.
    pub fn form(&self, action: &str) -> Result<Form> {
        let forms = self.text.split("<form ").skip(1);
        let found = forms.filter_map(|form| form.split("</form>").next());
        let form =
            found.into_iter().find(|form| attribute(form, "action").as_deref() == Some(action));
        let form =
            form.with_context(|| format!("{}: no form {action}: {}", self.status, self.text))?;
        let inputs = form.split("<input ").skip(1).filter_map(|input| input.split('>').next());
        let fields = inputs.filter_map(|input| {
            Some((attribute(input, "name")?, attribute(input, "value").unwrap_or_default()))
        });
        Ok(Form { action: action.to_owned(), fields: fields.collect() })
    }
}

impl Form {
    /// The same with a field that says this.
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut form = self.without(name);
        form.fields.push((name.to_owned(), value.to_owned()));
        form
    }

    /// The same without a field.
    pub fn without(&self, name: &str) -> Self {
        let mut form = self.clone();
        form.fields.retain(|(known, _)| known != name);
        form
    }
}

/// An attribute of a tag, which our pages write in double quotes.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let tag = tag.split('>').next()?;
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    let value = rest.split('"').next()?;
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&#x2f;", "/"),
        ("&amp;", "&"),
    ];
    Some(entities.iter().fold(value.to_owned(), |text, (entity, sign)| text.replace(entity, sign)))
}

/// Fields as a form, or the query string of an address.
pub fn encoded<N: AsRef<str>, V: AsRef<str>>(fields: &[(N, V)]) -> String {
    let pairs = fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
