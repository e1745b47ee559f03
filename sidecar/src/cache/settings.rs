//! What can be set about what a cache keeps; a section `[caches.ID.caching]` of the configuration file.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::budget::Budget;
use super::disk::DiskSettings;
use crate::reach::Reach;
use crate::secret::Secret;

/// What is kept without being told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All that is proven to be cacheable.
    #[default]
    Auto,
    /// What a rule names.
    Manual,
    /// Nothing; but what could be is counted.
    Observe,
}

/// What a client may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// No answer is older than any write acknowledged through this proxy, nor than what the same session has seen.
    #[default]
    ReadYourWrites,
    /// No answer is older than so many milliseconds, nor than a write acknowledged through this proxy; but a session
    /// may see an older state after a newer one.
    Bounded(u64),
    /// No answer is older than the query: the origin is asked whether anything was committed since.
    Revalidate,
}

/// Whether the replication slot outlives the sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SlotKind {
    /// It goes with its connection: nothing is left behind, and what was kept is dropped when that breaks.
    #[default]
    Temporary,
    /// It stays, and holds the log back at the origin until the sidecar returns or `max_slot_wal_keep_size` is reached.
    Permanent,
}

/// The section `[caches.ID.caching]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CachingSettings {
    /// What is kept without being told.
    pub mode: Mode,
    /// The database whose answers are kept, with a user who may be told what statements depend on and, for
    /// replication, has REPLICATION and what `integratedb.grant_sidecar` gives.
    pub url: Secret<String>,
    /// Whether the origin's log is followed. Without it only what a rule gives a time to live is kept.
    pub replication: bool,
    /// What a client may rely on.
    pub consistency: Consistency,
    /// The most memory for answers and what finds them, in bytes.
    pub max_bytes: usize,
    /// The longest answer that is kept, in bytes.
    pub max_entry_bytes: usize,
    /// Milliseconds that what is known of the origin may be behind before nothing is served any more.
    pub max_lag_ms: u64,
    /// Milliseconds a query waits for a commit that its session has seen to arrive here, before it goes to the origin.
    pub wait_ms: u64,
    /// Milliseconds a query waits for another session that fetches the same answer, before it goes to the origin.
    pub flight_ms: u64,
    /// Spares the origin whatever it costs: keeps also what is rarely asked for again before it changes, and waits for a
    /// commit to arrive also where the origin is expected to answer sooner.
    pub eager: bool,
    /// Whether the replication slot outlives the sidecar.
    pub slot: SlotKind,
    /// The slot's name; `integratedb_` and the cache's id unless told.
    pub slot_name: Option<String>,
    /// Where answers are kept beyond a restart. It takes a permanent slot, which tells what changed meanwhile.
    pub disk: Option<DiskSettings>,
    /// Where the host of `url` may be: of a cache that was made over REST, only where `[workspaces]` says.
    #[serde(skip)]
    pub reach: Option<Reach>,
    /// What `max_bytes` is taken from, of a cache that was made over REST.
    #[serde(skip)]
    pub budget: Option<Budget>,
    /// What is broken on purpose, to prove that tests would notice.
    #[serde(skip)]
    #[doc(hidden)]
    pub faults: integratedb_cache::Faults,
}

impl Default for CachingSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            url: Secret::default(),
            replication: true,
            consistency: Consistency::ReadYourWrites,
            max_bytes: 256 << 20,
            max_entry_bytes: 1 << 20,
            max_lag_ms: 10_000,
            wait_ms: 20,
            flight_ms: 5_000,
            eager: false,
            slot: SlotKind::Temporary,
            slot_name: None,
            disk: None,
            reach: None,
            budget: None,
            faults: integratedb_cache::Faults::default(),
        }
    }
}

impl CachingSettings {
    /// What contradicts itself.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.disk.is_some() && !(self.replication && self.slot == SlotKind::Permanent) {
            return Err(
                "caching.disk needs slot = \"permanent\": what changes while the sidecar is away is told by \
                        a slot that stays",
            );
        }
        Ok(())
    }

    pub(crate) const fn max_lag(&self) -> Duration {
        Duration::from_millis(self.max_lag_ms)
    }

    /// How often the origin is asked how far it is.
    pub(crate) fn probe_interval(&self) -> Duration {
        (self.max_age() / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }

    /// How old what is given may be by what is known of the origin.
    pub(crate) fn max_age(&self) -> Duration {
        match self.consistency {
            Consistency::Bounded(ms) => self.max_lag().min(Duration::from_millis(ms)),
            _ => self.max_lag(),
        }
    }

    /// How long a query waits for another session that fetches the same.
    pub(crate) const fn flight(&self) -> Duration {
        Duration::from_millis(self.flight_ms)
    }

    /// How long a query waits for an answer that is on disk only.
    pub(crate) fn read(&self) -> Duration {
        Duration::from_millis(self.disk.as_ref().map_or(0, |disk| disk.wait_ms))
    }

    pub(crate) const fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_needs_a_slot_that_stays() {
        let disk = Some(DiskSettings::new("somewhere"));
        let mut settings = CachingSettings { disk, ..CachingSettings::default() };
        assert!(settings.check().expect_err("temporary").contains("slot = \"permanent\""));
        settings.slot = SlotKind::Permanent;
        assert_eq!(settings.check(), Ok(()));
        settings.replication = false;
        assert!(settings.check().is_err());
    }
}
