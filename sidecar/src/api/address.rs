//! Where a request comes from, from behind proxies too whose word counts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::Response;
use ipnet::IpNet;

use super::app::App;
use super::error::ApiError;

/// Each proxy adds the address that it was asked from to its end.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client.
pub(super) struct Client(pub(super) IpAddr);

impl FromRequestParts<App> for Client {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        Ok(Self(address(&parts.extensions)))
    }
}

/// The networks of the proxies that are believed.
#[derive(Clone)]
pub(super) struct Trusted(Arc<[IpNet]>);

impl From<&[IpNet]> for Trusted {
    fn from(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }
}

impl Trusted {
    /// The last address on the way here that is none of a trusted proxy. What is said before that, anybody may have made up.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut said = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        let mut nearest = peer.to_canonical();
        while self.0.iter().any(|network| network.contains(&nearest)) {
            match said.next().and_then(read) {
                Some(address) => nearest = address,
                None => break,
            }
        }
        nearest
    }
}

/// Some proxies say the port too.
fn read(said: &str) -> Option<IpAddr> {
    let said = said.trim();
    let alone = said.parse().ok();
    let address = alone.or_else(|| said.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[derive(Clone, Copy)]
struct Located(IpAddr);

/// Finds out where a request comes from.
pub(super) async fn locate(
    State(trusted): State<Trusted>,
    mut request: Request,
    next: Next,
) -> Response {
    let client = trusted.client(address(request.extensions()), request.headers());
    request.extensions_mut().insert(Located(client));
    next.run(request).await
}

/// The address that a request came from: the client's, once it is [located](locate).
pub(super) fn address(request: &Extensions) -> IpAddr {
    if let Some(Located(client)) = request.get() {
        return *client;
    }
    let peer = request.get::<ConnectInfo<SocketAddr>>();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who the client is of a request from `peer`, with these lines of the header.
    fn client(peer: &str, lines: &[&str]) -> String {
        let networks: Vec<IpNet> =
            ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().expect("a network")).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().expect("a value"));
        }
        let peer = peer.parse().expect("an address");
        Trusted::from(networks.as_slice()).client(peer, &headers).to_string()
    }

    #[test]
    fn only_the_word_of_trusted_proxies_counts() {
        assert_eq!(client("192.0.2.1", &["192.0.2.9"]), "192.0.2.1", "anybody can say so");
        assert_eq!(client("10.0.0.1", &["192.0.2.9"]), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &["10.9.9.9, 192.0.2.9"]), "192.0.2.9", "the client said so");
        assert_eq!(client("10.0.0.1", &["192.0.2.9, 10.0.0.2"]), "192.0.2.9", "two proxies");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "192.0.2.9"]), "192.0.2.9", "the last line");
        assert_eq!(client("::ffff:10.0.0.1", &["192.0.2.9:4711"]), "192.0.2.9");
        assert_eq!(client("fd00::1", &["[2001:db8::1]:80"]), "2001:db8::1");
    }

    #[test]
    fn what_a_proxy_does_not_say_right_is_not_guessed() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.9, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3", "all of them proxies");
    }
}
