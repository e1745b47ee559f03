//! Pages of lists, and the `Link` to what comes next (RFC 8288).
//!
//! A page begins after something that the client has seen, not after so many: what is added or removed meanwhile makes it
//! miss nothing and see nothing twice.

use std::borrow::Cow;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::app::App;
use super::body::Data;
use super::error::ApiError;

/// The most that a page has.
pub(super) const MOST: i64 = 1000;

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    /// What to give as `after` for the next page; null after the last. A page may have few and not be the last.
    pub(super) next: Option<i64>,
}

/// A page of a list whose latest come first.
#[derive(Serialize, ToSchema)]
pub(super) struct Latest<T> {
    data: Vec<T>,
    /// What to give as `before` for the next page; null after the last.
    next: Option<i64>,
}

/// A page of a list of what has names.
#[derive(Serialize, ToSchema)]
pub(super) struct Names<T> {
    data: Vec<T>,
    /// What to give as `after` for the next page; null after the last.
    next: Option<String>,
}

/// A page of a list whose body the guide has fixed: what comes next is in the header `Link` alone.
pub(super) struct Listed<T> {
    data: Vec<T>,
    next: Option<String>,
}

/// What comes after `all` of a page, if that may be more.
fn next<T, K>(all: &[T], limit: i64, key: impl FnOnce(&T) -> K) -> Option<K> {
    let is_full = i64::try_from(all.len()).is_ok_and(|len| len >= limit);
    all.last().filter(|_| is_full).map(key)
}

impl<T> Page<T> {
    /// The first `limit` of what is left.
    pub(super) fn new(data: Vec<T>, limit: i64, key: impl FnOnce(&T) -> i64) -> Self {
        let next = next(&data, limit, key);
        Self { data, next }
    }
}

impl<T> Latest<T> {
    /// The first `limit` of what is left.
    pub(super) fn new(data: Vec<T>, limit: i64, key: impl FnOnce(&T) -> i64) -> Self {
        let next = next(&data, limit, key);
        Self { data, next }
    }
}

impl<T> Names<T> {
    /// The first `limit` of what is left.
    pub(super) fn new(data: Vec<T>, limit: i64, key: impl FnOnce(&T) -> String) -> Self {
        let next = next(&data, limit, key);
        Self { data, next }
    }

    /// A list that has no further pages.
    pub(super) const fn only(data: Vec<T>) -> Self {
        Self { data, next: None }
    }
}

impl<T> Listed<T> {
    /// The first `limit` of what is left.
    pub(super) fn new<K: ToString>(data: Vec<T>, limit: i64, key: impl FnOnce(&T) -> K) -> Self {
        let next = next(&data, limit, key).map(|key| key.to_string());
        Self { data, next }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let next = self.next.map(|next| next.to_string());
        linked(Json(self).into_response(), "after", next)
    }
}

impl<T: Serialize> IntoResponse for Latest<T> {
    fn into_response(self) -> Response {
        let next = self.next.map(|next| next.to_string());
        linked(Json(self).into_response(), "before", next)
    }
}

impl<T: Serialize> IntoResponse for Names<T> {
    fn into_response(self) -> Response {
        let next = self.next.clone();
        linked(Json(self).into_response(), "after", next)
    }
}

impl<T: Serialize> IntoResponse for Listed<T> {
    fn into_response(self) -> Response {
        linked(Data { data: self.data }.into_response(), "after", self.next)
    }
}

/// What is to be asked for next, for the layer that knows what was asked.
#[derive(Clone)]
struct NextPage {
    parameter: &'static str,
    value: String,
}

fn linked(mut response: Response, parameter: &'static str, next: Option<String>) -> Response {
    if let Some(value) = next {
        response.extensions_mut().insert(NextPage { parameter, value });
    }
    response
}

/// Says in the header `Link` where the next page is.
pub(super) async fn link(request: Request, next: Next) -> Response {
    let asked = request.uri().clone();
    let mut response = next.run(request).await;
    if let Some(page) = response.extensions_mut().remove::<NextPage>()
        && let Ok(link) =
            HeaderValue::from_str(&format!("<{}>; rel=\"next\"", target(&asked, &page)))
    {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// The same request for what comes next, relative to the server.
fn target(asked: &Uri, next: &NextPage) -> String {
    let is_other = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        !pair.is_empty() && percent_decode_str(name).decode_utf8_lossy() != next.parameter
    };
    let query = asked.query().unwrap_or_default().split('&').filter(is_other);
    let value = utf8_percent_encode(&next.value, NON_ALPHANUMERIC);
    let query = query.map(Cow::from).chain([format!("{}={value}", next.parameter).into()]);
    let query: Vec<Cow<'_, str>> = query.collect();
    // What a URI has can't end the reference early: it may not have `<` or `>`.
    format!("{}?{}", asked.path(), query.join("&"))
}

/// How many a page has: 100 unless told, 1000 at most, which [`Asked`] sees to.
pub(super) fn limit(asked: Option<i64>) -> i64 {
    asked.unwrap_or(100)
}

/// How many a page has of a list that is short, and once had no pages: 1000 unless told, which is the most.
pub(super) fn limit_of_short(asked: Option<i64>) -> i64 {
    asked.unwrap_or(MOST)
}

/// What a query string says.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let bad = |error: QueryRejection| {
            ApiError::BadRequest(format!("Bad Request: {}", error.body_text()))
        };
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(bad)?;
        for (name, value) in pairs {
            check(&name, &value)
                .map_err(|why| ApiError::BadRequest(format!("Bad Request: {why}")))?;
        }
        let Query(asked) = Query::try_from_uri(&parts.uri).map_err(bad)?;
        Ok(Self(asked))
    }
}

/// What holds for a parameter of any list.
fn check(name: &str, value: &str) -> Result<(), String> {
    let is_count = |value: &str| value.parse().is_ok_and(|count: i64| (1..=MOST).contains(&count));
    if value.contains('\0') {
        return Err(format!("{} has the character 0", name.replace('\0', "")));
    }
    if name == "limit" && !is_count(value) {
        return Err(format!("limit is a number from 1 to {MOST}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_what_was_asked_for_but_for_where_it_begins() {
        let next = |uri: &str, value: &str| {
            let page = NextPage { parameter: "after", value: value.to_owned() };
            target(&uri.parse().expect("a URI"), &page)
        };
        assert_eq!(next("/users", "7"), "/users?after=7");
        assert_eq!(next("/users?limit=2&after=5", "7"), "/users?limit=2&after=7");
        assert_eq!(next("/users?%61fter=5&&limit=2", "7"), "/users?limit=2&after=7");
        assert_eq!(next("/users?after", "a b&c>"), "/users?after=a%20b%26c%3E");
        assert_eq!(next("/users?name=%3E", "7"), "/users?name=%3E&after=7");
        assert!("/users?x=a>b".parse::<Uri>().is_err());
    }

    #[test]
    fn a_page_that_is_not_full_is_the_last() {
        let next = |data: Vec<i64>, limit| Page::new(data, limit, |id| *id).next;
        assert_eq!(next(vec![3, 7], 2), Some(7));
        assert_eq!(next(vec![3], 2), None);
        assert_eq!(next(Vec::new(), 2), None);
    }

    #[test]
    fn a_limit_is_taken_or_refused_never_bent() {
        for limit in ["1", "1000"] {
            assert!(check("limit", limit).is_ok(), "{limit}");
        }
        for limit in ["0", "-1", "1001", "x", "", "99999999999999999999"] {
            assert!(check("limit", limit).is_err(), "{limit}");
        }
        assert!(check("after", "5000").is_ok() && check("name", "a\0").is_err());
    }
}
