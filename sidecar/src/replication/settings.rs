//! What a reader is told to do.

use std::time::Duration;

use crate::reach::Reach;
use crate::secret::Secret;

/// The slot that a reader follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// One that is gone with the connection, so it never holds WAL of a reader that is away. Each connection begins
    /// with a new one, and with nothing known of what came before. The name is what its own name begins with.
    Temporary(String),
    /// One that stays, and keeps what the sinks have not confirmed.
    Permanent(String),
}

/// What a reader reads, and what it puts up with.
#[derive(Clone, Debug)]
pub struct ReaderSettings {
    /// What logs and metrics call it.
    pub name: String,
    /// The origin's database as libpq's URL or key/value string, with a user who has REPLICATION. Of several hosts,
    /// the first that is no standby.
    pub url: Secret<String>,
    /// Where the hosts may be; anywhere unless told.
    pub reach: Option<Reach>,
    /// The publication to follow.
    pub publication: String,
    /// The slot.
    pub slot: Slot,
    /// A permanent slot is there. One that is lost or gone is then not made anew: what it would miss has to be
    /// noted first, by whoever sees [`Status::slot_lost`](super::Status::slot_lost).
    pub slot_must_exist: bool,
    /// A reader further behind is suspended.
    pub lag_bytes: u64,
    /// A reader that can't tell for so long that it is up to date is suspended.
    pub lag_time: Duration,
    /// How often the origin is told what is confirmed.
    pub status_interval: Duration,
    /// How often the origin is asked how far it is.
    pub probe_interval: Duration,
    /// A connection from which nothing comes for so long is given up. Longer than the origin may take over the
    /// changes of a large transaction that are not published.
    pub silence: Duration,
    /// How long connecting may take. A query that takes three quarters of it is given up.
    pub patience: Duration,
    /// How long making a slot may take: it waits for the transactions that are writing.
    pub slot_patience: Duration,
    /// The first and the longest wait before connecting again.
    pub retry: (Duration, Duration),
}

impl ReaderSettings {
    /// Settings for most uses.
    pub fn new(name: impl Into<String>, url: Secret<String>, slot: Slot) -> Self {
        Self {
            name: name.into(),
            url,
            reach: None,
            publication: "integratedb".to_owned(),
            slot,
            slot_must_exist: false,
            lag_bytes: 256 << 20,
            lag_time: Duration::from_secs(10),
            status_interval: Duration::from_secs(1),
            probe_interval: Duration::from_secs(1),
            silence: Duration::from_secs(30),
            patience: Duration::from_secs(10),
            slot_patience: Duration::from_secs(600),
            retry: (Duration::from_millis(100), Duration::from_secs(10)),
        }
    }
}
