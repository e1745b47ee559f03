//! The Postgres protocol, version 3 (PostgreSQL manual, "Frontend/Backend Protocol"), as messages borrowed from
//! the bytes they came in, and as functions that append messages to a buffer.
//!
//! No I/O, no allocation while reading. Whatever bytes come in, reading ends with a message or an [`Error`]:
//! nothing panics, and a length is believed only up to the limit the caller gives.
//!
//! A stream is read in two steps: [`frame`] cuts it into messages (or says how much of one is there, so that a
//! large one can be passed on piece by piece), and [`Frontend`], [`Backend`] and [`Startup`] read what is in one.
//! [`replication`] and [`pgoutput`] read what is in a CopyData of a replication stream.

mod backend;
mod error;
mod fields;
pub mod frame;
mod frontend;
mod lsn;
pub mod pgoutput;
mod read;
pub mod replication;
mod startup;
pub mod tag;
pub mod write;

pub use backend::{
    Authentication, Backend, Columns, CopyFormat, Mechanisms, Oids, TransactionStatus,
};
pub use error::Error;
pub use fields::{ErrorField, ErrorFields};
pub use frontend::{Bind, Frontend, Target, bind_names};
pub use lsn::{Lsn, LsnError};
pub use startup::{MAX_LENGTH as MAX_STARTUP_LENGTH, Parameters, ProtocolVersion, Startup};
