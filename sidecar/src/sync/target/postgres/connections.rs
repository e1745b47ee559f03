//! Connections to another database: only to addresses that may be reached, and for no longer than a push has.

use std::str::FromStr;
use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use tokio::sync::Mutex;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::PushError;
use super::error::told;
use crate::db::DbError;
use crate::reach::Reach;
use crate::secret::Secret;
use crate::tls::Tls;

/// What a URL says.
pub(super) struct Address {
    config: Config,
    tls: Tls,
    hosts: Vec<(String, u16)>,
}

impl Address {
    /// Unlike for our own database, nothing comes out of the environment: it is none of the target's. The error quotes
    /// nothing of the URL, which may have a password in it.
    pub(super) fn read(url: &Secret<String>) -> Result<Self, String> {
        let (tls, rest) = Tls::take_from(url.expose_secret()).map_err(|error| error.to_string())?;
        let config = Config::from_str(&rest).map_err(|error| error.to_string())?;
        if !config.get_hostaddrs().is_empty() {
            return Err("hostaddr is not known here: put the address into host".to_owned());
        }
        let ports = config.get_ports();
        let mut hosts = Vec::new();
        for (at, host) in config.get_hosts().iter().enumerate() {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => hosts.push((name.clone(), port)),
                Host::Unix(_) => {
                    return Err(
                        "it has to name a host, and not a socket of this machine".to_owned()
                    );
                }
            }
        }
        if hosts.is_empty() || config.get_user().is_none() {
            return Err("it has to name a user, a host and a database: postgres://USER:PASSWORD@HOST/DATABASE".to_owned());
        }
        Ok(Self { config, tls, hosts })
    }

    /// The same with the addresses that are to be used, and no others.
    async fn resolve(&self, reach: &Reach, most: Duration) -> Result<Config, String> {
        let Self { config: given, tls, hosts } = self;
        let mut config = Config::new();
        let is_plain = tls.ssl_mode() != SslMode::Require;
        for (name, port) in hosts {
            let addresses = reach.resolve(name, *port, is_plain).await.map_err(|why| {
                if is_plain { format!("{why}; sslmode=require asks for TLS") } else { why }
            })?;
            for address in addresses {
                config.host(name).hostaddr(address.ip()).port(*port);
            }
        }
        let given_options = given.get_options().unwrap_or_default();
        let millis = most.as_millis();
        let options =
            format!("{given_options} -c statement_timeout={millis} -c lock_timeout={millis}");
        config
            .user(given.get_user().unwrap_or_default())
            .options(options.trim())
            .application_name(given.get_application_name().unwrap_or("integratedb"))
            .ssl_mode(tls.ssl_mode())
            .ssl_negotiation(given.get_ssl_negotiation())
            .channel_binding(given.get_channel_binding())
            .target_session_attrs(given.get_target_session_attrs())
            .connect_timeout(most)
            // What is on its way when a push is given up does not arrive much later.
            .tcp_user_timeout(most)
            .keepalives_idle(Duration::from_secs(30));
        if let Some(password) = given.get_password() {
            config.password(password);
        }
        if let Some(name) = given.get_dbname() {
            config.dbname(name);
        }
        Ok(config)
    }
}

/// Connections that are made when they are needed.
pub(super) struct Connections {
    address: Address,
    reach: Reach,
    most: usize,
    /// For a connection, and for a statement.
    time: Duration,
    /// None before the first, and after one could not be made: then names are resolved again.
    pool: Mutex<Option<Pool>>,
}

impl Connections {
    pub(super) fn new(
        url: &Secret<String>,
        reach: &Reach,
        most: usize,
        time: Duration,
    ) -> Result<Self, String> {
        let address = Address::read(url)?;
        Ok(Self { address, reach: reach.clone(), most, time, pool: Mutex::new(None) })
    }

    /// One of them.
    pub(super) async fn get(&self) -> Result<Lent, PushError> {
        let pool = self.pool().await.map_err(PushError::new)?;
        match pool.get().await {
            Ok(object) => Ok(Lent(Some(object))),
            Err(error) => {
                let message = match error {
                    PoolError::Backend(error) => {
                        *self.pool.lock().await = None;
                        told(error)
                    }
                    other => DbError::from(other).to_string(),
                };
                Err(PushError::new(format!("no connection to the target's database: {message}")))
            }
        }
    }

    async fn pool(&self) -> Result<Pool, String> {
        let mut pool = self.pool.lock().await;
        if let Some(pool) = &*pool {
            return Ok(pool.clone());
        }
        let config = self.address.resolve(&self.reach, self.time).await?;
        // One that is broken fails its statement, and is not used again.
        let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let tls = self.address.tls.client_config().map_err(|error| error.to_string())?;
        let manager = match tls {
            None => Manager::from_config(config, NoTls, manager_config),
            Some(tls) => Manager::from_config(config, MakeRustlsConnect::new(tls), manager_config),
        };
        let time = Some(self.time);
        let made = Pool::builder(manager)
            .max_size(self.most)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait: time, create: time, recycle: time })
            .build()
            .map_err(|error| error.to_string())?;
        Ok(pool.insert(made).clone())
    }
}

/// A connection that is given back if its statement has ended, and closed otherwise: nobody waits behind a statement that
/// was given up.
pub(super) struct Lent(Option<Object>);

impl Lent {
    pub(super) fn client(&self) -> &Client {
        self.0.as_ref().expect("it is there until it is given back")
    }

    pub(super) fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}
