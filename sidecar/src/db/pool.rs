//! Connections to the database, with TLS when the URL's sslmode asks for it.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::DbError;
use crate::config::Config;
use crate::secret::Secret;

/// The pool of connections.
pub type Pool = deadpool_postgres::Pool;

/// How long a request waits for a free connection or a new one.
const WAIT: Duration = Duration::from_secs(5);

/// Makes a pool; no connection is opened yet.
pub fn open(config: &Config) -> Result<Pool, DbError> {
    let mut settings = parse(&config.database_url)?;
    let options = format!(
        "{} -c statement_timeout={}s -c idle_in_transaction_session_timeout=60s",
        settings.get_options().unwrap_or_default(),
        config.statement_timeout_secs,
    );
    settings.options(options.trim());
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = if settings.get_ssl_mode() == SslMode::Disable {
        Manager::from_config(settings, NoTls, manager_config)
    } else {
        Manager::from_config(settings, tls(), manager_config)
    };
    Pool::builder(manager)
        .max_size(config.database_connections.max(1))
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts { wait: Some(WAIT), create: Some(WAIT), recycle: Some(WAIT) })
        .build()
        .map_err(|error| DbError::Unexpected(error.to_string()))
}

/// Opens one connection outside of any pool, for a command.
pub async fn connect(url: &Secret<String>) -> Result<Client, DbError> {
    let settings = parse(url)?;
    if settings.get_ssl_mode() == SslMode::Disable {
        let (client, connection) = settings.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    } else {
        let (client, connection) = settings.connect(tls()).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

fn parse(url: &Secret<String>) -> Result<tokio_postgres::Config, DbError> {
    let mut settings = tokio_postgres::Config::from_str(url.expose_secret())
        // The error names the mistake but never quotes the URL, which may hold a password.
        .map_err(|error| {
            DbError::Unavailable(format!("the database URL can't be read: {error}"))
        })?;
    if settings.get_application_name().is_none() {
        settings.application_name("integratedb");
    }
    if settings.get_password().is_none()
        && let Ok(password) = std::env::var("PGPASSWORD")
    {
        settings.password(password);
    }
    settings.connect_timeout(WAIT);
    Ok(settings)
}

/// Certificates are always verified, against the system's roots.
fn tls() -> MakeRustlsConnect {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    MakeRustlsConnect::new(config)
}
