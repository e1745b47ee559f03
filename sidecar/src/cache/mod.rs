//! What is kept of an origin's answers, and when it may be given again.
//!
//! The rules of that are `integratedb_cache`'s, which knows nothing of SQL or sockets. Here they meet the origin:
//! - `engine` is what a session asks: is there an answer, and what is to be learned to keep one. `identity` says who a
//!   session is, `description` what a statement depends on; `key` makes hashes of both.
//! - `sink` takes the origin's committed transactions from `crate::replication`, `keeper` has tables published and looks
//!   after what nobody else does; `following` starts them all.
//! - `disk` keeps it beyond a restart; `budget` bounds the memory of several together.
//! - `rules` is what people decide over the automatic, `figures` what they see of it.

mod awaited;
mod budget;
mod description;
mod disk;
mod engine;
mod figures;
mod following;
mod identity;
mod keeper;
mod key;
mod lookup;
mod rules;
mod settings;
mod sink;

pub use budget::Budget;
pub(crate) use description::{Plan, Values};
pub use disk::DiskSettings;
pub(crate) use disk::{Disk, DiskFigures, ReadAnswer, Reading};
pub(crate) use engine::{DESCRIPTION, Engine, Fetched, Who};
pub(crate) use figures::CacheFigures;
pub(crate) use following::Following;
pub(crate) use identity::Identity;
pub(crate) use lookup::Found;
pub use rules::Rule;
pub(crate) use rules::{Decision, Rules};
pub use settings::{CachingSettings, Consistency, Mode, SlotKind};
