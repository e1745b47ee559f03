//! A server of webhooks that answers 200 to everything, and counts later.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::counter::{Counter, digits, now};
use crate::{ready, wrong};

/// Bytes that are read at once.
const ROOM: usize = 64 << 10;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Serves for ever.
pub(crate) async fn receive(address: &str, counter: &Arc<Counter>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    ready()?;
    loop {
        let (client, _) = listener.accept().await?;
        let counter = Arc::clone(counter);
        tokio::spawn(async move {
            if let Err(error) = serve(client, &counter).await {
                eprintln!("a request: {error}");
            }
        });
    }
}

async fn serve(mut client: TcpStream, counter: &Counter) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut heard = Vec::new();
    loop {
        let Some((start, end)) = request(&heard)?.filter(|(_, end)| *end <= heard.len()) else {
            heard.reserve(ROOM);
            if client.read_buf(&mut heard).await? == 0 {
                return if heard.is_empty() { Ok(()) } else { Err(wrong("ended in the middle")) };
            }
            continue;
        };
        let now = now();
        client.write_all(ANSWER).await?;
        let body = &heard[start..end];
        let events = counter.count(body, now);
        counter.keep(body, events);
        heard.drain(..end);
    }
}

/// Where the body of the first request begins and ends, if its head is there.
fn request(heard: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let Some(head) = memchr::memmem::find(heard, b"\r\n\r\n") else { return Ok(None) };
    let length = heard[..head].split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        name.eq_ignore_ascii_case(b"content-length").then(|| digits(value[1..].trim_ascii()).0)
    });
    let length = length.ok_or_else(|| wrong("a request that does not tell its length"))?;
    let start = head + 4;
    let length = usize::try_from(length).map_err(io::Error::other)?;
    Ok(Some((start, start.saturating_add(length))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_long_as_is_said() {
        let heard = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\nabc";
        assert_eq!(request(heard).ok(), Some(Some((48, 60))));
        assert_eq!(request(&heard[..40]).ok(), Some(None));
        assert!(request(b"POST / HTTP/1.1\r\n\r\n").is_err());
    }
}
