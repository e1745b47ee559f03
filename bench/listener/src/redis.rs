//! A reader of a Redis stream, by the protocol RESP2.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::counter::{Counter, now};
use crate::{ready, wrong};

/// Bytes that are read at once.
const ROOM: usize = 256 << 10;

/// Entries that are asked for at once.
const COUNT: &str = "1000";

/// Reads what is added to the stream from now on, for ever.
pub(crate) async fn read(address: &str, key: &str, counter: &Counter) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut heard = Vec::new();
    ask(&mut stream, &["XREVRANGE", key, "+", "-", "COUNT", "1"]).await?;
    let mut last = "0-0".to_owned();
    hear(&mut stream, &mut heard, |reply| reply.entries(&mut last)).await?;
    ready()?;
    loop {
        // It waits where there is nothing, but not for ever, so that a Redis that is gone is noticed.
        let command = ["XREAD", "COUNT", COUNT, "BLOCK", "1000", "STREAMS", key, &last];
        ask(&mut stream, &command).await?;
        hear(&mut stream, &mut heard, |reply| reply.streams(&mut last)).await?;
        counter.count(&heard, now());
    }
}

async fn ask(stream: &mut TcpStream, words: &[&str]) -> io::Result<()> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(command.as_bytes()).await
}

/// Waits for an answer that can be read to its end; `heard` has its bytes and no others.
async fn hear(
    stream: &mut TcpStream,
    heard: &mut Vec<u8>,
    mut read: impl FnMut(&mut Reply<'_>) -> io::Result<()>,
) -> io::Result<()> {
    heard.clear();
    loop {
        heard.reserve(ROOM);
        if stream.read_buf(heard).await? == 0 {
            return Err(wrong("Redis has closed the connection"));
        }
        match read(&mut Reply { rest: heard }) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            done => return done,
        }
    }
}

/// What is left of an answer. Reading beyond what is there is an `UnexpectedEof`.
struct Reply<'a> {
    rest: &'a [u8],
}

impl<'a> Reply<'a> {
    /// A list of streams, of which each is a list of its name and its entries.
    fn streams(&mut self, last: &mut String) -> io::Result<()> {
        for _ in 0..self.list()? {
            self.list()?;
            self.text()?;
            self.entries(last)?;
        }
        Ok(())
    }

    /// A list of entries, of which each is a list of its id and a list of its fields. `last` becomes the last id.
    fn entries(&mut self, last: &mut String) -> io::Result<()> {
        let mut found = None;
        for _ in 0..self.list()? {
            self.list()?;
            found = Some(self.text()?);
            for _ in 0..self.list()? {
                self.text()?;
            }
        }
        if let Some(id) = found {
            *last = String::from_utf8_lossy(id).into_owned();
        }
        Ok(())
    }

    /// How many follow; none for a list that is null.
    fn list(&mut self) -> io::Result<usize> {
        Ok(self.number(b'*')?.unwrap_or(0))
    }

    fn text(&mut self) -> io::Result<&'a [u8]> {
        let length = self.number(b'$')?.unwrap_or(0);
        let (text, rest) =
            self.rest.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.rest = rest.get(2..).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(text)
    }

    /// The number of a line that begins with this; `None` if it is below 0, which is null.
    fn number(&mut self, kind: u8) -> io::Result<Option<usize>> {
        let end = memchr::memmem::find(self.rest, b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let (line, rest) = (&self.rest[..end], &self.rest[end + 2..]);
        let number = line.strip_prefix(&[kind]).and_then(|number| std::str::from_utf8(number).ok());
        let number: i64 = number
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| wrong(format!("Redis answers {}", String::from_utf8_lossy(line))))?;
        self.rest = rest;
        Ok(usize::try_from(number).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_only_when_all_of_it_is_there() {
        let answer = b"*1\r\n*2\r\n$1\r\nk\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\na\r\n$0\r\n\r\n*2\r\n$3\r\n2-7\r\n*0\r\n";
        let read = |bytes: &[u8]| {
            let mut last = "0-0".to_owned();
            Reply { rest: bytes }.streams(&mut last).map(|()| last)
        };
        assert_eq!(read(answer).ok().as_deref(), Some("2-7"));
        for cut in 0..answer.len() {
            let error = read(&answer[..cut]).expect_err("it is cut");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert_eq!(read(b"*-1\r\n").ok().as_deref(), Some("0-0"));
        assert!(read(b"-ERR no\r\n").is_err_and(|error| error.to_string().contains("ERR no")));
    }
}
