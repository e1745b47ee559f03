//! The cache's rules, without sockets, SQL or clocks of its own.
//!
//! [`Store`] holds entries: answers, each with the snapshot it was read at and what it depends on. One reader of
//! the origin's log applies transactions to it, which drop what they make stale; sessions look up, and fill what
//! is missing. Whatever it serves is the true answer at some snapshot that sees every applied transaction and every
//! write acknowledged here which touch what it depends on, and all that the session has seen. (It need not see
//! those that touch other things only: commits become visible in another order than they are in the log.)
//! `store.rs` states the invariants.
//!
//! A session that misses takes a [`FillTicket`], asks the origin for a [`Snapshot`], its answer and the end of the
//! log, in this order, and hands all in as a [`FillResult`]. The bytes of an entry may go to a file, of which
//! only its [`Observer`] knows; what decides whether they count stays here (`store_disk.rs`). [`Flights`] lets one ask for many. [`ChangeRate`] says
//! how long to keep what replication does not see.

mod answer;
mod dependency;
mod entry;
mod error;
mod faults;
mod fence;
mod figures;
mod fill;
mod flight;
mod ids;
mod index;
mod journal;
mod ledger;
mod observer;
mod position;
mod settings;
mod shard;
mod sketch;
mod snapshot;
mod store;
mod store_apply;
mod store_disk;
mod store_fill;
mod ttl;
mod value;

pub use answer::Answer;
pub use dependency::{Dependency, Digest, Pin, Row, Rows, Touched, TouchedTable};
pub use entry::{Body, Durable, Entry};
pub use error::Error;
pub use faults::Faults;
pub use fence::{FenceId, Scope};
pub use figures::Figures;
pub use fill::{FillResult, FillTicket, Outcome, Refusal};
pub use flight::{Flights, Follower, Joined, Leader};
pub use ids::{ColumnId, Key, TableId, Xid, widen};
/// A position in the log that the cache is kept by.
pub use integratedb_wire::Lsn;
pub use observer::{Observer, Removal};
pub use position::Reached;
pub use settings::Settings;
pub use snapshot::Snapshot;
pub use store::{Lookup, Reader, Store};
pub use ttl::{ChangeRate, stale_share};
pub use value::{Value, ValueType};
