//! Messages that servers send.

use crate::fields::ErrorFields;
use crate::frame::Frame;
use crate::read::Reader;
use crate::{Error, tag::backend as tag};

/// What a session is in the middle of, as ReadyForQuery says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// In no transaction block.
    Idle,
    /// In a transaction block.
    Active,
    /// In a transaction block that failed: only its end is possible.
    Failed,
}

impl TransactionStatus {
    /// Reads the byte of ReadyForQuery.
    pub const fn read(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::Active),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    /// The byte of ReadyForQuery.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Active => b'T',
            Self::Failed => b'E',
        }
    }
}

/// What a server wants, or says, during authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// All is well.
    Ok,
    /// The password as it is.
    Cleartext,
    /// The password hashed with this salt.
    Md5([u8; 4]),
    /// One of these SASL mechanisms.
    Sasl(Mechanisms<'a>),
    /// The next step of SASL.
    SaslContinue(&'a [u8]),
    /// The last step of SASL.
    SaslFinal(&'a [u8]),
    /// Something else, by its number: Kerberos, GSSAPI, SSPI, SCM.
    Other(u32),
}

/// Names of SASL mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms<'a>(&'a [u8]);

impl<'a> Mechanisms<'a> {
    /// The names in the server's order of preference.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut body = Reader::new(self.0);
        std::iter::from_fn(move || body.string().ok().filter(|name| !name.is_empty()))
    }
}

/// How data of a COPY is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Text, CSV.
    Text,
    /// Binary.
    Binary,
}

/// Values with their lengths before them: a row, or the parameters of a Bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Columns<'a> {
    pub(crate) fn read(body: &mut Reader<'a>) -> Result<Self, Error> {
        let count = body.count()?;
        let bytes = body.rest();
        for _ in 0..count {
            body.value()?;
        }
        Ok(Self { count, bytes })
    }

    /// How many there are.
    pub const fn len(self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The values; NULL is `None`.
    pub fn iter(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut body = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| body.value().ok())
    }
}

/// OIDs of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oids<'a>(&'a [u8]);

impl<'a> Oids<'a> {
    pub(crate) fn read(body: &mut Reader<'a>) -> Result<Self, Error> {
        let count = body.count()?;
        Self::take(body, count)
    }

    pub(crate) fn take(body: &mut Reader<'a>, count: usize) -> Result<Self, Error> {
        body.bytes(count.checked_mul(4).ok_or(Error::Value)?).map(Self)
    }

    /// The OIDs.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let mut body = Reader::new(self.0);
        std::iter::from_fn(move || body.u32().ok())
    }

    /// The OIDs as they came, four bytes each.
    pub const fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// A message of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend<'a> {
    /// A step of authentication.
    Authentication(Authentication<'a>),
    /// What cancels a query of this session.
    BackendKeyData {
        /// The process.
        process: u32,
        /// The secret: 4 bytes in protocol 3.0, up to 256 since 3.2.
        key: &'a [u8],
    },
    /// A portal is made.
    BindComplete,
    /// Something is forgotten.
    CloseComplete,
    /// A statement is done; the tag says which and how many rows.
    CommandComplete(&'a [u8]),
    /// Data goes both ways; only in replication.
    CopyBoth,
    /// Data of a COPY.
    CopyData(&'a [u8]),
    /// The end of a COPY.
    CopyDone,
    /// The server waits for data.
    CopyIn(CopyFormat),
    /// Data will follow.
    CopyOut(CopyFormat),
    /// A row.
    DataRow(Columns<'a>),
    /// The text had no statement in it.
    EmptyQuery,
    /// A failure.
    Error(ErrorFields<'a>),
    /// The result of a function called the old way.
    FunctionCall(Option<&'a [u8]>),
    /// The server speaks an older minor version, or does not know some options.
    NegotiateVersion {
        /// The newest minor version it speaks.
        minor: u32,
    },
    /// What was asked about returns no rows.
    NoData,
    /// A warning or a note.
    Notice(ErrorFields<'a>),
    /// A NOTIFY.
    Notification {
        /// The process that sent it.
        process: u32,
        /// Its channel.
        channel: &'a [u8],
        /// Its payload.
        payload: &'a [u8],
    },
    /// The types of a statement's parameters.
    ParameterDescription(Oids<'a>),
    /// A setting that servers report, and its value now.
    ParameterStatus(&'a [u8], &'a [u8]),
    /// A statement is prepared.
    ParseComplete,
    /// The row limit is reached.
    PortalSuspended,
    /// The session waits for the next query.
    Ready(TransactionStatus),
    /// The columns of the rows to come, as they came.
    RowDescription(&'a [u8]),
}

impl<'a> Backend<'a> {
    /// Reads a message. Errors when the type is none of a server's, or the body is not what it should be.
    pub fn read(frame: Frame<'a>) -> Result<Self, Error> {
        let mut body = Reader::new(frame.body);
        let message = match frame.tag {
            tag::AUTHENTICATION => return authentication(body).map(Self::Authentication),
            tag::BACKEND_KEY_DATA => {
                let (process, key) = (body.u32()?, body.rest());
                if !(4..=256).contains(&key.len()) {
                    return Err(Error::Value);
                }
                return Ok(Self::BackendKeyData { process, key });
            }
            tag::BIND_COMPLETE => Self::BindComplete,
            tag::CLOSE_COMPLETE => Self::CloseComplete,
            tag::COMMAND_COMPLETE => Self::CommandComplete(body.string()?),
            tag::COPY_BOTH => return copy_format(body).map(|_| Self::CopyBoth),
            tag::COPY_DATA => return Ok(Self::CopyData(frame.body)),
            tag::COPY_DONE => Self::CopyDone,
            tag::COPY_IN => return copy_format(body).map(Self::CopyIn),
            tag::COPY_OUT => return copy_format(body).map(Self::CopyOut),
            tag::DATA_ROW => Self::DataRow(Columns::read(&mut body)?),
            tag::EMPTY_QUERY => Self::EmptyQuery,
            tag::ERROR => return ErrorFields::read(body).map(Self::Error),
            tag::FUNCTION_CALL => Self::FunctionCall(body.value()?),
            tag::NEGOTIATE_VERSION => {
                let minor = body.u32()?;
                for _ in 0..body.u32()? {
                    body.string()?;
                }
                Self::NegotiateVersion { minor }
            }
            tag::NO_DATA => Self::NoData,
            tag::NOTICE => return ErrorFields::read(body).map(Self::Notice),
            tag::NOTIFICATION => Self::Notification {
                process: body.u32()?,
                channel: body.string()?,
                payload: body.string()?,
            },
            tag::PARAMETER_DESCRIPTION => Self::ParameterDescription(Oids::read(&mut body)?),
            tag::PARAMETER_STATUS => Self::ParameterStatus(body.string()?, body.string()?),
            tag::PARSE_COMPLETE => Self::ParseComplete,
            tag::PORTAL_SUSPENDED => Self::PortalSuspended,
            tag::READY => Self::Ready(TransactionStatus::read(body.u8()?).ok_or(Error::Value)?),
            tag::ROW_DESCRIPTION => {
                for _ in 0..body.count()? {
                    body.string()?;
                    // Table, column, type, its length and modifier, format.
                    body.bytes(18)?;
                }
                body.end()?;
                return Ok(Self::RowDescription(frame.body));
            }
            other => return Err(Error::Tag(other)),
        };
        body.end()?;
        Ok(message)
    }
}

fn authentication(mut body: Reader<'_>) -> Result<Authentication<'_>, Error> {
    let message = match body.u32()? {
        0 => Authentication::Ok,
        3 => Authentication::Cleartext,
        5 => {
            let salt = body.bytes(4)?;
            Authentication::Md5(salt.try_into().map_err(|_| Error::Truncated)?)
        }
        10 => {
            let names = body.rest();
            while !body.string()?.is_empty() {}
            Authentication::Sasl(Mechanisms(names))
        }
        11 => return Ok(Authentication::SaslContinue(body.rest())),
        12 => return Ok(Authentication::SaslFinal(body.rest())),
        other => return Ok(Authentication::Other(other)),
    };
    body.end()?;
    Ok(message)
}

fn copy_format(mut body: Reader<'_>) -> Result<CopyFormat, Error> {
    let format = match body.u8()? {
        0 => CopyFormat::Text,
        1 => CopyFormat::Binary,
        _ => return Err(Error::Value),
    };
    let columns = body.count()?;
    body.bytes(columns * 2)?;
    body.end()?;
    Ok(format)
}
