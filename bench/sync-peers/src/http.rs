//! Just enough of a server of HTTP/1.1 to answer thousands of small requests a second at little cost.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes that are read at once.
const ROOM: usize = 4 << 10;

/// A request.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) body: &'a [u8],
}

/// What is answered: a status, and JSON.
pub(crate) type Answer = (u16, String);

/// Serves for ever. `handle` may take its time, and other clients are served meanwhile.
pub(crate) async fn serve<H>(address: &str, handle: H) -> Result<()>
where
    H: AsyncFn(Request<'_>) -> Answer + Clone + 'static,
{
    let listener = TcpListener::bind(address).await.with_context(|| address.to_owned())?;
    tokio::task::spawn_local(async move {
        while let Ok((client, _)) = listener.accept().await {
            let handle = handle.clone();
            tokio::task::spawn_local(async move {
                if let Err(error) = talk(client, &handle).await {
                    eprintln!("a request: {error:#}");
                }
            });
        }
    });
    Ok(())
}

async fn talk(mut client: TcpStream, handle: &impl AsyncFn(Request<'_>) -> Answer) -> Result<()> {
    client.set_nodelay(true)?;
    let mut heard = Vec::new();
    loop {
        let Some((request, end)) = read(&heard)? else {
            heard.reserve(ROOM);
            // Who measures may be killed at any time.
            if client.read_buf(&mut heard).await.unwrap_or(0) == 0 {
                return Ok(());
            }
            continue;
        };
        let (status, body) = handle(request).await;
        let answer = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write_all(answer.as_bytes()).await?;
        heard.drain(..end);
    }
}

/// The first request and where it ends, if it is all there.
fn read(heard: &[u8]) -> Result<Option<(Request<'_>, usize)>> {
    let Some(head) = memchr::memmem::find(heard, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&heard[..head])?;
    let mut lines = text.split("\r\n");
    let mut words = lines.next().context("no request")?.split(' ');
    let (method, target) = (words.next().context("no method")?, words.next().context("no path")?);
    let mut length = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        ensure!(!name.eq_ignore_ascii_case("transfer-encoding"), "a length is not told");
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse()?;
        }
    }
    let body = head + 4..head + 4 + length;
    let end = body.end;
    Ok(heard.get(body).map(|body| (Request { method, target, body }, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_long_as_is_said() -> Result<()> {
        let text = b"PUT /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyzGET";
        assert!(read(&text[..text.len() - 4])?.is_none());
        let (request, end) = read(text)?.context("it is all there")?;
        assert_eq!((request.method, request.target), ("PUT", "/a?b=c"));
        assert_eq!((request.body, end), (&b"xyz"[..], text.len() - 3));
        assert!(read(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        Ok(())
    }
}
