//! Logs and metrics. Neither ever holds a body, a token, a password or a constant of a query.
//!
//! Libraries do not keep to that: below `info`, tokio-postgres logs every parameter and axum what it could not
//! parse. So whatever the filter says, below `info` only this project's own lines are written.

use std::fmt::{Display, Write};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{Config, ConfigError, LogFormat};

/// How often samples are folded into their histograms when nobody asks for them, who would do it too.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// Starts logging to standard error. Errors when the filter can't be read.
pub fn start_logging(config: &Config) -> Result<(), ConfigError> {
    let filter =
        EnvFilter::try_new(&config.log).map_err(|error| ConfigError::Filter(error.to_string()))?;
    let layer = tracing_subscriber::fmt::layer::<Registry>().with_writer(std::io::stderr);
    let layer = match config.log_format {
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            layer.with_ansi(is_terminal).boxed()
        }
        LogFormat::Json => layer.json().boxed(),
    };
    let layer = layer.with_filter(filter.and(filter_fn(may_be_logged)));
    // Fails only when a test or embedder already logs in its own way, which then stands.
    let _ = tracing_subscriber::registry().with(layer).try_init();
    Ok(())
}

fn may_be_logged(line: &Metadata<'_>) -> bool {
    *line.level() <= Level::INFO || line.target().starts_with("integratedb")
}

/// The recorder behind `GET /metrics`. One a server, so that servers in one process do not mix.
pub struct Metrics {
    recorder: metrics_exporter_prometheus::PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Metrics {
    /// An empty recorder.
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new()
            .set_buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0])
            // The list above is not empty, which is the only way this fails.
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    /// Folds samples into their histograms. Without it, they pile up until somebody reads the metrics.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Everything recorded, in Prometheus's text format.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Counts one more of `name`.
    pub fn count(&self, name: &'static str) {
        metrics::with_local_recorder(&self.recorder, || metrics::counter!(name).increment(1));
    }

    /// Sets a gauge.
    #[expect(clippy::cast_precision_loss, reason = "counts of connections are small")]
    pub fn gauge(&self, name: &'static str, value: usize) {
        metrics::with_local_recorder(&self.recorder, || metrics::gauge!(name).set(value as f64));
    }

    fn request(&self, method: &'static str, route: String, status: u16, seconds: f64) {
        let labels =
            [("method", method.to_owned()), ("route", route), ("status", status.to_string())];
        metrics::with_local_recorder(&self.recorder, || {
            metrics::counter!("integratedb_http_requests_total", &labels).increment(1);
            metrics::histogram!("integratedb_http_request_seconds", &labels[..2]).record(seconds);
        });
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A method's name, if it is one of HTTP's own: a client that makes some up must not make up metrics.
fn known(method: &Method) -> &'static str {
    const KNOWN: [(Method, &str); 7] = [
        (Method::GET, "GET"),
        (Method::POST, "POST"),
        (Method::PUT, "PUT"),
        (Method::DELETE, "DELETE"),
        (Method::PATCH, "PATCH"),
        (Method::HEAD, "HEAD"),
        (Method::OPTIONS, "OPTIONS"),
    ];
    KNOWN.iter().find(|(known, _)| known == method).map_or("OTHER", |(_, name)| name)
}

/// Records each request under its route's template, never under the path that was asked for.
pub async fn observe(State(app): State<crate::api::App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = known(request.method());
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let response = next.run(request).await;
    let seconds = started.elapsed().as_secs_f64();
    let status = response.status().as_u16();
    tracing::info!(method, route, status, seconds, "request");
    app.metrics().request(method, route, status, seconds);
    response
}

/// Appends a metric in Prometheus's text format, with a value for each of its labels.
pub(crate) fn family<T: Display>(
    out: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, T)>,
) {
    // Writing to a String can't fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_methods_are_one() {
        assert_eq!(known(&Method::GET), "GET");
        let made_up = Method::from_bytes(b"MADEUP").expect("a token");
        assert_eq!(known(&made_up), "OTHER");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_told() {
        let config = Config { log: "info,=,x=nonsense".to_owned(), ..Config::default() };
        assert!(matches!(start_logging(&config), Err(ConfigError::Filter(_))));
    }
}
