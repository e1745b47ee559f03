//! What the output plugin pgoutput says (PostgreSQL manual, "Logical Replication Message Formats"), in version 1 of
//! its protocol: transactions come whole and in the order of their commits.
//!
//! A message is checked to its end when it is read, so going through its values can't fail afterwards.

use crate::read::Reader;
use crate::{Error, Lsn, Oids};

/// The start of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Where its commit is.
    pub final_lsn: Lsn,
    /// When it committed, in microseconds since 2000-01-01.
    pub micros: i64,
    /// The lower 32 bits of its id. Subtransactions come under this one.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Where the commit is.
    pub commit_lsn: Lsn,
    /// Where the commit ends.
    pub end_lsn: Lsn,
    /// When it committed, in microseconds since 2000-01-01.
    pub micros: i64,
}

/// The shape of a table, told before its first change and after each change of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The table.
    pub oid: u32,
    /// Its schema; empty for pg_catalog.
    pub schema: &'a [u8],
    /// Its name.
    pub name: &'a [u8],
    /// pg_class.relreplident.
    pub identity: u8,
    /// Its published columns.
    pub columns: Columns<'a>,
}

/// The columns of a table, without those that were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns<'a> {
    count: usize,
    bytes: &'a [u8],
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Whether it is part of the replica identity.
    pub is_key: bool,
    /// Its name.
    pub name: &'a [u8],
    /// Its type.
    pub type_oid: u32,
    /// pg_attribute.atttypmod.
    pub modifier: i32,
}

impl<'a> Columns<'a> {
    fn read(body: &mut Reader<'a>) -> Result<Self, Error> {
        let count = body.count()?;
        let bytes = body.rest();
        for _ in 0..count {
            Column::read(body)?;
        }
        Ok(Self { count, bytes })
    }

    /// The columns in the order that rows have.
    pub fn iter(self) -> impl Iterator<Item = Column<'a>> {
        let mut body = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| Column::read(&mut body).ok())
    }
}

impl<'a> Column<'a> {
    fn read(body: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self {
            is_key: body.u8()? & 1 != 0,
            name: body.string()?,
            type_oid: body.u32()?,
            modifier: body.i32()?,
        })
    }
}

/// A column's value in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// NULL; in an old key also whatever is not part of the key.
    Null,
    /// A large value that the UPDATE left as it was, and that is not in the WAL.
    Unchanged,
    /// The value as its type writes it.
    Text(&'a [u8]),
    /// The value in its type's binary form; only when that was asked for.
    Binary(&'a [u8]),
}

/// A row: a value for each of the relation's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Row<'a> {
    fn read(body: &mut Reader<'a>) -> Result<Self, Error> {
        let count = body.count()?;
        let bytes = body.rest();
        for _ in 0..count {
            Value::read(body)?;
        }
        Ok(Self { count, bytes })
    }

    /// How many values it has.
    pub const fn len(self) -> usize {
        self.count
    }

    /// Whether it has none: a table may have no column.
    pub const fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The values in the order of the relation's columns.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let mut body = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| Value::read(&mut body).ok())
    }
}

impl<'a> Value<'a> {
    fn read(body: &mut Reader<'a>) -> Result<Self, Error> {
        match body.u8()? {
            b'n' => Ok(Self::Null),
            b'u' => Ok(Self::Unchanged),
            b't' => body.value()?.map(Self::Text).ok_or(Error::Value),
            b'b' => body.value()?.map(Self::Binary).ok_or(Error::Value),
            _ => Err(Error::Value),
        }
    }
}

/// What a row was before it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old<'a> {
    /// The columns of the replica identity; the others are [`Value::Null`].
    Key(Row<'a>),
    /// All columns: the replica identity is full.
    Row(Row<'a>),
}

/// A change of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// A new row.
    Insert {
        /// The row.
        new: Row<'a>,
    },
    /// A changed row.
    Update {
        /// What it was: there only if the replica identity is full, or the key changed.
        old: Option<Old<'a>>,
        /// What it is.
        new: Row<'a>,
    },
    /// A row that is gone.
    Delete {
        /// What it was.
        old: Old<'a>,
    },
}

/// A message that somebody put into the WAL (pg_logical_emit_message).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// Whether it belongs to the transaction it comes in, or to none.
    pub transactional: bool,
    /// Where it is.
    pub lsn: Lsn,
    /// Whose it is.
    pub prefix: &'a [u8],
    /// What it says.
    pub content: &'a [u8],
}

/// What is emptied along with the tables of a TRUNCATE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truncate {
    /// Tables that refer to them were emptied too.
    pub cascade: bool,
    /// Their sequences begin anew.
    pub restart_identity: bool,
}

/// A message of pgoutput.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The start of a transaction.
    Begin(Begin),
    /// The end of a transaction.
    Commit(Commit),
    /// The transaction came from another server.
    Origin,
    /// The shape of a table.
    Relation(Relation<'a>),
    /// The name of a type that is not built in.
    Type,
    /// A change of a row in this table.
    Change(u32, Change<'a>),
    /// These tables were emptied.
    Truncate(Oids<'a>, Truncate),
    /// A message of somebody.
    Logical(LogicalMessage<'a>),
}

impl<'a> Message<'a> {
    /// Reads a message. Errors when its type is none of version 1, or its body is not what it should be.
    pub fn read(data: &'a [u8]) -> Result<Self, Error> {
        let mut body = Reader::new(data);
        let message = match body.u8()? {
            b'B' => Self::Begin(Begin {
                final_lsn: Lsn(body.u64()?),
                micros: body.i64()?,
                xid: body.u32()?,
            }),
            b'C' => {
                // Flags, none of which has a meaning yet.
                body.u8()?;
                Self::Commit(Commit {
                    commit_lsn: Lsn(body.u64()?),
                    end_lsn: Lsn(body.u64()?),
                    micros: body.i64()?,
                })
            }
            b'O' => {
                body.u64()?;
                body.string()?;
                Self::Origin
            }
            b'R' => Self::Relation(Relation {
                oid: body.u32()?,
                schema: body.string()?,
                name: body.string()?,
                identity: body.u8()?,
                columns: Columns::read(&mut body)?,
            }),
            b'Y' => {
                body.u32()?;
                body.string()?;
                body.string()?;
                Self::Type
            }
            b'I' => {
                let relation = body.u32()?;
                match body.u8()? {
                    b'N' => Self::Change(relation, Change::Insert { new: Row::read(&mut body)? }),
                    _ => return Err(Error::Value),
                }
            }
            b'U' => {
                let relation = body.u32()?;
                let mut kind = body.u8()?;
                let old = old(kind, &mut body)?;
                if old.is_some() {
                    kind = body.u8()?;
                }
                if kind != b'N' {
                    return Err(Error::Value);
                }
                Self::Change(relation, Change::Update { old, new: Row::read(&mut body)? })
            }
            b'D' => {
                let relation = body.u32()?;
                let kind = body.u8()?;
                let old = old(kind, &mut body)?.ok_or(Error::Value)?;
                Self::Change(relation, Change::Delete { old })
            }
            b'T' => {
                let count = usize::try_from(body.i32()?).map_err(|_| Error::Value)?;
                let flags = body.u8()?;
                let options =
                    Truncate { cascade: flags & 1 != 0, restart_identity: flags & 2 != 0 };
                Self::Truncate(Oids::take(&mut body, count)?, options)
            }
            b'M' => {
                let transactional = body.u8()? & 1 != 0;
                let (lsn, prefix) = (Lsn(body.u64()?), body.string()?);
                let content = body.value()?.ok_or(Error::Value)?;
                Self::Logical(LogicalMessage { transactional, lsn, prefix, content })
            }
            other => return Err(Error::Tag(other)),
        };
        body.end()?;
        Ok(message)
    }
}

fn old<'a>(kind: u8, body: &mut Reader<'a>) -> Result<Option<Old<'a>>, Error> {
    Ok(match kind {
        b'K' => Some(Old::Key(Row::read(body)?)),
        b'O' => Some(Old::Row(Row::read(body)?)),
        _ => None,
    })
}
