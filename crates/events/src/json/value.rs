//! How the values of a type are written.

use std::sync::Arc;

use super::array::Array;
use super::record::Record;
use super::{ValueError, hstore, scalar, time, write_string};

/// How the values of a type are written as JSON. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JsonType(Kind);

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Text,
    /// A string, though a cast of the type's own would give other JSON.
    Opaque,
    Bool,
    Number,
    /// Embedded as it is.
    Json,
    Date,
    Timestamp,
    TimestampTz,
    /// int2vector
    NumberVector,
    /// oidvector
    TextVector,
    Hstore,
    Array(Arc<Array>),
    Record(Arc<Record>),
}

impl JsonType {
    /// A JSON string of the text itself, for types of which nothing is known. Writing never fails.
    pub const TEXT: Self = Self(Kind::Text);

    /// Appends the JSON of a value's text. Fails only if the text is not what the type writes, and then appends
    /// nothing.
    ///
    /// A value of type json is embedded as it was stored, with its white space. So a line feed or carriage return in what
    /// is appended is one between tokens, where a space means the same.
    pub fn write(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        let before = out.len();
        self.append(text, out).inspect_err(|_| out.truncate(before))
    }

    /// Whether `to_json` would give other JSON for some values: the type, or one that it is made of, has a cast to json,
    /// which can't be told from the text. What is written instead is a string.
    pub fn is_approximate(&self) -> bool {
        match &self.0 {
            Kind::Opaque => true,
            Kind::Array(array) => array.element().is_approximate(),
            Kind::Record(record) => record.types().any(Self::is_approximate),
            _ => false,
        }
    }

    /// How many arrays and rows are inside one another.
    pub(super) fn depth(&self) -> usize {
        match &self.0 {
            Kind::Array(array) => array.depth(),
            Kind::Record(record) => record.depth(),
            _ => 0,
        }
    }

    /// Like `write`, but leaves what was appended before an error.
    pub(super) fn append(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
        match &self.0 {
            Kind::Text | Kind::Opaque => {
                write_string(text, out);
                Ok(())
            }
            Kind::Bool => scalar::write_bool(text, out),
            Kind::Number => scalar::write_number(text, out),
            Kind::Json => {
                out.extend_from_slice(text);
                Ok(())
            }
            Kind::Date => time::write_date(text, out),
            Kind::Timestamp => time::write_timestamp(text, false, out),
            Kind::TimestampTz => time::write_timestamp(text, true, out),
            Kind::NumberVector => scalar::write_vector(text, out, scalar::write_number),
            Kind::TextVector => scalar::write_vector(text, out, |part, out| {
                write_string(part, out);
                Ok(())
            }),
            Kind::Hstore => hstore::write(text, out),
            Kind::Array(array) => array.write(text, out),
            Kind::Record(record) => record.write(text, out),
        }
    }
}

impl From<Kind> for JsonType {
    fn from(kind: Kind) -> Self {
        Self(kind)
    }
}
