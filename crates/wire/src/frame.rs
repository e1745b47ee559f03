//! Cutting a stream into messages: a type, a length that counts itself, and a body.

use crate::Error;

/// Bytes of type and length before a body.
pub const HEADER: usize = 5;

/// What the first bytes of a message say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type, one of [`crate::tag`].
    pub tag: u8,
    /// Bytes of the body, after type and length.
    pub body: usize,
}

impl Header {
    /// Bytes of the whole message.
    pub const fn total(self) -> usize {
        HEADER + self.body
    }
}

/// One whole message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type, one of [`crate::tag`].
    pub tag: u8,
    /// What follows the length.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of the whole message.
    pub const fn total(&self) -> usize {
        HEADER + self.body.len()
    }
}

/// The header of the message at the start of `buffer`; `None` when not all of it is there yet.
///
/// Errors when the length is less than its own four bytes, or does not fit the protocol's signed 32 bits.
#[inline]
pub fn header(buffer: &[u8]) -> Result<Option<Header>, Error> {
    let Some(&[tag, a, b, c, d]) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let length = i32::from_be_bytes([a, b, c, d]);
    if length < 4 {
        return Err(Error::Length);
    }
    // It is positive, and a usize has at least 32 bits wherever this runs.
    Ok(Some(Header { tag, body: length as usize - 4 }))
}

/// The whole message at the start of `buffer`; `None` when not all of it is there yet.
///
/// Errors as [`header`] does, and when the body is longer than `limit` bytes, as soon as its length is read: so
/// a reader never needs a buffer longer than `limit` and a header.
#[inline]
pub fn whole(buffer: &[u8], limit: usize) -> Result<Option<Frame<'_>>, Error> {
    let Some(header) = header(buffer)? else { return Ok(None) };
    if header.body > limit {
        return Err(Error::TooLong(header.body));
    }
    Ok(buffer.get(HEADER..header.total()).map(|body| Frame { tag: header.tag, body }))
}
