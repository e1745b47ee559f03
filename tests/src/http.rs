//! A client for HTTP.

use anyhow::Result;

/// One that asks no proxy. Of TLS it knows as much as the sidecar's own needs of it.
pub fn http() -> Result<reqwest::Client> {
    // Another test of the process may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().no_proxy().build()?)
}
