//! The name of the authorization server, which is also where browsers find it.

use std::fmt;

use reqwest::Url;
use serde::Deserialize;

/// An origin, as `https://data.example.com`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Issuer(String);

impl Issuer {
    /// As it is written in metadata and answers.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether browsers come to it by TLS.
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl TryFrom<String> for Issuer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = Url::parse(&text).map_err(|_| "issuer is no URL".to_owned())?;
        let host = url.host_str().unwrap_or_default();
        match url.scheme() {
            "https" => {}
            "http" if super::redirect::is_loopback(host) => {}
            _ => return Err("issuer begins with https://, or leads to this machine".to_owned()),
        }
        let origin = url.origin().ascii_serialization();
        if origin != text {
            return Err(format!("issuer has to be written as {origin}"));
        }
        Ok(Self(text))
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_origin_that_is_safe_to_come_to() {
        let read = |text: &str| Issuer::try_from(text.to_owned());
        for good in ["https://a.example", "http://127.0.0.1:4000", "http://localhost:1"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a.example",
            "http://a.example",
            "https://a.example/",
            "https://a.example/path",
            "https://a.example:443",
            "https://user@a.example",
            "https://A.example",
            "ftp://127.0.0.1",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
