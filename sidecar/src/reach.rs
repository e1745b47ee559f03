//! Which addresses may be reached on behalf of others. Whoever configures a webhook, a source or a target could otherwise
//! have the sidecar send requests into the network that it stands in (server-side request forgery).
//!
//! Names are resolved here, every address is checked, and the connection is made to one that was: a name that leads
//! somewhere else a moment later changes nothing. Redirects are not followed, and proxies not used.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Method, RequestBuilder, Url};
use tokio::net::TcpStream;

use crate::names;
use crate::notify::NotificationSettings;
use crate::sync::SyncSettings;
use crate::workspaces::WorkspaceSettings;

/// What is not for everybody, by the registries of special addresses (RFC 6890, and IANA's updates of it), and what
/// clouds answer their own machines from.
const PRIVATE: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Of 2000::/3: protocols of the IETF, with Teredo; documentation; 6to4.
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
];

/// All of IPv6 that is for everybody; what is mapped, translated, local or multicast lies elsewhere.
const GLOBAL_V6: &str = "2000::/3";

static NETWORKS: LazyLock<(Vec<IpNet>, IpNet)> = LazyLock::new(|| {
    let network = |text: &str| text.parse().expect("the constants are networks");
    (PRIVATE.iter().copied().map(network).collect(), network(GLOBAL_V6))
});

/// Whether everybody may be reached at it.
fn is_public(address: IpAddr) -> bool {
    let (private, global) = &*NETWORKS;
    (address.is_ipv4() || global.contains(&address))
        && !private.iter().any(|net| net.contains(&address))
}

/// The longest time to make a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Says which addresses may be reached.
#[derive(Clone, Debug)]
pub struct Reach {
    allowed: Arc<[IpNet]>,
    allow_http: bool,
    /// The section that says so, for people who want it otherwise.
    section: &'static str,
    /// Where this process itself listens for those who are connected on: a connection there would come round again.
    own: Option<SocketAddr>,
}

impl From<&NotificationSettings> for Reach {
    fn from(settings: &NotificationSettings) -> Self {
        let allowed = settings.allow_networks.as_slice().into();
        Self { allowed, allow_http: settings.allow_http, section: "notifications", own: None }
    }
}

impl From<&SyncSettings> for Reach {
    fn from(settings: &SyncSettings) -> Self {
        let allowed = settings.allow_networks.as_slice().into();
        Self { allowed, allow_http: settings.allow_http, section: "sync", own: None }
    }
}

impl From<&WorkspaceSettings> for Reach {
    /// Whether a connection to an origin is encrypted, its cache says by its `sslmode`.
    fn from(settings: &WorkspaceSettings) -> Self {
        let allowed = settings.allow_networks.as_slice().into();
        Self { allowed, allow_http: true, section: "workspaces", own: None }
    }
}

impl Reach {
    /// Checks a URL before its name is resolved: what can be said then. One that is an address nobody resolves.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let is_plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err("a URL begins with https:// or http://".to_owned()),
        };
        let host = url.host_str().unwrap_or_default();
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => self.check_address(address, is_plain),
            Err(_) if is_plain && !self.allow_http && self.allowed.is_empty() => Err(format!(
                "the URL has to begin with https://, unless {}.allow_http is set",
                self.section
            )),
            Err(_) => Ok(()),
        }
    }

    /// The addresses of a host, or itself, of which only those that may be reached. `is_plain`: it is for a connection
    /// without TLS.
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        is_plain: bool,
    ) -> Result<Vec<SocketAddr>, String> {
        let found = names::look_up(host, port).await;
        let mut refused = format!("{host} has no address");
        let mut permitted = Vec::new();
        for address in found.map_err(|error| format!("{host}: {error}"))? {
            // Who asks may be anybody, and is not told where names lead that are known only in here.
            match self.check_as(&host, address.ip(), is_plain) {
                Ok(()) => permitted.push(address),
                Err(why) => {
                    tracing::debug!(host, address = %address.ip(), "a host may not be reached");
                    refused = why;
                }
            }
        }
        if permitted.is_empty() { Err(refused) } else { Ok(permitted) }
    }

    /// The same, but never to this process itself, which listens there.
    pub(crate) fn besides(self, own: Option<SocketAddr>) -> Self {
        Self { own, ..self }
    }

    /// Connects to one of the addresses that were resolved. The error is one of the connection.
    pub(crate) async fn connect(&self, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(addresses).await?;
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        if self.is_own(local, peer) {
            return Err(io::Error::other("it is this proxy itself, and not an origin"));
        }
        // What is closed to the outside by a firewall is open from here.
        let [local, peer] = [local, peer].map(|address| address.ip().to_canonical());
        if local == peer && !self.is_allowed(peer) {
            let why = format!(
                "it is this machine itself: {}.allow_networks lists exceptions",
                self.section
            );
            return Err(io::Error::other(why));
        }
        Ok(stream)
    }

    /// Whether a connection leads to this process. Whatever name it has gone by, a connection to an address of this machine
    /// begins at the same address; but of the loopback network, at another one perhaps.
    fn is_own(&self, local: SocketAddr, peer: SocketAddr) -> bool {
        let Some(own) = self.own.filter(|own| own.port() == peer.port()) else { return false };
        let [own, local, peer] = [own, local, peer].map(|address| address.ip().to_canonical());
        if own.is_unspecified() { peer == local || peer.is_loopback() } else { peer == own }
    }

    /// Sends requests only to where they may go. `timeout` is for a request with its answer, `connections` are kept open
    /// when nothing is sent. The error says what is wrong with this machine's TLS.
    pub fn client(&self, timeout: Duration, connections: usize) -> Result<Client, String> {
        let tls = crate::tls::public_client()?;
        let build = |is_plain: bool| {
            ClientBuilder::new()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .dns_resolver(Arc::new(Resolver { reach: self.clone(), is_plain }))
                .tls_backend_preconfigured(tls.clone())
                .timeout(timeout)
                .connect_timeout(timeout.min(CONNECT))
                .pool_max_idle_per_host(connections)
                .user_agent(concat!("IntegrateDB/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| error.to_string())
        };
        Ok(Client { encrypted: build(false)?, plain: build(true)?, reach: self.clone() })
    }

    fn check_address(&self, address: IpAddr, is_plain: bool) -> Result<(), String> {
        self.check_as(&address.to_canonical(), address, is_plain)
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        self.allowed.iter().any(|net| net.contains(&address))
    }

    /// Checks an address under the name that it is to be told by.
    fn check_as(&self, name: &dyn Display, address: IpAddr, is_plain: bool) -> Result<(), String> {
        // ::ffff:127.0.0.1 is 127.0.0.1.
        let address = address.to_canonical();
        let section = self.section;
        if self.is_allowed(address) {
            Ok(())
        } else if is_plain && !self.allow_http {
            Err(format!(
                "{name} may not be reached without TLS, because that needs it to be in {section}.allow_networks, or \
                 {section}.allow_http to be set"
            ))
        } else if is_public(address) {
            Ok(())
        } else {
            Err(format!(
                "{name} may not be reached, because it is not a public address: {section}.allow_networks lists \
                 exceptions"
            ))
        }
    }
}

/// A client that reaches only what may be reached.
#[derive(Clone, Debug)]
pub struct Client {
    /// What may be reached with TLS may not be without: so there are two.
    encrypted: reqwest::Client,
    plain: reqwest::Client,
    reach: Reach,
}

impl Client {
    /// Begins a request. The error says why there may be none.
    pub fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, String> {
        self.reach.check(&url)?;
        let client = if url.scheme() == "https" { &self.encrypted } else { &self.plain };
        Ok(client.request(method, url))
    }
}

struct Resolver {
    reach: Reach,
    is_plain: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, is_plain) = (self.reach.clone(), self.is_plain);
        Box::pin(async move {
            let permitted = reach.resolve(name.as_str(), 0, is_plain).await?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(allowed: &[&str], allow_http: bool) -> Reach {
        let allow_networks = allowed.iter().map(|net| net.parse().expect("a network")).collect();
        Reach::from(&SyncSettings { allow_networks, allow_http, ..SyncSettings::default() })
    }

    fn passes(url: &str, allowed: &[&str], allow_http: bool) -> bool {
        reach(allowed, allow_http).check(&Url::parse(url).expect("a URL")).is_ok()
    }

    #[test]
    fn only_public_addresses_are_reached() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[100::1]",
            "[2001::1]",
            "[2001:db8::1]",
            "[2002:7f00:1::]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
        ] {
            assert!(!passes(&format!("https://{host}/x"), &[], true), "{host}");
        }
        for host in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "[2606:4700::1111]",
            "[2a00::1]",
            "[::ffff:8.8.8.8]",
        ] {
            let is_mapped = host.contains("ffff");
            assert!(passes(&format!("https://{host}/x"), &[], false), "{host} {is_mapped}");
        }
    }

    #[test]
    fn exceptions_are_by_configuration() {
        assert!(passes("https://127.0.0.1/", &["127.0.0.0/8"], false));
        assert!(passes("http://127.0.0.1/", &["127.0.0.0/8"], false));
        assert!(passes("http://[::ffff:127.0.0.1]/", &["127.0.0.0/8"], false));
        assert!(!passes("http://10.0.0.1/", &["127.0.0.0/8"], true));
        assert!(!passes("http://8.8.8.8/", &["127.0.0.0/8"], false));
        assert!(passes("http://8.8.8.8/", &[], true));
        assert!(!passes("http://example.com/", &[], false));
        assert!(
            passes("http://example.com/", &[], true) && passes("https://example.com/", &[], false)
        );
    }

    #[test]
    fn this_process_is_told_by_its_address() {
        let is_own = |own: &str, local: &str, peer: &str| {
            let [own, local, peer] =
                [own, local, peer].map(|text| text.parse().expect("an address"));
            reach(&[], false).besides(Some(own)).is_own(local, peer)
        };
        assert!(is_own("0.0.0.0:6432", "192.0.2.1:50000", "192.0.2.1:6432"));
        assert!(is_own("0.0.0.0:6432", "127.0.0.1:50000", "127.0.0.5:6432"));
        assert!(is_own("[::]:6432", "[2001:db8::1]:50000", "[2001:db8::1]:6432"));
        assert!(is_own("192.0.2.1:6432", "192.0.2.1:50000", "192.0.2.1:6432"));
        assert!(!is_own("192.0.2.1:6432", "127.0.0.1:50000", "127.0.0.1:6432"));
        assert!(!is_own("0.0.0.0:6432", "192.0.2.1:50000", "192.0.2.1:5432"));
        assert!(!is_own("0.0.0.0:6432", "192.0.2.1:50000", "192.0.2.2:6432"));
    }

    #[tokio::test]
    async fn a_name_is_as_good_as_its_addresses() {
        let resolve = async |allowed| reach(allowed, false).resolve("localhost", 1, false).await;
        let refused = resolve(&[]).await.expect_err("it is a loopback address");
        assert!(refused.contains("may not be reached") && refused.contains("sync."), "{refused}");
        let found = resolve(&["127.0.0.0/8"]).await.expect("it is allowed");
        assert!(found.iter().all(|address| address.ip().is_ipv4()), "{found:?}");
    }

    #[tokio::test]
    async fn a_client_asks_before_each_request() {
        let of_others = "http://10.0.0.1/".parse::<Url>().expect("a URL");
        let client = reach(&["127.0.0.0/8"], true).client(CONNECT, 1).expect("there is TLS");
        let refused = client.request(Method::GET, of_others).expect_err("it is private");
        assert!(refused.contains("sync.allow_networks"), "{refused}");
        assert!(client.request(Method::GET, "ftp://127.0.0.1/".parse().expect("a URL")).is_err());
        let settings = NotificationSettings::default();
        let client = Reach::from(&settings).client(CONNECT, 1).expect("there is TLS");
        let named = client.request(Method::GET, "https://localhost:1/".parse().expect("a URL"));
        let error = named.expect("a name is resolved later").send().await.expect_err("loopback");
        assert!(format!("{error:?}").contains("notifications.allow_networks"), "{error:?}");
    }
}
