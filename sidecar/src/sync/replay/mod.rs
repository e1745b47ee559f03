//! Replay: what the log says, compared with what a target has, and brought there again.
//!
//! A dry run asks the target about every model of an integration and changes nothing but its own rows (`compare`). A real one
//! forgets what is known of the target and has all of it pushed again, by the engine and in the engine's order (`mark`):
//! what is there by the log, and the deletion of what the log says was there once. `store` is what REST calls, `run` the
//! worker: any sidecar takes a replay that is due, under a lease, and goes on where another one has stopped.
//!
//! Invariants:
//! - R1. A dry run writes to no table but sync_replay and sync_difference.
//! - R2. A state never goes back to an entry before the one it wants.
//! - R3. A state that is being pushed is not touched: what was sent before a replay says nothing of the target after it.
//! - R4. What a replay has marked is made due, even if it is cancelled. Else what waits for it would wait for ever.

mod compare;
mod lease;
mod mark;
mod run;
mod scope;
mod store;

pub use run::Worker;
pub use store::{Counts, Difference, Replay, cancel, create, differences, hold, list, show};
