//! The Postgres behind a cache: where it is, and how a connection to it is opened and encrypted.

use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use integratedb_wire::write;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_rustls::TlsConnector;

use super::stream::{self, Stream};
use crate::reach::Reach;
use crate::tls::Tls;

/// Where an origin is.
pub(crate) struct Origin {
    hosts: Vec<(Host, u16)>,
    /// Only a host that takes writes will do.
    read_write: bool,
    tls: Option<TlsConnector>,
    tls_required: bool,
    timeout: Duration,
    /// Where its hosts may be; anywhere unless told.
    reach: Option<Reach>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}: {1}")]
    Io(String, io::Error),
    #[error("{0}: no answer within {1} s")]
    Timeout(String, u64),
    #[error("{0} does not offer TLS, which sslmode asks for")]
    NoTls(String),
    /// Its host can't be resolved, or is none that may be reached.
    #[error("{0}")]
    Unreachable(String),
}

impl Origin {
    /// Reads a URL or key/value string. With `reach`, only what that allows is ever connected to. Errors say what is
    /// wrong with the text.
    pub(crate) fn read(
        text: &str,
        timeout: Duration,
        reach: Option<&Reach>,
    ) -> Result<Self, String> {
        let (tls, rest) = Tls::take_from(text).map_err(|error| error.to_string())?;
        let config = tokio_postgres::Config::from_str(&rest).map_err(|error| error.to_string())?;
        if config.get_user().is_some()
            || config.get_password().is_some()
            || config.get_dbname().is_some()
        {
            return Err(
                "an origin has no user, password or database: clients bring theirs".to_owned()
            );
        }
        Self::of(&config, &tls, timeout, reach)
    }

    /// The hosts that a database's URL names.
    pub(crate) fn of(
        config: &tokio_postgres::Config,
        tls: &Tls,
        timeout: Duration,
        reach: Option<&Reach>,
    ) -> Result<Self, String> {
        if config.get_hosts().is_empty() {
            return Err("no host is named".to_owned());
        }
        let is_socket = |host: &Host| matches!(host, Host::Unix(_));
        if reach.is_some() && config.get_hosts().iter().any(is_socket) {
            return Err("it has to name a host, and not a socket of this machine".to_owned());
        }
        let ports = config.get_ports();
        let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
            // One port counts for all hosts.
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            (host.clone(), port)
        });
        let connector =
            tls.client_config().map_err(|error| error.to_string())?.map(|mut config| {
                config.alpn_protocols = vec![b"postgresql".to_vec()];
                TlsConnector::from(Arc::new(config))
            });
        Ok(Self {
            hosts: hosts.collect(),
            read_write: config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite,
            tls: connector,
            tls_required: tls.is_required(),
            timeout,
            reach: reach.cloned(),
        })
    }

    /// How many hosts there are to try.
    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Whether a host that only reads is to be passed over.
    pub(crate) const fn wants_writes(&self) -> bool {
        self.read_write
    }

    /// How long connecting and logging in may take.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The names of its hosts, for people.
    pub(crate) fn describe(&self) -> String {
        (0..self.hosts()).map(|at| self.name(at)).collect::<Vec<_>>().join(", ")
    }

    /// The name of a host, for people.
    pub(crate) fn name(&self, at: usize) -> String {
        match &self.hosts[at] {
            (Host::Tcp(host), port) => format!("{host}:{port}"),
            (Host::Unix(path), port) => format!("{}:{port}", path.display()),
        }
    }

    /// Opens a connection to one of the hosts.
    pub(crate) async fn connect(&self, at: usize) -> Result<Stream, ConnectError> {
        tokio::time::timeout(self.timeout, self.open(at))
            .await
            .unwrap_or_else(|_| Err(ConnectError::Timeout(self.name(at), self.timeout.as_secs())))
    }

    async fn open(&self, at: usize) -> Result<Stream, ConnectError> {
        let failed = |error| ConnectError::Io(self.name(at), error);
        let (host, port) = &self.hosts[at];
        let host = match host {
            Host::Unix(path) => {
                let socket = path.join(format!(".s.PGSQL.{port}"));
                return UnixStream::connect(socket).await.map(Stream::Unix).map_err(failed);
            }
            Host::Tcp(host) => host,
        };
        let connected = match &self.reach {
            None => TcpStream::connect((host.as_str(), *port)).await,
            Some(reach) => {
                // A name may lead elsewhere than when it was last looked at.
                let addresses = reach.resolve(host, *port, self.tls.is_none()).await;
                let addresses = addresses.map_err(ConnectError::Unreachable)?;
                reach.connect(&addresses).await
            }
        };
        let mut stream = connected.map_err(failed)?;
        stream::tune(&stream).map_err(failed)?;
        let Some(connector) = &self.tls else { return Ok(Stream::Tcp(stream)) };
        let mut request = Vec::new();
        write::frontend::ssl_request(&mut request);
        stream.write_all(&request).await.map_err(failed)?;
        if stream.read_u8().await.map_err(failed)? != b'S' {
            return if self.tls_required {
                Err(ConnectError::NoTls(self.name(at)))
            } else {
                Ok(Stream::Tcp(stream))
            };
        }
        let name = ServerName::try_from(host.clone())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = connector.connect(name, stream).await.map_err(failed)?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

/// The origin that a database's URL or key/value string leads to: its hosts and how to encrypt, and nothing of who
/// connects.
pub fn of_database(url: &str) -> Result<String, String> {
    let (tls, rest) = Tls::take_from(url).map_err(|error| error.to_string())?;
    let config = tokio_postgres::Config::from_str(&rest).map_err(|error| error.to_string())?;
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    let ports = config.get_ports().iter().map(u16::to_string);
    let lists = [("host", hosts.collect::<Vec<_>>()), ("port", ports.collect())];
    let mut pairs: Vec<(&str, String)> = lists
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| (name, list.join(",")))
        .collect();
    pairs.extend(tls.options());
    let quote = |text: &str| text.replace('\\', r"\\").replace('\'', r"\'");
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}='{}'", quote(value))).collect();
    Ok(pairs.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspaces::WorkspaceSettings;

    #[test]
    fn hosts_and_ports_are_read_as_libpq_does() {
        let read =
            |text| Origin::read(text, Duration::from_secs(1), None).map(|origin| origin.describe());
        assert_eq!(
            read("postgres://a:1,b:2/?target_session_attrs=read-write").as_deref(),
            Ok("a:1, b:2")
        );
        assert_eq!(read("host=a,b port=7").as_deref(), Ok("a:7, b:7"));
        assert_eq!(read("host=/run/pg").as_deref(), Ok("/run/pg:5432"));
        for bad in ["", "postgres://user@a", "postgres://a/database", "host=a sslmode=maybe"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn each_connection_asks_where_it_may_go() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        let connect = async |allowed: &[&str]| {
            let allow_networks =
                allowed.iter().map(|net| net.parse().expect("a network")).collect();
            let settings = WorkspaceSettings { allow_networks, ..WorkspaceSettings::default() };
            let text = format!("host=localhost port={port} sslmode=disable");
            let reach = Reach::from(&settings);
            let origin = Origin::read(&text, Duration::from_secs(5), Some(&reach));
            origin.expect("readable").connect(0).await.map(drop)
        };
        assert!(connect(&["127.0.0.0/8"]).await.is_ok());
        // Under whatever name, a connection does not come round again.
        let networks = vec!["127.0.0.0/8".parse().expect("a network")];
        let settings =
            WorkspaceSettings { allow_networks: networks, ..WorkspaceSettings::default() };
        let own = ([0, 0, 0, 0], port).into();
        let reach = Reach::from(&settings).besides(Some(own));
        let text = format!("host=localhost port={port} sslmode=disable");
        let origin = Origin::read(&text, Duration::from_secs(5), Some(&reach)).expect("readable");
        let refused = origin.connect(0).await.map(drop).expect_err("it is itself").to_string();
        assert!(refused.contains("this proxy itself"), "{refused}");
        let refused = connect(&[]).await.expect_err("it is a loopback address").to_string();
        assert!(refused.contains("workspaces.allow_networks"), "{refused}");
        let reach = Reach::from(&WorkspaceSettings::default());
        assert!(Origin::read("host=/run/pg", Duration::from_secs(1), Some(&reach)).is_err());
    }
}
