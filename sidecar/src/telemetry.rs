//! Logs and metrics. Neither ever holds a body, a token, a password or a constant of a query.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Starts logging to standard error.
pub fn start_logging(config: &Config) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only when a test or embedder already logs in its own way, which then stands.
    let _ = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
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

    fn request(&self, method: String, route: String, status: u16, seconds: f64) {
        let labels = [("method", method), ("route", route), ("status", status.to_string())];
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

/// Records each request under its route's template, never under the path that was asked for.
pub async fn observe(State(app): State<crate::api::App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().as_str().to_owned();
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
