//! Messages that clients send once a session has begun.

use crate::backend::Oids;
use crate::frame::Frame;
use crate::read::Reader;
use crate::{Columns, Error, tag::frontend as tag};

/// What Describe and Close speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

impl Target {
    /// The byte that stands for it.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Statement => b'S',
            Self::Portal => b'P',
        }
    }
}

/// A message of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frontend<'a> {
    /// Statements in one text, to be run at once.
    Query(&'a [u8]),
    /// A statement to prepare.
    Parse {
        /// Its name; the empty one is replaced without asking.
        name: &'a [u8],
        /// Its text.
        text: &'a [u8],
        /// The types of its first parameters; 0 leaves one to the server.
        types: Oids<'a>,
    },
    /// A portal to make of a statement.
    Bind(Bind<'a>),
    /// A question for the shape of something.
    Describe(Target, &'a [u8]),
    /// A portal to run.
    Execute {
        /// Its name.
        portal: &'a [u8],
        /// Rows after which to stop; 0 is no limit.
        max_rows: i32,
    },
    /// Something to forget.
    Close(Target, &'a [u8]),
    /// Answers are wanted now.
    Flush,
    /// The end of a batch.
    Sync,
    /// A call of a function by its OID, by the old way.
    FunctionCall(&'a [u8]),
    /// Data of a COPY.
    CopyData(&'a [u8]),
    /// The end of a COPY.
    CopyDone,
    /// The failure of a COPY, and why.
    CopyFail(&'a [u8]),
    /// An answer during authentication.
    Password(&'a [u8]),
    /// Goodbye.
    Terminate,
}

/// A Bind message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal to make.
    pub portal: &'a [u8],
    /// The statement to make it of.
    pub statement: &'a [u8],
    /// All after the two names: formats and values of parameters, formats of results.
    pub rest: &'a [u8],
    /// The formats of the parameters, two bytes each: none for all in text, one for all, or one for each.
    pub value_formats: &'a [u8],
    /// The values of the parameters.
    pub values: Columns<'a>,
    /// The formats of the results, two bytes each.
    pub result_formats: &'a [u8],
}

/// The portal and the statement that a Bind names, and how many bytes they take, of a body that may not be
/// there to its end yet; `None` when not even the names are.
pub fn bind_names(body: &[u8]) -> Option<(&[u8], &[u8], usize)> {
    let mut reader = Reader::new(body);
    let portal = reader.string().ok()?;
    let statement = reader.string().ok()?;
    Some((portal, statement, body.len() - reader.rest().len()))
}

impl<'a> Frontend<'a> {
    /// Reads a message. Errors when the type is none of a client's, or the body is not what it should be.
    pub fn read(frame: Frame<'a>) -> Result<Self, Error> {
        let mut body = Reader::new(frame.body);
        let message = match frame.tag {
            tag::QUERY => Self::Query(body.string()?),
            tag::PARSE => {
                let (name, text) = (body.string()?, body.string()?);
                Self::Parse { name, text, types: Oids::read(&mut body)? }
            }
            tag::BIND => return Bind::read(body).map(Self::Bind),
            tag::DESCRIBE => Self::Describe(target(&mut body)?, body.string()?),
            tag::CLOSE => Self::Close(target(&mut body)?, body.string()?),
            tag::EXECUTE => Self::Execute { portal: body.string()?, max_rows: body.i32()? },
            tag::FLUSH => Self::Flush,
            tag::SYNC => Self::Sync,
            tag::FUNCTION_CALL => return Ok(Self::FunctionCall(frame.body)),
            tag::COPY_DATA => return Ok(Self::CopyData(frame.body)),
            tag::COPY_DONE => Self::CopyDone,
            tag::COPY_FAIL => Self::CopyFail(body.string()?),
            tag::PASSWORD => return Ok(Self::Password(frame.body)),
            tag::TERMINATE => Self::Terminate,
            other => return Err(Error::Tag(other)),
        };
        body.end()?;
        Ok(message)
    }
}

fn target(body: &mut Reader<'_>) -> Result<Target, Error> {
    match body.u8()? {
        b'S' => Ok(Target::Statement),
        b'P' => Ok(Target::Portal),
        _ => Err(Error::Value),
    }
}

impl<'a> Bind<'a> {
    fn read(mut body: Reader<'a>) -> Result<Self, Error> {
        let (portal, statement) = (body.string()?, body.string()?);
        let rest = body.rest();
        let formats = body.count()?;
        let value_formats = body.bytes(formats * 2)?;
        let values = Columns::read(&mut body)?;
        let results = body.count()?;
        let result_formats = body.bytes(results * 2)?;
        body.end()?;
        Ok(Self { portal, statement, rest, value_formats, values, result_formats })
    }

    /// Whether the value at this position is in binary.
    pub fn is_binary(&self, position: usize) -> bool {
        let at = if self.value_formats.len() == 2 { 0 } else { position * 2 };
        self.value_formats.get(at..at + 2) == Some(&[0, 1])
    }
}
