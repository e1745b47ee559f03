//! A source of clients as an API manager's, and a target that takes them as Zync's adapter for REST sends them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::delay::Delay;
use crate::http::{Answer, Request, serve};
use crate::say;

/// What was asked so far.
#[derive(Default)]
struct Seen {
    /// The version of each client that was told last: the source has another one each time that it is asked.
    told: HashMap<String, u64>,
    /// The version that the target has.
    taken: HashMap<String, u64>,
    fetches: u64,
    pushes: u64,
    others: u64,
    first: Option<SystemTime>,
    last: Option<SystemTime>,
    asked: Option<Instant>,
}

/// Runs until the target has so many models and nothing was asked for `quiet` milliseconds, or until it is told to end.
/// Reports how many `models` the target has, how many of these are `stale`, which is not what the source told last;
/// `fetches`, `pushes` and `others`; and microseconds since 1970 at the first fetch and at the last answer to a push.
pub(crate) async fn run(
    source: &str,
    target: &str,
    micros: u64,
    models: u64,
    quiet: u64,
) -> Result<String> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let local = tokio::task::LocalSet::new();
    let work = async {
        let delay = Delay::new(Duration::from_micros(micros));
        let endpoint = format!("http://bench:only-for-this@{target}");
        let (of_source, waits) = (Rc::clone(&seen), delay.clone());
        serve(source, async move |request: Request<'_>| {
            waits.wait().await;
            of_source.borrow_mut().fetch(&request, &endpoint)
        })
        .await?;
        let of_target = Rc::clone(&seen);
        serve(target, async move |request: Request<'_>| {
            delay.wait().await;
            of_target.borrow_mut().push(&request)
        })
        .await?;
        say("ready")?;
        let mut told = signal(SignalKind::terminate())?;
        let done = async {
            while !seen.borrow().is_done(models, Duration::from_millis(quiet)) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! { () = done => {}, _ = told.recv() => {} }
        anyhow::Ok(())
    };
    local.run_until(work).await?;
    let report = seen.borrow().report();
    Ok(report)
}

impl Seen {
    fn is_done(&self, models: u64, quiet: Duration) -> bool {
        self.taken.len() as u64 >= models && self.asked.is_some_and(|at| at.elapsed() >= quiet)
    }

    fn fetch(&mut self, request: &Request<'_>, endpoint: &str) -> Answer {
        self.asked = Some(Instant::now());
        let proxy = json!({"proxy": {"service_id": 1, "oidc_issuer_endpoint": endpoint, "oidc_issuer_type": "rest"}});
        let Some(client) =
            request.target.split(['?', '&']).find_map(|part| part.strip_prefix("app_id="))
        else {
            self.others += 1;
            let is_proxy = request.target.ends_with("/proxy.json");
            return if is_proxy { (200, proxy.to_string()) } else { (404, "{}".to_owned()) };
        };
        self.first.get_or_insert_with(SystemTime::now);
        self.fetches += 1;
        let version = self.fetches;
        self.told.insert(client.to_owned(), version);
        let application = json!({
            "id": version, "client_id": client, "client_secret": version.to_string(),
            "name": "A client", "redirect_url": "https://client.example/", "state": "live", "enabled": true,
            "oidc_configuration": {"standard_flow_enabled": true, "direct_access_grants_enabled": false},
        });
        (200, json!({"application": application}).to_string())
    }

    fn push(&mut self, request: &Request<'_>) -> Answer {
        self.asked = Some(Instant::now());
        let client = request.target.strip_prefix("/clients/");
        let body: Value = serde_json::from_slice(request.body).unwrap_or_default();
        let version = body["client_secret"].as_str().and_then(|text| text.parse().ok());
        let (Some(client), Some(version), "PUT") = (client, version, request.method) else {
            self.others += 1;
            return (404, "{}".to_owned());
        };
        self.pushes += 1;
        self.taken.insert(client.to_owned(), version);
        self.last = Some(SystemTime::now());
        (200, "{}".to_owned())
    }

    fn report(&self) -> String {
        let micros = |at: Option<SystemTime>| {
            at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_micros())
        };
        let stale =
            self.taken.iter().filter(|(client, version)| self.told.get(*client) != Some(version));
        json!({
            "models": self.taken.len(), "stale": stale.count(), "fetches": self.fetches, "pushes": self.pushes,
            "others": self.others, "first_us": micros(self.first), "last_us": micros(self.last),
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_target_has_is_compared_with_what_was_told_last() -> Result<()> {
        let mut seen = Seen::default();
        let get = |target| Request { method: "GET", target, body: b"" };
        let put = |target, body| Request { method: "PUT", target, body };
        assert_eq!(seen.fetch(&get("/find.json?app_id=c1&service_id=1"), "x").0, 200);
        assert_eq!(seen.push(&put("/clients/c1", br#"{"client_secret": "1"}"#)).0, 200);
        assert!(seen.is_done(1, Duration::ZERO) && !seen.is_done(2, Duration::ZERO));
        assert_eq!(serde_json::from_str::<Value>(&seen.report())?["stale"], 0);
        assert_eq!(seen.fetch(&get("/find.json?service_id=1&app_id=c1"), "x").0, 200);
        assert_eq!(seen.push(&get("/.well-known/openid-configuration")).0, 404);
        let report: Value = serde_json::from_str(&seen.report())?;
        let counted =
            ["models", "stale", "fetches", "pushes", "others"].map(|name| report[name].as_u64());
        assert_eq!(counted, [1, 1, 2, 1, 1].map(Some));
        Ok(())
    }
}
