//! A client of WebSockets (RFC 6455) that only listens.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::counter::{Counter, now};
use crate::{ready, wrong};

/// Bytes that are read at once.
const ROOM: usize = 256 << 10;

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;

/// Opens a socket for each stakeholder, and counts until one of them ends.
pub(crate) async fn listen(
    address: &str,
    token: &str,
    stakeholders: &[&str],
    counters: &[Arc<Counter>],
) -> io::Result<()> {
    let mut sockets = Vec::new();
    for stakeholder in stakeholders {
        sockets.push(Socket::open(address, token, stakeholder).await?);
    }
    ready()?;
    let mut tasks = JoinSet::new();
    for (socket, counter) in sockets.into_iter().zip(counters) {
        tasks.spawn(socket.count(Arc::clone(counter)));
    }
    match tasks.join_next().await {
        Some(ended) => ended.map_err(io::Error::other)?,
        None => Ok(()),
    }
}

struct Socket {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Socket {
    /// One that has said hello.
    async fn open(address: &str, token: &str, stakeholder: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /api/v1/stakeholders/{stakeholder}/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut socket = Self { stream, heard: Vec::new() };
        let head = loop {
            match memchr::memmem::find(&socket.heard, b"\r\n\r\n") {
                Some(at) => break socket.heard.drain(..at + 4).collect::<Vec<u8>>(),
                None => socket.hear().await?,
            }
        };
        if !head.starts_with(b"HTTP/1.1 101 ") {
            return Err(wrong(String::from_utf8_lossy(&head)));
        }
        loop {
            if let Some(frame) = Frame::first(&socket.heard)? {
                let hello = &socket.heard[frame.start..frame.end];
                if frame.code != TEXT || memchr::memmem::find(hello, br#""hello""#).is_none() {
                    return Err(wrong(format!("no hello: {}", String::from_utf8_lossy(hello))));
                }
                socket.heard.drain(..frame.end);
                return Ok(socket);
            }
            socket.hear().await?;
        }
    }

    /// Counts until it is closed, which is an error.
    async fn count(mut self, counter: Arc<Counter>) -> io::Result<()> {
        loop {
            let (now, mut done) = (now(), 0);
            while let Some(frame) = Frame::first(&self.heard[done..])? {
                let payload = &self.heard[done + frame.start..done + frame.end];
                match frame.code {
                    TEXT => {
                        counter.count(payload, now);
                    }
                    PING => {
                        // What a client says is masked; a mask of zeroes leaves it as it is.
                        let length =
                            u8::try_from(payload.len()).expect("a ping has at most 125 bytes");
                        let pong = [&[0x8a, 0x80 | length, 0, 0, 0, 0], payload].concat();
                        self.stream.write_all(&pong).await?;
                    }
                    CLOSE => {
                        let why = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                        return Err(wrong(format!("closed: {why}")));
                    }
                    code => return Err(wrong(format!("a frame {code:#x}"))),
                }
                done += frame.end;
            }
            self.heard.drain(..done);
            self.hear().await?;
        }
    }

    async fn hear(&mut self) -> io::Result<()> {
        self.heard.reserve(ROOM);
        match self.stream.read_buf(&mut self.heard).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// What it is, and where its payload begins and ends.
#[derive(Debug, PartialEq)]
struct Frame {
    code: u8,
    start: usize,
    end: usize,
}

impl Frame {
    /// The frame that these bytes begin with, if all of it is there.
    fn first(heard: &[u8]) -> io::Result<Option<Self>> {
        let [head, length, rest @ ..] = heard else { return Ok(None) };
        // Whole messages, without extensions, and not masked.
        if head & 0xf0 != 0x80 || length & 0x80 != 0 {
            return Err(wrong(format!("a frame that begins with {head:#x} {length:#x}")));
        }
        let (start, length): (usize, usize) = match length {
            126 => match rest.first_chunk() {
                Some(length) => (4, usize::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => {
                    (10, usize::try_from(u64::from_be_bytes(*length)).map_err(io::Error::other)?)
                }
                None => return Ok(None),
            },
            length => (2, usize::from(*length)),
        };
        let end = start.saturating_add(length);
        if head & 0x0f >= CLOSE && length > 125 {
            return Err(wrong("a control frame that is too long"));
        }
        Ok((end <= heard.len()).then_some(Self { code: head & 0x0f, start, end }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_found() {
        for (length, head) in [
            (5, vec![0x81, 5]),
            (300, vec![0x81, 126, 1, 44]),
            (70_000, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
        ] {
            let start = head.len();
            let mut heard = head;
            heard.resize(start + length, b'x');
            let frame = Frame { code: TEXT, start, end: start + length };
            assert_eq!(Frame::first(&heard).ok(), Some(Some(frame)));
            for cut in [0, 1, start, start + length - 1] {
                assert_eq!(Frame::first(&heard[..cut]).ok(), Some(None));
            }
        }
        for wrong in [[0x01, 5], [0xc1, 5], [0x81, 0x85], [0x89, 126]] {
            assert!(Frame::first(&[&wrong[..], &[1; 20]].concat()).is_err());
        }
    }

    #[tokio::test]
    async fn a_ping_is_answered_and_events_are_counted() -> io::Result<()> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let stream = TcpStream::connect(listener.local_addr()?).await?;
        let (mut server, _) = listener.accept().await?;
        let counter = Counter::new(1);
        let socket = Socket { stream, heard: Vec::new() };
        let counting = tokio::spawn(socket.count(Arc::clone(&counter)));
        let event = br#"{"record":{"id":1,"sent_at":2}}"#;
        server
            .write_all(&[&[0x89, 2], &b"hi"[..], &[0x81, event.len() as u8], event].concat())
            .await?;
        let mut pong = [0; 8];
        server.read_exact(&mut pong).await?;
        assert_eq!(&pong, b"\x8a\x82\0\0\0\0hi");
        counter.done().await;
        server.write_all(b"\x88\x05\x0f\xa0why").await?;
        let ended = counting.await?.map_err(|error| error.to_string());
        assert_eq!(ended, Err("closed: why".to_owned()));
        Ok(())
    }
}
