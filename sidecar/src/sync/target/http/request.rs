//! A request as it is configured, and as it is made for a model.

use minijinja::Value;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

use super::template::Template;

/// Templates of a request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: UrlTemplate,
    pub(super) headers: Vec<(HeaderName, Template)>,
    /// None: the data as it is, if the method has a body.
    pub(super) body: Option<Template>,
    pub(super) content_type: HeaderValue,
}

/// A URL whose scheme and host are constant.
#[derive(Debug)]
pub(super) struct UrlTemplate {
    template: Template,
    /// The URL up to its path.
    origin: Url,
}

impl Request {
    /// All its templates.
    pub(super) fn uses(&self, variable: &str) -> bool {
        let headers = self.headers.iter().map(|(_, template)| template);
        let mut all = headers.chain(&self.body).chain([&self.url.template]);
        all.any(|template| template.uses(variable))
    }

    pub(super) fn headers(&self, values: &Value) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        for (name, template) in &self.headers {
            let value = template.fill(values).map_err(|why| format!("the header {name}: {why}"))?;
            let value = HeaderValue::try_from(value)
                .map_err(|_| format!("the header {name}: a header's value is one line of ASCII"))?;
            headers.insert(name.clone(), value);
        }
        Ok(headers)
    }
}

impl UrlTemplate {
    /// The error says what is wrong with it.
    pub(super) fn of(template: Template) -> Result<Self, String> {
        let source = template.source.as_str();
        let Some((scheme, rest)) = source.split_once("://") else {
            return Err("a URL begins with https:// or http://".to_owned());
        };
        if !matches!(scheme, "https" | "http") {
            return Err("a URL begins with https:// or http://".to_owned());
        }
        let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
        if host.contains(['{', '}', '\\', '%']) {
            return Err("the host has to be the same for all models: templates may begin after it"
                .to_owned());
        }
        let origin = Url::parse(&format!("{scheme}://{host}/"))
            .map_err(|error| format!("this is no URL: {error}"))?;
        if !origin.username().is_empty() || origin.password().is_some() {
            return Err(
                "credentials don't belong into the URL: put them into secret_headers".to_owned()
            );
        }
        Ok(Self { origin, template })
    }

    pub(super) const fn origin(&self) -> &Url {
        &self.origin
    }

    /// The error quotes no value.
    pub(super) fn fill(&self, values: &Value) -> Result<Url, String> {
        let text = self.template.fill(values)?;
        let path = &text[..text.find(['?', '#']).unwrap_or(text.len())];
        // These are other folders however they are written (WHATWG URL, "double-dot URL path segment").
        let leads_away = path.split(['/', '\\']).any(|segment| {
            matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
        });
        if leads_away {
            return Err("a part of its path is . or .., which would be another folder".to_owned());
        }
        let url =
            Url::parse(&text).map_err(|error| format!("what comes of it is no URL: {error}"))?;
        if url.origin() != self.origin.origin() || !url.username().is_empty() {
            return Err("what comes of it has another host".to_owned());
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::super::template::Place;
    use super::*;

    fn read(source: &str) -> Result<UrlTemplate, String> {
        UrlTemplate::of(Template::read(source, Place::Url)?)
    }

    #[test]
    fn the_host_is_constant() {
        for source in [
            "https://{{ key }}/",
            "https://a{{ key }}",
            "https://a.example{{ key }}/",
            "https://a.example:{{ key }}/",
            "{{ key }}",
            "{{ key }}://a.example/",
            "https://a.example\\{{ key }}/",
            "https://u:p@a.example/",
            "ftp://a.example/",
            "https:///{{ key }}",
            "https://%7B/",
        ] {
            assert!(read(source).is_err(), "{source}");
        }
        for source in
            ["https://a.example/{{ key }}", "https://a.example?x={{ key }}", "http://[::1]:8/x"]
        {
            assert!(read(source).is_ok(), "{source}");
        }
    }

    #[test]
    fn a_key_leads_nowhere_else() {
        let template = read("https://a.example/orders/{{ key }}").expect("a URL");
        let url = |key: &str| template.fill(&context! { key }).map(|url| url.to_string());
        assert_eq!(url("../x?y").as_deref(), Ok("https://a.example/orders/..%2Fx%3Fy"));
        assert_eq!(url("@b.example").as_deref(), Ok("https://a.example/orders/%40b.example"));
        for key in [".", ".."] {
            assert!(url(key).is_err(), "{key}");
        }
        let template = read("https://a.example/orders/{{ key }}.json").expect("a URL");
        assert!(template.fill(&context! { key => ".." }).is_ok());
        let template = read("https://a.example/{{ key }}.").expect("a URL");
        assert!(template.fill(&context! { key => "." }).is_err(), "two halves make one");
    }
}
