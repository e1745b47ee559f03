//! What a file says of itself.

use integratedb_cache::Lsn;
use serde::{Deserialize, Serialize};

use crate::cache::engine::Engine;
use crate::cache::rules::Rules;
use crate::cache::settings::Mode;
use crate::replication::Connected;

/// Raised with each change of how things are written, or of what keys are made of: a file of another version is
/// dropped, as is one of another version of the program.
const FORMAT: u32 = 1;

/// Whose changes a file has followed, and what was kept of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Source {
    system: String,
    timeline: u32,
    publication: String,
    slot: String,
    database: String,
    /// What the configuration has kept without a rule.
    mode: Mode,
}

impl Source {
    /// What this connection follows.
    pub(crate) fn of(connected: &Connected, slot: &str, engine: &Engine) -> Self {
        Self {
            system: connected.system_id.clone(),
            timeline: connected.timeline,
            publication: connected.publication.clone(),
            slot: slot.to_owned(),
            database: String::from_utf8_lossy(engine.database()).into_owned(),
            mode: engine.settings().mode,
        }
    }
}

/// What counts for all entries of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    format: u32,
    program: String,
    /// What keys and digests are made with.
    pub(super) key: String,
    pub(super) source: Option<Source>,
    /// The removals of all transactions up to here are in the file.
    pub(super) position: u64,
    /// The roles that there were.
    pub(super) roles: Option<String>,
    /// The rules that decided.
    pub(super) rules: Rules,
}

impl Head {
    /// Of a file in which nothing is.
    pub(super) fn new(key: [u8; 16]) -> Self {
        Self {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            key: hex::encode(key),
            source: None,
            position: 0,
            roles: None,
            rules: Rules::default(),
        }
    }

    /// Whether we can read what a file with it holds.
    pub(super) fn is_ours(&self) -> bool {
        self.format == FORMAT && self.program == env!("CARGO_PKG_VERSION")
    }

    /// D2, for the first connection of a process: why what the file holds does not count.
    pub(super) fn objection(&self, source: &Source, connected: &Connected) -> Option<&'static str> {
        let position = Lsn(self.position);
        match &self.source {
            None => Some("nothing was written yet"),
            Some(known) if known != source => {
                Some("it is of another slot, database, timeline or mode")
            }
            Some(_) if connected.roles.is_none() => {
                Some("it is not known whether roles have changed")
            }
            Some(_) if self.roles != connected.roles => Some("roles have changed"),
            Some(_) if connected.start > position => Some("the slot has moved past it"),
            Some(_) if connected.flushed < position => {
                Some("the origin's log ends before it: the origin has gone back in time")
            }
            Some(_) => None,
        }
    }
}

/// What makes changes row by row, and questions of sessions, the same as before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    /// Tables' columns that entries may depend on: table, name and number.
    pub(crate) columns: Vec<(u32, String, i16)>,
    /// Settings of applications that some statement depends on.
    pub(crate) settings: Vec<String>,
}
