//! What a cache holds, on disk too, so that a restart finds it again.
//!
//! The disk follows the memory: about once a second, what was stored and what was removed since goes to a file in one
//! durable transaction, together with the position of the log up to which it is complete. `tier` notes what happens,
//! `worker` writes it on a thread of its own; nobody who answers a query waits for it. `file` is the file, `record` what an entry looks like in it,
//! `crate::seal` its encryption or checksum, `head` what the file says of itself.
//!
//! Invariants, tested in `tests/tests/cache_disk.rs`:
//! - D1 The origin is told that it may forget a position only when the removals of all transactions up to it are
//!   durable. So what a file lacks is replayed from the slot.
//! - D2 A file counts only if the slot goes on at or before the file's position, and slot, publication, system,
//!   timeline, database, roles and rules are those it was written under. Else all of it is dropped before anything is
//!   served.
//! - D3 Whatever goes wrong with the file, the memory goes on without it, and the origin's log is not held back.
//!
//! Why a restored entry is right: when it was stored, the journal knew of every transaction up to the applied position
//! that it does not see; each later one either dropped it before the file's position, and then it is not in the file,
//! or comes again from the slot. The tables were published for all of these transactions, or the log says from when
//! on they were not. Since D2 is asked anew at each start, a file that could not be removed does no harm: as soon as the
//! slot has moved past it, it is void.
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
