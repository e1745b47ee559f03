//! The fields of errors and notices (PostgreSQL manual, "Error and Notice Message Fields").

use crate::Error;
use crate::read::Reader;

/// Which field of an error or notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorField(pub u8);

impl ErrorField {
    /// ERROR, FATAL, WARNING…, in the server's language.
    pub const SEVERITY: Self = Self(b'S');
    /// The same, never translated.
    pub const SEVERITY_NONLOCALIZED: Self = Self(b'V');
    /// SQLSTATE
    pub const CODE: Self = Self(b'C');
    /// What is wrong.
    pub const MESSAGE: Self = Self(b'M');
    /// More about it.
    pub const DETAIL: Self = Self(b'D');
    /// What to do.
    pub const HINT: Self = Self(b'H');
    /// The function in the server's source that found it.
    pub const ROUTINE: Self = Self(b'R');
}

/// The fields of an error or notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorFields<'a>(&'a [u8]);

impl<'a> ErrorFields<'a> {
    pub(crate) fn read(mut body: Reader<'a>) -> Result<Self, Error> {
        let all = body.rest();
        while body.u8()? != 0 {
            body.string()?;
        }
        body.end()?;
        Ok(Self(all))
    }

    /// The fields in their order.
    pub fn iter(self) -> impl Iterator<Item = (ErrorField, &'a [u8])> {
        let mut body = Reader::new(self.0);
        std::iter::from_fn(move || {
            let kind = body.u8().ok().filter(|kind| *kind != 0)?;
            Some((ErrorField(kind), body.string().ok()?))
        })
    }

    /// The value of a field.
    pub fn get(self, field: ErrorField) -> Option<&'a [u8]> {
        self.iter().find(|(f, _)| *f == field).map(|(_, value)| value)
    }
}
