//! Backfills: the rows that a table has now, for one stakeholder, between the changes that come.
//!
//! A table is read in the order of its key, a chunk at a time, each in a short transaction. The rows become changes of
//! the log, [`Op::Snapshot`](integratedb_events::Op::Snapshot), for that stakeholder alone. It is the algorithm of DBLog
//! (Andreakis and Papapanagiotou, "DBLog: A Watermark Based Change-Data-Capture Framework", 2020) with what Postgres needs
//! beside: a commit can be decoded before it is visible.
//!
//! `run` reads, the writer of the log stores, and they meet in `meeting`. For each chunk:
//!
//! 1. a message, the *low mark*, is put into the WAL, and the reader waits until the writer has come to it;
//! 2. the rows after the last key are read at a snapshot that sees every transaction that the writer processed before
//!    the low mark (`read`);
//! 3. another message, the *high mark*, is put into the WAL;
//! 4. between the marks, the *window*, the writer notes the keys of rows that changed (`window`);
//! 5. at the high mark it drops the rows with these keys, and stores the others with ids of the high mark's transaction,
//!    and in the same transaction of the database how far the backfill is (`settle`).
//!
//! **No receiver sees an older state of a row after a newer one.** Let S be the snapshot and r a row of it that is told,
//! with the key k. Whatever S sees had written its commit before S was taken, so before the high mark was written: it is
//! before the high mark in the stream. So r is no newer than what is told before it. It is no older either: a transaction
//! that changed k and stands before the low mark is visible in S by step 2, and one that stands in the window would have
//! had r dropped. So r is what k is where the stream is at the high mark.
//!
//! How step 2 knows what is visible: the writer remembers the ids of what it has processed until a snapshot has seen them.
//! What it processed before it began to remember (it just started, nothing was read, there were too many) has no larger id
//! than the next one that is given out, and whoever has written to a table holds a lock on it until he is visible. So
//! before the first chunk the reader takes an id, and waits until nobody older holds such a lock on the table
//! (`older_are_gone`). The same covers transactions that wrote before the table joined the publication, which the stream
//! does not tell of: they are visible in the first snapshot.
//!
//! **No row is missed.** Let a row be in the table from some time on without change until the backfill is over. If that is
//! since before the snapshot of the chunk whose range its key is in, that chunk has read it; it is told, or was dropped
//! because the stream told of it in the window. If it is since later, a transaction that this snapshot does not see has
//! brought it there, and by step 2 that stands after the low mark in the stream, which tells of it as of any change. A row
//! that is inserted behind the last key, or is given a key behind it, is such a row.
//!
//! One thing the stream does not tell: a large value (TOAST) that an UPDATE left as it was. The receiver has it already if
//! the row was told before. It was not if the row was dropped for this UPDATE, nor if the UPDATE moved it from before the
//! cursor to behind it. Such rows are noted in `integratedb.backfill_left`, in the transaction that stores the UPDATE, and
//! are read by their keys in further chunks, like all others between marks. So they are while a backfill is paused.
//!
//! **Nothing depends on a process that lives.** Rows and progress are one transaction; after a crash the chunk is read again
//! after the key that is stored, and marks of before have numbers that nobody awaits. A new connection of the reader does
//! the same to a chunk that is under way. DDL in a window, or more changed keys than are remembered, have the chunk read
//! again. A new epoch of the log has the backfill begin again: what the gap hid could be older than what was read.
//!
//! **Changes do not wait.** A chunk is read only when the writer has come to its low mark, so one chunk at most of each
//! backfill is before what comes next, however far behind the writer is.

mod meeting;
mod read;
mod rows;
mod run;
mod settle;
mod store;
mod table;
mod window;

use crate::secret::Secret;

pub(super) use meeting::{Backfills, Mark};
pub(crate) use read::{ReadError, Source as RowSource};
pub(super) use run::{load, run};
pub(super) use store::add_left;
pub use store::{Backfill, BackfillState, Request, ask, create, hold, list, show};
pub use table::estimate;

/// What can be set.
pub(super) struct Settings {
    /// The database, with the sidecar's role.
    pub(super) database: Secret<String>,
    /// Rows a second at most; 0 for as many as it can.
    pub(super) rows_per_sec: u64,
}
