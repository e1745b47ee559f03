//! What a cache holds, on disk too: so that a restart finds it again, and memory can give up the bytes.
//!
//! The disk follows the memory: about once a second, what was stored and what was removed since goes to a file in one
//! durable transaction, together with the position of the log up to which it is complete. `tier` notes what happens,
//! `worker` writes it on a thread of its own; nobody who answers a query waits for it. `file` is the file, `record` what
//! an entry looks like in it, `reads` the threads that read single ones, `crate::seal` its encryption or checksum, `head`
//! what the file says of itself.
//!
//! Invariants, tested in `tests/tests/cache_disk`:
//! - D1 The origin is told that it may forget a position only when the removals of all transactions up to it are
//!   durable. So what a file lacks is replayed from the slot.
//! - D2 A file counts only if the slot goes on at or before the file's position, and slot, publication, system,
//!   timeline, database, roles and rules are those it was written under. Else all of it is dropped before anything is
//!   served.
//! - D3 Whatever goes wrong with the file, the memory goes on without it, and the origin's log is not held back.
//! - D4 What is given from the file is of the very entry that it was read for, as the record itself says
//!   (`record::read_answer`); and whether that still counts, the store says after the read.
//!
//! Why a restored entry is right: when it was stored, the journal knew of every transaction up to the applied position
//! that it does not see; each later one either dropped it before the file's position, and then it is not in the file,
//! or comes again from the slot. The tables were published for all of these transactions, or the log says from when
//! on they were not. Since D2 is asked anew at each start, a file that could not be removed does no harm: as soon as the
//! slot has moved past it, it is void.
//!
//! What leaves memory for want of room stays in the file: the store is told which entries are durable there, keeps all but
//! their bytes, and `reads` reads those when they are wanted. When the file is full, the store chooses which of these
//! entries it can do without.
//!
//! What only a rule's time to live keeps is not written: a write that came through the proxy drops it, and no log
//! would tell of that again.

mod file;
mod head;
mod reads;
mod record;
mod settings;
mod tier;
mod worker;

pub(crate) use head::{Names, Source};
pub(crate) use reads::{ReadAnswer, Reading};
pub use settings::DiskSettings;
pub(crate) use tier::{Disk, DiskFigures};
