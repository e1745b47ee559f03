//! The origin that somebody names over REST: whether it can be one.

use std::net::IpAddr;
use std::time::Duration;

use integratedb_wire::write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Mistake;
use crate::reach::Reach;

/// How long resolving, connecting and answering may take altogether.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a text is a name of DNS or an IP address. libpq reads more than that out of a host: lists, folders, options.
pub(crate) fn check_hostname(text: &str) -> Result<(), &'static str> {
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(allowed) && !label.starts_with('-')
    };
    let is_name = text.len() <= 253 && text.split('.').all(is_label);
    if is_name || text.parse::<IpAddr>().is_ok() {
        Ok(())
    } else {
        Err("has to be a DNS name or an IP address")
    }
}

/// Asks whether a Postgres answers at a host, at an address that may be reached. The error names `hostname` or `port`.
pub(super) async fn probe(reach: &Reach, host: &str, port: u16) -> Result<(), Mistake> {
    let late = || ("hostname", format!("{host}:{port} does not answer within {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, ask(reach, host, port)).await.unwrap_or_else(|_| Err(late()))
}

async fn ask(reach: &Reach, host: &str, port: u16) -> Result<(), Mistake> {
    let addresses = reach.resolve(host, port, true).await.map_err(|why| ("hostname", why))?;
    let unreachable = |error| ("port", format!("{host}:{port} can't be connected to: {error}"));
    let mut stream = reach.connect(&addresses).await.map_err(unreachable)?;
    let mut request = Vec::new();
    write::frontend::ssl_request(&mut request);
    let answer = match stream.write_all(&request).await {
        Ok(()) => stream.read_u8().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(b'S' | b'N') => Ok(()),
        _ => Err(("port", format!("what answers at {host}:{port} is no Postgres"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_name_or_address() {
        for good in ["localhost", "db-1.example.com", "DB_1", "10.0.0.1", "::1", "2001:db8::7"] {
            assert_eq!(check_hostname(good), Ok(()), "{good}");
        }
        let long = ["a".repeat(64), vec!["abcdefgh"; 30].join(".")];
        let bad = ["", "a,b", "/run/pg", "@pg", "a b", "a'b", "a\\", "a=b", "a:1", "[::1]", "-a"];
        let more = ["a..b", "a.", "ä", "fe80::1%eth0", "a\0", "a\nb", "user@a", "a?sslmode=x"];
        for bad in bad.into_iter().chain(more).chain(long.iter().map(String::as_str)) {
            assert!(check_hostname(bad).is_err(), "{bad}");
        }
    }
}
