//! Byte queues that hold no memory while they are empty: a client that waits costs no buffer.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::stream::Stream;

/// Bytes of a buffer as it is taken from the thread's store.
const SIZE: usize = 16 << 10;

/// The most that is made room for of what is announced and not there.
const AT_ONCE: usize = 1 << 20;

/// Buffers that a thread keeps for the next to come; beyond, they are given back to the allocator.
const KEPT: usize = 64;

thread_local! {
    static STORE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn take() -> Vec<u8> {
    STORE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(SIZE))
}

fn give_back(mut bytes: Vec<u8>) {
    if bytes.capacity() == SIZE {
        bytes.clear();
        STORE.with_borrow_mut(|store| {
            if store.len() < KEPT {
                store.push(bytes);
            }
        });
    }
}

/// Bytes that came in at the end and go out at the start.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    /// A stream with TLS took bytes and may not have sent them yet.
    unflushed: bool,
}

impl Buffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Forgets the first bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.bytes.len());
        if self.is_empty() {
            self.reset();
        }
    }

    /// Appends; the buffer takes memory now, at the latest.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.tail().extend_from_slice(bytes);
        }
    }

    /// The end, for functions that append.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = take();
        }
        &mut self.bytes
    }

    /// Moves all of `other` to the end of this one, without copying where this one is empty.
    pub(crate) fn append_all(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, other);
        } else {
            self.append(other.filled());
        }
        other.reset();
    }

    /// Gives the memory back when nothing is in it.
    pub(crate) fn reset(&mut self) {
        self.start = 0;
        if self.bytes.capacity() > 0 {
            give_back(std::mem::take(&mut self.bytes));
        }
    }

    /// Makes room for a message of `total` bytes that has begun, so that few reads complete it.
    pub(crate) fn expect(&mut self, total: usize) {
        if self.start > 0 {
            let start = std::mem::take(&mut self.start);
            self.tail().drain(..start);
        }
        // An announced length is no byte yet: who announces much and sends nothing gets no memory for it.
        let missing = total.saturating_sub(self.len()).min(AT_ONCE);
        self.tail().reserve(missing);
    }

    /// Reads once, what is there and fits; 0 is the end of the stream. See [`Stream::poll_fill`].
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        is_awaited: bool,
    ) -> Poll<io::Result<usize>> {
        let read = stream.poll_fill(cx, is_awaited, || {
            if self.tail().len() == self.tail().capacity() {
                self.expect(self.len() + SIZE);
            }
            self.tail()
        });
        if self.is_empty() {
            self.reset();
        }
        read
    }

    /// Whether nothing is left to be written or flushed.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_empty() && !self.unflushed
    }

    /// Writes as much as the stream takes; ready when all is written and flushed.
    pub(crate) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, self.filled()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    self.unflushed = true;
                    self.consume(count);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.unflushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, waiting for it.
    pub(crate) async fn fill(&mut self, stream: &mut Stream) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx, stream, false)).await
    }

    /// Writes all, waiting for it.
    pub(crate) async fn drain(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_drain(cx, stream)).await
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.capacity() > 0 {
            give_back(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_buffer_holds_no_memory() {
        let mut buffer = Buffer::default();
        buffer.append(b"abc");
        buffer.consume(2);
        assert_eq!(buffer.filled(), b"c");
        buffer.consume(1);
        assert_eq!(buffer.bytes.capacity(), 0);
    }

    #[test]
    fn all_is_moved_in_order() {
        let (mut first, mut second) = (Buffer::default(), Buffer::default());
        second.append(b"ab");
        first.append_all(&mut second);
        second.append(b"cd");
        first.append_all(&mut second);
        assert_eq!(first.filled(), b"abcd");
        assert!(second.is_empty() && second.bytes.capacity() == 0);
    }

    #[tokio::test]
    async fn a_message_longer_than_a_buffer_is_read_whole() {
        let text = vec![7; 100_000];
        let (ours, mut theirs) = tokio::net::UnixStream::pair().expect("sockets can be made");
        let mut stream = Stream::Unix(ours);
        let mut buffer = Buffer::default();
        let sent = async {
            tokio::io::AsyncWriteExt::write_all(&mut theirs, &text).await.expect("somebody reads");
            drop(theirs);
        };
        let read = async { while buffer.fill(&mut stream).await.expect("it can be read") > 0 {} };
        tokio::join!(sent, read);
        assert_eq!(buffer.filled(), &text[..]);
    }
}
