//! What a client says first, before messages have types.

use crate::Error;
use crate::read::Reader;

/// The longest first packet a server takes (PostgreSQL's MAX_STARTUP_PACKET_LENGTH), in bytes.
pub const MAX_LENGTH: usize = 10_000;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS_ENCRYPTION: u32 = 80_877_104;

/// A version of the protocol, such as 3.0 and 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    /// What clients and servers must agree in.
    pub major: u16,
    /// What can be negotiated.
    pub minor: u16,
}

/// A first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup<'a> {
    /// The client wants TLS; the answer is one byte, `S` or `N`.
    Ssl,
    /// The client wants GSSAPI encryption; the answer is one byte, `G` or `N`.
    GssEncryption,
    /// Somebody wants a query of another connection to be cancelled. No answer.
    Cancel {
        /// The process that the server named to the other connection.
        process: u32,
        /// The secret it named along: 4 bytes in protocol 3.0, up to 256 since 3.2.
        key: &'a [u8],
    },
    /// The client wants a session.
    Session {
        /// The version it asks for.
        version: ProtocolVersion,
        /// user, database, options and settings.
        parameters: Parameters<'a>,
    },
}

/// Names and values of a startup packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters<'a>(&'a [u8]);

impl<'a> Parameters<'a> {
    /// Reads pairs of strings that end with an empty name.
    fn read(mut reader: Reader<'a>) -> Result<Self, Error> {
        let all = reader.rest();
        while !reader.string()?.is_empty() {
            reader.string()?;
        }
        reader.end()?;
        Ok(Self(all))
    }

    /// The pairs in their order.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || {
            let name = reader.string().ok().filter(|name| !name.is_empty())?;
            Some((name, reader.string().ok()?))
        })
    }

    /// The value of a name; of several, the last, as servers do.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter().filter(|(n, _)| *n == name.as_bytes()).last().map(|(_, value)| value)
    }
}

impl<'a> Startup<'a> {
    /// Reads the packet at the start of `buffer`, and its length; `None` when not all of it is there yet.
    pub fn read(buffer: &'a [u8]) -> Result<Option<(Self, usize)>, Error> {
        let mut reader = Reader::new(buffer);
        let Ok(length) = reader.i32() else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| Error::Length)?;
        if length < 8 {
            return Err(Error::Length);
        }
        if length > MAX_LENGTH {
            return Err(Error::TooLong(length));
        }
        let Some(body) = buffer.get(4..length) else { return Ok(None) };
        Ok(Some((Self::read_body(Reader::new(body))?, length)))
    }

    fn read_body(mut body: Reader<'a>) -> Result<Self, Error> {
        match body.u32()? {
            SSL => body.end().map(|()| Self::Ssl),
            GSS_ENCRYPTION => body.end().map(|()| Self::GssEncryption),
            CANCEL => {
                let process = body.u32()?;
                let key = body.rest();
                if !(4..=256).contains(&key.len()) {
                    return Err(Error::Value);
                }
                Ok(Self::Cancel { process, key })
            }
            code => {
                let [a, b, c, d] = code.to_be_bytes();
                let version = ProtocolVersion {
                    major: u16::from_be_bytes([a, b]),
                    minor: u16::from_be_bytes([c, d]),
                };
                // Only of this version is the rest known.
                if version.major != 3 {
                    return Ok(Self::Session { version, parameters: Parameters(&[0]) });
                }
                Ok(Self::Session { version, parameters: Parameters::read(body)? })
            }
        }
    }
}
