//! Which addresses a webhook may reach. Whoever configures a channel could otherwise have the sidecar send requests
//! into the network that it stands in (server-side request forgery).
//!
//! Names are resolved here, every address is checked, and the connection is made to one that was: a name that leads
//! somewhere else a moment later changes nothing. Redirects are not followed.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use ipnet::IpNet;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::notify::NotificationSettings;

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

/// Says which addresses may be reached.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    allowed: Vec<IpNet>,
    /// Nothing but these.
    only_allowed: bool,
}

impl Guard {
    /// For a URL.
    pub(super) fn new(url: &Url, settings: &NotificationSettings) -> Self {
        Self {
            allowed: settings.allow_networks.clone(),
            only_allowed: url.scheme() != "https" && !settings.allow_http,
        }
    }

    fn permits(&self, address: IpAddr) -> bool {
        // ::ffff:127.0.0.1 is 127.0.0.1.
        let address = address.to_canonical();
        self.allowed.iter().any(|net| net.contains(&address))
            || (!self.only_allowed && is_public(address))
    }

    fn refusal(&self, address: IpAddr) -> String {
        if self.only_allowed {
            format!(
                "http:// may not be used for {address}: without TLS only networks in notifications.allow_networks are \
                 reached, unless notifications.allow_http is set"
            )
        } else {
            format!(
                "{address} may not be reached, because it is not a public address: notifications.allow_networks lists \
                 exceptions"
            )
        }
    }

    /// Checks the host of a URL if it is an address: then nobody resolves it.
    pub(super) fn check(&self, url: &Url) -> Result<(), String> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) if !self.permits(address) => Err(self.refusal(address)),
            Err(_) if self.only_allowed && self.allowed.is_empty() => {
                Err("a webhook's URL begins with https://, unless notifications.allow_http is set"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (permitted, refused): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| guard.permits(address.ip()));
            match (permitted.is_empty(), refused.first()) {
                (true, Some(address)) => {
                    Err(format!("{}: {}", name.as_str(), guard.refusal(address.ip())).into())
                }
                (true, None) => Err(format!("{} has no address", name.as_str()).into()),
                (false, _) => Ok(Box::new(permitted.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(url: &str, allowed: &[&str], allow_http: bool) -> (Url, Guard) {
        let allow_networks = allowed.iter().map(|net| net.parse().expect("a network")).collect();
        let settings =
            NotificationSettings { allow_networks, allow_http, ..NotificationSettings::default() };
        let url = Url::parse(url).expect("a URL");
        let guard = Guard::new(&url, &settings);
        (url, guard)
    }

    fn passes(url: &str, allowed: &[&str], allow_http: bool) -> bool {
        let (url, guard) = guard(url, allowed, allow_http);
        guard.check(&url).is_ok()
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

    #[tokio::test]
    async fn a_name_is_as_good_as_its_addresses() {
        let resolve = async |allowed: &[&str]| {
            let (_, guard) = guard("https://localhost/", allowed, false);
            let name = "localhost".parse().expect("a name");
            guard
                .resolve(name)
                .await
                .map(Iterator::collect::<Vec<_>>)
                .map_err(|error| error.to_string())
        };
        let refused = resolve(&[]).await.expect_err("it is a loopback address");
        assert!(refused.contains("may not be reached"), "{refused}");
        let found = resolve(&["127.0.0.0/8"]).await.expect("it is allowed");
        assert!(found.iter().all(|address| address.ip().is_ipv4()), "{found:?}");
    }
}
