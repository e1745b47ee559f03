//! A source and a target of models that fail as real ones do, and a judge who sees every request of both.
//!
//! The source and the target are one server each (`server`); what they have, and what may happen to it, the judge knows
//! (`judge`). What goes wrong is drawn at random (`faults`).

mod faults;
mod judge;
mod peers;
mod server;

pub use faults::{Fault, Faults};
pub use judge::{Counts, Judge, Knows, Model, Place};
pub use peers::{Effect, Meaning, SyncPeers};
pub use server::{Outcome, Server, SyncRequest};
