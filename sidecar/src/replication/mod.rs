//! The third entrance: an origin's committed transactions, in the order of their commits.
//!
//! A [`Reader`] keeps two connections to one origin. Over one it follows a logical replication slot, and hands what
//! comes to its [`Sink`]s; over the other it asks how far the origin is by now, which tells how old what was
//! delivered may be. Whatever breaks, it begins again, and tells the sinks what they can no longer rely on.
//!
//! - `reader` is its life: connect, follow, and again; `link` connects, `slot` sees to slot and publication.
//! - `stream` moves bytes and reports the position; `deliver` calls the sinks; `relation` remembers tables' shapes.
//! - `sql` asks the origin, for the reader and for others; `probe` and `progress` keep how fresh all is; `status` is
//!   what people see.
//!
//! Invariants, tested in `tests/tests/replication.rs`:
//! - Between `connected` and `disconnected` a sink gets each transaction that committed after `Connected::start`
//!   once, whole and in order. A transaction without its commit at `disconnected` never was; it comes again.
//! - Nothing is confirmed to the origin that some sink does not call confirmable.
//! - Memory holds one message and the shapes of tables, however long a transaction is.

mod deliver;
mod error;
mod link;
mod probe;
mod progress;
mod reader;
mod relation;
mod settings;
mod sink;
mod slot;
mod sql;
mod status;
mod stream;

pub use error::{ReplicationError, SqlError};
pub use integratedb_wire::Lsn;
pub use integratedb_wire::pgoutput::{Change, LogicalMessage, Old, Row, Truncate, Value};
pub(crate) use link::{identifier, literal};
pub use progress::Progress;
pub use reader::Reader;
pub use relation::{Column, Relation, ReplicaIdentity};
pub use settings::{ReaderSettings, Slot};
pub(crate) use sink::MESSAGE_PREFIX;
pub use sink::{Begin, Commit, Connected, PgTime, Sink};
pub use sql::{Probe, Published, Rows, Sql};
pub use status::{State, Status, render};
