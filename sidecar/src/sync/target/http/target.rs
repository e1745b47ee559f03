//! Pushes and comparisons by the templates of an integration.

use std::time::Duration;

use futures_util::future::BoxFuture;
use minijinja::context;
use reqwest::Url;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::super::ask::{Answer, Caller, headers};
use super::super::open::{sentence, whole};
use super::super::{Comparison, PushError, Target};
use super::request::Request;
use super::settings::{Read, Settings};
use crate::reach::Reach;
use crate::sync::work::{Data, Push};

/// Anything that takes requests.
pub(in super::super) struct HttpTarget {
    caller: Caller,
    settings: Settings,
}

/// A request that is made.
struct Made {
    url: Url,
    headers: HeaderMap,
    body: Option<String>,
}

impl HttpTarget {
    pub(in super::super) fn new(
        settings: &Value,
        hidden: &Value,
        reach: &Reach,
        timeout: Duration,
    ) -> Result<Self, String> {
        let settings =
            Settings::read(&whole(settings, hidden)).map_err(|mistakes| sentence(&mistakes))?;
        let read = settings.read.as_ref().map(|read| &read.request);
        for request in [&settings.upsert, &settings.delete].into_iter().chain(read) {
            reach.check(request.url.origin())?;
        }
        Ok(Self { caller: Caller::new(reach, timeout)?, settings })
    }

    async fn bring(&self, push: &Push) -> Result<(), PushError> {
        let (what, request) = match push.data {
            Some(_) => ("the upsert", &self.settings.upsert),
            None => ("the delete", &self.settings.delete),
        };
        // What never had data was never brought here.
        if push.data.is_none() && push.last_data.is_none() && request.uses("data") {
            return Ok(());
        }
        let answer = self.ask(what, request, push).await?;
        let is_done = push.data.is_none() && self.says_gone(&answer);
        if answer.status.is_success() || is_done { Ok(()) } else { Err(answer.refused(what)) }
    }

    async fn differs(&self, push: &Push) -> Result<Comparison, PushError> {
        const WHAT: &str = "the read";
        let Some(Read { request, pointer }) = &self.settings.read else {
            return Ok(Comparison::Unknown(
                "the integration's settings have no read, which would ask the target what it has"
                    .to_owned(),
            ));
        };
        if push.data.is_none() && push.last_data.is_none() && request.uses("data") {
            return Ok(Comparison::Same);
        }
        let answer = self.ask(WHAT, request, push).await?;
        if self.says_gone(&answer) {
            let wanted = push.data.as_ref().map_or(Comparison::Same, |_| Comparison::Create);
            return Ok(wanted);
        }
        if !answer.status.is_success() {
            return Err(answer.refused(WHAT));
        }
        if push.data.is_none() {
            return Ok(Comparison::Delete);
        }
        let Some(answered) = answer.json::<Value>() else {
            return Ok(Comparison::Unknown("what the target tells is not JSON".to_owned()));
        };
        let Some(has) = answered.pointer(pointer) else {
            return Ok(Comparison::Unknown(format!(
                "what the target tells has nothing at {pointer}"
            )));
        };
        let made = self.make("the upsert", &self.settings.upsert, push)?;
        let wanted = made.body.and_then(|body| serde_json::from_str::<Value>(&body).ok());
        Ok(match (wanted, has) {
            (Some(Value::Object(wanted)), Value::Object(has)) => {
                let differs = |name: &String, value: &Value| {
                    !has.get(name).is_some_and(|has| is_held(value, has))
                };
                let names = wanted.iter().filter(|(name, value)| differs(name, value));
                let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
                Comparison::of(names)
            }
            (Some(wanted), has) if is_held(&wanted, has) => Comparison::Same,
            (Some(_), _) => Comparison::Update(Vec::new()),
            (None, _) => Comparison::Unknown("what is sent is not JSON".to_owned()),
        })
    }

    fn says_gone(&self, answer: &Answer) -> bool {
        match &self.settings.gone {
            None => answer.says_missing(),
            Some(statuses) => statuses.contains(&answer.status.as_u16()),
        }
    }

    async fn ask(&self, what: &str, request: &Request, push: &Push) -> Result<Answer, PushError> {
        let Made { url, headers, body } = self.make(what, request, push)?;
        self.caller
            .ask(what, request.method.clone(), url, |request| {
                let request = request.headers(headers);
                match body {
                    Some(body) => request.body(body),
                    None => request,
                }
            })
            .await
    }

    fn make(&self, what: &str, request: &Request, push: &Push) -> Result<Made, PushError> {
        let failed = |why: String| PushError::new(format!("{what}: {why}"));
        let values = values(push).map_err(failed)?;
        let url = request.url.fill(&values).map_err(|why| failed(format!("the url: {why}")))?;
        let mut all = headers(push);
        all.extend(request.headers(&values).map_err(failed)?);
        all.extend(self.settings.secret_headers.clone());
        let body = match &request.body {
            None if matches!(request.method.as_str(), "PUT" | "POST" | "PATCH") => {
                push.data.as_ref().map(|data| data.get().to_owned())
            }
            None => None,
            Some(template) => {
                let body =
                    template.fill(&values).map_err(|why| failed(format!("the body: {why}")))?;
                let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok();
                if request.is_json() && !is_json {
                    return Err(failed(
                        "the body is not JSON: values write their own quotes, so there are none around {{ … }}".to_owned(),
                    ));
                }
                Some(body)
            }
        };
        Ok(Made { url, headers: all, body })
    }
}

impl Target for HttpTarget {
    fn push<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<(), PushError>> {
        Box::pin(self.bring(push))
    }

    fn compare<'a>(&'a self, push: &'a Push) -> BoxFuture<'a, Result<Comparison, PushError>> {
        Box::pin(self.differs(push))
    }
}

/// What templates see.
fn values(push: &Push) -> Result<minijinja::Value, String> {
    let data = push.data.as_ref().or(push.last_data.as_ref());
    let data = data.map(read).transpose()?;
    let parent = push.parent.as_ref();
    Ok(context! {
        key => key(&push.model.key),
        class => &push.model.class,
        data => data,
        parent => parent.map(|parent| context! { class => &parent.class, key => key(&parent.key) }),
        entry => push.entry.0,
    })
}

fn read(data: &Data) -> Result<minijinja::Value, String> {
    serde_json::from_str(data.get()).map_err(|_| "the model's data can't be read".to_owned())
}

/// A key of several columns is a list of texts.
fn key(key: &str) -> minijinja::Value {
    match serde_json::from_str::<Vec<String>>(key) {
        Ok(parts) => minijinja::Value::from(parts),
        Err(_) => minijinja::Value::from(key),
    }
}

/// Whether what is wanted is there; the target may have more members.
fn is_held(wanted: &Value, has: &Value) -> bool {
    match (wanted, has) {
        (Value::Object(wanted), Value::Object(has)) => wanted
            .iter()
            .all(|(name, wanted)| has.get(name).is_some_and(|has| is_held(wanted, has))),
        (Value::Array(wanted), Value::Array(has)) => {
            wanted.len() == has.len()
                && wanted.iter().zip(has).all(|(wanted, has)| is_held(wanted, has))
        }
        // 1 and 1.0 are one number.
        (Value::Number(wanted), Value::Number(has)) => {
            wanted == has || wanted.as_f64() == has.as_f64()
        }
        _ => wanted == has,
    }
}
