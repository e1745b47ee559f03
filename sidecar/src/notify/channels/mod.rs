//! Channels: the ways events go to a stakeholder, and what is delivered whether or not it listens.
//!
//! A channel is configured by a document (`config`), its secrets sealed before they are stored (`secrets`). Where this
//! sidecar leads, [`Delivery`] runs one task for each WEBHOOK and REDIS channel. It reads the log after the channel's
//! cursor (`source`), and delivers; how far it is, is written several times a second (`store`). SOCKET channels have
//! nothing here but their row.
//!
//! Invariants, tested in `tests/tests/notify_webhook*.rs` and `notify_redis.rs`:
//! - C1. What is not after a channel's cursor is delivered, a dead letter, or kept in `integratedb.channel_delivery`.
//!   The cursor and those tables change in one transaction. So a crash repeats events, with their ids, and loses none.
//! - C2. Of two events of one key, the later is sent only when the earlier was taken or given up.
//! - C3. No channel waits for another.
//! - C4. Secrets are in the database only as they were sealed, and come back out only when they are made.

mod config;
mod delivery;
mod error;
mod ledger;
mod redis;
mod secrets;
mod source;
mod store;
mod webhook;

pub use config::{ChannelConfig, Kind};
pub use delivery::Delivery;
pub use error::ChannelsError;
pub use store::{
    ChannelState, ChannelStatus, DeadLetter, Held, NewSecret, Replay, dead_letters, hold, list,
    page, replace, replay, rotate_secret, sealed, set_enabled,
};
