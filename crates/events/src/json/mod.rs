//! The JSON of a value: from its text, as the type's output function writes it, to what `to_json(value)::text` gives.
//!
//! The text has to come from a session with DateStyle ISO, IntervalStyle postgres, TimeZone UTC, bytea_output hex,
//! extra_float_digits 3 and client_encoding UTF8; the JSON is that of a session with the same settings. Both are equal
//! to the byte (`json.c` of PostgreSQL decides), but for types that have a cast to json of their own: see
//! [`JsonType::is_approximate`].
//!
//! [`Types`] knows the types that every server has. All others are read from the catalog with [`Types::query`] and
//! handed to [`Types::learn`]. A [`JsonType`] then writes values without looking anything up.

mod array;
mod builtin;
mod catalog;
mod error;
mod hstore;
mod quoted;
mod record;
mod scalar;
mod string;
mod time;
mod value;

pub use catalog::Types;
pub use error::{TypesError, ValueError};
pub use string::write_string;
pub use value::JsonType;
