//! Why a reader does not read, in words for people.

use std::time::Duration;

use crate::proxy::backend::OpenError;

/// Why a reader has no connection, or lost it. It tries again after each of these.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicationError {
    /// The settings can't be used.
    #[error("{0}")]
    Settings(String),
    /// No connection to a host.
    #[error("{host}: {why}{}", hint(code))]
    Connect {
        /// Where.
        host: String,
        /// The SQLSTATE, if the origin itself said no.
        code: Option<String>,
        /// What went wrong.
        why: String,
    },
    /// Every host is a standby.
    #[error("no host of {0} is a primary: they are in recovery")]
    Recovery(String),
    /// The origin writes too little into its WAL.
    #[error("wal_level of the origin is {0}: set it to logical and restart the server")]
    WalLevel(String),
    /// The two connections lead to two servers.
    #[error("two connections to {0} lead to two servers: name the primary's own address")]
    TwoServers(String),
    /// The origin refuses what was asked of it.
    #[error("{what}: {message} (SQLSTATE {code}){}", hint(&Some(code.clone())))]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The SQLSTATE.
        code: String,
        /// The origin's words.
        message: String,
    },
    /// The slot can't be followed any more.
    #[error("the slot {slot} is lost: {why}")]
    SlotLost {
        /// The slot.
        slot: String,
        /// What happened to it.
        why: String,
    },
    /// The publication is another one than when the reader connected, or none.
    #[error("the publication {0} was dropped")]
    PublicationDropped(String),
    /// We don't read, so the server can't give up the slot, which it has to.
    #[error(
        "the slot holds more WAL than max_slot_wal_keep_size allows, because what is read is not taken"
    )]
    Held,
    /// Nothing came for too long.
    #[error("the origin has said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// No answer to a query.
    #[error("{what}: no answer within {} s", .patience.as_secs())]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// For how long we waited.
        patience: Duration,
    },
    /// The connection ended.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The origin said what the protocol does not allow.
    #[error("the origin's stream can't be read: {0}")]
    Malformed(String),
}

fn hint(code: &Option<String>) -> &'static str {
    match code.as_deref() {
        Some("42501") => {
            ". The role needs REPLICATION, and CREATE on the database where the publication is to be made"
        }
        Some("53400") => ". Raise max_replication_slots, or drop slots that nobody uses",
        _ => "",
    }
}

impl ReplicationError {
    /// What went wrong with something that was asked of the origin.
    pub(super) fn asked(what: &'static str, error: OpenError) -> Self {
        match error {
            OpenError::Refused { code, message, .. } => Self::Refused { what, code, message },
            OpenError::Timeout(seconds) => {
                Self::Timeout { what, patience: Duration::from_secs(seconds) }
            }
            OpenError::Wire(error) => Self::Malformed(error.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }

    /// The SQLSTATE, if the origin said no to something asked.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

impl From<integratedb_wire::Error> for ReplicationError {
    fn from(error: integratedb_wire::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<std::io::Error> for ReplicationError {
    fn from(error: std::io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Why a query of ours has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// The reader is not connected.
    #[error("there is no connection to the origin now")]
    NotConnected,
    /// The origin says no.
    #[error("{message} (SQLSTATE {code})")]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// The origin's words.
        message: String,
    },
    /// The answer is not what was expected.
    #[error("the origin's answer can't be read: {0}")]
    Unexpected(&'static str),
}
