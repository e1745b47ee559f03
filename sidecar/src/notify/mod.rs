//! Notifications: what changed, for whoever asked.
//!
//! A reader follows the database (`ingest`), and a writer stores each change once (`writer`) before the origin may forget
//! it. The [`Log`] is read by whoever delivers: each at its own pace, so the slowest delays nobody. What a stakeholder
//! gets of a change is decided when it is delivered, by what it subscribes to then (`subscriptions`).
//!
//! Of several sidecars of one database one leads: it reads, stores and delivers to durable channels (`leader`). All of them
//! serve sockets from the log.
//!
//! Invariants:
//! - N1. The origin is told that it may forget a position only when all before it that somebody subscribed to is stored.
//! - N2. A change has one [`EventId`](integratedb_events::EventId), however often it is decoded, and is stored once.
//! - N3. Whoever reads the log after an id gets every change after it, in order, or is told that some are not there any more.

pub mod backfill;
pub mod channels;
mod error;
pub(crate) mod figures;
mod ingest;
mod leader;
mod log;
mod settings;
pub(crate) mod sockets;
mod subscriptions;
mod values;
mod writer;

pub use error::NotifyError;
pub use leader::{Notifications, Role};
pub(crate) use log::id as id_of;
pub use log::{Log, LogError};
pub use settings::NotificationSettings;
pub use subscriptions::{Subscribed, Subscriptions};
