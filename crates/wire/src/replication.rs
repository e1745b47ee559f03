//! What passes in the CopyData of a replication stream (PostgreSQL manual, "Streaming Replication Protocol").

use crate::read::Reader;
use crate::{Error, Lsn, tag::frontend as tag, write};

/// What a walsender says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream<'a> {
    /// A piece of the stream: with logical replication one message of the output plugin.
    Data {
        /// Where it begins in the WAL.
        start: Lsn,
        /// How far the server has read.
        end: Lsn,
        /// The message.
        data: &'a [u8],
    },
    /// The server lives.
    Keepalive {
        /// All that committed before is sent.
        end: Lsn,
        /// It wants to hear of us now, or will end the connection.
        wants_reply: bool,
    },
}

impl<'a> Stream<'a> {
    /// Reads the body of a CopyData.
    pub fn read(body: &'a [u8]) -> Result<Self, Error> {
        let mut body = Reader::new(body);
        match body.u8()? {
            b'w' => {
                let (start, end) = (Lsn(body.u64()?), Lsn(body.u64()?));
                body.i64()?;
                Ok(Self::Data { start, end, data: body.rest() })
            }
            b'k' => {
                let end = Lsn(body.u64()?);
                body.i64()?;
                let wants_reply = body.u8()? != 0;
                body.end()?;
                Ok(Self::Keepalive { end, wants_reply })
            }
            other => Err(Error::Tag(other)),
        }
    }
}

/// How far a standby is: the positions up to which all is received, and may be forgotten by the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandbyStatus {
    /// Received.
    pub written: Lsn,
    /// Kept safely: the server will not send it again.
    pub flushed: Lsn,
    /// Applied.
    pub applied: Lsn,
    /// The clock, in microseconds since 2000-01-01.
    pub micros: i64,
    /// The server is to answer with a keepalive at once.
    pub wants_reply: bool,
}

impl StandbyStatus {
    /// Appends the message.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        write::header(buffer, tag::COPY_DATA, 34).expect("34 is a length that a message can have");
        buffer.push(b'r');
        for position in [self.written, self.flushed, self.applied] {
            buffer.extend(position.0.to_be_bytes());
        }
        buffer.extend(self.micros.to_be_bytes());
        buffer.push(u8::from(self.wants_reply));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_and_keepalives_are_told_apart() {
        let mut data = b"w".to_vec();
        data.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        data.extend(b"xyz");
        let read = Stream::Data { start: Lsn(1), end: Lsn(2), data: b"xyz" };
        assert_eq!(Stream::read(&data), Ok(read));
        let mut keepalive = b"k".to_vec();
        keepalive.extend([0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let read = Stream::Keepalive { end: Lsn(9), wants_reply: true };
        assert_eq!(Stream::read(&keepalive), Ok(read));
        assert_eq!(Stream::read(&keepalive[..17]), Err(Error::Truncated));
        assert_eq!(Stream::read(b"x"), Err(Error::Tag(b'x')));
    }

    #[test]
    fn a_status_has_the_length_it_says() {
        let mut buffer = Vec::new();
        let status = StandbyStatus { flushed: Lsn(7), wants_reply: true, ..Default::default() };
        status.write(&mut buffer);
        let message = crate::frame::whole(&buffer, 100).expect("valid").expect("whole");
        assert_eq!((message.tag, message.body.len(), buffer.len()), (b'd', 34, 39));
        assert_eq!((message.body[16], message.body[33]), (7, 1));
    }
}
